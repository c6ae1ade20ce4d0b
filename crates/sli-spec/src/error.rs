//! What can be wrong with a `config.json`.

/// A configuration that cannot be turned into a description.
///
/// Every variant names the key it is about; the program adds the file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// The text is not a JSON object.
    #[error("config.json is not a JSON object: {0}")]
    Syntax(String),
    /// The text begins with a byte order mark, which the reference refuses too.
    #[error("config.json begins with a byte order mark")]
    ByteOrderMark,
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
        /// The keys.
        keys: Vec<UnreadKey>,
    },
}

/// A key that nothing read and that may matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadKey {
    /// Dotted path.
    pub path: String,
    /// A key that is read and spelled nearly like it.
    pub similar: Option<String>,
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn list(keys: &[UnreadKey]) -> String {
    keys.iter()
        .map(|key| format!("`{}`", key.path))
        .collect::<Vec<_>>()
        .join(", ")
}

impl SpecError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Syntax(_) => "download config.json again".into(),
            Self::ByteOrderMark => "save config.json as UTF-8 without a byte order mark".into(),
            Self::Invalid { key, .. } => {
                format!("compare `{key}` with the published config.json, or download it again")
            }
            Self::Missing { .. } => {
                "the file may be truncated, or written for another model type".into()
            }
            Self::Unsupported { key, .. } if key == "architectures" => {
                "if the weights are those of a class that is implemented, write its name there"
                    .into()
            }
            Self::Unsupported { .. } => {
                "a wrong number would be worse than none, so the model is refused".into()
            }
            Self::UnknownModelType { closest, .. } => match closest {
                Some(name) => format!("did you mean `{name}`? `sli architectures` lists all"),
                None => "`sli architectures` lists the supported types".into(),
            },
            Self::Unread { keys } => unread_hint(keys),
        }
    }
}

fn unread_hint(keys: &[UnreadKey]) -> String {
    let meant = keys.iter().filter_map(|key| {
        let similar = key.similar.as_ref()?;
        Some(format!("did you mean `{similar}` by `{}`? ", key.path))
    });
    let flags = keys
        .iter()
        .map(|key| format!("--allow-unread {}", key.path));
    format!(
        "{}if they do not change the forward pass: {}",
        meant.collect::<String>(),
        flags.collect::<Vec<_>>().join(" ")
    )
}
