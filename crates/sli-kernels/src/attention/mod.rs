//! Attention over packed ragged sequences: a running softmax over blocks of keys.
//!
//! Keys are taken in blocks of 256 positions, counted from the first key of the sequence, so that the
//! order of every sum depends on positions only. A key that a query does not see contributes an exact
//! zero, whether its block is computed for the sake of other queries or not.

mod arguments;
mod block;
mod mask;
mod pack;
mod schedule;
mod softmax;

pub use arguments::{AttentionArgs, BiasFn, BiasSite, CommonKeys, Running, Segment, Sinks};
pub use mask::AttentionMask;

use crate::clock::Stage;
use crate::gemm::tile::{F32Panel, PairPanel};
use crate::kernels::Kernels;
use crate::kind::Compute;
use crate::mat::MatMut;

impl Kernels {
    /// Attention, `out` `[tokens_q, heads * v_dim]`. A query that sees no key gives zeros.
    ///
    /// With [`Compute::Bf16`](crate::Compute::Bf16) queries, keys, values and probabilities are
    /// rounded to bf16 as factors; sums are `f32`. Keys and values must be finite.
    pub fn attention(&self, args: &AttentionArgs, out: MatMut) {
        let _lap = self.lap(Stage::Attention);
        args.check(&out);
        match self.compute() {
            Compute::F32 => schedule::run::<F32Panel>(self, args, &out),
            Compute::Bf16 => schedule::run::<PairPanel>(self, args, &out),
        }
    }
}
