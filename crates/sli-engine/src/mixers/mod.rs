//! What a branch computes: one file a mechanism, with its buffers and its run side by side.
//!
//! What is to be known of a mechanism without running it are its facts, [`sli_spec::Mechanism`].

mod added_rows;
mod along;
mod attention;
mod axes;
mod bernoulli_attention;
mod beside;
mod block_choice;
pub(crate) mod buffers;
mod by_kind;
mod choice;
mod compressed_attention;
mod conformer_convolution;
mod delta_mix;
mod differential;
mod distance_profiles;
mod distance_vectors;
mod dynamic_mask;
mod experts;
pub(crate) mod feed_forward;
mod fourier;
mod gated_delta;
mod gated_lru;
mod global_local;
mod global_tokens;
mod identity;
mod indexer;
mod key_convolution;
mod keys;
mod latent_attention;
mod layer_input;
mod layout_attention;
mod lightning_attention;
mod linear;
mod low_rank;
mod low_rank_gate;
mod mask;
mod matrix_memory;
mod matrix_mix;
mod merged;
mod mixing;
mod mixture_of_attention;
mod mixture_of_experts;
mod neighbourhood;
mod ngram_input;
mod normed_convolution;
mod page;
mod product_keys;
mod records;
mod relative_buckets;
mod rotation;
mod router;
mod routes;
mod row_convolution;
mod selective_scan;
mod short_convolution;
mod sparse_blocks;
mod sparse_feed_forward;
mod state_space_dual;
pub(crate) mod stream_attention;
pub(crate) mod streams;
mod tile_row;
mod time_mix;
mod top_keys;
mod transient_global;
mod two_parts;

pub(crate) use merged::end_of;

use sli_kernels::{Activation as Kernel, Mat, MatRef};
use sli_spec::{Activation, Mixer};

use crate::error::EngineError;
use crate::exec::probe::Probe;
use crate::exec::states::MixerId;
use crate::exec::{BoundLayer, Kept, Rows, Scratch, Slots};
use buffers::Buffers;

/// How a mechanism runs.
pub(crate) trait Mix {
    /// The scratch buffers that it uses; `hidden`: features of its input.
    fn buffers(&self, hidden: usize) -> Buffers;

    /// `output = mixer(x)`; x is `[rows, hidden]`.
    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError>;

    /// Leaves its keys and values with the states, where its rows need those of later ones
    /// ([`sli_spec::Cut::KeysFirst`]).
    fn keys(&self, _at: &mut At<'_>, _x: MatRef<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    /// Changes the residual streams itself, where the mechanism is one that does
    /// ([`sli_spec::Mechanism::is_in_place`]).
    fn run_in_place(
        &self,
        _layer: &BoundLayer<'_>,
        _rows: Rows<'_>,
        _slots: &mut Slots,
        _scratch: &mut Scratch,
    ) -> Result<(), EngineError> {
        let problem = "the mechanism changes no residual streams";
        Err(EngineError::Internal(problem.into()))
    }
}

/// Where a mechanism runs and what it runs with.
pub(crate) struct At<'a> {
    /// The layer and its weights.
    pub layer: &'a BoundLayer<'a>,
    /// Which mechanism of the layer it is.
    pub mixer: MixerId,
    /// The rows of the batch that run.
    pub rows: Rows<'a>,
    /// All buffers of the batch, as they are in front of the step.
    pub slots: &'a Slots,
    /// What outlives the layer.
    pub kept: &'a mut Kept,
    /// Buffers to use again.
    pub scratch: &'a mut Scratch,
    /// Is shown what is computed on the way.
    pub probe: &'a mut dyn Probe,
}

/// How the mechanism of a branch runs.
pub(crate) fn of(mixer: &Mixer) -> &dyn Mix {
    match mixer {
        Mixer::Attention(attention) => attention.as_ref(),
        Mixer::TransientGlobal(attention) => attention.as_ref(),
        Mixer::GlobalLocal(attention) => attention.as_ref(),
        Mixer::GlobalTokens(attention) => attention.as_ref(),
        Mixer::LatentAttention(attention) => attention.as_ref(),
        Mixer::CompressedAttention(attention) => attention.as_ref(),
        Mixer::FeedForward(network) => network,
        Mixer::ByKind(networks) => networks.as_ref(),
        Mixer::MixtureOfExperts(experts) => experts.as_ref(),
        Mixer::MixtureOfAttention(attention) => attention.as_ref(),
        Mixer::Linear(linear) => linear,
        Mixer::SparseFeedForward(sparse) => sparse,
        Mixer::LowRank(product) => product,
        Mixer::LowRankGate(gate) => gate,
        Mixer::AddedRows(rows) => rows,
        Mixer::TileRow(row) => row,
        Mixer::LayerInput(input) => input,
        Mixer::NgramInput(input) => input.as_ref(),
        Mixer::Streams(streams) => streams,
        Mixer::SelectiveScan(scan) => scan.as_ref(),
        Mixer::StateSpaceDual(scan) => scan.as_ref(),
        Mixer::GatedDelta(delta) => delta.as_ref(),
        Mixer::Fourier(transform) => transform,
        Mixer::Neighbourhood(convolution) => convolution,
        Mixer::NormedConvolution(convolution) => convolution,
        Mixer::ConformerConvolution(convolution) => convolution.as_ref(),
        Mixer::LightningAttention(attention) => attention.as_ref(),
        Mixer::GatedLru(unit) => unit.as_ref(),
        Mixer::ShortConvolution(convolution) => convolution,
        Mixer::RowConvolution(convolution) => convolution,
        Mixer::StreamAttention(attention) => attention,
        Mixer::TimeMix(mix) => mix.as_ref(),
        Mixer::MatrixMix(mix) => mix.as_ref(),
        Mixer::DeltaMix(mix) => mix.as_ref(),
        Mixer::MatrixMemory(memory) => memory.as_ref(),
        Mixer::ChannelMix(mix) => mix,
        Mixer::BernoulliAttention(attention) => attention.as_ref(),
        Mixer::LayoutAttention(attention) => attention.as_ref(),
        Mixer::Identity(identity) => identity,
    }
}

/// `ln(1 + e^x)`; `x` itself where that is all there is to see (torch's threshold).
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// The kernel of an activation.
pub(crate) fn kernel(activation: Activation) -> Kernel {
    match activation {
        Activation::Gelu => Kernel::Gelu,
        Activation::GeluTanh => Kernel::GeluTanh,
        Activation::Gelu10 => Kernel::Gelu10,
        Activation::QuickGelu => Kernel::QuickGelu,
        Activation::Relu => Kernel::Relu,
        Activation::Relu2 => Kernel::Relu2,
        Activation::Relu6 => Kernel::Relu6,
        Activation::Silu => Kernel::Silu,
        Activation::Sigmoid => Kernel::Sigmoid,
        Activation::Tanh => Kernel::Tanh,
        Activation::Softplus => Kernel::Softplus,
        Activation::Mish => Kernel::Mish,
        Activation::LeakyRelu => Kernel::LeakyRelu,
        Activation::HardSwish => Kernel::HardSwish,
        Activation::Laplace => Kernel::Laplace,
        Activation::Linear => Kernel::Identity,
    }
}
