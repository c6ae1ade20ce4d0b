//! DeepSeek-V4's attention: to the keys of a window, and to entries that stand for windows of earlier rows.

use std::ops::Range;

use sli_kernels::{
    AttentionArgs, AttentionMask, BiasFn, BiasSite, Mat, MatMut, MatRef, Running, Segment, Sinks,
    Windows,
};
use sli_spec::rope::Rope;
use sli_spec::{CompressedAttention, Compressor, Pools, SummaryChoice};

use super::buffers::{Buffer, Buffers};
use super::choice::{Choice, SCORES, Scored, mask_tokens};
use super::keys::Attended;
use super::rotation::{HeadSpan, rotate};
use super::{At, Mix};
use crate::error::EngineError;
use crate::exec::states::MixerId;
use crate::exec::{BoundLayer, Rows, Scratch};

impl Mix for CompressedAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let wide = self.heads * self.head_dim;
        let ranks = self.output_down.iter().map(|down| down.out_features);
        let mut buffers = Buffers::default()
            .rows(Buffer::Query, wide)
            .rows(Buffer::Key, self.head_dim)
            .rows(Buffer::Heads, wide)
            .rows(Buffer::Inner, self.query_down.0.out_features)
            .rows(Buffer::Inner, ranks.sum());
        if let Some(summaries) = &self.summaries {
            buffers = buffers
                .rows(Buffer::Up, summaries.columns())
                .rows(Buffer::Up, Running::columns(self.heads, self.head_dim))
                .rows(Buffer::Gate, summaries.columns())
                .rows(Buffer::Value, self.head_dim);
        }
        if let Some(choice) = &self.choice {
            let width = choice.keys.width;
            buffers = buffers
                .rows(Buffer::Up, choice.keys.columns())
                .rows(Buffer::Up, choice.heads * width)
                .rows(Buffer::Gate, choice.keys.columns())
                .rows(Buffer::Gate, choice.top_k)
                // The packed keys and the scored keys of a query lie beside the entries.
                .rows(Buffer::Value, self.head_dim + 2 * width + 2)
                .rows(Buffer::Heads, choice.heads)
                .fixed(Buffer::Inner, SCORES);
        }
        buffers
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        queries(layer, self, x, rows, scratch)?;
        keys(layer, self, x, rows, scratch)?;
        match &self.summaries {
            None => attend_window((self, at.mixer), layer, rows, scratch)?,
            Some(summaries) => {
                let records = Records::of(rows, summaries.rate);
                entries(layer, self, x, (rows, &records), scratch)?;
                let chooses = match &self.choice {
                    Some(choice) => choose(layer, (self, choice), x, (rows, &records), scratch)?,
                    None => false,
                };
                attend((self, summaries, chooses), layer, &records, scratch)?;
            }
        }
        let span = HeadSpan::of(&self.output_rope, self.heads, self.head_dim);
        rotate(
            layer,
            &self.output_rope,
            rows,
            span,
            scratch.heads.view_mut(),
        );
        project(layer, self, scratch)?;
        output.reset(x.rows(), self.output.out_features);
        layer.linear(scratch.inner.view(), &self.output, output.view_mut())
    }

    fn keys(&self, at: &mut At<'_>, x: MatRef<'_>) -> Result<(), EngineError> {
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        keys(layer, self, x, rows, scratch)
    }
}

/// The records of a chunk.
struct Records {
    segments: Vec<Segment>,
    /// Rows of the chunk.
    rows: Vec<Range<usize>>,
    /// The same records with their entries as keys.
    entries: Vec<Segment>,
    /// Place of every entry's first row, within the chunk.
    firsts: Vec<usize>,
}

impl Records {
    fn of(rows: Rows<'_>, rate: usize) -> Self {
        let segments = rows.batch.segments(rows.chunk).own;
        let ranges: Vec<Range<usize>> = segments.iter().map(|segment| segment.k.clone()).collect();
        let mut entries = Vec::new();
        let mut firsts = Vec::new();
        for segment in &segments {
            let count = segment.k.len() / rate;
            let start = firsts.len();
            firsts.extend((0..count).map(|window| segment.k.start + window * rate));
            entries.push(Segment {
                k: start..start + count,
                ..segment.clone()
            });
        }
        Self {
            segments,
            rows: ranges,
            entries,
            firsts,
        }
    }
}

/// `scratch.query`, by way of the normed latent in `scratch.inner`.
fn queries(
    layer: &BoundLayer<'_>,
    attention: &CompressedAttention,
    x: MatRef<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (down, norm) = &attention.query_down;
    let latent = &mut scratch.inner;
    latent.reset(x.rows(), down.out_features);
    layer.linear(x, down, latent.view_mut())?;
    layer.norm_in_place(norm, latent.view_mut())?;
    let query = &mut scratch.query;
    query.reset(x.rows(), attention.query.out_features);
    layer.linear(latent.view(), &attention.query, query.view_mut())?;
    layer.norm_parts(&attention.query_norm, attention.heads, query.view_mut())?;
    let span = HeadSpan::of(&attention.rope, attention.heads, attention.head_dim);
    rotate(layer, &attention.rope, rows, span, query.view_mut());
    Ok(())
}

/// `scratch.key`.
fn keys(
    layer: &BoundLayer<'_>,
    attention: &CompressedAttention,
    x: MatRef<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let key = &mut scratch.key;
    key.reset(x.rows(), attention.head_dim);
    layer.linear(x, &attention.key, key.view_mut())?;
    layer.norm_in_place(&attention.key_norm, key.view_mut())?;
    let span = HeadSpan::of(&attention.rope, 1, attention.head_dim);
    rotate(layer, &attention.rope, rows, span, key.view_mut());
    Ok(())
}

/// `out`: entries of a compressor, by way of `scratch.up` and `scratch.gate`.
fn compress(
    layer: &BoundLayer<'_>,
    compressor: &Compressor,
    x: MatRef<'_>,
    (rows, records): (Rows<'_>, &Records),
    (values_of, gates): (&mut Mat, &mut Mat),
    mut out: MatMut<'_>,
) -> Result<(), EngineError> {
    values_of.reset(x.rows(), compressor.columns());
    layer.linear(x, &compressor.value, values_of.view_mut())?;
    gates.reset(x.rows(), compressor.columns());
    layer.linear(x, &compressor.gate, gates.view_mut())?;
    let bias = layer.vector(compressor.bias)?;
    let form = Windows {
        rate: compressor.rate,
        overlaps: compressor.overlaps,
        bias: &bias,
        records: &records.rows,
    };
    layer
        .kernels
        .pool_windows(form, values_of.view(), gates.view(), out.reborrow());
    layer.norm_in_place(&compressor.norm, out.reborrow())?;
    rotate_entries(layer, (&compressor.rope, rows), records, values_of, out);
    Ok(())
}

/// Rotates entries by the positions of their first rows.
fn rotate_entries(
    layer: &BoundLayer<'_>,
    (rope, rows): (&Rope, Rows<'_>),
    records: &Records,
    angles: &mut Mat,
    entries: MatMut<'_>,
) {
    let Some((cos, sin)) = rows.batch.rotation(rope) else {
        return;
    };
    let (start, half) = (rows.chunk.rows.start, cos.cols());
    // Rows have room for them: less of a head rotates than is projected.
    angles.reset(records.firsts.len(), 2 * half);
    for (entry, first) in records.firsts.iter().enumerate() {
        let (first_half, second_half) = angles.row_mut(entry).split_at_mut(half);
        first_half.copy_from_slice(cos.row(start + first));
        second_half.copy_from_slice(sin.row(start + first));
    }
    let angles = angles.view();
    let (cos, sin) = (
        angles.cols_range(0..half),
        angles.cols_range(half..2 * half),
    );
    let shape = super::rotation::rotary_shape(rope, HeadSpan::of(rope, 1, entries.cols()));
    layer.kernels.rotary_rows(shape, cos, sin, entries);
}

/// Columns of entries and of the keys that stand for them in a choice.
fn widths(attention: &CompressedAttention) -> [usize; 2] {
    let choice = attention.choice.as_ref();
    [
        attention.head_dim,
        choice.map_or(0, |choice| choice.keys.width),
    ]
}

/// `scratch.value`: the entries, and behind all of them room for the keys of a choice.
fn entries(
    layer: &BoundLayer<'_>,
    attention: &CompressedAttention,
    x: MatRef<'_>,
    records: (Rows<'_>, &Records),
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let Some(summaries) = &attention.summaries else {
        return Ok(());
    };
    let count = records.1.firsts.len();
    let [own, chosen] = widths(attention);
    scratch.value.reset(count, own + chosen);
    let (first, _) = scratch.value.as_mut_slice().split_at_mut(count * own);
    let out = MatMut::from_slice(first, count, own);
    let between = (&mut scratch.up, &mut scratch.gate);
    compress(layer, summaries, x, records, between, out)
}

/// Chooses entries for all queries: the rows of `scratch.gate`; whether there is any to choose.
fn choose(
    layer: &BoundLayer<'_>,
    (attention, choice): (&CompressedAttention, &SummaryChoice),
    x: MatRef<'_>,
    (rows, records): (Rows<'_>, &Records),
    scratch: &mut Scratch,
) -> Result<bool, EngineError> {
    let width = choice.keys.width;
    let by = Choice {
        heads: choice.heads,
        dim: width,
        top_k: choice.top_k,
        rate: choice.keys.rate,
        with_later: true,
    };
    if by.is_idle(&records.segments) {
        return Ok(false);
    }
    let (count, entries) = (x.rows(), records.firsts.len());
    let [own, _] = widths(attention);
    let (_, behind) = scratch.value.as_mut_slice().split_at_mut(entries * own);
    let out = MatMut::from_slice(behind, entries, width);
    let between = (&mut scratch.up, &mut scratch.gate);
    compress(layer, &choice.keys, x, (rows, records), between, out)?;
    scratch.up.reset(count, choice.heads * width);
    let latent = scratch.inner.view();
    layer.linear(latent, &choice.query, scratch.up.view_mut())?;
    let span = HeadSpan::of(&choice.rope, choice.heads, width);
    rotate(layer, &choice.rope, rows, span, scratch.up.view_mut());
    scratch.heads.reset(count, choice.heads);
    layer.linear(x, &choice.weights, scratch.heads.view_mut())?;
    let share = (choice.heads as f32).powf(-0.5);
    layer
        .kernels
        .scale_in_place(share, scratch.heads.view_mut());
    scratch.gate.reset(count, choice.top_k);
    Choice::clear(&mut scratch.gate, 0..count);
    let scored = Scored {
        segments: &records.segments,
        queries: scratch.up.as_slice(),
        weights: Some(scratch.heads.view()),
        keys: &scratch.value.as_slice()[entries * own..],
    };
    let chosen = (&mut scratch.gate, 0);
    by.choose(layer.kernels, scored, &mut scratch.inner, chosen);
    Ok(true)
}

/// `scratch.heads` of the keys of a window alone, which are handed on.
fn attend_window(
    (attention, mixer): (&CompressedAttention, MixerId),
    layer: &BoundLayer<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let segments = rows.batch.segments(rows.chunk);
    let sinks = layer.vector(attention.sinks)?;
    let Scratch {
        query,
        key,
        heads,
        states,
        window,
        ..
    } = scratch;
    heads.reset(query.rows(), query.cols());
    let args = AttentionArgs {
        sinks: Some(Sinks::OfHeads(&sinks)),
        ..args(attention, query, key.view(), &segments.own)
    };
    let attended = Attended {
        layer,
        rows,
        mixer,
        states,
        window,
        key,
        value: key,
        segments: &segments,
    };
    attended.run(&args, heads.view_mut())
}

/// `scratch.heads` of the keys of a window and of the entries, one after the other.
fn attend(
    (attention, summaries, chooses): (&CompressedAttention, &Compressor, bool),
    layer: &BoundLayer<'_>,
    records: &Records,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let sinks = layer.vector(attention.sinks)?;
    let Scratch {
        query,
        key,
        value,
        heads,
        gate: chosen,
        up: sums,
        ..
    } = scratch;
    heads.reset(query.rows(), query.cols());
    let columns = Running::columns(attention.heads, attention.head_dim);
    sums.reset(query.rows(), columns);
    let sums = sums.view_mut();
    let running = |begins: bool| Running {
        sums: &sums,
        first_key: 0,
        begins,
        ends: !begins,
    };
    let nearest = AttentionArgs {
        sinks: Some(Sinks::OfHeads(&sinks)),
        running: Some(running(true)),
        ..args(attention, query, key.view(), &records.segments)
    };
    layer.kernels.attention(&nearest, heads.view_mut());
    let count = records.firsts.len();
    let entries = &value.as_slice()[..count * attention.head_dim];
    let entries = MatRef::from_slice(entries, count, attention.head_dim);
    let masked = |site: &BiasSite, logits: &mut [f32]| {
        // An entry stands for itself.
        mask_tokens((chosen, 0), &records.entries, Pools::NONE, site, logits);
    };
    let farther = AttentionArgs {
        mask: AttentionMask::Summaries(summaries.rate),
        bias: chooses.then_some(&masked as &BiasFn<'_>),
        running: Some(running(false)),
        ..args(attention, query, entries, &records.entries)
    };
    layer.kernels.attention(&farther, heads.view_mut());
    Ok(())
}

/// An attention to the only head of keys, which are values, of a window.
fn args<'a>(
    attention: &CompressedAttention,
    query: &'a Mat,
    keys: MatRef<'a>,
    segments: &'a [Segment],
) -> AttentionArgs<'a> {
    let mask = AttentionMask::Window {
        left: attention.window,
        right: None,
    };
    let (heads, scale) = ([attention.heads, 1], attention.scale as f32);
    AttentionArgs::plain([query.view(), keys, keys], heads, segments, mask, scale)
}

/// `scratch.inner`: the heads' outputs, projected group by group.
fn project(
    layer: &BoundLayer<'_>,
    attention: &CompressedAttention,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let ranks = attention.output_down.iter().map(|down| down.out_features);
    let heads = scratch.heads.view();
    scratch.inner.reset(heads.rows(), ranks.sum());
    let (mut from, mut to) = (0, 0);
    for down in &attention.output_down {
        let group = heads.cols_range(from..from + down.in_features);
        let target = scratch.inner.view_mut();
        let target = target.cols_range(to..to + down.out_features);
        layer.linear(group, down, target)?;
        from += down.in_features;
        to += down.out_features;
    }
    Ok(())
}
