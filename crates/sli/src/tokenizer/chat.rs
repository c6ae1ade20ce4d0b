//! Conversations to text, by the model's own template.
//!
//! [`sli_jinja`] renders templates as transformers does. They come with the model and are not trusted: their
//! steps and the bytes that they make are counted, and [`super::chat_worker`] watches over what is not counted.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Local};
use sli_jinja::{Rendered, Template};

use super::contents::{Contents, Taken};
use super::error::TokenizerError;
use crate::input::Conversation;

/// Steps that a template may take for a conversation: for any, for each of its bytes, for each pair of its
/// messages, and at most. A step also pays for 64 bytes that the template makes.
const STEPS: u64 = 1_000_000;
const STEPS_PER_BYTE: u64 = 100;
const STEPS_PER_PAIR: u64 = 20;
const MOST_STEPS: u64 = 20_000_000;
/// Longest template, bytes; the longest published ones have 30,000.
const LONGEST_SOURCE: usize = 1 << 20;
/// Characters of a tag outside of strings, at most: each could be a level of nesting.
const LONGEST_TAG: usize = 20_000;
/// Characters of a template's own words in an error.
const LONGEST_REASON: usize = 300;

/// A chat template and the file it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The template.
    pub text: String,
}

/// The templates that records may need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// For all records, or for those without tools.
    pub default: Option<Source>,
    /// For records with tools, where a model has a template of its own for them.
    pub tool_use: Option<Source>,
    /// The names of all, for messages.
    pub names: Vec<String>,
}

/// Compiled chat templates and what they see besides a conversation.
pub struct CompiledTemplates {
    default: Option<Template>,
    tool_use: Option<Template>,
    names: Vec<String>,
    tokens: BTreeMap<String, String>,
    arguments: Vec<(String, String)>,
    /// What each of the two takes as contents of messages, where they are to get that.
    taken: Option<[OnceCell<Taken>; 2]>,
    now: DateTime<Local>,
}

impl CompiledTemplates {
    /// Compiles templates; `tokens` are the special tokens by name, `arguments` further variables as JSON texts,
    /// `now` is the time that templates see.
    pub fn at(
        now: DateTime<Local>,
        sources: &Sources,
        tokens: BTreeMap<String, String>,
        arguments: Vec<(String, String)>,
        contents: Contents,
    ) -> Result<Self, TokenizerError> {
        let compiled = |source: &Option<Source>| source.as_ref().map(compile).transpose();
        Ok(Self {
            default: compiled(&sources.default)?,
            tool_use: compiled(&sources.tool_use)?,
            names: sources.names.clone(),
            tokens,
            arguments,
            taken: (contents == Contents::AsTaken).then(Default::default),
            now,
        })
    }

    /// The text of a conversation, without a generation prompt unless the arguments ask for one; an error says
    /// what the template refuses.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, String> {
        let has_tools = conversation.tools.is_some();
        let tool_use = self.tool_use.as_ref().filter(|_| has_tools);
        let Some(template) = tool_use.or(self.default.as_ref()) else {
            return Err(format!(
                "the model has several chat templates and none is the default: {}",
                self.names.join(", ")
            ));
        };
        let fitted = match &self.taken {
            None => None,
            Some(taken) => taken[usize::from(tool_use.is_some())]
                .get_or_init(|| Taken::of(|messages| self.probed(template, messages)))
                .fitted(&conversation.messages)?,
        };
        let messages = fitted.as_deref().unwrap_or(&conversation.messages);
        self.rendered(template, messages, conversation)
    }

    /// What a template makes of messages alone.
    fn probed(&self, template: &Template, messages: &str) -> Option<String> {
        let rendered = self.rendered(template, messages, &Conversation::default());
        rendered.ok().map(|rendered| rendered.text)
    }

    /// What a template makes of messages, in the place of those of a conversation.
    fn rendered(
        &self,
        template: &Template,
        messages: &str,
        conversation: &Conversation,
    ) -> Result<Rendered, String> {
        let prepared = sli_jinja::Conversation {
            messages,
            tools: conversation.tools.as_deref(),
            documents: conversation.documents.as_deref(),
            arguments: conversation.arguments.as_deref(),
            asks: conversation.asks,
        };
        let variables = prepared.variables(&self.tokens, &self.arguments)?;
        let bytes = messages.len() + conversation.bytes() - conversation.messages.len();
        let count = messages.matches("\"role\"").count() as u64;
        let steps = STEPS + STEPS_PER_BYTE * bytes as u64 + STEPS_PER_PAIR * count * count;
        let now = self.now.naive_local();
        let rendered = template.render(variables, now, steps.min(MOST_STEPS));
        rendered.map_err(|error| {
            let reason = shortened(&error.to_string());
            format!("the chat template refuses the conversation: {reason}")
        })
    }
}

fn compile(source: &Source) -> Result<Template, TokenizerError> {
    let broken = |problem: String| TokenizerError::Broken {
        path: source.path.clone(),
        problem,
    };
    if let Some(problem) = is_unreasonable(&source.text) {
        return Err(broken(format!("the chat template {problem}")));
    }
    Template::compile(&source.text).map_err(|error| {
        broken(shortened(&format!(
            "the chat template does not compile: {error}"
        )))
    })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{Local, TimeZone};
    use serde_json::{Value, json};

    use super::{CompiledTemplates, Contents, Source, Sources};
    use crate::input::Conversation;

    fn source(text: &str) -> Source {
        Source {
            path: "chat_template.jinja".into(),
            text: text.into(),
        }
    }

    fn rendered(sources: &Sources, conversation: &Conversation) -> Result<String, String> {
        let now = Local.with_ymd_and_hms(2024, 7, 26, 12, 0, 0).unwrap();
        let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        let arguments = vec![("enable_thinking".to_owned(), "false".to_owned())];
        let templates = CompiledTemplates::at(now, sources, tokens, arguments, Contents::AsGiven)
            .map_err(|error| error.to_string())?;
        templates.render(conversation).map(|rendered| rendered.text)
    }

    fn render(text: &str, messages: &Value) -> Result<String, String> {
        let sources = Sources {
            default: Some(source(text)),
            ..Sources::default()
        };
        let conversation = Conversation {
            messages: messages.to_string(),
            ..Conversation::default()
        };
        rendered(&sources, &conversation)
    }

    #[test]
    fn variables_and_functions() {
        let hi = json!([{"role": "user", "content": "hi", "name": null}]);
        for (source, expected) in [
            ("{{ bos_token }}{{ messages[0].content }}", "<s>hi"),
            ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
            ("{% if 'name' in messages[0] %}named{% endif %}", ""),
            (
                "{{ tools is none }}{{ tools is defined }}{{ add_generation_prompt }}",
                "TrueTrueFalse",
            ),
            ("{{ enable_thinking }}{{ eos_token }}", "False"),
        ] {
            assert_eq!(render(source, &hi).as_deref(), Ok(expected), "{source}");
        }
        let thought = json!([{"role": "assistant", "reasoning": "r", "content": ""}]);
        let source = "{{ messages[0].thinking }}{{ messages[0].reasoning_content }}";
        assert_eq!(render(source, &thought).as_deref(), Ok("rr"));
    }

    #[test]
    fn the_template_for_tools() {
        let mut sources = Sources {
            default: Some(source("plain")),
            tool_use: Some(source("{{ tools | tojson }}{{ documents }}{{ x }}")),
            names: vec!["default".into(), "tool_use".into()],
        };
        let mut conversation = Conversation {
            messages: "[{}]".into(),
            documents: Some("[{\"title\": \"t\"}]".into()),
            arguments: Some("{\"x\": 1}".into()),
            ..Conversation::default()
        };
        let text = rendered(&sources, &conversation);
        assert_eq!(text.as_deref(), Ok("plain"));
        conversation.tools = Some("[{\"b\": 1.50}]".into());
        let text = rendered(&sources, &conversation);
        assert_eq!(text.as_deref(), Ok("[{\"b\": 1.5}][{'title': 't'}]1"));
        sources.default = None;
        conversation.tools = None;
        let error = rendered(&sources, &conversation).unwrap_err();
        assert!(error.contains("default, tool_use"), "{error}");
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
            ("{{ messages[0].a.b }}", &hi, "has no `a`"),
            ("{% if %}", &hi, "does not compile"),
            ("x", &json!([]), "`messages` is empty"),
            ("x", &json!(["hi"]), "a message is not an object"),
        ] {
            let error = render(source, messages).unwrap_err();
            assert!(error.contains(problem), "{source}: {error}");
        }
        let argument = Conversation {
            messages: "[{}]".into(),
            arguments: Some("{\"tools\": []}".into()),
            ..Conversation::default()
        };
        let sources = Sources {
            default: Some(source("x")),
            ..Sources::default()
        };
        let error = rendered(&sources, &argument).unwrap_err();
        assert!(error.contains("`tools` is no variable"), "{error}");
    }
}
