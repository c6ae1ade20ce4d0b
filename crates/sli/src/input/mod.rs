//! Datasets: files of records, read as streams.
//!
//! A reader yields [`RawRecord`]s one by one and holds one line or a few rows in memory, whatever the size
//! of the file. Everything that a record can have wrong with it by itself is found here; what the model
//! has to say about it (vocabulary, length) is in [`crate::prepare`].

mod columns;
mod compressed;
mod conversation;
mod costs;
mod dataset;
mod decoder;
mod error;
mod images;
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
mod renames;
mod rows;
mod shape;
mod signature;
mod text;
mod token_inputs;

pub use conversation::Conversation;
pub use dataset::{Dataset, Records, pick};
pub use decoder::DecoderContent;
pub use error::InputError;
pub use images::Image;
pub use labels::{Found, Labels};
pub use lines::BYTE_ORDER_MARK;
pub use place::{Place, Position};
pub use prompted::Prompted;
pub use raw::{Content, RawRecord, Selection, Tensors, Use};
pub use renames::Renames;
pub use token_inputs::GLOBAL;
