//! Attention to the nearest rows and to summaries of all earlier ones.

use serde::Serialize;

use super::contradiction::first_of;
use super::{Keys, Mechanism, Operations, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Linear, Mask, Norm};
use crate::source::WeightIndex;

/// DeepSeek-V4's attention (2026): keys are values, one head of them serves all queries; a query sees those of a window,
/// and, where there are summaries, of each whole window of `rate` earlier rows one entry. What rotates in the keys turns
/// back in the heads' outputs, which are projected group by group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompressedAttention {
    /// Query heads.
    pub heads: usize,
    /// Features of a head, and of the only key and value.
    pub head_dim: usize,
    /// `[q_rank, hidden]` and its norm.
    pub query_down: (Linear, Norm),
    /// `[heads * head_dim, q_rank]`.
    pub query: Linear,
    /// Of each query head.
    pub query_norm: Norm,
    /// `[head_dim, hidden]`.
    pub key: Linear,
    /// Norm of the key.
    pub key_norm: Norm,
    /// Rotation of queries and keys.
    pub rope: Rope,
    /// The rotation of the heads' outputs, by which that of the values turns back.
    pub output_rope: Rope,
    /// Rows that a query sees, its own included.
    pub window: usize,
    /// Factor on `q k`.
    pub scale: f64,
    /// A learned logit per head that only enters the denominator `[heads]`.
    pub sinks: WeightIndex,
    /// Entries of earlier rows.
    pub summaries: Option<Compressor>,
    /// Which of them a query sees, where not all.
    pub choice: Option<SummaryChoice>,
    /// `[rank, heads * head_dim / groups]` for each group of heads.
    pub output_down: Vec<Linear>,
    /// `[hidden, groups * rank]`.
    pub output: Linear,
}

/// How windows of rows become an entry each: their projections' mean, weighted feature by feature by the softmax over the
/// window of `gate x + bias`, normed, and rotated as the window's first row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compressor {
    /// Rows of a window.
    pub rate: usize,
    /// Features of an entry.
    pub width: usize,
    /// An entry takes in the window before its own too: rows give `width` features to the next window, then `width` to
    /// their own.
    pub overlaps: bool,
    /// `[columns, hidden]`.
    pub value: Linear,
    /// `[columns, hidden]`.
    pub gate: Linear,
    /// `[rate * columns]`: an addend for each place in the window.
    pub bias: WeightIndex,
    /// Of an entry.
    pub norm: Norm,
    /// Of an entry.
    pub rope: Rope,
}

/// An indexer of entries: `score(i, w) = sum_h weight_h(i) * relu(q_h(i) k(w) / sqrt(width)) / sqrt(heads)`, with entries of
/// its own as keys; the `top_k` best of the whole windows stay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SummaryChoice {
    /// Query heads.
    pub heads: usize,
    /// `[heads * width, q_rank]`, of the normed query latent.
    pub query: Linear,
    /// Rotation of the queries.
    pub rope: Rope,
    /// The keys.
    pub keys: Compressor,
    /// `[heads, hidden]`.
    pub weights: Linear,
    /// Entries per query, at most.
    pub top_k: usize,
}

impl Compressor {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            rate: _,
            width: _,
            overlaps: _,
            value,
            gate,
            bias,
            norm,
            rope: _,
        } = self;
        uses.linear(value);
        uses.linear(gate);
        uses.weight(*bias);
        uses.norm(Some(norm));
    }

    /// Columns of what rows are projected to.
    pub fn columns(&self) -> usize {
        self.width * (1 + usize::from(self.overlaps))
    }
}

impl SummaryChoice {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            heads: _,
            query,
            rope: _,
            keys,
            weights,
            top_k: _,
        } = self;
        keys.weights(uses);
        uses.linear(query);
        uses.linear(weights);
    }
}

impl Mechanism for CompressedAttention {
    fn weights(&self, uses: &mut Uses) {
        let CompressedAttention {
            heads: _,
            head_dim: _,
            query_down: (down, norm),
            query,
            query_norm,
            key,
            key_norm,
            rope: _,
            output_rope: _,
            window: _,
            scale: _,
            sinks,
            summaries,
            choice,
            output_down,
            output,
        } = self;
        uses.linear(down);
        uses.norm(Some(norm));
        uses.linear(query);
        uses.norm(Some(query_norm));
        uses.linear(key);
        uses.norm(Some(key_norm));
        if let Some(summaries) = summaries {
            summaries.weights(uses);
        }
        if let Some(choice) = choice {
            choice.weights(uses);
        }
        uses.weight(*sinks);
        for linear in output_down {
            uses.linear(linear);
        }
        uses.linear(output);
    }

    fn label(&self) -> String {
        let seen = match (&self.summaries, &self.choice) {
            (None, _) => "",
            (Some(_), None) => " and summaries",
            (Some(_), Some(_)) => " and summaries chosen by an indexer",
        };
        format!("attention: one latent key, causal window{seen}")
    }

    fn summary(&self) -> String {
        let seen = self
            .summaries
            .as_ref()
            .map_or_else(String::new, |summaries| {
                format!(", summaries of {} rows", summaries.rate)
            });
        format!(
            "attention ({} heads, one key of {}, window {}{seen})",
            self.heads, self.head_dim, self.window
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let wide = self.heads * self.head_dim;
        let groups = self.output_down.iter().map(|down| down.in_features);
        let rates = self.summaries.as_ref().zip(self.choice.as_ref());
        let other = rates.is_some_and(|(summaries, choice)| summaries.rate != choice.keys.rate);
        first_of(&[
            (
                groups.sum::<usize>() != wide,
                "groups of other heads than these",
            ),
            (
                self.choice.is_some() && self.summaries.is_none(),
                "a choice among summaries that are not there",
            ),
            (other, "a choice among other summaries"),
        ])
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Attention)
    }

    fn mask(&self) -> Option<Mask> {
        Some(match self.summaries {
            // Every earlier row, a few at a time.
            Some(_) => Mask::Causal,
            None => Mask::CausalWindow(self.window),
        })
    }

    fn ropes(&self) -> Vec<&Rope> {
        let choice = self.choice.as_ref();
        let choice = choice.map(|choice| [&choice.rope, &choice.keys.rope]);
        let summaries = self.summaries.iter().map(|summaries| &summaries.rope);
        let own = [&self.rope, &self.output_rope].into_iter();
        own.chain(summaries)
            .chain(choice.into_iter().flatten())
            .collect()
    }

    fn positions(&self) -> Vec<&'static str> {
        vec![self.rope.label()]
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        vec![(&self.query_norm, "of each query head")]
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys {
            queries: self.heads,
            heads: 1,
            key: self.head_dim,
            value: self.head_dim,
            is_paired: false,
        })
    }

    fn cut(&self) -> Cut {
        match self.summaries {
            Some(_) => Cut::Nowhere(SUMMARIES),
            None => Cut::Anywhere,
        }
    }

    fn operations(&self) -> Operations {
        let attended = (4 * self.heads * self.head_dim) as f64;
        let Some(summaries) = &self.summaries else {
            return Operations {
                of_row: 0.0,
                of_pair: attended,
                weights_of_pair: self.heads as f64,
            };
        };
        let scores = self.choice.as_ref();
        let scores = scores.map_or(0, |choice| 2 * choice.heads * choice.keys.width);
        let share = 1.0 / summaries.rate as f64;
        Operations {
            of_row: attended * self.window as f64,
            of_pair: (attended + scores as f64) * share,
            weights_of_pair: self.heads as f64 * share,
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        3 * self.heads * self.head_dim
    }

    fn depends_on_length(&self, longest: usize) -> Option<&'static str> {
        if self.summaries.is_some() {
            return Some(SUMMARIES);
        }
        let mut ropes = self.ropes().into_iter();
        ropes.find_map(|rope| rope.turns_by_length(longest))
    }
}

/// Why records are run as a whole.
const SUMMARIES: &str = "summaries are made of whole records";
