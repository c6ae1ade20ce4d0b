//! Mixture of experts, streamed: all rows are routed first, then every expert that got a token is
//! read once, in file order, and runs its tokens; the others are never read.

use std::ops::Range;

use sli_checkpoint::ResolvedLeaf;
use sli_kernels::{Activation as Kernel, Mat, MatRef, PackedWeights, Store};
use sli_spec::{ClampedGate, FeedForward, Linear, MixtureOfExperts};

use super::{feed_forward, kernel, router};
use crate::error::EngineError;
use crate::exec::linear::{tile_rows, tiles};
use crate::exec::step::Probe;
use crate::exec::{Layer, Residency, Rows, Scratch, values};
use crate::weights::load;
use crate::weights::stream::Piece;

/// `output = experts(x)`; x is `[rows, hidden]`, the rows of a whole super-batch.
pub(crate) fn run(
    layer: &Layer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    rows: Rows<'_>,
    output: &mut Mat,
    scratch: &mut Scratch,
    probe: &mut dyn Probe,
) -> Result<(), EngineError> {
    let count = x.rows();
    let routes = router::route(layer, &experts.router, x, rows, scratch)?;
    let all = experts.experts + experts.identity_experts;
    probe.routed(rows, routes.top_k, all, &routes.ids, &routes.weights);
    output.reset(count, x.cols());
    output.as_mut_slice().fill(0.0);
    routed(layer, experts, x, &routes, output, scratch)?;
    add_identities(experts, x, &routes, output);
    if let Some(shared) = &experts.shared {
        let mut always = std::mem::take(&mut scratch.inner);
        feed_forward::run(layer, shared, x, &mut always, scratch)?;
        if let Some(gate) = &experts.shared_gate {
            scratch.gate.reset(count, 1);
            layer.linear(x, gate, scratch.gate.view_mut())?;
            let gates = scratch.gate.view_mut();
            layer.kernels.activation(Kernel::Sigmoid, gates);
            for row in 0..count {
                let factor = scratch.gate.row(row)[0];
                always
                    .row_mut(row)
                    .iter_mut()
                    .for_each(|value| *value *= factor);
            }
        }
        layer.kernels.add(always.view(), 1.0, output.view_mut());
        scratch.inner = always;
    }
    if experts.output_scale != 1.0 {
        let scale = experts.output_scale as f32;
        layer.kernels.scale_in_place(scale, output.view_mut());
    }
    let bias = layer.vector(experts.output_bias)?;
    if let Some(bias) = values(bias.as_ref()) {
        add_to_rows(bias, output);
    }
    Ok(())
}

/// Adds a vector to every row.
pub(crate) fn add_to_rows(bias: &[f32], output: &mut Mat) {
    for row in 0..output.rows() {
        let row = output.row_mut(row).iter_mut();
        row.zip(bias).for_each(|(value, bias)| *value += bias);
    }
}

/// Experts without weights return their input.
fn add_identities(
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    routes: &router::Routes,
    output: &mut Mat,
) {
    if experts.identity_experts == 0 {
        return;
    }
    let choices = routes.ids.iter().zip(&routes.weights).enumerate();
    for (place, (&id, &weight)) in choices {
        if id as usize >= experts.experts {
            let row = place / routes.top_k;
            let target = output.row_mut(row).iter_mut();
            target
                .zip(x.row(row))
                .for_each(|(sum, value)| *sum += weight * value);
        }
    }
}

/// Adds the weighted outputs of the chosen experts to `output`.
fn routed(
    layer: &Layer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    routes: &router::Routes,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let top_k = routes.top_k;
    let loads = routes.loads(experts.experts);
    let network = &experts.expert;
    let addends = Addends::new(layer, network)?;
    let mut run = ExpertRun::default();
    let linears: Vec<&Linear> = network
        .gate
        .iter()
        .chain([&network.up, &network.down])
        .collect();
    let inputs = linears.len() - 1;
    each(layer, &linears, inputs, &loads, |expert, stage, packed| {
        let load = &loads[expert];
        let block = match layer.residency {
            Residency::Resident => feed_forward::BLOCK_ROWS,
            // The weights of an expert pass by once, for all of its rows.
            Residency::Tiled(_) => load.len(),
        };
        if stage.first {
            run.addends = addends.of(expert)?;
        }
        for places in load.chunks(block) {
            if stage.first {
                gather(layer, experts, x, routes, places, &mut scratch.normed)?;
            }
            inner_of(layer, network, &stage, &run.addends, packed, scratch);
            if stage.outputs.is_empty() {
                continue;
            }
            down(layer, &stage, &run.addends, packed, network, scratch);
            if !stage.last {
                continue;
            }
            for (row, &place) in places.iter().enumerate() {
                let weight = if experts.router.weighs_input {
                    1.0
                } else {
                    routes.weights[place as usize]
                };
                let target = output.row_mut(place as usize / top_k).iter_mut();
                target
                    .zip(scratch.heads.row(row))
                    .for_each(|(sum, value)| *sum += weight * value);
            }
        }
        Ok(())
    })
}

/// Copies the rows of these places, scaled where the weights belong to the input.
fn gather(
    layer: &Layer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    routes: &router::Routes,
    places: &[u32],
    into: &mut Mat,
) -> Result<(), EngineError> {
    into.reset(places.len(), x.cols());
    for (row, &place) in places.iter().enumerate() {
        let source = x.row(place as usize / routes.top_k);
        into.row_mut(row).copy_from_slice(source);
    }
    if let Some(norm) = &experts.expert_norm {
        layer.norm_in_place(norm, into.view_mut())?;
    }
    if experts.router.weighs_input {
        for (row, &place) in places.iter().enumerate() {
            let weight = routes.weights[place as usize];
            let row = into.row_mut(row).iter_mut();
            row.for_each(|value| *value *= weight);
        }
    }
    Ok(())
}

/// Which part of an expert's work a group of pieces is for: rows of its input matrices, or rows of
/// its output matrix, or all of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage {
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
    layer: &Layer<'_>,
    linears: &[&Linear],
    inputs: usize,
    loads: &[Vec<u32>],
    mut consume: impl FnMut(usize, Stage, &[PackedWeights]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let leaves = linears
        .iter()
        .map(|linear| Ok(layer.model.binding.resolve(layer.leaf(linear.weight))?))
        .collect::<Result<Vec<_>, EngineError>>()?;
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
            let pieces = pieces.filter_map(|(index, (linear, leaf))| {
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
fn stages(layer: &Layer<'_>, leaves: &[ResolvedLeaf], inputs: usize) -> Vec<Stage> {
    let whole = |leaf: Option<&ResolvedLeaf>| leaf.map_or(0, ResolvedLeaf::rows);
    let (inner, outer) = (
        whole(leaves.first().filter(|_| inputs > 0)),
        whole(leaves.last().filter(|_| inputs < leaves.len())),
    );
    let mut stages = match layer.residency {
        Residency::Resident => vec![Stage {
            inputs: 0..inner,
            outputs: 0..outer,
            ..Stage::default()
        }],
        Residency::Tiled(bytes) => {
            let compute = layer.kernels.compute();
            let split = |leaves: &[ResolvedLeaf], rows: usize| {
                let total: u64 = leaves
                    .iter()
                    .map(|leaf| load::packed_bytes(leaf, rows, compute))
                    .sum();
                tiles(rows, tile_rows(total, rows, bytes))
            };
            let inputs_tiles = split(&leaves[..inputs], inner).into_iter();
            let outputs_tiles = split(&leaves[inputs..], outer).into_iter();
            inputs_tiles
                .map(|inputs| Stage {
                    inputs,
                    ..Stage::default()
                })
                .chain(outputs_tiles.map(|outputs| Stage {
                    outputs,
                    ..Stage::default()
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

/// What is added in one expert: to gate, up and down.
#[derive(Default)]
struct ExpertRun {
    addends: [Option<Vec<f32>>; 3],
}

/// The addends of all experts.
struct Addends([Option<ResolvedLeaf>; 3]);

impl Addends {
    fn new(layer: &Layer<'_>, network: &FeedForward) -> Result<Self, EngineError> {
        let resolve = |linear: Option<&Linear>| {
            let bias = linear.and_then(|linear| linear.bias);
            bias.map(|bias| Ok::<_, EngineError>(layer.model.binding.resolve(layer.leaf(bias))?))
                .transpose()
        };
        Ok(Self([
            resolve(network.gate.as_ref())?,
            resolve(Some(&network.up))?,
            resolve(Some(&network.down))?,
        ]))
    }

    fn of(&self, expert: usize) -> Result<[Option<Vec<f32>>; 3], EngineError> {
        let mut found = [None, None, None];
        for (leaf, found) in self.0.iter().zip(&mut found) {
            if let Some(leaf) = leaf {
                *found = Some(leaf.read_f32(0, expert..expert + 1)?);
            }
        }
        Ok(found)
    }
}

/// `scratch.gate = activation(gate x) * up x`, or `scratch.up` without a gate, for the rows of the
/// input matrices that are there; x is `scratch.normed`.
fn inner_of(
    layer: &Layer<'_>,
    network: &FeedForward,
    stage: &Stage,
    addends: &[Option<Vec<f32>>; 3],
    packed: &[PackedWeights],
    scratch: &mut Scratch,
) {
    let columns = stage.inputs.clone();
    if columns.is_empty() {
        return;
    }
    let kernels = layer.kernels;
    let (rows, inner) = (scratch.normed.rows(), network.up.out_features);
    let x = scratch.normed.view();
    let bias = |part: usize| addends[part].as_ref().map(|bias| &bias[columns.clone()]);
    if columns.start == 0 {
        scratch.up.reset(rows, inner);
        if network.gate.is_some() {
            scratch.gate.reset(rows, inner);
        }
    }
    let up = scratch.up.view_mut().cols_range(columns.clone());
    match &network.gate {
        Some(_) => {
            kernels.gemm(x, &packed[1], bias(1), Store::Set, up);
            let gate = scratch.gate.view_mut().cols_range(columns.clone());
            kernels.gemm(x, &packed[0], bias(0), Store::Set, gate);
        }
        None => kernels.gemm(x, &packed[0], bias(1), Store::Set, up),
    }
    if columns.end < inner {
        return;
    }
    match (&network.gate, network.clamped) {
        (Some(_), Some(clamped)) => clamp(clamped, &mut scratch.gate, &scratch.up),
        (Some(_), None) => {
            let activation = kernel(network.activation);
            kernels.gated(activation, scratch.gate.view_mut(), scratch.up.view());
        }
        (None, _) => kernels.activation(kernel(network.activation), scratch.up.view_mut()),
    }
}

/// `scratch.heads = down(inner)` for the rows of the output matrix that are there.
fn down(
    layer: &Layer<'_>,
    stage: &Stage,
    addends: &[Option<Vec<f32>>; 3],
    packed: &[PackedWeights],
    network: &FeedForward,
    scratch: &mut Scratch,
) {
    let columns = stage.outputs.clone();
    let inner = if network.gate.is_some() {
        &scratch.gate
    } else {
        &scratch.up
    };
    if columns.start == 0 {
        scratch.heads.reset(inner.rows(), network.down.out_features);
    }
    let bias = addends[2].as_ref().map(|bias| &bias[columns.clone()]);
    let target = scratch.heads.view_mut().cols_range(columns);
    let Some(weights) = packed.last() else { return };
    layer
        .kernels
        .gemm(inner.view(), weights, bias, Store::Set, target);
}

/// gpt-oss: `gate = min(gate, limit)`, `up` within `[-limit, limit]`, the result in `gate`.
fn clamp(clamped: ClampedGate, gate: &mut Mat, up: &Mat) {
    let (limit, sharpness) = (clamped.limit as f32, clamped.sharpness as f32);
    for row in 0..gate.rows() {
        for (gate, up) in gate.row_mut(row).iter_mut().zip(up.row(row)) {
            let (g, u) = (gate.min(limit), up.clamp(-limit, limit));
            *gate = g / (1.0 + (-sharpness * g).exp()) * (u + 1.0);
        }
    }
}
