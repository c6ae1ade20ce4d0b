//! What a branch computes: one file a mechanism, with its struct and its facts.
//!
//! Everything that is to be known of a mechanism without running it stands behind [`Mechanism`]: which weights it
//! uses, what it sees, what it keeps, what it costs, what it is called. Plans, masks, sharing, tables and
//! documents are loops over these facts. A further mechanism is a file here, an arm in [`Mixer::facts`], and a file in the engine's `mixers/`.

mod added_rows;
mod attention;
mod bernoulli_attention;
mod beside;
mod block_choice;
mod by_kind;
mod compressed_attention;
mod conformer_convolution;
mod contradiction;
mod delta_mix;
mod feed_forward;
mod fourier;
mod gated_delta;
mod gated_lru;
mod global_local;
mod global_tokens;
mod identity;
mod latent_attention;
mod layer_input;
mod layout_attention;
mod lightning_attention;
mod linear;
mod low_rank;
mod low_rank_gate;
mod matrix_memory;
mod matrix_mix;
mod mechanism;
mod mixing;
mod mixture_of_attention;
mod mixture_of_experts;
mod neighbourhood;
mod ngram_input;
mod normed_convolution;
mod router;
mod row_convolution;
mod selective_scan;
mod short_convolution;
mod sparse_feed_forward;
mod state;
mod state_space_dual;
mod stream_attention;
mod streams;
mod tile_row;
mod time_mix;
mod transient_global;
mod uses;

use serde::Serialize;

use crate::parts::Linear;

pub use self::added_rows::AddedRows;
pub use self::attention::{Attention, Bottleneck, Differential, DynamicMask, KeyValue, OutputGate};
pub use self::bernoulli_attention::BernoulliAttention;
pub use self::beside::{Beside, SpanConvolution, ValueConvolution};
pub use self::block_choice::{BlockChoice, BlockScore};
pub use self::by_kind::{ByKind, KindProjections, TokenKind};
pub use self::compressed_attention::{CompressedAttention, Compressor, SummaryChoice};
pub use self::conformer_convolution::ConformerConvolution;
pub use self::delta_mix::DeltaMix;
pub use self::feed_forward::{ClampedGate, FeedForward, Xielu};
pub use self::fourier::Fourier;
pub use self::gated_delta::{Factored, ForgetGate, GatedDelta};
pub use self::gated_lru::GatedLru;
pub use self::global_local::GlobalLocal;
pub use self::global_tokens::GlobalTokens;
pub use self::identity::Identity;
pub use self::latent_attention::{
    HandedLatent, Indexer, KeyPool, KeySelection, LatentAttention, Pools,
};
pub use self::layer_input::LayerInput;
pub use self::layout_attention::{LayoutAttention, LayoutStream};
pub use self::lightning_attention::{DecayTables, LightningAttention};
pub use self::low_rank::LowRank;
pub use self::low_rank_gate::LowRankGate;
pub use self::matrix_memory::MatrixMemory;
pub use self::matrix_mix::{MatrixMix, Mixtures, RowMixtures};
pub use self::mechanism::{Keys, Mechanism, Operations, Routing, Site, StackEnd};
pub use self::mixing::{CompressedMixing, Mixing};
pub use self::mixture_of_attention::MixtureOfAttention;
pub use self::mixture_of_experts::{LatentExperts, MixtureOfExperts};
pub use self::neighbourhood::Neighbourhood;
pub use self::ngram_input::NgramInput;
pub use self::normed_convolution::NormedConvolution;
pub use self::router::{
    ExpertTable, Renormalize, Router, RouterGroups, RouterNetwork, RouterScore,
};
pub use self::row_convolution::RowConvolution;
pub use self::selective_scan::{Selection, SelectionNorms, SelectiveScan};
pub use self::short_convolution::ShortConvolution;
pub use self::sparse_feed_forward::SparseFeedForward;
pub use self::state::StateSpec;
pub use self::state_space_dual::{GatedNorm, StateSpaceDual};
pub use self::stream_attention::StreamAttention;
pub use self::streams::{StreamUpdate, Streams};
pub use self::tile_row::TileRow;
pub use self::time_mix::{ChannelMix, TimeMix};
pub use self::transient_global::TransientGlobal;
pub use self::uses::Uses;

/// What a branch computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixer {
    /// Multi-head attention.
    Attention(Box<Attention>),
    /// Attention to a window and to sums of blocks (LongT5).
    TransientGlobal(Box<TransientGlobal>),
    /// Attention within blocks, and through rows in front (PEGASUS-X).
    GlobalLocal(Box<GlobalLocal>),
    /// Attention to a window, and to and from tokens that a record marks (Longformer).
    GlobalTokens(Box<GlobalTokens>),
    /// Multi-head latent attention (DeepSeek-V2).
    LatentAttention(Box<LatentAttention>),
    /// Attention to a window and to summaries (DeepSeek-V4).
    CompressedAttention(Box<CompressedAttention>),
    /// Feed-forward network.
    FeedForward(FeedForward),
    /// A feed-forward network for the tokens of pictures, and one for all others (CogVLM).
    ByKind(Box<ByKind>),
    /// Mixture of experts.
    MixtureOfExperts(Box<MixtureOfExperts>),
    /// Attention with projections that are experts.
    MixtureOfAttention(Box<MixtureOfAttention>),
    /// One linear map (Nemotron-NAS, in the place of a whole sublayer).
    Linear(Linear),
    /// A feed-forward network of which only the largest gates count.
    SparseFeedForward(SparseFeedForward),
    /// `up(down(x))`.
    LowRank(LowRank),
    /// `x * sigmoid(up(activation(down(x))))`.
    LowRankGate(LowRankGate),
    /// The layer's own input enters.
    LayerInput(LayerInput),
    /// Features of n-grams enter (Qwen4-Exp).
    NgramInput(Box<NgramInput>),
    /// All residual streams from all (AltUp); what it computes is no output but the streams.
    Streams(Streams),
    /// The selective scan of Mamba.
    SelectiveScan(Box<SelectiveScan>),
    /// The scan of Mamba-2.
    StateSpaceDual(Box<StateSpaceDual>),
    /// The gated delta rule (Gated DeltaNet, Kimi delta attention).
    GatedDelta(Box<GatedDelta>),
    /// The Fourier transform in the place of attention.
    Fourier(Fourier),
    /// A convolution over a row and its neighbours on both sides.
    Neighbourhood(Neighbourhood),
    /// A convolution of every feature, with norms of fixed statistics.
    NormedConvolution(NormedConvolution),
    /// The convolution of a conformer.
    ConformerConvolution(Box<ConformerConvolution>),
    /// Lightning attention (MiniMax-01).
    LightningAttention(Box<LightningAttention>),
    /// The gated linear recurrent unit of Griffin.
    GatedLru(Box<GatedLru>),
    /// The short convolution of LFM2.
    ShortConvolution(ShortConvolution),
    /// A convolution over the last rows, by itself.
    RowConvolution(RowConvolution),
    /// Residual streams of a row from its earlier ones.
    StreamAttention(StreamAttention),
    /// The weighted mean of RWKV 4.
    TimeMix(Box<TimeMix>),
    /// The attention of RWKV 5 and 6.
    MatrixMix(Box<MatrixMix>),
    /// The attention of RWKV 7.
    DeltaMix(Box<DeltaMix>),
    /// The matrix memory of xLSTM.
    MatrixMemory(Box<MatrixMemory>),
    /// The network of RWKV 4 to 7.
    ChannelMix(ChannelMix),
    /// Attention by how likely hashes are the same (YOSO).
    BernoulliAttention(Box<BernoulliAttention>),
    /// Attention of text and layout together (LiLT); what it computes is no output but both streams.
    LayoutAttention(Box<LayoutAttention>),
    /// Rows of an earlier stack enter.
    AddedRows(AddedRows),
    /// A row of a table enters, by the tile that a row of a picture is of.
    TileRow(TileRow),
    /// The slot's content, unchanged.
    Identity(Identity),
}

impl Mixer {
    /// What is known of the mechanism.
    pub fn facts(&self) -> &dyn Mechanism {
        match self {
            Self::Attention(attention) => attention.as_ref(),
            Self::TransientGlobal(attention) => attention.as_ref(),
            Self::GlobalLocal(attention) => attention.as_ref(),
            Self::GlobalTokens(attention) => attention.as_ref(),
            Self::LatentAttention(attention) => attention.as_ref(),
            Self::CompressedAttention(attention) => attention.as_ref(),
            Self::FeedForward(network) => network,
            Self::ByKind(networks) => networks.as_ref(),
            Self::MixtureOfExperts(experts) => experts.as_ref(),
            Self::MixtureOfAttention(attention) => attention.as_ref(),
            Self::Linear(linear) => linear,
            Self::SparseFeedForward(sparse) => sparse,
            Self::LowRank(product) => product,
            Self::LowRankGate(gate) => gate,
            Self::LayerInput(input) => input,
            Self::AddedRows(rows) => rows,
            Self::TileRow(row) => row,
            Self::NgramInput(input) => input.as_ref(),
            Self::Streams(streams) => streams,
            Self::SelectiveScan(scan) => scan.as_ref(),
            Self::StateSpaceDual(scan) => scan.as_ref(),
            Self::GatedDelta(delta) => delta.as_ref(),
            Self::Fourier(transform) => transform,
            Self::Neighbourhood(convolution) => convolution,
            Self::NormedConvolution(convolution) => convolution,
            Self::ConformerConvolution(convolution) => convolution.as_ref(),
            Self::LightningAttention(attention) => attention.as_ref(),
            Self::GatedLru(unit) => unit.as_ref(),
            Self::ShortConvolution(convolution) => convolution,
            Self::RowConvolution(convolution) => convolution,
            Self::StreamAttention(attention) => attention,
            Self::TimeMix(mix) => mix.as_ref(),
            Self::MatrixMix(mix) => mix.as_ref(),
            Self::DeltaMix(mix) => mix.as_ref(),
            Self::MatrixMemory(memory) => memory.as_ref(),
            Self::ChannelMix(mix) => mix,
            Self::BernoulliAttention(attention) => attention.as_ref(),
            Self::LayoutAttention(attention) => attention.as_ref(),
            Self::Identity(identity) => identity,
        }
    }
}
