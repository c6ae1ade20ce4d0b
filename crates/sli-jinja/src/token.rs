//! Tokens of a template.

use num_bigint::BigInt;

/// A token and the line that it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub line: u32,
    pub kind: TokenKind,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Text(String),
    Integer(BigInt),
    Float(f64),
    /// One of [`OPERATORS`].
    Operator(&'static str),
    End,
}

/// Operators, longer ones first.
pub(crate) const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

impl TokenKind {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Data(_) => "template data".into(),
            Self::VariableBegin => "begin of print statement".into(),
            Self::VariableEnd => "end of print statement".into(),
            Self::BlockBegin => "begin of statement block".into(),
            Self::BlockEnd => "end of statement block".into(),
            Self::Name(name) => format!("`{name}`"),
            Self::Text(_) => "string".into(),
            Self::Integer(_) => "integer".into(),
            Self::Float(_) => "float".into(),
            Self::Operator(operator) => format!("`{operator}`"),
            Self::End => "end of template".into(),
        }
    }
}
