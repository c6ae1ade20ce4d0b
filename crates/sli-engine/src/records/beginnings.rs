//! What records begin with, and which are the same.

use std::collections::HashMap;

use bytemuck::cast_slice;

use super::record::Record;
use crate::prefix::{LEAST, Node, PrefixTree};

/// Tokens of records that a later one is compared with.
pub(super) const WINDOW: usize = 1 << 17;

/// Compares what records begin with.
#[derive(Default)]
pub(super) struct Beginnings {
    pub(super) previous: Vec<Node>,
    /// The last records.
    pub(super) recent: PrefixTree,
    /// Most nodes that a record has in common with one of the last.
    pub(super) longest: usize,
}

impl Beginnings {
    /// How many nodes the record has in common with the one before; 0 for fewer than are shared.
    pub(super) fn of(&mut self, record: Vec<Node>) -> usize {
        let pairs = record.iter().zip(&self.previous);
        let shared = pairs.take_while(|(own, other)| own == other).count();
        let shared = if shared < LEAST { 0 } else { shared };
        if self.recent.rows() + record.len() > WINDOW {
            self.recent = PrefixTree::default();
        }
        let recent = match record.len() {
            0..=WINDOW => self.recent.insert(&record, usize::MAX).shared,
            _ => 0,
        };
        self.longest = self.longest.max(shared).max(recent);
        self.previous = record;
        shared
    }
}

/// Finds records that have the same rows.
#[derive(Default)]
pub(super) struct SameRows {
    /// Hashes of the last records, each with the number of the last that has it.
    last: HashMap<[u8; 32], u64>,
}

impl SameRows {
    /// Records that are remembered.
    const REMEMBERED: usize = 1 << 14;

    /// Bytes that it holds, at most.
    pub(super) const BYTES: usize = 2 * Self::REMEMBERED * (32 + 8 + 1);

    /// How many records before this one the last is that has the same inputs and features, of which the same is asked; 0: none
    /// of those that are remembered, or this one has no rows.
    pub(super) fn of(&mut self, record: &Record, number: u64) -> u32 {
        if record.tokens.is_empty() {
            return 0;
        }
        let mut hasher = blake3::Hasher::new();
        let inputs = record.inputs.as_deref().unwrap_or_default();
        let features = record.features.as_deref().unwrap_or_default();
        for length in [record.tokens.len(), inputs.len(), features.len()] {
            hasher.update(&(length as u64).to_le_bytes());
        }
        hasher.update(cast_slice(inputs));
        hasher.update(cast_slice(features));
        for text in &record.asked {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(cast_slice(text));
        }
        if self.last.len() == Self::REMEMBERED {
            self.last.clear();
        }
        let hash = *hasher.finalize().as_bytes();
        let before = self.last.insert(hash, number);
        before.map_or(0, |before| u32::try_from(number - before).unwrap_or(0))
    }
}
