//! Feed-forward networks of which only the largest gates count.

use serde::Serialize;

use super::contradiction::first_of;
use super::{FeedForward, Mechanism, Site, Uses};

/// A gated network whose gates lose `mean + deviations * standard deviation` of their row and are cut
/// at 0 before the activation (Gemma 3n).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SparseFeedForward {
    /// The network.
    pub network: FeedForward,
    /// How far above the mean a gate has to be.
    pub deviations: f64,
}

impl Mechanism for SparseFeedForward {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            network,
            deviations: _,
        } = self;
        network.weights(uses);
    }

    fn label(&self) -> String {
        format!("sparse feed-forward: {}", self.network.kind())
    }

    fn summary(&self) -> String {
        format!(
            "sparse feed-forward, inner {}",
            self.network.up.out_features
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let own = (
            self.network.gate.is_none(),
            "the largest gates without a gate",
        );
        self.network.contradiction().or_else(|| first_of(&[own]))
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Mlp)
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        2 * self.network.up.out_features
    }
}
