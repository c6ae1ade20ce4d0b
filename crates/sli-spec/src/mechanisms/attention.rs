//! Softmax attention.

use serde::Serialize;

use super::beside::Beside;
use super::by_kind::KindProjections;
use super::contradiction::{PADDING, first_of};
use super::{
    BlockChoice, BlockScore, Keys, Mechanism, Mixing, Operations, Site, StackEnd, StateSpec, Uses,
};
use crate::parts::rope::Rope;
use crate::parts::{
    Activation, AxisDistances, CornerSines, Cut, DistanceProfiles, DistanceVectors, HeadNorm,
    KeyConvolution, Linear, Mask, Norm, NormSpan, Position, QueryTemperature, RelativeBuckets,
    Slot,
};
use crate::source::WeightIndex;

/// Multi-head, grouped-query or multi-query attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features of a query or key head.
    pub head_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// `[heads * head_dim, hidden]`.
    pub query: Linear,
    /// Where keys and values come from.
    pub key_value: KeyValue,
    /// A stack whose end has keys and values too, by the same projections and norms and without positions: all are seen
    /// beside the own ones, in one softmax (T5Gemma 2).
    pub merged: Option<usize>,
    /// Norm of the rows of that stack, in front of their keys and values.
    pub merged_norm: Option<Norm>,
    /// `[hidden, heads * value_dim]`.
    pub output: Linear,
    /// What they take of earlier rows, as projected.
    pub mixing: Option<Mixing>,
    /// The rows of these slots are what keys and values are projections of, instead of the input (Inkling 2).
    pub key_value_inputs: Option<[Slot; 2]>,
    /// Convolutions of keys and values as projected.
    pub convolutions: Option<Box<[KeyConvolution; 2]>>,
    /// Limits q, k and v to `[-clip, clip]`, after the norms in front of the rotation.
    pub clip: Option<f64>,
    /// Norm of the queries.
    pub query_norm: Option<HeadNorm>,
    /// Norm of the keys.
    pub key_norm: Option<HeadNorm>,
    /// Norm of the values.
    pub value_norm: Option<HeadNorm>,
    /// Values rotate as keys do (RoFormer).
    pub values_rotate: bool,
    /// How positions enter; empty: not at all.
    pub positions: Vec<Position>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Factor on `q k`.
    pub scale: f64,
    /// `cap * tanh(logit / cap)` on the scaled logits.
    pub softcap: Option<f64>,
    /// Limits the scaled logits to `[-clamp, clamp]` (Aquila).
    pub clamp: Option<f64>,
    /// A learned logit per head that only enters the denominator `[heads]`.
    pub sinks: Option<WeightIndex>,
    /// The same for every query of its own `[heads, hidden]` (Inkling 2).
    pub row_sinks: Option<Linear>,
    /// Factor on the query by its position.
    pub query_temperature: Option<QueryTemperature>,
    /// Gate on the heads' outputs.
    pub gate: Option<OutputGate>,
    /// The first half of the heads less the second, on pairs of value heads.
    pub differential: Option<Differential>,
    /// A learned addend for every key, of which only the largest stay visible.
    pub dynamic_mask: Option<DynamicMask>,
    /// Blocks of keys that a query attends to, where not to all.
    pub block_choice: Option<Box<BlockChoice>>,
    /// The layer's own inputs of the stack's embedding are added to the values (`NeoMME`).
    pub values_of_inputs: bool,
    /// `tanh` of this part of every head's output along the row's own value is left out `[heads]` (`NeoMME`).
    pub exclusive: Option<WeightIndex>,
    /// Norm of every head's output, in front of the gate (Muse Spark).
    pub heads_norm: Option<HeadNorm>,
    /// Norm of the concatenated heads in front of the output projection (BitNet).
    pub output_norm: Option<Norm>,
    /// What queries and keys are projections of in the place of the input.
    pub bottleneck: Option<Bottleneck>,
    /// What is added to the heads' outputs, or stands beside them, in front of the output projection.
    pub beside: Option<Box<Beside>>,
    /// Projections of the tokens of pictures, in the place of those of all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_kind: Option<Box<KindProjections>>,
}

/// `norm(projection(x))`: what the queries and keys of MobileBERT are projections of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bottleneck {
    /// `[width, hidden]`.
    pub projection: Linear,
    /// Of its output.
    pub norm: Norm,
}

/// Where keys and values come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum KeyValue {
    /// Projections of the layer's own input.
    Own {
        /// `[kv_heads * head_dim, hidden]`.
        key: Linear,
        /// `[kv_heads * value_dim, hidden]`; absent: values are the keys as projected.
        value: Option<Linear>,
    },
    /// The finished keys and values of an earlier layer of the stack (0-based).
    OfLayer(usize),
    /// Projections of the end of an earlier stack, of the same record (cross attention).
    OfStack {
        /// Which stack (0-based).
        stack: usize,
        /// `[kv_heads * head_dim, hidden of that stack]`.
        key: Linear,
        /// `[kv_heads * value_dim, hidden of that stack]`.
        value: Linear,
    },
}

/// A gate on the attention output in front of its projection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputGate {
    /// `[heads, hidden]` or `[heads * value_dim, hidden]`, of the layer's (normed) input.
    pub projection: Linear,
    /// It is one of the latent that queries are projected from (A.X K2).
    pub of_latent: bool,
    /// One gate a head instead of one a feature.
    pub per_head: bool,
    /// Applied to the gate.
    pub activation: Activation,
    /// Added to all features of a head before the activation `[heads]` (Beam).
    pub head_bias: Option<WeightIndex>,
}

impl OutputGate {
    /// Collects its weights.
    pub(super) fn weights(&self, uses: &mut Uses) {
        let OutputGate {
            projection,
            of_latent: _,
            per_head: _,
            activation: _,
            head_bias,
        } = self;
        uses.linear(projection);
        uses.optional(*head_bias);
    }
}

/// Differential attention (Ye et al. 2024): every head sees two value heads side by side (`g` and
/// `g + kv_heads / 2`, for `g` modulo `kv_heads / 2`), and head `h` becomes
/// `gain * norm(head[h] - lambda * head[h + heads / 2])`, where
/// `lambda = exp(q1 k1) - exp(q2 k2) + initial`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differential {
    /// `[q1, k1, q2, k2]`, `[head_dim]` each.
    pub lambda: [WeightIndex; 4],
    /// Addend of lambda.
    pub initial: f64,
    /// Of `2 * value_dim` features of a head.
    pub norm: HeadNorm,
    /// After the norm.
    pub gain: f64,
}

/// Dynamic mask attention (Doge, 2024): `exp(decay * softplus(step v))` of every key and key head is
/// added to its logits, and of the keys that a query sees only the `kept` largest count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DynamicMask {
    /// `[kv_heads, kv_heads * value_dim]`, of the values.
    pub step: Linear,
    /// `[kv_heads]`.
    pub decay: WeightIndex,
    /// Keys that a query sees at most.
    pub kept: usize,
}

impl Attention {
    /// Softmax attention with the usual scale and nothing else; `[heads, kv_heads, head_dim]`.
    pub fn plain(
        [heads, kv_heads, head_dim]: [usize; 3],
        query: Linear,
        key_value: KeyValue,
        output: Linear,
        mask: Mask,
    ) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            query,
            key_value,
            merged: None,
            merged_norm: None,
            output,
            mixing: None,
            key_value_inputs: None,
            convolutions: None,
            clip: None,
            query_norm: None,
            key_norm: None,
            value_norm: None,
            values_rotate: false,
            positions: Vec::new(),
            mask,
            scale: (head_dim as f64).powf(-0.5),
            softcap: None,
            clamp: None,
            sinks: None,
            row_sinks: None,
            query_temperature: None,
            gate: None,
            differential: None,
            dynamic_mask: None,
            block_choice: None,
            values_of_inputs: false,
            exclusive: None,
            heads_norm: None,
            output_norm: None,
            bottleneck: None,
            beside: None,
            of_kind: None,
        }
    }

    /// Whether it is projections of its own input, a mask and positions, and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        let sizes = [self.heads, self.kv_heads, self.head_dim];
        let (query, output) = (self.query.clone(), self.output.clone());
        let plain = Self {
            positions: self.positions.clone(),
            scale: self.scale,
            ..Self::plain(sizes, query, self.key_value.clone(), output, self.mask)
        };
        self.own_key_value().is_some() && *self == plain
    }

    /// The projections of keys and values, where both are the layer's own.
    pub(super) fn own_key_value(&self) -> Option<(&Linear, &Linear)> {
        match &self.key_value {
            KeyValue::Own { key, value } => Some((key, value.as_ref()?)),
            KeyValue::OfLayer(_) | KeyValue::OfStack { .. } => None,
        }
    }
}

/// A usual length of records, where nothing else says how many distances there are.
const USUAL: usize = 512;

fn may_have_vectors(mask: Mask) -> bool {
    matches!(mask, Mask::Full | Mask::Causal)
}

impl Attention {
    /// Columns of queries, keys and values.
    pub fn projected(&self) -> [usize; 3] {
        [
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
            self.kv_heads * self.value_dim,
        ]
    }

    fn mixing_fits(&self) -> bool {
        let [query, key, value] = self.projected();
        match &self.mixing {
            None => true,
            Some(Mixing::Convolution(convolution)) => convolution.columns == query + key + value,
            Some(Mixing::Compressed(compressed)) => {
                compressed.columns.columns == query + key
                    && compressed.heads.len() == self.heads + self.kv_heads
                    && value % 2 == 0
            }
        }
    }

    /// Vectors of distances that its queries or keys are multiplied with.
    pub fn vectors(&self) -> Option<&DistanceVectors> {
        self.positions.iter().find_map(Position::vectors)
    }

    /// Profiles over the distance that its queries mix.
    pub fn profiles(&self) -> Option<&DistanceProfiles> {
        self.positions.iter().find_map(Position::profiles)
    }

    /// Sines of corners that its queries are multiplied with.
    pub fn corners(&self) -> Option<CornerSines> {
        self.positions.iter().find_map(Position::corners)
    }

    /// Vectors of rows and columns that its queries are multiplied with.
    pub fn axes(&self) -> Option<AxisDistances> {
        self.positions.iter().find_map(Position::axes)
    }

    /// Features of a key as queries meet it.
    fn seen_key(&self) -> usize {
        let of_axes = self.axes().map_or(0, |axes| axes.features());
        self.head_dim + of_axes + self.corners().map_or(0, |corners| corners.features())
    }
}

impl Mechanism for Attention {
    fn alike(&self) -> Vec<Vec<WeightIndex>> {
        let gate = self.gate.as_ref().map(|gate| gate.projection.weight);
        let mut of_input: Vec<WeightIndex> = gate.into_iter().collect();
        let KeyValue::Own { key, value } = &self.key_value else {
            of_input.push(self.query.weight);
            return vec![of_input];
        };
        let value = value.as_ref().map(|value| value.weight);
        match (&self.bottleneck, self.key_value_inputs) {
            (Some(bottleneck), None) => {
                of_input.push(bottleneck.projection.weight);
                of_input.extend(value);
                vec![vec![self.query.weight, key.weight], of_input]
            }
            (None, None) => {
                of_input.extend([self.query.weight, key.weight]);
                of_input.extend(value);
                let of_kind = self.of_kind.iter();
                let of_kind = of_kind.map(|own| {
                    [&own.query, &own.key, &own.value]
                        .map(|linear| linear.weight)
                        .into()
                });
                std::iter::once(of_input).chain(of_kind).collect()
            }
            (_, Some(_)) => vec![of_input],
        }
    }

    fn weights(&self, uses: &mut Uses) {
        let Attention {
            heads: _,
            kv_heads: _,
            head_dim: _,
            value_dim: _,
            query,
            key_value,
            merged: _,
            merged_norm,
            output,
            mixing,
            key_value_inputs: _,
            convolutions,
            clip: _,
            query_norm,
            key_norm,
            value_norm,
            values_rotate: _,
            positions,
            mask: _,
            scale: _,
            softcap: _,
            clamp: _,
            sinks,
            row_sinks,
            query_temperature: _,
            gate,
            differential,
            dynamic_mask,
            block_choice,
            values_of_inputs: _,
            exclusive,
            heads_norm,
            output_norm,
            bottleneck,
            beside,
            of_kind,
        } = self;
        if let Some(own) = of_kind {
            let KindProjections {
                kind: _,
                query,
                key,
                value,
                output,
            } = own.as_ref();
            for linear in [query, key, value, output] {
                uses.linear(linear);
            }
        }
        if let Some(Bottleneck { projection, norm }) = bottleneck {
            uses.linear(projection);
            uses.norm(Some(norm));
        }
        uses.linear(query);
        match key_value {
            KeyValue::Own { key, value } => {
                uses.linear(key);
                if let Some(value) = value {
                    uses.linear(value);
                }
            }
            KeyValue::OfLayer(_) => {}
            KeyValue::OfStack {
                stack: _,
                key,
                value,
            } => {
                uses.linear(key);
                uses.linear(value);
            }
        }
        uses.norm(merged_norm.as_ref());
        if let Some(mixing) = mixing {
            mixing.weights(uses);
        }
        for convolution in convolutions.iter().flat_map(|both| both.iter()) {
            uses.key_convolution(convolution);
        }
        uses.head_norm(query_norm.as_ref());
        uses.head_norm(key_norm.as_ref());
        uses.head_norm(value_norm.as_ref());
        for position in positions {
            uses.position(position);
        }
        uses.optional(*sinks);
        if let Some(sinks) = row_sinks {
            uses.linear(sinks);
        }
        if let Some(gate) = gate {
            gate.weights(uses);
        }
        if let Some(Differential {
            lambda,
            initial: _,
            norm,
            gain: _,
        }) = differential
        {
            for &index in lambda {
                uses.weight(index);
            }
            uses.head_norm(Some(norm));
        }
        if let Some(DynamicMask {
            step,
            decay,
            kept: _,
        }) = dynamic_mask
        {
            uses.linear(step);
            uses.weight(*decay);
        }
        if let Some(choice) = block_choice {
            choice.weights(uses);
        }
        uses.optional(*exclusive);
        uses.head_norm(heads_norm.as_ref());
        if let Some(beside) = beside {
            beside.weights(uses);
        }
        uses.norm(output_norm.as_ref());
        uses.linear(output);
    }

    fn label(&self) -> String {
        let heads = match (self.heads, self.kv_heads) {
            (_, 1) => "multi-query",
            (heads, kv_heads) if heads == kv_heads => "multi-head",
            _ => "grouped-query",
        };
        let mask = self.mask.label();
        let shared = match self.key_value {
            KeyValue::Own { .. } if self.merged.is_some() => ", beside those of an earlier stack",
            KeyValue::Own { .. } => "",
            KeyValue::OfLayer(_) => ", keys and values of an earlier layer",
            KeyValue::OfStack { .. } => ", keys and values of an earlier stack",
        };
        let differential = match self.differential {
            Some(_) => ", differential",
            None => "",
        };
        let dynamic = match self.dynamic_mask {
            Some(_) => ", dynamic mask",
            None => "",
        };
        let beside = self.beside.as_ref().map_or("", |beside| beside.label());
        let chosen = match self.block_choice {
            Some(_) => ", blocks of keys chosen by an indexer",
            None => "",
        };
        let mixing = self.mixing.as_ref().map_or("", Mixing::label);
        let exclusive = self.exclusive.map_or("", |_| ", without the own value");
        format!(
            "attention: {heads}, {mask}{mixing}{shared}{differential}{dynamic}{beside}{chosen}{exclusive}"
        )
    }

    fn summary(&self) -> String {
        format!(
            "attention ({} heads, {} key/value heads of {}{})",
            self.heads,
            self.kv_heads,
            self.head_dim,
            match self.key_value {
                KeyValue::OfStack { .. } => ", on the end of an earlier stack".to_owned(),
                KeyValue::Own { .. } | KeyValue::OfLayer(_) => self.mask.suffix(),
            }
        )
    }

    fn contradiction(&self) -> Option<&'static str> {
        let has_values = match &self.key_value {
            KeyValue::Own { key: _, value } => value.is_some(),
            KeyValue::OfLayer(_) | KeyValue::OfStack { .. } => true,
        };
        let of_layer = self.keys_of_layer().is_some();
        let of_stack = matches!(self.key_value, KeyValue::OfStack { .. });
        let plain_merged = matches!(&self.key_value, KeyValue::Own { value: Some(_), .. })
            && self.gate.is_none()
            && self.beside.is_none()
            && self.differential.is_none()
            && self.dynamic_mask.is_none()
            && self.clip.is_none()
            && self.clamp.is_none()
            && self.value_norm.is_none()
            && !self.positions.iter().any(Position::is_addend);
        let of_keys = self.key_norm.is_some() || self.value_norm.is_some();
        let by_values = self.dynamic_mask.is_some() || self.differential.is_some();
        let addends = self
            .positions
            .iter()
            .filter(|position| position.is_addend());
        let has_kinds = self.buckets().is_some_and(|buckets| buckets.types > 0);
        let mut slopes = self.positions.iter().filter_map(Position::alibi);
        let rounded_both_ways = slopes
            .clone()
            .any(|alibi| alibi.both_ways && alibi.rounded_to_bf16);
        let slopes_fit = slopes.all(|alibi| alibi.slopes.len() == self.heads);
        let vectors = self.vectors();
        // Only these know where the rows of another stack are.
        let are_placed = self.positions.iter().all(|position| {
            let vectors = position.vectors();
            vectors.is_some_and(|vectors| vectors.places.is_some())
        });
        let fit = |linear: &Linear| linear.out_features == self.heads * self.head_dim;
        let vectors_fit = vectors.is_none_or(|vectors| {
            let keys_fit = self.heads == self.kv_heads || vectors.queries.is_none();
            keys_fit && vectors.projections().all(fit)
        });
        let uneven = !self.heads.is_multiple_of(2) || !self.kv_heads.is_multiple_of(2);
        let gate_of_heads = self.gate.as_ref().is_some_and(|gate| {
            // Added to all features of a head.
            gate.per_head && gate.head_bias.is_some()
        });
        let choice = self.block_choice.as_ref();
        let odd_choice = choice.is_some_and(|choice| {
            let is_own = !of_layer && !of_stack && self.dynamic_mask.is_none();
            let causal = self.mask == Mask::Causal && is_own;
            let is_shared = match choice.by {
                BlockScore::LargestProduct { local: _ } => {
                    self.heads.is_multiple_of(choice.heads.max(1))
                }
                BlockScore::MeanKey => true,
            };
            !causal || !is_shared
        });
        let gate_of_latent = self.gate.as_ref().is_some_and(|gate| gate.of_latent);
        let is_mixed = self.mixing.is_some();
        let looks_back = self.mask.cut() == Cut::Anywhere;
        first_of(&[
            (
                self.of_kind.is_some()
                    && (!plain_merged
                        || self.merged.is_some()
                        || self.bottleneck.is_some()
                        || self.key_value_inputs.is_some()
                        || self.mask.cut() == Cut::KeysFirst),
                "projections for tokens of pictures in an attention that has more than projections",
            ),
            (
                is_mixed && (of_layer || of_stack || !has_values || !looks_back),
                "a convolution of keys that are not the layer's own, or of rows that see later ones",
            ),
            (
                is_mixed && (self.dynamic_mask.is_some() || self.differential.is_some()),
                "a convolution in front of a choice or pairs of values",
            ),
            (!self.mixing_fits(), "a convolution of other columns"),
            (
                self.mixing.as_ref().is_some_and(Mixing::adds_rows),
                "the row itself in a convolution of queries, keys and values",
            ),
            (
                is_mixed && self.convolutions.is_some(),
                "two kinds of convolutions of keys and values",
            ),
            (
                of_layer && of_keys,
                "norms of keys and values that are another layer's",
            ),
            (
                (of_layer || of_stack) && by_values,
                "a choice or pairs of values that are not the layer's own",
            ),
            (
                self.merged.is_some() && !plain_merged,
                "what is only of a layer's own keys, beside those of another stack",
            ),
            (
                self.merged.is_none() && self.merged_norm.is_some(),
                "a norm of another stack's rows, of which none are seen",
            ),
            (
                self.mask == Mask::Seen && !of_stack,
                "rows of pictures among a layer's own",
            ),
            (
                !has_values && self.value_dim != self.head_dim,
                "keys as values of another width",
            ),
            (
                of_stack && (!are_placed || !matches!(self.mask, Mask::Full | Mask::Seen)),
                "places of rows in the rows of another stack",
            ),
            (
                self.values_rotate && (of_layer || of_stack || self.value_dim != self.head_dim),
                "a rotation of values that are not the layer's own, or of another width",
            ),
            (
                self.bottleneck.is_some() && (of_layer || of_stack || !has_values),
                "a bottleneck of queries and keys that are not both the layer's own",
            ),
            (
                self.beside.as_ref().is_some_and(|beside| {
                    let has_positions = !self.positions.is_empty();
                    of_layer
                        || of_stack
                        || by_values
                        || !has_values
                        || self.heads != self.kv_heads
                        || self.head_dim != self.value_dim
                        || self.gate.is_some()
                        || self.output_norm.is_some()
                        || self.heads_norm.is_some()
                        || !beside.fits(self.mask, has_positions)
                }),
                "something beside heads that are not as it needs them",
            ),
            (addends.count() > 1, "several addends by distance"),
            (
                self.axes().is_some()
                    && (of_layer
                        || of_stack
                        || !has_values
                        || self.heads != self.kv_heads
                        || !matches!(self.mask, Mask::Full | Mask::Windows)),
                "rows and columns apart for other heads or keys than these",
            ),
            (
                self.positions.iter().any(Position::is_of_page)
                    && (of_layer || self.mask != Mask::Full || self.heads != self.kv_heads),
                "distances on a page for other heads or keys than these",
            ),
            (
                self.positions
                    .iter()
                    .any(|position| matches!(position, Position::SparseBlocks(_)))
                    && self.mask != Mask::Full,
                "sparse blocks where not all keys are seen",
            ),
            (
                rounded_both_ways,
                "slopes in both directions that are rounded",
            ),
            (!slopes_fit, "not a slope for each head"),
            (
                !vectors_fit || (vectors.is_some() && (of_layer || !may_have_vectors(self.mask))),
                "vectors of distances for other heads or keys than these",
            ),
            (self.mask.is_of_padding() && !has_kinds, PADDING),
            (
                self.differential.is_some() && (uneven || self.dynamic_mask.is_some()),
                "differential attention of heads that make no pairs",
            ),
            (
                self.convolutions.is_some() && (of_layer || of_stack || !self.mask.is_causal()),
                "convolutions of keys that are not the layer's own, or of later rows",
            ),
            (
                self.key_value_inputs.is_some()
                    && (of_layer || of_stack || !has_values || self.bottleneck.is_some()),
                "other inputs of keys and values that are not projected",
            ),
            (
                self.profiles().is_some() && !self.mask.is_causal(),
                "profiles of distances where later keys are seen",
            ),
            (
                self.row_sinks.is_some() && self.sinks.is_some(),
                "sinks of heads and of rows",
            ),
            (
                self.heads_norm.is_some() && self.differential.is_some(),
                "a norm of single heads that make pairs",
            ),
            (
                gate_of_heads,
                "an addend for each feature of a gate of heads",
            ),
            (
                odd_choice,
                "a choice of blocks among keys that are not the layer's own and earlier ones",
            ),
            (
                gate_of_latent,
                "a gate of a latent of queries that have none",
            ),
            (
                (self.exclusive.is_some() || self.values_of_inputs)
                    && (of_layer
                        || of_stack
                        || !has_values
                        || self.merged.is_some()
                        || self.differential.is_some()
                        || self.beside.is_some()),
                "own values of rows that are another layer's, or pairs",
            ),
        ])
    }

    fn site(&self) -> Option<Site> {
        Some(match self.key_value {
            KeyValue::OfStack { .. } => Site::CrossAttention,
            KeyValue::Own { .. } | KeyValue::OfLayer(_) => Site::Attention,
        })
    }

    fn mask(&self) -> Option<Mask> {
        // What a row sees of another stack says nothing of the rows of its own.
        let is_of_stack = matches!(self.key_value, KeyValue::OfStack { .. });
        (!is_of_stack).then_some(self.mask)
    }

    fn ropes(&self) -> Vec<&Rope> {
        let positions = self.positions.iter();
        let choice = self.block_choice.iter();
        positions
            .filter_map(Position::rope)
            .chain(choice.filter_map(|choice| choice.rope.as_ref()))
            .collect()
    }

    fn positions(&self) -> Vec<&'static str> {
        let convolved = self.convolutions.iter().map(|_| "convolution");
        let positions = self.positions.iter().map(Position::label);
        positions.chain(convolved).collect()
    }

    fn buckets(&self) -> Option<&RelativeBuckets> {
        self.positions.iter().find_map(Position::buckets)
    }

    fn norms(&self) -> Vec<(&Norm, &'static str)> {
        let query = self.query_norm.iter();
        query
            .map(|norm| {
                let of = match norm.span {
                    NormSpan::Full => "of all query and key heads together",
                    NormSpan::Head | NormSpan::HeadOwnWeight => "of each query and key head",
                };
                (&norm.norm, of)
            })
            .collect()
    }

    fn states(&self) -> Vec<StateSpec> {
        let is_own = matches!(self.key_value, KeyValue::Own { .. });
        let rows = self.keys().filter(|_| is_own).map(|keys| StateSpec::Rows {
            columns: keys.heads * keys.seen(),
        });
        let values = self.kv_heads * self.value_dim;
        let mixing = self.mixing.iter();
        let mixing = mixing.flat_map(|mixing| mixing.states(values));
        let convolutions = self.convolutions.iter().flat_map(|both| both.iter());
        let windows = convolutions.map(|convolution| {
            let (columns, kernel) = convolution.shape();
            StateSpec::Window {
                rows: kernel - 1,
                columns,
            }
        });
        rows.into_iter().chain(mixing).chain(windows).collect()
    }

    fn cut(&self) -> Cut {
        let kinds = self.buckets().map_or(0, |buckets| buckets.types);
        if self.keys_of_layer().is_some() {
            return Cut::Nowhere("layers share keys and values");
        }
        if self.dynamic_mask.is_some() || self.block_choice.is_some() {
            return Cut::Nowhere(super::mechanism::CHOICE_OF_KEYS);
        }
        let mut positions = self.positions.iter();
        if let Some(reason) = positions.find_map(Position::of_whole_records) {
            return Cut::Nowhere(reason);
        }
        if self.exclusive.is_some() {
            return Cut::Nowhere("rows leave out what is of their own values");
        }
        if let Some(beside) = &self.beside {
            return Cut::Nowhere(beside.of_whole_records());
        }
        if kinds > 0 {
            return Cut::Nowhere("the kinds of a record's tokens enter the attention");
        }
        if matches!(self.key_value, KeyValue::OfStack { .. }) {
            return Cut::Anywhere;
        }
        self.mask.cut()
    }

    fn reads_kinds(&self) -> bool {
        self.vectors()
            .is_some_and(|vectors| vectors.segments.is_some())
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys {
            queries: self.heads,
            heads: self.kv_heads,
            key: self.seen_key(),
            value: self.value_dim,
            is_paired: self.differential.is_some(),
        })
    }

    fn slots(&self) -> Vec<Slot> {
        self.key_value_inputs.into_iter().flatten().collect()
    }

    fn keys_of_layer(&self) -> Option<usize> {
        match self.key_value {
            KeyValue::Own { .. } | KeyValue::OfStack { .. } => None,
            KeyValue::OfLayer(layer) => Some(layer),
        }
    }

    fn stack_end(&self) -> Option<StackEnd<'_>> {
        match (&self.key_value, self.merged) {
            (KeyValue::OfStack { stack, key, value }, _) => Some(StackEnd {
                stack: *stack,
                projections: [key, value],
                beside_own: false,
            }),
            (
                KeyValue::Own {
                    key,
                    value: Some(value),
                },
                Some(stack),
            ) => Some(StackEnd {
                stack,
                projections: [key, value],
                beside_own: true,
            }),
            (KeyValue::Own { .. } | KeyValue::OfLayer(_), _) => None,
        }
    }

    fn operations(&self) -> Operations {
        let pairs = 1 + usize::from(self.differential.is_some());
        let with_vectors = |vectors: &DistanceVectors| vectors.vectors(USUAL) * vectors.products();
        let vectors = self.vectors().map_or(0, with_vectors);
        let beside = self
            .beside
            .as_ref()
            .map_or(0, |beside| beside.operations(self.heads * self.head_dim));
        let choice = self.block_choice.as_ref();
        let scores = choice.map_or(0, |choice| 2 * choice.heads * choice.head_dim);
        let mixed = self.profiles().map_or(0, |profiles| profiles.rank);
        Operations {
            of_row: (2 * self.heads * self.head_dim * vectors + beside) as f64,
            of_pair: (2 * self.heads * (self.seen_key() + mixed + pairs * self.value_dim) + scores)
                as f64,
            weights_of_pair: (self.heads * pairs) as f64,
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        (self.heads + self.kv_heads) * (self.head_dim + self.value_dim)
    }

    fn depends_on_length(&self, longest: usize) -> Option<&'static str> {
        if self.dynamic_mask.is_some() {
            return Some(super::mechanism::CHOICE_OF_KEYS);
        }
        let choice = self.block_choice.as_ref();
        if choice.is_some_and(|choice| choice.size.saturating_mul(choice.top_k) < longest) {
            return Some(super::mechanism::CHOICE_OF_KEYS);
        }
        let mut positions = self.positions.iter();
        positions.find_map(|position| position.depends_on_length(longest))
    }
}
