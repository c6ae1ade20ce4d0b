//! Mixture of experts, streamed: all rows are routed first, then every expert that got a token is
//! read once, in file order, and runs its tokens; the others are never read.

use sli_kernels::{Mat, MatRef, PackedWeights, Store};
use sli_spec::{FeedForward, Linear, MixtureOfExperts};

use super::{feed_forward, kernel, router};
use crate::error::EngineError;
use crate::exec::step::Probe;
use crate::exec::{Layer, Rows, Scratch, values};
use crate::weights::stream::{Piece, stream};

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
    let (count, top_k) = (x.rows(), experts.router.top_k);
    let (ids, weights) = route(layer, experts, x, scratch)?;
    probe.routed(rows, top_k, experts.experts, &ids, &weights);
    output.reset(count, x.cols());
    output.as_mut_slice().fill(0.0);
    routed(layer, experts, x, &ids, &weights, output, scratch)?;
    if let Some(shared) = &experts.shared {
        let mut always = std::mem::take(&mut scratch.inner);
        feed_forward::run(layer, shared, x, &mut always, scratch)?;
        if let Some(gate) = &experts.shared_gate {
            scratch.gate.reset(count, 1);
            layer.linear(x, gate, scratch.gate.view_mut())?;
            layer
                .kernels
                .activation(sli_kernels::Activation::Sigmoid, scratch.gate.view_mut());
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
    Ok(())
}

/// The experts of every row and their weights: `[rows * top_k]` each.
fn route(
    layer: &Layer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(Vec<u32>, Vec<f32>), EngineError> {
    let (count, top_k) = (x.rows(), experts.router.top_k);
    let logits = &mut scratch.gate;
    logits.reset(count, experts.experts);
    layer.linear(x, &experts.router.projection, logits.view_mut())?;
    let bias = layer.vector(experts.router.choice_bias)?;
    let bias = values(bias.as_ref());
    let (mut ids, mut weights) = (vec![0; count * top_k], vec![0.0; count * top_k]);
    let places = ids
        .chunks_exact_mut(top_k)
        .zip(weights.chunks_exact_mut(top_k));
    for (row, (ids, weights)) in places.enumerate() {
        router::choose(&experts.router, bias, logits.row_mut(row), ids, weights);
    }
    Ok((ids, weights))
}

/// Adds the weighted outputs of the chosen experts to `output`.
fn routed(
    layer: &Layer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    ids: &[u32],
    weights: &[f32],
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let top_k = experts.router.top_k;
    let mut loads: Vec<Vec<u32>> = vec![Vec::new(); experts.experts];
    for (place, &id) in ids.iter().enumerate() {
        loads[id as usize].push(place as u32);
    }
    let network = &experts.expert;
    let linears: Vec<&Linear> = network
        .gate
        .iter()
        .chain([&network.up, &network.down])
        .collect();
    let leaves = linears
        .iter()
        .map(|linear| Ok(layer.model.binding.resolve(layer.leaf(linear.weight))?))
        .collect::<Result<Vec<_>, EngineError>>()?;
    let mut hit: Vec<usize> = (0..loads.len())
        .filter(|&id| !loads[id].is_empty())
        .collect();
    let places = (0..loads.len())
        .map(|id| {
            if loads[id].is_empty() {
                Ok(None)
            } else {
                leaves[0].position(id).map(Some)
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    hit.sort_by_key(|&id| (places[id], id));
    let groups: Vec<Vec<Piece<'_>>> = hit
        .iter()
        .map(|&id| {
            linears
                .iter()
                .zip(&leaves)
                .map(|(linear, leaf)| Piece {
                    key: layer.key(linear.weight),
                    leaf,
                    slice: id,
                    rows: 0..linear.out_features,
                })
                .collect()
        })
        .collect();
    stream(
        layer.model,
        layer.kernels.compute(),
        1,
        &groups,
        |index, packed| {
            let load = &loads[hit[index]];
            for places in load.chunks(feed_forward::BLOCK_ROWS) {
                scratch.normed.reset(places.len(), x.cols());
                for (row, &place) in places.iter().enumerate() {
                    scratch
                        .normed
                        .row_mut(row)
                        .copy_from_slice(x.row(place as usize / top_k));
                }
                expert(layer, network, packed, scratch);
                for (row, &place) in places.iter().enumerate() {
                    let weight = weights[place as usize];
                    let target = output.row_mut(place as usize / top_k);
                    for (sum, value) in target.iter_mut().zip(scratch.heads.row(row)) {
                        *sum += weight * value;
                    }
                }
            }
            Ok(())
        },
    )
}

/// `scratch.heads = network(scratch.normed)` with the matrices of one expert: `[gate,] up, down`.
fn expert(
    layer: &Layer<'_>,
    network: &FeedForward,
    packed: &[PackedWeights],
    scratch: &mut Scratch,
) {
    let kernels = layer.kernels;
    let rows = scratch.normed.rows();
    let x = scratch.normed.view();
    let (up, down) = (&packed[packed.len() - 2], &packed[packed.len() - 1]);
    let activation = kernel(network.activation);
    scratch.up.reset(rows, up.n());
    kernels.gemm(x, up, None, Store::Set, scratch.up.view_mut());
    scratch.heads.reset(rows, down.n());
    if network.gate.is_some() {
        scratch.gate.reset(rows, packed[0].n());
        kernels.gemm(x, &packed[0], None, Store::Set, scratch.gate.view_mut());
        kernels.gated(activation, scratch.gate.view_mut(), scratch.up.view());
        kernels.gemm(
            scratch.gate.view(),
            down,
            None,
            Store::Set,
            scratch.heads.view_mut(),
        );
    } else {
        kernels.activation(activation, scratch.up.view_mut());
        kernels.gemm(
            scratch.up.view(),
            down,
            None,
            Store::Set,
            scratch.heads.view_mut(),
        );
    }
}
