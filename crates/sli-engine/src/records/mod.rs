//! Tokenised records on disk, so that memory does not grow with the dataset.
//!
//! A spool is a folder of flat little-endian files: `tokens` (u32), `types` (u32 beside the tokens, only if
//! a record has any), `labels` (the same), `ids` (UTF-8 end to end), `index` (for each record a token count, an id length, the length
//! of the common beginning with the record before, the row in the input in two halves, what is known of its text, the
//! bytes of that and of its completion), `offsets` (two u32 a token) and `marks` (a byte a token, 1 in a
//! completion), both only if a record has any, and, written last, `spool.json` with the sizes and hashes
//! of the others. Where records have a second sequence, for the decoder behind an encoder, it is a spool of its own in
//! the folder `decoder`, whose hash is among those. A spool without it, or whose files differ from it, was not finished and is made again. In
//! memory a record costs 12 bytes and a bit.

mod beginnings;
mod doubled;
mod hashed;
mod ids;
mod layout;
mod record;
mod spool;
#[cfg(test)]
mod tests;
mod writer;

pub use self::ids::{REPEATED, SeenIds};
pub(crate) use self::record::NO_LABEL;
pub use self::record::Record;
pub use self::spool::RecordSpool;
pub use self::writer::RecordSpoolWriter;
