//! Why the names of a file cannot be those of the model.

/// Why no naming was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamingProblem {
    /// Two prefixes give every weight a tensor.
    #[error(
        "two sets of tensors fit the model: those that begin with `{first}` and those that begin with `{second}`"
    )]
    Prefixes {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Two tensors become one.
    #[error("without what wraps them, `{first}` and `{second}` are both `{name}`")]
    Collision {
        /// The name of the model.
        name: String,
        /// One name in the file.
        first: String,
        /// The other.
        second: String,
    },
}

impl NamingProblem {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Prefixes { first, second } => format!(
                "choose: --allow-unused '{second}*' takes those that begin with `{first}`, --allow-unused '{first}*' the others"
            ),
            Self::Collision { first, second, .. } => format!(
                "choose: --allow-unused '{second}' takes `{first}`, --allow-unused '{first}' the other"
            ),
        }
    }
}
