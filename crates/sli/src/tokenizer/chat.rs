//! Conversations to text, by the model's own template.
//!
//! Templates are Jinja as transformers runs it: blocks trimmed, Python's methods on strings and mappings,
//! `raise_exception`, `strftime_now`, and `tojson` in Python's spelling. They come with the model and are
//! not trusted: they compute text only, and their steps and the bytes that they make are counted
//! ([`super::chat_worker`] watches over what cannot be counted).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use chrono::{DateTime, Local};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::error::TokenizerError;
use super::generation_marks;
use super::python_json::{Style, dumps};
use super::template_syntax::{MARK_FILTER, without_generation_tags};
use crate::input::Conversation;

/// Steps that a template may take for a conversation: for any, for each of its bytes, for each pair of its
/// messages, and at most. A step also pays for 64 bytes that the template makes.
const STEPS: u64 = 1_000_000;
const STEPS_PER_BYTE: u64 = 100;
const STEPS_PER_PAIR: u64 = 20;
const MOST_STEPS: u64 = 20_000_000;
/// Longest indentation or separator of JSON, bytes.
const LONGEST_SEPARATOR: usize = 64;
/// Bytes that a step pays for.
const STEP_BYTES: u64 = 64;
/// Longest template, bytes; the longest published ones have 30,000.
const LONGEST_SOURCE: usize = 1 << 20;
/// Characters of a tag outside of strings, at most: each could be a level of nesting.
const LONGEST_TAG: usize = 20_000;
/// Characters of a template's own words in an error.
const LONGEST_REASON: usize = 300;

/// Names under which messages carry a model's reasoning; each is available under the first two.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A compiled chat template.
pub struct CompiledTemplate {
    environment: Environment<'static>,
    variables: BTreeMap<String, String>,
}

impl CompiledTemplate {
    /// Compiles the template in `source`, read from `path`; `variables` are the special tokens by name, `now`
    /// is the time that it sees.
    pub fn at(
        now: DateTime<Local>,
        path: &Path,
        source: &str,
        variables: BTreeMap<String, String>,
    ) -> Result<Self, TokenizerError> {
        if let Some(problem) = is_unreasonable(source) {
            return Err(TokenizerError::Broken {
                path: path.to_path_buf(),
                problem: format!("the chat template {problem}"),
            });
        }
        let mut environment = Environment::new();
        let broken = |error: &Error| TokenizerError::Broken {
            path: path.to_path_buf(),
            problem: shortened(&format!("the chat template does not compile: {error}")),
        };
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| broken(&error))?);
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", |message: String| {
            Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: &str| {
            let mut text = String::new();
            write!(text, "{}", now.format(format))
                .map(|()| text)
                .map_err(|_| {
                    Error::new(
                        ErrorKind::InvalidOperation,
                        format!("`{format}` is not a time format"),
                    )
                })
        });
        environment.add_filter("tojson", tojson);
        environment.add_filter(MARK_FILTER, |text: &str| generation_marks::mark(text));
        let source = without_generation_tags(source);
        let added = environment.add_template_owned("chat template", source);
        added.map_err(|error| broken(&error))?;
        Ok(Self {
            environment,
            variables,
        })
    }

    /// The text of a conversation, without a generation prompt; an error says what the template refuses.
    pub fn render(&mut self, conversation: &Prepared) -> Result<String, String> {
        let messages = conversation.messages.as_slice();
        let bytes: usize = messages.iter().map(text_bytes).sum();
        let (bytes, count) = (bytes as u64, messages.len() as u64);
        let steps = STEPS + STEPS_PER_BYTE * bytes + STEPS_PER_PAIR * count * count;
        self.environment.set_fuel(Some(steps.min(MOST_STEPS)));
        let mut context = BTreeMap::new();
        for (name, token) in &self.variables {
            context.insert(name.as_str(), Value::from(token.as_str()));
        }
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("tools", Value::from(Serde(&conversation.tools)));
        context.insert("documents", Value::from(Serde(&conversation.documents)));
        context.insert("add_generation_prompt", Value::from(false));
        for (name, value) in conversation.arguments.iter().flatten() {
            context.insert(name, Value::from(Serde(value)));
        }
        let rendered = self
            .environment
            .get_template("chat template")
            .and_then(|template| template.render(context));
        rendered.map_err(|error| {
            let reason = shortened(&reason(&error));
            format!("the chat template refuses the conversation: {reason}")
        })
    }
}

/// A conversation as transformers hands it to templates.
#[derive(Debug)]
pub struct Prepared {
    messages: Vec<Map<String, Json>>,
    tools: Option<Vec<Map<String, Json>>>,
    documents: Option<Vec<Map<String, Json>>>,
    arguments: Option<Map<String, Json>>,
}

/// Parameters of `apply_chat_template` that are no variables of a template.
const PARAMETERS: [&str; 14] = [
    "conversation",
    "messages",
    "tools",
    "documents",
    "chat_template",
    "continue_final_message",
    "tokenize",
    "sanitize_control_tokens",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
];

/// A conversation as transformers hands it to templates.
pub fn prepare(conversation: &Conversation) -> Result<Prepared, String> {
    fn parsed<T: DeserializeOwned>(key: &str, text: &str, what: &str) -> Result<T, String> {
        serde_json::from_str(text).map_err(|error| format!("`{key}` is not {what}: {error}"))
    }
    let messages: Vec<Json> = parsed("messages", &conversation.messages, "a list")?;
    if messages.is_empty() {
        return Err("`messages` is empty".into());
    }
    let objects = |key: &str, text: &Option<String>| {
        let text = text.as_ref();
        text.map(|text| parsed(key, text, "a list of objects"))
            .transpose()
    };
    let arguments: Option<Map<String, Json>> = conversation
        .arguments
        .as_ref()
        .map(|text| parsed("chat_template_kwargs", text, "an object"))
        .transpose()?;
    let mut names = arguments.iter().flat_map(Map::keys);
    if let Some(name) = names.find(|name| PARAMETERS.contains(&name.as_str())) {
        return Err(format!(
            "`chat_template_kwargs`: `{name}` cannot be set by a record"
        ));
    }
    Ok(Prepared {
        messages: messages.iter().map(prepared).collect::<Result<_, _>>()?,
        tools: objects("tools", &conversation.tools)?,
        documents: objects("documents", &conversation.documents)?,
        arguments,
    })
}

/// Bytes of the texts of a message, and a few for each of its values.
fn text_bytes(message: &Map<String, Json>) -> usize {
    fn of(value: &Json) -> usize {
        match value {
            Json::String(text) => text.len(),
            Json::Array(items) => items.iter().map(of).sum(),
            Json::Object(members) => text_bytes(members),
            Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        }
    }
    message
        .iter()
        .map(|(key, value)| 8 + key.len() + of(value))
        .sum()
}

/// What about a template's size no published one has.
fn is_unreasonable(source: &str) -> Option<String> {
    if source.len() > LONGEST_SOURCE {
        return Some(format!("is longer than {} MiB", LONGEST_SOURCE >> 20));
    }
    let (mut quote, mut escaped, mut inside, mut characters) = (None, false, false, 0);
    let mut before = ' ';
    for character in source.chars() {
        match (inside, quote) {
            (false, _) => {
                inside = before == '{' && matches!(character, '{' | '%');
                (quote, characters) = (None, 0);
            }
            (true, Some(_)) if escaped => escaped = false,
            (true, Some(open)) => {
                escaped = character == '\\';
                if character == open {
                    quote = None;
                }
            }
            (true, None) => {
                characters += 1;
                if characters > LONGEST_TAG {
                    return Some(format!("has a tag of more than {LONGEST_TAG} characters"));
                }
                if matches!(character, '"' | '\'') {
                    quote = Some(character);
                }
                inside = !(character == '}' && matches!(before, '}' | '%'));
            }
        }
        before = character;
    }
    None
}

/// A message of bounded length.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn reason(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too many steps".into(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.into(),
        _ => error.to_string(),
    }
}

/// A message as transformers hands it to templates: no nulls, reasoning under its usual names.
fn prepared(message: &Json) -> Result<Map<String, Json>, String> {
    let Json::Object(message) = message else {
        return Err("`messages`: a message is not an object".into());
    };
    let present: Vec<_> = message
        .iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    let mut prepared = Map::new();
    let reasoning = REASONING
        .iter()
        .find_map(|key| message.get(*key).filter(|value| !value.is_null()));
    if let Some(reasoning) = reasoning {
        prepared.insert("thinking".into(), reasoning.clone());
    }
    prepared.extend(
        present
            .into_iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    if let Some(reasoning) = reasoning {
        prepared.insert("reasoning_content".into(), reasoning.clone());
    }
    Ok(prepared)
}

/// Python's methods on strings, lists and mappings.
fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, args);
    };
    match (method, args) {
        ("title", []) => Ok(Value::from(title(text))),
        ("join", [items]) => joined(state, text, items).map(Value::from),
        ("replace", [from, to, ..]) => {
            let (from, to) = (from.as_str().unwrap_or(""), to.as_str().unwrap_or(""));
            let more = to.len() as u64 * text.matches(from).count() as u64;
            affordable(state, text.len() as u64 + more)?;
            unknown_method_callback(state, value, method, args)
        }
        ("format", _) => {
            affordable(state, widest(text))?;
            unknown_method_callback(state, value, method, args)
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

/// Whether the steps that are left pay for so many bytes.
fn affordable(state: &State<'_, '_>, bytes: u64) -> Result<(), Error> {
    match state.fuel_levels() {
        Some((_, steps)) if bytes / STEP_BYTES >= steps => Err(Error::from(ErrorKind::OutOfFuel)),
        _ => Ok(()),
    }
}

/// The largest number in a format string: a width, or the digits of a number.
fn widest(format: &str) -> u64 {
    let runs = format.split(|character: char| !character.is_ascii_digit());
    let numbers = runs.filter(|run| !run.is_empty());
    numbers
        .map(|run| run.parse().unwrap_or(u64::MAX))
        .max()
        .unwrap_or(0)
}

/// `str.join`, which looks at what is left before it goes on.
fn joined(state: &State<'_, '_>, separator: &str, items: &Value) -> Result<String, Error> {
    let mut text = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            text.push_str(separator);
        }
        match item.as_str() {
            Some(item) => text.push_str(item),
            None => _ = write!(text, "{item}"),
        }
        affordable(
            state,
            (text.len() + separator.len()) as u64 + index as u64 * 24,
        )?;
    }
    Ok(text)
}

/// `str.title`: a letter after anything but a letter is a capital, all others are small.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            titled.extend(character.to_lowercase());
        } else {
            titled.extend(character.to_uppercase());
        }
        inside = character.is_lowercase() || character.is_uppercase();
    }
    titled
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn tojson(state: &State<'_, '_>, value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "tojson: the value is undefined",
        ));
    }
    let indent = kwargs
        .get::<Option<Value>>("indent")?
        .filter(|indent| !indent.is_none());
    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(indent.as_usize().unwrap_or(0).min(64)),
    });
    let mut style = Style {
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ..Style::default()
    };
    if indent.is_some() {
        style.item_separator = ",".into();
    }
    style.indent = indent;
    if let Some((item, key)) = kwargs
        .get::<Option<Vec<String>>>("separators")?
        .and_then(|pair| <[String; 2]>::try_from(pair).ok())
        .map(Into::into)
    {
        style.item_separator = item;
        style.key_separator = key;
    }
    kwargs.assert_all_used()?;
    let longest = [
        &style.item_separator,
        &style.key_separator,
        style.indent.as_ref().unwrap_or(&String::new()),
    ]
    .map(String::len)
    .into_iter()
    .max();
    if longest.is_some_and(|longest| longest > LONGEST_SEPARATOR) {
        let problem = "tojson: an indentation or separator is too long";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    // Lists may hold each other many times over; their text tells before a tree of them is built.
    let bytes = Bounded::of(state);
    serde_json::to_writer(bytes, value).map_err(|_| Error::from(ErrorKind::OutOfFuel))?;
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}")))?;
    Ok(dumps(&value, &style))
}

/// Takes as many bytes as the steps that are left pay for, at the sixteenfold price of walking values.
struct Bounded(u64);

impl Bounded {
    fn of(state: &State<'_, '_>) -> Self {
        let steps = state.fuel_levels().map_or(MOST_STEPS, |(_, steps)| steps);
        Self(steps * STEP_BYTES / 16)
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len() as u64) {
            Some(left) => {
                self.0 = left;
                Ok(bytes.len())
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use chrono::{Local, TimeZone};
    use serde_json::{Value, json};

    use super::{CompiledTemplate, prepare};
    use crate::input::Conversation;

    fn render(source: &str, messages: &Value) -> Result<String, String> {
        let now = Local.with_ymd_and_hms(2024, 7, 26, 12, 0, 0).unwrap();
        let variables = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        CompiledTemplate::at(now, Path::new("chat_template.jinja"), source, variables)
            .map_err(|error| error.to_string())?
            .render(&prepare(&Conversation {
                messages: messages.to_string(),
                ..Conversation::default()
            })?)
    }

    #[test]
    fn variables_and_functions() {
        let hi = json!([{"role": "user", "content": "hi", "name": null}]);
        for (source, expected) in [
            ("{{ bos_token }}{{ messages[0].content }}", "<s>hi"),
            ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
            (
                "{{ messages[0] | tojson }}",
                r#"{"role": "user", "content": "hi"}"#,
            ),
            (
                "{{ messages | tojson(indent=1) }}",
                "[\n {\n  \"role\": \"user\",\n  \"content\": \"hi\"\n }\n]",
            ),
            (
                "{{ messages[0] | tojson(separators=(',', ':')) }}",
                r#"{"role":"user","content":"hi"}"#,
            ),
            ("{% if 'name' in messages[0] %}named{% endif %}", ""),
            (
                "{{ tools is none }}{{ tools is defined }}{{ add_generation_prompt }}",
                "TrueTrueFalse",
            ),
            ("{% generation %}x{% endgeneration %}\n", "x"),
            ("{{ eos_token }}", ""),
        ] {
            assert_eq!(render(source, &hi).as_deref(), Ok(expected), "{source}");
        }
        let thought = json!([{"role": "assistant", "reasoning": "r", "content": ""}]);
        let source = "{{ messages[0].thinking }}{{ messages[0].reasoning_content }}";
        assert_eq!(render(source, &thought).as_deref(), Ok("rr"));
    }

    #[test]
    fn refusals() {
        let hi = json!([{"role": "user", "content": "hi"}]);
        for (source, messages, problem) in [
            (
                "{{ raise_exception('only users') }}",
                &hi,
                "conversation: only users",
            ),
            (
                "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
                &hi,
                "too many steps",
            ),
            ("{{ messages[0].a.b }}", &hi, "undefined"),
            ("{% if %}", &hi, "does not compile"),
            ("x", &json!([]), "`messages` is empty"),
            ("x", &json!(["hi"]), "a message is not an object"),
            ("{{ strftime_now('%Q!') }}", &hi, "not a time format"),
        ] {
            let error = render(source, messages).unwrap_err();
            assert!(error.contains(problem), "{source}: {error}");
        }
    }
}
