//! DeepSeek's experts (sigmoid scores, a bias for the choice, groups) and latent attention, with
//! the types that took over the one or the other.

use crate::build::{NormStyle, pattern};
use crate::families::decoder::{Arrangement, Decoder, MixerOf};
use crate::families::experts::{
    ExpertTensors, Experts, SHARED_EXPERTS, Shared, SharedTensors, ignore_training,
};
use crate::families::latent::{IndexerSizes, Latent};
use crate::families::mixture::{amend, attention_bias, by_kind, mix, plain, sparse_layers};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Attention, Branch, Config, Gain, KeySelection, KeyValue, Mask, Mixer, ModelSpec,
    NormSpan, OutputGate, Position, QueryTemperature, Renormalize, RouterScore, Shard, Slot,
    SpecError, Step, Write,
};

/// Sigmoid scores, a bias for the choice, groups by their two best, a shared network.
fn v3_experts(config: &Config, count: &str, activation: Activation) -> Result<Experts, SpecError> {
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.gate.e_score_correction_bias"],
        scale: config
            .optional_number("routed_scaling_factor")?
            .unwrap_or(1.0),
        ..Experts::new(config, [count, "num_experts_per_tok"], inner, activation)?
    };
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 1e-20 };
    }
    experts.limit_to_groups(config, 2)?;
    published_router(config, "noaux_tc", "sigmoid")?;
    Ok(experts)
}

/// What files from before the types' own code say about the router.
fn published_router(config: &Config, method: &str, score: &str) -> Result<(), SpecError> {
    config.neutral(
        "topk_method",
        &[method.into()],
        "another way to choose experts",
    )?;
    // dots.llm1 names the method there.
    let scores = [score.into(), method.into()];
    config.neutral("scoring_func", &scores, "other scores of experts")?;
    Ok(())
}

fn shared(experts: &mut Experts, count: usize) {
    experts.shared = Some(Shared {
        tensors: SHARED_EXPERTS,
        intermediate_size: experts.intermediate_size * count,
        bias: false,
        activation: experts.activation,
        gate: None,
    });
}

/// Queries, keys and values as in Llama, DeepSeek-V3's experts.
fn with_v3_experts<'c>(
    config: &'c Config,
    decoder: &mut Decoder<'c>,
    sparse: Vec<bool>,
) -> Result<(), SpecError> {
    let mut experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    mix(decoder, experts, move |layer| sparse[layer]);
    Ok(())
}

fn from_first(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let first = config.index("first_k_dense_replace")?;
    config.neutral("moe_layer_freq", &[1.into()], "every layer has experts")?;
    Ok((0..layers).map(|layer| layer >= first).collect())
}

/// GLM-4.5 and its successors: half of a head rotates.
pub fn glm4_moe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    if config.flag("use_qk_norm")? {
        decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    }
    decoder.rotate(&RopeOptions {
        partial: true,
        default_partial: 0.5,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    let layers = decoder.layers();
    let mut spec = decoder.build()?;
    ignore_layers_behind(&mut spec, config, layers)?;
    Ok(spec)
}

/// Layers for the prediction of several tokens, which files carry behind the last layer.
fn ignore_layers_behind(
    spec: &mut ModelSpec,
    config: &Config,
    layers: usize,
) -> Result<(), SpecError> {
    let behind = match config.value("num_nextn_predict_layers") {
        Some(_) => config.index("num_nextn_predict_layers")?,
        None => 1,
    };
    for layer in layers..layers.saturating_add(behind.clamp(1, 16)) {
        spec.ignored
            .push(pattern(format!("model.layers.{layer}.*")));
    }
    Ok(())
}

/// dots.llm1: Qwen3's attention.
pub fn dots1(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let window = config.optional_size("sliding_window")?;
    let first = config.index("max_window_layers")?;
    decoder.mask_by_layer_types(window, |layer| {
        if window.is_some() && layer >= first {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    decoder.build()
}

/// Solar Open: Llama's attention, experts in every layer.
pub fn solar_open(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("moe_intermediate_size")?;
    let mut decoder = Decoder::with_width(config, norm, inner)?;
    decoder.family = "deepseek";
    decoder.activation = config.activation("hidden_act")?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.rotate(&RopeOptions {
        partial: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    config.ignore(&["intermediate_size"]);
    config.neutral(
        "first_k_dense_replace",
        &[0.into()],
        "every layer has experts",
    )?;
    config.off("use_qk_norm", "queries and keys have no norms")?;
    let sparse = vec![true; decoder.layers()];
    with_v3_experts(config, &mut decoder, sparse)?;
    decoder.build()
}

/// K-EXAONE: windows with rotation, full layers without.
pub fn exaone_moe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    exaone_windows(config, &mut decoder)?;
    let first = config.index("first_k_dense_replace")?;
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer >= first)?;
    let mut experts = Experts {
        choice_bias: &["mlp.e_score_correction_bias"],
        ..v3_experts(config, "num_experts", decoder.activation)?
    };
    shared(&mut experts, config.heads("num_shared_experts")?);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let mut spec = decoder.build()?;
    spec.ignored.push("mtp.*");
    Ok(spec)
}

/// `layer_types`, or `sliding_window_pattern` as a number or a string of `L` and `G`.
fn exaone_windows(config: &Config, decoder: &mut Decoder<'_>) -> Result<(), SpecError> {
    let window = config.optional_size("sliding_window")?;
    let layers = decoder.layers();
    let pattern: Vec<bool> = match config.value("sliding_window_pattern").cloned() {
        _ if window.is_none() => vec![false; layers],
        None => vec![false; layers],
        Some(serde_json::Value::String(pattern)) => {
            let letters: Vec<char> = pattern.chars().collect();
            if letters.is_empty() {
                return Err(config.invalid("sliding_window_pattern", "letters `L` and `G`"));
            }
            (0..layers)
                .map(|layer| letters[layer % letters.len()] == 'L' && layer + 1 != layers)
                .collect()
        }
        Some(_) => {
            let interval = config.size("sliding_window_pattern")?;
            (1..=layers).map(|layer| layer % interval != 0).collect()
        }
    };
    decoder.mask_by_layer_types(window, |layer| {
        if pattern[layer] {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    if window.is_some() {
        let windows: Vec<bool> = decoder
            .masks
            .iter()
            .map(|mask| matches!(mask, Mask::CausalWindow(_)))
            .collect();
        decoder.keep_rotation(|layer| windows[layer]);
    }
    Ok(())
}

/// Hunyuan 3.
pub fn hy_v3(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.feed_forward_bias = config.flag("mlp_bias")?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    // How the sum of two parts is rounded in half precision.
    config.ignore(&["enable_moe_fp32_combine"]);
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        router: "mlp.router.gate",
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.expert_bias"],
        renormalize: Renormalize::Sum { plus: 1e-20 },
        scale: config.number("router_scaling_factor")?,
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    experts.shared = Some(Shared {
        tensors: SharedTensors::Plain([
            "mlp.shared_mlp.gate_proj",
            "mlp.shared_mlp.up_proj",
            "mlp.shared_mlp.down_proj",
        ]),
        // None is not none: the reference then takes the width of the dense layers.
        intermediate_size: match config.index("num_shared_experts")? {
            0 => decoder.intermediate_size,
            shared => inner * shared,
        },
        bias: decoder.feed_forward_bias,
        activation: decoder.activation,
        gate: None,
    });
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let mut spec = decoder.build()?;
    let layers = spec.stacks[0].layers.len();
    ignore_layers_behind(&mut spec, config, layers)?;
    Ok(spec)
}

/// Sizes of the attention of one layer, where layers differ.
#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
    bias: bool,
    output_bias: bool,
}

impl Sizes {
    fn build(self, leaves: &mut crate::build::Leaves, hidden_size: usize, mask: Mask) -> Attention {
        let mut projection =
            |name: &str, out| leaves.linear(name, [out, hidden_size], self.bias, Shard::Column);
        let query = projection("self_attn.q_proj", self.heads * self.head_dim);
        let key = projection("self_attn.k_proj", self.kv_heads * self.head_dim);
        let value = projection("self_attn.v_proj", self.kv_heads * self.value_dim);
        let shape = [hidden_size, self.heads * self.value_dim];
        let output = leaves.linear("self_attn.o_proj", shape, self.output_bias, Shard::Row);
        Attention {
            value_dim: self.value_dim,
            ..Attention::plain(
                [self.heads, self.kv_heads, self.head_dim],
                query,
                KeyValue::Own {
                    key,
                    value: Some(value),
                },
                output,
                mask,
            )
        }
    }
}

fn is_window(mask: Mask) -> bool {
    matches!(mask, Mask::CausalWindow(_))
}

/// MiMo-V2-Flash: layers with windows have twice the key heads, and sinks.
pub fn mimo_v2_flash(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    let layers = decoder.layers();
    let window = match config.optional_size("sliding_window_size")? {
        Some(size) => size + 1,
        None => config.size("sliding_window")?,
    };
    let otherwise = |layer: usize| {
        if layer == 0 || (layer + 1).is_multiple_of(6) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let kinds = crate::build::layer_types(config, layers, otherwise)?;
    decoder.mask_by_layer_types(Some(window), otherwise)?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            default_partial: 0.334,
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let theta = if kind == "full_attention" { 5e6 } else { 1e4 };
            Some(Rope::plain(
                (decoder.head_dim as f64 * 0.334) as usize,
                theta,
            ))
        };
    }
    let bias = config.flag("attention_bias")?;
    let value_dim = config.size("v_head_dim")?;
    let (hidden_size, heads, kv_heads, head_dim) = (
        decoder.hidden_size,
        decoder.heads,
        decoder.kv_heads,
        decoder.head_dim,
    );
    crate::build::divided(config, "num_key_value_heads", heads, 2 * kv_heads)?;
    let (masks, ropes) = (decoder.masks.clone(), decoder.ropes.clone());
    decoder.attention_of = MixerOf::new(move |leaves, layer| {
        let windowed = is_window(masks[layer]);
        let sizes = Sizes {
            heads,
            kv_heads: if windowed { 2 * kv_heads } else { kv_heads },
            head_dim,
            value_dim,
            bias,
            output_bias: false,
        };
        let mut attention = sizes.build(leaves, hidden_size, masks[layer]);
        attention.positions = ropes[layer]
            .clone()
            .map(Position::Rope)
            .into_iter()
            .collect();
        if windowed {
            let name = leaves.tensor("self_attn.attention_sink_bias");
            attention.sinks = Some(leaves.weight(name, &[heads], Shard::Column));
        }
        Some(Mixer::Attention(Box::new(attention)))
    });
    let sparse = sparse_layers(config, layers, |layer| layer > 0)?;
    let experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let value_scale = config
        .optional_number("attention_value_scale")?
        .unwrap_or(1.0);
    let mut spec = decoder.build()?;
    // A factor on the values is one on the output, which has no addend.
    for layer in &mut spec.stacks[0].layers {
        for branch in layer.steps.iter_mut().flat_map(|step| &mut step.branches) {
            if value_scale != 1.0 && matches!(branch.mixer, Mixer::Attention(_)) {
                branch.gain = Gain::Constant(value_scale);
            }
        }
    }
    spec.ignored.push("model.mtp.*");
    Ok(spec)
}

/// Beam: norms around each sublayer, residuals scaled by depth, gated attention outputs.
pub fn beam(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.arrangement = Arrangement::Sandwich {
        attention: ["input_layernorm", "post_attention_layernorm"],
        feed_forward: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    };
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let layers = decoder.layers();
    let otherwise = |layer: usize| {
        if (layer + 1).is_multiple_of(6) || layer + 1 == layers {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let kinds = crate::build::layer_types(config, layers, otherwise)?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, otherwise)?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            layer_type: Some(kind),
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = match kind.as_str() {
            "full_attention" if !described => None,
            _ => Rope::from_config(config, &options)?,
        };
    }
    decoder.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    let sparse = sparse_layers(config, layers, |layer| layer >= 3.min(layers))?;
    let experts = v3_experts(config, "num_experts", decoder.activation)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let hidden_size = decoder.hidden_size;
    let mut spec = decoder.build()?;
    amend(&mut spec, |leaves, _, attention| {
        let shape = [attention.heads * attention.value_dim, hidden_size];
        let projection = leaves.linear("self_attn.gate_proj", shape, false, Shard::Column);
        let bias = leaves.tensor("self_attn.gate_bias");
        attention.gate = Some(OutputGate {
            projection,
            per_head: false,
            activation: Activation::Sigmoid,
            head_bias: Some(leaves.weight(bias, &[attention.heads], Shard::Column)),
        });
        if attention.positions.is_empty() {
            attention.query_temperature = Some(QueryTemperature::Power {
                original: 2048.0,
                exponent: 0.1,
            });
        }
    });
    let steps = spec.stacks[0]
        .layers
        .iter_mut()
        .flat_map(|layer| &mut layer.steps);
    for (index, step) in steps.enumerate() {
        let depth = (index + 2) as f64;
        step.write = Write::AddScaled(Gain::Constant(((depth - 1.0) / depth).sqrt()));
        for branch in &mut step.branches {
            branch.gain = Gain::Constant(1.0 / depth.sqrt());
        }
    }
    Ok(spec)
}

/// Laguna: a number of heads for each layer, gated attention outputs.
pub fn laguna(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    let layers = decoder.layers();
    let window = config.optional_size("sliding_window")?;
    let kinds = crate::build::layer_types(config, layers, |_| "full_attention")?;
    decoder.mask_by_layer_types(window, |_| "full_attention")?;
    config.off(
        "use_bidirectional_attention",
        "the class has causal attention only",
    )?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let (theta, part) = if kind == "full_attention" {
                (5e5, 2)
            } else {
                (1e4, 1)
            };
            Some(Rope::plain(decoder.head_dim / part, theta))
        };
    }
    let counts: Vec<usize> = match config.numbers("num_attention_heads_per_layer")? {
        Some(counts) if counts.len() != layers => {
            let expected = format!("one entry for each of {layers} layers");
            return Err(config.invalid("num_attention_heads_per_layer", expected));
        }
        Some(counts) => counts.into_iter().map(|count| count as usize).collect(),
        None => vec![decoder.heads; layers],
    };
    let kv_heads = decoder.kv_heads;
    if counts
        .iter()
        .any(|&count| count == 0 || !count.is_multiple_of(kv_heads))
    {
        let expected = format!("multiples of {kv_heads}");
        return Err(config.invalid("num_attention_heads_per_layer", expected));
    }
    let per_head = match config.value("gating") {
        None | Some(serde_json::Value::Bool(true)) => true,
        Some(serde_json::Value::String(kind)) if kind == "per-head" => true,
        Some(serde_json::Value::Bool(false)) => false,
        Some(serde_json::Value::String(kind)) if kind == "per-element" => false,
        Some(_) => return Err(config.unsupported("gating", "unknown gate")),
    };
    let bias = config.flag("attention_bias")?;
    let (hidden_size, head_dim, norm) = (decoder.hidden_size, decoder.head_dim, decoder.norm);
    let (masks, ropes) = (decoder.masks.clone(), decoder.ropes.clone());
    decoder.attention_of = MixerOf::new(move |leaves, layer| {
        let heads = counts[layer];
        let sizes = Sizes {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            bias,
            output_bias: bias,
        };
        let mut attention = sizes.build(leaves, hidden_size, masks[layer]);
        attention.positions = ropes[layer]
            .clone()
            .map(Position::Rope)
            .into_iter()
            .collect();
        let mut head_norm = |name: &str| {
            Some(crate::HeadNorm {
                norm: leaves.norm(name, head_dim, norm),
                span: NormSpan::Head,
                after_rotation: false,
            })
        };
        attention.query_norm = head_norm("self_attn.q_norm");
        attention.key_norm = head_norm("self_attn.k_norm");
        let out = if per_head { heads } else { heads * head_dim };
        let shape = [out, hidden_size];
        attention.gate = Some(OutputGate {
            projection: leaves.linear("self_attn.g_proj", shape, false, Shard::Column),
            per_head,
            activation: Activation::Softplus,
            head_bias: None,
        });
        Some(Mixer::Attention(Box::new(attention)))
    });
    config.off(
        "moe_apply_router_weight_on_input",
        "not implemented by the reference",
    )?;
    let sparse = sparse_layers(config, layers, |layer| layer > 0)?;
    let inner = config.size("moe_intermediate_size")?;
    let cap = config.number("moe_router_logit_softcapping")?;
    let experts = Experts {
        score: RouterScore::Sigmoid,
        softcap: (cap > 0.0).then_some(cap),
        choice_bias: &["mlp.experts.e_score_correction_bias"],
        counted_bias: true,
        renormalize: Renormalize::Sum { plus: 0.0 },
        scale: config.number("moe_routed_scaling_factor")?,
        shared: Some(Shared {
            tensors: crate::families::experts::SHARED_EXPERT,
            intermediate_size: config.size("shared_expert_intermediate_size")?,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// A decoder with latent attention in every layer.
fn latent_decoder<'c>(config: &'c Config, latent: &Latent) -> Result<Decoder<'c>, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let layers = config.layers("num_hidden_layers")?;
    let inner = config.size("intermediate_size")?;
    let mut decoder = Decoder::sized(
        config,
        norm,
        [layers, inner, latent.nope_dim + latent.rope_dim],
    )?;
    decoder.family = "deepseek";
    decoder.activation = config.activation("hidden_act")?;
    decoder.ropes = vec![latent.rope.clone(); layers];
    let latent = latent.clone();
    decoder.attention_of =
        MixerOf::new(move |leaves, _| Some(latent.build(leaves, "self_attn", |_| None)));
    Ok(decoder)
}

/// DeepSeek-V2: softmax scores, groups by their best expert.
pub fn deepseek_v2(config: &Config) -> Result<ModelSpec, SpecError> {
    let latent = Latent::new(config, true)?;
    let mut decoder = latent_decoder(config, &latent)?;
    decoder.feed_forward_bias = config.flag("mlp_bias")?;
    let sparse = from_first(config, decoder.layers())?;
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        scale: config.number("routed_scaling_factor")?,
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    // The reference does not look at it.
    config.ignore(&["norm_topk_prob"]);
    config.neutral(
        "scoring_func",
        &["softmax".into()],
        "other scores of experts",
    )?;
    match config.optional_text("topk_method")?.as_deref() {
        Some("greedy") => config.ignore(&["n_group", "topk_group"]),
        Some("group_limited_greedy") => experts.limit_to_groups(config, 1)?,
        _ => return Err(config.unsupported("topk_method", "unknown way to choose experts")),
    }
    shared(&mut experts, config.heads("n_shared_experts")?);
    if let Some(shared) = &mut experts.shared {
        shared.bias = decoder.feed_forward_bias;
    }
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// DeepSeek-V3, R1, Kimi K2.
pub fn deepseek_v3(config: &Config) -> Result<ModelSpec, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    let mut decoder = latent_decoder(config, &latent)?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    let layers = decoder.layers();
    let mut spec = decoder.build()?;
    ignore_layers_behind(&mut spec, config, layers)?;
    Ok(spec)
}

/// GLM-4.7-Flash.
pub fn glm4_moe_lite(config: &Config) -> Result<ModelSpec, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    let mut decoder = latent_decoder(config, &latent)?;
    config.ignore(&["first_k_dense_replace"]);
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    with_v3_experts(config, &mut decoder, sparse)?;
    let layers = decoder.layers();
    let mut spec = decoder.build()?;
    ignore_layers_behind(&mut spec, config, layers)?;
    Ok(spec)
}

/// A.X K1: one more norm, on the experts' output.
pub fn axk1(config: &Config) -> Result<ModelSpec, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    if latent.q_rank.is_none() {
        return Err(config.missing("q_lora_rank"));
    }
    let mut decoder = latent_decoder(config, &latent)?;
    let first = if config.in_file("first_k_dense_replace") {
        config.index("first_k_dense_replace")?
    } else {
        1
    };
    let every = config.optional_size("moe_layer_freq")?.unwrap_or(1);
    config.ignore(&["first_k_dense_replace", "num_nextn_predict_layers"]);
    let sparse = sparse_layers(config, decoder.layers(), |layer| {
        layer >= first && layer % every == 0
    })?;
    with_v3_experts(config, &mut decoder, sparse)?;
    let (hidden_size, norm) = (decoder.hidden_size, decoder.norm);
    let mut spec = decoder.build()?;
    for layer in &mut spec.stacks[0].layers {
        let mut leaves = crate::build::Leaves::reopen(layer);
        for step in &mut layer.steps {
            if matches!(step.branches[0].mixer, Mixer::MixtureOfExperts(_)) {
                step.post = Some(leaves.norm("post_mlp_layernorm", hidden_size, norm));
            }
        }
        layer.leaves = leaves.finish();
    }
    Ok(spec)
}

/// Youtu-LLM: latent attention, no experts.
pub fn youtu(config: &Config) -> Result<ModelSpec, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    config.ignore(&["embedding_initializer_range"]);
    latent_decoder(config, &latent)?.build()
}

/// MiniCPM 3: latent attention, no experts, scaled residuals.
pub fn minicpm3(config: &Config) -> Result<ModelSpec, SpecError> {
    let hidden_size = config.size("hidden_size")?;
    let mut latent = Latent::sized(config, false, |config| {
        match config.optional_size("v_head_dim")? {
            Some(value_dim) => Ok(value_dim),
            None => Ok(hidden_size / config.heads("num_attention_heads")?),
        }
    })?;
    latent.norm = NormStyle::rms(1e-6);
    let mut decoder = latent_decoder(config, &latent)?;
    decoder.feed_forward_bias = config.flag("mlp_bias")?;
    decoder.embedding_scale = config.number("scale_emb")?;
    let layers = decoder.layers() as f64;
    let depth = config
        .optional_number("scale_depth")?
        .unwrap_or_else(|| layers.sqrt());
    decoder.residual_scale = depth / layers.sqrt();
    let base = config
        .optional_size("dim_model_base")?
        .unwrap_or(hidden_size);
    decoder.logit_scale = base as f64 / hidden_size as f64;
    decoder.build()
}

/// Mistral Large 3: softmax scores with groups, queries scaled by their position.
pub fn mistral4(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut latent = Latent::partial(config, config.flag("rope_interleave")?)?;
    let object = match config.nested("rope_scaling")? {
        Some(older) => Some(older),
        None => config.nested("rope_parameters")?,
    };
    let (beta, original) = match &object {
        Some(object) => (
            object.optional_number("llama_4_scaling_beta")?,
            object.optional_positive("original_max_position_embeddings")?,
        ),
        None => (Some(0.1), Some(8192.0)),
    };
    if let Some(object) = &object {
        object.ignore(&["max_position_embeddings"]);
    }
    let (Some(beta), Some(original)) = (beta, original) else {
        return Err(config.missing("rope_parameters.llama_4_scaling_beta"));
    };
    latent.temperature = Some(QueryTemperature::Llama4 {
        beta,
        original,
        shift: 0.0,
    });
    let mut decoder = latent_decoder(config, &latent)?;
    let first = config.index("first_k_dense_replace")?;
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        scale: config.number("routed_scaling_factor")?,
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 1e-20 };
    }
    experts.limit_to_groups(config, 2)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    mix(&mut decoder, experts, move |layer| layer >= first);
    decoder.build()
}

/// LongCat-Flash: two sublayers of attention and network in a layer, and experts beside them.
pub fn longcat_flash(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut latent = Latent::new(config, true)?;
    let Some(q_rank) = latent.q_rank else {
        return Err(config.missing("q_lora_rank"));
    };
    let hidden_size = latent.hidden_size;
    latent.latent_scales = [
        (hidden_size as f64 / q_rank as f64).sqrt(),
        (hidden_size as f64 / latent.kv_rank as f64).sqrt(),
    ];
    let layers = if config.in_file("num_layers") || !config.in_file("num_hidden_layers") {
        config.layers("num_layers")?
    } else {
        config.layers("num_hidden_layers")? / 2
    };
    config.ignore(&["num_hidden_layers"]);
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("ffn_hidden_size")?;
    let dim = latent.nope_dim + latent.rope_dim;
    let mut decoder = Decoder::sized(config, norm, [layers, inner, dim])?;
    decoder.family = "deepseek";
    decoder.activation = config.activation("hidden_act")?;
    decoder.ropes = vec![latent.rope.clone(); layers];
    config.neutral(
        "zero_expert_type",
        &["identity".into()],
        "other experts without weights",
    )?;
    config.neutral("attention_method", &["MLA".into()], "another attention")?;
    for key in ["mla_scale_q_lora", "mla_scale_kv_lora"] {
        config.neutral(key, &[true.into()], "latents are scaled")?;
    }
    let experts = longcat_experts(config, decoder.activation)?;
    let (routed, identities) = (experts.count, experts.identities);
    let activation = decoder.activation;
    let mut spec = decoder.build()?;
    for (index, layer) in spec.stacks[0].layers.iter_mut().enumerate() {
        let mut leaves = crate::build::Leaves::new(format!("model.layers.{index}."));
        let mut steps = Vec::new();
        for half in 0..2 {
            let pre = leaves.norm(&format!("input_layernorm.{half}"), hidden_size, norm);
            let attention = latent.build(&mut leaves, &format!("self_attn.{half}"), |_| None);
            steps.push(Step {
                pre: Some(pre),
                ..Step::residual(attention)
            });
            let pre = leaves.norm(
                &format!("post_attention_layernorm.{half}"),
                hidden_size,
                norm,
            );
            if half == 0 {
                steps.push(Step {
                    pre: Some(pre.clone()),
                    write: Write::Set(Slot::Stash(0)),
                    ..Step::residual(experts.build(&mut leaves, hidden_size))
                });
            }
            let names =
                ["gate_proj", "up_proj", "down_proj"].map(|part| format!("mlps.{half}.{part}"));
            let names = [&names[0], &names[1], &names[2]].map(String::as_str);
            let sizes = [hidden_size, inner];
            let network = leaves.gated_feed_forward(names, sizes, false, activation);
            steps.push(Step {
                pre: Some(pre),
                ..Step::residual(Mixer::FeedForward(network))
            });
        }
        steps.push(Step {
            read: Slot::Stash(0),
            pre: None,
            branches: vec![Branch::plain(Mixer::Identity)],
            post: None,
            write: Write::Add,
        });
        *layer = leaves.layer(steps);
    }
    spec.ignored.push("model.mtp.*");
    // The reference writes gates for the experts without weights.
    for expert in routed..routed + identities {
        let gates = format!("model.layers.*.mlp.experts.{expert}.*");
        spec.ignored.push(pattern(gates));
    }
    Ok(spec)
}

fn longcat_experts(config: &Config, activation: Activation) -> Result<Experts, SpecError> {
    let routed = config.heads("n_routed_experts")?;
    let identities = config
        .value("zero_expert_num")
        .map(|_| config.index("zero_expert_num"))
        .transpose()?
        .unwrap_or(0);
    let top_k = config.heads("moe_topk")?;
    if top_k > routed + identities {
        return Err(config.invalid(
            "moe_topk",
            format!("at most {} experts", routed + identities),
        ));
    }
    ignore_training(config);
    // The reference declares the router's addend but does not use it.
    config.off("router_bias", "the reference leaves it out of the logits")?;
    Ok(Experts {
        count: routed,
        identities,
        top_k,
        router: "mlp.router.classifier",
        choice_bias: &["mlp.router.e_score_correction_bias"],
        scale: config.number("routed_scaling_factor")?,
        ..Experts::plain(
            routed,
            top_k,
            config.size("expert_ffn_hidden_size")?,
            activation,
        )
    })
}

/// DeepSeek-V3.2: a query attends to the keys that an indexer chooses.
pub fn deepseek_v32(config: &Config) -> Result<ModelSpec, SpecError> {
    let first = config.index("first_k_dense_replace")?;
    config.ignore(&["mlp_bias", "moe_layer_freq"]);
    let own = |_: &Config, layers: usize| Ok(vec![true; layers]);
    sparse_attention(config, false, first, own)
}

/// GLM-5: some layers use the choice of the layer before.
pub fn glm_moe_dsa(config: &Config) -> Result<ModelSpec, SpecError> {
    let first = config.index("first_k_dense_replace")?;
    config.ignore(&["mlp_bias", "moe_layer_freq"]);
    sparse_attention(config, true, first, |config, layers| {
        if let Some(types) = config.texts("indexer_types")? {
            return indexer_layers(config, "indexer_types", &types, layers);
        }
        match config.value("index_topk_pattern").cloned() {
            Some(serde_json::Value::String(pattern)) => {
                let types: Vec<String> = pattern.chars().map(String::from).collect();
                indexer_layers(config, "index_topk_pattern", &types, layers)
            }
            Some(_) => {
                let types = config.texts("index_topk_pattern")?.unwrap_or_default();
                indexer_layers(config, "index_topk_pattern", &types, layers)
            }
            None => {
                let every = match config.value("index_topk_freq") {
                    Some(_) => config.index("index_topk_freq")?.max(1),
                    None => 1,
                };
                let offset = match config.value("index_skip_topk_offset") {
                    Some(_) => config.index("index_skip_topk_offset")?,
                    None => 2,
                };
                Ok((0..layers)
                    .map(|layer| (layer + 1).saturating_sub(offset) % every == 0)
                    .collect())
            }
        }
    })
}

fn indexer_layers(
    config: &Config,
    key: &str,
    types: &[String],
    layers: usize,
) -> Result<Vec<bool>, SpecError> {
    if types.len() < layers {
        return Err(config.invalid(key, format!("one entry for each of {layers} layers")));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            "full" | "F" => Ok(true),
            "shared" | "S" => Ok(false),
            _ => Err(config.unsupported(key, "unknown kind of indexer")),
        })
        .collect()
}

fn sparse_attention(
    config: &Config,
    interleaved: bool,
    first: usize,
    own: impl Fn(&Config, usize) -> Result<Vec<bool>, SpecError>,
) -> Result<ModelSpec, SpecError> {
    let latent = Latent::new(config, true)?;
    let Some(q_rank) = latent.q_rank else {
        return Err(config.missing("q_lora_rank"));
    };
    let mut decoder = latent_decoder(config, &latent)?;
    let layers = decoder.layers();
    // Every layer has the indexer's attention, whatever its kind is called.
    config.ignore(&["indexer_rope_interleave", "layer_types", "rope_interleave"]);
    let own = own(config, layers)?;
    if !own[0] {
        return Err(config.invalid("indexer_types", "an indexer in the first layer"));
    }
    let sizes = IndexerSizes {
        heads: config.heads("index_n_heads")?,
        head_dim: config.size("index_head_dim")?,
        top_k: config.size("index_topk")?,
        q_rank,
        rope: latent.rope.clone().map(|rope| Rope {
            interleaved,
            ..rope
        }),
    };
    if sizes.head_dim < latent.rope_dim {
        return Err(config.invalid("index_head_dim", format!("at least {}", latent.rope_dim)));
    }
    let hidden_size = decoder.hidden_size;
    let described = latent.clone();
    decoder.attention_of = MixerOf::new(move |leaves, layer| {
        Some(described.build(leaves, "self_attn", |leaves| {
            Some(if own[layer] {
                let kept = own.get(layer + 1).is_some_and(|own| !own);
                KeySelection::Indexer(Box::new(sizes.build(leaves, hidden_size, kept)))
            } else {
                KeySelection::Previous { top_k: sizes.top_k }
            })
        }))
    });
    let sparse = sparse_layers(config, layers, |layer| layer >= first)?;
    with_v3_experts(config, &mut decoder, sparse)?;
    let mut spec = decoder.build()?;
    ignore_layers_behind(&mut spec, config, layers)?;
    Ok(spec)
}
