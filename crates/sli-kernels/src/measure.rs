//! What this machine could do at best: peak arithmetic and memory bandwidth.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::kernels::Kernels;
use crate::kind::Compute;
use crate::simd::{Simd, SimdOp};

/// GFLOP/s of multiply-adds on registers, without any memory access, on all threads, for the compute
/// type of `kernels`: what no kernel can exceed at the same time. Compare only with what is measured
/// next to it: other work on the machine and its clock change both. Takes some 30 ms.
pub fn peak_gflops(kernels: &Kernels) -> f64 {
    const STEPS: usize = 1 << 20;
    let pairs = kernels.compute() == Compute::Bf16;
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let flops = AtomicUsize::new(0);
        let start = Instant::now();
        kernels.tasks(kernels.threads(), |_| {
            flops.fetch_add(
                kernels.isa().run(Chains {
                    steps: STEPS,
                    pairs,
                }),
                Ordering::Relaxed,
            );
        });
        best = best.max(flops.into_inner() as f64 / start.elapsed().as_secs_f64());
    }
    best / 1e9
}

/// As many independent sums as a register tile has.
struct Chains {
    steps: usize,
    pairs: bool,
}

impl SimdOp for Chains {
    /// Floating point operations.
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        match (S::TILE_SUMS, self.pairs) {
            (24.., true) => chains::<S, true, 24>(s, self.steps),
            (24.., false) => chains::<S, false, 24>(s, self.steps),
            (_, true) => chains::<S, true, 12>(s, self.steps),
            (_, false) => chains::<S, false, 12>(s, self.steps),
        }
    }
}

#[inline(always)]
fn chains<S: Simd, const PAIRS: bool, const N: usize>(s: S, steps: usize) -> usize {
    let (a, b) = (s.splat(black_box(0.0)), s.splat(black_box(1.0)));
    let (a_pair, b_pair) = (
        s.splat_pair(black_box(0)),
        s.splat_pair(black_box(0x3f80_3f80)),
    );
    let mut sums = [s.splat(0.0); N];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = if PAIRS {
                s.dot_pairs(*sum, a_pair, b_pair)
            } else {
                s.mul_add(a, b, *sum)
            };
        }
    }
    for sum in sums {
        black_box(s.sum(sum));
    }
    steps * N * S::LANES * if PAIRS { 4 } else { 2 }
}

/// Bytes per second that all threads read from `buffer`, the best of `rounds` passes. Make the buffer
/// several times the last-level cache, and write to it first: untouched memory is one shared page. A
/// plain streaming read: an estimate that other access patterns can exceed by some percent.
pub fn memory_bandwidth(kernels: &Kernels, buffer: &[f32], rounds: usize) -> f64 {
    const CHUNK: usize = 1 << 18;
    let mut best = 0.0_f64;
    for _ in 0..rounds {
        let start = Instant::now();
        kernels.tasks(buffer.len() / CHUNK, |chunk| {
            let part = &buffer[chunk * CHUNK..(chunk + 1) * CHUNK];
            black_box(kernels.isa().run(Maximum { part }));
        });
        let read = buffer.len() / CHUNK * CHUNK * 4;
        best = best.max(read as f64 / start.elapsed().as_secs_f64());
    }
    best
}

struct Maximum<'a> {
    part: &'a [f32],
}

impl SimdOp for Maximum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        const STREAMS: usize = 8;
        /// As far ahead as the matrix product asks for its weights.
        const AHEAD: usize = 8192;
        let mut maxima = [s.splat(0.0); STREAMS];
        for block in self.part.chunks_exact(STREAMS * S::LANES) {
            for (max, x) in maxima.iter_mut().zip(block.chunks_exact(S::LANES)) {
                s.prefetch(x.as_ptr().cast::<u8>().wrapping_add(AHEAD));
                *max = s.max(s.get(x), *max);
            }
        }
        maxima
            .into_iter()
            .map(|max| s.maximum(max))
            .fold(0.0, f32::max)
    }
}
