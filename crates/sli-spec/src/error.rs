//! What can be wrong with a `config.json`.

/// A configuration that cannot be turned into a description.
///
/// Every variant names the key it is about; the program adds the file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// The text is not a JSON object.
    #[error("config.json is not a JSON object: {0}")]
    Syntax(String),
    /// A key that the family needs is absent and its class has no default for it.
    #[error("config.json: `{key}` is missing")]
    Missing {
        /// The key, dotted for a nested one.
        key: String,
    },
    /// A key holds a value of the wrong type or out of range.
    #[error("config.json: `{key}` is {found}, expected {expected}")]
    Invalid {
        /// The key, dotted for a nested one.
        key: String,
        /// What the file holds, shortened.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The value is well-formed but names something this program does not implement.
    #[error("config.json: `{key}` = {found} is not supported{}", reason_suffix(.reason))]
    Unsupported {
        /// The key, dotted for a nested one.
        key: String,
        /// The value.
        found: String,
        /// Why, or what is known instead; may be empty.
        reason: String,
    },
    /// The `model_type` is in no registry row.
    #[error("config.json: model_type `{model_type}` is not supported")]
    UnknownModelType {
        /// The type as written.
        model_type: String,
        /// The registered type that is spelled most alike, if one is close.
        closest: Option<String>,
    },
    /// Keys that nothing read. They may change the result, so they are not ignored.
    #[error("config.json: nothing reads {}", list(.keys))]
    Unread {
        /// The keys, dotted for nested ones.
        keys: Vec<String>,
    },
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn list(keys: &[String]) -> String {
    keys.iter()
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl SpecError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Syntax(_) => "download config.json again".into(),
            Self::Invalid { key, .. } => {
                format!("compare `{key}` with the published config.json, or download it again")
            }
            Self::Missing { .. } => {
                "the file may be truncated, or written for another model type".into()
            }
            Self::Unsupported { .. } => {
                "a wrong number would be worse than none, so the model is refused".into()
            }
            Self::UnknownModelType { closest, .. } => match closest {
                Some(name) => format!("did you mean `{name}`? `sli architectures` lists all"),
                None => "`sli architectures` lists the supported types".into(),
            },
            Self::Unread { keys } => format!(
                "if they do not change the forward pass: {}",
                keys.iter()
                    .map(|key| format!("--allow-unread {key}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        }
    }
}
