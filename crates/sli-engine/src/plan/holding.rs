//! What a run is expected to hold at its peak: what its buffers will be for these records, on top of what the
//! process holds already. `Planner::bound` is what it cannot exceed.

use super::READERS;
use super::division::Division;
use super::ends::end_keys;
use super::memory::{self, Choice, PROGRAM_BYTES};
use super::phases::{Grain, scheduled_bytes};
use super::planner::{Planner, staged, staging_of};
use super::reading::{Ways, head_leaf};
use super::work::needs_logits;
use crate::exec::head::vocabulary_tiles;
use crate::exec::linear::{TILE_COLUMNS, tile_rows};
use crate::portion::Portion;
use crate::summary::{peak_memory, resident_memory};
use crate::weights::load::{STAGING_BYTES, packed_bytes};
use crate::weights::{LeafKey, Section, of_layers};

/// Code and tables of the program that a run touches after it was planned, stacks of its threads.
const TOUCHED_LATER: u64 = 1 << 20;

impl Planner<'_> {
    /// The peak of a run that divides the work in these ways, bytes.
    pub(super) fn expected_peak(&self, ways: Ways<'_>, chunk: usize, budget: u64) -> u64 {
        let (spec, settings) = (&self.model.spec, self.settings);
        let division = ways.division;
        let parts = division.portions(0..self.records.len(), ways.rows);
        let held = parts.iter().map(|part| self.held(division, part)).max();
        let rows = parts.iter().map(|part| division.rows_of(part)).max();
        let rows = rows.unwrap_or(1);
        let chunk = chunk.min(rows);
        let tiled = ways.grain == Grain::Tile;
        let mut scratch = memory::scratch_bytes(spec, chunk, rows, tiled, Choice::Evenly);
        if let Ok(shared) = self.sharing
            && chunk < rows
        {
            let together = matches!(ways.grain, Grain::Model | Grain::Layer);
            scratch += shared as u64 * memory::carried_bytes(spec, together);
        }
        if parts.iter().any(|part| part.piece.is_some()) {
            scratch += self.cut_bytes(chunk);
        }
        let layers = scratch + self.passing_layers(ways.tile, tiled);
        let head = memory::head_bytes(spec, rows, needs_logits(&settings.takes))
            + self.passing_head(ways.tile);
        let scheduled = self.scheduled(ways);
        let weights = scheduled.0.min(budget) + READERS as u64 * scheduled.1;
        let base = match resident_memory() {
            0 => PROGRAM_BYTES / 2,
            resident => resident,
        };
        let running = weights
            + held.unwrap_or(0)
            + layers.max(head).max(memory::stem_bytes(spec, self.longest))
            + memory::kernel_scratch_bytes(spec, chunk, settings.threads, settings.compute)
            + self.rounding
            + memory::open_bytes(spec, &settings.takes, self.longest_record());
        let written = memory::table_bytes(spec, &settings.takes, self.longest_record());
        let expected =
            base + TOUCHED_LATER + running.max(written) + memory::take_bytes(spec, &settings.takes);
        expected.max(peak_memory())
    }

    /// Bytes that the rows of a portion hold for as long as they are in memory.
    fn held(&self, division: Division<'_>, portion: &Portion) -> u64 {
        let spec = &self.model.spec;
        if spec.stacks.len() == 1 {
            return division.rows_of(portion) as u64 * self.row;
        }
        let rows = |stack: usize| -> u64 {
            let (records, first) = (portion.records.clone(), portion.records.start);
            let added = records.map(|record| division.added(stack, record, first));
            added.sum::<usize>() as u64
        };
        let of = |stack: usize| {
            let mut row = memory::own_row_bytes(spec, stack, &self.settings.takes);
            if self.sharing.is_ok() {
                row += memory::SHARING_ROW_BYTES;
            }
            let own = rows(stack) * row;
            let sources = spec.stacks[stack].sources().into_iter();
            let ends = sources.map(|source| rows(source) * memory::end_bytes(spec, source));
            own + ends.sum::<u64>()
        };
        (0..spec.stacks.len()).map(of).max().unwrap_or(0)
    }

    /// Bytes of all that the store reads, in memory, and of what a reader holds in front of it.
    fn scheduled(&self, ways: Ways<'_>) -> (u64, u64) {
        let mut bytes = 0;
        let mut keys: Vec<LeafKey> = Vec::new();
        for stack in 0..self.model.spec.stacks.len() {
            keys.extend(end_keys(self.model, stack, Section::Embedding));
            keys.extend(end_keys(self.model, stack, Section::Head));
        }
        let phases = ways.phases.iter().flat_map(|phase| &phase.scheduled);
        keys.extend(phases.copied());
        bytes += scheduled_bytes(self.model, &keys, self.settings.compute);
        let staging = staging_of(self.model, &keys);
        if ways.keeps_head
            && let Some(leaf) = head_leaf(self.model, self.settings)
        {
            bytes += packed_bytes(leaf, leaf.rows(), self.settings.compute);
        }
        (bytes, staging)
    }

    /// Pieces of the head that are there together, and what is in front of them.
    fn passing_head(&self, tile: u64) -> u64 {
        let Some(leaf) = head_leaf(self.model, self.settings) else {
            return 0;
        };
        let compute = self.settings.compute;
        let tiles = vocabulary_tiles(leaf, compute, tile);
        let rows = tiles.first().map_or(0, std::ops::Range::len);
        let together = tiles.len().min(2) as u64;
        let staging = staged(leaf, rows);
        together * packed_bytes(leaf, rows, compute) + staging
    }

    /// Experts or tiles of matrices that are there together, and what is in front of them.
    fn passing_layers(&self, tile: u64, tiled: bool) -> u64 {
        let compute = self.settings.compute;
        let mut experts = self.passing.expert;
        let mut largest = 0;
        if tiled {
            experts = experts.min(self.passing.least_expert.max(tile));
            for key in of_layers(self.model).flatten() {
                let leaf = key.bound(self.model);
                if let [rows, _] = *leaf.shape() {
                    let all = packed_bytes(leaf, rows, compute);
                    let fit = tile_rows(all, rows, tile).max(TILE_COLUMNS).min(rows);
                    largest = largest.max(packed_bytes(leaf, fit, compute));
                }
            }
        }
        let largest = largest.max(experts);
        let staging = largest.min(STAGING_BYTES as u64) + self.passing.beside;
        2 * largest + staging
    }
}
