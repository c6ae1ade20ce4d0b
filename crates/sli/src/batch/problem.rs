//! What is wrong with a request.

use serde::Serialize;

/// What is wrong with a request, as the API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// The kind of error.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The member of the request that it is about.
    pub param: Option<String>,
    /// The status of the answer.
    pub code: u16,
}

impl Problem {
    /// Something about a member of the body.
    pub fn of(param: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.to_owned()),
            ..Self::new(message)
        }
    }

    /// Something about the whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: "invalid_request_error",
            param: None,
            code: 400,
        }
    }
}
