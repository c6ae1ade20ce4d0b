//! How to open a model.

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Configuration keys that may go unread.
    pub allow_unread: Vec<String>,
    /// Patterns of tensors that may be there though nothing is known of them.
    pub allow_unused: Vec<String>,
}
