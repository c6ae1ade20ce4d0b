//! What a row is to predict.

/// A token whose probability is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The row of the logits.
    pub row: u32,
    pub token: u32,
    /// Where in [`LogitResults::target`] the answer goes.
    pub place: u32,
}
