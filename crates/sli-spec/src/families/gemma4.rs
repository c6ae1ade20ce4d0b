//! Gemma 3n and Gemma 4: inputs of its own for every layer, and last layers that use the keys and values
//! of earlier ones. Gemma 3n carries several residual streams.

use crate::build::{CausalHead, Leaves, NormStyle, divided, layer_types, mask_of, unused_head};
use crate::families::experts::{ExpertTensors, Experts, RouterExtras};
use crate::families::gemma::{both_ways_window, rotations};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    Activation, Attention, Branch, Config, Embedding, Gain, HeadNorm, KeyValue, Layer, LayerInput,
    LayerInputs, Leaf, LengthLimit, Linear, LowRank, Mask, Mixer, ModelSpec, Norm, NormKind,
    NormSpan, Position, PositionIds, Renormalize, Shard, Slot, SparseFeedForward, SpecError, Stack,
    Step, StreamUpdate, Streams, WeightIndex, Write,
};

/// What both generations share.
struct Gemma<'c> {
    config: &'c Config,
    base: &'static str,
    hidden_size: usize,
    heads: usize,
    bias: bool,
    norm: NormStyle,
    activation: Activation,
    kinds: Vec<String>,
    masks: Vec<Mask>,
    /// The layer whose keys and values a layer uses.
    sources: Vec<Option<usize>>,
    /// Features of a head, key/value heads.
    sizes: Vec<[usize; 2]>,
    ropes: Vec<Option<Rope>>,
    intermediate_sizes: Vec<usize>,
    /// Features of every layer's own input, 0: there is none.
    input_size: usize,
    /// A token without a row of its own reads the first row of those inputs.
    beyond_is_first: bool,
    /// Experts beside the networks.
    experts: Option<Experts>,
}

impl<'c> Gemma<'c> {
    /// Everything but ropes; `kinds` are those of the layers.
    fn new(config: &'c Config, kinds: Vec<String>) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let size = [
            config.heads("head_dim")?,
            config.heads("num_key_value_heads")?,
        ];
        let both_ways = config
            .value("use_bidirectional_attention")
            .is_some_and(|value| value == "all");
        let window = both_ways_window(config, both_ways)?;
        let mask = |kind: &String| mask_of(config, kind, window);
        Ok(Self {
            config,
            base: config.row()?.base_prefix.as_str(),
            hidden_size: config.size("hidden_size")?,
            heads,
            bias: config.flag("attention_bias")?,
            norm: NormStyle::rms(config.positive("rms_norm_eps")?),
            activation: config.activation("hidden_activation")?,
            masks: kinds.iter().map(mask).collect::<Result<_, _>>()?,
            sources: sources(config, &kinds)?,
            sizes: vec![size; kinds.len()],
            ropes: vec![None; kinds.len()],
            intermediate_sizes: Vec::new(),
            input_size: config
                .optional_index("hidden_size_per_layer_input")?
                .unwrap_or(0),
            beyond_is_first: false,
            experts: None,
            kinds,
        })
    }

    fn layers(&self) -> usize {
        self.kinds.len()
    }

    fn attention(&self, leaves: &mut Leaves, layer: usize) -> Result<Mixer, SpecError> {
        let [head_dim, kv_heads] = self.sizes[layer];
        divided(self.config, "num_key_value_heads", self.heads, kv_heads)?;
        let [wide, narrow] = [self.heads, kv_heads].map(|heads| heads * head_dim);
        let hidden = self.hidden_size;
        let mut linear =
            |name: &str, rows| leaves.linear(name, [rows, hidden], self.bias, Shard::Column);
        let query = linear("self_attn.q_proj", wide);
        let source = self.sources[layer];
        let same = self.config.flag("attention_k_eq_v")? && self.kinds[layer] == "full_attention";
        let key_value = match source {
            Some(source) if self.sizes[source] != self.sizes[layer] => {
                let reason = "layers that share keys have heads of other sizes";
                return Err(self.config.unsupported("num_kv_shared_layers", reason));
            }
            Some(source) => KeyValue::OfLayer(source),
            None => KeyValue::Own {
                key: linear("self_attn.k_proj", narrow),
                value: (!same).then(|| linear("self_attn.v_proj", narrow)),
            },
        };
        let head_norm = |norm: Norm| HeadNorm {
            norm,
            span: NormSpan::Head,
            after_rotation: false,
        };
        let query_norm = leaves.norm("self_attn.q_norm", head_dim, self.norm);
        let own = source.is_none();
        let key_norm = own.then(|| leaves.norm("self_attn.k_norm", head_dim, self.norm));
        let value_norm = own.then_some(Norm {
            kind: NormKind::Rms,
            weight: None,
            bias: None,
            epsilon: self.norm.epsilon,
        });
        let output = leaves.linear("self_attn.o_proj", [hidden, wide], self.bias, Shard::Row);
        let sizes = [self.heads, kv_heads, head_dim];
        Ok(Mixer::Attention(Box::new(Attention {
            query_norm: Some(head_norm(query_norm)),
            key_norm: key_norm.map(head_norm),
            value_norm: value_norm.map(head_norm),
            positions: self.ropes[layer]
                .clone()
                .map(Position::Rope)
                .into_iter()
                .collect(),
            scale: 1.0,
            ..Attention::plain(sizes, query, key_value, output, self.masks[layer])
        })))
    }

    fn feed_forward(&self, leaves: &mut Leaves, layer: usize) -> crate::FeedForward {
        let names = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
        let sizes = [self.hidden_size, self.intermediate_sizes[layer]];
        leaves.gated_feed_forward(names, sizes, false, self.activation)
    }

    fn layer_input(&self, leaves: &mut Leaves) -> Mixer {
        let (hidden, width) = (self.hidden_size, self.input_size);
        let gate = leaves.linear(
            "per_layer_input_gate",
            [width, hidden],
            false,
            Shard::Replicate,
        );
        let projection = leaves.linear(
            "per_layer_projection",
            [hidden, width],
            false,
            Shard::Replicate,
        );
        Mixer::LayerInput(LayerInput {
            gate,
            activation: self.activation,
            projection,
        })
    }

    /// Tables and projections in front of the first layer.
    fn embedding(&self, vocab_size: usize, streams: usize) -> Result<Embedding, SpecError> {
        let mut leaves = Leaves::new(self.base);
        let hidden = self.hidden_size;
        let tokens = leaves.table("embed_tokens.weight", vocab_size, hidden);
        let square = [hidden, hidden];
        let streams: Vec<Linear> = (1..streams)
            .map(|stream| {
                let name = format!("altup_projections.{}", stream - 1);
                leaves.linear(&name, square, false, Shard::Replicate)
            })
            .collect();
        let layer_inputs = if self.input_size == 0 {
            self.config.ignore(&["vocab_size_per_layer_input"]);
            None
        } else {
            let rows = self.config.size("vocab_size_per_layer_input")?;
            let columns = self
                .input_size
                .checked_mul(self.layers())
                .filter(|&columns| columns <= 1 << 28)
                .ok_or_else(|| {
                    self.config
                        .invalid("hidden_size_per_layer_input", "a smaller number")
                })?;
            Some(LayerInputs {
                table: leaves.table("embed_tokens_per_layer.weight", rows, columns),
                rows,
                beyond_is_first: self.beyond_is_first,
                table_scale: (self.input_size as f64).sqrt(),
                projection: leaves.linear(
                    "per_layer_model_projection",
                    [columns, hidden],
                    false,
                    Shard::Column,
                ),
                projection_scale: (hidden as f64).powf(-0.5),
                norm: leaves.norm("per_layer_projection_norm", self.input_size, self.norm),
                scale: 0.5_f64.sqrt(),
                width: self.input_size,
                layers: self.layers(),
            })
        };
        Ok(Embedding {
            scale: (hidden as f64).sqrt(),
            streams,
            layer_inputs,
            ..Embedding::of_tokens(tokens, hidden, leaves.finish())
        })
    }

    fn model(self, streams: usize, layers: Vec<Layer>) -> Result<ModelSpec, SpecError> {
        let config = self.config;
        let vocab_size = config.size("vocab_size")?;
        let tied = config.flag("tie_word_embeddings")?;
        let head = CausalHead {
            norm: Some((format!("{}norm", self.base), self.norm)),
            projection: "lm_head",
            bias: false,
            tokens: format!("{}embed_tokens.weight", self.base),
            scale: 1.0,
            softcap: config.optional_positive("final_logit_softcapping")?,
        };
        let mut head = head.build(config, [vocab_size, self.hidden_size])?;
        let mut leaves = Leaves::new(self.base);
        let square = [self.hidden_size; 2];
        for stream in 1..streams {
            let name = format!("altup_unembed_projections.{}", stream - 1);
            let linear = leaves.linear(&name, square, false, Shard::Replicate);
            let weight = WeightIndex(linear.weight.0 + head.leaves.len() as u32);
            head.streams.push(Linear { weight, ..linear });
        }
        head.leaves.extend::<Vec<Leaf>>(leaves.finish());
        let mut ignored = unused_head(config.class()?, tied, &["lm_head.weight"]);
        if self.sources.iter().any(Option::is_some) {
            ignored.extend([
                "*.self_attn.k_proj.*",
                "*.self_attn.v_proj.*",
                "*.self_attn.k_norm.*",
                "*.self_attn.v_norm.*",
            ]);
        }
        let max = config.size("max_position_embeddings")?;
        let limits = self
            .ropes
            .iter()
            .flatten()
            .map(|rope| rope.length_limit(max));
        let limit = limits.filter_map(|limit| match limit {
            LengthLimit::Trained(length) | LengthLimit::Table(length) => Some(length),
            LengthLimit::None => None,
        });
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "gemma4",
            base_prefix: self.base,
            ignored,
            vocab_size,
            length_limit: limit.min().map_or(LengthLimit::None, LengthLimit::Trained),
            positions: PositionIds::Sequential,
            prompt: Vec::new(),
            stacks: vec![Stack {
                name: "decoder",
                hidden_size: self.hidden_size,
                embedding: self.embedding(vocab_size, streams)?,
                layers,
                head,
            }],
        })
    }
}

/// The last `num_kv_shared_layers` layers use what the last one of their kind before them has.
fn sources(config: &Config, kinds: &[String]) -> Result<Vec<Option<usize>>, SpecError> {
    let shared = config.index("num_kv_shared_layers")?;
    let Some(first) = kinds.len().checked_sub(shared).filter(|&first| first > 0) else {
        return Err(config.invalid("num_kv_shared_layers", "less than the number of layers"));
    };
    (0..kinds.len())
        .map(|layer| {
            if layer < first {
                return Ok(None);
            }
            let source = kinds[..first]
                .iter()
                .rposition(|kind| *kind == kinds[layer]);
            source.map(Some).ok_or_else(|| {
                let expected = "a number that leaves a layer of every kind its own keys";
                config.invalid("num_kv_shared_layers", expected)
            })
        })
        .collect()
}

/// Gemma 4, with or without images beside it.
pub fn gemma4(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut kinds = layer_types(config, config.layers("num_hidden_layers")?, |layer| {
        if (layer + 1) % 6 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    // The reference makes it so.
    if let Some(last) = kinds.last_mut() {
        "full_attention".clone_into(last);
    }
    config.ignore(&["is_causal"]);
    let mut model = Gemma::new(config, kinds)?;
    if config.flag("enable_moe_block")? {
        model.experts = Some(model.gemma4_experts()?);
    } else {
        config.ignore(&["moe_intermediate_size", "num_experts", "top_k_experts"]);
    }
    match config
        .optional_text("use_bidirectional_attention")?
        .as_deref()
    {
        // Of text no token is a part of an image.
        None | Some("vision") => {}
        Some("all") => {
            for mask in &mut model.masks {
                *mask = match *mask {
                    Mask::CausalWindow(window) => Mask::Window(window / 2 + 1),
                    _ => Mask::Full,
                };
            }
        }
        Some(_) => {
            let key = "use_bidirectional_attention";
            return Err(config.unsupported(key, "neither all nor vision"));
        }
    }
    layer_sizes(config, &mut model)?;
    model.ropes = (0..model.layers())
        .map(|layer| gemma4_rope(config, &model.kinds[layer], model.sizes[layer][0]))
        .collect::<Result<_, _>>()?;
    let size = config.size("intermediate_size")?;
    let double = config.flag("use_double_wide_mlp")?;
    let wide = |source: &Option<usize>| if double && source.is_some() { 2 } else { 1 };
    model.intermediate_sizes = model
        .sources
        .iter()
        .map(|source| size * wide(source))
        .collect();
    let layers = (0..model.layers())
        .map(|layer| gemma4_layer(&model, layer))
        .collect::<Result<_, _>>()?;
    model.model(1, layers)
}

/// Sizes of the heads, which differ between kinds of layers.
fn layer_sizes(config: &Config, model: &mut Gemma<'_>) -> Result<(), SpecError> {
    let global = config.optional_heads("global_head_dim")?.unwrap_or(512);
    let global_heads = config.optional_heads("num_global_key_value_heads")?;
    let global_heads = global_heads.filter(|_| config.flag("attention_k_eq_v").unwrap_or(false));
    let overrides = config.nested("per_layer_config")?;
    for layer in 0..model.layers() {
        let size = &mut model.sizes[layer];
        match &overrides {
            Some(overrides) => {
                if let Some(own) = overrides.nested(&layer.to_string())? {
                    if let Some(head_dim) = own.optional_heads("head_dim")? {
                        size[0] = head_dim;
                    }
                    if let Some(heads) = own.optional_heads("num_key_value_heads")? {
                        size[1] = heads;
                    }
                }
            }
            None if model.kinds[layer] == "full_attention" => {
                *size = [global, global_heads.unwrap_or(size[1])];
            }
            None => {}
        }
    }
    Ok(())
}

fn gemma4_rope(config: &Config, kind: &str, head_dim: usize) -> Result<Option<Rope>, SpecError> {
    if config.value("rope_parameters").is_none() {
        let (theta, scaling) = if kind == "full_attention" {
            let rotated = head_dim / 8;
            let scaling = RopeScaling::Proportional {
                factor: 1.0,
                rotated,
            };
            (1_000_000.0, scaling)
        } else {
            (10_000.0, RopeScaling::Default)
        };
        return Ok(Some(Rope {
            scaling,
            ..Rope::plain(head_dim, theta)
        }));
    }
    Rope::from_config(
        config,
        &RopeOptions {
            layer_type: Some(kind),
            theta_keys: &[],
            scaled: false,
            ..RopeOptions::new(head_dim)
        },
    )
}

impl Gemma<'_> {
    fn gemma4_experts(&self) -> Result<Experts, SpecError> {
        let config = self.config;
        let keys = ["num_experts", "top_k_experts"];
        let inner = config.size("moe_intermediate_size")?;
        let mut experts = Experts::new(config, keys, inner, self.activation)?;
        experts.tensors = ExpertTensors::Stacked(["experts.gate_up_proj", "experts.down_proj"]);
        experts.router = "router.proj";
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
        experts.router_extras = Some(RouterExtras {
            style: self.norm,
            router_norm: "router.scale",
            logit_scale: (self.hidden_size as f64).powf(-0.5),
            expert_scale: "router.per_expert_scale",
            expert_norm: "pre_feedforward_layernorm_2",
        });
        Ok(experts)
    }
}

fn gemma4_layer(model: &Gemma<'_>, layer: usize) -> Result<Layer, SpecError> {
    let mut leaves = Leaves::new(format!("{}layers.{layer}.", model.base));
    let norm = |leaves: &mut Leaves, name: &str| leaves.norm(name, model.hidden_size, model.norm);
    let pre = norm(&mut leaves, "input_layernorm");
    let attention = model.attention(&mut leaves, layer)?;
    let mut steps = vec![Step {
        pre: Some(pre),
        post: Some(norm(&mut leaves, "post_attention_layernorm")),
        ..Step::residual(attention)
    }];
    let pre = norm(&mut leaves, "pre_feedforward_layernorm");
    let network = Mixer::FeedForward(model.feed_forward(&mut leaves, layer));
    let mut step = Step::residual(network);
    if let Some(experts) = &model.experts {
        step.branches[0].pre = Some(pre);
        step.branches[0].post = Some(norm(&mut leaves, "post_feedforward_layernorm_1"));
        // The experts and their router each normalise the hidden state in their own way.
        let mixer = experts.build(&mut leaves, model.hidden_size);
        step.branches.push(Branch {
            post: Some(norm(&mut leaves, "post_feedforward_layernorm_2")),
            ..Branch::plain(mixer)
        });
    } else {
        step.pre = Some(pre);
    }
    step.post = Some(norm(&mut leaves, "post_feedforward_layernorm"));
    steps.push(step);
    if model.input_size > 0 {
        let mixer = model.layer_input(&mut leaves);
        steps.push(Step {
            post: Some(norm(&mut leaves, "post_per_layer_input_norm")),
            ..Step::residual(mixer)
        });
    }
    let scalar = leaves.tensor("layer_scalar");
    let scalar = leaves.weight(scalar, &[1], Shard::Replicate);
    leaves.set_buffer(scalar);
    steps.push(scaled(Slot::Hidden, Gain::Vector(scalar), Slot::Hidden));
    Ok(leaves.layer(steps))
}

/// `target = gain * slot`.
fn scaled(slot: Slot, gain: Gain, target: Slot) -> Step {
    let mut step = Step::residual(Mixer::Identity);
    step.read = slot;
    step.branches[0].gain = gain;
    step.write = Write::Set(target);
    step
}

/// Gemma 3n: AltUp's streams, LAuReL beside the attention, sparse networks in the first layers.
pub fn gemma3n(config: &Config) -> Result<ModelSpec, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let kinds = layer_types(config, layers, |layer| {
        if (layer + 1) % 5 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    // For training only.
    config.ignore(&["altup_coef_clip"]);
    let mut model = Gemma::new(config, kinds)?;
    model.beyond_is_first = true;
    if model.input_size == 0 {
        return Err(config.invalid("hidden_size_per_layer_input", "at least 1"));
    }
    divided(
        config,
        "num_attention_heads",
        model.hidden_size,
        model.heads,
    )?;
    model.ropes = rotations(config, model.sizes[0][0], &model.kinds)?;
    model.intermediate_sizes = match config.sizes("intermediate_size")? {
        sizes if sizes.len() == layers => sizes,
        sizes if sizes.len() == 1 => sizes.repeat(layers),
        _ => return Err(config.invalid("intermediate_size", format!("one or {layers} sizes"))),
    };
    let sparsity = match config.numbers("activation_sparsity_pattern")? {
        Some(pattern) => pattern,
        None => {
            let sparse = if layers > 10 { 10 } else { 0 };
            (0..layers)
                .map(|layer| if layer < sparse { 0.95 } else { 0.0 })
                .collect()
        }
    };
    if sparsity.len() != layers || sparsity.iter().any(|part| !(0.0..1.0).contains(part)) {
        let expected = format!("{layers} numbers from 0 to below 1");
        return Err(config.invalid("activation_sparsity_pattern", expected));
    }
    let streams = config.heads("altup_num_inputs")?;
    let active = config.index("altup_active_idx")?;
    if streams > 32 || active >= streams {
        return Err(config.invalid("altup_active_idx", "one of the streams, of at most 32"));
    }
    let laurel = config.size("laurel_rank")?;
    let scaled_output = config.flag("altup_correct_scale")?;
    let layers = (0..layers)
        .map(|layer| {
            let block = Gemma3nLayer {
                model: &model,
                layer,
                streams,
                active,
                laurel,
                sparsity: sparsity[layer],
                scaled_output,
            };
            block.build()
        })
        .collect::<Result<_, _>>()?;
    model.model(streams, layers)
}

struct Gemma3nLayer<'a> {
    model: &'a Gemma<'a>,
    layer: usize,
    streams: usize,
    active: usize,
    laurel: usize,
    sparsity: f64,
    scaled_output: bool,
}

impl Gemma3nLayer<'_> {
    /// The slot of a residual stream.
    fn stream(stream: usize) -> Slot {
        match stream {
            0 => Slot::Hidden,
            _ => Slot::Stash(stream as u8 - 1),
        }
    }

    fn build(&self) -> Result<Layer, SpecError> {
        let model = self.model;
        let hidden = model.hidden_size;
        let mut leaves = Leaves::new(format!("{}layers.{}.", model.base, self.layer));
        let norm = |leaves: &mut Leaves, name: &str| leaves.norm(name, hidden, model.norm);
        let router_norm = norm(&mut leaves, "altup.router_norm");
        let shape = [self.streams, hidden];
        let router = leaves.linear("altup.modality_router", shape, false, Shard::Replicate);
        let shape = [self.streams * self.streams, self.streams];
        let coefficients = leaves.linear("altup.prediction_coefs", shape, false, Shard::Replicate);
        let update = |update| {
            let mut step = Step::residual(Mixer::Streams(Streams {
                streams: self.streams,
                active: self.active,
                norm: router_norm.clone(),
                router: router.clone(),
                update,
            }));
            step.read = Self::stream(self.active);
            step.write = Write::Set(Self::stream(self.active));
            step
        };
        let mut steps = vec![update(StreamUpdate::Predict { coefficients })];
        // What the layer makes of the active stream.
        let own = Slot::Stash(self.streams as u8 - 1);
        let half = Gain::Constant(0.5_f64.sqrt());
        let pre = norm(&mut leaves, "input_layernorm");
        let attention = Branch {
            gain: half.clone(),
            post: None,
            ..Branch::plain(model.attention(&mut leaves, self.layer)?)
        };
        let attention = Branch {
            post: Some(norm(&mut leaves, "post_attention_layernorm")),
            ..attention
        };
        let low_rank = LowRank {
            down: leaves.linear(
                "laurel.linear_left",
                [self.laurel, hidden],
                false,
                Shard::Replicate,
            ),
            up: leaves.linear(
                "laurel.linear_right",
                [hidden, self.laurel],
                false,
                Shard::Replicate,
            ),
        };
        let low_rank = Branch {
            post: Some(norm(&mut leaves, "laurel.post_laurel_norm")),
            gain: half.clone(),
            ..Branch::plain(Mixer::LowRank(low_rank))
        };
        let normed = Branch {
            gain: half.clone(),
            ..Branch::plain(Mixer::Identity)
        };
        steps.push(Step {
            read: Self::stream(self.active),
            pre: Some(pre),
            branches: vec![attention, low_rank, normed],
            post: None,
            write: Write::Set(own),
        });
        steps.push(Step {
            write: Write::AddTo(own),
            ..scaled(Self::stream(self.active), half, own)
        });
        let pre = norm(&mut leaves, "pre_feedforward_layernorm");
        let network = model.feed_forward(&mut leaves, self.layer);
        steps.push(Step {
            read: own,
            pre: Some(pre),
            post: Some(norm(&mut leaves, "post_feedforward_layernorm")),
            write: Write::AddTo(own),
            ..Step::residual(if self.sparsity > 0.0 {
                Mixer::SparseFeedForward(SparseFeedForward {
                    network,
                    deviations: normal_quantile(f64::from(self.sparsity as f32)),
                })
            } else {
                Mixer::FeedForward(network)
            })
        });
        let shape = [self.streams, self.streams];
        let coefficients = leaves.linear("altup.correction_coefs", shape, false, Shard::Replicate);
        steps.push(update(StreamUpdate::Correct {
            coefficients,
            computed: own,
        }));
        let scale = leaves.tensor("altup.correct_output_scale");
        let scale = leaves.weight(scale, &[hidden], Shard::Replicate);
        let gain = if self.scaled_output {
            Gain::Vector(scale)
        } else {
            Gain::One
        };
        steps.push(scaled(Self::stream(self.active), gain, own));
        let mixer = model.layer_input(&mut leaves);
        steps.push(Step {
            read: own,
            post: Some(norm(&mut leaves, "post_per_layer_input_norm")),
            write: Write::Set(own),
            ..Step::residual(mixer)
        });
        for stream in 1..self.streams {
            steps.push(Step {
                write: Write::AddTo(Self::stream(stream)),
                ..scaled(own, Gain::One, own)
            });
        }
        Ok(leaves.layer(steps))
    }
}

/// Quantile of the standard normal distribution (Wichura 1988, AS 241).
#[expect(
    clippy::unreadable_literal,
    clippy::excessive_precision,
    reason = "the published constants"
)]
fn normal_quantile(p: f64) -> f64 {
    let polynomial = |coefficients: [f64; 8], r: f64| {
        coefficients
            .into_iter()
            .fold(0.0, |sum, coefficient| sum * r + coefficient)
    };
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(
            [
                2.5090809287301226727e+3,
                3.3430575583588128105e+4,
                6.7265770927008700853e+4,
                4.5921953931549871457e+4,
                1.3731693765509461125e+4,
                1.9715909503065514427e+3,
                1.3314166789178437745e+2,
                3.3871328727963666080e+0,
            ],
            r,
        ) / polynomial(
            [
                5.2264952788528545610e+3,
                2.8729085735721942674e+4,
                3.9307895800092710610e+4,
                2.1213794301586595867e+4,
                5.3941960214247511077e+3,
                6.8718700749205790830e+2,
                4.2313330701600911252e+1,
                1.0,
            ],
            r,
        );
    }
    let r = (-(if q < 0.0 { p } else { 1.0 - p }).ln()).sqrt();
    let x = if r <= 5.0 {
        let r = r - 1.6;
        polynomial(
            [
                7.74545014278341407640e-4,
                2.27238449892691845833e-2,
                2.41780725177450611770e-1,
                1.27045825245236838258e+0,
                3.64784832476320460504e+0,
                5.76949722146069140550e+0,
                4.63033784615654529590e+0,
                1.42343711074968357734e+0,
            ],
            r,
        ) / polynomial(
            [
                1.05075007164441684324e-9,
                5.47593808499534494600e-4,
                1.51986665636164571966e-2,
                1.48103976427480074590e-1,
                6.89767334985100004550e-1,
                1.67638483018380384940e+0,
                2.05319162663775882187e+0,
                1.0,
            ],
            r,
        )
    } else {
        let r = r - 5.0;
        polynomial(
            [
                2.01033439929228813265e-7,
                2.71155556874348757815e-5,
                1.24266094738807843860e-3,
                2.65321895265761230930e-2,
                2.96560571828504891230e-1,
                1.78482653991729133580e+0,
                5.46378491116411436990e+0,
                6.65790464350110377720e+0,
            ],
            r,
        ) / polynomial(
            [
                2.04426310338993978564e-15,
                1.42151175831644588870e-7,
                1.84631831751005468180e-5,
                7.86869131145613259100e-4,
                1.48753612908506148525e-2,
                1.36929880922735805310e-1,
                5.99832206555887937690e-1,
                1.0,
            ],
            r,
        )
    };
    if q < 0.0 { -x } else { x }
}
