//! What it takes to cut records into pieces: records that are longer than what memory has room for.

use sli_kernels::Running;
use sli_spec::{Mask, Mechanism, ModelSpec, Stack, StateSpec};

use super::division::Division;
use super::memory::boundary_values;
use super::planner::Planner;
use crate::classes::classes_of_token;
use crate::exec::batch::reads_own_rows;
use crate::exec::states::{CROSSING, IN_MEMORY};
use crate::settings::Spill;
use crate::take::Take;

/// Rows of a piece, at least.
pub(super) const LEAST_PIECE: usize = Running::KEYS;

/// Keys that are in memory at a time where records are cut into pieces of so many rows.
pub(crate) fn window(piece: usize) -> usize {
    (piece / Running::KEYS * Running::KEYS).max(Running::KEYS)
}

impl Planner<'_> {
    /// Whether records may be cut.
    pub(super) fn may_cut(&self) -> bool {
        let [stack] = &self.model.spec.stacks[..] else {
            return false;
        };
        let on_disk = self.keys_on_disk() + (4 * self.longest * boundary_values(stack)) as u64;
        self.settings.spill != Spill::Never
            && self.longest > LEAST_PIECE
            && stack.uncut().is_none()
            && on_disk <= self.settings.spill_room
    }

    /// Bytes that cutting records into pieces of so many rows takes.
    pub(super) fn cut_bytes(&self, piece: usize) -> u64 {
        /// Token, type, position and their ids of a row of what is read of the record.
        const RECORD_ROW: usize = 32;
        /// Token and log-probability.
        const SCORE: usize = 8;
        /// Experts and their weights.
        const ROUTES: usize = 64;
        /// A token and its weight, in a tree.
        const WEIGHT: usize = 48;
        /// One of the best tokens.
        const BEST: usize = 8;
        /// Where the lists of a token begin, in what is computed and in what is written.
        const LISTS: usize = 96;
        let of_row = self.settings.takes.iter().map(|take| match take {
            Take::Scores => SCORE,
            Take::Router => ROUTES,
            Take::TopK(k) => BEST * k + LISTS,
            Take::Sparse => WEIGHT,
            Take::Classes => 8 * classes_of_token(&self.model.spec) as usize,
            Take::Lens(k, _) => {
                let layers = self.model.spec.output_stack().layers.len() + 1;
                layers * (2 * BEST * k + LISTS)
            }
            // Two of each, the model's and the reference's; divergences, once more where the record is led.
            Take::Drift => 2 * (SCORE + BEST) + BEST,
            Take::Hidden(_)
            | Take::Logits
            | Take::Embedding(_)
            | Take::Profile
            | Take::Imatrix
            | Take::Hessian(_)
            | Take::Trace => 0,
        });
        let own = self.model.spec.stacks.iter().all(reads_own_rows);
        let read = if own { piece + 1 } else { self.longest };
        let rows = read * RECORD_ROW + self.longest * of_row.sum::<usize>();
        let record = (rows + 2 * CROSSING) as u64;
        let stacks = self.model.spec.stacks.iter();
        let windows = stacks.flat_map(Stack::mechanisms).filter_map(|mechanism| {
            let keys = mechanism.keys()?;
            let value = keys.seen() - keys.key;
            let sums = piece * Running::columns(keys.queries, value);
            Some(4 * (window(piece) * keys.heads * keys.seen() + sums) as u64)
        });
        record + windows.max().unwrap_or(0)
    }

    /// Bytes of the keys and values of a record that is cut, on disk.
    pub(super) fn keys_on_disk(&self) -> u64 {
        let layers = self
            .model
            .spec
            .stacks
            .iter()
            .flat_map(|stack| &stack.layers);
        let most = layers.map(|layer| layer.mechanisms().map(key_columns).sum::<usize>());
        4 * (self.longest * most.max().unwrap_or(0)) as u64
    }

    /// Bytes of keys and values that cross to and from the disk where records are cut.
    pub(super) fn keys_crossing(&self, division: Division<'_>) -> u64 {
        let mut bytes = 0.0;
        let mechanisms = || self.model.spec.stacks.iter().flat_map(Stack::mechanisms);
        for record in 0..self.records.len() {
            let rows = division.length(record);
            let portions = division.portions(record..record + 1, rows);
            let pieces = portions.iter().filter(|portion| portion.piece.is_some());
            let pieces = pieces.count();
            if pieces == 0 {
                continue;
            }
            for mechanism in mechanisms() {
                let seen = times_read(mechanism, rows as f64, pieces as f64);
                // Written once, and read for every piece.
                bytes += 4.0 * (rows * key_columns(mechanism)) as f64 * (1.0 + seen);
            }
        }
        bytes as u64
    }
}

/// How often every key is read where a record of `rows` rows has so many pieces.
fn times_read(mechanism: &dyn Mechanism, rows: f64, pieces: f64) -> f64 {
    let near = |keys: usize| 1.0 + keys as f64 * pieces / rows;
    let causal = f64::midpoint(pieces, 1.0);
    match mechanism.mask() {
        None => 0.0,
        Some(Mask::CausalWindow(keys) | Mask::CausalChunk(keys)) => near(keys).min(causal),
        Some(Mask::Window(distance)) => near(2 * distance).min(pieces),
        Some(Mask::Around { back, ahead }) => near(back + ahead).min(pieces),
        Some(Mask::Block(size)) => near(size).min(pieces),
        Some(Mask::Causal) => causal,
        Some(
            Mask::Full
            | Mask::FullButPadding(_)
            | Mask::CausalAfterContext
            | Mask::CausalWindowAfterContext(_)
            | Mask::CausalRuns { .. }
            | Mask::Windows
            | Mask::BlankApart
            | Mask::Seen,
        ) => pieces,
    }
}

/// Bytes of the summaries that a layer's recurrences leave at rows that others go on from.
pub(super) fn summary_bytes(spec: &ModelSpec) -> u64 {
    let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let most = layers.map(|layer| layer.mechanisms().map(summary_values).sum::<usize>());
    // One that runs, one on its way to the file.
    4 * (most.max().unwrap_or(0) * (IN_MEMORY + 2)) as u64
}

/// Values of a summary of all rows so far.
fn summary_values(mechanism: &dyn Mechanism) -> usize {
    let states = mechanism.states().into_iter();
    states.map(StateSpec::values).sum()
}

/// Columns of the keys and values that a row leaves.
fn key_columns(mechanism: &dyn Mechanism) -> usize {
    let columns = mechanism.states().into_iter().map(|state| match state {
        StateSpec::Rows { columns } => columns,
        StateSpec::Window { .. } | StateSpec::Fixed { .. } => 0,
    });
    columns.sum()
}
