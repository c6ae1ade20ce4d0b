//! Which experts a token goes to, and with what weight.

use std::collections::BTreeMap;

use sli_kernels::{MatRef, softmax};
use sli_spec::{Renormalize, Router, RouterGroups, RouterNetwork, RouterScore, WeightIndex};

use super::routes::Routes;
use super::{kernel, product_keys, softplus};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Kept, Rows, Scratch};

/// Routes the rows of x `[rows, hidden]`.
pub(crate) fn route(
    layer: &BoundLayer<'_>,
    router: &Router,
    x: MatRef<'_>,
    rows: Rows<'_>,
    (kept, scratch): (&mut Kept, &mut Scratch),
) -> Result<Routes, EngineError> {
    let (count, top_k) = (x.rows(), router.top_k);
    if let Some(network) = &router.network {
        in_front(layer, network, x, rows, (kept, scratch))?;
    }
    let logits = &mut scratch.gate;
    logits.reset(count, router.projection.out_features);
    if router.network.is_some() {
        layer.linear(scratch.key.view(), &router.projection, logits.view_mut())?;
    } else if let Some(norm) = &router.norm {
        scratch.normed.reset(count, x.cols());
        layer.norm(norm, x, scratch.normed.view_mut())?;
        layer.linear(scratch.normed.view(), &router.projection, logits.view_mut())?;
    } else {
        layer.linear(x, &router.projection, logits.view_mut())?;
    }
    if router.logit_scale != 1.0 {
        let scale = router.logit_scale as f32;
        layer.kernels.scale_in_place(scale, logits.view_mut());
    }
    if let RouterScore::ProductKeys(keys) = router.score {
        let segments = rows.batch.segments(rows.chunk);
        return Ok(product_keys::choose(keys, top_k, &segments.own, logits));
    }
    let mut bias = layer.owned(router.choice_bias)?;
    if let (Some(last), Some(own)) = (
        bias.as_mut().and_then(|bias| bias.last_mut()),
        router.last_choice_bias,
    ) {
        *last = own as f32;
    }
    let bias = bias.as_deref();
    let scales = layer.optional(router.expert_scale)?;
    let table = router.table.as_ref().map(|table| table.experts);
    let named = layer.optional(table)?;
    let named = named.as_ref().zip(table).map(|(named, table)| Named {
        table,
        experts: named,
        tokens: &rows.batch.tokens[rows.chunk.rows.clone()],
        count: router.projection.out_features,
    });
    let (mut ids, mut weights) = (vec![0; count * top_k], vec![0.0; count * top_k]);
    let places = ids
        .chunks_exact_mut(top_k)
        .zip(weights.chunks_exact_mut(top_k));
    for (row, (ids, weights)) in places.enumerate() {
        if let Some(named) = &named {
            named.write(layer, row, ids)?;
        }
        choose(router, bias, logits.row_mut(row), ids, weights);
        if let Some(scales) = scales.as_deref() {
            for (weight, &id) in weights.iter_mut().zip(ids.iter()) {
                *weight *= scales[if scales.len() == 1 { 0 } else { id as usize }];
            }
        }
    }
    if let Some(capacity) = router.capacity {
        for segment in &rows.batch.segments(rows.chunk).own {
            let places = segment.q.start * top_k..segment.q.end * top_k;
            limit_load(capacity, &ids[places.clone()], &mut weights[places]);
        }
    }
    Ok(Routes {
        top_k,
        ids,
        weights,
    })
}

/// `scratch.key`: what the router's projection sees; what the next layer's router adds to its own is kept.
fn in_front(
    layer: &BoundLayer<'_>,
    network: &RouterNetwork,
    x: MatRef<'_>,
    rows: Rows<'_>,
    (kept, scratch): (&mut Kept, &mut Scratch),
) -> Result<(), EngineError> {
    let kernels = layer.kernels;
    let RouterNetwork {
        down,
        earlier,
        norm,
        layers: [first, second],
        activation,
    } = network;
    let Scratch { key, value, .. } = scratch;
    for mat in [&mut *key, &mut *value] {
        mat.reset(x.rows(), down.out_features);
    }
    layer.linear(x, down, key.view_mut())?;
    let mut handed_on = kept.handed_on(rows.chunk.rows.clone())?;
    let factors = layer.optional(*earlier)?;
    if let Some(factors) = factors.as_deref() {
        kernels.copy(handed_on.as_ref(), value.view_mut());
        kernels.scale_columns(factors, value.view_mut());
        kernels.add(value.view(), 1.0, key.view_mut());
    }
    kernels.copy(key.view(), handed_on.reborrow());
    layer.norm_in_place(norm, key.view_mut())?;
    layer.linear(key.view(), first, value.view_mut())?;
    kernels.activation(kernel(*activation), value.view_mut());
    layer.linear(value.view(), second, key.view_mut())?;
    kernels.activation(kernel(*activation), key.view_mut());
    Ok(())
}

/// Takes the weight from those tokens of a record that choose an expert which has enough already.
fn limit_load(capacity: usize, ids: &[u32], weights: &mut [f32]) {
    let mut loads: BTreeMap<u32, usize> = BTreeMap::new();
    for (id, weight) in ids.iter().zip(weights) {
        let load = loads.entry(*id).or_default();
        *load += 1;
        if *load > capacity {
            *weight = 0.0;
        }
    }
}

/// The experts of token ids.
struct Named<'a> {
    table: WeightIndex,
    /// `[token ids * top_k]`.
    experts: &'a [f32],
    /// Of the rows.
    tokens: &'a [u32],
    /// Number of experts.
    count: usize,
}

impl Named<'_> {
    /// The experts of a row.
    fn write(
        &self,
        layer: &BoundLayer<'_>,
        row: usize,
        ids: &mut [u32],
    ) -> Result<(), EngineError> {
        let token = self.tokens[row] as usize;
        let named = self.experts.chunks_exact(ids.len()).nth(token);
        let named = named.unwrap_or_default();
        for (id, &expert) in ids.iter_mut().zip(named) {
            if expert < 0.0 || expert as usize >= self.count {
                return Err(EngineError::NoExpert {
                    leaf: layer.key(self.table).describe(layer.model),
                    token: self.tokens[row],
                    expert: expert as i64,
                    count: self.count,
                });
            }
            *id = expert as u32;
        }
        Ok(())
    }
}

/// Chooses `top_k` experts for one token from its router logits (changed in place), ties to the
/// smaller index; a table has named them before. `ids` and `weights` have `top_k` places.
pub(crate) fn choose(
    router: &Router,
    bias: Option<&[f32]>,
    logits: &mut [f32],
    ids: &mut [u32],
    weights: &mut [f32],
) {
    if let Some(cap) = router.softcap {
        let cap = cap as f32;
        for logit in logits.iter_mut() {
            *logit = (*logit / cap).tanh() * cap;
        }
    }
    let raw = match router.score {
        RouterScore::ShareOfSigmoids => logits.to_vec(),
        _ => Vec::new(),
    };
    match router.score {
        RouterScore::Softmax => softmax(logits),
        RouterScore::SqrtSoftplus => {
            for logit in logits.iter_mut() {
                *logit = softplus(*logit).sqrt();
            }
        }
        RouterScore::Sigmoid | RouterScore::ShareOfSigmoids => {
            for logit in logits.iter_mut() {
                *logit = sigmoid(*logit);
            }
        }
        RouterScore::SoftmaxOfTopK | RouterScore::SigmoidOfTopK | RouterScore::ProductKeys(_) => {}
        RouterScore::SparseMixer { jitter } => {
            sparse_mixer(jitter as f32, logits, ids, weights);
            return;
        }
    }
    if router.table.is_none() {
        let mut choice: Vec<f32> = match bias {
            Some(bias) => logits
                .iter()
                .zip(bias)
                .map(|(score, bias)| score + bias)
                .collect(),
            None => logits.to_vec(),
        };
        if let Some(groups) = router.groups {
            limit_to_groups(groups, &mut choice);
        }
        let among = logits.len() - router.always;
        choice.truncate(among);
        let (chosen, always) = ids.split_at_mut(router.top_k - router.always);
        best(&choice, chosen);
        for (id, number) in always.iter_mut().zip(among..) {
            *id = number as u32;
        }
    }
    for (weight, &id) in weights.iter_mut().zip(ids.iter()) {
        *weight = logits[id as usize];
    }
    match router.score {
        RouterScore::SoftmaxOfTopK => softmax(weights),
        RouterScore::SigmoidOfTopK => weights
            .iter_mut()
            .for_each(|weight| *weight = sigmoid(*weight)),
        RouterScore::ShareOfSigmoids => {
            for (weight, &id) in weights.iter_mut().zip(ids.iter()) {
                *weight = log_sigmoid(raw[id as usize]);
            }
            softmax(weights);
        }
        RouterScore::ProductKeys(_)
        | RouterScore::Softmax
        | RouterScore::Sigmoid
        | RouterScore::SqrtSoftplus
        | RouterScore::SparseMixer { .. } => {}
    }
    if let Some(divisor) = divisor(router.renormalize, weights) {
        for weight in &mut *weights {
            *weight /= divisor;
        }
    }
    if router.scale != 1.0 {
        let scale = router.scale as f32;
        for weight in weights {
            *weight *= scale;
        }
    }
}

fn divisor(renormalize: Renormalize, weights: &[f32]) -> Option<f32> {
    let sum = || weights.iter().sum::<f32>();
    match renormalize {
        Renormalize::No => None,
        Renormalize::Sum { plus } => Some(sum() + plus as f32),
        Renormalize::SumAtLeast(least) => Some(sum().max(least as f32)),
        Renormalize::Norm { p } => {
            let p = p as f32;
            let powers: f32 = weights.iter().map(|weight| weight.abs().powf(p)).sum();
            Some(powers.powf(1.0 / p))
        }
    }
}

/// The logarithm of the sigmoid, where that itself would be nothing.
fn log_sigmoid(x: f32) -> f32 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// One expert after another; `logits` of the chosen ones become negative infinity. What is near the
/// best is told from the logits as they were.
fn sparse_mixer(jitter: f32, logits: &mut [f32], ids: &mut [u32], weights: &mut [f32]) {
    let original = logits.to_vec();
    for (id, weight) in ids.iter_mut().zip(weights) {
        best(logits, std::slice::from_mut(id));
        let max = logits[*id as usize];
        let near = original.iter().zip(logits.iter()).map(|(&was, &now)| {
            let far = (max - was) / was.abs().max(max) > 2.0 * jitter;
            if far { 0.0 } else { (now - max).exp() }
        });
        *weight = 1.0 / near.sum::<f32>();
        logits[*id as usize] = f32::NEG_INFINITY;
    }
}

/// Masks the experts outside the best groups.
fn limit_to_groups(groups: RouterGroups, choice: &mut [f32]) {
    let size = choice.len() / groups.count.max(1);
    let scores: Vec<f32> = choice
        .chunks_exact(size.max(1))
        .map(|group| {
            let mut ids = vec![0; groups.best.min(group.len())];
            best(group, &mut ids);
            ids.iter().map(|&id| group[id as usize]).sum()
        })
        .collect();
    let mut chosen = vec![0; groups.chosen.min(scores.len())];
    best(&scores, &mut chosen);
    for (index, group) in choice.chunks_exact_mut(size.max(1)).enumerate() {
        if !chosen.contains(&(index as u32)) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

/// The indices of the largest values, best first, ties to the smaller index.
fn best(values: &[f32], ids: &mut [u32]) {
    for place in 0..ids.len() {
        let (taken, free) = ids.split_at_mut(place);
        let mut found: Option<usize> = None;
        for (index, &value) in values.iter().enumerate() {
            if !taken.contains(&(index as u32)) && found.is_none_or(|best| value > values[best]) {
                found = Some(index);
            }
        }
        free[0] = found.unwrap_or(0) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::{best, choose, limit_to_groups, sparse_mixer};
    use sli_spec::{Linear, Router, RouterGroups, RouterScore, WeightIndex};

    #[test]
    fn ties_go_to_the_smaller_index() {
        let mut ids = [0; 3];
        best(&[1.0, 3.0, 3.0, 2.0], &mut ids);
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn only_the_best_groups_remain() {
        let mut choice = [0.9, 0.0, 0.5, 0.5, 0.1, 0.2];
        limit_to_groups(
            RouterGroups {
                count: 3,
                chosen: 1,
                best: 2,
            },
            &mut choice,
        );
        assert_eq!(choice[2..4], [0.5, 0.5]);
        assert!(choice[0].is_infinite() && choice[5].is_infinite());
    }

    #[test]
    fn experts_of_every_token_share_the_weight_with_the_chosen_ones() {
        let projection = Linear::plain(WeightIndex(0), None, [4, 1]);
        let router = Router {
            always: 1,
            ..Router::plain(projection, RouterScore::ShareOfSigmoids, 2)
        };
        let (mut ids, mut weights) = ([0; 2], [0.0; 2]);
        // The bias chooses; sigmoids that are nothing in f32 have shares all the same.
        let bias = [0.0, 0.5, 0.0];
        let mut logits = [-150.0, -150.0, -150.0, -149.0];
        choose(&router, Some(&bias), &mut logits, &mut ids, &mut weights);
        assert_eq!(ids, [1, 3]);
        assert!((weights[1] - 1.0 / (1.0 + (-1.0_f32).exp())).abs() < 1e-6);
        assert!((weights[0] + weights[1] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_sparse_mixer_shares_the_weight_among_near_experts_only() {
        let (mut ids, mut weights) = ([0; 2], [0.0; 2]);
        sparse_mixer(0.01, &mut [1.0, 0.995, -3.0], &mut ids, &mut weights);
        assert_eq!(ids, [0, 1]);
        assert!((weights[0] - 1.0 / (1.0 + (-0.005_f32).exp())).abs() < 1e-6);
        assert_eq!(weights[1], 1.0);
    }
}
