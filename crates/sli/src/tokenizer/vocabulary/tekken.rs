//! Mistral's own vocabularies (`tekken.json`): ranks of bytes, the pattern of words, and the tokens in front of them.

use serde::Deserialize;

use super::tiktoken::{Ranks, decode};

/// Most tokens that are no words.
const MOST_SPECIAL: usize = 1 << 16;

/// The tokens of files that do not name theirs, by their numbers.
const OLDER: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// A vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tekken {
    /// Sequences of bytes; their numbers begin behind those of the special tokens.
    pub ranks: Ranks,
    /// The special tokens by their numbers.
    pub special: Vec<String>,
    /// What divides texts into words.
    pub pattern: String,
}

#[derive(Deserialize)]
struct File {
    config: Config,
    vocab: Vec<Entry>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: Option<usize>,
    default_num_special_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Entry {
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    rank: usize,
    token_str: String,
}

impl Tekken {
    /// Reads a file.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let File { config, vocab, .. } = file;
        let mut special = match file.special_tokens {
            Some(tokens) => in_order(tokens)?,
            None => OLDER.map(str::to_owned).to_vec(),
        };
        let count = config.default_num_special_tokens.unwrap_or(special.len());
        if count < special.len() || count > MOST_SPECIAL {
            let named = special.len();
            return Err(format!(
                "`default_num_special_tokens` is {count}, and it names {named}"
            ));
        }
        special.extend((special.len()..count).map(|at| format!("<SPECIAL_{at}>")));
        let mut ranks = Ranks::default();
        let words = match config.default_vocab_size {
            None => vocab.len(),
            Some(size) => size.checked_sub(count).ok_or_else(|| {
                format!("`default_vocab_size` is {size}, less than its {count} special tokens")
            })?,
        };
        // Entries behind them fill the file up.
        for (rank, entry) in (0..).zip(vocab.iter().take(words)) {
            let wrong = || format!("entry {rank} of `vocab` is no base64");
            ranks.insert(
                decode(entry.token_bytes.as_bytes()).ok_or_else(wrong)?,
                rank,
            );
        }
        Ok(Self {
            ranks,
            special,
            pattern: config.pattern,
        })
    }
}

/// The tokens by their numbers, which count from 0 on.
fn in_order(mut tokens: Vec<Special>) -> Result<Vec<String>, String> {
    tokens.sort_by_key(|token| token.rank);
    if let Some((at, token)) = (0..).zip(&tokens).find(|(at, token)| token.rank != *at) {
        let rank = token.rank;
        return Err(format!(
            "`special_tokens` do not count from 0 on: {rank} stands where {at} would be"
        ));
    }
    Ok(tokens.into_iter().map(|token| token.token_str).collect())
}

#[cfg(test)]
mod tests {
    use super::Tekken;

    #[test]
    fn what_is_no_such_file_is_said() {
        let file = |special: &str, vocab: &str, size: u32| {
            format!(
                r#"{{"config": {{"pattern": "x", "default_vocab_size": {size}, "default_num_special_tokens": 3}},
                "vocab": [{{"rank": 0, "token_bytes": "{vocab}", "token_str": null}}], "special_tokens": [{special}]}}"#
            )
        };
        let token = |rank: u32| {
            format!(r#"{{"rank": {rank}, "token_str": "<{rank}>", "is_control": true}}"#)
        };
        let read = |text: String| Tekken::read(text.as_bytes());
        let good = read(file(&token(0), "YQ==", 9)).unwrap();
        assert_eq!(good.special, ["<0>", "<SPECIAL_1>", "<SPECIAL_2>"]);
        for (text, said) in [
            (file(&token(1), "YQ==", 9), "count from 0"),
            (file(&token(0), "Y!==", 9), "entry 0"),
            (file(&token(0), "YQ==", 2), "less than its 3 special"),
            (
                file(&[0, 1, 2, 3].map(token).join(","), "YQ==", 9),
                "it names 4",
            ),
            ("{}".to_owned(), "config"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
