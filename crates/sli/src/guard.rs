//! Third-party code on untrusted bytes: a panic in it becomes an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Guarded calls under way in the process; their panics are reported as errors, not printed.
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// Calls `f`; a panic in it is returned as its message. Values that `f` leaves half-changed must not be
/// used afterwards.
pub fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    GUARDED.fetch_add(1, Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.fetch_sub(1, Ordering::Relaxed);
    result.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "unknown reason".to_owned()
    }
}

/// Keeps the panics of [`guarded`] calls off stderr; for programs, once at their start.
pub fn install_hook() {
    let default = take_hook();
    set_hook(Box::new(move |info| {
        if GUARDED.load(Ordering::Relaxed) == 0 {
            default(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn panics_become_errors() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(
            guarded(|| panic!("no {}", 1)),
            Err::<(), _>("no 1".to_owned())
        );
        assert_eq!(guarded(|| panic!("no")), Err::<(), _>("no".to_owned()));
    }
}
