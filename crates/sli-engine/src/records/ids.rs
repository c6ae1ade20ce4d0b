//! Ids that occur twice.

use std::collections::HashSet;

/// What is wrong with an id that occurs twice.
pub const REPEATED: &str = "an earlier record has the same id";

/// Longest id, bytes.
pub(super) const LONGEST_ID: usize = 1 << 16;

/// Finds ids that occur twice: 16 bytes of hash each, but only a bit for ids that are their record's number.
#[derive(Default)]
pub struct SeenIds {
    pub(super) records: u64,
    /// A bit a record: its id is its number, and its hash is not in `hashes`.
    pub(super) numbered: Vec<u64>,
    pub(super) hashes: HashSet<[u8; 16]>,
}

impl SeenIds {
    /// Whether the id is new.
    pub fn insert(&mut self, id: &str) -> bool {
        let record = self.records;
        self.records += 1;
        if record.is_multiple_of(64) {
            self.numbered.push(0);
        }
        let number = canonical_number(id);
        let is_numbered = |n: u64| self.numbered[(n / 64) as usize] >> (n % 64) & 1 == 1;
        if number.is_some_and(|number| number < record && is_numbered(number)) {
            return false;
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
        if number == Some(record) {
            self.numbered[(record / 64) as usize] |= 1 << (record % 64);
            return self.hashes.is_empty() || !self.hashes.contains(&hash);
        }
        self.hashes.insert(hash)
    }

    /// Bytes of memory: the set keeps 16 bytes and a control byte for each place.
    pub fn bytes_in_memory(&self) -> usize {
        self.hashes.capacity() * 8 / 7 * 17 + self.numbered.capacity() * 8
    }
}

/// The number that a text is the usual spelling of.
pub(super) fn canonical_number(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

pub(super) fn shortened(id: &str) -> String {
    match id.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &id[..end]),
        None => id.to_owned(),
    }
}
