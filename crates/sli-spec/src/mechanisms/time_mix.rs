//! The two halves of an RWKV 4 layer: what goes along the record, and the network behind it, both of a row and the
//! one before it.

use serde::Serialize;

use super::{Mechanism, Operations, Site, StateSpec, Uses};
use crate::parts::Linear;
use crate::source::WeightIndex;

/// The attention of RWKV 4 (Peng et al. 2023). Keys, values and receptances are projections of
/// `mix * x + (1 - mix) * (the row before)`; every channel has the mean of all values so far, weighed by
/// `exp(key - rate * distance)`, the own by `exp(key + first)`: `output (sigmoid(receptance) * mean)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeMix {
    /// Shares of the row itself for key, value and receptance `[hidden]` each.
    pub mix: [WeightIndex; 3],
    /// Key, value, receptance: `[channels, hidden]` each.
    pub projections: [Linear; 3],
    /// `ln(rate)` `[channels]`.
    pub decay: WeightIndex,
    /// Addend of the own key `[channels]`.
    pub first: WeightIndex,
    /// `[hidden, channels]`.
    pub output: Linear,
}

/// The network of RWKV 4 to 7: `sigmoid(receptance) * value(relu(key)^2)`, where key and receptance are projections of
/// `mix * x + (1 - mix) * (the row before)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChannelMix {
    /// Shares of the row itself for key and, where there is one, receptance `[hidden]` each.
    pub mix: Vec<WeightIndex>,
    /// They are shares of the row before (RWKV 6 and 7).
    pub of_before: bool,
    /// `[intermediate, hidden]`.
    pub key: Linear,
    /// `[hidden, hidden]`; RWKV 7 has none.
    pub receptance: Option<Linear>,
    /// `[hidden, intermediate]`.
    pub value: Linear,
}

impl ChannelMix {
    /// Columns of the rows that the next one needs.
    pub fn shifted(&self) -> usize {
        self.mix.len() * self.key.in_features
    }
}

impl TimeMix {
    /// Channels.
    pub fn channels(&self) -> usize {
        self.output.in_features
    }

    /// Features of a row.
    pub fn hidden(&self) -> usize {
        self.output.out_features
    }
}

impl Mechanism for TimeMix {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            mix,
            projections,
            decay,
            first,
            output,
        } = self;
        for &index in mix {
            uses.weight(index);
        }
        for projection in projections {
            uses.linear(projection);
        }
        uses.weight(*decay);
        uses.weight(*first);
        uses.linear(output);
    }

    fn label(&self) -> String {
        "weighted mean of RWKV 4".into()
    }

    fn summary(&self) -> String {
        format!("weighted mean ({} channels)", self.channels())
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Scan)
    }

    fn positions(&self) -> Vec<&'static str> {
        vec!["recurrence"]
    }

    fn states(&self) -> Vec<StateSpec> {
        let before = StateSpec::Window {
            rows: 1,
            columns: 3 * self.hidden(),
        };
        let means = StateSpec::Fixed {
            values: 3 * self.channels(),
        };
        vec![before, means]
    }

    fn operations(&self) -> Operations {
        // Exponentials count as one.
        Operations {
            of_row: (24 * self.channels() + 12 * self.hidden()) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, hidden: usize) -> usize {
        3 * (hidden + self.channels())
    }
}

impl Mechanism for ChannelMix {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            mix,
            of_before: _,
            key,
            receptance,
            value,
        } = self;
        for &index in mix {
            uses.weight(index);
        }
        for linear in std::iter::once(key).chain(receptance).chain([value]) {
            uses.linear(linear);
        }
    }

    fn label(&self) -> String {
        "feed-forward: of a row and the one before".into()
    }

    fn summary(&self) -> String {
        format!("feed-forward of two rows ({})", self.key.out_features)
    }

    fn contradiction(&self) -> Option<&'static str> {
        let mixtures = 1 + usize::from(self.receptance.is_some());
        (self.mix.len() != mixtures).then_some("not a mixture for each projection")
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Mlp)
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::Window {
            rows: 1,
            columns: self.shifted(),
        }]
    }

    fn columns_between(&self, hidden: usize) -> usize {
        3 * hidden + self.key.out_features
    }
}
