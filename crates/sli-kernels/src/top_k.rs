//! The largest logits of each row, in tiles.

use std::cmp::Ordering;

use crate::clock::Stage;
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::MatRef;

/// The running `k` largest elements of each of some rows, ordered by value (largest first), then by index
/// (smallest first); NaN comes after every number.
///
/// One block of memory: with many rows it may be most of what a run holds, and goes back to the system as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct TopK {
    k: usize,
    /// `[rows, k]`, of which the first `counts` of each row are there.
    entries: Vec<(f32, u32)>,
    counts: Vec<usize>,
}

impl TopK {
    /// Of rows without elements.
    pub fn new(rows: usize, k: usize) -> Self {
        Self {
            k,
            entries: vec![(0.0, 0); rows * k],
            counts: vec![0; rows],
        }
    }

    /// Value and index of at most `k` elements of a row, in order.
    pub fn row(&self, row: usize) -> &[(f32, u32)] {
        &self.entries[row * self.k..][..self.counts[row]]
    }
}

/// Takes note of `values`, the elements from index `first` on, in a row of which `count` entries are there.
fn update(entries: &mut [(f32, u32)], count: &mut usize, first: u32, values: &[f32]) {
    for (block, values) in values.chunks(BLOCK).enumerate() {
        if let (true, Some(&(least, _))) = (*count == entries.len(), entries.last()) {
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
            offer(entries, count, value, first + (block * BLOCK + i) as u32);
        }
    }
}

fn offer(entries: &mut [(f32, u32)], count: &mut usize, value: f32, index: u32) {
    let before = |&(other, at): &(f32, u32)| order(other, at, value, index) == Ordering::Less;
    if *count < entries.len() {
        *count += 1;
    } else if entries.last().is_none_or(before) {
        return;
    }
    // The last of these is new, or beaten.
    let last = *count - 1;
    let at = entries[..last].partition_point(before);
    entries.copy_within(at..last, at + 1);
    entries[at] = (value, index);
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
    /// Brings the rows of `state` from `first_row` on up to date with `logits` `[rows, columns]`, whose first
    /// column has index `first_column`.
    pub fn top_k(&self, logits: MatRef, first_row: usize, first_column: usize, state: &mut TopK) {
        let _lap = self.lap(Stage::Vocabulary);
        let (k, rows) = (state.k, first_row..first_row + logits.rows());
        let entries = &mut state.entries[rows.start * k..rows.end * k];
        let entries = SharedSlice::new(entries);
        let counts = SharedSlice::new(&mut state.counts[rows]);
        self.parallel_rows(logits.rows(), (1 << 14) / logits.cols().max(1), |rows| {
            for row in rows {
                // SAFETY: pieces of the row loop are disjoint.
                let (entries, count) = unsafe {
                    (
                        entries.part_mut(row * k..(row + 1) * k),
                        counts.get_mut(row),
                    )
                };
                update(entries, count, first_column as u32, logits.row(row));
            }
        });
    }
}
