//! A slot's content, unchanged.

use serde::Serialize;

use super::{Mechanism, Uses};

/// What is read is what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Identity;

impl Mechanism for Identity {
    fn weights(&self, _uses: &mut Uses) {}

    fn label(&self) -> String {
        "identity".into()
    }

    fn summary(&self) -> String {
        self.label()
    }
}
