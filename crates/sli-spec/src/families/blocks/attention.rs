//! The attention of a layer.

use super::Blocks;
use super::names::{Norms, Projections};
use crate::build::{Leaves, divided};
use crate::{
    Activation, Alibi, Attention, Config, Differential, DynamicMask, HeadNorm, KeyValue, Limits,
    Linear, Mask, Mixer, Mixing, Norm, NormKind, NormSpan, OutputGate, Position, RelativeBuckets,
    Shard, Source, SpecError, Split,
};

/// A gate on the heads' outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its projection, without `.weight`.
    pub name: &'static str,
    /// One a head instead of one a feature.
    pub per_head: bool,
    /// The projection has an addend.
    pub bias: bool,
    /// Applied to it.
    pub activation: Activation,
    /// An addend for every head, by its name.
    pub head_bias: Option<&'static str>,
}

/// Learned addends by distance and by kind of token, in one table for all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// The table, by its name in the stack; `{}` where every layer has its own.
    pub name: &'static str,
    /// Buckets of distances.
    pub buckets: usize,
    /// Half of them are for later keys.
    pub looks_ahead: bool,
    /// Distance from which all share a bucket.
    pub max_distance: usize,
    /// Kinds of tokens.
    pub types: usize,
    /// Rows of the table behind these, which nothing reads.
    pub further_rows: usize,
}

impl Buckets {
    /// Those of T5's keys. The reference divides by the logarithm of what lies between the exact buckets and the longest
    /// distance.
    pub fn read(config: &Config, name: &'static str, looks_ahead: bool) -> Result<Self, SpecError> {
        const BUCKETS: &str = "relative_attention_num_buckets";
        const FARTHEST: &str = "relative_attention_max_distance";
        let buckets = config.heads(BUCKETS)?;
        let max_distance = config.size(FARTHEST)?;
        let least = if looks_ahead { 4 } else { 2 };
        if buckets < least {
            return Err(config.invalid(BUCKETS, format!("at least {least}")));
        }
        if max_distance <= buckets / 2 {
            let expected = format!("more than {}", buckets / 2);
            return Err(config.invalid(FARTHEST, expected));
        }
        Ok(Self {
            name,
            buckets,
            looks_ahead,
            max_distance,
            types: 0,
            further_rows: 0,
        })
    }
}

/// An attention to the end of an earlier stack, behind the layer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cross {
    /// Which stack (0-based).
    pub stack: usize,
    /// Features of that stack, where they are others than this one's.
    pub width: Option<usize>,
    /// Norms around it.
    pub norms: Norms,
    /// Queries, keys and values; keys and values of one name are its halves.
    pub projections: [&'static str; 3],
    /// Its output projection.
    pub output: &'static str,
}

impl Gate {
    /// The gate of so many heads, of so many features in all.
    pub fn build(
        self,
        leaves: &mut Leaves,
        hidden: usize,
        [heads, wide]: [usize; 2],
    ) -> OutputGate {
        let rows = if self.per_head { heads } else { wide };
        OutputGate {
            projection: leaves.linear(self.name, [rows, hidden], self.bias, Shard::Column),
            of_latent: false,
            per_head: self.per_head,
            activation: self.activation,
            head_bias: self.head_bias.map(|name| {
                let source = leaves.tensor(name);
                leaves.weight(source, &[heads], Shard::Column)
            }),
        }
    }
}

impl Blocks<'_> {
    /// An error where projections that are stored together cannot be told apart.
    pub(super) fn check_projections(&self) -> Result<(), SpecError> {
        let parts = match self.names.projections {
            Projections::Blocks { blocks, .. } => blocks,
            Projections::Grouped(_) => self.kv_heads,
            Projections::Separate(_) | Projections::Rows(_) | Projections::KeyValue { .. } => {
                return Ok(());
            }
        };
        divided(self.config, "num_attention_heads", self.heads, parts).map(|_| ())
    }

    /// The attention of a layer, its names relative to the layer.
    pub fn attention(&self, leaves: &mut Leaves, layer: usize) -> Mixer {
        if let Some(other) = self.attention_of.mixer(self, leaves, layer) {
            return other;
        }
        Mixer::Attention(Box::new(self.usual_attention(leaves, layer)))
    }

    /// The attention that these blocks say, whatever stands in its place.
    pub fn usual_attention(&self, leaves: &mut Leaves, layer: usize) -> Attention {
        let value_dim = self.value_dim.unwrap_or(self.head_dim);
        let wide = self.heads * value_dim;
        let (query, key_value) = self.query_key_value(leaves, value_dim);
        let mixing = self.convolution.map(|(name, kernel)| {
            let columns = self.heads * self.head_dim + self.kv_heads * (self.head_dim + value_dim);
            let shape = [columns, kernel];
            Mixing::Convolution(leaves.convolution(name, shape, true, Activation::Linear))
        });
        let query_norm = self.head_norm(leaves, self.names.query_norm, self.heads);
        let is_own = matches!(key_value, KeyValue::Own { .. });
        let key_norm = is_own.then(|| self.head_norm(leaves, self.names.key_norm, self.kv_heads));
        let value_norm = (is_own && self.value_norm).then(|| self.value_norm());
        let sinks = self.sinks.map(|name| {
            let source = leaves.tensor(name);
            leaves.weight(source, &[self.heads], Shard::Column)
        });
        let differential = self.differential(leaves, layer);
        let dynamic_mask = self.dynamic_mask(leaves);
        let block_choice = self.block_choice.as_ref();
        let block_choice = block_choice.map(|sizes| sizes.build(leaves, self.hidden_size));
        let output_norm = self.names.output_norm;
        let output_norm = output_norm.map(|name| leaves.norm(name, wide, self.norm));
        let output = self.output(leaves, [self.hidden_size, wide]);
        let gate = self
            .gate
            .map(|gate| gate.build(leaves, self.hidden_size, [self.heads, wide]));
        let rope = self.ropes[layer].clone().map(Position::Rope);
        let positions = rope.into_iter().chain(self.positions.clone());
        let buckets = self
            .buckets
            .map(|buckets| Position::Buckets(self.buckets(leaves, buckets, layer)));
        let sizes = [self.heads, self.kv_heads, self.head_dim];
        Attention {
            value_dim,
            merged: self.merged,
            scale: self.attention_scale,
            softcap: self.attention_softcap,
            clamp: self.attention_clamp,
            mixing,
            clip: self.clip,
            query_norm,
            key_norm: key_norm.flatten(),
            value_norm,
            values_rotate: self.values_rotate,
            sinks,
            query_temperature: self.query_temperature,
            gate,
            differential,
            dynamic_mask,
            block_choice: block_choice.map(Box::new),
            output_norm,
            positions: positions.chain(buckets).collect(),
            ..Attention::plain(sizes, query, key_value, output, self.masks[layer])
        }
    }

    /// The attention to another stack.
    pub(super) fn cross_attention(&self, leaves: &mut Leaves, cross: Cross) -> Mixer {
        let [wide, rows] = [self.heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let width = cross.width.unwrap_or(self.hidden_size);
        let [query, key, value] = cross.projections;
        let mut linear = |name: &str, half: Option<usize>, shape, has_bias: bool, shard| {
            let stored = |source: Source| match half {
                Some(half) => source.part(Split::Rows(vec![rows; 2]), half),
                None => source,
            };
            let bias = has_bias.then(|| stored(leaves.tensor(&format!("{name}.bias"))));
            let weight = stored(self.weight(leaves, name));
            leaves.linear_of(weight, bias, shape, shard)
        };
        let halves = if key == value {
            [Some(0), Some(1)]
        } else {
            [None; 2]
        };
        let bias = self.query_key_value_bias;
        let shape = [wide, self.hidden_size];
        let query = linear(query, None, shape, bias, Shard::Column);
        let of_keys = bias && !self.keys_without_bias;
        let key = linear(key, halves[0], [rows, width], of_keys, Shard::Column);
        let value = linear(value, halves[1], [rows, width], bias, Shard::Column);
        let shape = [self.hidden_size, wide];
        let output = linear(cross.output, None, shape, self.output_bias, Shard::Row);
        let key_value = KeyValue::OfStack {
            stack: cross.stack,
            key,
            value,
        };
        let sizes = [self.heads, self.kv_heads, self.head_dim];
        Mixer::Attention(Box::new(Attention {
            scale: self.attention_scale,
            softcap: self.attention_softcap,
            ..Attention::plain(sizes, query, key_value, output, Mask::Full)
        }))
    }

    /// A projection, which may be stored as `[in, out]`.
    pub(super) fn linear(
        &self,
        leaves: &mut Leaves,
        name: &str,
        shape: [usize; 2],
        bias: Option<Source>,
        shard: Shard,
    ) -> Linear {
        let weight = self.weight(leaves, name);
        let mut linear = leaves.linear_of(weight, bias, shape, shard);
        linear.limits = self.limits(leaves, name);
        linear
    }

    /// The limits of a projection, where they have such.
    fn limits(&self, leaves: &mut Leaves, name: &str) -> Option<Box<Limits>> {
        let module = name.strip_suffix(".linear").filter(|_| self.limited)?;
        Some(Box::new(leaves.limits(module)))
    }

    fn weight(&self, leaves: &Leaves, name: &str) -> Source {
        let weight = leaves.tensor(&format!("{name}.weight"));
        if self.transposed {
            weight.transpose()
        } else {
            weight
        }
    }

    fn query_key_value(&self, leaves: &mut Leaves, value_dim: usize) -> (Linear, KeyValue) {
        let rows = [
            self.heads * self.head_dim,
            self.kv_heads * self.head_dim,
            self.kv_heads * value_dim,
        ];
        let mut projection = |part: usize| {
            let (name, place) = self.place(rows, part);
            let stored = |source: Source| match place.clone() {
                Some((split, part)) => source.part(split, part),
                None => source,
            };
            let bias = self.query_key_value_bias && !(self.keys_without_bias && part == 1);
            let bias = bias.then(|| stored(leaves.tensor(&format!("{name}.bias"))));
            let weight = stored(self.weight(leaves, name));
            let shape = [rows[part], self.hidden_size];
            let mut linear = leaves.linear_of(weight, bias, shape, Shard::Column);
            linear.limits = self.limits(leaves, name);
            linear
        };
        let query = projection(0);
        let key_value = match self.keys_of_layer {
            Some(layer) => KeyValue::OfLayer(layer),
            None => KeyValue::Own {
                key: projection(1),
                value: (!self.values_are_keys).then(|| projection(2)),
            },
        };
        (query, key_value)
    }

    /// The tensor that holds queries (0), keys (1) or values (2), and which part of it they are.
    fn place(&self, rows: [usize; 3], part: usize) -> (&'static str, Option<(Split, usize)>) {
        match self.names.projections {
            Projections::Separate(names) => (names[part], None),
            Projections::Rows(name) => (name, Some((Split::Rows(rows.to_vec()), part))),
            Projections::Blocks {
                name,
                blocks: heads,
                order,
            } => (
                name,
                Some((Split::PerHead { heads, parts: 3 }, order[part])),
            ),
            Projections::Grouped(name) => {
                let groups = self.kv_heads;
                let queries = self.heads / groups;
                (name, Some((Split::Grouped { groups, queries }, part)))
            }
            Projections::KeyValue { query, key_value } => {
                let heads = self.kv_heads;
                let split = |part| (Split::PerHead { heads, parts: 2 }, part);
                match part {
                    0 => (query, None),
                    _ => (key_value, Some(split(part - 1))),
                }
            }
        }
    }

    fn output(&self, leaves: &mut Leaves, shape: [usize; 2]) -> Linear {
        let name = self.names.output;
        let bias = match self.names.output_bias {
            Some(bias) => bias.to_owned(),
            None => format!("{name}.bias"),
        };
        let bias = self.output_bias.then(|| leaves.tensor(&bias));
        self.linear(leaves, name, shape, bias, Shard::Row)
    }

    fn head_norm(&self, leaves: &mut Leaves, name: &str, heads: usize) -> Option<HeadNorm> {
        let (span, style) = self.query_key_norm?;
        let norm = match span {
            NormSpan::Head => leaves.norm(name, self.head_dim, style),
            NormSpan::HeadOwnWeight => leaves.norm_of_heads(name, [heads, self.head_dim], style),
            NormSpan::Full => leaves.norm(name, heads * self.head_dim, style),
        };
        Some(HeadNorm {
            norm,
            span,
            after_rotation: self.norm_after_rotation,
        })
    }

    fn value_norm(&self) -> HeadNorm {
        HeadNorm {
            norm: Norm {
                kind: NormKind::Rms,
                weight: None,
                bias: None,
                epsilon: self.norm.epsilon,
            },
            span: NormSpan::Head,
            after_rotation: false,
        }
    }

    /// As deep layers differ more, the addend of lambda grows with the layer (Ye et al. 2024).
    fn differential(&self, leaves: &mut Leaves, layer: usize) -> Option<Differential> {
        let style = self.differential?;
        let names = ["lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"];
        let lambda = names.map(|name| {
            let source = leaves.tensor(&format!("self_attn.{name}"));
            leaves.weight(source, &[self.head_dim], Shard::Replicate)
        });
        let initial = 0.8 - 0.6 * (-0.3 * layer as f64).exp();
        Some(Differential {
            lambda,
            initial,
            norm: HeadNorm {
                norm: leaves.norm("self_attn.groupnorm", 2 * self.head_dim, style),
                span: NormSpan::Head,
                after_rotation: false,
            },
            gain: 1.0 - initial,
        })
    }

    fn dynamic_mask(&self, leaves: &mut Leaves) -> Option<DynamicMask> {
        let kept = self.dynamic_mask?;
        let shape = [self.kv_heads, self.kv_heads * self.head_dim];
        let bias = self.query_key_value_bias;
        let step = leaves.linear("self_attn.dt_proj", shape, bias, Shard::Replicate);
        let source = leaves.tensor("self_attn.A");
        let decay = leaves.weight(source, &[self.kv_heads], Shard::Replicate);
        Some(DynamicMask { step, decay, kept })
    }

    /// A table of addends by distance.
    pub fn buckets(&self, leaves: &mut Leaves, of: Buckets, layer: usize) -> RelativeBuckets {
        let source = Source::tensor(format!(
            "{}{}",
            self.prefix,
            of.name.replace("{}", &layer.to_string())
        ));
        let rows = of.buckets + of.types * of.types + of.further_rows;
        let source = Source::Reshape(Box::new(source));
        RelativeBuckets {
            table: leaves.weight(source, &[rows * self.heads], Shard::Replicate),
            buckets: of.buckets,
            looks_ahead: of.looks_ahead,
            max_distance: of.max_distance,
            types: of.types,
        }
    }
}

/// Slopes of ALiBi where the number of heads may be no power of two: those of the next lower power,
/// then every other one of the next higher (Bloom, Falcon).
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let power = 1 << heads.ilog2();
    let slope = |power: usize, number: usize| {
        let exponent = -(3.0 - (power as f64).log2()).exp2();
        f64::from(exponent.exp2() as f32).powi(number as i32)
    };
    (1..=power)
        .map(|number| slope(power, number))
        .chain((0..heads - power).map(|number| slope(2 * power, 2 * number + 1)))
        .collect()
}

/// ALiBi in f32 with these slopes.
pub fn alibi(slopes: Vec<f64>) -> Position {
    Position::Alibi(Alibi {
        slopes,
        rounded_to_bf16: false,
        both_ways: false,
    })
}
