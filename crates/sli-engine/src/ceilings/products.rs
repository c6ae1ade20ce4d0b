//! How fast products of a model's shapes are in bf16 and in f32.

use std::time::Instant;

use sli_kernels::{Compute, Element, Kernels, Mat, PackedKind, PackedWeights, Store};

use super::cache::{CacheNotice, CeilingsCache};
use super::processor::{isa, name};
use super::rates::ProductRates;
use crate::model::Model;

/// Rows of the products that are timed.
const ROWS: usize = 256;
/// Sides of the matrices that are timed: smaller ones tell more of a call than of the arithmetic.
const SIDE: [usize; 2] = [256, 8192];
/// Elements of them, at most.
const ELEMENTS: usize = 4 << 20;
/// Calls that are timed of each; the best counts.
const CALLS: usize = 4;

impl ProductRates {
    /// As the cache remembers them; else they are measured, in some 50 ms, and remembered. `notice` hears of what is
    /// damaged there.
    pub fn find(
        cache: Option<&CeilingsCache>,
        model: &Model,
        threads: usize,
        mut notice: impl FnMut(CacheNotice),
    ) -> Self {
        let shape = usual_shape(model);
        let found = cache.and_then(|cache| {
            cache.products(threads, shape).unwrap_or_else(|problem| {
                notice(problem);
                None
            })
        });
        found.unwrap_or_else(|| {
            let rates = Self::measure(threads, shape);
            if let Some(cache) = cache {
                // A machine that cannot remember measures again.
                let _ = cache.save_products(&rates);
            }
            rates
        })
    }

    fn measure(threads: usize, shape: [usize; 2]) -> Self {
        let [bf16, f32] =
            [Compute::Bf16, Compute::F32].map(|compute| Timed::new(threads, compute, shape));
        let mut all = [bf16, f32];
        // By turns, so that other work on the machine meets both.
        for _ in 0..CALLS {
            all.iter_mut().for_each(Timed::call);
        }
        let [bf16, f32] = all.map(|timed| timed.rate());
        Self {
            name: name(),
            isa: isa(),
            threads,
            shape,
            bf16,
            f32,
        }
    }
}

/// The shape `[out, in]` of the layers' matrices that hold the most, within what is timed.
fn usual_shape(model: &Model) -> [usize; 2] {
    let layers = model.spec.stacks.iter().flat_map(|stack| &stack.layers);
    let mut sums: Vec<([usize; 2], u64)> = Vec::new();
    for leaf in layers.flat_map(|layer| &layer.leaves) {
        let [.., out, input] = leaf.shape[..] else {
            continue;
        };
        let shape = [out, input];
        match sums.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, sum)) => *sum += leaf.elements(),
            None => sums.push((shape, leaf.elements())),
        }
    }
    let largest = sums.into_iter().max_by_key(|&(shape, sum)| (sum, shape));
    let [out, input] = largest.map_or([SIDE[0]; 2], |(shape, _)| shape);
    let input = input.clamp(SIDE[0], SIDE[1]);
    [out.clamp(SIDE[0], ELEMENTS / input), input]
}

/// A product that is timed.
struct Timed {
    kernels: Kernels,
    weights: PackedWeights,
    x: Mat,
    out: Mat,
    best: f64,
}

impl Timed {
    fn new(threads: usize, compute: Compute, [out, input]: [usize; 2]) -> Self {
        let kernels = Kernels::new(threads, compute);
        let kind = PackedKind::for_weights(Element::Bf16, compute);
        let mut weights = PackedWeights::new(out, input, kind);
        weights.pack_rows_f32(0, &vec![0.5; out * input]);
        let mut x = Mat::new(ROWS, input);
        x.as_mut_slice().fill(0.25);
        Self {
            kernels,
            weights,
            x,
            out: Mat::new(ROWS, out),
            best: f64::INFINITY,
        }
    }

    fn call(&mut self) {
        let start = Instant::now();
        let (x, out) = (self.x.view(), self.out.view_mut());
        self.kernels.gemm(x, &self.weights, None, Store::Set, out);
        self.best = self.best.min(start.elapsed().as_secs_f64());
    }

    fn rate(&self) -> f64 {
        let operations = 2 * ROWS * self.weights.n() * self.weights.k();
        operations as f64 / self.best.max(1e-9)
    }
}
