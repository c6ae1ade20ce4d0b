//! Attention to a window, and to and from tokens that are marked.

use serde::Serialize;

use super::contradiction::first_of;
use super::{Attention, Keys, Mechanism, Operations, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Linear, Mask, Norm};

/// Longformer's attention (Beltagy et al. 2020). A row sees the rows around it and all global ones; a global row sees
/// everything, with projections of its own. Which rows are global stands beside their tokens
/// ([`crate::InputKind::Marks`], in the first column).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GlobalTokens {
    /// Of every row: projections, and the window.
    pub attention: Attention,
    /// Queries of global rows, and the keys and values that they see: `[heads * head_dim, hidden]` each.
    pub projections: [Linear; 3],
}

const OF_WHOLE_RECORDS: &str = "tokens that are marked see all of it";

impl Mechanism for GlobalTokens {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            attention,
            projections,
        } = self;
        for linear in projections {
            uses.linear(linear);
        }
        attention.weights(uses);
    }

    fn label(&self) -> String {
        format!("{}, and global tokens", self.attention.label())
    }

    fn summary(&self) -> String {
        format!("{}, and global tokens", self.attention.summary())
    }

    fn contradiction(&self) -> Option<&'static str> {
        let Attention {
            heads,
            kv_heads,
            head_dim,
            ..
        } = &self.attention;
        let fit = |linear: &Linear| linear.out_features == heads * head_dim;
        let own = first_of(&[
            (
                !self.attention.is_plain() || !self.attention.positions.is_empty(),
                "more of an attention with global tokens than projections",
            ),
            (
                !matches!(self.attention.mask, Mask::Window(_)),
                "global tokens without a window",
            ),
            (
                heads != kv_heads || !self.projections.iter().all(fit),
                "global tokens of other heads",
            ),
        ]);
        self.attention.contradiction().or(own)
    }

    fn site(&self) -> Option<Site> {
        self.attention.site()
    }

    fn mask(&self) -> Option<Mask> {
        self.attention.mask()
    }

    fn ropes(&self) -> Vec<&Rope> {
        self.attention.ropes()
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        self.attention.norms()
    }

    fn keys(&self) -> Option<Keys> {
        self.attention.keys()
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere(OF_WHOLE_RECORDS)
    }

    fn operations(&self) -> Operations {
        self.attention.operations()
    }

    fn columns_between(&self, hidden: usize) -> usize {
        2 * self.attention.columns_between(hidden)
    }

    fn depends_on_length(&self, _longest: usize) -> Option<&'static str> {
        Some(OF_WHOLE_RECORDS)
    }
}
