//! Which matrices there are, what they are called, and what they cost.

use std::collections::BTreeSet;

use sli_spec::{Layer, Mechanism, ModelSpec, Source};

use super::file;
use super::sums::{STRIPE_BYTES, stripe_rows};
use super::unit::{BLOCK, ROWS, ROWS_BYTES, UNIT};
use crate::boundaries::boundaries;
use crate::model::Model;
use crate::take::{BoundaryKind, LayerSelection, Take, TakeError};

/// Stack and layer, from 0.
pub(crate) type Place = (usize, usize);

/// The layers that a selection names.
pub(crate) fn layers(
    spec: &ModelSpec,
    selection: &LayerSelection,
) -> Result<Vec<Place>, TakeError> {
    let mut places = Vec::new();
    for boundary in boundaries(spec, selection)? {
        match boundary.kind {
            BoundaryKind::Layer(layer) if layer > 0 => places.push((boundary.stack, layer - 1)),
            _ if selection.is_all() => {}
            kind => {
                let stacks = spec.stacks.iter();
                let all = stacks.map(|stack| format!("{}.1-{}", stack.name, stack.layers.len()));
                let item = match kind {
                    BoundaryKind::Layer(layer) => layer.to_string(),
                    BoundaryKind::Norm => "norm".to_owned(),
                };
                return Err(TakeError::NoSuchLayer {
                    item,
                    available: all.collect::<Vec<_>>().join(", "),
                });
            }
        }
    }
    Ok(places)
}

/// Of every leaf of a layer the one that stands for it: the first of those that get the same rows, or that are parts of one tensor.
pub(super) fn owners(layer: &Layer) -> Vec<usize> {
    let mut owners: Vec<usize> = (0..layer.leaves.len()).collect();
    for class in layer.mechanisms().flat_map(Mechanism::alike) {
        let first = class.iter().map(|leaf| leaf.0 as usize).min();
        for leaf in class {
            owners[leaf.0 as usize] = owners[leaf.0 as usize].min(first.unwrap_or(usize::MAX));
        }
    }
    for leaf in 0..owners.len() {
        let own = &layer.leaves[leaf];
        let is_part = |other: &&usize| {
            let other = &layer.leaves[**other];
            tensors(&other.source) == tensors(&own.source) && other.shape.last() == own.shape.last()
        };
        let earlier: Vec<usize> = (0..leaf).collect();
        if let Some(&whole) = earlier.iter().find(is_part) {
            let (from, to) = (owners[leaf], owners[whole]);
            let (from, to) = (from.max(to), from.min(to));
            for owner in &mut owners {
                if *owner == from {
                    *owner = to;
                }
            }
        }
    }
    owners
}

/// Names of tensors, and which slice it is of a stacked one.
fn tensors(source: &Source) -> (Vec<&str>, Option<usize>) {
    (source.names(), slice(source))
}

/// Which slice of a stacked tensor a weight is, if it is one.
fn slice(source: &Source) -> Option<usize> {
    match source {
        Source::Index { index, .. } => Some(*index),
        Source::Part { of, .. }
        | Source::Transpose(of)
        | Source::Each { of, .. }
        | Source::Elementwise { of, .. }
        | Source::RopePermute { of, .. }
        | Source::BlockDiagonal { of, .. }
        | Source::Reshape(of) => slice(of),
        Source::Tensor(_)
        | Source::OneOf(_)
        | Source::Tied { .. }
        | Source::ConcatRows(_)
        | Source::ConcatColumns(_) => None,
    }
}

/// The matrices that a leaf stands for, of stacked ones number `number`: tensors by their names in the checkpoint, without
/// `.weight`.
pub(super) fn names(
    model: &Model,
    (stack, index): Place,
    owners: &[usize],
    leaf: usize,
    number: usize,
) -> Vec<String> {
    let layer = &model.spec.stacks[stack].layers[index];
    let bound = &model.binding.stack(stack).layers[index];
    let alike = (0..owners.len()).filter(|&other| owners[other] == leaf);
    let mut names: Vec<String> = Vec::new();
    for other in alike {
        let Some(own) = bound.get(other).and_then(Option::as_ref) else {
            continue;
        };
        let is_stacked = own.slices() > 1 && own.tensor_names(0) == own.tensor_names(1);
        let slice = slice(&layer.leaves[other].source).or(is_stacked.then_some(number));
        for tensor in own.tensor_names(number.min(own.slices().saturating_sub(1))) {
            let mut name = tensor.strip_suffix(".weight").unwrap_or(&tensor).to_owned();
            if let Some(slice) = slice {
                name = format!("{name}.{slice}");
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        names.push(format!("{}{leaf}.{number}", layer.prefix));
    }
    names
}

/// The matrices of a layer that are counted, each with its columns; of experts how many there are and how many a row chooses.
fn matrices(layer: &Layer) -> Vec<(usize, usize, usize)> {
    let owners = owners(layer);
    let routings = layer.mechanisms().filter_map(Mechanism::routing);
    let chosen = routings
        .map(|routing| routing.router.top_k)
        .max()
        .unwrap_or(1);
    let leaves = layer.leaves.iter().enumerate();
    let own = leaves.filter(|(index, leaf)| owners[*index] == *index && leaf.shape.len() > 1);
    own.map(|(_, leaf)| match leaf.shape[..] {
        [.., count, _, columns] => (columns, count, chosen.min(count)),
        [.., columns] => (columns, 1, 1),
        [] => (0, 0, 0),
    })
    .collect()
}

/// The layers of which this is taken.
fn taken<'s>(spec: &'s ModelSpec, takes: &[Take]) -> impl Iterator<Item = &'s Layer> + use<'s> {
    let selection = takes.iter().find_map(|take| match take {
        Take::Hessian(selection) => Some(selection),
        _ => None,
    });
    // What is not there was refused before.
    let places = selection.map(|selection| layers(spec, selection).unwrap_or_default());
    let places: BTreeSet<Place> = places.unwrap_or_default().into_iter().collect();
    places
        .into_iter()
        .map(|(stack, layer)| &spec.stacks[stack].layers[layer])
}

/// Bytes that are in memory while a layer runs and when its file is written, at most.
pub(crate) fn largest_bytes(spec: &ModelSpec, takes: &[Take]) -> u64 {
    let of_layer = |layer: &Layer| {
        let matrices = matrices(layer);
        let all: usize = matrices
            .iter()
            .map(|(columns, count, _)| columns * count)
            .sum();
        // Of experts those of the units in which a chunk begins and ends, of the first one and of one that runs.
        let open = matrices
            .iter()
            .map(|(columns, count, chosen)| columns * UNIT * (2 * chosen + 2).min(*count));
        let open: usize = open.sum();
        let widest = matrices
            .iter()
            .map(|(columns, ..)| *columns)
            .max()
            .unwrap_or(0);
        let waiting = (4 * ROWS * all).min(ROWS_BYTES) + 4 * open.min(ROWS * all);
        let together = 2 * (4 * ROWS * widest).min(ROWS_BYTES.max(4 * UNIT * widest));
        let stripe = (16 * widest * stripe_rows(widest)).min(16 * widest * widest);
        let product = 4 * stripe_rows(widest).min(widest) * BLOCK.min(widest);
        let written = (4 * widest * widest).min(file::ROWS_BYTES.max(4 * widest));
        (waiting + together + stripe.min(2 * STRIPE_BYTES.max(16 * 16 * widest)) + product)
            .max(written) as u64
    };
    taken(spec, takes).map(of_layer).max().unwrap_or(0)
}

/// Bytes of the results.
pub(crate) fn result_bytes(spec: &ModelSpec, takes: &[Take]) -> u64 {
    let of = |(columns, count, _): (usize, usize, usize)| 4 * (columns * columns * count) as u64;
    taken(spec, takes).flat_map(matrices).map(of).sum()
}

/// Operations of the products of a row with itself, in all layers.
pub(crate) fn product_operations(spec: &ModelSpec, takes: &[Take]) -> f64 {
    let of = |(columns, _, chosen): (usize, usize, usize)| (columns * columns * chosen) as f64;
    taken(spec, takes).flat_map(matrices).map(of).sum()
}
