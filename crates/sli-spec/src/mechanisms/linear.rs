//! One linear map in the place of a sublayer.

use super::{Mechanism, Uses};
use crate::parts::Linear;

impl Mechanism for Linear {
    fn weights(&self, uses: &mut Uses) {
        uses.linear(self);
    }

    fn label(&self) -> String {
        "linear map".into()
    }

    fn summary(&self) -> String {
        self.label()
    }
}
