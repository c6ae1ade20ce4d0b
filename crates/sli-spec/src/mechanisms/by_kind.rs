//! Weights of their own for the tokens of pictures.

use serde::Serialize;

use super::{FeedForward, Mechanism, Site, Uses};
use crate::parts::Linear;
use crate::source::WeightIndex;

/// Which tokens of a text have weights of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TokenKind {
    /// The token of this id where the next one is of it too (CogVLM).
    Run(u32),
    /// The first rows of every view, so many: those of a table, in front of what is asked of it (InstructBLIP).
    Learned(usize),
}

/// Projections of an attention for the tokens of a kind, in the place of those of all others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindProjections {
    /// Which tokens.
    pub kind: TokenKind,
    /// `[heads * head_dim, hidden]`.
    pub query: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub key: Linear,
    /// `[kv_heads * value_dim, hidden]`.
    pub value: Linear,
    /// `[hidden, heads * value_dim]`.
    pub output: Linear,
}

/// A feed-forward network for the tokens of a kind, and one for all others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByKind {
    /// Which tokens.
    pub kind: TokenKind,
    /// Of all others, and of these.
    pub networks: [FeedForward; 2],
}

impl Mechanism for ByKind {
    fn alike(&self) -> Vec<Vec<WeightIndex>> {
        self.networks.iter().flat_map(Mechanism::alike).collect()
    }

    fn weights(&self, uses: &mut Uses) {
        for network in &self.networks {
            network.weights(uses);
        }
    }

    fn label(&self) -> String {
        format!("{}, for pictures apart", self.networks[0].label())
    }

    fn summary(&self) -> String {
        format!("{}, for pictures apart", self.networks[0].summary())
    }

    fn contradiction(&self) -> Option<&'static str> {
        self.networks.iter().find_map(Mechanism::contradiction)
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Mlp)
    }

    fn columns_between(&self, hidden: usize) -> usize {
        let networks = self.networks.iter();
        let columns = networks.map(|network| network.columns_between(hidden));
        columns.max().unwrap_or(0)
    }
}
