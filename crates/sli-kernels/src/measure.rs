//! What this machine could do at best: peak arithmetic and memory bandwidth.

use std::hint::black_box;
use std::time::Instant;

use crate::gemm::tile::{BLOCK_ROW_BYTES, BLOCK_STEPS, F32Panel, PairPanel, Panel, Tile, dispatch};
use crate::kernels::Kernels;
use crate::simd::{PANEL, Simd, SimdOp};
use crate::weights::Compute;

/// The most GFLOP/s that the register tile reaches on data in the first-level cache, on all threads,
/// for the compute type of `kernels`.
pub fn peak_gflops(kernels: &Kernels) -> f64 {
    match kernels.compute() {
        Compute::F32 => peak::<F32Panel>(kernels, 1),
        Compute::Bf16 => peak::<PairPanel>(kernels, 2),
    }
}

fn peak<B: Panel>(kernels: &Kernels, per_step: usize) -> f64 {
    const STEPS: usize = 64;
    const TILES: usize = 20_000;
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let start = Instant::now();
        let rows = std::sync::atomic::AtomicUsize::new(0);
        kernels.tasks(kernels.threads(), |_| {
            let count = kernels.isa().run(RunTiles::<B> {
                steps: STEPS,
                tiles: TILES,
                of: B::NEW,
            });
            rows.store(count, std::sync::atomic::Ordering::Relaxed);
        });
        let rows = rows.into_inner();
        let flops = 2 * PANEL * rows * STEPS * per_step * TILES * kernels.threads();
        best = best.max(flops as f64 / start.elapsed().as_secs_f64());
    }
    best / 1e9
}

struct RunTiles<B> {
    steps: usize,
    tiles: usize,
    of: B,
}

impl<B: Panel> SimdOp for RunTiles<B> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let _ = self.of;
        let rows = S::TILE_ROWS;
        assert!(self.steps <= BLOCK_STEPS);
        let a = vec![0.0_f32; rows * BLOCK_ROW_BYTES / 4];
        let b = vec![0.0_f32; self.steps * B::STEP_BYTES / 4];
        let mut c = vec![0.0_f32; rows * PANEL];
        for _ in 0..self.tiles {
            let tile = Tile {
                a: black_box(a.as_ptr().cast()),
                b: black_box(b.as_ptr().cast()),
                b_stride: 0,
                steps: self.steps,
                c: c.as_mut_ptr(),
                c_stride: 0,
                b_ahead: b.as_ptr().cast(),
                a_ahead: a.as_ptr().cast(),
                fresh: false,
            };
            // SAFETY: the three vectors are as large as a tile of `rows` rows and one panel.
            unsafe { dispatch::<S, B>(s, rows, 1, &tile) };
        }
        black_box(&c);
        rows
    }
}

/// Bytes per second that all threads read from memory, from a buffer of `bytes` bytes (make it
/// several times the last-level cache).
pub fn memory_bandwidth(kernels: &Kernels, bytes: usize) -> f64 {
    const CHUNK: usize = 1 << 16;
    let buffer = vec![1.0_f32; bytes / 4];
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let start = Instant::now();
        kernels.parallel_rows(buffer.len() / CHUNK, 1, |chunks| {
            let part = &buffer[chunks.start * CHUNK..chunks.end * CHUNK];
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
        const STREAMS: usize = 4;
        let mut maxima = [s.splat(0.0); STREAMS];
        let quarter = self.part.len() / STREAMS;
        for at in (0..quarter / S::LANES * S::LANES).step_by(S::LANES) {
            for (stream, max) in maxima.iter_mut().enumerate() {
                *max = s.max(s.get(&self.part[stream * quarter + at..]), *max);
            }
        }
        maxima
            .into_iter()
            .map(|max| s.maximum(max))
            .fold(0.0, f32::max)
    }
}
