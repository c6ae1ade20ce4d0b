//! What stands for a record where a class sums it up (XLM, `XLNet`): `summary_type` and `summary_activation`.

use crate::families::blocks::Judged;
use crate::{Activation, Config, SpecError};

/// The row, by `summary_type`; without an index of its own `cls_index` is the last token.
pub(super) fn judged(config: &Config) -> Result<Judged, SpecError> {
    const KEY: &str = "summary_type";
    match config.optional_text(KEY)?.as_deref() {
        Some("first") => Ok(Judged::First),
        Some("last" | "cls_index") => Ok(Judged::Last),
        Some("mean") => Ok(Judged::Mean),
        _ => Err(config.unsupported(KEY, "first, last, mean and cls_index are known")),
    }
}

/// What is behind the projection; nothing where the file has none.
pub(super) fn activation(config: &Config) -> Result<Activation, SpecError> {
    const KEY: &str = "summary_activation";
    match config.optional_text(KEY)?.as_deref() {
        None | Some("") => Ok(Activation::Linear),
        Some(_) => config.activation(KEY),
    }
}
