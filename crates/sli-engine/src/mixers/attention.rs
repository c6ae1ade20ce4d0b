//! Multi-head, grouped-query and multi-query attention over packed records.

use half::bf16;
use sli_kernels::{AttentionArgs, BiasFn, BiasSite, Mat, MatRef, Running, Sinks};
use sli_spec::rope::Rope;
use sli_spec::{
    Alibi, Attention, Bottleneck, HeadTemperature, KeyValue, KindProjections, Mask, OutputGate,
    Position, QueryTemperature, WeightIndex,
};

use super::buffers::{Buffer, Buffers};
use super::by_kind::{self, Kinds};
use super::keys::{self, Attended};
use super::mask::mask;
use super::rotation::{HeadSpan, rotate};
use super::{
    At, Mix, axes, beside, block_choice, differential, distance_profiles, distance_vectors,
    dynamic_mask, kernel, key_convolution, merged, mixing, page, relative_buckets, sparse_blocks,
};
use crate::error::EngineError;
use crate::exec::states::MixerId;
use crate::exec::{BoundLayer, Computed, EndRows, Enters, KeptKeys, Rows, Scratch};
use crate::weights::Section;

impl Mix for Attention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        let mut buffers = Buffers::default()
            .rows(Buffer::Query, self.heads * self.head_dim)
            .rows(Buffer::Key, self.kv_heads * self.head_dim)
            .rows(Buffer::Value, self.kv_heads * self.value_dim)
            .rows(Buffer::Heads, self.heads * self.value_dim);
        if let Some(gate) = &self.gate {
            buffers = buffers.rows(Buffer::Gate, gate.projection.out_features);
        }
        if self.merged.is_some() {
            buffers = buffers.rows(Buffer::Gate, Running::columns(self.heads, self.value_dim));
        }
        if self.merged_norm.is_some() {
            buffers = buffers.rows(Buffer::Up, self.query.in_features);
        }
        if self.differential.is_some() {
            // Buffers of pairs and of single heads change places.
            for buffer in [Buffer::Query, Buffer::Value, Buffer::Heads, Buffer::Inner] {
                buffers = buffers.rows(buffer, 2 * self.heads * self.value_dim);
            }
        }
        if let Some(choice) = &self.block_choice {
            buffers = buffers.or(block_choice::buffers(choice));
        }
        if let Some(vectors) = self.vectors() {
            buffers = buffers.or(distance_vectors::buffers(vectors, self));
        }
        if let Some(mixing) = &self.mixing {
            buffers = mixing::buffers(mixing, self, buffers);
        }
        if let Some(convolutions) = &self.convolutions {
            buffers = buffers.or(key_convolution::buffers(convolutions));
        }
        if let Some(profiles) = self.profiles() {
            buffers = buffers.or(distance_profiles::buffers(profiles));
        }
        if self.row_sinks.is_some() {
            buffers = buffers.rows(Buffer::Gate, self.heads);
        }
        if self.dynamic_mask.is_some() {
            buffers = buffers
                .rows(Buffer::Gate, 3 * self.kv_heads)
                .rows(Buffer::Inner, self.kv_heads);
        }
        if let Some(bottleneck) = &self.bottleneck {
            buffers = buffers.rows(Buffer::Up, bottleneck.projection.out_features);
        }
        if let Some(beside) = &self.beside {
            buffers = buffers.or(beside::buffers(beside, self));
        }
        if let Some(KindProjections { query, output, .. }) = self.of_kind.as_deref() {
            let most = |one: usize, other: usize| one.max(other);
            buffers = buffers
                .rows(Buffer::Up, most(query.in_features, output.in_features))
                .rows(Buffer::Inner, most(query.out_features, output.out_features));
        }
        if let Some(axes) = self.axes() {
            buffers = buffers.or(axes::buffers(&axes, self));
        }
        if let Some(corners) = self.corners() {
            buffers = buffers.or(page::buffers(&corners, self));
        }
        buffers
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let mut addends = prepare(self, at, x)?;
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        if matches!(self.key_value, KeyValue::Own { .. }) {
            keep(layer, rows, &mut at.kept.keys, scratch);
        }
        if let Some(temperature) = &self.query_temperature {
            warm(layer, *temperature, rows, &mut scratch.query);
            if let Some(profiles) = &mut addends.profiles {
                warm(layer, *temperature, rows, &mut profiles.mix);
            }
        }
        if let Some(linear) = &self.row_sinks {
            let mut sinks = std::mem::take(&mut scratch.gate);
            sinks.reset(x.rows(), self.heads);
            layer.linear(x, linear, sinks.view_mut())?;
            addends.sinks = Some(sinks);
        }
        let chosen = match &self.block_choice {
            Some(choice) => block_choice::choose(layer, choice, self.heads, x, rows, scratch)?,
            None => None,
        };
        attend(
            (self, at.mixer),
            layer,
            rows,
            (&addends, chosen.as_ref()),
            &at.kept.keys,
            scratch,
        )?;
        if let Some(chosen) = chosen {
            chosen.release(scratch);
        }
        if let Some(stack) = self.merged {
            merged::attend(self, stack, layer, rows, &at.kept.ends, scratch)?;
        }
        if let Some(vectors) = addends.vectors {
            vectors.release(scratch);
        }
        if let Some(profiles) = addends.profiles {
            profiles.release(scratch);
        }
        if let Some(sinks) = addends.sinks {
            scratch.gate = sinks;
        }
        if let Some([query, key]) = addends.widened {
            (scratch.up, scratch.inner) = (query, key);
        }
        if let Some(windowed) = addends.windowed {
            windowed.undo(scratch);
        }
        if let Some(differential) = &self.differential {
            let value_dim = 2 * self.value_dim;
            differential::subtract(layer, differential, self.heads, value_dim, scratch)?;
        }
        if let Some(shares) = self.exclusive {
            leave_out(layer, shares, [self.heads, self.kv_heads], scratch)?;
        }
        if let Some(norm) = &self.heads_norm {
            layer.head_norm(norm, self.heads, scratch.heads.view_mut())?;
        }
        if let Some(gate) = &self.gate {
            apply_gate(layer, gate, self.value_dim, x, scratch)?;
        }
        if let Some(beside) = &self.beside {
            beside::apply(beside, self, (layer, rows), x, scratch)?;
        }
        if let Some(norm) = &self.output_norm {
            layer.norm_in_place(norm, scratch.heads.view_mut())?;
        }
        output.reset(x.rows(), self.output.out_features);
        if let Some(own) = &self.of_kind {
            let kinds = Kinds::of(own.kind, rows);
            let buffers = [&mut scratch.up, &mut scratch.inner];
            let maps = [&self.output, &own.output];
            return by_kind::linear(layer, (scratch.heads.view(), &kinds), maps, output, buffers);
        }
        layer.linear(scratch.heads.view(), &self.output, output.view_mut())
    }

    fn keys(&self, at: &mut At<'_>, x: MatRef<'_>) -> Result<(), EngineError> {
        prepare(self, at, x)?;
        let Some(piece) = at.rows.batch.piece() else {
            return Ok(());
        };
        let scratch = &mut *at.scratch;
        if self.differential.is_some() {
            let kernels = at.layer.kernels;
            differential::pair_values(kernels, self.kv_heads, self.value_dim, scratch);
        }
        let cut = keys::record(&mut scratch.states)?;
        keys::leave(cut, at.mixer, piece, &scratch.key, &scratch.value)
    }
}

/// Queries, keys and values, as far as the pass wants them, normed and rotated.
fn prepare<'a>(
    attention: &Attention,
    at: &mut At<'a>,
    x: MatRef<'_>,
) -> Result<Addends<'a>, EngineError> {
    let (layer, rows) = (at.layer, at.rows);
    let of_slot = |slot| at.slots.get(slot).rows_view(rows.chunk.rows.clone());
    let inputs = attention.key_value_inputs;
    let inputs = inputs.map_or([x; 2], |slots| slots.map(of_slot));
    let kept = (&at.kept.ends[..], &mut *at.scratch);
    project_each(layer, attention, rows, (x, inputs), kept)?;
    if attention.values_of_inputs
        && let Some(inputs) = &at.kept.layer_inputs
        && rows.pass != Computed::Queries
    {
        let own = inputs.rows_view(rows.chunk.rows.clone());
        layer.kernels.add(own, 1.0, at.scratch.value.view_mut());
    }
    if let Some(mixing) = &attention.mixing {
        mixing::mix(attention, mixing, at)?;
    }
    let scratch = &mut *at.scratch;
    key_convolution::apply(layer, attention, (rows, at.mixer), inputs, scratch)?;
    normalise(layer, attention, false, scratch)?;
    clip(layer, attention, scratch);
    let addends = positions(layer, attention, rows, x, scratch)?;
    normalise(layer, attention, true, scratch)?;
    Ok(addends)
}

/// Queries, keys and values of the same rows as projected; none of what a pass leaves out.
pub(super) fn project(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    rows: Rows<'_>,
    x: MatRef<'_>,
    kept: (&[EndRows], &mut Scratch),
) -> Result<(), EngineError> {
    project_each(layer, attention, rows, (x, [x; 2]), kept)
}

/// The same of queries, and of keys and values of rows of their own.
fn project_each(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    rows: Rows<'_>,
    (x, [of_key, of_value]): (MatRef<'_>, [MatRef<'_>; 2]),
    (ends, scratch): (&[EndRows], &mut Scratch),
) -> Result<(), EngineError> {
    if let (
        Some(own),
        KeyValue::Own {
            key,
            value: Some(value),
        },
    ) = (&attention.of_kind, &attention.key_value)
    {
        let kinds = Kinds::of(own.kind, rows);
        let maps = [
            ([&attention.query, &own.query], &mut scratch.query),
            ([key, &own.key], &mut scratch.key),
            ([value, &own.value], &mut scratch.value),
        ];
        for (maps, out) in maps {
            out.reset(x.rows(), maps[0].out_features);
            let buffers = [&mut scratch.up, &mut scratch.inner];
            by_kind::linear(layer, (x, &kinds), maps, out, buffers)?;
        }
        return Ok(());
    }
    let kv_heads = attention.kv_heads;
    let rows_of = |left_out: Computed| if rows.pass == left_out { 0 } else { x.rows() };
    let Scratch {
        query,
        key: keys,
        value: values,
        up: narrow,
        ..
    } = scratch;
    let narrow = match &attention.bottleneck {
        Some(Bottleneck { projection, norm }) => {
            narrow.reset(x.rows(), projection.out_features);
            layer.linear(x, projection, narrow.view_mut())?;
            layer.norm_in_place(norm, narrow.view_mut())?;
            narrow.view()
        }
        None => x,
    };
    let own = narrow.rows_range(0..rows_of(Computed::Keys));
    query.reset(own.rows(), attention.heads * attention.head_dim);
    layer.linear(own, &attention.query, query.view_mut())?;
    match &attention.key_value {
        KeyValue::Own { key, value } => {
            let of_key = match attention.bottleneck {
                Some(_) => narrow,
                None => of_key,
            };
            let own = 0..rows_of(Computed::Queries);
            keys.reset(own.len(), kv_heads * attention.head_dim);
            layer.linear(of_key.rows_range(own.clone()), key, keys.view_mut())?;
            values.reset(own.len(), kv_heads * attention.value_dim);
            match value {
                Some(value) => layer.linear(of_value.rows_range(own), value, values.view_mut())?,
                None => layer.kernels.copy(keys.view(), values.view_mut()),
            }
        }
        // Finished when the other layer ran.
        KeyValue::OfLayer(_) => {
            keys.reset(0, kv_heads * attention.head_dim);
            values.reset(0, kv_heads * attention.value_dim);
        }
        KeyValue::OfStack { stack, key, value } => {
            let end = merged::end_of(ends, *stack)?;
            let seen = rows.batch.source_rows(*stack, rows.chunk);
            keys.reset(seen.len(), kv_heads * attention.head_dim);
            let layer = layer.of(Enters::Others);
            layer.linear(end.rows_view(seen.clone()), key, keys.view_mut())?;
            values.reset(seen.len(), kv_heads * attention.value_dim);
            layer.linear(end.rows_view(seen), value, values.view_mut())?;
        }
    }
    Ok(())
}

/// The norms of queries, keys and values, in front of the rotation or after it.
fn normalise(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    after_rotation: bool,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (heads, kv_heads) = (attention.heads, attention.kv_heads);
    let norms = [
        (&attention.query_norm, heads, &mut scratch.query),
        (&attention.key_norm, kv_heads, &mut scratch.key),
        (&attention.value_norm, kv_heads, &mut scratch.value),
    ];
    for (norm, heads, mat) in norms {
        let norm = norm.as_ref();
        if let Some(norm) = norm.filter(|norm| norm.after_rotation == after_rotation) {
            layer.head_norm(norm, heads, mat.view_mut())?;
        }
    }
    Ok(())
}

fn clip(layer: &BoundLayer<'_>, attention: &Attention, scratch: &mut Scratch) {
    let Some(limit) = attention.clip else { return };
    let limit = limit as f32;
    for mat in [&mut scratch.query, &mut scratch.key, &mut scratch.value] {
        layer.kernels.clamp_in_place(-limit, limit, mat.view_mut());
    }
}

/// What positions add to the logits.
#[derive(Default)]
struct Addends<'a> {
    /// Slopes of ALiBi.
    slopes: Option<Vec<f32>>,
    /// The same in both directions.
    both_ways: Option<Vec<f32>>,
    /// The same where every number is one of bf16.
    rounded: Option<Vec<bf16>>,
    /// By distance.
    buckets: Option<relative_buckets::Addends<'a>>,
    /// Blocks of keys that are not seen.
    sparse: Option<sparse_blocks::Addends>,
    /// Products with vectors of distances.
    vectors: Option<distance_vectors::Addends<'a>>,
    /// Mixtures of profiles over the distance.
    profiles: Option<distance_profiles::Addends>,
    /// Logits that only enter the denominator, of every query and head.
    sinks: Option<Mat>,
    /// By distance on the page.
    page: Option<page::Addends<'a>>,
    /// Queries and keys that are wider by sines of places on the page.
    widened: Option<[Mat; 2]>,
    /// Windows that see themselves.
    windowed: Option<axes::Windowed>,
}

/// The addends by distance of a chunk of whole records.
pub(super) fn buckets<'a>(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    rows: Rows<'a>,
) -> Result<Option<relative_buckets::Addends<'a>>, EngineError> {
    let rule = sli_spec::Mechanism::buckets(attention);
    rule.map(|rule| relative_buckets::Addends::new(layer, rule, attention, rows))
        .transpose()
}

/// Enters the positions: rotates queries and keys, and says what is added to the logits.
fn positions<'a>(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    rows: Rows<'a>,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<Addends<'a>, EngineError> {
    let mut addends = Addends::default();
    for position in &attention.positions {
        match position {
            Position::Rope(rope) => rotate_both(layer, attention, rope, rows, scratch),
            Position::Alibi(Alibi {
                slopes,
                rounded_to_bf16,
                both_ways,
            }) => {
                let slopes = slopes.iter();
                if *both_ways {
                    addends.both_ways = Some(slopes.map(|&slope| slope as f32).collect());
                } else if *rounded_to_bf16 {
                    let slopes = slopes.map(|&slope| bf16::from_f64(slope));
                    addends.rounded = Some(slopes.collect());
                } else {
                    addends.slopes = Some(slopes.map(|&slope| slope as f32).collect());
                }
            }
            Position::Buckets(rule) => {
                let own = relative_buckets::Addends::new(layer, rule, attention, rows)?;
                addends.buckets = Some(own);
            }
            Position::Vectors(vectors) => {
                let own = distance_vectors::Addends::new(layer, vectors, attention, rows, scratch)?;
                addends.vectors = Some(own);
            }
            Position::Profiles(rule) => {
                let of = (attention, rows);
                let own = distance_profiles::Addends::new(layer, rule, of, x, scratch)?;
                addends.profiles = Some(own);
            }
            Position::SparseBlocks(blocks) => {
                addends.sparse = Some(sparse_blocks::Addends::new(*blocks, rows));
            }
            Position::Boxes(boxes) => {
                addends.page = Some(page::Addends::new(layer, boxes, attention.heads, rows)?);
            }
            Position::Axes(own) => {
                let (widened, windowed) = axes::widen(layer, own, attention, rows, scratch)?;
                (addends.widened, addends.windowed) = (Some(widened), windowed);
            }
            Position::Corners(corners) => {
                addends.widened = Some(page::widen(layer, corners, attention, rows, scratch)?);
            }
        }
    }
    Ok(addends)
}

/// Rotates the queries, and keys and values where they are the layer's own and rotate.
fn rotate_both(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    rope: &Rope,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) {
    let values = attention.values_rotate.then_some(&mut scratch.value);
    let rotated = [
        (attention.heads, &mut scratch.query),
        (attention.kv_heads, &mut scratch.key),
    ];
    let values = values.map(|value| (attention.kv_heads, value));
    for (heads, mat) in rotated.into_iter().chain(values) {
        let span = HeadSpan::of(rope, heads, attention.head_dim);
        rotate(layer, rope, rows, span, mat.view_mut());
    }
}

/// Keeps finished keys and values that later layers use.
fn keep(layer: &BoundLayer<'_>, rows: Rows<'_>, kept: &mut [KeptKeys], scratch: &Scratch) {
    let own = kept
        .iter_mut()
        .find(|kept| layer.part == Section::Layer(kept.layer));
    let Some(own) = own else { return };
    let range = rows.chunk.rows.clone();
    for (from, to) in [
        (&scratch.key, &mut own.key),
        (&scratch.value, &mut own.value),
    ] {
        layer
            .kernels
            .copy(from.view(), to.rows_view_mut(range.clone()));
    }
}

/// `scratch.heads` of the queries; own keys and values are kept for the next chunk.
fn attend(
    (attention, mixer): (&Attention, MixerId),
    layer: &BoundLayer<'_>,
    rows: Rows<'_>,
    (addends, blocks): (&Addends<'_>, Option<&block_choice::Chosen<'_>>),
    kept: &[KeptKeys],
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (heads, kv_heads) = (attention.heads, attention.kv_heads);
    let sinks = layer.optional(attention.sinks)?;
    let own_segments;
    let segments = if let Some(windowed) = &addends.windowed {
        &windowed.segments
    } else {
        own_segments = match attention.key_value {
            KeyValue::Own { .. } if attention.mask == Mask::Windows => {
                rows.batch.segments_of_windows(rows.chunk)?
            }
            KeyValue::Own { .. } if attention.mask == Mask::BlankApart => {
                rows.batch.segments_of_blank(rows.chunk)?
            }
            KeyValue::Own { .. } => rows.batch.segments(rows.chunk),
            KeyValue::OfLayer(_) => rows.batch.segments_of_all(rows.chunk),
            KeyValue::OfStack { stack, .. } if attention.mask == Mask::Seen => {
                rows.batch.segments_of_seen(stack, rows.chunk)?
            }
            KeyValue::OfStack { stack, .. } => rows.batch.segments_of_source(stack, rows.chunk),
        };
        &own_segments
    };
    let dynamic = attention
        .dynamic_mask
        .as_ref()
        .map(|dynamic| dynamic_mask::choose(layer, dynamic, attention, &segments.own, scratch))
        .transpose()?;
    let limit = attention.clamp.map(|limit| limit as f32);
    let scale = attention.scale as f32;
    let change = |site: &BiasSite, logits: &mut [f32]| {
        if let Some(limit) = limit {
            for logit in &mut *logits {
                *logit = logit.clamp(-limit, limit);
            }
        }
        if let Some(chosen) = &dynamic {
            chosen.add(site, logits);
        }
        if let Some(chosen) = blocks {
            chosen.mask(site, logits);
        }
        if let Some(buckets) = &addends.buckets {
            buckets.add(site, logits);
        }
        if let Some(vectors) = &addends.vectors {
            vectors.add(site, logits);
        }
        if let Some(profiles) = &addends.profiles {
            profiles.add(site, logits);
        }
        if let Some(sparse) = &addends.sparse {
            sparse.add(site, logits);
        }
        if let Some(page) = &addends.page {
            page.add(site, logits);
        }
        if let Some(slopes) = &addends.both_ways {
            for (logit, key) in logits.iter_mut().zip(site.keys.clone()) {
                *logit -= slopes[site.head] * key.abs_diff(site.query) as f32;
            }
        }
        if let Some(slopes) = &addends.rounded {
            for (logit, key) in logits.iter_mut().zip(site.keys.clone()) {
                *logit += rounded_alibi(slopes[site.head], key) * scale;
            }
        }
    };
    let changes = limit.is_some()
        || dynamic.is_some()
        || blocks.is_some()
        || addends.rounded.is_some()
        || addends.both_ways.is_some()
        || addends.buckets.is_some()
        || addends.vectors.is_some()
        || addends.profiles.is_some()
        || addends.page.is_some()
        || addends.sparse.is_some();
    let mut value_dim = attention.value_dim;
    if attention.differential.is_some() {
        differential::pair_values(layer.kernels, kv_heads, value_dim, scratch);
        value_dim *= 2;
    }
    scratch.heads.reset(scratch.query.rows(), heads * value_dim);
    if attention.mask == Mask::Seen {
        // Rows without keys are in no segment.
        scratch.heads.as_mut_slice().fill(0.0);
    }
    let shared = match attention.key_value {
        KeyValue::Own { .. } | KeyValue::OfStack { .. } => None,
        KeyValue::OfLayer(source) => Some(of_layer(kept, source)?),
    };
    let is_own = matches!(attention.key_value, KeyValue::Own { .. });
    let Scratch {
        query,
        key,
        value,
        heads: output,
        states,
        window,
        gate,
        ..
    } = scratch;
    if attention.merged.is_some() {
        gate.reset(query.rows(), Running::columns(heads, value_dim));
    }
    // What is seen beside the own keys comes behind them.
    let sums = gate.view_mut();
    let running = attention.merged.map(|_| Running {
        sums: &sums,
        first_key: 0,
        begins: true,
        ends: false,
    });
    let (key, value) = shared.map_or((&*key, &*value), |kept| (&kept.key, &kept.value));
    let widened = addends.widened.as_ref();
    let (query, key) = widened.map_or((&*query, key), |[query, key]| (query, key));
    let joined = rows.batch.joined(attention.mask, rows.chunk);
    let args = AttentionArgs {
        joined: joined.as_deref(),
        softcap: attention.softcap.map(|cap| cap as f32),
        sinks: match &addends.sinks {
            Some(sinks) => Some(Sinks::OfRows(sinks.view())),
            None => sinks.as_deref().map(Sinks::OfHeads),
        },
        alibi: addends.slopes.as_deref(),
        bias: changes.then_some(&change as &BiasFn<'_>),
        running,
        ..AttentionArgs::plain(
            [query.view(), key.view(), value.view()],
            [heads, kv_heads],
            &segments.own,
            mask(attention.mask),
            scale,
        )
    };
    if is_own && addends.windowed.is_none() {
        let attended = Attended {
            layer,
            rows,
            mixer,
            states,
            window,
            key,
            value,
            segments,
        };
        attended.run(&args, output.view_mut())?;
    } else {
        // All of them are there: none is carried.
        let none = (key.rows_view(0..0), value.rows_view(0..0));
        let common = segments.common(none);
        let args = AttentionArgs { common, ..args };
        layer.kernels.attention(&args, output.view_mut());
    }
    if let Some(chosen) = dynamic {
        chosen.release(scratch);
    }
    Ok(())
}

/// Takes from every head's output a share of what lies along the row's own value.
fn leave_out(
    layer: &BoundLayer<'_>,
    shares: WeightIndex,
    heads: [usize; 2],
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    /// A length that counts as this at least.
    const SHORTEST: f64 = 1e-12;
    let shares = layer.vector(shares)?;
    let shares: Vec<f32> = shares.iter().map(|share| share.tanh()).collect();
    let value = &mut scratch.value;
    layer
        .kernels
        .unit_heads(heads[1], SHORTEST, value.view_mut());
    let (units, out) = (value.view(), scratch.heads.view_mut());
    layer.kernels.leave_out(heads, &shares, units, out);
    Ok(())
}

/// What a layer kept.
fn of_layer(kept: &[KeptKeys], layer: usize) -> Result<&KeptKeys, EngineError> {
    let found = kept.iter().find(|kept| kept.layer == layer);
    found.ok_or_else(|| EngineError::Internal(format!("layer {layer} keeps no keys and values")))
}

/// Multiplies the heads' outputs by the gates of the layer's input.
pub(super) fn apply_gate(
    layer: &BoundLayer<'_>,
    gate: &OutputGate,
    dim: usize,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let OutputGate {
        projection,
        of_latent: _,
        per_head,
        activation,
        head_bias,
    } = gate;
    let gates = &mut scratch.gate;
    gates.reset(x.rows(), projection.out_features);
    layer.linear(x, projection, gates.view_mut())?;
    let bias = layer.optional(*head_bias)?;
    let kernels = layer.kernels;
    if let Some(bias) = bias.as_deref() {
        let of_heads = bias.iter().flat_map(|&bias| std::iter::repeat_n(bias, dim));
        let bias: Vec<f32> = of_heads.collect();
        kernels.add_bias(&bias, gates.view_mut());
    }
    kernels.activation(kernel(*activation), gates.view_mut());
    let heads = scratch.heads.view_mut();
    if *per_head {
        kernels.scale_heads(gates.view(), heads);
    } else {
        kernels.multiply(gates.view(), heads);
    }
    Ok(())
}

/// Falcon's `slope * position`, every number of it in bf16.
fn rounded_alibi(slope: bf16, key: usize) -> f32 {
    bf16::from_f32(slope.to_f32() * bf16::from_f64(key as f64).to_f32()).to_f32()
}

/// Multiplies the heads of queries by learned factors that depend on their position; `factors` is room.
pub(crate) fn warm_heads(
    layer: &BoundLayer<'_>,
    temperature: HeadTemperature,
    rows: Rows<'_>,
    factors: &mut Mat,
    query: &mut Mat,
) -> Result<(), EngineError> {
    let HeadTemperature { scale, bias } = temperature;
    let (scale, bias) = (&*layer.vector(scale)?, &*layer.vector(bias)?);
    factors.reset(query.rows(), scale.len());
    for (row, index) in rows.chunk.rows.clone().take(query.rows()).enumerate() {
        let position = f64::from(rows.batch.positions[index]);
        let logarithm = (position + 1.0).ln() as f32;
        let heads = factors.row_mut(row).iter_mut();
        for (factor, (scale, bias)) in heads.zip(scale.iter().zip(bias)) {
            *factor = scale * logarithm + bias;
        }
    }
    layer.kernels.scale_heads(factors.view(), query.view_mut());
    Ok(())
}

/// Multiplies queries by a factor that depends on their position.
pub(crate) fn warm(
    layer: &BoundLayer<'_>,
    temperature: QueryTemperature,
    rows: Rows<'_>,
    query: &mut Mat,
) {
    let factor = |index: usize| {
        let position = f64::from(rows.batch.positions[index]);
        match temperature {
            QueryTemperature::Llama4 {
                beta,
                original,
                shift,
            } => 1.0 + beta * (1.0 + ((position + shift) / original).floor()).ln(),
            QueryTemperature::Log { alpha, floor } => {
                1.0 + alpha * ((position + 1.0) / floor).max(1.0).ln()
            }
            QueryTemperature::Power { original, exponent } => {
                (1.0 + (position + 1.0) / original).powf(exponent)
            }
            QueryTemperature::LogN { trained } => ((position + 1.0).ln() / trained.ln()).max(1.0),
        }
    };
    // A pass may leave the queries out.
    let own = rows.chunk.rows.clone().take(query.rows());
    let factors: Vec<f32> = own.map(|index| factor(index) as f32).collect();
    layer.kernels.scale_rows(&factors, query.view_mut());
}
