//! What a text became.

use sli_engine::TextSpans;

/// Tokens of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types, where one is not 0.
    pub types: Option<Vec<u32>>,
    /// The text has more.
    pub cut: bool,
    /// Where the tokens are in the text, if that was asked for.
    pub text: Option<TextSpans>,
}
