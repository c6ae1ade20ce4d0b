//! Which keys a query sees.

use serde::Serialize;

/// Which keys a query at position `i` sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mask {
    /// All.
    Full,
    /// All but as many of a record's first tokens as it has padding tokens, which is where a batch
    /// that is padded on the left has them (CPM-Ant). Those see nothing themselves.
    FullButPadding(u32),
    /// `j <= i`.
    Causal,
    /// `j <= i`, and all of the record's context ([`crate::PositionIds::divides`]).
    CausalAfterContext,
    /// `i - window < j <= i`.
    CausalWindow(usize),
    /// `j <= i`, and of the neighbouring tokens of this id that `i` is one of all later ones; in a window `i - window < j` only.
    CausalRuns {
        /// The token.
        token: u32,
        /// Earlier ones of these tokens are seen beyond the window too.
        whole: bool,
        /// Positions that are seen back, its own included.
        window: Option<usize>,
    },
    /// `i - window < j <= i`, and all of the record's context for what is in it ([`crate::PositionIds::divides`]).
    CausalWindowAfterContext(usize),
    /// `|i - j| <= distance`.
    Window(usize),
    /// `i - back <= j <= i + ahead`.
    Around {
        /// Positions before its own.
        back: usize,
        /// Positions after its own.
        ahead: usize,
    },
    /// `j <= i` within the same block of this many positions.
    CausalChunk(usize),
    /// All within the same block of this many positions.
    Block(usize),
    /// All within the same window of a picture's view.
    Windows,
    /// All, but rows of a view that are blank do not see each other.
    BlankApart,
    /// Of the rows of another stack those that a record's token sees ([`crate::InputKind::Seen`]); all where it sees none.
    Seen,
}

/// Where the rows of a record may be cut, so that they need not all be in memory together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Cut {
    /// Anywhere: what a row needs of earlier ones is handed on, of later ones it needs nothing.
    Anywhere,
    /// Anywhere, once the keys and values of all rows are there.
    KeysFirst,
    /// Nowhere, and why.
    Nowhere(&'static str),
}

impl Mask {
    /// Turns it into the mask of a decoder that looks ahead too (`is_causal: false`); `false`: no such thing is
    /// known.
    pub(crate) fn look_ahead(&mut self) -> bool {
        *self = match self {
            Self::Causal => Self::Full,
            // The reference's windows of decoders do not count the last position, these do.
            Self::CausalWindow(window) => Self::Window(*window),
            Self::Full
            | Self::Window(_)
            | Self::Around { .. }
            | Self::Block(_)
            | Self::Windows
            | Self::BlankApart
            | Self::Seen => *self,
            Self::FullButPadding(_)
            | Self::CausalAfterContext
            | Self::CausalWindowAfterContext(_)
            | Self::CausalRuns { .. }
            | Self::CausalChunk(_) => return false,
        };
        true
    }

    /// Where the rows of a record may be cut.
    pub(crate) fn cut(self) -> Cut {
        match self {
            Self::Causal | Self::CausalWindow(_) | Self::CausalChunk(_) => Cut::Anywhere,
            Self::Full | Self::Window(_) | Self::Around { .. } | Self::Block(_) => Cut::KeysFirst,
            Self::Windows | Self::BlankApart => Cut::Nowhere("pictures are seen whole"),
            Self::Seen => Cut::Nowhere("tokens see rows of pictures"),
            Self::FullButPadding(_) => {
                Cut::Nowhere("padding of a record masks others of its tokens")
            }
            Self::CausalAfterContext | Self::CausalWindowAfterContext(_) => {
                Cut::Nowhere("records have a context that sees all of itself")
            }
            Self::CausalRuns { .. } => Cut::Nowhere("tokens of a picture see all of it"),
        }
    }

    /// The same where neighbouring tokens of this id see each other; `None`: no such thing is known.
    pub(crate) fn with_runs(self, token: u32, whole: bool) -> Option<Self> {
        match self {
            Self::Causal => Some(Self::CausalRuns {
                token,
                whole,
                window: None,
            }),
            Self::CausalWindow(window) => Some(Self::CausalRuns {
                token,
                whole,
                window: Some(window),
            }),
            _ => None,
        }
    }

    /// The same where a record has a context that sees all of itself; `None`: no such thing is known.
    pub(crate) fn with_context(self) -> Option<Self> {
        match self {
            Self::Causal => Some(Self::CausalAfterContext),
            Self::CausalWindow(window) => Some(Self::CausalWindowAfterContext(window)),
            _ => None,
        }
    }

    /// Whether it hides a record's padding.
    pub(crate) fn is_of_padding(self) -> bool {
        matches!(self, Self::FullButPadding(_))
    }

    /// Whether no query sees a later key.
    pub fn is_causal(self) -> bool {
        match self {
            Self::Causal | Self::CausalWindow(_) | Self::CausalChunk(_) => true,
            Self::Full
            | Self::FullButPadding(_)
            | Self::Window(_)
            | Self::Around { .. }
            | Self::Block(_)
            | Self::Windows
            | Self::BlankApart
            | Self::Seen
            | Self::CausalRuns { .. }
            | Self::CausalWindowAfterContext(_)
            | Self::CausalAfterContext => false,
        }
    }

    /// In the table of architectures.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full | Self::FullButPadding(_) => "full",
            Self::BlankApart => "full, blank rows apart",
            Self::Seen => "pictures that a token sees",
            Self::Causal => "causal",
            Self::CausalAfterContext => "causal after a context",
            Self::CausalWindowAfterContext(_) => "causal window after a context",
            Self::CausalRuns { window: None, .. } => "causal, both directions in pictures",
            Self::CausalRuns { .. } => "causal window, both directions in pictures",
            Self::CausalWindow(_) => "causal window",
            Self::Window(_) | Self::Around { .. } => "window",
            Self::CausalChunk(_) => "causal chunks",
            Self::Block(_) => "blocks",
            Self::Windows => "windows of pictures",
        }
    }

    /// Behind the sizes of an attention: what is not as in any decoder.
    pub(crate) fn suffix(self) -> String {
        match self {
            Self::Full | Self::FullButPadding(_) => ", both directions".to_owned(),
            Self::BlankApart => ", both directions, blank rows apart".to_owned(),
            Self::Seen => ", pictures that a token sees".to_owned(),
            Self::Causal => String::new(),
            Self::CausalAfterContext => ", both directions in the context".to_owned(),
            Self::CausalWindow(window) => format!(", window {window}"),
            Self::CausalWindowAfterContext(window) => {
                format!(", both directions in the context, window {window}")
            }
            Self::CausalRuns { window: None, .. } => ", both directions in pictures".to_owned(),
            Self::CausalRuns {
                window: Some(window),
                ..
            } => format!(", both directions in pictures, window {window}"),
            Self::Window(distance) => format!(", both directions, window {distance}"),
            Self::Around { back, ahead } => {
                format!(", both directions, window {back} back and {ahead} ahead")
            }
            Self::CausalChunk(length) => format!(", chunks of {length}"),
            Self::Windows => ", both directions in windows".to_owned(),
            Self::Block(length) => format!(", both directions in blocks of {length}"),
        }
    }
}
