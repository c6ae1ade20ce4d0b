//! Where the time of a computing thread goes: two readings of a clock a call.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Matrix products and the packing of their activations.
    Product,
    /// Attention.
    Attention,
    /// Norms.
    Norm,
    /// Convolutions and recurrences along a record.
    Scan,
    /// Rotary positions.
    Rotary,
    /// Activations and gates.
    Activation,
    /// What follows the logits: log-sum-exp, softmax, the best k.
    Vocabulary,
    /// Sums, scales and other element-wise work.
    Elementwise,
}

impl Stage {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Product,
        Self::Attention,
        Self::Norm,
        Self::Scan,
        Self::Rotary,
        Self::Activation,
        Self::Vocabulary,
        Self::Elementwise,
    ];
}

/// Time of every [`Stage`] so far.
#[derive(Debug, Default)]
pub(crate) struct Clock([AtomicU64; Stage::ALL.len()]);

thread_local! {
    /// A call is being timed: those within it are part of it.
    static TIMED: Cell<bool> = const { Cell::new(false) };
}

/// Counts the time until it is dropped.
pub(crate) struct Lap<'a>(Option<(&'a AtomicU64, Instant)>);

impl Drop for Lap<'_> {
    fn drop(&mut self) {
        if let Some((total, start)) = self.0 {
            let elapsed = start.elapsed().as_nanos() as u64;
            total.fetch_add(elapsed, Ordering::Relaxed);
            TIMED.set(false);
        }
    }
}

impl Clock {
    /// Times a call from here to the end of the lap.
    pub fn lap(&self, stage: Stage) -> Lap<'_> {
        if TIMED.replace(true) {
            return Lap(None);
        }
        Lap(Some((&self.0[stage as usize], Instant::now())))
    }

    /// Time that calls of a kind have taken so far, waiting for their threads included.
    pub fn time_of(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.0[stage as usize].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::Stage;
    use crate::{Compute, Kernels};

    #[test]
    fn calls_within_a_call_are_part_of_it() {
        let kernels = Kernels::new(1, Compute::F32);
        let outer = kernels.lap(Stage::Product);
        drop(kernels.lap(Stage::Norm));
        assert!(kernels.time_of(Stage::Norm).is_zero());
        std::hint::black_box((0..10_000).fold(0_u64, |sum, x| sum ^ x));
        drop(outer);
        assert!(!kernels.time_of(Stage::Product).is_zero());
        drop(kernels.lap(Stage::Norm));
        let all = Stage::ALL.map(|stage| kernels.time_of(stage));
        assert_eq!(all.iter().filter(|time| time.is_zero()).count(), 6);
    }
}
