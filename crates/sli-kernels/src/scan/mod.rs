//! What goes along a record row by row with a state: causal convolution, selective scan (Mamba), state-space
//! dual (Mamba-2), linear attention.
//!
//! Every row is computed from its own inputs and the state behind the row before it, in one order, so that the
//! bits are the same wherever a record is cut and its state handed on. Columns or heads are divided among
//! threads; none of them needs another's state.
//!
//! `starts` are the rows with which records begin, in order: their state is zero. Rows in front of the first
//! one go on from the state that is given; the state behind the last row takes its place.

mod block_attention;
mod convolution;
mod dual;
mod exponential;
mod forget;
mod gated_lru;
mod linear_attention;
mod row_weights;
mod selective;
mod windows;
mod wkv;

use std::ops::Range;

pub use block_attention::BlockAttention;
pub use dual::StateSpaceDual;
pub use forget::Forget;
pub use gated_lru::GatedLru;
pub use linear_attention::{Decay, LinearAttention, Update};
pub use selective::SelectiveScan;
pub use windows::Windows;

use crate::kernels::Kernels;

/// Columns of a task: the state of so many stays in the first-level cache.
const BLOCK: usize = 64;

/// `0..rows` in runs of one record each, and whether the run begins one.
fn runs(starts: &[usize], rows: usize) -> impl Iterator<Item = (Range<usize>, bool)> {
    assert!(
        starts.is_sorted() && starts.last().is_none_or(|&last| last < rows),
        "records begin in order, within {rows} rows"
    );
    let carried = (starts.first() != Some(&0)).then_some((0, false));
    let begun = starts.iter().map(|&start| (start, true));
    let ends = starts.iter().copied().filter(|&start| start > 0);
    let begins = carried.into_iter().chain(begun);
    begins
        .zip(ends.chain([rows]))
        .map(|((start, begins), end)| (start..end, begins))
}

impl Kernels {
    /// Runs a task for every few columns.
    fn column_tasks(&self, columns: usize, run: impl Fn(Range<usize>) + Sync) {
        let tasks: Vec<Range<usize>> = blocks(0..columns).collect();
        self.tasks(tasks.len(), |task| run(tasks[task].clone()));
    }
}

/// The columns of each task.
fn blocks(columns: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = columns.end;
    columns
        .step_by(BLOCK)
        .map(move |start| start..end.min(start + BLOCK))
}

#[cfg(test)]
mod tests {
    use super::{blocks, runs};

    #[test]
    fn rows_divide_at_the_starts() {
        let found = |starts: &[usize], rows| runs(starts, rows).collect::<Vec<_>>();
        assert_eq!(found(&[], 3), [(0..3, false)]);
        assert_eq!(found(&[0], 3), [(0..3, true)]);
        assert_eq!(found(&[0, 2], 3), [(0..2, true), (2..3, true)]);
        assert_eq!(found(&[1], 3), [(0..1, false), (1..3, true)]);
        assert_eq!(blocks(3..70).collect::<Vec<_>>(), [3..67, 67..70]);
    }
}
