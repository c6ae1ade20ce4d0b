//! What every row of a record begins with.

/// What every row of a record begins with.
#[derive(Clone, Copy, Debug)]
pub struct RecordName<'a> {
    /// The record's row in the input, from 0.
    pub row: u64,
    /// Its id.
    pub id: &'a str,
}
