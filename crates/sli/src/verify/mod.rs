//! `sli verify`: our numbers beside those that a reference computed of the same checkpoint.
//!
//! What the reference expects is a file that `tools/verify/expected.py` writes on any machine with transformers. It comes from
//! elsewhere, so nothing in it is believed before it was compared with the model and with itself.

mod comparison;
mod error;
mod expected;
mod receipt;

pub use comparison::{compare, located};
pub use error::VerifyError;
pub use expected::{Dtype, Expected, Facts, Place};
pub use receipt::{BEGIN, Compared, ModelFile, Receipt, Side, Tolerance, Worst};
