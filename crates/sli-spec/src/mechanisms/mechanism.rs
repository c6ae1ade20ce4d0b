//! What is to be known of any mechanism.

use serde::Serialize;

use super::{Router, StateSpec, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Linear, Mask, Norm, RelativeBuckets, Slot};
use crate::source::WeightIndex;

/// Which of several equal keys are chosen follows from how many there are in all.
pub(super) const CHOICE_OF_KEYS: &str = "the choice of keys depends on a record's length";

/// The facts of a mechanism. What most of them have none of has a default.
pub trait Mechanism {
    /// Collects the weights that it uses, in the order of use.
    fn weights(&self, uses: &mut Uses);

    /// Matrices whose products have the same rows for input, in classes of two or more. What is not named is on its own.
    fn alike(&self) -> Vec<Vec<WeightIndex>> {
        Vec::new()
    }

    /// What it is, for the table of architectures.
    fn label(&self) -> String;

    /// What it is, with its sizes.
    fn summary(&self) -> String;

    /// Why it cannot be computed as it stands: what would be left out of account. Such a description is refused.
    fn contradiction(&self) -> Option<&'static str> {
        None
    }

    /// Where its output is looked at, if it is.
    fn site(&self) -> Option<Site> {
        None
    }

    /// Which keys a row sees; `None`: nothing but itself.
    fn mask(&self) -> Option<Mask> {
        None
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

    /// Whether the kinds of a record's tokens enter it.
    fn reads_kinds(&self) -> bool {
        false
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

    /// The end of an earlier stack that its keys and values come from.
    fn stack_end(&self) -> Option<StackEnd<'_>> {
        None
    }

    /// The earlier stack whose rows it adds.
    fn rows_of(&self) -> Option<usize> {
        None
    }

    /// Columns of what every row hands on to the same mechanism of later layers, and has of earlier ones.
    fn hands_on(&self) -> usize {
        0
    }

    /// What it must know of the rows of its record before the first one that it is given. Those whose keys and
    /// values are another layer's, or another stack's, leave none.
    fn states(&self) -> Vec<StateSpec> {
        let is_own =
            self.keys_of_layer().is_none() && self.stack_end().is_none_or(|end| end.beside_own);
        let keys = self.keys().filter(|_| is_own);
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

    /// Buffers that it uses beside the one that its step reads.
    fn slots(&self) -> Vec<Slot> {
        Vec::new()
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
    /// The output of a recurrence.
    Scan,
    /// The output of an attention to the end of another stack.
    CrossAttention,
}

impl Site {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [
        Self::Hidden,
        Self::Attention,
        Self::Mlp,
        Self::Scan,
        Self::CrossAttention,
    ];

    /// The name in `profile.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Scan => "scan",
            Self::CrossAttention => "cross_attention",
        }
    }
}

/// What a mechanism makes of the end of an earlier stack: projections of its rows of the same record.
#[derive(Clone, Copy, Debug)]
pub struct StackEnd<'a> {
    /// Which stack (0-based).
    pub stack: usize,
    /// Of keys and values.
    pub projections: [&'a Linear; 2],
    /// They are seen beside the layer's own, which the same projections make.
    pub beside_own: bool,
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
    /// Heads of the queries that attend to them.
    pub queries: usize,
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
    /// Weights of attention, each an exponential and none of the operations, for each such pair.
    pub weights_of_pair: f64,
}
