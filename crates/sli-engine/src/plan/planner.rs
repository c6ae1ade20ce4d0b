//! What a plan is made of.

use sli_checkpoint::{BoundLeaf, Ledger};
use sli_kernels::Compute;

use super::division::Division;
use super::ends::{end_keys, logits_leaf};
use super::phases::{Grain, phases};
use super::{memory, sharing};
use crate::error::EngineError;
use crate::exec::linear::TILE_COLUMNS;
use crate::exec::rounded;
use crate::model::Model;
use crate::pooling::{columns, recipe};
use crate::records::RecordSpool;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::take::Take;
use crate::weights::load::{packed_bytes, step_rows};
use crate::weights::{LeafKey, Section, of_layers};

pub(super) struct Planner<'a> {
    pub(super) model: &'a Model,
    pub(super) records: &'a RecordSpool,
    pub(super) settings: &'a Settings,
    pub(super) fixed: u64,
    pub(super) row: u64,
    pub(super) longest: usize,
    pub(super) total: usize,
    pub(super) passing: Passing,
    /// What products whose inputs are rounded hold, bytes.
    pub(super) rounding: u64,
    /// What a reader of scheduled weights holds in front of them, bytes: as whole matrices are
    /// scheduled, and where they pass by in tiles.
    pub(super) staging: [u64; 2],
    pub(super) sharing: Result<usize, &'static str>,
    pub(super) shared: Shared,
    pub(super) division: Division<'a>,
}

/// What pieces of weights that pass by need at least, bytes.
pub(super) struct Passing {
    /// All matrices of the largest expert.
    pub(super) expert: u64,
    /// The narrowest tiles of them.
    pub(super) least_expert: u64,
    /// The narrowest tile of the widest matrix.
    pub(super) least_tile: u64,
    /// The narrowest tile of the projection to logits, where there is one.
    pub(super) least_head: Option<u64>,
    /// What decoding takes beside the rows of a weight.
    pub(super) beside: u64,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        model: &'a Model,
        records: &'a RecordSpool,
        settings: &'a Settings,
    ) -> Result<Self, EngineError> {
        records.check(&model.spec)?;
        let sharing = sharing::sharing(&model.spec, records, settings);
        let shared = Shared {
            tokens: sharing.unwrap_or(0),
            pictures: sharing::pictures(records, settings),
        };
        let division = Division::new(&model.spec, records, shared);
        let longest = division.longest().max(1);
        let fixed = program_bytes(model)
            + settings.host_bytes
            + records.bytes_in_memory() as u64
            + memory::take_bytes(&model.spec, &settings.takes)
            + recipe_bytes(model, settings)?;
        let mut row = memory::row_bytes(&model.spec, &settings.takes);
        if sharing.is_ok() {
            row += memory::SHARING_ROW_BYTES;
        }
        Ok(Self {
            model,
            records,
            settings,
            fixed,
            row,
            longest,
            total: division.rows(0..records.len()).max(1),
            passing: Passing::of(model, settings.compute),
            rounding: rounding(model),
            staging: [
                staging(model, Grain::Layer, settings.compute),
                staging(model, Grain::Tile, settings.compute),
            ],
            sharing,
            shared,
            division,
        })
    }
}

impl Passing {
    fn of(model: &Model, compute: Compute) -> Self {
        let (mut expert, mut least_expert, mut least_tile) = (0, 0, 0);
        let head = logits_leaf(model);
        let mut beside = head.map_or(0, decoding);
        for layer in of_layers(model) {
            let (mut experts, mut least_experts) = (0, 0);
            for leaf in layer.map(|key| key.bound(model)) {
                beside = beside.max(decoding(leaf));
                match *leaf.shape() {
                    [_, rows, _] => {
                        experts += packed_bytes(leaf, rows, compute);
                        least_experts += packed_bytes(leaf, TILE_COLUMNS.min(rows), compute);
                    }
                    [rows, _] => {
                        let least = packed_bytes(leaf, TILE_COLUMNS.min(rows), compute);
                        least_tile = least_tile.max(least);
                    }
                    _ => {}
                }
            }
            expert = expert.max(experts);
            least_expert = least_expert.max(least_experts);
        }
        let least_head = head.map(|leaf| packed_bytes(leaf, 1024.min(leaf.rows()), compute));
        Self {
            expert,
            least_expert,
            least_tile,
            least_head,
            beside,
        }
    }
}

/// What products whose inputs are rounded hold, bytes: one runs at a time.
fn rounding(model: &Model) -> u64 {
    let leaves = of_layers(model).flatten().map(|key| key.bound(model));
    let rounding = leaves.filter(|leaf| leaf.rounds_inputs());
    let bytes = rounding.map(|leaf| rounded::bytes(leaf.columns()));
    bytes.max().unwrap_or(0)
}

/// What decoding takes beside the rows of a weight that are read at a time, bytes.
fn decoding(leaf: &BoundLeaf) -> u64 {
    leaf.beside(step_rows(leaf, 1).min(leaf.rows())) as u64
}

/// What the modules behind the transformer hold, bytes.
fn recipe_bytes(model: &Model, settings: &Settings) -> Result<u64, EngineError> {
    let bytes = settings.takes.iter().map(|take| match take {
        Take::Embedding(asked) => {
            let columns = columns(model, *asked)?;
            Ok(recipe(model, *asked)?.bytes(columns, settings.compute))
        }
        _ => Ok(0),
    });
    bytes.sum()
}

/// What the program itself holds with this model open, bytes.
pub fn program_bytes(model: &Model) -> u64 {
    let tensors = model.checkpoint.tensors().len() as u64;
    let ledger = Ledger::bytes(
        model.checkpoint.stored_bytes(),
        tensors,
        model.spec.vocab_size as u64,
    );
    memory::PROGRAM_BYTES + tensors * 512 + ledger + model.checkpoint.source_memory()
}

/// What a reader holds in front of the largest of the matrices that are scheduled, bytes.
pub(super) fn staging(model: &Model, grain: Grain, compute: Compute) -> u64 {
    let phases = phases(model, grain, compute);
    let mut keys: Vec<LeafKey> = phases
        .into_iter()
        .flat_map(|phase| phase.scheduled)
        .collect();
    for stack in 0..model.spec.stacks.len() {
        for part in [Section::Embedding, Section::Head] {
            keys.extend(end_keys(model, stack, part));
        }
    }
    staging_of(model, &keys)
}

/// What a reader holds in front of the largest of some matrices, bytes.
pub(super) fn staging_of(model: &Model, keys: &[LeafKey]) -> u64 {
    let leaves = keys.iter().map(|key| key.bound(model));
    let matrices = leaves.filter(|leaf| leaf.shape().len() > 1);
    matrices
        .map(|leaf| staged(leaf, leaf.rows()))
        .max()
        .unwrap_or(0)
}

/// What a reader holds in front of so many rows of a matrix, bytes.
pub(super) fn staged(leaf: &BoundLeaf, rows: usize) -> u64 {
    let rows = step_rows(leaf, 1).min(rows);
    (rows * leaf.row_bytes() + leaf.beside(rows)) as u64
}
