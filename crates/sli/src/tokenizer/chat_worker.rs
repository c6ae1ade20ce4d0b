//! A chat template at work in a thread of its own.
//!
//! Steps and bytes of a template are counted, but not everything that is done for it: values that hold each
//! other are compared over and over, and are dropped as deeply as they are nested. So templates run
//! on a large stack, and whoever waits for them watches the time and the memory of the process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Local;
use sli_engine::bytes::human;
use sli_engine::resident_memory;
use sli_jinja::Rendered;

use super::chat::{CompiledTemplates, Sources};
use super::contents::Contents;
use super::error::TokenizerError;
use crate::guard::guarded;
use crate::input::Conversation;

/// Stack of the thread, bytes; what is not used takes no memory.
const STACK: usize = 1 << 30;
/// How long a template may take for a conversation; ordinary ones take a millisecond.
const LONGEST: Duration = Duration::from_secs(10);
/// How often memory and time are looked at.
const WATCH: Duration = Duration::from_millis(5);

/// Chat templates that render conversations, one after the other.
pub struct ChatTemplate {
    conversations: SyncSender<Conversation>,
    texts: Mutex<Receiver<Result<Rendered, String>>>,
    memory: u64,
    marks: bool,
}

impl ChatTemplate {
    /// Compiles templates; `tokens` are the special tokens by name, `arguments` further variables as JSON texts.
    /// While they work, the process may hold `memory` bytes.
    pub fn new(
        sources: Sources,
        tokens: BTreeMap<String, String>,
        arguments: Vec<(String, String)>,
        contents: Contents,
        memory: u64,
    ) -> Result<Self, TokenizerError> {
        let (conversations, incoming) = sync_channel::<Conversation>(0);
        let (outgoing, texts) = sync_channel(0);
        let (compiled, result) = sync_channel(0);
        let source = sources.default.as_ref().or(sources.tool_use.as_ref());
        let path = source.map_or_else(PathBuf::new, |source| source.path.clone());
        let broken = |problem: String| TokenizerError::Broken {
            path: path.clone(),
            problem,
        };
        let marks = [&sources.default, &sources.tool_use]
            .into_iter()
            .flatten()
            .any(|source| source.text.contains("endgeneration"));
        let own_path = path.clone();
        let work = move || {
            let templates = guarded(|| {
                CompiledTemplates::at(Local::now(), &sources, tokens, arguments, contents)
            });
            let templates = match templates {
                Ok(Ok(templates)) => {
                    let _ = compiled.send(Ok(()));
                    templates
                }
                Ok(Err(error)) => return drop(compiled.send(Err(error))),
                Err(problem) => {
                    let problem = format!("the chat template does not compile: {problem}");
                    let path = own_path.clone();
                    return drop(compiled.send(Err(TokenizerError::Broken { path, problem })));
                }
            };
            for conversation in incoming {
                let text = guarded(|| templates.render(&conversation)).and_then(|text| text);
                if outgoing.send(text).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("chat template".into())
            .stack_size(STACK)
            .spawn(work)
            .map_err(|error| broken(format!("no thread for the chat template: {error}")))?;
        watch(&result, memory)
            .map_err(|problem| broken(format!("the chat template {problem}")))??;
        Ok(Self {
            conversations,
            texts: Mutex::new(texts),
            memory,
            marks,
        })
    }

    /// Whether a template marks what the assistant says, with `{% generation %}`.
    pub fn marks(&self) -> bool {
        self.marks
    }

    /// The text of a conversation and the characters of it that `{% generation %}` blocks made; an error says what
    /// the template refuses. After one about time or memory the template is still at work, and renders nothing
    /// further.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, String> {
        let sent = self.conversations.send(conversation.clone());
        sent.map_err(|_| "the chat template has failed before".to_owned())?;
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        watch(&texts, self.memory).map_err(|problem| format!("the chat template {problem}"))?
    }
}

/// What a thread sends, unless it takes too long for it or the process holds too much.
fn watch<T>(answer: &Receiver<T>, memory: u64) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match answer.recv_timeout(WATCH) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) => return Err("has failed".into()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if resident_memory() > memory {
            return Err(format!("takes more than the {} of memory", human(memory)));
        }
        if start.elapsed() > LONGEST {
            return Err(format!("takes more than {} seconds", LONGEST.as_secs()));
        }
    }
}
