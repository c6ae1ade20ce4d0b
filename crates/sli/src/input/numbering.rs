//! Ids of records: those of the input, or numbers.

use super::error::InputError;
use super::place::Place;

/// Counts the records of an input, and gives numbers to those without an id.
#[derive(Debug, Default)]
pub struct Numbering {
    next: u64,
    /// A record had an id.
    given: bool,
    /// A record's id was null.
    null: bool,
}

impl Numbering {
    /// The number and the id of the next record.
    ///
    /// A column of nulls is no ids at all. A null beside ids is an error: with its number in place of an id, the
    /// results could not tell the two apart.
    pub fn next(
        &mut self,
        id: Option<String>,
        is_null: bool,
        place: &Place,
    ) -> Result<(u64, String), InputError> {
        let row = self.next;
        self.next += 1;
        self.given |= id.is_some();
        self.null |= is_null;
        if self.given && self.null {
            let problem = match &id {
                Some(id) => {
                    format!("the record has the id `{id}`, but the id of an earlier one is null")
                }
                None => "the id is null, but earlier records have ids".to_owned(),
            };
            let hint = "give every record an id of its own, or leave the ids out: then they are the records' numbers";
            return Err(InputError::record(place, problem).with_hint(hint));
        }
        Ok((row, id.unwrap_or_else(|| row.to_string())))
    }
}
