//! Tokenizers that find the entries of a list wherever they stand in a text: ESM's, which the reference runs as Python code.

use ::tokenizers::AddedToken;
use ::tokenizers::models::wordlevel::{WordLevel, WordLevelBuilder};
use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::json;

use super::arguments::Arguments;
use super::build::{Built, set_pre_tokenizer};
use super::class::Build;
use super::load::Notes;
use super::special_token::SpecialToken;

/// The class.
pub const NAME: &str = "EsmTokenizer";
/// Its list.
pub const FILE: &str = "vocab.txt";

/// Its special tokens, where no file names them.
pub const TOKENS: [(&str, &str); 5] = [
    ("unk_token", "<unk>"),
    ("cls_token", "<cls>"),
    ("pad_token", "<pad>"),
    ("mask_token", "<mask>"),
    ("eos_token", "<eos>"),
];

/// What ends lines for Python's `splitlines`.
const ENDS: [char; 10] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// The entries of a list, by their places.
pub fn entries(bytes: &[u8]) -> Result<Vec<String>, String> {
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
pub fn build(arguments: &mut Arguments, entries: &[String]) -> Result<Built, String> {
    let mut texts = Vec::new();
    for (name, default) in TOKENS {
        let value = arguments
            .values
            .entry(name)
            .or_insert_with(|| default.into());
        let token = SpecialToken::of_value(value).ok_or_else(|| format!("`{name}` is no token"))?;
        if !entries.contains(&token.content) {
            return Err(format!("`{}` is not in its list", token.content));
        }
        texts.push(token.content);
    }
    let vocabulary = entries.iter().cloned().zip(0..).collect();
    let model: WordLevel = WordLevelBuilder::new()
        .vocab(vocabulary)
        .unk_token(texts[0].clone())
        .build()
        .map_err(|error| error.to_string())?;
    let mut backend = Backend::new(model);
    // What Python's `split` takes for space.
    let space = json!({"type": "Split", "pattern": {"Regex": r"[\s\x1c-\x1f\x85]+"}, "behavior": "Removed", "invert": false});
    set_pre_tokenizer(&mut backend, space)?;
    let found = entries.iter().filter(|entry| !texts.contains(entry));
    let found = found.map(|entry| AddedToken::from(entry.clone(), false).normalized(false));
    backend
        .add_tokens(found)
        .map_err(|error| error.to_string())?;
    let mut build = Build::of_backend(None, arguments, backend, Notes::default())?;
    let (start, end) = (build.pair_of(&texts[1])?, build.pair_of(&texts[4])?);
    let single = format!("{} $A {}", start.0, end.0);
    let both = format!("{single} $B {}", end.0);
    build.template(&single, &both, vec![start, end])?;
    build.finish()
}
