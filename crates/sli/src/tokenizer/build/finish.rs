//! What the constructors of single classes do before and after everything else.

use serde_json::{Value, json};

use super::set_normalizer;
use crate::tokenizer::arguments::{Arguments, is_true};
use crate::tokenizer::auto::CLASSES;
use crate::tokenizer::class::{Build, Settings};
use crate::tokenizer::load::Vocabulary;
use crate::tokenizer::special_token::SpecialToken;

type Done = Result<(), String>;

/// `[CLS] A [SEP] (B [SEP])`, the second text of type 1.
fn framed(build: &mut Build, cls: (String, u32), sep: (String, u32)) -> Done {
    let single = format!("{}:0 $A:0 {}:0", cls.0, sep.0);
    let pair = format!("{single} $B:1 {}:1", sep.0);
    build.template(&single, &pair, vec![cls, sep])
}

/// A special token with its id; where there is none, its printed name with the id that the class falls back to.
fn pair_or(build: &Build, name: &str, id: u32) -> Result<(String, u32), String> {
    match build.text(name) {
        Some(_) => build.pair(name),
        None => Ok((build.printed(name), id)),
    }
}

/// BERT's frame.
pub fn bert(build: &mut Build) -> Done {
    let (cls, sep) = (
        pair_or(build, "cls_token", 2)?,
        pair_or(build, "sep_token", 3)?,
    );
    framed(build, cls, sep)
}

/// BERT's frame, falling back to other ids.
pub fn deberta_v2(build: &mut Build) -> Done {
    let (cls, sep) = (
        pair_or(build, "cls_token", 0)?,
        pair_or(build, "sep_token", 0)?,
    );
    framed(build, cls, sep)
}

/// BERT's frame, which needs both tokens.
pub fn big_bird(build: &mut Build) -> Done {
    let (cls, sep) = (build.pair("cls_token")?, build.pair("sep_token")?);
    framed(build, cls, sep)
}

/// As BERT's; the first token is of type 2.
pub fn funnel(build: &mut Build) -> Done {
    let (cls, sep) = (build.pair("cls_token")?, build.pair("sep_token")?);
    let single = format!("{}:2 $A:0 {}:0", cls.0, sep.0);
    let pair = format!("{single} $B:1 {}:1", sep.0);
    build.template(&single, &pair, vec![cls, sep])
}

/// `[CLS] A [SEP] ([SEP] B [SEP])`.
pub fn deberta(build: &mut Build) -> Done {
    let (cls, sep) = (build.pair("cls_token")?, build.pair("sep_token")?);
    let single = format!("{} $A {}", cls.0, sep.0);
    let pair = format!("{single} {} $B {}", sep.0, sep.0);
    build.template(&single, &pair, vec![cls, sep])
}

fn roberta_like(build: &mut Build, end: &str, start: &str, trim: bool, prefix: bool) -> Done {
    let (sep, cls) = (build.pair(end)?, build.pair(start)?);
    build.post_process(json!({
        "type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": trim, "add_prefix_space": prefix,
    }))
}

/// `<s> A </s> (</s> B </s>)`.
pub fn roberta(build: &mut Build) -> Done {
    let trim = is_true(&build.value("trim_offsets"));
    let prefix = is_true(&build.value("add_prefix_space"));
    roberta_like(build, "sep_token", "cls_token", trim, prefix)
}

/// RoBERTa's, falling back to the ids 0 and 2.
pub fn mpnet(build: &mut Build) -> Done {
    let sep = pair_or(build, "sep_token", 2)?;
    let cls = pair_or(build, "cls_token", 0)?;
    build.post_process(json!({
        "type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": true, "add_prefix_space": false,
    }))
}

/// RoBERTa's with the tokens of the beginning and the end.
pub fn clip(build: &mut Build) -> Done {
    roberta_like(build, "eos_token", "bos_token", false, false)
}

/// The ids are fixed, whatever the tokens.
pub fn herbert(build: &mut Build) -> Done {
    let (sep, cls) = (build.printed("sep_token"), build.printed("cls_token"));
    build.post_process(json!({"type": "BertProcessing", "sep": [sep, 2], "cls": [cls, 0]}))
}

/// From `add_bos_token` and `add_eos_token` alone.
pub fn by_settings(build: &mut Build) -> Done {
    build.post_process_by_settings()
}

/// All special tokens once more, as such; then the post-processor, if it is not the file's.
pub fn add_all(build: &mut Build) -> Done {
    let named = build.named.iter().filter_map(|(_, token)| token.clone());
    let mut tokens: Vec<SpecialToken> = named.chain(build.extra.clone()).collect();
    for token in &mut tokens {
        token.special = true;
    }
    build.add(&tokens)?;
    if build.by_settings {
        build.post_process_by_settings()?;
    }
    Ok(())
}

/// All special tokens once more, without flags.
pub fn qwen2(build: &mut Build) -> Done {
    let named = build.named.iter().filter_map(|(_, token)| token.as_ref());
    let tokens: Vec<SpecialToken> = named
        .chain(&build.extra)
        .map(|token| SpecialToken::plain(&token.content))
        .collect();
    build.add(&tokens)
}

/// The normaliser gets a further step at the end.
pub fn siglip2(build: &mut Build) -> Done {
    let settings = Settings {
        class: build.class.ok_or("it has no class")?,
        values: &build.arguments.values,
        characters: None,
    };
    let normalizer = crate::tokenizer::class::siglip2_normalizer(&settings)?;
    set_normalizer(&mut build.backend, normalizer)
}

/// `<s> A </s> (</s> B </s>)`, by the tokens of the beginning and the end.
pub fn xlm_roberta(build: &mut Build) -> Done {
    let (bos, eos) = (build.pair("bos_token")?, build.pair("eos_token")?);
    let single = format!("{} $A {}", bos.0, eos.0);
    let pair = format!("{single} {} $B {}", eos.0, eos.0);
    build.template(&single, &pair, vec![bos, eos])
}

/// ALBERT's own, which the file's replaces.
pub fn albert_before(build: &mut Build) -> Done {
    let id = |name: &str| {
        let text = build
            .token_of_name(name)?
            .map_or("None".into(), |token| token.content);
        let id = build.backend.token_to_id(&text);
        id.ok_or_else(|| format!("its vocabulary has no `{text}`"))
    };
    let tokens = vec![
        ("[CLS]".to_owned(), id("cls_token")?),
        ("[SEP]".to_owned(), id("sep_token")?),
    ];
    build.template(
        "[CLS]:0 $A:0 [SEP]:0",
        "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        tokens,
    )
}

/// BERT's; without one in the file the flags decide after all.
pub fn rembert(build: &mut Build) -> Done {
    let pair = |build: &Build, name: &str| {
        let text = build.printed(name);
        let id = build
            .id(&text)
            .ok_or_else(|| format!("`{text}` has no id"))?;
        Ok::<_, String>((text, id))
    };
    let (cls, sep) = (pair(build, "cls_token")?, pair(build, "sep_token")?);
    framed(build, cls, sep)?;
    add_all(build)
}

/// Offsets only; the file's replaces it.
pub fn codegen_before(build: &mut Build) -> Done {
    build.post_process(json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true,
    }))
}

/// The end token is spelled `</s>` here.
pub fn t5(build: &mut Build) -> Done {
    let (_, id) = build.pair("eos_token")?;
    build.template("$A </s>", "$A </s> $B </s>", vec![("</s>".to_owned(), id)])
}

/// `<extra_id_0>`, ... unless the file has some.
pub fn extra_ids(build: &mut Build) -> Done {
    let count = build.value("extra_ids");
    let count = count.as_u64().filter(|count| *count <= 1 << 16);
    let count = count.ok_or("`extra_ids` is no number of tokens")?;
    let own = (0..count).map(|id| SpecialToken::plain(&format!("<extra_id_{id}>")));
    let given = build.additional.take();
    let is_extra = |token: &&SpecialToken| token.content.contains("<extra_id_");
    let found = given.iter().flatten().filter(is_extra).count() as u64;
    if given.is_some() && found > 0 && count > 0 && found != count {
        return Err(format!(
            "`extra_ids` is {count}, and its special tokens have {found}"
        ));
    }
    let mut tokens = given.unwrap_or_default();
    if found == 0 {
        tokens.extend(own);
    }
    build.additional = Some(tokens);
    Ok(())
}

/// Entries that the original file left unused.
pub fn camembert_extra(build: &mut Build) -> Done {
    let unused = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"].map(SpecialToken::plain);
    build.additional.get_or_insert_with(|| unused.to_vec());
    Ok(())
}

/// `<eop>` and `<eod>` unless the file has others.
pub fn xlnet_extra(build: &mut Build) -> Done {
    let ends = ["<eop>", "<eod>"].map(SpecialToken::plain);
    build.additional.get_or_insert_with(|| ends.to_vec());
    Ok(())
}

/// `A <sep> (B <sep>) <cls>`.
pub fn xlnet(build: &mut Build) -> Done {
    let (sep, cls) = (build.pair("sep_token")?, build.pair("cls_token")?);
    let single = format!("$A:0 {}:0 {}:2", sep.0, cls.0);
    let pair = format!("$A:0 {0}:0 $B:1 {0}:1 {1}:2", sep.0, cls.0);
    build.template(&single, &pair, vec![sep, cls])
}

/// Seven made-up words.
pub fn xglm_extra(build: &mut Build) -> Done {
    let tokens = build.additional.get_or_insert_with(Vec::new);
    for word in 0..7 {
        let word = format!("<madeupword{word}>");
        if !tokens.iter().any(|token| token.content == word) {
            tokens.push(SpecialToken::plain(&word));
        }
    }
    Ok(())
}

/// `</s> A (</s> </s> B)`.
pub fn xglm(build: &mut Build) -> Done {
    let (bos, eos) = (build.pair("bos_token")?, build.pair("eos_token")?);
    let single = format!("{} $A", eos.0);
    let pair = format!("{single} {0} {0} $B", eos.0);
    build.template(&single, &pair, vec![bos, eos])
}

/// The five tokens of infilling; a text begins with `<s>` whatever the file says.
pub fn code_llama_extra(build: &mut Build) -> Done {
    let own = [
        "prefix_token",
        "middle_token",
        "suffix_token",
        "eot_token",
        "fill_token",
    ];
    let mut tokens = build.additional.take().unwrap_or_default();
    for name in own {
        tokens.extend(build.token_of_name(name)?);
    }
    build.additional = Some(tokens);
    build.by_settings = true;
    build.add_bos = build
        .arguments
        .values
        .get("add_bos_token")
        .is_none_or(is_true);
    build.divider = build
        .token_of_name("fill_token")?
        .map(|token| token.content);
    Ok(())
}

fn languages(family: &str) -> impl Iterator<Item = SpecialToken> {
    let codes = CLASSES.languages.get(family).into_iter().flatten();
    codes.map(|code| SpecialToken::plain(code))
}

/// The languages, then others.
pub fn mbart_extra(build: &mut Build) -> Done {
    let mut tokens: Vec<SpecialToken> = languages("mbart").collect();
    for token in build.additional.take().unwrap_or_default() {
        if !tokens.iter().any(|known| known.content == token.content) {
            tokens.push(token);
        }
    }
    build.additional = Some(tokens);
    Ok(())
}

/// Others, then the languages.
pub fn mbart50_extra(build: &mut Build) -> Done {
    let mut tokens = build.additional.take().unwrap_or_default();
    tokens.extend(languages("mbart50"));
    build.additional = Some(tokens);
    Ok(())
}

/// The reference's order, where the file's has no languages: the first three entries make place for four.
pub fn mbart50_entries(
    arguments: &Arguments,
    vocabulary: Vocabulary,
) -> Result<Vocabulary, String> {
    let Vocabulary::Scores(entries) = vocabulary else {
        return Err("it needs entries with scores, other ones are not supported".into());
    };
    let mut codes = languages("mbart50");
    if codes.any(|code| entries.iter().any(|(entry, _)| *entry == code.content)) {
        return Ok(Vocabulary::Scores(entries));
    }
    let spelled = |name: &str, default: &str| match arguments.values.get(name) {
        None => default.to_owned(),
        Some(value) => SpecialToken::of_value(value).map_or("None".into(), |token| token.content),
    };
    let first = [
        ("cls_token", "<s>"),
        ("pad_token", "<pad>"),
        ("eos_token", "</s>"),
        ("unk_token", "<unk>"),
    ];
    let zero = |text: String| (text, 0.0);
    let first = first.map(|(name, default)| zero(spelled(name, default)));
    let codes = languages("mbart50").map(|code| zero(code.content));
    let all = first
        .into_iter()
        .chain(entries.into_iter().skip(3))
        .chain(codes);
    let mask = zero(spelled("mask_token", "<mask>"));
    Ok(Vocabulary::Scores(all.chain([mask]).collect()))
}

/// The languages, unless the file has others.
pub fn nllb_extra(build: &mut Build) -> Done {
    if build.additional.is_none() {
        build.additional = Some(languages("nllb").collect());
    }
    Ok(())
}

/// The language as the vocabulary spells it: the unknown token where it does not know it.
fn language(build: &Build, key: &str, default: &str) -> Result<(String, u32), String> {
    let text = match build.value(key) {
        Value::Null => default.to_owned(),
        Value::String(text) => text,
        _ => return Err(format!("`{key}` is no text")),
    };
    let id = build
        .id(&text)
        .ok_or_else(|| format!("`{text}` has no id"))?;
    Ok((build.backend.id_to_token(id).unwrap_or(text), id))
}

/// `A (B) </s> language`; labels are of the language that is translated into.
pub fn mbart(build: &mut Build) -> Done {
    let eos = build.pair("eos_token")?;
    let template = |language: (String, u32)| {
        let end = format!("{} {}", eos.0, language.0);
        let both = vec![eos.clone(), language];
        (format!("$A {end}"), format!("$A $B {end}"), both)
    };
    let source = language(build, "src_lang", "en_XX")?;
    let target = language(build, "tgt_lang", &source.0)?;
    both_ways(build, template(source), template(target))
}

/// `language A (B) </s>`.
pub fn mbart50(build: &mut Build) -> Done {
    let eos = build.pair("eos_token")?;
    let source = language(build, "src_lang", "en_XX")?;
    let target = language(build, "tgt_lang", &source.0)?;
    let (source, target) = (in_front(source, &eos), in_front(target, &eos));
    both_ways(build, source, target)
}

/// What stands around one text, around two, and its tokens.
type Around = (String, String, Vec<(String, u32)>);

fn both_ways(build: &mut Build, source: Around, target: Around) -> Done {
    build.template_of_labels(&target.0, &target.1, target.2)?;
    build.template(&source.0, &source.1, source.2)
}

/// `language A (B) </s>`.
fn in_front(language: (String, u32), eos: &(String, u32)) -> Around {
    let (start, end) = (language.0.clone(), &eos.0);
    let both = vec![language, eos.clone()];
    (
        format!("{start} $A {end}"),
        format!("{start} $A $B {end}"),
        both,
    )
}

/// As MBart-50's, or as MBart's where `legacy_behaviour` says so.
pub fn nllb(build: &mut Build) -> Done {
    let eos = build.pair("eos_token")?;
    let is_legacy = is_true(&build.value("legacy_behaviour"));
    let language = |key: &str, default: &str| {
        let text = match build.value(key) {
            Value::Null => default.to_owned(),
            Value::String(text) => text,
            _ => return Err(format!("`{key}` is no text")),
        };
        let id = build.id(&text);
        id.map(|id| (text.clone(), id))
            .ok_or_else(|| format!("`{text}` has no id"))
    };
    let template = |language: (String, u32)| {
        if !is_legacy {
            return in_front(language, &eos);
        }
        let end = format!("{} {}", eos.0, language.0);
        let both = vec![eos.clone(), language];
        (format!("$A {end}"), format!("$A $B {end}"), both)
    };
    let source = language("src_lang", "eng_Latn")?;
    let target = language("tgt_lang", &source.0)?;
    both_ways(build, template(source), template(target))
}

/// `language A (B) </s>`; labels: `</s> language A (B) </s>`.
pub fn seamless(build: &mut Build) -> Done {
    let language = |key: &str| {
        let text = match build.value(key) {
            Value::String(text) if text.contains("__") => text,
            Value::String(text) => format!("__{text}__"),
            _ => return Err(format!("`{key}` is no text")),
        };
        let id = build
            .id(&text)
            .ok_or_else(|| format!("`{text}` has no id"))?;
        Ok((build.backend.id_to_token(id).unwrap_or(text), id))
    };
    let eos = build.pair("eos_token")?;
    let (source, target) = (language("src_lang")?, language("tgt_lang")?);
    let (single, pair, tokens) = in_front(target, &eos);
    let target = (
        format!("{} {single}", eos.0),
        format!("{} {pair}", eos.0),
        tokens,
    );
    both_ways(build, in_front(source, &eos), target)
}

/// `start (language) (task) (no timestamps) A (B) end`.
pub fn whisper(build: &mut Build) -> Done {
    let text = |key: &str| match build.value(key) {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(format!("`{key}` is no text")),
    };
    let id = |token: &str| {
        let id = build.id(token);
        id.ok_or_else(|| format!("`{token}` has no id"))
    };
    let start = id("<|startoftranscript|>")?;
    let mut front = vec![start];
    if let Some(language) = text("language")? {
        front.push(start + 1 + number_of_language(&language)?);
    }
    match text("task")?.as_deref() {
        None => {}
        Some("transcribe") => front.push(id("<|transcribe|>")?),
        Some("translate") => front.push(id("<|translate|>")?),
        Some(other) => return Err(format!("`task` is `{other}`, not transcribe or translate")),
    }
    if !is_true(&build.value("predict_timestamps")) {
        front.push(id("<|notimestamps|>")?);
    }
    let token = |id: u32| {
        let token = build.backend.id_to_token(id);
        token
            .map(|token| (token, id))
            .ok_or_else(|| format!("no token has the id {id}"))
    };
    let mut tokens: Vec<(String, u32)> = front.into_iter().map(token).collect::<Result<_, _>>()?;
    let names: Vec<&str> = tokens.iter().map(|(name, _)| name.as_str()).collect();
    let front = names.join(" ");
    let eos = build.pair("eos_token")?;
    let end = eos.0.clone();
    tokens.push(eos);
    build.template(
        &format!("{front} $A {end}"),
        &format!("{front} $A:0 $B:1 {end}:1"),
        tokens,
    )
}

/// The place of a language among Whisper's, by its code or one of its names.
fn number_of_language(text: &str) -> Result<u32, String> {
    let wanted = text.to_lowercase();
    let all = CLASSES.languages.get("whisper").into_iter().flatten();
    let named = |entry: &&String| {
        let name = entry.split_once('=').map(|(name, _)| name);
        name == Some(wanted.as_str())
    };
    let named = all
        .clone()
        .find(named)
        .and_then(|entry| entry.split_once('='));
    let code = named.map_or(wanted.as_str(), |(_, code)| code);
    let place = all
        .zip(0..)
        .find(|(entry, _)| *entry == code && !code.contains('='));
    place
        .map(|(_, place)| place)
        .ok_or_else(|| format!("`language` is `{text}`, which Whisper does not know"))
}

/// `<mask_1>` and unused entries.
pub fn pegasus_extra(build: &mut Build) -> Done {
    let offset = build
        .value("offset")
        .as_u64()
        .filter(|offset| *offset <= 1 << 16);
    let offset = offset.ok_or("`offset` is no number of tokens")?;
    let sentence = match build.value("mask_token_sent") {
        Value::String(text) => Some(text),
        _ => None,
    };
    let known = |text: &String| {
        build
            .additional
            .iter()
            .flatten()
            .any(|token| token.content == *text)
    };
    let mut tokens = Vec::new();
    if let Some(text) = sentence.filter(|text| build.additional.is_none() || !known(text)) {
        tokens.push(SpecialToken::plain(&text));
    }
    tokens.extend((2..offset).map(|id| SpecialToken::plain(&format!("<unk_{id}>"))));
    build.additional = Some(tokens);
    Ok(())
}

/// `A (B) </s>`.
pub fn pegasus(build: &mut Build) -> Done {
    let text = build.printed("eos_token");
    let id = build
        .id(&text)
        .ok_or_else(|| format!("`{text}` has no id"))?;
    let eos = (text, id);
    build.template(
        &format!("$A {}", eos.0),
        &format!("$A $B {}", eos.0),
        vec![eos],
    )
}

/// `<s> A </s>`; pairs get nothing.
pub fn nougat(build: &mut Build) -> Done {
    let (bos, eos) = (build.pair("bos_token")?, build.pair("eos_token")?);
    let single = format!("{}:0 $A:0 {}:0", bos.0, eos.0);
    build.template(&single, "$A:0 $B:1", vec![eos, bos])
}

/// BERT's for one text; pairs are a question and its context.
pub fn splinter(build: &mut Build) -> Done {
    let question = build.token_of_name("question_token")?;
    let question = question.ok_or("it needs a `question_token`")?;
    if let Some((_, token)) = build
        .named
        .iter_mut()
        .find(|(name, _)| name == "question_token")
    {
        *token = Some(question.clone());
    }
    let id =
        |build: &Build, text: &str| build.id(text).ok_or_else(|| format!("`{text}` has no id"));
    let question = (question.content.clone(), id(build, &question.content)?);
    let dot = (".".to_owned(), id(build, ".")?);
    let (cls, sep) = (build.pair("cls_token")?, build.pair("sep_token")?);
    let left = build
        .arguments
        .values
        .get("padding_side")
        .is_some_and(|side| side == "left");
    let single = format!("{}:0 $A:0 {}:0", cls.0, sep.0);
    let pair = if left {
        format!("{single} $B:1 {} . {}:1", question.0, sep.0)
    } else {
        format!(
            "{}:0 $A:0 {} . {}:0 $B:1 {}:1",
            cls.0, question.0, sep.0, sep.0
        )
    };
    build.template(&single, &pair, vec![cls, sep, question, dot])
}

#[cfg(test)]
mod tests {
    use super::number_of_language;

    #[test]
    fn whisper_s_languages_have_codes_and_names() {
        // `<|en|>` stands right behind the start, `<|yue|>` is the last.
        for (text, place) in [
            ("en", 0),
            ("French", 6),
            ("castilian", 3),
            ("yue", 99),
            ("Burmese", 87),
        ] {
            assert_eq!(number_of_language(text), Ok(place), "{text}");
        }
        assert!(number_of_language("french=fr").is_err());
        assert!(number_of_language("klingon").is_err());
    }
}
