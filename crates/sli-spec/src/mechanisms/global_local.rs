//! Attention within blocks, and through rows in front of a record that see and are seen by all.

use serde::Serialize;

use super::contradiction::first_of;
use super::{Attention, Keys, Mechanism, Operations, Site, Uses};
use crate::parts::rope::Rope;
use crate::parts::{Cut, Mask, Norm};

/// Global-local attention (Phang et al. 2022). The rows of the stack's prompt see everything; every other row sees them and its
/// own block of `block` rows. The norms in front are its own, as those rows have another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GlobalLocal {
    /// Projections of all rows.
    pub attention: Attention,
    /// In front of it: of the prompt, of the other rows.
    pub norms: [Norm; 2],
    /// Rows of a block.
    pub block: usize,
    /// The first block begins so many rows before the first one behind the prompt.
    pub shift: usize,
}

const OF_WHOLE_RECORDS: &str = "the rows in front of a record see all of it";

impl Mechanism for GlobalLocal {
    fn weights(&self, uses: &mut Uses) {
        let Self {
            attention,
            norms,
            block: _,
            shift: _,
        } = self;
        for norm in norms {
            uses.norm(Some(norm));
        }
        attention.weights(uses);
    }

    fn label(&self) -> String {
        "attention: multi-head, blocks, and rows in front that all see".into()
    }

    fn summary(&self) -> String {
        let Attention {
            heads, head_dim, ..
        } = &self.attention;
        let block = self.block;
        format!("attention ({heads} heads of {head_dim}, blocks of {block} and rows in front)")
    }

    fn contradiction(&self) -> Option<&'static str> {
        let own = first_of(&[
            (
                !self.attention.is_plain() || !self.attention.positions.is_empty(),
                "more of an attention within blocks than projections",
            ),
            (
                self.attention.mask != Mask::Full,
                "a mask beside that of blocks",
            ),
            (self.shift >= self.block, "a shift by more than a block"),
        ]);
        self.attention.contradiction().or(own)
    }

    fn site(&self) -> Option<Site> {
        self.attention.site()
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Window(self.block))
    }

    fn ropes(&self) -> Vec<&Rope> {
        self.attention.ropes()
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        let [prompt, others] = &self.norms;
        vec![(prompt, "of the rows in front"), (others, "of the others")]
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
        hidden + self.attention.columns_between(hidden)
    }

    fn depends_on_length(&self, _longest: usize) -> Option<&'static str> {
        Some(OF_WHOLE_RECORDS)
    }
}
