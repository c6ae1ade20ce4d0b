//! What a branch computes: one file a mechanism, with its struct and its facts.
//!
//! Everything that is to be known of a mechanism without running it stands behind [`Mechanism`]: which weights it
//! uses, what it sees, what it keeps, what it costs, what it is called. Plans, masks, sharing, tables and
//! documents are loops over these facts. A further mechanism is a file here, an arm in [`Mixer::facts`] and
//! [`Mixer::facts_mut`], and a file in the engine's `mixers/`.

mod attention;
mod feed_forward;
mod identity;
mod latent_attention;
mod layer_input;
mod linear;
mod low_rank;
mod mixture_of_attention;
mod mixture_of_experts;
mod router;
mod sparse_feed_forward;
mod state;
mod streams;
mod uses;

use serde::Serialize;

use crate::model::{Cut, Linear, Mask, Norm, RelativeBuckets};
use crate::rope::Rope;

pub use self::attention::{
    Attention, Differential, DynamicMask, HeadNorm, KeyValue, NormSpan, OutputGate,
};
pub use self::feed_forward::{ClampedGate, FeedForward, Xielu};
pub use self::identity::Identity;
pub use self::latent_attention::{Indexer, KeySelection, LatentAttention};
pub use self::layer_input::LayerInput;
pub use self::low_rank::LowRank;
pub use self::mixture_of_attention::MixtureOfAttention;
pub use self::mixture_of_experts::MixtureOfExperts;
pub use self::router::{Renormalize, Router, RouterGroups, RouterScore};
pub use self::sparse_feed_forward::SparseFeedForward;
pub use self::state::StateSpec;
pub use self::streams::{StreamUpdate, Streams};
pub use self::uses::Uses;

/// What a branch computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Mixer {
    /// Multi-head attention.
    Attention(Box<Attention>),
    /// Multi-head latent attention (DeepSeek-V2).
    LatentAttention(Box<LatentAttention>),
    /// Feed-forward network.
    FeedForward(FeedForward),
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
    /// The layer's own input enters.
    LayerInput(LayerInput),
    /// All residual streams from all (AltUp); what it computes is no output but the streams.
    Streams(Streams),
    /// The slot's content, unchanged.
    Identity(Identity),
}

impl Mixer {
    /// What is known of the mechanism.
    pub fn facts(&self) -> &dyn Mechanism {
        match self {
            Self::Attention(attention) => attention.as_ref(),
            Self::LatentAttention(attention) => attention.as_ref(),
            Self::FeedForward(network) => network,
            Self::MixtureOfExperts(experts) => experts.as_ref(),
            Self::MixtureOfAttention(attention) => attention.as_ref(),
            Self::Linear(linear) => linear,
            Self::SparseFeedForward(sparse) => sparse,
            Self::LowRank(product) => product,
            Self::LayerInput(input) => input,
            Self::Streams(streams) => streams,
            Self::Identity(identity) => identity,
        }
    }

    /// The same, to change it.
    pub fn facts_mut(&mut self) -> &mut dyn Mechanism {
        match self {
            Self::Attention(attention) => attention.as_mut(),
            Self::LatentAttention(attention) => attention.as_mut(),
            Self::FeedForward(network) => network,
            Self::MixtureOfExperts(experts) => experts.as_mut(),
            Self::MixtureOfAttention(attention) => attention.as_mut(),
            Self::Linear(linear) => linear,
            Self::SparseFeedForward(sparse) => sparse,
            Self::LowRank(product) => product,
            Self::LayerInput(input) => input,
            Self::Streams(streams) => streams,
            Self::Identity(identity) => identity,
        }
    }
}

/// Which of several equal keys are chosen follows from how many there are in all.
const CHOICE_OF_KEYS: &str = "the choice of keys depends on a record's length";

/// The facts of a mechanism. What most of them have none of has a default.
pub trait Mechanism {
    /// Collects the weights that it uses, in the order of use.
    fn weights(&self, uses: &mut Uses);

    /// What it is, for the table of architectures.
    fn label(&self) -> String;

    /// What it is, with its sizes.
    fn summary(&self) -> String;

    /// Where its output is looked at, if it is.
    fn site(&self) -> Option<Site> {
        None
    }

    /// Which keys a row sees; `None`: nothing but itself.
    fn mask(&self) -> Option<Mask> {
        None
    }

    /// Has the rows see what comes after them too; `false`: that is not known to be right.
    fn look_ahead(&mut self) -> bool {
        true
    }

    /// Its rotations, each as often as it is used.
    fn ropes(&self) -> Vec<&Rope> {
        Vec::new()
    }

    /// How positions enter.
    fn positions(&self) -> Vec<&'static str> {
        let ropes = self.ropes();
        ropes.into_iter().map(Rope::label).collect()
    }

    /// Addends by distance that it looks up.
    fn buckets(&self) -> Option<&RelativeBuckets> {
        None
    }

    /// Norms inside of it, and of what they are.
    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        Vec::new()
    }

    /// How its rows choose experts, which is why all rows of a super-batch run together.
    fn routing(&self) -> Option<Routing<'_>> {
        None
    }

    /// The keys and values that its rows attend to.
    fn keys(&self) -> Option<Keys> {
        None
    }

    /// The layer (0-based) whose keys and values it uses.
    fn keys_of_layer(&self) -> Option<usize> {
        None
    }

    /// What it must know of the rows of its record before the first one that it is given. Those whose keys and
    /// values are another layer's leave none.
    fn states(&self) -> Vec<StateSpec> {
        let keys = self.keys().filter(|_| self.keys_of_layer().is_none());
        let rows = keys.map(|keys| StateSpec::Rows {
            columns: keys.heads * keys.seen(),
        });
        rows.into_iter().collect()
    }

    /// Where a record's rows may be cut.
    fn cut(&self) -> Cut {
        Cut::Anywhere
    }

    /// Keys that a query chooses among those it sees, at most.
    fn chosen_keys(&self) -> Option<usize> {
        None
    }

    /// Floating-point operations beside the products of every row with the matrices of its layer.
    fn operations(&self) -> Operations {
        Operations::default()
    }

    /// Columns that lie between its products; `hidden`: features of its input.
    fn columns_between(&self, hidden: usize) -> usize {
        hidden
    }

    /// Why its results depend on the length of the whole record, in records of at most `longest` tokens.
    fn depends_on_length(&self, longest: usize) -> Option<&'static str> {
        let mut ropes = self.ropes().into_iter();
        ropes.find_map(|rope| rope.turns_by_length(longest))
    }

    /// Whether it changes the residual streams itself, as a step of its own, and has no output.
    fn is_in_place(&self) -> bool {
        false
    }
}

/// Places of a model where activations are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Site {
    /// The hidden state between layers.
    Hidden,
    /// The output of an attention.
    Attention,
    /// The output of a feed-forward network or of experts.
    Mlp,
}

impl Site {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Hidden, Self::Attention, Self::Mlp];

    /// The name in `profile.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
        }
    }
}

/// How the rows of a mechanism choose among experts.
#[derive(Clone, Copy, Debug)]
pub struct Routing<'a> {
    /// The choice.
    pub router: &'a Router,
    /// Experts that it chooses from.
    pub experts: usize,
    /// The choice is one of feed-forward experts, which is a result.
    pub is_shown: bool,
}

/// Keys and values of an attention, for every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Heads.
    pub heads: usize,
    /// Features of a key.
    pub key: usize,
    /// Features of a value.
    pub value: usize,
    /// Every head sees two values side by side.
    pub is_paired: bool,
}

impl Keys {
    /// Features of the key and the value that a head sees.
    pub fn seen(self) -> usize {
        self.key + self.value * (1 + usize::from(self.is_paired))
    }
}

/// Floating-point operations, two for every multiply-add.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operations {
    /// For each row: products with the experts that it chose.
    pub of_row: f64,
    /// For each pair of a row and a row that it sees.
    pub of_pair: f64,
}
