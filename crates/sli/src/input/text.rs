//! Text files: a record a line. A byte order mark is part of the first one, as for Python and `datasets`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::compressed::Compression;
use super::error::InputError;
use super::lines::Lines;
use super::numbering::Numbering;
use super::raw::{Content, RawRecord};
use super::token_inputs::TokenInputs;
use crate::completion::TokenLabels;
use crate::memory::Allowance;

/// The records of a text file.
pub struct TextReader {
    lines: Lines,
    numbering: Rc<RefCell<Numbering>>,
}

impl TextReader {
    /// Opens a text file.
    pub fn open(
        path: Arc<PathBuf>,
        compression: Option<Compression>,
        allowance: &Allowance,
        numbering: Rc<RefCell<Numbering>>,
    ) -> Result<Self, InputError> {
        Ok(Self {
            lines: Lines::open(path, compression, allowance)?,
            numbering,
        })
    }
}

impl Iterator for TextReader {
    type Item = Result<RawRecord, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (place, line) = match self.lines.next_line() {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        let (row, id) = match self.numbering.borrow_mut().next(None, false, &place) {
            Ok(next) => next,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(RawRecord {
            id,
            row,
            place,
            content: Content::Text(line.to_owned()),
            token_types: None,
            inputs: TokenInputs::default(),
            labels: TokenLabels::default(),
            decoder: None,
            tensors: None,
            images: Vec::new(),
            seen: None,
            set_aside: Vec::new(),
        }))
    }
}
