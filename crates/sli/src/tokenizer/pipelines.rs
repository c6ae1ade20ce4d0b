//! Vocabularies of SentencePiece models and of ranks, in the order and with the pipeline that the reference
//! gives them.

use ::tokenizers::models::bpe::{BpeBuilder, Vocab};
use ::tokenizers::models::unigram::Unigram;
use ::tokenizers::tokenizer::Tokenizer as Backend;
use ::tokenizers::{AddedToken, ModelWrapper, PostProcessorWrapper};
use serde_json::{Value, json};

use super::arguments::{Arguments, value_of};
use super::auto::CLASSES;
use super::build::{Source, set_normalizer, set_pre_tokenizer};
use super::class::{Class, Model};
use super::load::{REMEMBERED_WORDS, Vocabulary};
use super::special_token::SpecialToken;
use super::vocabulary::{CONTROL, DEFINED, Ranks, SentencePiece, Tekken, base64};

/// The pattern of words where ranks come without one.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The entries of a SentencePiece model, as a class orders them; its control pieces become special tokens.
pub fn pieces(
    class: Option<&'static Class>,
    model: &SentencePiece,
    unigram: bool,
    arguments: &mut Arguments,
) -> Result<Source, String> {
    let added: Vec<Value> = model
        .pieces
        .iter()
        .filter(|piece| piece.kind == CONTROL || piece.kind == DEFINED)
        .map(|piece| {
            value_of(&SpecialToken {
                normalized: Some(false),
                special: piece.kind == CONTROL,
                ..SpecialToken::plain(&piece.text)
            })
        })
        .collect();
    if class.is_some_and(|class| class.model == Model::WordPiece) {
        return Err("its class needs a list of words".into());
    }
    let mut merges = Vec::new();
    let vocabulary = if unigram {
        let unknown =
            usize::try_from(model.unknown.0).map_err(|_| "it has no unknown piece".to_owned())?;
        arguments.values.insert("unk_id".into(), unknown.into());
        let entries = model
            .pieces
            .iter()
            .map(|piece| (piece.text.clone(), f64::from(piece.score)));
        Vocabulary::Scores(entries.collect())
    } else {
        merges = model.merges();
        let mut ids = Vocab::new();
        for (id, piece) in (0..).zip(&model.pieces) {
            ids.insert(piece.text.clone(), id);
        }
        Vocabulary::Ids(ids)
    };
    arguments
        .values
        .insert("additional_special_tokens".into(), added.into());
    let vocabulary = match class {
        Some(class) => reorder(class, model, vocabulary, arguments)?,
        None => vocabulary,
    };
    Ok(Source {
        vocabulary,
        merges,
        post_processor: Value::Null,
        characters: (!model.characters.is_empty()).then(|| base64(&model.characters)),
    })
}

/// The text of a special token as the reference's converters read it: the files' or `default`.
fn spelled(arguments: &Arguments, name: &str, default: &str) -> String {
    match arguments.values.get(name) {
        None => default.to_owned(),
        Some(value) => SpecialToken::of_value(value).map_or("None".into(), |token| token.content),
    }
}

/// The order of the entries that a class has in place of the model's.
fn reorder(
    class: &Class,
    model: &SentencePiece,
    vocabulary: Vocabulary,
    arguments: &Arguments,
) -> Result<Vocabulary, String> {
    let text = |name: &str, default: &str| spelled(arguments, name, default);
    let first_four = |first: &str| {
        [
            text(first, "<s>"),
            text("pad_token", "<pad>"),
            text("eos_token", "</s>"),
            text("unk_token", "<unk>"),
        ]
    };
    let number = |key: &str, default: u64| {
        let number = arguments
            .values
            .get(key)
            .map_or(Some(default), Value::as_u64);
        number
            .filter(|number| *number <= 1 << 16)
            .ok_or_else(|| format!("`{key}` is no number of tokens"))
    };
    let zero = |entry: String| (entry, 0.0);
    let (entries, ids) = match vocabulary {
        Vocabulary::Scores(entries) => (entries, Vocab::new()),
        Vocabulary::Ids(ids) => (Vec::new(), ids),
    };
    let needs_scores = matches!(class.model, Model::Unigram(_));
    if needs_scores && !ids.is_empty() {
        return Err(format!(
            "a {} needs a unigram model, and this one merges pairs",
            class.name
        ));
    }
    let from = |start: usize| entries.iter().skip(start).cloned();
    let languages = |family: &str| CLASSES.languages.get(family).into_iter().flatten().cloned();
    let mask = || zero(text("mask_token", "<mask>"));
    Ok(Vocabulary::Scores(match class.name {
        "CamembertTokenizer" => {
            let mut all: Vec<(String, f64)> = vec![
                zero("<s>NOTUSED".into()),
                zero(text("pad_token", "<pad>")),
                zero("</s>NOTUSED".into()),
                zero(text("unk_token", "<unk>")),
                ("<unk>NOTUSED".into(), -100.0),
            ];
            all.extend(from(1).chain([mask()]));
            all
        }
        "XLMRobertaTokenizer" => {
            let first = first_four("bos_token").map(zero).into_iter();
            first.chain(from(3)).chain([mask()]).collect()
        }
        "MBartTokenizer" => {
            let first = first_four("bos_token").map(zero).into_iter();
            first
                .chain(from(3))
                .chain(languages("mbart").map(zero))
                .chain([mask()])
                .collect()
        }
        "MBart50Tokenizer" => {
            let first = first_four("cls_token").map(zero).into_iter();
            first
                .chain(from(3))
                .chain(languages("mbart50").map(zero))
                .chain([mask()])
                .collect()
        }
        "PegasusTokenizer" => {
            let mask = text("mask_token", "<mask_1>");
            let sentence = match arguments.values.get("mask_token_sent") {
                None => "<mask_2>".to_owned(),
                Some(value) => value.as_str().unwrap_or("None").to_owned(),
            };
            let mut all = vec![
                zero(text("pad_token", "<pad>")),
                zero(text("eos_token", "</s>")),
            ];
            if mask != "None" {
                all.push(zero(mask.clone()));
            }
            if sentence != "None" && sentence != mask {
                all.push(zero(sentence));
            }
            all.extend((2..number("offset", 103)?).map(|id| (format!("<unk_{id}>"), -100.0)));
            all.extend(from(2));
            all
        }
        "T5Tokenizer" | "VideoPrismTokenizer" => {
            let extra = number("extra_ids", 100)?;
            from(0)
                .chain((0..extra).rev().map(|id| zero(format!("<extra_id_{id}>"))))
                .collect()
        }
        "NllbTokenizer" => {
            let mut all: Vec<String> = first_four("bos_token").to_vec();
            let mut known: std::collections::HashSet<String> = all.iter().cloned().collect();
            for piece in &model.pieces {
                if known.insert(piece.text.clone()) {
                    all.push(piece.text.clone());
                }
            }
            return Ok(Vocabulary::Ids(all.into_iter().zip(0..).collect()));
        }
        "SeamlessM4TTokenizer" => {
            let mut all: Vocab = ["<pad>", "<unk>", "<s>", "</s>"]
                .map(str::to_owned)
                .into_iter()
                .zip(0..)
                .collect();
            let mut known = std::collections::HashSet::new();
            let distinct = model
                .pieces
                .iter()
                .filter(|piece| known.insert(piece.text.as_str()));
            all.extend(distinct.map(|piece| piece.text.clone()).zip(1..));
            return Ok(Vocabulary::Ids(all));
        }
        _ if entries.is_empty() => return Ok(Vocabulary::Ids(ids)),
        _ => entries,
    }))
}

/// The pipeline of a SentencePiece model without a class of its own.
pub fn of_pieces(
    model: &SentencePiece,
    source: Source,
    arguments: &mut Arguments,
) -> Result<Backend, String> {
    let failed = |error: ::tokenizers::Error| error.to_string();
    let built: ModelWrapper = match source.vocabulary {
        Vocabulary::Ids(mut ids) => {
            rename(model, &mut ids, arguments);
            BpeBuilder::new()
                .cache_capacity(REMEMBERED_WORDS)
                .vocab_and_merges(ids, source.merges)
                .unk_token(model.unknown.1.clone())
                .fuse_unk(true)
                .byte_fallback(model.byte_fallback)
                .build()
                .map_err(failed)?
                .into()
        }
        Vocabulary::Scores(_) if !arguments.added.is_empty() => {
            return Err("its unigram model comes with `added_tokens_decoder`, which fails in the reference too".into());
        }
        Vocabulary::Scores(entries) => {
            let unknown = usize::try_from(model.unknown.0).ok();
            Unigram::from(entries, unknown, model.byte_fallback)
                .map_err(|error| error.to_string())?
                .into()
        }
    };
    let mut backend = Backend::new(built);
    let mut steps = Vec::new();
    if let Some(map) = source.characters {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    set_normalizer(
        &mut backend,
        json!({"type": "Sequence", "normalizers": steps}),
    )?;
    for (name, (id, piece)) in [
        ("bos_token", &model.bos),
        ("eos_token", &model.eos),
        ("unk_token", &model.unknown),
    ] {
        if *id >= 0 && !arguments.values.contains_key(name) {
            arguments.values.insert(name.into(), piece.as_str().into());
        }
    }
    Ok(backend)
}

/// Pieces that stand for tokens that the configuration names get their names.
fn rename(model: &SentencePiece, ids: &mut Vocab, arguments: &Arguments) {
    let mut by_id: std::collections::HashMap<u32, String> =
        ids.iter().map(|(piece, id)| (*id, piece.clone())).collect();
    debug_assert!(by_id.len() <= model.pieces.len());
    for (id, token) in &arguments.added {
        let Ok(id) = u32::try_from(*id) else {
            continue;
        };
        let Some(current) = by_id.get(&id) else {
            continue;
        };
        if current.is_empty() || *current == token.content || ids.contains_key(&token.content) {
            continue;
        }
        if let Some(id) = ids.remove(current) {
            ids.insert(token.content.clone(), id);
            by_id.insert(id, token.content.clone());
        }
    }
}

/// The pipeline of ranks of bytes.
pub fn of_ranks(ranks: &Ranks, arguments: &Arguments) -> Result<Backend, String> {
    let failed = |error: ::tokenizers::Error| error.to_string();
    let model = BpeBuilder::new()
        .cache_capacity(REMEMBERED_WORDS)
        .vocab_and_merges(ranks.texts().into_iter().collect::<Vocab>(), ranks.merges())
        .ignore_merges(true)
        .build()
        .map_err(failed)?;
    let mut backend = Backend::new(model);
    set_pre_tokenizer(
        &mut backend,
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]}),
    )?;
    let tokens = special_of_ranks(ranks.len(), arguments)?;
    let special = |token: String| AddedToken::from(token, true).normalized(false);
    backend
        .add_special_tokens(tokens.into_iter().map(special))
        .map_err(failed)?;
    let post = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    let post: PostProcessorWrapper =
        serde_json::from_value(post).map_err(|error| error.to_string())?;
    backend.with_post_processor(Some(post));
    Ok(backend)
}

/// The tokenizer of Mistral's own vocabulary, which begins texts as the same one in a `tokenizer.json` does.
pub fn of_tekken(tekken: &Tekken, arguments: &mut Arguments) -> Result<Backend, String> {
    let failed = |error: ::tokenizers::Error| error.to_string();
    let special = tekken.special.iter().cloned();
    let first = u32::try_from(tekken.special.len()).map_err(|_| "too many tokens".to_owned())?;
    let words = tekken.ranks.texts().into_iter();
    let words = words.map(|(text, rank)| (text, rank.saturating_add(first)));
    let model = BpeBuilder::new()
        .cache_capacity(REMEMBERED_WORDS)
        .vocab_and_merges(
            words.chain(special.clone().zip(0..)).collect::<Vocab>(),
            tekken.ranks.merges(),
        )
        .ignore_merges(true)
        .build()
        .map_err(failed)?;
    let mut backend = Backend::new(model);
    set_pre_tokenizer(
        &mut backend,
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": tekken.pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]}),
    )?;
    backend
        .add_special_tokens(special.map(|token| AddedToken::from(token, true)))
        .map_err(failed)?;
    let names = [
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("unk_token", "<unk>"),
        ("pad_token", "<pad>"),
    ];
    let values = &mut arguments.values;
    for (name, token) in names {
        if tekken.special.iter().any(|special| special == token) {
            values.entry(name).or_insert_with(|| token.into());
        }
    }
    let begins = values.contains_key("bos_token");
    values
        .entry("add_bos_token")
        .or_insert_with(|| begins.into());
    Ok(backend)
}

/// Tokens after the ranks: those that the configuration has, and places kept free between them.
fn special_of_ranks(count: usize, arguments: &Arguments) -> Result<Vec<String>, String> {
    let listed = match arguments.values.get("extra_special_tokens") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tokens)) => {
            let token = |value| SpecialToken::of_value(value).map(|token| token.content);
            let tokens: Option<Vec<String>> = tokens.iter().map(token).collect();
            tokens.ok_or("`extra_special_tokens` holds what is no token")?
        }
        Some(_) => return Err("`extra_special_tokens` is not a list of tokens".into()),
    };
    let last = arguments.added.keys().max().copied().unwrap_or(0);
    let first = i64::try_from(count).map_err(|_| "too many ranks".to_owned())?;
    if last < first {
        return Ok(listed);
    }
    if last - first > 1 << 20 {
        return Err(format!(
            "`added_tokens_decoder` has the id {last}, far beyond the ranks"
        ));
    }
    let mut tokens: Vec<String> = (first..=last)
        .map(|id| {
            let token = arguments.added.get(&id).map(|token| token.content.clone());
            token.unwrap_or_else(|| format!("<|reserved_token_{id}|>"))
        })
        .collect();
    for token in listed {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    Ok(tokens)
}
