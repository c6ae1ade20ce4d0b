//! The tokenizer that finds the entries of a list wherever they stand in a text: ESM's.

use ::tokenizers::AddedToken;
use ::tokenizers::models::wordlevel::{WordLevel, WordLevelBuilder};
use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::json;

use super::super::arguments::Arguments;
use super::super::build::{Built, set_pre_tokenizer};
use super::super::class::Build;
use super::super::load::Notes;
use super::super::survey::Survey;
use super::parts::{Broken, Builder, special};

/// The class.
pub const NAME: &str = "EsmTokenizer";
/// Its list.
pub const FILE: &str = "vocab.txt";

/// Special tokens, where no file names them.
const UNKNOWN: (&str, &str) = ("unk_token", "<unk>");
const START: (&str, &str) = ("cls_token", "<cls>");
const END: (&str, &str) = ("eos_token", "<eos>");
const PADDING: (&str, &str) = ("pad_token", "<pad>");
const MASK: (&str, &str) = ("mask_token", "<mask>");
/// All of them.
pub const TOKENS: [(&str, &str); 5] = [UNKNOWN, START, PADDING, MASK, END];

/// What ends lines for Python's `splitlines`.
const ENDS: [char; 10] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// Reads the list.
pub fn read(bytes: &[u8], survey: &mut Survey) -> Result<Builder, Broken> {
    let entries = entries(bytes).map_err(|problem| (0, problem))?;
    for entry in &entries {
        survey.count_entry(entry, false);
    }
    Ok(Box::new(move |arguments| build(arguments, &entries)))
}

/// The entries of a list, by their places.
fn entries(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let text = text.replace("\r\n", "\n");
    let text = text.strip_suffix(ENDS).unwrap_or(&text);
    let entries: Vec<String> = text
        .split(ENDS)
        .map(|line| line.trim().to_owned())
        .collect();
    if entries.iter().any(String::is_empty) {
        return Err("a line is empty".into());
    }
    Ok(entries)
}

/// The tokenizer over a list.
fn build(arguments: &mut Arguments, entries: &[String]) -> Result<Built, String> {
    let mut text = |token| {
        let text = special(arguments, token, false)?;
        let known = entries.contains(&text);
        known
            .then_some(text.clone())
            .ok_or_else(|| format!("`{text}` is not in its list"))
    };
    let (unknown, start, end) = (text(UNKNOWN)?, text(START)?, text(END)?);
    let named = [
        unknown.clone(),
        start.clone(),
        end.clone(),
        text(PADDING)?,
        text(MASK)?,
    ];
    let vocabulary = entries.iter().cloned().zip(0..).collect();
    let model: WordLevel = WordLevelBuilder::new()
        .vocab(vocabulary)
        .unk_token(unknown)
        .build()
        .map_err(|error| error.to_string())?;
    let mut backend = Backend::new(model);
    // What Python's `split` takes for space.
    let space = json!({"type": "Split", "pattern": {"Regex": r"[\s\x1c-\x1f\x85]+"}, "behavior": "Removed", "invert": false});
    set_pre_tokenizer(&mut backend, space)?;
    let found = entries.iter().filter(|entry| !named.contains(entry));
    let found = found.map(|entry| AddedToken::from(entry.clone(), false).normalized(false));
    backend
        .add_tokens(found)
        .map_err(|error| error.to_string())?;
    let mut build = Build::of_backend(None, arguments, backend, Notes::default())?;
    let (start, end) = (build.pair_of(&start)?, build.pair_of(&end)?);
    let single = format!("{} $A {}", start.0, end.0);
    let both = format!("{single} $B {}", end.0);
    build.template(&single, &both, vec![start, end])?;
    build.finish()
}
