//! JSON Lines: an object a line.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use sli_engine::bytes::human;

use super::error::InputError;
use super::lines::{BYTE_ORDER_MARK, Lines};
use super::place::Place;
use super::raw::{Fields, KNOWN, RENDERING, RawRecord, UNSUPPORTED};
use crate::memory::Allowance;

/// Conversations of fewer bytes are not looked at for their size.
const LONG_CONVERSATION: usize = 16 << 10;
/// Bytes that a part of a conversation takes at most, a value or a key: in the record, as transformers hands
/// it on, and as the template sees it.
const PART_COST: u64 = 250;
/// Bytes that a byte of a conversation takes besides.
const BYTE_COST: u64 = 12;

/// The records of a JSON Lines file.
pub struct JsonlReader {
    lines: Lines,
    number: u64,
    allowance: Allowance,
}

impl JsonlReader {
    /// Opens a JSON Lines file.
    pub fn open(path: Arc<PathBuf>, allowance: &Allowance) -> Result<Self, InputError> {
        Ok(Self {
            lines: Lines::open(path, allowance)?,
            number: 0,
            allowance: allowance.clone(),
        })
    }
}

impl Iterator for JsonlReader {
    type Item = Result<RawRecord, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (place, line) = match self.lines.next_line() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        // As `datasets` reads such files; in a text it stays.
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let number = self.number;
        self.number += 1;
        if let Err(error) = conversation_fits(line, &place, &self.allowance) {
            return Some(Err(error));
        }
        Some(parse(line, &place).and_then(|fields| fields.into_record(place, number)))
    }
}

/// Conversations become trees of values, and texts after that: each of their parts costs memory.
fn conversation_fits(line: &str, place: &Place, allowance: &Allowance) -> Result<(), InputError> {
    if line.len() < LONG_CONVERSATION || !line.contains("\"messages\"") {
        return Ok(());
    }
    let parts = line.bytes().filter(|byte| b",:[{".contains(byte)).count() as u64;
    let bytes = PART_COST * parts + BYTE_COST * line.len() as u64;
    allowance.check(bytes).map_err(|needed| InputError::Budget {
        what: format!("a conversation of {}", human(line.len() as u64)),
        place: place.clone(),
        given: allowance.given(),
        needed,
        before_tokenizer: true,
    })
}

fn parse(line: &str, place: &Place) -> Result<Fields, InputError> {
    serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let problem = match text.strip_suffix(&format!(" at line 1 column {}", error.column())) {
            Some(problem) => format!("{problem} at column {}", error.column()),
            None => text,
        };
        let error = InputError::record(place, problem);
        if line.trim_start().starts_with('{') {
            error.with_hint("correct the line, or remove it")
        } else {
            error.with_hint("a .jsonl file has one JSON object a line")
        }
    })
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                let mut seen: Vec<&'static str> = Vec::new();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let known = KNOWN
                        .iter()
                        .chain(&UNSUPPORTED)
                        .chain(&RENDERING)
                        .find(|&&known| known == key.as_ref());
                    let Some(&key) = known else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if seen.contains(&key) {
                        return Err(A::Error::custom(format_args!("`{key}` occurs twice")));
                    }
                    seen.push(key);
                    let named =
                        |error: A::Error| A::Error::custom(format_args!("`{key}`: {error}"));
                    match key {
                        "id" => {
                            let id = map.next_value::<Option<Id>>().map_err(named)?;
                            fields.id = id.map(|id| id.0);
                        }
                        "text" => fields.text = map.next_value().map_err(named)?,
                        "input_ids" => fields.input_ids = ids(&mut map).map_err(named)?,
                        "token_type_ids" => fields.token_type_ids = ids(&mut map).map_err(named)?,
                        "attention_mask" => fields.attention_mask = ids(&mut map).map_err(named)?,
                        "messages" => fields.messages = list(&mut map).map_err(named)?,
                        "tools" => fields.tools = json(&mut map).map_err(named)?,
                        "documents" => fields.documents = json(&mut map).map_err(named)?,
                        "chat_template_kwargs" => {
                            fields.chat_template_kwargs = json(&mut map).map_err(named)?;
                        }
                        key if RENDERING.contains(&key) => {
                            let value = json(&mut map).map_err(named)?;
                            if value.is_some_and(|value| value != "false") {
                                fields.rendering = Some(key);
                            }
                        }
                        other => {
                            if map.next_value::<Option<IgnoredAny>>()?.is_some() {
                                fields.unsupported = Some(other);
                            }
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn ids<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Vec<u32>>, A::Error> {
    Ok(map.next_value::<Option<TokenIds>>()?.map(|ids| ids.0))
}

/// The text of a JSON value that is not null.
fn json<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    let value = map.next_value::<Option<&'de RawValue>>()?;
    Ok(value.map(|value| value.get().to_owned()))
}

/// The text of a JSON list.
fn list<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    let text = json(map)?;
    match &text {
        Some(text) if !text.starts_with('[') => Err(A::Error::custom(
            "invalid type: expected a list of messages",
        )),
        _ => Ok(text),
    }
}

/// A string or an integer.
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or an integer")
            }

            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

/// A list of small non-negative integers, read without a JSON value per element.
struct TokenIds(Vec<u32>);

impl<'de> Deserialize<'de> for TokenIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdsVisitor;

        impl<'de> Visitor<'de> for IdsVisitor {
            type Value = TokenIds;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of integers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TokenIds, A::Error> {
                let mut ids = Vec::new();
                while let Some(TokenId(id)) = seq.next_element()? {
                    ids.push(id);
                }
                Ok(TokenIds(ids))
            }
        }

        deserializer.deserialize_seq(IdsVisitor)
    }
}

struct TokenId(u32);

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = TokenId;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<TokenId, E> {
                u32::try_from(id)
                    .map(TokenId)
                    .map_err(|_| E::custom(format_args!("{id} is beyond any vocabulary")))
            }

            fn visit_i64<E: serde::de::Error>(self, id: i64) -> Result<TokenId, E> {
                Err(E::custom(format_args!("{id} is negative")))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::parse;
    use crate::input::{Content, Conversation, Place, Position, RawRecord};

    fn record(line: &str) -> Result<RawRecord, String> {
        let place = Place {
            file: Arc::new("in.jsonl".into()),
            position: Position::Line(3),
        };
        parse(line, &place)
            .and_then(|fields| fields.into_record(place, 7))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn records() {
        let text =
            record(r#"{"text": "a\u00e9", "label": {"deep": [1, {}]}, "id": null}"#).unwrap();
        assert_eq!(
            (text.id.as_str(), text.content),
            ("7", Content::Text("aé".into()))
        );
        let ids = record(
            r#"{"id": -5, "input_ids": [0, 4294967295], "token_type_ids": [0,1], "attention_mask": [1, 1]}"#,
        );
        let ids = ids.unwrap();
        assert_eq!(ids.id, "-5");
        assert_eq!(ids.content, Content::Ids(vec![0, u32::MAX]));
        assert_eq!(ids.token_types, Some(vec![0, 1]));
        let empty =
            record(r#"{"id": "a/b", "input_ids": [], "text": null, "images": null}"#).unwrap();
        assert_eq!(
            (empty.id.as_str(), empty.content),
            ("a/b", Content::Ids(vec![]))
        );
        let chat = record(r#"{"messages": [{"role": "user", "content": "x"}]}"#).unwrap();
        assert!(matches!(chat.content, Content::Messages(_)));
        let whole = record(
            r#"{"tools": [{"a": 1.50}], "documents": null, "messages": [], "add_generation_prompt": false}"#,
        );
        let expected = Conversation {
            messages: "[]".into(),
            tools: Some(r#"[{"a": 1.50}]"#.into()),
            ..Conversation::default()
        };
        assert_eq!(whole.unwrap().content, Content::Messages(expected));
    }

    #[test]
    fn refusals() {
        for (line, problem) in [
            ("[1, 2]", "invalid type: sequence, expected a JSON object"),
            ("\"text\"", "expected a JSON object"),
            ("3", "expected a JSON object"),
            ("null", "expected a JSON object"),
            ("{", "EOF while parsing"),
            ("{} {}", "trailing characters"),
            ("{}", "none of `text`"),
            (r#"{"inputids": [1]}"#, "none of `text`"),
            (r#"{"text": "a", "text": "b"}"#, "`text` occurs twice"),
            (
                r#"{"text": "a", "input_ids": [1]}"#,
                "both `text` and `input_ids`",
            ),
            (r#"{"text": 5}"#, "`text`: invalid type: integer `5`"),
            (r#"{"text": ["a"]}"#, "`text`: invalid type: sequence"),
            (r#"{"text": "\ud800"}"#, "hex escape"),
            (r#"{"input_ids": "1 2"}"#, "expected a list of integers"),
            (r#"{"input_ids": [1, -2]}"#, "`input_ids`: -2 is negative"),
            (r#"{"input_ids": [1.0]}"#, "expected an integer"),
            (r#"{"input_ids": [true]}"#, "expected an integer"),
            (r#"{"input_ids": [[1]]}"#, "expected an integer"),
            (r#"{"input_ids": [4294967296]}"#, "beyond any vocabulary"),
            (
                r#"{"input_ids": [99999999999999999999999]}"#,
                "expected an integer",
            ),
            (r#"{"input_ids": [NaN]}"#, "expected"),
            (
                r#"{"id": 1.5, "text": ""}"#,
                "expected a string or an integer",
            ),
            (
                r#"{"id": ["a"], "text": ""}"#,
                "expected a string or an integer",
            ),
            (r#"{"messages": "hi"}"#, "`messages`: invalid type"),
            (
                r#"{"messages": [], "continue_final_message": true}"#,
                "`continue_final_message` of a record is not applied",
            ),
            (r#"{"text": "a", "images": ["x.png"]}"#, "takes no `images`"),
            (
                r#"{"input_ids": [5, 0], "attention_mask": [1, 0]}"#,
                "`attention_mask` is 0 at position 1",
            ),
            (
                r#"{"input_ids": [5, 0], "attention_mask": [1]}"#,
                "`attention_mask` has 1 values for 2 tokens",
            ),
            (
                r#"{"input_ids": [5], "position_ids": [3]}"#,
                "takes no `position_ids`",
            ),
            (
                r#"{"text": "a", "decoder_text": "x"}"#,
                "takes no `decoder_text`",
            ),
        ] {
            let error = record(line).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
            assert!(error.ends_with("(in.jsonl, line 3)"), "{line}: {error}");
        }
        let deep = format!("{{\"messages\": {}", "[".repeat(100_000));
        assert!(record(&deep).is_err());
        let deep = format!("{{\"unknown\": {}", "[".repeat(100_000));
        assert!(record(&deep).is_err());
    }
}
