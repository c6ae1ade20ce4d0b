//! Work in a thread of its own, attended by the thread of the interpreter that asked for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sli::{Error, Event, Host, Observer};
use sli_engine::{forget_peak_memory, resident_memory};
use sli_remote::Progress;

use crate::errors::{self, tell};

/// How often signals are looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long work that is to end may take before it is left to itself.
const GRACE: Duration = Duration::from_millis(300);
/// What a main thread has, too.
const STACK: usize = 8 << 20;

/// Work that is to end and has not yet: it ends at its next boundary, and holds its folder and memory until then.
static ENDING: Mutex<Vec<Arc<Post>>> = Mutex::new(Vec::new());

/// What the two threads know of each other.
#[derive(Default)]
struct Post {
    /// The work is to end.
    stop: AtomicBool,
    inbox: Mutex<Inbox>,
    news: Condvar,
}

/// What the attending thread has not heard yet.
#[derive(Default)]
struct Inbox {
    said: Vec<Said>,
    /// Only the last one counts.
    place: Option<Place>,
    is_done: bool,
}

/// What is heard whole.
enum Said {
    Warning(String),
    Note(String),
    Fetching(u64, String),
    Begun(Option<(u64, u64)>),
    Settled,
}

/// How far the work is.
enum Place {
    Preparing { records: u64, tokens: u64 },
    Arriving { there: u64, wanted: u64 },
    Running(Running),
}

/// Where a run is.
struct Running {
    stack: String,
    layer: usize,
    layers: usize,
    records_done: usize,
    records: usize,
    token_layers_done: u64,
    token_layers: u64,
    tokens: u64,
    bytes_read: u64,
    bytes_planned: u64,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, said: Said) {
        self.lock().said.push(said);
    }

    fn is_done(&self) -> bool {
        self.lock().is_done
    }

    /// Waits for the end, but no longer than this; whether it is there.
    fn wait(&self, at_most: Duration) -> bool {
        let guard = self.lock();
        let waited = self
            .news
            .wait_timeout_while(guard, at_most, |inbox| !inbox.is_done);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_done
    }
}

/// The interpreter as host: takes down what it is told.
pub struct Messenger {
    post: Arc<Post>,
    bytes: u64,
}

impl Observer for Messenger {
    fn event(&self, event: &Event<'_>) {
        self.post.lock().place = Some(Place::Running(Running {
            stack: event.stack.to_owned(),
            layer: event.layer,
            layers: event.layers,
            records_done: event.records_done,
            records: event.records,
            token_layers_done: event.token_layers_done,
            token_layers: event.token_layers,
            tokens: event.tokens,
            bytes_read: event.bytes_read,
            bytes_planned: event.bytes_planned,
        }));
    }

    fn warning(&self, text: &str) {
        self.post.put(Said::Warning(text.to_owned()));
    }

    fn note(&self, text: &str) {
        self.post.put(Said::Note(text.to_owned()));
    }

    fn interrupted(&self) -> bool {
        self.post.stop.load(Ordering::Relaxed)
    }
}

impl Host for Messenger {
    fn preparing(&self, records: u64, tokens: u64) {
        self.post.lock().place = Some(Place::Preparing { records, tokens });
    }

    fn arriving(&self, progress: Progress) {
        self.post.lock().place = Some(Place::Arriving {
            there: progress.there,
            wanted: progress.wanted,
        });
    }

    fn settled(&self) {
        self.post.put(Said::Settled);
    }

    fn fetching(&self, bytes: u64, place: &str) {
        self.post.put(Said::Fetching(bytes, place.to_owned()));
    }

    fn begun(&self, done: Option<(u64, u64)>) {
        self.post.put(Said::Begun(done));
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Has the work done in a thread; `attend(kind, value)` hears of it. What it raises, and a signal's exception, ends the work: at
/// its next boundary, with everything so far made durable.
pub fn attended<T: Send + 'static>(
    py: Python<'_>,
    attend: &Bound<'_, PyAny>,
    work: impl FnOnce(&Messenger) -> Result<T, Error> + Send + 'static,
) -> PyResult<T> {
    if !attend.is_callable() {
        return Err(PyTypeError::new_err("attend must be callable"));
    }
    wait_for_ending(py)?;
    sli::program::settle();
    forget_peak_memory();
    let post = Arc::new(Post::default());
    let messenger = Messenger {
        post: Arc::clone(&post),
        bytes: resident_memory(),
    };
    let thread = thread::Builder::new().name("sli".into()).stack_size(STACK);
    let worker = thread.spawn(move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(&messenger)));
        messenger.post.lock().is_done = true;
        messenger.post.news.notify_all();
        done
    });
    let worker =
        worker.map_err(|error| errors::file(py, &format!("cannot start a thread: {error}")))?;
    loop {
        let is_done = py.detach(|| post.wait(LOOK));
        if let Err(error) = deliver(attend, &post).and_then(|()| py.check_signals()) {
            post.stop.store(true, Ordering::Relaxed);
            if !py.detach(|| post.wait(GRACE)) {
                ending().push(post);
            }
            return Err(error);
        }
        if is_done {
            break;
        }
    }
    // What was said on the way to the end.
    let done = py.detach(|| worker.join());
    deliver(attend, &post)?;
    match done {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(error))) => Err(errors::raised(py, &error)),
        Ok(Err(panic)) | Err(panic) => Err(errors::internal(py, &message(&*panic))),
    }
}

fn ending() -> MutexGuard<'static, Vec<Arc<Post>>> {
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for what was ended before: it may be about the same folder.
fn wait_for_ending(py: Python<'_>) -> PyResult<()> {
    loop {
        let next = {
            let mut all = ending();
            all.retain(|post| !post.is_done());
            all.first().cloned()
        };
        let Some(post) = next else {
            return Ok(());
        };
        py.detach(|| post.wait(LOOK));
        py.check_signals()?;
    }
}

/// Hands on what there is to hear.
fn deliver(attend: &Bound<'_, PyAny>, post: &Post) -> PyResult<()> {
    let (said, place) = {
        let mut inbox = post.lock();
        (std::mem::take(&mut inbox.said), inbox.place.take())
    };
    for said in said {
        match said {
            Said::Warning(text) => tell(attend, "warning", text)?,
            Said::Note(text) => tell(attend, "note", text)?,
            Said::Fetching(bytes, place) => tell(attend, "fetching", (bytes, place))?,
            Said::Begun(done) => tell(attend, "begun", done)?,
            Said::Settled => tell(attend, "settled", None::<u64>)?,
        }
    }
    match place {
        None => Ok(()),
        Some(Place::Preparing { records, tokens }) => tell(attend, "preparing", (records, tokens)),
        Some(Place::Arriving { there, wanted }) => tell(attend, "arriving", (there, wanted)),
        Some(Place::Running(running)) => tell(attend, "running", running.dict(attend.py())?),
    }
}

impl Running {
    fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("stack", &self.stack)?;
        dict.set_item("layer", self.layer)?;
        dict.set_item("layers", self.layers)?;
        dict.set_item("records_done", self.records_done)?;
        dict.set_item("records", self.records)?;
        dict.set_item("token_layers_done", self.token_layers_done)?;
        dict.set_item("token_layers", self.token_layers)?;
        dict.set_item("tokens", self.tokens)?;
        dict.set_item("bytes_read", self.bytes_read)?;
        dict.set_item("bytes_planned", self.bytes_planned)?;
        Ok(dict)
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the program failed without a reason".to_owned())
}
