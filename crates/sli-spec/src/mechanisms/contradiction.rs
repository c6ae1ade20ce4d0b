//! What mechanisms would leave out of account.

/// Only addends by kinds of tokens hide padding.
pub(super) const PADDING: &str = "a mask of padding without kinds of tokens";

/// The first contradiction that is there.
pub(super) fn first_of(contradictions: &[(bool, &'static str)]) -> Option<&'static str> {
    let found = contradictions.iter().find(|(is_there, _)| *is_there);
    found.map(|&(_, contradiction)| contradiction)
}
