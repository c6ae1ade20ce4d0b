//! What weights cost in time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Time that the weights of a model have cost so far.
#[derive(Debug, Default)]
pub(crate) struct WeightClock {
    pub packing: AtomicU64,
    pub waiting: AtomicU64,
}

impl WeightClock {
    /// Times the packing of weights, on whichever thread.
    pub fn packing<T>(&self, pack: impl FnOnce() -> T) -> T {
        timed(&self.packing, pack)
    }

    /// Times how long the computation waits for weights.
    pub fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        timed(&self.waiting, wait)
    }
}

fn timed<T>(total: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    total.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}
