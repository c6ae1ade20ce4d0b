//! The tokenizer whose tokens are the characters of a text, by their code points: CANINE's.
//!
//! Every character is a word of its own that the library's model does not know; what it is called decides its number.

use std::collections::HashMap;

use ::tokenizers::models::unigram::Unigram;
use ::tokenizers::tokenizer::Tokenizer as Backend;
use serde_json::{Value, json};

use super::super::arguments::Arguments;
use super::super::build::{Built, set_pre_tokenizer};
use super::super::class::Build;
use super::super::load::Notes;
use super::super::numbers::{Numbers, Unlisted, code_point};
use super::super::special_token::SpecialToken;
use super::parts::special;

/// The class.
pub const NAME: &str = "CanineTokenizer";

/// Special tokens, where no file names them: characters that mean nothing else.
pub const TOKENS: [(&str, &str); 6] = [
    ("cls_token", "\u{e000}"),
    ("sep_token", "\u{e001}"),
    ("bos_token", "\u{e000}"),
    ("eos_token", "\u{e001}"),
    ("pad_token", "\0"),
    ("mask_token", "\u{e003}"),
];

/// The tokenizer.
pub fn build(arguments: &mut Arguments) -> Result<Built, String> {
    // Only tokens with a number of their own have flags; the others are characters like all.
    let mut texts = Vec::new();
    for token in TOKENS {
        let text = special(arguments, token, false)?;
        arguments
            .values
            .insert(token.0.into(), text.as_str().into());
        texts.push(text);
    }
    let further = arguments.values.get("extra_special_tokens");
    for token in further.and_then(Value::as_array).into_iter().flatten() {
        let token = SpecialToken::of_value(token).ok_or("an additional special token is none")?;
        texts.push(token.content);
    }
    for (id, token) in &arguments.added {
        let text = &token.content;
        if code_point(text).is_some_and(|found| i64::from(found) != *id) {
            let problem = "is not its code point";
            return Err(format!(
                "`added_tokens_decoder` has `{text}` at {id}, which {problem}"
            ));
        }
        texts.push(text.clone());
    }
    if let Some(text) = texts.iter().find(|text| code_point(text).is_none()) {
        return Err(format!(
            "its token `{text}` is not one character, and so has no code point"
        ));
    }
    let nothing = vec![(String::new(), 0.0)];
    let model = Unigram::from(nothing, Some(0), false).map_err(|error| error.to_string())?;
    let mut backend = Backend::new(model);
    let each = json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false});
    set_pre_tokenizer(&mut backend, each)?;
    let mut build = Build::of_backend(None, arguments, backend, Notes::default())?;
    let around = texts.iter().take(2);
    let tokens: Vec<_> = around.map(|text| SpecialToken::plain(text)).collect();
    let added: Vec<_> = arguments.added.values().cloned().collect();
    build.add(&[added, tokens.clone()].concat())?;
    let [start, end] = &tokens[..] else {
        return Err("it has no special tokens".into());
    };
    let (start, end) = (build.pair_of(&start.content)?, build.pair_of(&end.content)?);
    let single = format!("{} $A {}", start.0, end.0);
    let both = format!("{single} $B {}", end.0);
    build.template(&single, &both, vec![start, end])?;
    let numbers = Numbers {
        by_text: HashMap::new(),
        added: HashMap::new(),
        unlisted: Unlisted::CodePoint,
        codes: Vec::new(),
        lacks_target: false,
    };
    let built = build.finish()?;
    Ok(Built {
        numbers: Some(numbers.with_added(&built.backend)),
        ..built
    })
}
