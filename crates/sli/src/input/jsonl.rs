//! JSON Lines: an object a line.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde_json::value::RawValue;

use sli_engine::bytes::human;

use super::compressed::Compression;
use super::costs::{BYTE_COST, PART_COST};
use super::error::InputError;
use super::images::Image;
use super::labels::Labels;
use super::lines::{BYTE_ORDER_MARK, Lines};
use super::nonfinite::{self, NonFinite};
use super::numbering::Numbering;
use super::place::{Place, Position};
use super::raw::{
    Fields, INPUTS, KNOWN, PRINTED, RENDERING, RawRecord, Selection, UNSUPPORTED, elsewhere,
};
use super::renames::Renames;
use crate::memory::Allowance;

/// Conversations of fewer bytes are not looked at for their size.
const LONG_CONVERSATION: usize = 16 << 10;
/// What the reader says of an escaped half of a surrogate pair.
const SURROGATES: [&str; 2] = ["lone leading surrogate", "unexpected end of hex escape"];

/// The records of a JSON Lines file.
pub struct JsonlReader {
    lines: Lines,
    numbering: Rc<RefCell<Numbering>>,
    renames: Arc<Renames>,
    selection: Selection,
    allowance: Allowance,
}

impl JsonlReader {
    /// Opens a JSON Lines file.
    pub fn open(
        path: Arc<PathBuf>,
        compression: Option<Compression>,
        allowance: &Allowance,
        selection: Selection,
        (numbering, renames): (Rc<RefCell<Numbering>>, Arc<Renames>),
    ) -> Result<Self, InputError> {
        Ok(Self {
            lines: Lines::open(path, compression, allowance)?,
            numbering,
            renames,
            selection,
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
        if let Err(error) = conversation_fits(line, &place, &self.allowance, &self.renames) {
            return Some(Err(error));
        }
        let fields = parse(line, &place, self.selection, &self.renames);
        Some(fields.and_then(|fields| {
            let numbering = &mut self.numbering.borrow_mut();
            fields.into_record(place, numbering, self.selection)
        }))
    }
}

/// Conversations become trees of values, and texts after that: each of their parts costs memory.
fn conversation_fits(
    line: &str,
    place: &Place,
    allowance: &Allowance,
    renames: &Renames,
) -> Result<(), InputError> {
    if line.len() < LONG_CONVERSATION
        || !["messages", "prompt"]
            .into_iter()
            .any(|key| line.contains(&format!("\"{}\"", renames.name_of(key))))
    {
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

fn parse(
    line: &str,
    place: &Place,
    selection: Selection,
    renames: &Renames,
) -> Result<Fields, InputError> {
    let error = match fields_of(line, renames) {
        Ok(fields) => return Ok(fields),
        Err(error) => error,
    };
    let text = renames.name_of("text");
    let nulls: &[&str] = if selection.null_is_empty {
        &[text]
    } else {
        &[]
    };
    let Some((zeros, mut found)) = nonfinite::replaced(line, nulls) else {
        return Err(refused(line, place, &error));
    };
    found.retain_mut(|literal| match renames.key_of(&literal.key) {
        Some(key) => {
            literal.key = key.to_owned();
            true
        }
        None => false,
    });
    // A value alone under `labels` is the class of a classifier.
    let is_read = |literal: &NonFinite| {
        looked_at().any(|known| known == literal.key)
            && (literal.key != "labels" || !literal.is_value)
    };
    // Templates print them as Python does.
    let is_printed =
        |literal: &NonFinite| !literal.is_value && PRINTED.contains(&literal.key.as_str());
    let refusal = found
        .iter()
        .find(|literal| is_read(literal) && !is_printed(literal));
    if let Some(literal) = refusal {
        let (key, number) = (&literal.key, literal.literal);
        let problem = if literal.is_value {
            format!("`{key}` is {number}")
        } else {
            format!("`{key}` holds {number}")
        };
        return Err(InputError::record(place, problem)
            .with_hint("Python writes it for a missing value or a number without bounds: leave it out, or write null"));
    }
    let mut fields: Fields =
        fields_of(&zeros, renames).map_err(|error| refused(&zeros, place, &error))?;
    for literal in found.iter().filter(|literal| is_printed(literal)) {
        if let Some(text) = fields.printed_mut(&literal.key) {
            line[literal.value.clone()].trim_ascii().clone_into(text);
        }
    }
    Ok(fields)
}

/// Keys that make a difference.
fn looked_at() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().chain(UNSUPPORTED).chain(RENDERING)
}

/// What is wrong with a line.
fn refused(line: &str, place: &Place, error: &serde_json::Error) -> InputError {
    let text = error.to_string();
    let problem = match text.strip_suffix(&format!(" at line 1 column {}", error.column())) {
        Some(problem) => format!("{problem} at column {}", error.column()),
        None => text,
    };
    if SURROGATES.iter().any(|message| problem.contains(message)) {
        let problem = format!("half of a surrogate pair, which is no character: {problem}");
        return InputError::record(place, problem)
            .with_hint("the text was cut within a character, for instance an emoji: transformers refuses it too");
    }
    let line = line.trim();
    let (problem, hint) = if line.starts_with('[') {
        let whole = place.position == Position::Line(1);
        let what = if whole {
            "the file is a JSON array"
        } else {
            "the line is a JSON array"
        };
        (
            format!("{what}, no object a line"),
            "jq -c '.[]' FILE > FILE.jsonl writes one object a line",
        )
    } else if !line.starts_with('{') {
        (problem, "a .jsonl file has one JSON object a line")
    } else if error.is_eof() {
        let problem = format!("the line ends within its object: {problem}");
        (
            problem,
            "an object is one line: jq -c . FILE > FILE.jsonl puts objects of several lines into one each",
        )
    } else {
        (problem, "correct the line, or remove it")
    };
    InputError::record(place, problem).with_hint(hint)
}

/// The keys of a line.
fn fields_of(line: &str, renames: &Renames) -> Result<Fields, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let fields = FieldsSeed(renames).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(fields)
}

/// Makes the keys of a line of its columns.
struct FieldsSeed<'r>(&'r Renames);

impl<'de> DeserializeSeed<'de> for FieldsSeed<'_> {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        struct FieldsVisitor<'r>(&'r Renames);

        impl<'de> Visitor<'de> for FieldsVisitor<'_> {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                let mut seen: Vec<&'static str> = Vec::new();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let renamed = self.0.key_of(&key);
                    let Some(key) = looked_at().find(|&known| Some(known) == renamed) else {
                        if fields.elsewhere.is_none() {
                            fields.elsewhere = renamed.and_then(elsewhere);
                        }
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if seen.contains(&key) {
                        return Err(A::Error::custom(format_args!("`{key}` occurs twice")));
                    }
                    seen.push(key);
                    let mut is_null = false;
                    let named =
                        |error: A::Error| A::Error::custom(format_args!("`{key}`: {error}"));
                    match key {
                        "id" => {
                            let id = map.next_value::<Option<Id>>().map_err(named)?;
                            fields.id = id.map(|id| id.0);
                            is_null = fields.id.is_none();
                        }
                        "text" => {
                            fields.text = map.next_value().map_err(named)?;
                            is_null = fields.text.is_none();
                        }
                        "text_pair" => fields.text_pair = map.next_value().map_err(named)?,
                        "input_ids" => {
                            fields.input_ids = ids(&mut map).map_err(named)?;
                            is_null = fields.input_ids.is_none();
                        }
                        "token_type_ids" => fields.token_type_ids = ids(&mut map).map_err(named)?,
                        "attention_mask" => {
                            fields.attention_mask = mask(&mut map).map_err(named)?;
                        }
                        "messages" => {
                            fields.messages = list(&mut map).map_err(named)?;
                            is_null = fields.messages.is_none();
                        }
                        "prompt" => {
                            fields.prompt = json(&mut map).map_err(named)?;
                            is_null = fields.prompt.is_none();
                        }
                        "completion" => fields.completion = json(&mut map).map_err(named)?,
                        "labels" => {
                            // Those of a classifier are a number, names, ...
                            let labels = json(&mut map).map_err(named)?;
                            fields.labels = labels.and_then(|text| Labels::of(&text));
                        }
                        "completion_mask" => {
                            fields.completion_mask = mask(&mut map).map_err(named)?;
                        }
                        "assistant_masks" => {
                            fields.assistant_masks = mask(&mut map).map_err(named)?;
                        }
                        "decoder_text" => fields.decoder_text = map.next_value().map_err(named)?,
                        "decoder_input_ids" => {
                            fields.decoder_input_ids = ids(&mut map).map_err(named)?;
                        }
                        "tensors" => fields.tensors = map.next_value().map_err(named)?,
                        "images" => {
                            let images = json(&mut map).map_err(named)?;
                            let images = images.map(|text| Image::list(&text)).transpose();
                            fields.images = images
                                .map_err(A::Error::custom)
                                .map_err(named)?
                                .unwrap_or_default();
                        }
                        "tensor_prefix" => {
                            fields.tensor_prefix = map.next_value().map_err(named)?;
                        }
                        key if INPUTS.contains(&key) => {
                            let text = json(&mut map).map_err(named)?;
                            fields.inputs.extend(text.map(|text| (key, text)));
                        }
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
                    if is_null {
                        fields.nulls.push(key);
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor(self.0))
    }
}

fn ids<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Vec<u32>>, A::Error> {
    Ok(map
        .next_value::<Option<Integers<false>>>()?
        .map(|ids| ids.0))
}

/// Integers, or true and false for 1 and 0.
fn mask<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Vec<u32>>, A::Error> {
    Ok(map
        .next_value::<Option<Integers<true>>>()?
        .map(|mask| mask.0))
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

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Id, E> {
                Err(E::custom(format_args!(
                    "{number:?} is no whole number; pandas makes such ids of integers beside missing values: \
                     .astype(\"Int64\") keeps them"
                )))
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

/// A list of small non-negative integers, of truth values too if it is a `MASK`, read without a JSON value per
/// element.
struct Integers<const MASK: bool>(Vec<u32>);

impl<'de, const MASK: bool> Deserialize<'de> for Integers<MASK> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdsVisitor<const MASK: bool>;

        impl<'de, const MASK: bool> Visitor<'de> for IdsVisitor<MASK> {
            type Value = Integers<MASK>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of integers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut ids = Vec::new();
                while let Some(Integer::<MASK>(id)) = seq.next_element()? {
                    ids.push(id);
                }
                Ok(Integers(ids))
            }
        }

        deserializer.deserialize_seq(IdsVisitor::<MASK>)
    }
}

struct Integer<const MASK: bool>(u32);

impl<'de, const MASK: bool> Deserialize<'de> for Integer<MASK> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor<const MASK: bool>;

        impl<const MASK: bool> Visitor<'_> for IdVisitor<MASK> {
            type Value = Integer<MASK>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer")
            }

            fn visit_bool<E: serde::de::Error>(self, shown: bool) -> Result<Self::Value, E> {
                if MASK {
                    Ok(Integer(u32::from(shown)))
                } else {
                    Err(E::invalid_type(Unexpected::Bool(shown), &self))
                }
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Self::Value, E> {
                u32::try_from(id)
                    .map(Integer)
                    .map_err(|_| E::custom(format_args!("{id} is beyond any vocabulary")))
            }

            fn visit_i64<E: serde::de::Error>(self, id: i64) -> Result<Self::Value, E> {
                Err(E::custom(format_args!("{id} is negative")))
            }
        }

        deserializer.deserialize_any(IdVisitor::<MASK>)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Numbering, Renames, parse};
    use crate::input::{Content, Conversation, Place, Position, RawRecord, Selection};

    fn record(line: &str) -> Result<RawRecord, String> {
        let place = Place {
            file: Arc::new("in.jsonl".into()),
            position: Position::Line(3),
        };
        let mut numbering = Numbering::default();
        for _ in 0..7 {
            numbering.next(None, false, &place).unwrap();
        }
        let selection = Selection::default();
        parse(line, &place, selection, &Renames::default())
            .and_then(|fields| fields.into_record(place, &mut numbering, selection))
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
    fn what_python_writes() {
        let both = r#"{"text": "a", "messages": [], "input_ids": [1, 2, 0, 0], "attention_mask": [1, 1, 0, 0]}"#;
        let ids = record(both).unwrap();
        assert_eq!(ids.content, Content::Ids(vec![1, 2]));
        assert_eq!(ids.set_aside, ["messages", "text"]);
        let masks = r#"{"input_ids": [1, 2, 0], "attention_mask": [true, true, false], "completion_mask": [false, 1, true]}"#;
        let masks = record(masks).unwrap();
        assert_eq!(masks.content, Content::Ids(vec![1, 2]));
        assert_eq!(masks.labels.marks(&[1, 2]), Ok(Some(vec![false, true])));
        let odd = r#"{"text": "a", "s": NaN, "t": [-Infinity, {"id": Infinity}], "u": "\ud83d", "v": 1e999}"#;
        assert_eq!(record(odd).unwrap().content, Content::Text("a".into()));
    }

    #[test]
    fn refusals() {
        for (line, problem) in [
            ("[1, 2]", "the line is a JSON array"),
            ("\"text\"", "expected a JSON object"),
            ("3", "expected a JSON object"),
            ("null", "expected a JSON object"),
            ("{", "the line ends within its object"),
            ("{} {}", "trailing characters"),
            ("{}", "none of `text`"),
            (r#"{"inputids": [1]}"#, "none of `text`"),
            (r#"{"text": "a", "text": "b"}"#, "`text` occurs twice"),
            (r#"{"text": null}"#, "`text` is null"),
            (r#"{"text": NaN}"#, "`text` is NaN"),
            (r#"{"messages": NaN}"#, "`messages` is NaN"),
            (
                r#"{"messages": [{}], "tools": -Infinity}"#,
                "`tools` is -Infinity",
            ),
            (
                r#"{"input_ids": [1], "labels": [NaN]}"#,
                "`labels` holds NaN",
            ),
            (
                r#"{"text": "a" "b": NaN}"#,
                "expected `,` or `}` at column 14",
            ),
            ("[{}]", "the line is a JSON array"),
            (r#"{"text": 5}"#, "`text`: invalid type: integer `5`"),
            (r#"{"text": ["a"]}"#, "`text`: invalid type: sequence"),
            (r#"{"text": "\ud83d"}"#, "half of a surrogate pair"),
            (r#"{"text": "\ude00a"}"#, "half of a surrogate pair"),
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
            (r#"{"input_ids": [NaN]}"#, "`input_ids` holds NaN"),
            (r#"{"id": 1.0, "text": ""}"#, "`id`: 1.0 is no whole number"),
            (
                r#"{"id": true, "text": ""}"#,
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
            (
                r#"{"text": "a", "images": [3]}"#,
                "`images`: a picture is a path",
            ),
            (
                r#"{"input_ids": [0, 5, 0], "attention_mask": [0, 1, 0]}"#,
                "`attention_mask` is 0 at position 0, before",
            ),
            (
                r#"{"input_ids": [5], "attention_mask": [2]}"#,
                "`attention_mask` is 2 at position 0",
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
                r#"{"text": "a", "decoder_text": "x", "decoder_input_ids": [1]}"#,
                "both `decoder_text` and `decoder_input_ids`",
            ),
            (
                r#"{"text": "a", "decoder_input_ids": [-1]}"#,
                "`decoder_input_ids`",
            ),
            (r#"{"text": "a", "decoder_text": ["x"]}"#, "`decoder_text`"),
        ] {
            let error = record(line).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
            assert!(error.ends_with("(in.jsonl, line 3)"), "{line}: {error}");
        }
        let first = Place {
            file: Arc::new("in.json".into()),
            position: Position::Line(1),
        };
        let array = parse("[", &first, Selection::default(), &Renames::default()).unwrap_err();
        assert!(
            array.to_string().starts_with("the file is a JSON array"),
            "{array}"
        );
        let deep = format!("{{\"messages\": {}", "[".repeat(100_000));
        assert!(record(&deep).is_err());
        let deep = format!("{{\"unknown\": {}", "[".repeat(100_000));
        assert!(record(&deep).is_err());
    }
}
