//! Mixture of experts, streamed: all rows are routed first, then every chosen expert runs its rows.

use sli_checkpoint::BoundLeaf;
use sli_kernels::{Activation as Kernel, Mat, MatRef, PackedWeights, Store};
use sli_spec::{FeedForward, LatentExperts, Linear, MixtureOfExperts};

use super::buffers::{Buffer, Buffers};
use super::experts::{ExpertPart, each};
use super::routes::Routes;
use super::{At, Mix, feed_forward, router};
use crate::entered::Which;
use crate::error::EngineError;
use crate::exec::{BoundLayer, Residency, Scratch};

impl Mix for MixtureOfExperts {
    fn buffers(&self, hidden: usize) -> Buffers {
        let (inner, router) = (self.expert.up.out_features, &self.router);
        let mut buffers = Buffers::default()
            .expert(Buffer::Query, hidden)
            .expert(Buffer::Heads, hidden)
            // Ids and weights of the choice beside the logits.
            .rows(Buffer::Gate, router.projection.out_features + 4 * router.top_k)
            .expert(Buffer::Gate, inner)
            .expert(Buffer::Up, inner);
        if let Some(network) = &router.network {
            let width = network.down.out_features;
            buffers = buffers.rows(Buffer::Key, width).rows(Buffer::Value, width);
        }
        if router.norm.is_some() {
            buffers = buffers.rows(Buffer::Query, hidden);
        }
        if let Some(latent) = &self.latent {
            let width = latent.down.out_features;
            buffers = buffers.rows(Buffer::Key, width).rows(Buffer::Value, width);
        }
        for shared in self.shared.iter().chain(&self.weighed) {
            let inner = shared.up.out_features;
            buffers = buffers
                .block(Buffer::Up, inner)
                .block(Buffer::Gate, inner)
                .rows(Buffer::Inner, hidden);
        }
        buffers
    }

    /// `output = experts(x)`; x is `[rows, hidden]`, the rows of a whole super-batch.
    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        let count = x.rows();
        let routes = router::route(layer, &self.router, x, rows, (at.kept, scratch))?;
        let all = self.choices();
        at.probe
            .routed(rows, routes.top_k, all, &routes.ids, &routes.weights);
        output.reset(count, x.cols());
        output.as_mut_slice().fill(0.0);
        match &self.latent {
            Some(latent) => in_latent(layer, self, latent, x, (&routes, output), scratch)?,
            None => routed(layer, self, x, &routes, output, scratch)?,
        }
        add_identities(layer, self, x, &routes, output);
        add_weighed(layer, self, x, (&routes, &mut *output), scratch)?;
        if let Some(shared) = &self.shared {
            let mut always = std::mem::take(&mut scratch.inner);
            feed_forward::run(layer, shared, |_| {}, x, &mut always, scratch)?;
            if let Some(gate) = &self.shared_gate {
                scratch.gate.reset(count, 1);
                layer.linear(x, gate, scratch.gate.view_mut())?;
                let gates = scratch.gate.view_mut();
                layer.kernels.activation(Kernel::Sigmoid, gates);
                let gates = scratch.gate.view();
                layer.kernels.scale_heads(gates, always.view_mut());
            }
            layer.kernels.add(always.view(), 1.0, output.view_mut());
            scratch.inner = always;
        }
        if self.output_scale != 1.0 {
            let scale = self.output_scale as f32;
            layer.kernels.scale_in_place(scale, output.view_mut());
        }
        let bias = layer.optional(self.output_bias)?;
        if let Some(bias) = bias.as_deref() {
            layer.kernels.add_bias(bias, output.view_mut());
        }
        Ok(())
    }
}

/// `output = up(experts(down(x)))`.
fn in_latent(
    layer: &BoundLayer<'_>,
    experts: &MixtureOfExperts,
    LatentExperts { down, norm, up }: &LatentExperts,
    x: MatRef<'_>,
    (routes, output): (&Routes, &mut Mat),
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let mut input = std::mem::take(&mut scratch.key);
    let mut sum = std::mem::take(&mut scratch.value);
    input.reset(x.rows(), down.out_features);
    layer.linear(x, down, input.view_mut())?;
    if let Some(norm) = norm {
        layer.norm_in_place(norm, input.view_mut())?;
    }
    sum.reset(x.rows(), down.out_features);
    sum.as_mut_slice().fill(0.0);
    routed(layer, experts, input.view(), routes, &mut sum, scratch)?;
    layer.linear(sum.view(), up, output.view_mut())?;
    (scratch.key, scratch.value) = (input, sum);
    Ok(())
}

/// Experts of every token, whose weights are the last of its choice.
fn add_weighed(
    layer: &BoundLayer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    (routes, output): (&Routes, &mut Mat),
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let first = routes.top_k - experts.weighed.len();
    for (network, rank) in experts.weighed.iter().zip(first..) {
        let mut always = std::mem::take(&mut scratch.inner);
        feed_forward::run(layer, network, |_| {}, x, &mut always, scratch)?;
        let weights = routes.weights.iter().skip(rank).step_by(routes.top_k);
        let factors: Vec<f32> = weights.copied().collect();
        let factors = MatRef::from_slice(&factors, factors.len(), 1);
        let (found, output) = (always.view(), output.view_mut());
        layer.kernels.add_scaled_rows(factors, found, output);
        scratch.inner = always;
    }
    Ok(())
}

/// Experts without weights return their input.
fn add_identities(
    layer: &BoundLayer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    routes: &Routes,
    output: &mut Mat,
) {
    if experts.identity_experts == 0 {
        return;
    }
    let mut factors = vec![0.0; x.rows()];
    for rank in 0..routes.top_k {
        for (row, factor) in factors.iter_mut().enumerate() {
            let place = row * routes.top_k + rank;
            let beyond = (routes.ids[place] as usize).checked_sub(experts.experts);
            let is_identity = beyond.is_some_and(|beyond| beyond < experts.identity_experts);
            *factor = if is_identity {
                routes.weights[place]
            } else {
                0.0
            };
        }
        let factors = MatRef::from_slice(&factors, factors.len(), 1);
        layer.kernels.add_scaled_rows(factors, x, output.view_mut());
    }
}

/// Adds the weighted outputs of the chosen experts to `output`.
fn routed(
    layer: &BoundLayer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    routes: &Routes,
    output: &mut Mat,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let loads = routes.loads(experts.experts);
    let network = &experts.expert;
    let addends = Addends::new(layer, network);
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
                let leaves: Vec<_> = linears[..inputs].iter().map(|one| one.weight).collect();
                let rows = scratch.normed.view();
                let tokens = routes.rows_at(places);
                let which = Which::These(&tokens);
                layer.show(&leaves, (expert, experts.experts), rows, which);
            }
            inner_of(layer, network, &stage, &run.addends, packed, scratch)?;
            if stage.outputs.is_empty() {
                continue;
            }
            if stage.outputs.start == 0 {
                let rows = inner(network, scratch).view();
                let tokens = routes.rows_at(places);
                let (leaves, which) = ([network.down.weight], Which::These(&tokens));
                layer.show(&leaves, (expert, experts.experts), rows, which);
            }
            down(layer, &stage, &run.addends, packed, network, scratch);
            if !stage.last {
                continue;
            }
            if let Some(norm) = &experts.expert_output_norm {
                layer.norm_in_place(norm, scratch.heads.view_mut())?;
            }
            let weights = if experts.router.weighs_input {
                vec![1.0; places.len()]
            } else {
                routes.weights_at(places)
            };
            let rows = routes.rows_at(places);
            let (found, output) = (scratch.heads.view(), output.view_mut());
            layer.kernels.scatter_add(found, &weights, &rows, output);
        }
        Ok(())
    })
}

/// Copies the rows of these places, scaled where the weights belong to the input.
fn gather(
    layer: &BoundLayer<'_>,
    experts: &MixtureOfExperts,
    x: MatRef<'_>,
    routes: &Routes,
    places: &[u32],
    into: &mut Mat,
) -> Result<(), EngineError> {
    into.reset(places.len(), x.cols());
    let rows = routes.rows_at(places);
    layer.kernels.gather_rows(x, &rows, into.view_mut());
    if let Some(norm) = &experts.expert_norm {
        layer.norm_in_place(norm, into.view_mut())?;
    }
    if experts.router.weighs_input {
        let weights = routes.weights_at(places);
        layer.kernels.scale_rows(&weights, into.view_mut());
    }
    Ok(())
}

/// What is added in one expert: to gate, up and down.
#[derive(Default)]
struct ExpertRun {
    addends: [Option<Vec<f32>>; 3],
}

/// The addends of all experts.
struct Addends<'a>([Option<&'a BoundLeaf>; 3]);

impl<'a> Addends<'a> {
    fn new(layer: &'a BoundLayer<'_>, network: &FeedForward) -> Self {
        let bound = |linear: Option<&Linear>| {
            let bias = linear.and_then(|linear| linear.bias);
            bias.map(|bias| layer.bound(bias))
        };
        Self([
            bound(network.gate.as_ref()),
            bound(Some(&network.up)),
            bound(Some(&network.down)),
        ])
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
    layer: &BoundLayer<'_>,
    network: &FeedForward,
    stage: &ExpertPart,
    addends: &[Option<Vec<f32>>; 3],
    packed: &[PackedWeights],
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let columns = stage.inputs.clone();
    if columns.is_empty() {
        return Ok(());
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
        return Ok(());
    }
    feed_forward::activate(layer, network, scratch)?;
    Ok(())
}

/// What enters `down`.
fn inner<'s>(network: &FeedForward, scratch: &'s Scratch) -> &'s Mat {
    if network.gate.is_some() {
        &scratch.gate
    } else {
        &scratch.up
    }
}

/// `scratch.heads = down(inner)` for the rows of the output matrix that are there.
fn down(
    layer: &BoundLayer<'_>,
    stage: &ExpertPart,
    addends: &[Option<Vec<f32>>; 3],
    packed: &[PackedWeights],
    network: &FeedForward,
    scratch: &mut Scratch,
) {
    let columns = stage.outputs.clone();
    if columns.start == 0 {
        let rows = inner(network, scratch).rows();
        scratch.heads.reset(rows, network.down.out_features);
    }
    let bias = addends[2].as_ref().map(|bias| &bias[columns.clone()]);
    let mut heads = std::mem::take(&mut scratch.heads);
    if let Some(weights) = packed.last() {
        let (x, target) = (
            inner(network, scratch).view(),
            heads.view_mut().cols_range(columns),
        );
        layer.kernels.gemm(x, weights, bias, Store::Set, target);
    }
    scratch.heads = heads;
}
