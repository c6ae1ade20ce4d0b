//! Conversations to text, by the model's own template.
//!
//! Templates are Jinja as transformers runs it: blocks trimmed, Python's methods on strings and mappings,
//! `raise_exception`, `strftime_now`, and `tojson` in Python's spelling. They come with the model and are
//! not trusted: they compute text only, and a limit on their steps ends endless ones.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use chrono::{DateTime, Local};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::{Map, Value as Json};

use super::error::TokenizerError;
use super::python_json::{Style, dumps};
use super::template_syntax::without_generation_tags;

/// Steps that a template may take for one conversation.
const FUEL: u64 = 20_000_000;

/// Names under which messages carry a model's reasoning; each is available under the first two.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    variables: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles the template in `source`, read from `path`; `variables` are the special tokens by name.
    pub fn new(
        path: &Path,
        source: &str,
        variables: BTreeMap<String, String>,
    ) -> Result<Self, TokenizerError> {
        Self::at(Local::now(), path, source, variables)
    }

    /// [`Self::new`] at a given time.
    fn at(
        now: DateTime<Local>,
        path: &Path,
        source: &str,
        variables: BTreeMap<String, String>,
    ) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        let broken = |error: &Error| TokenizerError::Broken {
            path: path.to_path_buf(),
            problem: format!("the chat template does not compile: {error}"),
        };
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| broken(&error))?);
        environment.set_fuel(Some(FUEL));
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
        let source = without_generation_tags(source);
        let added = environment.add_template_owned("chat template", source);
        added.map_err(|error| broken(&error))?;
        Ok(Self {
            environment,
            variables,
        })
    }

    /// The text of a conversation, without a generation prompt; an error says what the template refuses.
    pub fn render(&self, messages: &[Json]) -> Result<String, String> {
        if messages.is_empty() {
            return Err("`messages` is empty".into());
        }
        let messages = messages
            .iter()
            .map(prepared)
            .collect::<Result<Vec<_>, _>>()?;
        let mut context = BTreeMap::new();
        for (name, token) in &self.variables {
            context.insert(name.as_str(), Value::from(token.as_str()));
        }
        context.insert("messages", Value::from(Serde(&messages)));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        context.insert("add_generation_prompt", Value::from(false));
        self.environment
            .get_template("chat template")
            .and_then(|template| template.render(context))
            .map_err(|error| {
                format!(
                    "the chat template refuses the conversation: {}",
                    reason(&error)
                )
            })
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
    match value.as_str() {
        Some(text) if method == "title" && args.is_empty() => Ok(Value::from(title(text))),
        _ => unknown_method_callback(state, value, method, args),
    }
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
fn tojson(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
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
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}")))?;
    Ok(dumps(&value, &style))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use chrono::{Local, TimeZone};
    use serde_json::{Value, json};

    use super::ChatTemplate;

    fn render(source: &str, messages: &Value) -> Result<String, String> {
        let now = Local.with_ymd_and_hms(2024, 7, 26, 12, 0, 0).unwrap();
        let variables = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        ChatTemplate::at(now, Path::new("chat_template.jinja"), source, variables)
            .map_err(|error| error.to_string())?
            .render(messages.as_array().unwrap())
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
