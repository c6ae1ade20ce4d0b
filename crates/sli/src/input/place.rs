//! Where in the input something is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A record's place in the input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line or row in it.
    pub position: Position,
}

/// A line or a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Line of a text file, from 1.
    Line(u64),
    /// Row of a table, from 0.
    Row(u64),
}

impl Place {
    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// The folder that paths in it are seen from.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.file.display(), self.position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}
