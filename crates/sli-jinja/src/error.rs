//! Why a template does not compile or render.

use std::fmt;

/// A template that does not compile, or refuses what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// What an error is, where that decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The steps are used up: nothing in a template can catch this.
    Steps,
    /// Python's `TypeError`.
    Type,
    /// Python's `ValueError`.
    Value,
    /// Python's `LookupError`.
    Lookup,
    /// Any other.
    Other,
}

/// What a step of a template gives.
pub(crate) type Outcome<T> = Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn steps() -> Self {
        Self::new(Kind::Steps, "it takes too many steps")
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same with the line of the template in front.
    pub(crate) fn at(mut self, line: u32) -> Self {
        self.message = format!("line {line}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// An error of a kind.
pub(crate) fn fail<T>(kind: Kind, message: impl Into<String>) -> Outcome<T> {
    Err(Error::new(kind, message))
}

/// Python's `TypeError`.
pub(crate) fn type_error<T>(message: impl Into<String>) -> Outcome<T> {
    fail(Kind::Type, message)
}

/// Python's `ValueError`.
pub(crate) fn value_error<T>(message: impl Into<String>) -> Outcome<T> {
    fail(Kind::Value, message)
}

/// Any other error.
pub(crate) fn other<T>(message: impl Into<String>) -> Outcome<T> {
    fail(Kind::Other, message)
}
