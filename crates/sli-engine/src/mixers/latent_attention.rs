//! Multi-head latent attention (DeepSeek-V2): keys and values are expanded from a shared latent.

use sli_kernels::{AttentionArgs, BiasFn, BiasSite, HeadParts, Mat, MatRef, Sinks};
use sli_spec::{KeySelection, LatentAttention};

use super::attention::{apply_gate, warm, warm_heads};
use super::buffers::{Buffer, Buffers};
use super::keys::{self, Attended};
use super::mask::mask;
use super::rotation::{HeadSpan, rotate};
use super::{At, Mix, indexer};
use crate::error::EngineError;
use crate::exec::states::MixerId;

use crate::exec::{BoundLayer, Computed, Kept, Rows, Scratch};

impl Mix for LatentAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let (heads, nope) = (self.heads, self.nope_dim);
        let dim = nope + self.rope_dim;
        let mut buffers = Buffers::default()
            .rows(Buffer::Query, heads * dim)
            .rows(Buffer::Key, heads * dim)
            .rows(Buffer::Value, heads * self.value_dim)
            .rows(Buffer::Heads, heads * self.value_dim)
            .rows(Buffer::Gate, self.kv_rank + self.rope_dim)
            .rows(Buffer::Up, heads * (nope + self.value_dim));
        if let Some(KeySelection::Indexer(indexer)) = &self.selection {
            buffers = buffers.or(indexer::buffers(indexer));
        }
        if let Some(gate) = &self.gate {
            buffers = buffers.rows(Buffer::Gate, gate.projection.out_features);
        }
        if let Some((down, _)) = &self.query_down {
            let seen = 1 + usize::from(self.sees_raw_latent);
            buffers = buffers
                .rows(Buffer::Inner, seen * down.out_features)
                .rows(Buffer::Value, down.out_features);
        }
        buffers
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        queries(layer, self, x, scratch)?;
        match &self.selection {
            Some(KeySelection::Indexer(indexer)) => {
                let latent = std::mem::take(&mut scratch.inner);
                let source = match indexer.query_norm {
                    Some(_) => x,
                    // What stands behind the normed latent is none of the indexer's.
                    None => latent.view().cols_range(0..indexer.query.in_features),
                };
                indexer::choose(layer, indexer, source, x, rows, scratch)?;
                scratch.inner = latent;
            }
            Some(KeySelection::Previous { .. }) | None => {}
        }
        let own = if rows.pass == Computed::Queries {
            0
        } else {
            x.rows()
        };
        key_values(self, at, x.rows_range(0..own))?;
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        attend((self, at.mixer), layer, rows, scratch)?;
        if let Some(gate) = &self.gate {
            let latent = std::mem::take(&mut scratch.inner);
            let input = if gate.of_latent { latent.view() } else { x };
            apply_gate(layer, gate, self.value_dim, input, scratch)?;
            scratch.inner = latent;
        }
        output.reset(x.rows(), self.output.out_features);
        layer.linear(scratch.heads.view(), &self.output, output.view_mut())
    }

    fn keys(&self, at: &mut At<'_>, x: MatRef<'_>) -> Result<(), EngineError> {
        let width = self.heads * (self.nope_dim + self.rope_dim);
        at.scratch.query.reset(0, width);
        key_values(self, at, x)?;
        let (rows, scratch) = (at.rows, &mut *at.scratch);
        let Some(piece) = rows.batch.piece() else {
            return Ok(());
        };
        let cut = keys::record(&mut scratch.states)?;
        keys::leave(cut, at.mixer, piece, &scratch.key, &scratch.value)
    }
}

/// `scratch.query`, by way of the normed latent in `scratch.inner` where there is one.
fn queries(
    layer: &BoundLayer<'_>,
    attention: &LatentAttention,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let dim = attention.nope_dim + attention.rope_dim;
    scratch.query.reset(x.rows(), attention.heads * dim);
    let Some((down, norm)) = &attention.query_down else {
        return layer.linear(x, &attention.query, scratch.query.view_mut());
    };
    let (latent, rank) = (&mut scratch.inner, down.out_features);
    if attention.sees_raw_latent {
        let raw = &mut scratch.value;
        raw.reset(x.rows(), rank);
        layer.linear(x, down, raw.view_mut())?;
        latent.reset(x.rows(), 2 * rank);
        let (mut normed, behind) = latent.view_mut().split_cols(rank);
        layer.norm(norm, raw.view(), normed.reborrow())?;
        layer.kernels.copy(raw.view(), behind);
        return layer.linear(latent.view(), &attention.query, scratch.query.view_mut());
    }
    latent.reset(x.rows(), rank);
    layer.linear(x, down, latent.view_mut())?;
    layer.norm_in_place(norm, latent.view_mut())?;
    if attention.query_latent_scale != 1.0 {
        let scale = attention.query_latent_scale as f32;
        layer.kernels.scale_in_place(scale, latent.view_mut());
    }
    layer.linear(latent.view(), &attention.query, scratch.query.view_mut())
}

/// `scratch.key` and `scratch.value` of the rows of x; turns and warms the queries.
fn key_values(
    attention: &LatentAttention,
    at: &mut At<'_>,
    x: MatRef<'_>,
) -> Result<(), EngineError> {
    let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
    latents(layer, attention, x, scratch)?;
    turn(layer, attention, rows, scratch);
    hand_on(
        attention,
        x.rows(),
        layer,
        rows,
        (&mut *at.kept, &mut *scratch),
    )?;
    let latent = scratch.gate.view().cols_range(0..attention.kv_rank);
    let expanded = attention.heads * (attention.nope_dim + attention.value_dim);
    scratch.up.reset(latent.rows(), expanded);
    layer.linear(latent, &attention.key_value_up, scratch.up.view_mut())?;
    expand(layer, attention, scratch);
    if let Some(temperature) = attention.head_temperature {
        let Scratch { up, query, .. } = scratch;
        warm_heads(layer, temperature, rows, up, query)?;
    }
    Ok(())
}

/// Gives what is in `scratch.gate` to later layers, or fills it with what an earlier one has left.
fn hand_on(
    attention: &LatentAttention,
    count: usize,
    layer: &BoundLayer<'_>,
    rows: Rows<'_>,
    (kept, scratch): (&mut Kept, &mut Scratch),
) -> Result<(), EngineError> {
    let Some(handed) = attention.handed else {
        return Ok(());
    };
    let columns = attention.kv_rank + attention.rope_dim;
    let chunk = rows.chunk.rows.start..rows.chunk.rows.start + count;
    let of_layers = kept.handed_on(chunk)?;
    let mut own = of_layers.cols_range(handed.first..handed.first + columns);
    if attention.key_value_down.is_some() {
        layer.kernels.copy(scratch.gate.view(), own.reborrow());
    } else {
        scratch.gate.reset(count, columns);
        layer.kernels.copy(own.as_ref(), scratch.gate.view_mut());
    }
    Ok(())
}

/// `scratch.gate`: the latent and, behind it, the key part that all heads share, where they are the layer's own.
fn latents(
    layer: &BoundLayer<'_>,
    attention: &LatentAttention,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let rank = attention.kv_rank;
    let Some((down, norm)) = &attention.key_value_down else {
        return Ok(());
    };
    scratch.gate.reset(x.rows(), rank + attention.rope_dim);
    layer.linear(x, down, scratch.gate.view_mut())?;
    let latent = scratch.gate.view_mut().cols_range(0..rank);
    layer.norm_in_place(norm, latent)?;
    if attention.key_value_latent_scale != 1.0 {
        let latent = scratch.gate.view_mut().cols_range(0..rank);
        let scale = attention.key_value_latent_scale as f32;
        layer.kernels.scale_in_place(scale, latent);
    }
    if let Some(norm) = &attention.shared_key_norm {
        let shared = scratch.gate.view_mut();
        let shared = shared.cols_range(rank..rank + attention.rope_dim);
        layer.norm_in_place(norm, shared)?;
    }
    Ok(())
}

/// Rotates the queries and the shared part of the keys, and warms the queries.
fn turn(
    layer: &BoundLayer<'_>,
    attention: &LatentAttention,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) {
    let (nope, rope_dim) = (attention.nope_dim, attention.rope_dim);
    if let Some(rope) = &attention.rope {
        let span = HeadSpan {
            heads: attention.heads,
            dim: nope + rope_dim,
            offset: nope,
        };
        rotate(layer, rope, rows, span, scratch.query.view_mut());
        if attention.key_value_down.is_some() {
            let rank = attention.kv_rank;
            let shared = scratch.gate.view_mut().cols_range(rank..rank + rope_dim);
            let span = HeadSpan {
                heads: 1,
                dim: rope_dim,
                offset: 0,
            };
            rotate(layer, rope, rows, span, shared);
        }
    }
    if let Some(temperature) = &attention.query_temperature {
        warm(layer, *temperature, rows, &mut scratch.query);
    }
}

/// `scratch.key` and `scratch.value` of the expanded latents and the shared keys.
fn expand(layer: &BoundLayer<'_>, attention: &LatentAttention, scratch: &mut Scratch) {
    let (heads, nope, value_dim) = (attention.heads, attention.nope_dim, attention.value_dim);
    let dim = nope + attention.rope_dim;
    let count = scratch.up.rows();
    scratch.key.reset(count, heads * dim);
    scratch.value.reset(count, heads * value_dim);
    let parts = |first, stride| HeadParts { first, stride };
    let (shared, expanded) = (scratch.gate.view(), scratch.up.view());
    let kernels = layer.kernels;
    let keys = (scratch.key.view_mut(), parts(0, dim));
    kernels.copy_heads(heads, nope, (expanded, parts(0, nope + value_dim)), keys);
    if attention.rope_dim > 0 {
        let keys = (scratch.key.view_mut(), parts(nope, dim));
        let rope = (shared, parts(attention.kv_rank, 0));
        kernels.copy_heads(heads, attention.rope_dim, rope, keys);
    }
    let values = (scratch.value.view_mut(), parts(0, value_dim));
    let from = (expanded, parts(nope, nope + value_dim));
    kernels.copy_heads(heads, value_dim, from, values);
}

/// `scratch.heads`; keys and values are kept for the next chunk.
fn attend(
    (attention, mixer): (&LatentAttention, MixerId),
    layer: &BoundLayer<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (heads, value_dim) = (attention.heads, attention.value_dim);
    let segments = rows.batch.segments(rows.chunk);
    let sinks = layer.optional(attention.sinks)?;
    let Scratch {
        query,
        key,
        value,
        heads: output,
        selection,
        states,
        window,
        ..
    } = scratch;
    let first = rows.chunk.rows.start;
    let masked = |site: &BiasSite, logits: &mut [f32]| {
        if let Some(own) = &attention.selection {
            indexer::mask(own, (selection, first), &segments.own, site, logits);
        }
    };
    output.reset(query.rows(), heads * value_dim);
    let args = AttentionArgs {
        sinks: sinks.as_deref().map(Sinks::OfHeads),
        bias: attention
            .selection
            .is_some()
            .then_some(&masked as &BiasFn<'_>),
        ..AttentionArgs::plain(
            [query.view(), key.view(), value.view()],
            [heads; 2],
            &segments.own,
            mask(attention.mask),
            attention.scale as f32,
        )
    };
    let attended = Attended {
        layer,
        rows,
        mixer,
        states,
        window,
        key,
        value,
        segments: &segments,
    };
    attended.run(&args, output.view_mut())
}
