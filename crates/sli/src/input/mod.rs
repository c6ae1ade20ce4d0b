//! Datasets: files of records, read as streams.
//!
//! A reader yields [`RawRecord`]s one by one and holds one line or a few rows in memory, whatever the size
//! of the file. Everything that a record can have wrong with it by itself is found here; what the model
//! has to say about it (vocabulary, length) is in [`crate::prepare`].

mod columns;
mod conversation;
mod costs;
mod decoder;
mod error;
mod jsonl;
mod labels;
mod lines;
mod mask;
mod nonfinite;
mod numbering;
mod pages;
mod parquet;
mod place;
mod prompted;
mod raw;
mod rows;
mod shape;
mod signature;
mod text;
mod token_inputs;

use std::path::Path;
use std::sync::Arc;

pub use conversation::Conversation;
pub use decoder::DecoderContent;
pub use error::InputError;
pub use labels::{Found, Labels};
pub use lines::BYTE_ORDER_MARK;
pub use place::{Place, Position};
pub use prompted::Prompted;
pub use raw::{Content, RawRecord, Selection, Tensors, Use};

use crate::memory::Allowance;
use error::wrong_file;
use jsonl::JsonlReader;
use parquet::ParquetReader;
use signature::Format;
use text::TextReader;

/// The records of a file.
pub type Records = Box<dyn Iterator<Item = Result<RawRecord, InputError>>>;

/// Opens a dataset whose records may hold what the allowance says; its format is told by the extension.
pub fn open(
    path: &Path,
    allowance: &Allowance,
    selection: Selection,
) -> Result<Records, InputError> {
    let shared = Arc::new(path.to_path_buf());
    let metadata = fs_err::metadata(path).map_err(|source| InputError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    if metadata.is_dir() {
        return Err(wrong_file(path, "the input is a folder", "give one file"));
    }
    if !metadata.is_file() {
        return Err(wrong_file(
            path,
            "the input is read more than once",
            "give a regular file",
        ));
    }
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let format = signature::format(extension.to_str().unwrap_or_default());
    let format = format.map_err(|(problem, hint)| {
        wrong_file(
            path,
            problem,
            &format!("formats are .jsonl, .txt and .parquet{hint}"),
        )
    })?;
    signature::check(path, format)?;
    Ok(match format {
        Format::JsonLines => Box::new(JsonlReader::open(shared, allowance, selection)?),
        Format::Text => Box::new(TextReader::open(shared, allowance)?),
        Format::Parquet => Box::new(ParquetReader::open(shared, allowance, selection)?),
    })
}
