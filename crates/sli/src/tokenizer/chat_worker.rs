//! A chat template at work in a thread of its own.
//!
//! Steps and bytes of a template are counted, but not everything that the template engine does: values that
//! hold each other are walked over and over, and are dropped as deeply as they are nested. So templates run
//! on a large stack, and whoever waits for them watches the time and the memory of the process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Local;
use sli_engine::bytes::human;
use sli_engine::resident_memory;

use super::chat::{CompiledTemplate, Prepared, prepare};
use super::error::TokenizerError;
use crate::guard::guarded;
use crate::input::Conversation;

/// Stack of the thread, bytes; what is not used takes no memory.
const STACK: usize = 1 << 30;
/// How long a template may take for a conversation; ordinary ones take a millisecond.
const LONGEST: Duration = Duration::from_secs(10);
/// How often memory and time are looked at.
const WATCH: Duration = Duration::from_millis(5);

/// A chat template that renders conversations, one after the other.
pub struct ChatTemplate {
    conversations: SyncSender<Prepared>,
    texts: Mutex<Receiver<Result<String, String>>>,
    memory: u64,
}

impl ChatTemplate {
    /// Compiles the template in `source`, read from `path`; `variables` are the special tokens by name. While
    /// it works, the process may hold `memory` bytes.
    pub fn new(
        path: &Path,
        source: &str,
        variables: BTreeMap<String, String>,
        memory: u64,
    ) -> Result<Self, TokenizerError> {
        let (conversations, incoming) = sync_channel::<Prepared>(0);
        let (outgoing, texts) = sync_channel(0);
        let (compiled, result) = sync_channel(0);
        let broken = |problem: String| TokenizerError::Broken {
            path: path.to_path_buf(),
            problem,
        };
        let (own_path, source) = (path.to_path_buf(), source.to_owned());
        let work = move || {
            let template =
                guarded(|| CompiledTemplate::at(Local::now(), &own_path, &source, variables));
            let mut template = match template {
                Ok(Ok(template)) => {
                    let _ = compiled.send(Ok(()));
                    template
                }
                Ok(Err(error)) => return drop(compiled.send(Err(error))),
                Err(problem) => {
                    let problem = format!("the chat template does not compile: {problem}");
                    let path = own_path.clone();
                    return drop(compiled.send(Err(TokenizerError::Broken { path, problem })));
                }
            };
            for conversation in incoming {
                let text = guarded(|| template.render(&conversation)).and_then(|text| text);
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
        })
    }

    /// The text of a conversation, without a generation prompt; an error says what the template refuses.
    /// After one about time or memory the template is still at work, and renders nothing further.
    pub fn render(&self, conversation: &Conversation) -> Result<String, String> {
        let prepared = prepare(conversation)?;
        let sent = self.conversations.send(prepared);
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
