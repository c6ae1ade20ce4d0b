//! The handle that all kernels hang from: threads, instruction set, compute type, scratch memory.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::clock::{Clock, Lap, Stage};
use crate::isa::Isa;
use crate::kind::Compute;
use crate::mat::Mat;

/// The kernels: a private thread pool, an instruction set and a compute type.
///
/// Every kernel gives the same bits for any number of threads and any way of cutting its rows (and,
/// for the matrix product, columns) into calls.
pub struct Kernels {
    pool: Option<ThreadPool>,
    threads: usize,
    compute: Compute,
    isa: Isa,
    scratch: Mutex<Vec<Mat>>,
    clock: Clock,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Kernels({} threads, {}, {:?})",
            self.threads, self.isa, self.compute
        )
    }
}

impl Kernels {
    /// Kernels on `threads` threads (at least one) and this machine's best instruction set.
    pub fn new(threads: usize, compute: Compute) -> Self {
        Self::with_isa(threads, compute, Isa::detect())
    }

    /// Kernels on a given instruction set, which falls back to [`Isa::Plain`] where the machine
    /// lacks it.
    pub fn with_isa(threads: usize, compute: Compute, isa: Isa) -> Self {
        let isa = if isa.is_available() { isa } else { Isa::Plain };
        let pool = (threads > 1)
            .then(|| {
                ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|index| format!("sli-kernel-{index}"))
                    .build()
                    .ok()
            })
            .flatten();
        let threads = if pool.is_some() { threads } else { 1 };
        Self {
            pool,
            threads,
            compute,
            isa,
            scratch: Mutex::default(),
            clock: Clock::default(),
        }
    }

    /// Times a call from here to the end of the lap.
    pub(crate) fn lap(&self, stage: Stage) -> Lap<'_> {
        self.clock.lap(stage)
    }

    /// Time that calls of a kind have taken so far, waiting for their threads included.
    pub fn time_of(&self, stage: Stage) -> Duration {
        self.clock.time_of(stage)
    }

    /// Threads that work on one call.
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// The compute type of attention, and the one to pack weights for.
    pub const fn compute(&self) -> Compute {
        self.compute
    }

    /// The instruction set.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether this machine computes bf16 dot products natively.
    pub fn native_bf16() -> bool {
        Isa::detect().has_native_bf16()
    }

    /// Cuts `0..rows` into pieces of at least `min_rows` rows (except the last) and runs `f` on them,
    /// in parallel.
    pub fn parallel_rows(&self, rows: usize, min_rows: usize, f: impl Fn(Range<usize>) + Sync) {
        let pieces = if self.threads == 1 {
            1
        } else {
            self.threads * 4
        };
        let size = rows.div_ceil(pieces.max(1)).max(min_rows).max(1);
        self.tasks(rows.div_ceil(size), |piece| {
            f(piece * size..rows.min((piece + 1) * size));
        });
    }

    /// Runs `f` for each of `0..count`, in parallel and in no particular order.
    pub(crate) fn tasks(&self, count: usize, f: impl Fn(usize) + Sync) {
        match &self.pool {
            Some(pool) if count > 1 => {
                let next = AtomicUsize::new(0);
                let work = || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            break;
                        }
                        f(index);
                    }
                };
                pool.scope(|scope| {
                    for _ in 0..self.threads.min(count) {
                        scope.spawn(|_| work());
                    }
                });
            }
            _ => (0..count).for_each(f),
        }
    }

    /// Runs `f` with a scratch buffer of at least `len` elements, contents unspecified.
    pub(crate) fn with_scratch<T>(&self, len: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
        let mut buffer = self.take_scratch(len);
        let out = f(buffer.as_mut_slice());
        self.give_scratch(buffer);
        out
    }

    /// A scratch buffer of at least `len` elements: the smallest that suffices of those given back,
    /// or the largest of them made larger.
    pub(crate) fn take_scratch(&self, len: usize) -> Mat {
        let mut free = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        free.sort_by_key(Mat::cols);
        let fits = free.iter().position(|buffer| buffer.cols() >= len);
        let mut buffer = match fits {
            Some(index) => free.remove(index),
            None => free.pop().unwrap_or_default(),
        };
        drop(free);
        if buffer.cols() < len {
            buffer.reset(1, len);
        }
        buffer
    }

    /// Gives a scratch buffer back for reuse.
    pub(crate) fn give_scratch(&self, buffer: Mat) {
        self.scratch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
    }
}

/// A mutable slice whose elements several threads write, each its own.
pub(crate) struct SharedSlice<'a, T> {
    data: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: access is through `get_mut`, whose callers keep elements apart.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            data: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: std::marker::PhantomData,
        }
    }

    /// The address of the first element of `range`, for writing the range.
    pub(crate) fn start_of(&self, range: Range<usize>) -> *mut T {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        self.data.wrapping_add(range.start)
    }

    /// The elements of `range`.
    ///
    /// # Safety
    ///
    /// While the result lives nobody else may access these elements.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint elements")]
    #[inline(always)]
    pub(crate) unsafe fn part_mut(&self, range: Range<usize>) -> &mut [T] {
        let length = range.len();
        // SAFETY: in bounds; exclusivity is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start_of(range), length) }
    }

    /// # Safety
    ///
    /// While the result lives nobody else may access that element.
    #[expect(clippy::mut_from_ref, reason = "threads write disjoint elements")]
    pub(crate) unsafe fn get_mut(&self, index: usize) -> &mut T {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: in bounds; exclusivity is the caller's promise.
        unsafe { &mut *self.data.add(index) }
    }
}
