//! Attention whose query and output projections are experts (JetMoe).

use sli_kernels::{AttentionArgs, Mat, MatRef, Store};
use sli_spec::MixtureOfAttention;

use super::attention::{HeadSpan, mask, rotate};
use super::{experts, router};
use crate::error::EngineError;
use crate::exec::step::Probe;
use crate::exec::{Layer, Rows, Scratch, values};

/// `output = attention(x)`; x is `[rows, hidden]`, the rows of a whole super-batch.
pub(crate) fn run(
    layer: &Layer<'_>,
    attention: &MixtureOfAttention,
    x: MatRef<'_>,
    rows: Rows<'_>,
    output: &mut Mat,
    scratch: &mut Scratch,
    probe: &mut dyn Probe,
) -> Result<(), EngineError> {
    let (count, top_k) = (x.rows(), attention.router.top_k);
    let (heads, dim) = (attention.heads, attention.head_dim);
    let routes = router::route(layer, &attention.router, x, rows, scratch)?;
    let loads = routes.loads(attention.experts);
    probe.routed(rows, top_k, attention.experts, &routes.ids, &routes.weights);

    // Heads of all chosen experts that share a key head lie side by side: `[head, rank, dim]`.
    let mut query = std::mem::take(&mut scratch.query);
    query.reset(count, heads * top_k * dim);
    experts::each(
        layer,
        &[&attention.query],
        1,
        &loads,
        |expert, stage, packed| {
            let load = &loads[expert];
            scratch.normed.reset(load.len(), x.cols());
            for (row, &place) in load.iter().enumerate() {
                let source = x.row(place as usize / top_k);
                scratch.normed.row_mut(row).copy_from_slice(source);
            }
            scratch.up.reset(load.len(), stage.inputs.len());
            let (input, target) = (scratch.normed.view(), scratch.up.view_mut());
            layer
                .kernels
                .gemm(input, &packed[0], None, Store::Set, target);
            for (row, &place) in load.iter().enumerate() {
                let (token, rank) = (place as usize / top_k, place as usize % top_k);
                let target = query.row_mut(token);
                for (feature, &value) in stage.inputs.clone().zip(scratch.up.row(row)) {
                    target[(feature / dim * top_k + rank) * dim + feature % dim] = value;
                }
            }
            Ok(())
        },
    )?;
    scratch.query = query;

    scratch.key.reset(count, heads * dim);
    layer.linear(x, &attention.key, scratch.key.view_mut())?;
    scratch.value.reset(count, heads * dim);
    layer.linear(x, &attention.value, scratch.value.view_mut())?;
    if let Some(rope) = &attention.rope {
        for (heads, mat) in [
            (heads * top_k, &mut scratch.query),
            (heads, &mut scratch.key),
        ] {
            let span = HeadSpan {
                heads,
                dim,
                offset: rope.offset,
            };
            rotate(layer, rope, rows, span, mat.view_mut());
        }
    }
    let segments = rows.batch.segments(rows.chunk);
    let mut found = std::mem::take(&mut scratch.heads);
    found.reset(count, heads * top_k * dim);
    layer.kernels.attention(
        &AttentionArgs {
            q: scratch.query.view(),
            k: scratch.key.view(),
            v: scratch.value.view(),
            heads: heads * top_k,
            kv_heads: heads,
            qk_dim: dim,
            v_dim: dim,
            segments: &segments,
            common: None,
            mask: mask(attention.mask),
            scale: attention.scale as f32,
            softcap: None,
            sinks: None,
            alibi: None,
            bias: None,
        },
        found.view_mut(),
    );

    output.reset(count, attention.output.out_features);
    output.as_mut_slice().fill(0.0);
    experts::each(
        layer,
        &[&attention.output],
        0,
        &loads,
        |expert, stage, packed| {
            let load = &loads[expert];
            scratch.normed.reset(load.len(), heads * dim);
            for (row, &place) in load.iter().enumerate() {
                let (token, rank) = (place as usize / top_k, place as usize % top_k);
                let target = scratch.normed.row_mut(row).chunks_exact_mut(dim);
                for (head, target) in target.enumerate() {
                    let start = (head * top_k + rank) * dim;
                    target.copy_from_slice(&found.row(token)[start..start + dim]);
                }
            }
            scratch.up.reset(load.len(), stage.outputs.len());
            let (input, target) = (scratch.normed.view(), scratch.up.view_mut());
            layer
                .kernels
                .gemm(input, &packed[0], None, Store::Set, target);
            for (row, &place) in load.iter().enumerate() {
                let weight = routes.weights[place as usize];
                let target = &mut output.row_mut(place as usize / top_k)[stage.outputs.clone()];
                for (sum, value) in target.iter_mut().zip(scratch.up.row(row)) {
                    *sum += weight * value;
                }
            }
            Ok(())
        },
    )?;
    scratch.heads = found;
    let bias = layer.vector(Some(attention.output_bias))?;
    if let Some(bias) = values(bias.as_ref()) {
        experts::add_to_rows(bias, output);
    }
    Ok(())
}
