//! The order of work within a super-batch: what is in memory together and which rows run together.

use std::ops::Range;

use sli_spec::{Layer, Leaf, Shard, Step, WeightIndex};

use crate::model::Model;
use crate::weights::load::resident_bytes;
use crate::weights::{LeafKey, Section};
use sli_kernels::Compute;

/// Some steps of one layer whose weights are in memory together.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub stack: usize,
    pub layer: usize,
    pub steps: Range<usize>,
    /// What the store reads for it, in order.
    pub scheduled: Vec<LeafKey>,
    /// Bytes of `scheduled` in memory.
    pub bytes: u64,
    /// All rows of the super-batch run together (experts are routed first).
    pub whole: bool,
}

/// How finely a layer is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// The whole model stays in memory from the first super-batch on.
    Model,
    /// A layer at a time.
    Layer,
    /// A residual step at a time.
    Step,
    /// A tile of one matrix at a time.
    Tile,
}

/// Whether a step has to see all rows of a super-batch at once.
pub(crate) fn is_whole(step: &Step) -> bool {
    step.mechanisms()
        .any(|mechanism| mechanism.routing().is_some())
}

/// Whether a leaf is read expert by expert, as tokens choose them.
pub(crate) fn is_expert(leaf: &Leaf) -> bool {
    leaf.shape.len() > 2 || leaf.shard == Shard::Expert
}

/// The phases of every layer of every stack, in order.
pub(crate) fn phases(model: &Model, grain: Grain, compute: Compute) -> Vec<Phase> {
    let mut phases = Vec::new();
    for (stack, description) in model.spec.stacks.iter().enumerate() {
        for (index, layer) in description.layers.iter().enumerate() {
            for steps in groups(layer, grain) {
                phases.push(phase(model, stack, index, layer, steps, grain, compute));
            }
        }
    }
    phases
}

/// Which steps run in one phase.
fn groups(layer: &Layer, grain: Grain) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    for (index, step) in layer.steps.iter().enumerate() {
        let alone = is_whole(step) || matches!(grain, Grain::Step | Grain::Tile);
        match groups.last_mut() {
            Some(group) if open && !alone => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
        open = !alone;
    }
    groups
}

fn phase(
    model: &Model,
    stack: usize,
    index: usize,
    layer: &Layer,
    steps: Range<usize>,
    grain: Grain,
    compute: Compute,
) -> Phase {
    let mut weights: Vec<WeightIndex> = Vec::new();
    for step in &layer.steps[steps.clone()] {
        for weight in step.weights() {
            if !weights.contains(&weight) {
                weights.push(weight);
            }
        }
    }
    // Experts are read when it is known which; matrices of a tiled phase pass by.
    let most = if grain == Grain::Tile { 1 } else { 2 };
    weights.retain(|weight| {
        let leaf = &layer.leaves[weight.0 as usize];
        leaf.shape.len() <= most && !is_expert(leaf)
    });
    let scheduled: Vec<LeafKey> = weights
        .into_iter()
        .map(|leaf| LeafKey {
            stack,
            part: Section::Layer(index),
            leaf,
        })
        .collect();
    let bytes = scheduled_bytes(model, &scheduled, compute);
    let whole = layer.steps[steps.clone()].iter().any(is_whole);
    Phase {
        stack,
        layer: index,
        steps,
        scheduled,
        bytes,
        whole,
    }
}

/// Bytes of leaves in memory.
pub(crate) fn scheduled_bytes(model: &Model, keys: &[LeafKey], compute: Compute) -> u64 {
    let leaves = keys.iter().map(|key| key.bound(model));
    leaves.map(|leaf| resident_bytes(leaf, compute)).sum()
}
