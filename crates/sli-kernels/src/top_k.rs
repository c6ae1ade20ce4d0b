//! The largest logits of each row, in tiles.

use std::cmp::Ordering;

use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::MatRef;

/// The running `k` largest elements of one row, ordered by value (largest first), then by index
/// (smallest first); NaN comes after every number.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    k: usize,
    entries: Vec<(f32, u32)>,
}

impl TopK {
    /// Of no elements.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            entries: Vec::with_capacity(k),
        }
    }

    /// Value and index of at most `k` elements, in order.
    pub fn entries(&self) -> &[(f32, u32)] {
        &self.entries
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Takes note of `values`, the elements from index `first` on.
    pub fn update(&mut self, first: u32, values: &[f32]) {
        for (block, values) in values.chunks(BLOCK).enumerate() {
            let full = self.entries.len() == self.k;
            if let (true, Some(&(least, _))) = (full, self.entries.last()) {
                // A later element must be strictly larger, so most blocks end here. NaN at the end
                // of the list is beaten by anything.
                let beaten = values
                    .iter()
                    .fold(0, |count, &x| count + u32::from(x > least))
                    > 0;
                if !beaten && !least.is_nan() {
                    continue;
                }
            }
            for (i, &value) in values.iter().enumerate() {
                self.offer(value, first + (block * BLOCK + i) as u32);
            }
        }
    }

    fn offer(&mut self, value: f32, index: u32) {
        let before = |&(other, at): &(f32, u32)| order(other, at, value, index) == Ordering::Less;
        if self.entries.len() == self.k {
            if self.entries.last().is_none_or(before) {
                return;
            }
            self.entries.pop();
        }
        let at = self.entries.partition_point(before);
        self.entries.insert(at, (value, index));
    }
}

/// Columns that are compared with the smallest entry at once.
const BLOCK: usize = 64;

/// `Less` if element `a` comes before element `b`.
fn order(a: f32, a_index: u32, b: f32, b_index: u32) -> Ordering {
    let by_value = match (a.is_nan(), b.is_nan()) {
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    };
    by_value.then(a_index.cmp(&b_index))
}

impl Kernels {
    /// Brings `state`, one a row, up to date with `logits` `[rows, columns]`, whose first column has
    /// index `first_column`.
    pub fn top_k(&self, logits: MatRef, first_column: usize, state: &mut [TopK]) {
        let _lap = self.lap(Stage::Vocabulary);
        assert_eq!(logits.rows(), state.len(), "a state a row");
        let shared = SharedSlice::new(state);
        self.parallel_rows(logits.rows(), (1 << 14) / logits.cols().max(1), |rows| {
            for row in rows {
                // SAFETY: pieces of the row loop are disjoint.
                unsafe { shared.get_mut(row) }.update(first_column as u32, logits.row(row));
            }
        });
    }
}
