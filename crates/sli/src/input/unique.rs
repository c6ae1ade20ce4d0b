//! Ids occur once.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use super::error::InputError;
use super::raw::RawRecord;

/// Finds a repeated id.
///
/// Ids that are their record's number need no memory; others take 8 bytes of hash each. Two ids with
/// the same hash send the search back to the file, so no id is refused wrongly.
#[derive(Default)]
pub struct UniqueIds {
    /// The first so many records have their number as id.
    numbered: u64,
    /// Hashes of the ids of all later records.
    hashes: HashSet<u64>,
    state: RandomState,
    records: u64,
}

impl UniqueIds {
    /// Takes the next record of the file in `path`.
    pub fn insert(&mut self, record: &RawRecord, path: &Path) -> Result<(), InputError> {
        let number = canonical_number(&record.id);
        let all_numbered = self.numbered == self.records;
        self.records += 1;
        if all_numbered && number == Some(self.records - 1) {
            self.numbered = self.records;
            return Ok(());
        }
        let suspicious = number.is_some_and(|number| number < self.numbered)
            || !self.hashes.insert(self.state.hash_one(&record.id));
        if !suspicious {
            return Ok(());
        }
        for earlier in super::open(path)? {
            let earlier = earlier?;
            if earlier.place == record.place {
                break;
            }
            if earlier.id == record.id {
                let problem = format!(
                    "the id `{}` was used before ({})",
                    record.id, earlier.place.position
                );
                return Err(InputError::record(&record.place, problem)
                    .with_hint("ids must be unique; without ids, records are numbered from 0"));
            }
        }
        Ok(())
    }
}

/// The number that a text is the usual spelling of.
fn canonical_number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::UniqueIds;

    fn repeated(lines: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        fs_err::write(&path, lines).unwrap();
        let mut ids = UniqueIds::default();
        for record in crate::input::open(&path).unwrap() {
            if let Err(error) = ids.insert(&record.unwrap(), &path) {
                return Some(error.to_string().split(" (/").next().unwrap().to_owned());
            }
        }
        None
    }

    #[test]
    fn finds_repeated_ids() {
        let line = |id: &str| format!("{{\"id\": {id}, \"text\": \"\"}}\n");
        let none = "{\"text\": \"\"}\n";
        let lines = |ids: &[&str]| {
            ids.iter()
                .map(|id| {
                    if id.is_empty() {
                        none.to_owned()
                    } else {
                        line(id)
                    }
                })
                .collect::<String>()
        };
        assert_eq!(
            repeated(&lines(&[
                "", "", "\"2\"", "3", "\"a\"", "\"b\"", "", "\"02\""
            ])),
            None
        );
        for ids in [
            &["\"a\"", "\"b\"", "\"a\""][..],
            &["", "", "0"],
            &["", "", "\"1\""],
            &["7", "\"7\""],
            &["1", ""],
            &["\"a\"", "", "1"],
        ] {
            let problem = repeated(&lines(ids)).unwrap_or_else(|| panic!("{ids:?}"));
            assert!(problem.contains("was used before (line "), "{problem}");
        }
    }
}
