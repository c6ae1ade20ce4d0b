//! The regular expressions of a tokenizer, for messages.

use serde_json::Value;

/// Characters of a pattern that are shown, and how many patterns.
const SHOWN: usize = 100;
const MOST: usize = 3;

/// A sentence about the patterns of a tokenizer.
pub fn of(backend: &::tokenizers::Tokenizer) -> String {
    let parts = [
        serde_json::to_value(backend.get_normalizer()),
        serde_json::to_value(backend.get_pre_tokenizer()),
    ];
    let mut patterns = Vec::new();
    for part in parts.iter().flatten() {
        collect(part, &mut patterns);
    }
    if patterns.is_empty() {
        return "it has no pattern of its own".into();
    }
    let more = match patterns.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    patterns.truncate(MOST);
    let shown = patterns
        .iter()
        .map(|pattern| match pattern.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("`{}...`", &pattern[..end]),
            None => format!("`{pattern}`"),
        });
    let shown: Vec<String> = shown.collect();
    format!("its pattern is {}{more}", shown.join(", "))
}

fn collect<'a>(part: &'a Value, patterns: &mut Vec<&'a str>) {
    match part {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(pattern) if key == "Regex" => patterns.push(pattern),
                    value => collect(value, patterns),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, patterns)),
        _ => {}
    }
}
