//! CPU kernels: matrix product, attention, norms, rotary embedding, activations, and the reductions
//! of a vocabulary head, on row-major `f32` matrices `[tokens, features]`.
//!
//! The one invariant of the crate: **every output element has bits that depend only on its own row of
//! inputs**, never on how many rows there are, how rows or columns are split over calls, or how many
//! threads work on them. Each sum has one order, fixed by the row's length (for a given [`Isa`]).

#![expect(
    clippy::inline_always,
    reason = "code must be inlined where its instruction set is switched on"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "a mutable view is passed on like `&mut`: by value"
)]

mod activation;
mod allocation;
mod attention;
mod clock;
mod connection;
mod decoding;
mod element;
mod gemm;
mod head;
mod isa;
mod kernels;
mod kind;
mod mat;
pub mod measure;
mod moves;
mod neighbours;
mod norm;
mod packing;
mod rotary;
mod rows;
mod scan;
mod signals;
mod simd;
mod top_k;
mod weights;

pub use activation::{Activation, Clamped};
pub use allocation::{return_free_memory, return_large_blocks};
pub use attention::{
    AttentionArgs, AttentionMask, BiasFn, BiasSite, CommonKeys, Running, Segment, Sinks,
};
pub use clock::Stage;
pub use connection::{Connection, Expand};
pub use decoding::{Vectorized, Vectors};
pub use element::{Element, first_non_finite};
pub use gemm::{PackedActivations, Store};
pub use head::{LSE_BLOCK, LseState};
pub use isa::Isa;
pub use kernels::Kernels;
pub use kind::{Compute, PackedKind};
pub use mat::{Mat, MatMut, MatRef};
pub use moves::HeadParts;
pub use neighbours::Taps;
pub use rotary::{RotaryShape, RotaryStyle};
pub use rows::softmax;
pub use scan::{
    BlockAttention, Decay, Forget, GatedLru, LinearAttention, SelectiveScan, StateSpaceDual,
    Update, Windows,
};
pub use signals::survive_file_size_limit;
pub use top_k::TopK;
pub use weights::PackedWeights;
