//! Experts passing by: every expert that got a token is read once, in file order; the others are never read.

use std::ops::Range;

use sli_checkpoint::BoundLeaf;
use sli_kernels::PackedWeights;
use sli_spec::Linear;

use crate::error::EngineError;
use crate::exec::linear::{tile_rows, tiles};
use crate::exec::{BoundLayer, Residency};
use crate::weights::load;
use crate::weights::stream::Piece;

/// Which part of an expert's work a group of pieces is for: rows of its input matrices, or rows of
/// its output matrix, or all of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpertPart {
    /// The expert's first group.
    pub first: bool,
    /// The expert's last group.
    pub last: bool,
    /// Rows of the input matrices; empty: none.
    pub inputs: Range<usize>,
    /// Rows of the output matrix; empty: none.
    pub outputs: Range<usize>,
}

/// Reads the matrices of every expert with a load, in file order, and hands them to `consume`: all
/// at once, or in tiles where the budget is small; then first tiles of the `inputs` first matrices,
/// side by side, then tiles of the others.
pub(crate) fn each(
    layer: &BoundLayer<'_>,
    linears: &[&Linear],
    inputs: usize,
    loads: &[Vec<u32>],
    mut consume: impl FnMut(usize, ExpertPart, &[PackedWeights]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let leaves = linears.iter().map(|linear| layer.bound(linear.weight));
    let leaves: Vec<&BoundLeaf> = leaves.collect();
    let mut hit = (0..loads.len())
        .filter(|&id| !loads[id].is_empty())
        .map(|id| Ok((leaves[0].position(id)?, id)))
        .collect::<Result<Vec<_>, EngineError>>()?;
    hit.sort_unstable();
    let stages = stages(layer, &leaves, inputs);
    let mut groups = Vec::new();
    let mut works = Vec::new();
    for &(_, id) in &hit {
        for stage in &stages {
            let pieces = linears.iter().zip(&leaves).enumerate();
            let pieces = pieces.filter_map(|(index, (linear, &leaf))| {
                let rows = if index < inputs {
                    &stage.inputs
                } else {
                    &stage.outputs
                };
                (!rows.is_empty()).then(|| Piece {
                    key: layer.key(linear.weight),
                    leaf,
                    slice: id,
                    rows: rows.clone(),
                })
            });
            groups.push(pieces.collect::<Vec<_>>());
            works.push((id, stage.clone()));
        }
    }
    layer.stream(&groups, |index, packed| {
        let (id, stage) = works[index].clone();
        consume(id, stage, packed)
    })
}

/// The groups of one expert.
fn stages(layer: &BoundLayer<'_>, leaves: &[&BoundLeaf], inputs: usize) -> Vec<ExpertPart> {
    let whole = |leaf: Option<&&BoundLeaf>| leaf.map_or(0, |leaf| leaf.rows());
    let (inner, outer) = (
        whole(leaves.first().filter(|_| inputs > 0)),
        whole(leaves.last().filter(|_| inputs < leaves.len())),
    );
    let mut stages = match layer.residency {
        Residency::Resident => vec![ExpertPart {
            inputs: 0..inner,
            outputs: 0..outer,
            ..ExpertPart::default()
        }],
        Residency::Tiled(bytes) => {
            let compute = layer.kernels.compute();
            let split = |leaves: &[&BoundLeaf], rows: usize| {
                let total: u64 = leaves
                    .iter()
                    .map(|leaf| load::packed_bytes(leaf, rows, compute))
                    .sum();
                tiles(rows, tile_rows(total, rows, bytes))
            };
            let inputs_tiles = split(&leaves[..inputs], inner).into_iter();
            let outputs_tiles = split(&leaves[inputs..], outer).into_iter();
            inputs_tiles
                .map(|inputs| ExpertPart {
                    inputs,
                    ..ExpertPart::default()
                })
                .chain(outputs_tiles.map(|outputs| ExpertPart {
                    outputs,
                    ..ExpertPart::default()
                }))
                .collect()
        }
    };
    if let Some(first) = stages.first_mut() {
        first.first = true;
    }
    if let Some(last) = stages.last_mut() {
        last.last = true;
    }
    stages
}
