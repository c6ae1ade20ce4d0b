//! Lines of a batch file and what they ask for.

use std::collections::HashSet;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use fs_err::File;
use serde_json::{Map, Value, json};

use super::Problem;
use crate::error::Error;
use crate::input::BYTE_ORDER_MARK;

/// What is said of requests that want text.
const NO_TEXT: &str = "scores and embeds only";

/// Log-probabilities of a position that may be asked for, at most.
const MOST_LOGPROBS: u64 = 1000;

/// Sampling settings: nothing is sampled, so that they change nothing.
const SAMPLING: [&str; 9] = [
    "model",
    "user",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "metadata",
];

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// A vector for each input.
    Embeddings {
        /// Texts or tokens, each a record of a dataset.
        inputs: Vec<Value>,
        /// The vectors are cut to so many numbers and made a length of one again.
        dimensions: Option<usize>,
        /// They are written as base64.
        base64: bool,
    },
    /// Log-probabilities of the tokens of each prompt.
    Completions {
        /// Texts or tokens, each a record of a dataset.
        prompts: Vec<Value>,
        /// How many of the most probable tokens are wanted beside each; `None`: no log-probabilities at all.
        logprobs: Option<usize>,
    },
    /// Log-probabilities of the tokens of a conversation.
    Chat {
        /// The conversation as a record of a dataset.
        conversation: Value,
        /// How many of the most probable tokens are wanted beside each.
        logprobs: usize,
    },
}

impl Ask {
    /// The records that answer it.
    pub fn records(&self) -> &[Value] {
        match self {
            Self::Embeddings { inputs, .. } => inputs,
            Self::Completions { prompts, .. } => prompts,
            Self::Chat { conversation, .. } => std::slice::from_ref(conversation),
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its name.
    pub custom_id: String,
    /// The model that it names, which is repeated in the answer.
    pub model: String,
    /// What is asked for.
    pub ask: Ask,
}

/// A line: a request, or what is wrong with it and its name, if it has one.
pub type Line = Result<Request, (Option<String>, Problem)>;

/// The lines of a batch file.
pub struct Reader {
    path: PathBuf,
    file: std::io::BufReader<File>,
    line: Vec<u8>,
    /// Nothing was read yet.
    is_first: bool,
    /// Names so far, of lines that cannot be answered too.
    known: HashSet<[u8; 32]>,
}

impl Reader {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File {
            what: "cannot read",
            path: path.to_owned(),
            source,
        };
        Ok(Self {
            path: path.to_owned(),
            file: std::io::BufReader::new(File::open(path).map_err(failed)?),
            line: Vec::new(),
            is_first: true,
            known: HashSet::new(),
        })
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> Result<Option<Line>, Error> {
        loop {
            self.line.clear();
            let read = self.file.read_until(b'\n', &mut self.line);
            let read = read.map_err(|source| Error::File {
                what: "cannot read",
                path: self.path.clone(),
                source,
            })?;
            if read == 0 {
                return Ok(None);
            }
            if std::mem::take(&mut self.is_first) {
                let mark = BYTE_ORDER_MARK.to_string();
                if self.line.starts_with(mark.as_bytes()) {
                    self.line.drain(..mark.len());
                }
            }
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let mut line = of_line(&self.line);
        let id = match &line {
            Ok(request) => Some(&request.custom_id),
            Err((id, _)) => id.as_ref(),
        };
        if let Some(id) = id
            && !self.known.insert(*blake3::hash(id.as_bytes()).as_bytes())
        {
            let problem = Problem::of("custom_id", "an earlier line has the same `custom_id`");
            line = Err((Some(id.clone()), problem));
        }
        Ok(Some(line))
    }
}

fn of_line(line: &[u8]) -> Line {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| (None, Problem::new(format!("the line is no JSON: {error}"))))?;
    let Value::Object(mut line) = value else {
        return Err((None, Problem::new("the line is no object")));
    };
    let Some(Value::String(custom_id)) = line.remove("custom_id") else {
        let problem = Problem::of("custom_id", "the line has no `custom_id` that is a text");
        return Err((None, problem));
    };
    let request = of_object(&custom_id, &mut line);
    request.map_err(|problem| (Some(custom_id), problem))
}

fn of_object(custom_id: &str, line: &mut Map<String, Value>) -> Result<Request, Problem> {
    if line.get("method").and_then(Value::as_str) != Some("POST") {
        return Err(Problem::of("method", "`method` is not POST"));
    }
    let Some(Value::Object(body)) = line.remove("body") else {
        return Err(Problem::of("body", "`body` is no object"));
    };
    let mut body = Body(body);
    let model = match body.0.get("model") {
        Some(Value::String(model)) => model.clone(),
        _ => return Err(Problem::of("model", "`model` is no text")),
    };
    let ask = match line.get("url").and_then(Value::as_str) {
        Some("/v1/embeddings") => body.embeddings(),
        Some("/v1/completions") => body.completions(),
        Some("/v1/chat/completions") => body.chat(),
        Some(url) => Err(Problem::of(
            "url",
            format!("`{url}` is none of /v1/embeddings, /v1/completions, /v1/chat/completions"),
        )),
        None => Err(Problem::of("url", "`url` is no text")),
    }?;
    Ok(Request {
        custom_id: custom_id.to_owned(),
        model,
        ask,
    })
}

/// The body of a request. What is looked at is taken out of it.
struct Body(Map<String, Value>);

impl Body {
    fn embeddings(&mut self) -> Result<Ask, Problem> {
        let inputs = self.sequences("input")?;
        let is_empty = |input: &Value| input["text"] == "" || input["input_ids"] == json!([]);
        if inputs.iter().any(is_empty) {
            return Err(Problem::of("input", "`input` has an entry without content"));
        }
        let dimensions = match self.number("dimensions")? {
            Some(0) => return Err(Problem::of("dimensions", "`dimensions` is 0")),
            dimensions => dimensions.map(|number| number as usize),
        };
        let base64 = match self.given("encoding_format") {
            None => false,
            Some(Value::String(format)) if format == "float" => false,
            Some(Value::String(format)) if format == "base64" => true,
            Some(_) => {
                let problem = "`encoding_format` is neither `float` nor `base64`";
                return Err(Problem::of("encoding_format", problem));
            }
        };
        self.end(&["model", "user"])?;
        Ok(Ask::Embeddings {
            inputs,
            dimensions,
            base64,
        })
    }

    fn completions(&mut self) -> Result<Ask, Problem> {
        let prompts = self.sequences("prompt")?;
        let echo = self.given("echo") == Some(Value::Bool(true));
        if self.number("max_tokens")? != Some(0) || !echo {
            let message = format!("{NO_TEXT}: give `echo`: true and `max_tokens`: 0");
            return Err(Problem::of("max_tokens", message));
        }
        let logprobs = self.logprobs("logprobs")?;
        for (name, only) in [
            ("n", json!(1)),
            ("best_of", json!(1)),
            ("suffix", json!("")),
        ] {
            self.only(name, &only)?;
        }
        self.only("stream", &json!(false))?;
        self.end(&SAMPLING)?;
        Ok(Ask::Completions { prompts, logprobs })
    }

    fn chat(&mut self) -> Result<Ask, Problem> {
        let Some(messages @ Value::Array(_)) = self.given("messages") else {
            return Err(Problem::of("messages", "`messages` is no list"));
        };
        let is_message = |message: &Value| {
            let content = &message["content"];
            let of_kind = content.is_string() || content.is_array() || content.is_null();
            message["role"].is_string() && of_kind
        };
        let all = messages
            .as_array()
            .is_some_and(|all| !all.is_empty() && all.iter().all(is_message));
        if !all {
            let problem = "`messages` is not a list of messages, each with `role` and `content`";
            return Err(Problem::of("messages", problem));
        }
        let logprobs = self.logprobs("prompt_logprobs")?;
        let most = [
            self.number("max_tokens")?,
            self.number("max_completion_tokens")?,
        ];
        let wants_none = most.contains(&Some(0)) && !most.iter().flatten().any(|most| *most > 0);
        let Some(logprobs) = logprobs.filter(|_| wants_none) else {
            let message = format!("{NO_TEXT}: give `prompt_logprobs` and `max_tokens`: 0");
            return Err(Problem::of("prompt_logprobs", message));
        };
        let mut arguments = match self.given("chat_template_kwargs") {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                let problem = "`chat_template_kwargs` is no object";
                return Err(Problem::of("chat_template_kwargs", problem));
            }
        };
        let asks = match self.given("add_generation_prompt") {
            None => Value::Bool(true),
            Some(asks @ Value::Bool(_)) => asks,
            Some(_) => {
                let problem = "`add_generation_prompt` is neither true nor false";
                return Err(Problem::of("add_generation_prompt", problem));
            }
        };
        arguments.insert("add_generation_prompt".to_owned(), asks);
        let mut conversation = json!({"messages": messages, "chat_template_kwargs": arguments});
        for name in ["tools", "documents"] {
            if let Some(value) = self.given(name) {
                conversation[name] = value;
            }
        }
        for (name, only) in [
            ("n", json!(1)),
            ("stream", json!(false)),
            ("logprobs", json!(false)),
        ] {
            self.only(name, &only)?;
        }
        self.end(&SAMPLING)?;
        Ok(Ask::Chat {
            conversation,
            logprobs,
        })
    }

    /// A member that is there and not null.
    fn given(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        match self.given(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(Problem::of(name, format!("`{name}` is no whole number"))),
            },
        }
    }

    fn logprobs(&mut self, name: &str) -> Result<Option<usize>, Problem> {
        match self.number(name)? {
            Some(number) if number > MOST_LOGPROBS => {
                let problem = format!("`{name}` is at most {MOST_LOGPROBS}");
                Err(Problem::of(name, problem))
            }
            number => Ok(number.map(|number| number as usize)),
        }
    }

    /// A member that has one value only.
    fn only(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
        match self.given(name) {
            Some(given) if given != *value => {
                Err(Problem::of(name, format!("{NO_TEXT}: `{name}` is {given}")))
            }
            _ => Ok(()),
        }
    }

    /// Nothing is left that could change an answer.
    fn end(&mut self, idle: &[&str]) -> Result<(), Problem> {
        let mut rest = self.0.iter();
        let unknown = rest.find(|(name, value)| !value.is_null() && !idle.contains(&name.as_str()));
        match unknown {
            None => Ok(()),
            Some((name, _)) => Err(Problem::of(name, format!("`{name}` is not known here"))),
        }
    }

    /// A text, tokens, or a list of either, each as a record of a dataset.
    fn sequences(&mut self, name: &str) -> Result<Vec<Value>, Problem> {
        let wrong = || {
            let problem = format!("`{name}` is no text, no list of tokens, and no list of either");
            Problem::of(name, problem)
        };
        let text = |value: &Value| json!({"text": value});
        let ids = |value: &Value| {
            let list = value.as_array().filter(|list| list.iter().all(is_token))?;
            Some(json!({"input_ids": list}))
        };
        match self.given(name) {
            Some(value @ Value::String(_)) => Ok(vec![text(&value)]),
            Some(Value::Array(list)) if list.is_empty() => Err(wrong()),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                Ok(list.iter().map(text).collect())
            }
            Some(value @ Value::Array(_)) => match ids(&value) {
                Some(one) => Ok(vec![one]),
                None => {
                    let lists = value.as_array().into_iter().flatten().map(ids);
                    lists.collect::<Option<_>>().ok_or_else(wrong)
                }
            },
            _ => Err(wrong()),
        }
    }
}

/// Whether a value is the number of a token.
fn is_token(value: &Value) -> bool {
    value
        .as_u64()
        .is_some_and(|number| u32::try_from(number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(url: &str, body: &Value) -> Line {
        let line = json!({"custom_id": "a", "method": "POST", "url": url, "body": body});
        of_line(line.to_string().as_bytes())
    }

    #[track_caller]
    fn records(url: &str, body: &Value) -> Value {
        json!(line(url, body).unwrap().ask.records())
    }

    #[track_caller]
    fn refused(url: &str, body: &Value, says: &str) {
        let (id, problem) = line(url, body).unwrap_err();
        assert_eq!(id.as_deref(), Some("a"));
        assert_eq!(problem.code, 400);
        assert!(problem.message.contains(says), "{problem:?}");
    }

    #[test]
    fn inputs_are_texts_or_tokens_or_lists_of_them() {
        for (input, expected) in [
            (json!("a b"), json!([{"text": "a b"}])),
            (json!(["a", "b"]), json!([{"text": "a"}, {"text": "b"}])),
            (json!([1, 2]), json!([{"input_ids": [1, 2]}])),
            (
                json!([[1], [2, 3]]),
                json!([{"input_ids": [1]}, {"input_ids": [2, 3]}]),
            ),
        ] {
            let body = json!({"model": "m", "input": input});
            assert_eq!(records("/v1/embeddings", &body), expected);
        }
        for input in [
            json!(3),
            json!([]),
            json!(["a", 1]),
            json!([[1], "a"]),
            json!([-1]),
            json!([[1.5]]),
            Value::Null,
        ] {
            let body = json!({"model": "m", "input": input});
            refused("/v1/embeddings", &body, "`input` is no text");
        }
        refused(
            "/v1/embeddings",
            &json!({"model": "m", "input": ["a", ""]}),
            "without content",
        );
        refused(
            "/v1/embeddings",
            &json!({"model": "m", "input": "a", "dimensions": 0}),
            "dimensions",
        );
        refused(
            "/v1/embeddings",
            &json!({"model": "m", "input": "a", "encoding_format": "int8"}),
            "neither",
        );
        refused(
            "/v1/embeddings",
            &json!({"model": "m", "input": "a", "truncate": 3}),
            "`truncate` is not known",
        );
    }

    #[test]
    fn only_what_is_given_is_scored() {
        let scored = json!({"model": "m", "prompt": "a", "echo": true, "max_tokens": 0, "logprobs": 2, "temperature": 0.5});
        let request = line("/v1/completions", &scored).unwrap();
        let Ask::Completions { logprobs, .. } = request.ask else {
            panic!("{request:?}");
        };
        assert_eq!(logprobs, Some(2));
        let with = |name: &str, value: Value| {
            let mut body = scored.clone();
            body[name] = value;
            body
        };
        for (name, value) in [
            ("max_tokens", json!(1)),
            ("max_tokens", Value::Null),
            ("echo", json!(false)),
            ("n", json!(2)),
            ("stream", json!(true)),
        ] {
            refused("/v1/completions", &with(name, value), NO_TEXT);
        }
        refused("/v1/completions", &with("logprobs", json!(1001)), "at most");
        refused(
            "/v1/completions",
            &with("logit_bias", json!({"3": 1})),
            "not known",
        );
        let messages = json!([{"role": "user", "content": "a"}]);
        let chat = json!({"model": "m", "messages": messages, "prompt_logprobs": 1, "max_completion_tokens": 0});
        let expected = json!([{"messages": messages, "chat_template_kwargs": {"add_generation_prompt": true}}]);
        assert_eq!(records("/v1/chat/completions", &chat), expected);
        refused(
            "/v1/chat/completions",
            &json!({"model": "m", "messages": messages}),
            NO_TEXT,
        );
        refused(
            "/v1/chat/completions",
            &json!({"model": "m", "messages": [{"role": 1}]}),
            "each with `role`",
        );
    }

    #[test]
    fn lines_that_are_no_requests_say_why() {
        for (line, id, says) in [
            ("{", None, "no JSON"),
            ("[]", None, "no object"),
            ("{\"custom_id\": 3}", None, "custom_id"),
            ("{\"custom_id\": \"x\"}", Some("x"), "POST"),
            (
                "{\"custom_id\": \"x\", \"method\": \"POST\"}",
                Some("x"),
                "`body` is no object",
            ),
        ] {
            let (found, problem) = of_line(line.as_bytes()).unwrap_err();
            assert_eq!(found.as_deref(), id);
            assert!(problem.message.contains(says), "{problem:?}");
        }
        refused("/v1/responses", &json!({"model": "m"}), "is none of");
        refused("/v1/embeddings", &json!({"input": "a"}), "`model`");
    }
}
