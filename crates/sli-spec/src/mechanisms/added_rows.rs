//! Rows of an earlier stack, added to those of a token.

use serde::Serialize;

use super::{Mechanism, Uses};

/// The rows that a record has in an earlier stack, in their order, where its token is this one; zeros elsewhere (Qwen3-VL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AddedRows {
    /// Which stack.
    pub stack: usize,
    /// The token.
    pub token: u32,
}

impl Mechanism for AddedRows {
    fn weights(&self, _uses: &mut Uses) {}

    fn label(&self) -> String {
        "rows of an earlier stack".into()
    }

    fn summary(&self) -> String {
        self.label()
    }

    fn rows_of(&self) -> Option<usize> {
        Some(self.stack)
    }
}
