//! What records begin with.

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
