//! What became of the records of a dataset of which some may be left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sli_engine::journal::JournalError;

use crate::error::Error;
use crate::input::InputError;

/// What became of the records of a dataset when they were made tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Prepared {
    /// Tokens of each.
    tokens: Vec<u32>,
    /// Those that cannot be run, and why.
    refused: BTreeMap<u64, String>,
    /// Texts of which the model's files leave out the end.
    cut: BTreeSet<u64>,
}

impl Prepared {
    /// Takes note of the tokens of a record; they come in the order of the input. `cut`: the files of the model leave out
    /// the end of it.
    pub fn push(&mut self, row: u64, tokens: usize, cut: bool) {
        if cut {
            self.cut.insert(row);
        }
        self.tokens.resize(row as usize, 0);
        self.tokens.push(tokens as u32);
    }

    /// Takes note of a record that cannot be run.
    pub fn refuse(&mut self, row: u64, error: &Error) {
        let problem = match error {
            // Where it stands is nobody's business.
            Error::Input(InputError::Record { problem, .. }) => problem.clone(),
            error => error.to_string(),
        };
        let problem = problem.replace(&format!("record `{row}`"), "the input");
        self.refused.insert(row, problem);
    }

    /// Tokens of a record.
    pub fn tokens_of(&self, row: u64) -> usize {
        let tokens = self.tokens.get(row as usize);
        tokens.map_or(0, |tokens| *tokens as usize)
    }

    /// Why one of some records cannot be run.
    pub fn problem(&self, rows: Range<u64>) -> Option<&str> {
        let mut refused = self.refused.range(rows);
        refused.next().map(|(_, problem)| problem.as_str())
    }

    /// Whether the end of one of some records is left out.
    pub fn is_cut(&self, rows: Range<u64>) -> bool {
        self.cut.range(rows).next().is_some()
    }

    /// Writes it to a file.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(std::io::Error::from);
        text.and_then(|text| fs_err::write(path, text))
            .map_err(|source| Error::File {
                what: "cannot write what became of the records",
                path: path.to_owned(),
                source,
            })
    }

    /// Of what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs_err::read(path).map_err(|source| Error::File {
            what: "cannot read what became of the records",
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            let problem = error.to_string();
            let path = path.to_owned();
            JournalError::Damaged { path, problem }.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_says_how_to_start_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prepared.json");
        let mut prepared = Prepared::default();
        prepared.push(2, 7, true);
        prepared.write(&path).unwrap();
        assert_eq!(Prepared::read(&path).unwrap(), prepared);
        let bytes = fs_err::read(&path).unwrap();
        fs_err::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = Prepared::read(&path).unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert!(error.hint().contains("--fresh"), "{}", error.hint());
    }
}
