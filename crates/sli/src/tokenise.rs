//! A batch of records to tokens, and to what of them is a completion.

use std::ops::Range;

use rayon::ThreadPool;
use sli_engine::Completion;

use sli_jinja::Rendered;

use crate::assistant::assistant_parts;
use crate::completion::{after_prompt, within};
use crate::error::Error;
use crate::input::{Content, Conversation, InputError, Place, Prompted, RawRecord};
use crate::seen::Seen;
use crate::tokenizer::{Encoded, Tokenizer};

/// What a record became.
#[derive(Clone, Debug, Default)]
pub struct Tokenised {
    /// Its tokens.
    pub encoded: Encoded,
    /// Its completion, if its content says which part that is.
    pub completion: Option<Completion>,
    /// The tokens of its prompt are not the first of the whole.
    pub diverges: bool,
}

impl Tokenised {
    /// Puts a token so often in front of all others; it is none of the text.
    pub fn put_in_front(&mut self, token: u32, count: usize) {
        let Encoded {
            ids, types, text, ..
        } = &mut self.encoded;
        ids.splice(0..0, std::iter::repeat_n(token, count));
        if let Some(types) = types {
            types.splice(0..0, std::iter::repeat_n(0, count));
        }
        if let Some(text) = text {
            let offsets = &mut text.offsets;
            offsets.splice(0..0, std::iter::repeat_n([0, 0], count));
        }
        if let Some(completion) = &mut self.completion {
            let tokens = &mut completion.tokens;
            tokens.splice(0..0, std::iter::repeat_n(false, count));
        }
    }
}

/// What is asked of the tokens.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Completions are looked for.
    pub scores: bool,
    /// In a conversation they are what the assistant says.
    pub assistant: bool,
}

/// A text of a record.
struct Text {
    record: usize,
    /// Whether it is only the beginning of it.
    is_prompt: bool,
    content: String,
}

/// Tokens of a batch, in its order; records that are tokens already give them away.
pub fn tokenise(
    batch: &mut [RawRecord],
    tokenizer: Option<&mut Tokenizer>,
    pool: &ThreadPool,
    asked: Asked,
) -> Result<Vec<Tokenised>, Error> {
    let mut all = vec![Tokenised::default(); batch.len()];
    for (record, tokenised) in batch.iter_mut().zip(&mut all) {
        if let Content::Ids(ids) = &mut record.content {
            tokenised.encoded.ids = std::mem::take(ids);
        }
    }
    let Some(tokenizer) = tokenizer else {
        return Ok(all);
    };
    let mut work = Work::default();
    for (index, record) in batch.iter_mut().enumerate() {
        work.add(index, record, tokenizer, asked)?;
    }
    let Work {
        texts,
        pairs,
        chats,
        parts,
    } = work;
    pool.install(|| {
        finish(&texts, tokenizer.encode_texts(strs(&texts))?, &mut all);
        let both = pairs
            .iter()
            .map(|(_, text, pair)| (text.as_str(), pair.as_str()));
        let encoded = tokenizer.encode_pairs(&both.collect::<Vec<_>>())?;
        for ((record, ..), encoded) in pairs.iter().zip(encoded) {
            all[*record].encoded = encoded;
        }
        finish(&chats, tokenizer.encode_chats(strs(&chats))?, &mut all);
        Ok::<_, Error>(())
    })?;
    for (record, parts) in parts {
        let tokenised = &mut all[record];
        let spans = tokenised.encoded.text.as_ref();
        tokenised.completion = spans.map(|spans| within(&parts, spans));
    }
    Ok(all)
}

fn strs(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|text| text.content.as_str()).collect()
}

/// Gives every record its tokens; a prompt stands in front of its whole.
fn finish(texts: &[Text], encoded: Vec<Encoded>, all: &mut [Tokenised]) {
    let mut prompt: Option<(&str, Encoded)> = None;
    for (text, encoded) in texts.iter().zip(encoded) {
        if text.is_prompt {
            prompt = Some((&text.content, encoded));
            continue;
        }
        let tokenised = &mut all[text.record];
        if let Some((start, first)) = prompt.take() {
            let whole = (text.content.as_str(), &encoded.ids[..]);
            let (completion, diverges) =
                after_prompt((start, &first.ids), whole, encoded.text.as_ref());
            tokenised.completion = Some(completion);
            tokenised.diverges = diverges;
        }
        tokenised.encoded = encoded;
    }
}

/// What is to be tokenised.
#[derive(Default)]
struct Work {
    /// With the special tokens of the tokenizer.
    texts: Vec<Text>,
    /// The same of two texts of a record.
    pairs: Vec<(usize, String, String)>,
    /// Rendered conversations.
    chats: Vec<Text>,
    /// What the assistant says in the conversations of some records.
    parts: Vec<(usize, Vec<Range<usize>>)>,
}

impl Work {
    fn add(
        &mut self,
        index: usize,
        record: &mut RawRecord,
        tokenizer: &mut Tokenizer,
        asked: Asked,
    ) -> Result<(), Error> {
        let RawRecord {
            place,
            content,
            seen,
            ..
        } = record;
        let seen = seen.as_ref();
        let refused = |problem: String| {
            let hint = "give `text` or `input_ids` instead of `messages`, or another template";
            InputError::record(place, problem).with_hint(hint)
        };
        let text = |content: String, is_prompt: bool| Text {
            record: index,
            is_prompt,
            content,
        };
        let adds = seen.and_then(Seen::special_tokens).unwrap_or(true);
        match content {
            Content::Ids(_) | Content::None => {}
            Content::Text(whole) => {
                let whole = with_pictures(seen, std::mem::take(whole), place)?;
                self.list(adds).push(text(whole, false));
            }
            Content::Pair(..) if seen.is_some() => {
                let error = InputError::record(place, "`text_pair` beside pictures".to_owned());
                return Err(error.with_hint("give `text` or `messages`").into());
            }
            Content::Pair(text, pair) => {
                let both = (std::mem::take(text), std::mem::take(pair));
                self.pairs.push((index, both.0, both.1));
            }
            Content::Prompted(Prompted::Text { prompt, completion }) => {
                if seen.is_some_and(|seen| seen.is_in(completion)) {
                    let error = InputError::record(place, "a picture in `completion`".to_owned());
                    return Err(error.with_hint("pictures belong into the prompt").into());
                }
                let prompt = with_pictures(seen, std::mem::take(prompt), place)?;
                let whole = format!("{prompt}{completion}");
                if asked.scores {
                    keeps_beginning(tokenizer, place)?;
                    self.list(adds).push(text(prompt, true));
                }
                self.list(adds).push(text(whole, false));
            }
            Content::Prompted(Prompted::Messages { prompt, whole }) => {
                let whole = render(tokenizer, whole)?.map_err(refused)?;
                let adds = adds_to_chat(seen, &whole, tokenizer);
                let whole = with_pictures(seen, whole, place)?;
                if asked.scores {
                    keeps_beginning(tokenizer, place)?;
                    prompt.asks = true;
                    let prompt = render(tokenizer, prompt)?;
                    let prompt = prompt.and_then(|prompt| front(seen, &prompt));
                    self.list(adds).push(text(prompt.map_err(refused)?, true));
                }
                self.list(adds).push(text(whole, false));
            }
            Content::Messages(conversation) => {
                let whole = render(tokenizer, conversation)?.map_err(refused)?;
                let adds = adds_to_chat(seen, &whole, tokenizer);
                let whole = with_pictures(seen, whole, place)?;
                if asked.scores && asked.assistant {
                    let parts = said(tokenizer, conversation, &whole, seen)?;
                    let parts = parts.map_err(|problem| {
                        let hint = "mark what the assistant says with {% generation %} in the template, or give \
                                    `prompt` and `completion`";
                        InputError::record(place, problem).with_hint(hint)
                    })?;
                    self.parts.push((index, parts));
                }
                self.list(adds).push(text(whole, false));
            }
        }
        Ok(())
    }

    /// Texts to which the tokenizer adds its special tokens, or the others.
    fn list(&mut self, adds: bool) -> &mut Vec<Text> {
        if adds {
            &mut self.texts
        } else {
            &mut self.chats
        }
    }
}

/// A text with what stands for its pictures.
fn with_pictures(seen: Option<&Seen>, text: String, place: &Place) -> Result<String, InputError> {
    let Some(seen) = seen else {
        return Ok(text);
    };
    seen.whole(&text)
        .map_err(|problem| InputError::record(place, problem).with_hint(seen.hint()))
}

/// The beginning of a text with what stands for its pictures.
fn front(seen: Option<&Seen>, text: &str) -> Result<String, String> {
    seen.map_or_else(|| Ok(text.to_owned()), |seen| seen.front(text))
}

/// Whether the tokenizer adds its special tokens to a rendered conversation: processors of pictures let it do so, unless the
/// template has written the first of them.
fn adds_to_chat(seen: Option<&Seen>, text: &str, tokenizer: &Tokenizer) -> bool {
    seen.is_some_and(|seen| {
        let decided = seen.special_tokens();
        decided.unwrap_or_else(|| !tokenizer.begins(text))
    })
}

/// What the assistant says in a rendered conversation: what the template marks, or what its messages add.
fn said(
    tokenizer: &mut Tokenizer,
    conversation: &Conversation,
    whole: &str,
    seen: Option<&Seen>,
) -> Result<Result<Vec<Range<usize>>, String>, Error> {
    if !seen.is_none_or(Seen::is_local) {
        let problem = "the processor of this model writes around whole texts";
        return Ok(Err(problem.to_owned()));
    }
    let template = tokenizer.chat_template()?;
    if template.marks() {
        let marked = template.render(conversation);
        return Ok(marked.and_then(|marked| {
            let parts = marked_parts(&marked)?;
            let moved =
                |at: usize| -> Result<usize, String> { Ok(front(seen, &marked.text[..at])?.len()) };
            let moved = |part: Range<usize>| Ok(moved(part.start)?..moved(part.end)?);
            parts.into_iter().map(moved).collect()
        }));
    }
    Ok(assistant_parts(conversation, whole, |begun| {
        let rendered = template.render(begun)?;
        front(seen, &rendered.text)
    }))
}

/// The parts of a text that its template marks, in bytes.
fn marked_parts(rendered: &Rendered) -> Result<Vec<Range<usize>>, String> {
    let text = &rendered.text;
    let mut places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    places.push(text.len());
    let part = |span: &Range<usize>| Some(*places.get(span.start)?..*places.get(span.end)?);
    let parts = rendered.generation.iter().map(part);
    parts.collect::<Option<_>>().ok_or_else(|| {
        "the marks of `{% generation %}` stand where the template captures its text".into()
    })
}

fn render(
    tokenizer: &mut Tokenizer,
    conversation: &Conversation,
) -> Result<Result<String, String>, Error> {
    let rendered = tokenizer.chat_template()?.render(conversation);
    Ok(rendered.map(|rendered| rendered.text))
}

/// A prompt that loses its beginning is not that of the whole.
fn keeps_beginning(tokenizer: &Tokenizer, place: &Place) -> Result<(), InputError> {
    if !tokenizer.cuts_beginnings() {
        return Ok(());
    }
    let problem = "the tokenizer cuts the beginning of long texts (`truncation_side`), so a prompt cannot be found in what is left";
    Err(InputError::record(place, problem.to_owned()).with_hint(
        "give --max-length only where no record is cut, or give `input_ids` and `labels`",
    ))
}
