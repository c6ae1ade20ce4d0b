//! The decoders before Llama: layer norms, networks without gate, addends, and projections that each
//! type fuses and names in its own way. A type sets what differs from the plain [`Classic`].

use crate::build::{CausalHead, Leaves, NormStyle, divided, unused_head};
use crate::{
    Activation, Alibi, Attention, Branch, Config, Embedding, FeedForward, Gain, Head, HeadNorm,
    Identity, Input, KeyValue, Layer, LengthLimit, Linear, Mask, Mixer, ModelSpec, NormSpan,
    Position, PositionIds, PositionTable, Shard, Sinusoidal, Source, SpecError, Split, Stack, Step,
    Write,
};

/// A decoder as data: public fields are what a type may set before [`Classic::build`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the reference"
)]
#[derive(Clone, Debug)]
pub struct Classic<'c> {
    config: &'c Config,
    /// The family's name.
    pub family: &'static str,
    /// Prefix of the decoder's tensors.
    pub prefix: String,
    /// Features of the hidden state.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Features inside the feed-forward network.
    pub intermediate_size: usize,
    /// Names of the tensors.
    pub names: Names,
    /// Projections are stored `[in, out]` (`Conv1D`).
    pub transposed: bool,
    /// Norms of the layers.
    pub norm: NormStyle,
    /// Norm behind the last layer.
    pub final_norm: Option<NormStyle>,
    /// Norm of each query and key head, and the names of the two.
    pub query_key_norm: Option<([&'static str; 2], NormStyle)>,
    /// What that norm spans.
    pub query_key_norm_span: NormSpan,
    /// Where the norms of a layer stand.
    pub arrangement: Arrangement,
    /// Queries, keys and values have an addend.
    pub query_key_value_bias: bool,
    /// The attention's output projection has an addend.
    pub output_bias: bool,
    /// Name of the addend of the last layer's output projection alone (GPT-NeoX Japanese).
    pub last_output_bias: Option<&'static str>,
    /// The feed-forward network's first projection has an addend.
    pub up_bias: bool,
    /// The feed-forward network's last projection has an addend.
    pub down_bias: bool,
    /// Of the feed-forward network.
    pub activation: Activation,
    /// Limits queries, keys and values.
    pub clip: Option<f64>,
    /// Mask of every layer.
    pub masks: Vec<Mask>,
    /// Factor on `q k` of every layer.
    pub attention_scales: Vec<f64>,
    /// How positions enter attention.
    pub positions: Option<Position>,
    /// How positions enter the embedding.
    pub table: Option<Table>,
    /// How long a record may be.
    pub length_limit: LengthLimit,
    /// Factor on the token embedding.
    pub embedding_scale: f64,
    /// Norm of the token embedding, by its name.
    pub embedding_norm: Option<(&'static str, NormStyle)>,
    /// Width of the token table, where it is projected to the hidden size and back (OPT-350m).
    pub embedding_width: Option<usize>,
    /// The projection to logits has an addend.
    pub head_bias: bool,
    /// Another name of the projection to logits, which the reference's class has given it.
    pub other_head: Option<&'static str>,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// Number of logits.
    pub outputs: usize,
    /// Tensors that files carry and nothing needs.
    pub ignored: Vec<&'static str>,
}

/// Names of a decoder's tensors: within the decoder, and within a layer.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Token table.
    pub tokens: &'static str,
    /// A layer, without its number.
    pub layers: &'static str,
    /// Norm of the attention.
    pub attention_norm: &'static str,
    /// Norm of the feed-forward network.
    pub feed_forward_norm: &'static str,
    /// Queries, keys and values.
    pub projections: Projections,
    /// The attention's output projection.
    pub output: &'static str,
    /// Into the feed-forward network.
    pub up: &'static str,
    /// Out of it.
    pub down: &'static str,
    /// Norm behind the last layer.
    pub final_norm: &'static str,
    /// Projection to logits, as saved first.
    pub head: &'static str,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug)]
pub enum Projections {
    /// One tensor each.
    Separate([&'static str; 3]),
    /// One behind the other.
    Fused(&'static str),
    /// `blocks` times a part of each; which of the three a query, key and value is.
    Blocks {
        /// The tensor.
        name: &'static str,
        /// Number of blocks.
        blocks: usize,
        /// Where in a block queries, keys and values are.
        order: [usize; 3],
    },
    /// In a group for every key/value head: its queries, its key, its value.
    Grouped(&'static str),
}

/// How positions enter the embedding.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// A learned table: its name, rows in front of position 0, usable rows.
    Learned(&'static str, usize, usize),
    /// A computed one.
    Sinusoidal(Sinusoidal),
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// In front of each sublayer.
    Pre,
    /// In front of each sublayer, and the residual stream continues from the norm (Bloom's option).
    PreInStream,
    /// Behind each residual sum.
    Post,
    /// One norm in front of both sublayers, whose outputs are summed.
    Parallel,
    /// As `Parallel` with a norm for each sublayer.
    ParallelTwoNorms,
}

impl<'c> Classic<'c> {
    /// Pre-norms, causal attention with as many key as query heads, a network four times as wide,
    /// addends everywhere, no positions.
    pub fn new(config: &'c Config, names: Names, norm: NormStyle) -> Result<Self, SpecError> {
        Self::of_size(config, names, norm, config.size("hidden_size")?)
    }

    /// As [`Classic::new`] with the hidden size from elsewhere.
    pub fn of_size(
        config: &'c Config,
        names: Names,
        norm: NormStyle,
        hidden_size: usize,
    ) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let head_dim = divided(config, "num_attention_heads", hidden_size, heads)?;
        Self::of_heads(config, names, norm, [hidden_size, heads, head_dim])
    }

    /// As [`Classic::of_size`] with heads of a width of their own: `[hidden_size, heads, head_dim]`.
    pub fn of_heads(
        config: &'c Config,
        names: Names,
        norm: NormStyle,
        [hidden_size, heads, head_dim]: [usize; 3],
    ) -> Result<Self, SpecError> {
        let layers = config.layers("num_hidden_layers")?;
        config.off("add_cross_attention", "there is no encoder to attend to")?;
        Ok(Self {
            config,
            family: "gpt2",
            prefix: config.row()?.base_prefix.clone(),
            hidden_size,
            heads,
            kv_heads: heads,
            head_dim,
            intermediate_size: 4 * hidden_size,
            names,
            transposed: false,
            norm,
            final_norm: Some(norm),
            query_key_norm: None,
            query_key_norm_span: NormSpan::Head,
            arrangement: Arrangement::Pre,
            query_key_value_bias: true,
            output_bias: true,
            last_output_bias: None,
            up_bias: true,
            down_bias: true,
            activation: Activation::Gelu,
            clip: None,
            masks: vec![Mask::Causal; layers],
            attention_scales: vec![(head_dim as f64).powf(-0.5); layers],
            positions: None,
            table: None,
            length_limit: LengthLimit::None,
            embedding_scale: 1.0,
            embedding_norm: None,
            embedding_width: None,
            head_bias: false,
            other_head: None,
            logit_scale: 1.0,
            outputs: config.size("vocab_size")?,
            ignored: Vec::new(),
        })
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.masks.len()
    }

    /// No projection has an addend.
    pub fn without_biases(&mut self) {
        self.query_key_value_bias = false;
        self.output_bias = false;
        self.up_bias = false;
        self.down_bias = false;
    }

    /// A learned table for so many positions, behind `offset` rows.
    pub fn learned_positions(&mut self, name: &'static str, offset: usize, positions: usize) {
        self.table = Some(Table::Learned(name, offset, positions));
        self.length_limit = LengthLimit::Table(positions);
    }

    /// The description.
    pub fn build(self) -> Result<ModelSpec, SpecError> {
        let config = self.config;
        let base = config.row()?.base_prefix.as_str();
        let tied = config.flag("tie_word_embeddings")?;
        let mut ignored = self.ignored.clone();
        ignored.extend(unused_head(
            &config.class()?,
            tied,
            &[
                "lm_head.weight",
                "lm_head.bias",
                "embed_out.weight",
                "output_projection.weight",
            ],
        ));
        let (embedding, vocab_size) = self.embedding()?;
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: self.family,
            base_prefix: base,
            ignored,
            vocab_size,
            stacks: vec![Stack {
                name: "decoder",
                hidden_size: self.hidden_size,
                sequence: crate::Sequence::Record,
                input: Input::Tokens(embedding),
                positions: PositionIds::Sequential,
                limit: self.length_limit,
                prompt: Vec::new(),
                layers: (0..self.layers())
                    .map(|layer| self.layer(layer))
                    .collect::<Result<_, _>>()?,
                head: self.head()?,
            }],
        })
    }

    fn embedding(&self) -> Result<(Embedding, usize), SpecError> {
        let vocab_size = self.config.size("vocab_size")?;
        let mut leaves = Leaves::new(&self.prefix);
        let width = self.embedding_width.unwrap_or(self.hidden_size);
        let name = format!("{}.weight", self.names.tokens);
        let tokens = leaves.table(&name, vocab_size, width);
        let norm = self
            .embedding_norm
            .map(|(name, style)| leaves.norm(name, width, style));
        let shape = [self.hidden_size, width];
        let projection = self
            .embedding_width
            .map(|_| leaves.linear("project_in", shape, false, Shard::Column));
        let positions = self.table.map(|table| match table {
            Table::Learned(name, offset, positions) => {
                let rows = positions + offset;
                let name = format!("{name}.weight");
                PositionTable::Learned {
                    weight: leaves.table(&name, rows, self.hidden_size),
                    offset,
                    rows,
                }
            }
            Table::Sinusoidal(sinusoidal) => PositionTable::Sinusoidal(sinusoidal),
        });
        let embedding = Embedding {
            scale: self.embedding_scale,
            token_norm: norm,
            positions,
            positions_after_projection: projection.is_some(),
            projection,
            ..Embedding::of_tokens(tokens, width, leaves.finish())
        };
        Ok((embedding, vocab_size))
    }

    fn head(&self) -> Result<Head, SpecError> {
        let width = self.embedding_width.unwrap_or(self.hidden_size);
        let head = CausalHead {
            norm: self
                .final_norm
                .map(|style| (format!("{}{}", self.prefix, self.names.final_norm), style)),
            projection: self.names.head,
            bias: self.head_bias,
            tokens: format!("{}{}.weight", self.prefix, self.names.tokens),
            scale: self.logit_scale,
            softcap: None,
        };
        let mut head = head.build(self.config, [self.outputs, self.hidden_size])?;
        if let (Some(other), Some(logits)) = (self.other_head, &head.logits) {
            let source = &mut head.leaves[logits.projection.weight.0 as usize].source;
            if *source == Source::tensor(format!("{}.weight", self.names.head)) {
                let other = Source::tensor(format!("{other}.weight"));
                *source = Source::OneOf(vec![source.clone(), other]);
            }
        }
        if self.embedding_width.is_none() {
            return Ok(head);
        }
        if let Some(logits) = &mut head.logits {
            let index = logits.projection.weight.0 as usize;
            head.leaves[index].shape = vec![self.outputs, width];
            logits.projection.in_features = width;
        }
        // The projection back is a part of the decoder, so it is there without a head too.
        let mut leaves = Leaves::new(&self.prefix);
        let dense = leaves.linear(
            "project_out",
            [width, self.hidden_size],
            false,
            Shard::Replicate,
        );
        let weight = crate::WeightIndex(head.leaves.len() as u32);
        head.leaves.extend(leaves.finish());
        head.output = Some(Linear { weight, ..dense });
        Ok(head)
    }

    fn layer(&self, layer: usize) -> Result<Layer, SpecError> {
        let prefix = format!("{}{}.{layer}.", self.prefix, self.names.layers);
        let mut leaves = Leaves::new(prefix);
        let norm = |leaves: &mut Leaves, name: &str| leaves.norm(name, self.hidden_size, self.norm);
        let names = [self.names.attention_norm, self.names.feed_forward_norm];
        let mut steps = Vec::new();
        match self.arrangement {
            Arrangement::Pre | Arrangement::PreInStream => {
                for (name, first) in names.into_iter().zip([true, false]) {
                    let pre = norm(&mut leaves, name);
                    let mixer = if first {
                        self.attention(&mut leaves, layer)?
                    } else {
                        self.feed_forward(&mut leaves)
                    };
                    let step = Step::residual(mixer);
                    if self.arrangement == Arrangement::Pre {
                        steps.push(Step {
                            pre: Some(pre),
                            ..step
                        });
                    } else {
                        steps.push(Step {
                            pre: Some(pre),
                            write: Write::Set(crate::Slot::Hidden),
                            ..Step::residual(Mixer::Identity(Identity))
                        });
                        steps.push(step);
                    }
                }
            }
            Arrangement::Post => {
                let mixer = self.attention(&mut leaves, layer)?;
                let post = norm(&mut leaves, names[0]);
                steps.push(Step {
                    write: Write::AddNorm(post, Gain::One),
                    ..Step::residual(mixer)
                });
                let mixer = self.feed_forward(&mut leaves);
                let post = norm(&mut leaves, names[1]);
                steps.push(Step {
                    write: Write::AddNorm(post, Gain::One),
                    ..Step::residual(mixer)
                });
            }
            Arrangement::Parallel => {
                let pre = norm(&mut leaves, names[0]);
                let mut step = Step {
                    pre: Some(pre),
                    ..Step::residual(self.attention(&mut leaves, layer)?)
                };
                let mixer = self.feed_forward(&mut leaves);
                step.branches.push(Branch::plain(mixer));
                steps.push(step);
            }
            Arrangement::ParallelTwoNorms => {
                let pre = norm(&mut leaves, names[0]);
                let mut step = Step::residual(self.attention(&mut leaves, layer)?);
                step.branches[0].pre = Some(pre);
                let pre = norm(&mut leaves, names[1]);
                step.branches.push(Branch {
                    pre: Some(pre),
                    ..Branch::plain(self.feed_forward(&mut leaves))
                });
                steps.push(step);
            }
        }
        Ok(leaves.layer(steps))
    }

    fn attention(&self, leaves: &mut Leaves, layer: usize) -> Result<Mixer, SpecError> {
        let [wide, narrow] = [self.heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let [query, key, value] = self.projections(leaves, [wide, narrow, narrow])?;
        let span = self.query_key_norm_span;
        let mut norm = |which: usize, all: usize| {
            let (names, style) = self.query_key_norm?;
            let features = match span {
                NormSpan::Head => self.head_dim,
                NormSpan::HeadOwnWeight | NormSpan::Full => all,
            };
            Some(HeadNorm {
                norm: leaves.norm(names[which], features, style),
                span,
                after_rotation: false,
            })
        };
        let (query_norm, key_norm) = (norm(0, wide), norm(1, narrow));
        let shape = [self.hidden_size, wide];
        let name = self.names.output;
        let bias = match self.last_output_bias {
            Some(bias) if layer + 1 == self.layers() => Some(leaves.tensor(bias)),
            _ => self
                .output_bias
                .then(|| leaves.tensor(&format!("{name}.bias"))),
        };
        let weight = self.stored(leaves, name);
        let output = leaves.linear_of(weight, bias, shape, Shard::Row);
        let key_value = KeyValue::Own {
            key,
            value: Some(value),
        };
        let sizes = [self.heads, self.kv_heads, self.head_dim];
        Ok(Mixer::Attention(Box::new(Attention {
            scale: self.attention_scales[layer],
            clip: self.clip,
            query_norm,
            key_norm,
            positions: self.positions.clone().into_iter().collect(),
            ..Attention::plain(sizes, query, key_value, output, self.masks[layer])
        })))
    }

    /// A projection's weight as `[out, in]`.
    fn stored(&self, leaves: &Leaves, name: &str) -> Source {
        let weight = leaves.tensor(&format!("{name}.weight"));
        if self.transposed {
            weight.transpose()
        } else {
            weight
        }
    }

    fn projections(
        &self,
        leaves: &mut Leaves,
        sizes: [usize; 3],
    ) -> Result<[Linear; 3], SpecError> {
        let bias = self.query_key_value_bias;
        let (name, split, order) = match self.names.projections {
            Projections::Separate(names) => {
                return Ok([0, 1, 2].map(|part| {
                    let shape = [sizes[part], self.hidden_size];
                    leaves.linear(names[part], shape, bias, Shard::Column)
                }));
            }
            Projections::Fused(name) => (name, Split::Rows(sizes.to_vec()), [0, 1, 2]),
            Projections::Blocks {
                name,
                blocks,
                order,
            } => {
                divided(self.config, "num_attention_heads", self.heads, blocks)?;
                let split = Split::PerHead {
                    heads: blocks,
                    parts: 3,
                };
                (name, split, order)
            }
            Projections::Grouped(name) => {
                let queries = divided(
                    self.config,
                    "num_attention_heads",
                    self.heads,
                    self.kv_heads,
                )?;
                let groups = self.kv_heads;
                (name, Split::Grouped { groups, queries }, [0, 1, 2])
            }
        };
        let weight = self.stored(leaves, name);
        let bias = bias.then(|| leaves.tensor(&format!("{name}.bias")));
        Ok([0, 1, 2].map(|which| {
            let part = |source: Source| source.part(split.clone(), order[which]);
            leaves.linear_of(
                part(weight.clone()),
                bias.clone().map(part),
                [sizes[which], self.hidden_size],
                Shard::Column,
            )
        }))
    }

    fn feed_forward(&self, leaves: &mut Leaves) -> Mixer {
        let [hidden, inner] = [self.hidden_size, self.intermediate_size];
        let mut linear = |name: &str, shape, bias: bool, shard| {
            let bias = bias.then(|| leaves.tensor(&format!("{name}.bias")));
            leaves.linear_of(self.stored(leaves, name), bias, shape, shard)
        };
        let (names, column, row) = (&self.names, Shard::Column, Shard::Row);
        Mixer::FeedForward(FeedForward {
            gate: None,
            up: linear(names.up, [inner, hidden], self.up_bias, column),
            down: linear(names.down, [hidden, inner], self.down_bias, row),
            activation: self.activation,
            learned_activation: None,
            clamped: None,
            inner_norm: None,
        })
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
    })
}
