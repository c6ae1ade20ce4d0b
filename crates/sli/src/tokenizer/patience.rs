//! How long a tokenizer may be at work on a text.
//!
//! Oniguruma counts the steps of every single match, not those of all matches of a text: a pattern may look at the
//! rest of a long text again at each of its characters. So somebody watches the time, and takes the steps away when
//! there is none left: the next match fails.

use std::ffi::{c_uint, c_ulong};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::guard::guarded;

/// What any text may take, and what each of its bytes adds: more than ten times what ordinary tokenizers take, also
/// without optimisation.
const TEXT: Duration = Duration::from_secs(3);
const BYTE: Duration = Duration::from_micros(20);
/// How often the time is looked at.
const WATCH: Duration = Duration::from_millis(50);
/// Oniguruma's own limits: steps of a match (a number of the library), of a search and of the stack (none).
const USUAL_STEPS: c_ulong = 10_000_000;
const NO_LIMIT: c_ulong = 0;

/// The time of one text, over all of its pieces.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    bytes: u64,
    left: Duration,
}

impl Patience {
    /// For a text of so many bytes.
    pub fn of(bytes: usize) -> Self {
        let bytes = bytes as u64;
        let micros = u64::try_from(BYTE.as_micros()).unwrap_or(0);
        Self {
            bytes,
            left: TEXT + Duration::from_micros(micros.saturating_mul(bytes)),
        }
    }

    /// Bytes of the text.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The time for a text of that length, seconds.
    pub fn seconds(&self) -> u64 {
        Self::of(self.bytes as usize).left.as_secs()
    }

    /// Lets a tokenizer work. The outer error says that it took too long, the inner one is a panic in it.
    pub fn watch<T: Send>(
        &mut self,
        encode: impl FnOnce() -> T + Send,
    ) -> Result<Result<T, String>, TooLong> {
        let (begun, worked) = (Instant::now(), cpu_time());
        // Of a busy machine the process gets a part only.
        let spent = || {
            let worked = cpu_time().saturating_sub(worked);
            begun.elapsed().min(worked)
        };
        let left = self.left;
        let (done, at_work) = sync_channel::<()>(0);
        let (result, was_stopped) = thread::scope(|scope| {
            let watch = move || loop {
                match at_work.recv_timeout(WATCH) {
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
                    Err(RecvTimeoutError::Timeout) if spent() > left => {
                        set_limits(1, 1, 1);
                        return true;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            };
            let watching = scope.spawn(watch);
            let result = guarded(encode);
            drop(done);
            (result, watching.join().unwrap_or(false))
        });
        self.left = self.left.saturating_sub(spent());
        if was_stopped {
            set_limits(USUAL_STEPS, NO_LIMIT, 0);
            // What came to its end in spite of it is right.
            if result.is_err() {
                return Err(TooLong);
            }
        }
        Ok(result)
    }
}

/// A tokenizer was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Time that the threads of this process have worked.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sets the limits of all matches that begin from now on.
fn set_limits(in_match: c_ulong, in_search: c_ulong, stack: c_uint) {
    #[expect(
        unsafe_code,
        reason = "the safe interface has no limits for all matches"
    )]
    // SAFETY: each call stores a number that matches read when they begin, from any thread.
    unsafe {
        onig_sys::onig_set_retry_limit_in_match(in_match);
        onig_sys::onig_set_retry_limit_in_search(in_search);
        onig_sys::onig_set_match_stack_limit_size(stack);
    }
}
