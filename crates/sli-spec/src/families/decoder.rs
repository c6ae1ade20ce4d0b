//! The decoder that most language models vary: token table, layers of attention and feed-forward
//! network around a residual stream, final norm, head. A type sets what differs from Llama.

use std::fmt;
use std::rc::Rc;

use crate::build::{
    CausalHead, Leaves, NormStyle, divided, head_width, layer_types, mask_of, unused_head,
};
use crate::defaults::is_remote;
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Attention, Branch, Config, Differential, DynamicMask, Embedding, FeedForward, Gain,
    HeadNorm, Input, KeyValue, Layer, LengthLimit, Linear, Mask, Mixer, MixtureOfExperts,
    ModelSpec, NormSpan, Position, PositionIds, QueryTemperature, Router, RouterScore, Shard,
    Source, SpecError, Split, Stack, Step, Write, Xielu,
};

/// A decoder as data: public fields are what a type may set before [`Decoder::build`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the reference"
)]
#[derive(Clone, Debug)]
pub struct Decoder<'c> {
    config: &'c Config,
    /// The family's name.
    pub family: &'static str,
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
    /// All norms.
    pub norm: NormStyle,
    /// Where the norms of a layer stand.
    pub arrangement: Arrangement,
    /// Names of a layer's tensors.
    pub names: Names,
    /// Name of the final norm, without `.weight`.
    pub final_norm: &'static str,
    /// Norm of the token embedding.
    pub embedding_norm: Option<NormStyle>,
    /// Norm of queries and keys.
    pub query_key_norm: Option<(NormSpan, NormStyle)>,
    /// Queries and keys are normalised after the rotation.
    pub norm_after_rotation: bool,
    /// Queries, keys and values have an addend.
    pub query_key_value_bias: bool,
    /// The attention's output projection has an addend.
    pub output_bias: bool,
    /// The feed-forward network has addends.
    pub feed_forward_bias: bool,
    /// The feed-forward network's last projection has an addend, whatever the others have.
    pub down_bias: bool,
    /// The feed-forward network is gated.
    pub gated: bool,
    /// Queries, keys and values are one tensor.
    pub fused_query_key_value: Option<Fusion>,
    /// Gate and upward projection are the halves of one tensor of this name.
    pub fused_gate_up: Option<&'static str>,
    /// Limit of queries, keys and values.
    pub clip: Option<f64>,
    /// There is a learned logit per head, `self_attn.sinks`.
    pub sinks: bool,
    /// Factor on the queries by their positions.
    pub query_temperature: Option<QueryTemperature>,
    /// The feed-forward network's activation is xIELU, whose scalars are learned.
    pub xielu: bool,
    /// Norm of the differences of differential attention; the addend of lambda follows from the layer.
    pub differential: Option<NormStyle>,
    /// Keys that dynamic mask attention keeps.
    pub dynamic_mask: Option<usize>,
    /// Small experts that are added to the feed-forward network, chosen by product keys.
    pub product_keys: Option<ProductKeyExperts>,
    /// Learned factors per feature on the residual in front of the attention's and the feed-forward
    /// network's sum.
    pub residual_gains: Option<[&'static str; 2]>,
    /// Of the feed-forward network.
    pub activation: Activation,
    /// Mask of every layer.
    pub masks: Vec<Mask>,
    /// Rotation of every layer.
    pub ropes: Vec<Option<Rope>>,
    /// Factor on `q k`.
    pub attention_scale: f64,
    /// Limit of the attention logits.
    pub attention_softcap: Option<f64>,
    /// Factor on the token embedding.
    pub embedding_scale: f64,
    /// Factor on what a sublayer adds to the residual stream.
    pub residual_scale: f64,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// Limit of the logits.
    pub logit_softcap: Option<f64>,
    /// The head has an addend.
    pub head_bias: bool,
    /// `is_causal: false` is understood: the attentions of the reference agree on it.
    pub may_look_ahead: bool,
    /// Attention of another kind, by layer; `None`: the usual.
    pub attention_of: MixerOf<'c>,
    /// Something other than the feed-forward network, by layer; `None`: the usual.
    pub feed_forward_of: MixerOf<'c>,
}

/// The mixer of a layer, if it is not the usual one.
#[derive(Clone, Default)]
pub struct MixerOf<'c>(Option<Rc<Describe<'c>>>);

type Describe<'c> = dyn Fn(&mut Leaves, usize) -> Option<Mixer> + 'c;

impl<'c> MixerOf<'c> {
    /// Described by this function of the layer.
    pub fn new(describe: impl Fn(&mut Leaves, usize) -> Option<Mixer> + 'c) -> Self {
        Self(Some(Rc::new(describe)))
    }

    fn mixer(&self, leaves: &mut Leaves, layer: usize) -> Option<Mixer> {
        self.0.as_ref().and_then(|describe| describe(leaves, layer))
    }
}

impl fmt::Debug for MixerOf<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() {
            "by layer"
        } else {
            "usual"
        })
    }
}

/// Names of a layer's tensors, without `.weight` and `.bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Norm of the queries; `{}` where every head's is a tensor of its own.
    pub query_norm: &'static str,
    /// Norm of the keys.
    pub key_norm: &'static str,
    /// Output projection of the attention.
    pub output: &'static str,
    /// Norm in front of the output projection, where there is one.
    pub output_norm: Option<&'static str>,
    /// Gate of the feed-forward network.
    pub gate: &'static str,
    /// Its upward projection.
    pub up: &'static str,
    /// Norm in front of its downward projection, where there is one.
    pub inner_norm: Option<&'static str>,
    /// Its downward projection.
    pub down: &'static str,
}

impl Names {
    /// Llama's.
    pub const USUAL: Self = Self {
        query_norm: "self_attn.q_norm",
        key_norm: "self_attn.k_norm",
        output: "self_attn.o_proj",
        output_norm: None,
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        inner_norm: None,
        down: "mlp.down_proj",
    };
}

impl Default for Names {
    fn default() -> Self {
        Self::USUAL
    }
}

/// Experts of one inner feature each (Doge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductKeyExperts {
    /// Number of experts.
    pub experts: usize,
    /// Experts of a token.
    pub top_k: usize,
}

/// How one tensor holds queries, keys and values, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// All queries, then all keys, then all values.
    Rows(&'static str),
    /// Query, key and value of one head after another.
    PerHead(&'static str),
}

/// Where the norms of a layer stand, by the names of their tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// In front of each sublayer.
    Pre {
        /// In front of the attention.
        attention: &'static str,
        /// In front of the feed-forward network.
        feed_forward: &'static str,
    },
    /// On the output of each sublayer, in front of the residual sum (OLMo 2).
    Post {
        /// On the attention's output.
        attention: &'static str,
        /// On the feed-forward network's output.
        feed_forward: &'static str,
    },
    /// Both, for each sublayer: `[pre, post]` (Gemma 2).
    Sandwich {
        /// Around the attention.
        attention: [&'static str; 2],
        /// Around the feed-forward network.
        feed_forward: [&'static str; 2],
    },
    /// One norm in front of both sublayers, whose outputs are summed (Cohere).
    Parallel {
        /// The norm.
        norm: &'static str,
    },
}

impl<'c> Decoder<'c> {
    /// A plain Llama of this configuration's sizes: RMS pre-norms, rotate-half rope on all layers,
    /// grouped queries, SwiGLU, no addends.
    pub fn new(config: &'c Config, norm: NormStyle) -> Result<Self, SpecError> {
        Self::with_width(config, norm, config.size("intermediate_size")?)
    }

    /// The same with this many features inside the feed-forward network.
    pub fn with_width(
        config: &'c Config,
        norm: NormStyle,
        intermediate_size: usize,
    ) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let head_dim = match config.optional_heads("head_dim")? {
            Some(head_dim) => head_dim,
            None => head_width(config, config.size("hidden_size")?, heads)?,
        };
        let layers = config.layers("num_hidden_layers")?;
        Self::sized(config, norm, [layers, intermediate_size, head_dim])
    }

    /// [`Self::new`] with `[layers, intermediate_size, head_dim]` from elsewhere.
    pub fn sized(
        config: &'c Config,
        norm: NormStyle,
        sizes: [usize; 3],
    ) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let kv_heads = config
            .optional_heads("num_key_value_heads")?
            .unwrap_or(heads);
        let by_layer = "num_attention_heads_per_layer";
        if !config.declares(by_layer) || config.numbers(by_layer)?.is_none() {
            divided(config, "num_key_value_heads", heads, kv_heads)?;
        }
        Self::of_heads(config, norm, sizes, [heads, kv_heads])
    }

    /// [`Self::sized`] with query and key heads from elsewhere.
    pub fn of_heads(
        config: &'c Config,
        norm: NormStyle,
        [layers, intermediate_size, head_dim]: [usize; 3],
        [heads, kv_heads]: [usize; 2],
    ) -> Result<Self, SpecError> {
        let hidden_size = config.size("hidden_size")?;
        Ok(Self {
            config,
            family: "llama",
            hidden_size,
            heads,
            kv_heads,
            head_dim,
            intermediate_size,
            norm,
            arrangement: Arrangement::Pre {
                attention: "input_layernorm",
                feed_forward: "post_attention_layernorm",
            },
            names: Names::default(),
            final_norm: "norm",
            embedding_norm: None,
            query_key_norm: None,
            norm_after_rotation: false,
            query_key_value_bias: false,
            output_bias: false,
            feed_forward_bias: false,
            down_bias: false,
            gated: true,
            fused_query_key_value: None,
            fused_gate_up: None,
            clip: None,
            sinks: false,
            query_temperature: None,
            xielu: false,
            differential: None,
            dynamic_mask: None,
            product_keys: None,
            residual_gains: None,
            activation: Activation::Silu,
            masks: vec![Mask::Causal; layers],
            ropes: vec![None; layers],
            attention_scale: (head_dim as f64).powf(-0.5),
            attention_softcap: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_softcap: None,
            head_bias: false,
            may_look_ahead: true,
            attention_of: MixerOf::default(),
            feed_forward_of: MixerOf::default(),
        })
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.masks.len()
    }

    /// The same rotation in all layers.
    pub fn rotate(&mut self, options: &RopeOptions<'_>) -> Result<(), SpecError> {
        let rope = Rope::from_config(self.config, options)?;
        self.ropes = vec![rope; self.layers()];
        Ok(())
    }

    /// Takes the rotation from the layers that are not named.
    pub fn keep_rotation(&mut self, keeps: impl Fn(usize) -> bool) {
        for (layer, rope) in self.ropes.iter_mut().enumerate() {
            if !keeps(layer) {
                *rope = None;
            }
        }
    }

    /// The masks of `layer_types`, or of `otherwise` where the file has none.
    pub fn mask_by_layer_types(
        &mut self,
        window: Option<usize>,
        otherwise: impl Fn(usize) -> &'static str,
    ) -> Result<(), SpecError> {
        let types = layer_types(self.config, self.layers(), otherwise)?;
        self.mask_by_kinds(&types, window)
    }

    /// The masks of these kinds of layers.
    pub fn mask_by_kinds(
        &mut self,
        kinds: &[String],
        window: Option<usize>,
    ) -> Result<(), SpecError> {
        let mask = |layer_type: &String| mask_of(self.config, layer_type, window);
        self.masks = kinds.iter().map(mask).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The description.
    pub fn build(self) -> Result<ModelSpec, SpecError> {
        let config = self.config;
        let base = config.row()?.base_prefix.as_str();
        let vocab_size = config.size("vocab_size")?;
        let class = config.class()?;
        let tied = config.flag("tie_word_embeddings")?;
        let mut ignored = vec!["*.rotary_emb.inv_freq"];
        ignored.extend(unused_head(&class, tied, &["lm_head.weight"]));
        let head = CausalHead {
            norm: Some((format!("{base}{}", self.final_norm), self.norm)),
            projection: "lm_head",
            bias: self.head_bias,
            tokens: format!("{base}embed_tokens.weight"),
            scale: self.logit_scale,
            softcap: self.logit_softcap,
        };
        let mut embedding = Leaves::new(base);
        let tokens = embedding.table("embed_tokens.weight", vocab_size, self.hidden_size);
        let embedding_norm = self
            .embedding_norm
            .map(|style| embedding.norm("embed_norm", self.hidden_size, style));
        let model_type = config.model_type()?;
        if self.may_look_ahead && !is_remote(&model_type) {
            config.may_look_ahead();
        }
        Ok(ModelSpec {
            model_type,
            family: self.family,
            base_prefix: base,
            ignored,
            vocab_size,
            stacks: vec![Stack {
                name: "decoder",
                hidden_size: self.hidden_size,
                sequence: crate::Sequence::Record,
                input: Input::Tokens(Embedding {
                    scale: self.embedding_scale,
                    norm: embedding_norm,
                    ..Embedding::of_tokens(tokens, self.hidden_size, embedding.finish())
                }),
                positions: PositionIds::Sequential,
                limit: self.length_limit()?,
                prompt: Vec::new(),
                layers: (0..self.layers())
                    .map(|layer| self.layer(base, layer))
                    .collect(),
                head: head.build(config, [vocab_size, self.hidden_size])?,
            }],
        })
    }

    /// The shortest of what the layers' rotations were trained for.
    fn length_limit(&self) -> Result<LengthLimit, SpecError> {
        let max = self.config.size("max_position_embeddings")?;
        let limits = self
            .ropes
            .iter()
            .flatten()
            .map(|rope| rope.length_limit(max));
        Ok(limits
            .filter_map(|limit| match limit {
                LengthLimit::Trained(length) | LengthLimit::Table(length) => Some(length),
                LengthLimit::None => None,
            })
            .min()
            .map_or(LengthLimit::None, LengthLimit::Trained))
    }

    fn layer(&self, base: &str, layer: usize) -> Layer {
        let mut leaves = Leaves::new(format!("{base}layers.{layer}."));
        let norm =
            |leaves: &mut Leaves, name: &str| Some(leaves.norm(name, self.hidden_size, self.norm));
        let gain = match self.residual_scale {
            1.0 => Gain::One,
            scale => Gain::Constant(scale),
        };
        let steps = match self.arrangement {
            Arrangement::Pre {
                attention,
                feed_forward,
            } => {
                let pre = norm(&mut leaves, attention);
                let first = Step {
                    pre,
                    ..Step::residual(self.attention(&mut leaves, layer))
                };
                let pre = norm(&mut leaves, feed_forward);
                vec![
                    first,
                    Step {
                        pre,
                        ..Step::residual(self.feed_forward(&mut leaves, layer))
                    },
                ]
            }
            Arrangement::Post {
                attention,
                feed_forward,
            } => {
                let mixer = self.attention(&mut leaves, layer);
                let first = Step {
                    post: norm(&mut leaves, attention),
                    ..Step::residual(mixer)
                };
                let mixer = self.feed_forward(&mut leaves, layer);
                vec![
                    first,
                    Step {
                        post: norm(&mut leaves, feed_forward),
                        ..Step::residual(mixer)
                    },
                ]
            }
            Arrangement::Sandwich {
                attention,
                feed_forward,
            } => {
                let pre = norm(&mut leaves, attention[0]);
                let mixer = self.attention(&mut leaves, layer);
                let post = norm(&mut leaves, attention[1]);
                let first = Step {
                    pre,
                    post,
                    ..Step::residual(mixer)
                };
                let pre = norm(&mut leaves, feed_forward[0]);
                let mixer = self.feed_forward(&mut leaves, layer);
                let post = norm(&mut leaves, feed_forward[1]);
                vec![
                    first,
                    Step {
                        pre,
                        post,
                        ..Step::residual(mixer)
                    },
                ]
            }
            Arrangement::Parallel { norm: name } => {
                let pre = norm(&mut leaves, name);
                let mut step = Step {
                    pre,
                    ..Step::residual(self.attention(&mut leaves, layer))
                };
                step.branches
                    .push(Branch::plain(self.feed_forward(&mut leaves, layer)));
                vec![step]
            }
        };
        let steps = steps
            .into_iter()
            .enumerate()
            .map(|(index, mut step)| {
                if let [branch] = step.branches.as_mut_slice() {
                    // The factor is on what is added, after the norm.
                    if gain != Gain::One {
                        branch.post = step.post.take();
                    }
                }
                for branch in &mut step.branches {
                    branch.gain = gain.clone();
                }
                let write = self.residual_gains.map_or(Write::Add, |names| {
                    let source = leaves.tensor(names[index]);
                    let weight = leaves.weight(source, &[self.hidden_size], Shard::Replicate);
                    Write::AddScaled(Gain::Vector(weight))
                });
                Step { write, ..step }
            })
            .collect();
        leaves.layer(steps)
    }

    /// The attention of a layer, its names relative to the layer.
    pub fn attention(&self, leaves: &mut Leaves, layer: usize) -> Mixer {
        if let Some(other) = self.attention_of.mixer(leaves, layer) {
            return other;
        }
        let wide = self.heads * self.head_dim;
        let [query, key, value] = self.query_key_value(leaves);
        let query_norm = self.head_norm(leaves, self.names.query_norm, self.heads);
        let key_norm = self.head_norm(leaves, self.names.key_norm, self.kv_heads);
        let sinks = self.sinks.then(|| {
            let source = leaves.tensor("self_attn.sinks");
            leaves.weight(source, &[self.heads], Shard::Column)
        });
        let differential = self.differential(leaves, layer);
        let dynamic_mask = self.dynamic_mask(leaves);
        let output_norm = self.names.output_norm;
        let output_norm = output_norm.map(|name| leaves.norm(name, wide, self.norm));
        let shape = [self.hidden_size, wide];
        let output = leaves.linear(self.names.output, shape, self.output_bias, Shard::Row);
        Mixer::Attention(Box::new(Attention {
            scale: self.attention_scale,
            softcap: self.attention_softcap,
            clip: self.clip,
            query_norm,
            key_norm,
            sinks,
            query_temperature: self.query_temperature,
            differential,
            dynamic_mask,
            output_norm,
            positions: self.ropes[layer]
                .clone()
                .map(Position::Rope)
                .into_iter()
                .collect(),
            ..Attention::plain(
                [self.heads, self.kv_heads, self.head_dim],
                query,
                KeyValue::Own {
                    key,
                    value: Some(value),
                },
                output,
                self.masks[layer],
            )
        }))
    }

    fn query_key_value(&self, leaves: &mut Leaves) -> [Linear; 3] {
        let [wide, narrow] = [self.heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let rows = [wide, narrow, narrow];
        let bias = self.query_key_value_bias;
        let Some(fusion) = self.fused_query_key_value else {
            let names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
            return [0, 1, 2].map(|part| {
                let shape = [rows[part], self.hidden_size];
                leaves.linear(names[part], shape, bias, Shard::Column)
            });
        };
        let (name, split) = match fusion {
            Fusion::Rows(name) => (name, Split::Rows(rows.to_vec())),
            Fusion::PerHead(name) => {
                let heads = self.heads;
                (name, Split::PerHead { heads, parts: 3 })
            }
        };
        [0, 1, 2].map(|part| {
            let shape = [rows[part], self.hidden_size];
            fused(leaves, name, (&split, part), shape, bias)
        })
    }

    fn head_norm(&self, leaves: &mut Leaves, name: &str, heads: usize) -> Option<HeadNorm> {
        let (span, style) = self.query_key_norm?;
        let features = match span {
            NormSpan::Head => self.head_dim,
            NormSpan::HeadOwnWeight | NormSpan::Full => heads * self.head_dim,
        };
        let norm = match span {
            NormSpan::HeadOwnWeight => leaves.norm_of_heads(name, [heads, self.head_dim], style),
            NormSpan::Head | NormSpan::Full => leaves.norm(name, features, style),
        };
        Some(HeadNorm {
            norm,
            span,
            after_rotation: self.norm_after_rotation,
        })
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

    /// The feed-forward network of a layer, its names relative to the layer.
    pub fn feed_forward(&self, leaves: &mut Leaves, layer: usize) -> Mixer {
        if let Some(other) = self.feed_forward_of.mixer(leaves, layer) {
            return other;
        }
        let [hidden, inner] = [self.hidden_size, self.intermediate_size];
        let bias = self.feed_forward_bias;
        let (gate, up) = if let Some(name) = self.fused_gate_up {
            let split = Split::Rows(vec![inner; 2]);
            let [gate, up] =
                [0, 1].map(|part| fused(leaves, name, (&split, part), [inner, hidden], bias));
            (Some(gate), up)
        } else {
            let mut linear = |name| leaves.linear(name, [inner, hidden], bias, Shard::Column);
            let gate = self.gated.then(|| linear(self.names.gate));
            (gate, linear(self.names.up))
        };
        let learned_activation = self.xielu.then(|| Xielu {
            alpha_p: leaves.scalar("mlp.act_fn.alpha_p", false),
            alpha_n: leaves.scalar("mlp.act_fn.alpha_n", false),
            beta: leaves.scalar("mlp.act_fn.beta", true),
            eps: leaves.scalar("mlp.act_fn.eps", true),
        });
        let inner_norm = self.names.inner_norm;
        let inner_norm = inner_norm.map(|name| leaves.norm(name, inner, self.norm));
        let network = FeedForward {
            gate,
            up,
            down: leaves.linear(
                self.names.down,
                [hidden, inner],
                bias || self.down_bias,
                Shard::Row,
            ),
            activation: self.activation,
            learned_activation,
            inner_norm,
            clamped: None,
        };
        match self.product_keys {
            Some(experts) => self.product_key_experts(leaves, experts, network),
            None => Mixer::FeedForward(network),
        }
    }

    fn product_key_experts(
        &self,
        leaves: &mut Leaves,
        ProductKeyExperts { experts, top_k }: ProductKeyExperts,
        shared: FeedForward,
    ) -> Mixer {
        let hidden = self.hidden_size;
        let keys = experts.isqrt();
        let router = leaves.linear(
            "mlp.router_gate",
            [2 * keys, hidden],
            false,
            Shard::Replicate,
        );
        let mut of_experts = |name: &str, [out_features, in_features]: [usize; 2]| {
            let source = Source::Reshape(Box::new(leaves.tensor(name)));
            let shape = [experts, out_features, in_features];
            Linear {
                weight: leaves.weight(source, &shape, Shard::Expert),
                bias: None,
                out_features,
                in_features,
            }
        };
        // Named after what the rows do in memory layers: the first table is multiplied with the input.
        let up = of_experts("mlp.down_embed.weight", [1, hidden]);
        let down = of_experts("mlp.up_embed.weight", [hidden, 1]);
        Mixer::MixtureOfExperts(Box::new(MixtureOfExperts {
            experts,
            identity_experts: 0,
            router: Router::plain(router, RouterScore::ProductKeys(keys), top_k),
            expert_norm: None,
            expert: FeedForward {
                gate: None,
                up,
                down,
                activation: self.activation,
                learned_activation: None,
                inner_norm: None,
                clamped: None,
            },
            shared: Some(shared),
            shared_gate: None,
            output_scale: 1.0,
            output_bias: None,
        }))
    }
}

/// One part of a tensor that holds several projections, and of its addend.
fn fused(
    leaves: &mut Leaves,
    name: &str,
    (split, part): (&Split, usize),
    shape: [usize; 2],
    bias: bool,
) -> Linear {
    let part = |source: Source| source.part(split.clone(), part);
    let weight = part(leaves.tensor(&format!("{name}.weight")));
    let bias = bias.then(|| part(leaves.tensor(&format!("{name}.bias"))));
    leaves.linear_of(weight, bias, shape, Shard::Column)
}
