//! Mixtures of experts on Llama-like attention.

use crate::build::{CausalHead, Leaves, NormStyle, unused_head};
use crate::families::decoder::{Arrangement, Decoder, MixerOf};
use crate::families::experts::{
    ExpertTensors, Experts, SHARED_EXPERT, SHARED_EXPERTS, Shared, SharedTensors,
};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    Activation, Attention, ClampedGate, Config, Linear, Mask, Mixer, MixtureOfAttention, ModelSpec,
    NormSpan, OutputGate, QueryTemperature, Renormalize, Router, RouterScore, SpecError, Split,
    Step,
};

/// Mixtral's experts, under `block_sparse_moe`.
const BLOCK_SPARSE: ExpertTensors = ExpertTensors::Each([
    "block_sparse_moe.experts.{}.w1.weight",
    "block_sparse_moe.experts.{}.w3.weight",
    "block_sparse_moe.experts.{}.w2.weight",
]);

/// RMS norms, `hidden_act`, no rotation yet.
pub(super) fn plain(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Decoder::new(config, norm)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// `attention_bias` on all four projections.
pub(super) fn attention_bias(config: &Config, decoder: &mut Decoder<'_>) -> Result<(), SpecError> {
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.output_bias = decoder.query_key_value_bias;
    Ok(())
}

/// Experts instead of the feed-forward network in some layers.
pub(super) fn mix<'c>(
    decoder: &mut Decoder<'c>,
    experts: Experts,
    sparse: impl Fn(usize) -> bool + 'c,
) {
    let hidden_size = decoder.hidden_size;
    decoder.feed_forward_of = MixerOf::new(move |leaves, layer| {
        sparse(layer).then(|| experts.build(leaves, hidden_size))
    });
}

/// Changes the attention of every layer, with weights behind the layer's others.
pub(super) fn amend(spec: &mut ModelSpec, change: impl Fn(&mut Leaves, usize, &mut Attention)) {
    for stack in &mut spec.stacks {
        for (index, layer) in stack.layers.iter_mut().enumerate() {
            let mut leaves = Leaves::reopen(layer);
            for branch in layer.steps.iter_mut().flat_map(|step| &mut step.branches) {
                if let Mixer::Attention(attention) = &mut branch.mixer {
                    change(&mut leaves, index, attention);
                }
            }
            layer.leaves = leaves.finish();
        }
    }
}

/// Which layers have experts, by `mlp_layer_types`.
pub(super) fn sparse_layers(
    config: &Config,
    layers: usize,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, SpecError> {
    let Some(types) = config.texts("mlp_layer_types")? else {
        return Ok((0..layers).map(otherwise).collect());
    };
    if types.len() != layers {
        let expected = format!("one entry for each of {layers} layers");
        return Err(config.invalid("mlp_layer_types", expected));
    }
    let sparse = |kind: &String| match kind.as_str() {
        "sparse" => Ok(true),
        "dense" => Ok(false),
        _ => Err(config.unsupported("mlp_layer_types", "layers are `dense` or `sparse`")),
    };
    types.iter().map(sparse).collect()
}

/// Qwen's `decoder_sparse_step` and `mlp_only_layers`.
fn qwen_layers(config: &Config, layers: usize, dense: &[usize]) -> Result<Vec<bool>, SpecError> {
    let step = config.size("decoder_sparse_step")?;
    let only = match config.numbers("mlp_only_layers")? {
        Some(only) => only,
        None => dense.iter().map(|&layer| layer as f64).collect(),
    };
    Ok((0..layers)
        .map(|layer| !only.contains(&(layer as f64)) && (layer + 1) % step == 0)
        .collect())
}

/// Softmax over all experts, `norm_topk_prob`.
fn qwen_experts(config: &Config, decoder: &Decoder<'_>) -> Result<Experts, SpecError> {
    let mut experts = Experts::new(
        config,
        ["num_experts", "num_experts_per_tok"],
        config.size("moe_intermediate_size")?,
        decoder.activation,
    )?;
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
    }
    Ok(experts)
}

fn shared_expert(
    config: &Config,
    tensors: SharedTensors,
    key: &str,
    activation: Activation,
) -> Result<Shared, SpecError> {
    Ok(Shared {
        tensors,
        intermediate_size: config.size(key)?,
        bias: false,
        activation,
        gate: None,
    })
}

/// Mixtral: the weights of the chosen experts sum to one.
pub fn mixtral(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    if let Some(window) = config.optional_size("sliding_window")? {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    let mut experts = block_sparse(config, &decoder)?;
    experts.renormalize = Renormalize::Sum { plus: 0.0 };
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

fn block_sparse(config: &Config, decoder: &Decoder<'_>) -> Result<Experts, SpecError> {
    Ok(Experts {
        tensors: BLOCK_SPARSE,
        router: "block_sparse_moe.gate",
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            decoder.activation,
        )?
    })
}

/// Qwen2-MoE: a shared expert with a gate.
pub fn qwen2_moe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.query_key_value_bias = config.flag("qkv_bias")?;
    let (window, last) = (
        config.index("sliding_window")?,
        config.index("max_window_layers")?,
    );
    let windows = config.flag("use_sliding_window")?;
    // A window of 0 leaves nothing to see; the class gives it to files that use none.
    let window = (windows && window > 0).then_some(window);
    decoder.mask_by_layer_types(window, |layer| {
        if windows && layer < last && layer % 2 == 0 {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    let sparse = qwen_layers(config, decoder.layers(), &[])?;
    let mut experts = qwen_experts(config, &decoder)?;
    experts.shared = Some(Shared {
        gate: Some("mlp.shared_expert_gate"),
        ..shared_expert(
            config,
            SHARED_EXPERT,
            "shared_expert_intermediate_size",
            decoder.activation,
        )?
    });
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// Qwen3-MoE: a norm of each query and key head, no shared expert.
pub fn qwen3_moe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    // Left over from Qwen3's configuration: one window for all layers here.
    config.ignore(&["max_window_layers"]);
    let window = config.optional_size("sliding_window")?;
    if let (Some(window), true) = (window, config.flag("use_sliding_window")?) {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    let sparse = qwen_layers(config, decoder.layers(), &[])?;
    let experts = qwen_experts(config, &decoder)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// OLMoE: queries and keys are normalised over all heads at once, then limited.
pub fn olmoe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = olmo_experts(config)?;
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    let clip = config.optional_positive("clip_qkv")?;
    let mut spec = decoder.build()?;
    amend(&mut spec, |_, _, attention| attention.clip = clip);
    Ok(spec)
}

/// FlexOlmo: OLMo 2 with experts.
pub fn flex_olmo(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = olmo_experts(config)?;
    decoder.arrangement = Arrangement::Post {
        attention: "post_attention_layernorm",
        feed_forward: "post_feedforward_layernorm",
    };
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    decoder.build()
}

fn olmo_experts(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    attention_bias(config, &mut decoder)?;
    let mut experts = Experts::new(
        config,
        ["num_experts", "num_experts_per_tok"],
        decoder.intermediate_size,
        decoder.activation,
    )?;
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
    }
    mix(&mut decoder, experts, |_| true);
    Ok(decoder)
}

/// Phi-3.5-MoE: layer norms, a sparse mixer.
pub fn phimoe(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::layer(config.positive("rms_norm_eps")?);
    let mut decoder = Decoder::new(config, norm)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    attention_bias(config, &mut decoder)?;
    decoder.head_bias = config.flag("lm_head_bias")?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let magnitudes = match config.nested("rope_scaling")? {
        Some(older) => Some(older),
        None => config.nested("rope_parameters")?,
    };
    for rope in decoder.ropes.iter_mut().flatten() {
        phimoe_rope(rope, config, magnitudes.as_ref())?;
    }
    if let Some(window) = config.optional_size("sliding_window")? {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    config.ignore(&["input_jitter_noise"]);
    let mut experts = block_sparse(config, &decoder)?;
    // A sparse mixer chooses two, whatever the file says.
    experts.top_k = 2;
    experts.score = RouterScore::SparseMixer {
        jitter: config.number("router_jitter_noise")?,
    };
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// The frequencies of short records for all, and an amplitude that depends on the length.
fn phimoe_rope(
    rope: &mut Rope,
    config: &Config,
    magnitudes: Option<&Config>,
) -> Result<(), SpecError> {
    match &mut rope.scaling {
        RopeScaling::Default => Ok(()),
        RopeScaling::LongRope {
            short,
            long,
            attention_factor,
            long_attention_factor,
            ..
        } => {
            long.clone_from(short);
            if let Some(magnitudes) = magnitudes {
                *attention_factor = magnitudes.number("short_mscale")?;
                *long_attention_factor = magnitudes.number("long_mscale")?;
            }
            Ok(())
        }
        _ => Err(config.unsupported("rope_scaling", "this type extends contexts by `longrope`")),
    }
}

/// Granite's multipliers, a softmax over the chosen logits.
fn granite<'c>(
    config: &'c Config,
    stacked: [&'static str; 2],
    router: &'static str,
) -> Result<(Decoder<'c>, Experts), SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.embedding_scale = config.number("embedding_multiplier")?;
    decoder.residual_scale = config.number("residual_multiplier")?;
    decoder.attention_scale = config.number("attention_multiplier")?;
    decoder.logit_scale = 1.0 / config.positive("logits_scaling")?;
    let experts = Experts {
        tensors: ExpertTensors::Stacked(stacked),
        router,
        score: RouterScore::SoftmaxOfTopK,
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            decoder.activation,
        )?
    };
    Ok((decoder, experts))
}

const GRANITE_EXPERTS: [&str; 2] = [
    "block_sparse_moe.input_linear.weight",
    "block_sparse_moe.output_linear.weight",
];

fn granite_shared(config: &Config, experts: &mut Experts) -> Result<(), SpecError> {
    let size = config.index("shared_intermediate_size")?;
    if size > 0 {
        experts.shared = Some(Shared {
            tensors: SharedTensors::Fused(["shared_mlp.input_linear", "shared_mlp.output_linear"]),
            intermediate_size: size,
            bias: false,
            activation: experts.activation,
            gate: None,
        });
    }
    Ok(())
}

/// Granite 3 MoE.
pub fn granitemoe(config: &Config) -> Result<ModelSpec, SpecError> {
    let (mut decoder, experts) = granite(config, GRANITE_EXPERTS, "block_sparse_moe.router.layer")?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Granite MoE with an always-on network.
pub fn granitemoeshared(config: &Config) -> Result<ModelSpec, SpecError> {
    let (mut decoder, mut experts) =
        granite(config, GRANITE_EXPERTS, "block_sparse_moe.router.layer")?;
    granite_shared(config, &mut experts)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Granite MoE with windows, sinks and a base of the rotation for each layer.
pub fn granitemoe_swa(config: &Config) -> Result<ModelSpec, SpecError> {
    const EXPERTS: [&str; 2] = [
        "block_sparse_moe.experts.gate_up_proj",
        "block_sparse_moe.experts.down_proj",
    ];
    let (mut decoder, mut experts) = granite(config, EXPERTS, "block_sparse_moe.router")?;
    granite_shared(config, &mut experts)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    if let Some(bases) = config.numbers("layer_rope_theta")? {
        if bases.len() != decoder.layers() {
            let expected = format!("one entry for each of {} layers", decoder.layers());
            return Err(config.invalid("layer_rope_theta", expected));
        }
        for (rope, base) in decoder.ropes.iter_mut().zip(bases) {
            if base == 0.0 {
                *rope = None;
            } else if let Some(rope) = rope {
                rope.theta = base;
            }
        }
    }
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if layer % 4 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    mix(&mut decoder, experts, |_| true);
    let mut spec = decoder.build()?;
    sinks(&mut spec, "self_attn.sinks", |_| true);
    Ok(spec)
}

/// A learned logit per head in some layers.
fn sinks(spec: &mut ModelSpec, name: &str, has: impl Fn(usize) -> bool) {
    amend(spec, |leaves, layer, attention| {
        if has(layer) {
            let source = leaves.tensor(name);
            let shape = [attention.heads];
            attention.sinks = Some(leaves.weight(source, &shape, crate::Shard::Column));
        }
    });
}

/// Aria's language model.
pub fn aria_text(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    attention_bias(config, &mut decoder)?;
    let experts = Experts {
        tensors: ExpertTensors::Transposed {
            names: ["mlp.experts.fc1.weight", "mlp.experts.fc2.weight"],
            interleaved: false,
        },
        router: "mlp.router",
        score: RouterScore::SoftmaxOfTopK,
        shared: Some(Shared {
            tensors: SHARED_EXPERTS,
            intermediate_size: decoder.intermediate_size
                * config.heads("moe_num_shared_experts")?,
            bias: config.flag("mlp_bias")?,
            activation: decoder.activation,
            gate: None,
        }),
        // Whatever `hidden_act` says.
        ..Experts::new(
            config,
            ["moe_num_experts", "moe_topk"],
            decoder.intermediate_size,
            Activation::Silu,
        )?
    };
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Experts with addends, gate and `up` fused, a limited activation (gpt-oss).
fn clamped_experts(
    config: &Config,
    decoder: &Decoder<'_>,
    interleaved: bool,
) -> Result<Experts, SpecError> {
    Ok(Experts {
        tensors: ExpertTensors::Transposed {
            names: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
            interleaved,
        },
        bias: true,
        clamped: Some(ClampedGate {
            limit: config.positive("swiglu_limit")?,
            sharpness: config.number("swiglu_alpha")?,
        }),
        router: "mlp.router",
        router_bias: true,
        score: RouterScore::SoftmaxOfTopK,
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            Activation::Silu,
        )?
    })
}

/// The rotation of gpt-oss, which has an extension by default.
fn gpt_oss_rope(
    config: &Config,
    decoder: &mut Decoder<'_>,
    interleaved: bool,
) -> Result<(), SpecError> {
    let options = RopeOptions {
        interleaved,
        ..RopeOptions::new(decoder.head_dim)
    };
    decoder.rotate(&options)?;
    if config.nested("rope_scaling")?.is_none() && config.nested("rope_parameters")?.is_none() {
        for rope in decoder.ropes.iter_mut().flatten() {
            rope.scaling = RopeScaling::Yarn {
                factor: 32.0,
                original: 4096.0,
                attention_factor: 0.1 * 32f64.ln() + 1.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                truncate: false,
            };
        }
    }
    Ok(())
}

/// gpt-oss.
pub fn gpt_oss(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Decoder::new(config, norm)?;
    decoder.family = "mixture";
    config.ignore(&["hidden_act", "initial_context_length"]);
    gpt_oss_rope(config, &mut decoder, false)?;
    attention_bias(config, &mut decoder)?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if layer % 2 == 0 {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    config.ignore(&["experts_per_token"]);
    let experts = clamped_experts(config, &decoder, true)?;
    mix(&mut decoder, experts, |_| true);
    let mut spec = decoder.build()?;
    sinks(&mut spec, "self_attn.sinks", |_| true);
    Ok(spec)
}

/// OpenAI's privacy filter: gpt-oss that looks both ways.
pub fn openai_privacy_filter(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Decoder::new(config, norm)?;
    decoder.family = "mixture";
    config.ignore(&["hidden_act", "initial_context_length", "classifier_dropout"]);
    gpt_oss_rope(config, &mut decoder, true)?;
    attention_bias(config, &mut decoder)?;
    decoder
        .masks
        .fill(Mask::Window(config.size("sliding_window")?));
    let experts = clamped_experts(config, &decoder, false)?;
    mix(&mut decoder, experts, |_| true);
    let mut spec = decoder.build()?;
    spec.stacks[0].name = "encoder";
    sinks(&mut spec, "self_attn.sinks", |_| true);
    Ok(spec)
}

/// MiniMax-M2.
pub fn minimax_m2(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    config.ignore(&["rotary_dim"]);
    let default_partial = match config.optional_size("rotary_dim")? {
        Some(dims) => dims as f64 / decoder.head_dim as f64,
        None => 1.0,
    };
    decoder.rotate(&RopeOptions {
        partial: true,
        default_partial,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    published_minimax(config)?;
    let experts = Experts {
        score: RouterScore::Sigmoid,
        choice_bias: &["block_sparse_moe.e_score_correction_bias"],
        renormalize: Renormalize::Sum { plus: 0.0 },
        ..block_sparse(config, &decoder)?
    };
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// What published files say beyond the class's keys: it must be what the class does.
fn published_minimax(config: &Config) -> Result<(), SpecError> {
    config.neutral("use_qk_norm", &[true.into()], "queries and keys have norms")?;
    config.neutral(
        "qk_norm_type",
        &["per_layer".into()],
        "norms are of all heads at once",
    )?;
    config.neutral(
        "scoring_func",
        &["sigmoid".into()],
        "other scores of experts",
    )?;
    config.neutral("use_routing_bias", &[true.into()], "the choice has a bias")?;
    config.neutral(
        "shared_intermediate_size",
        &[0.into()],
        "there are no shared experts",
    )?;
    let kinds = config.numbers("attn_type_list")?.unwrap_or_default();
    if kinds.iter().any(|&kind| kind != 1.0) {
        return Err(config.unsupported("attn_type_list", "all layers have softmax attention"));
    }
    config.ignore(&[
        "max_model_len",
        "mlp_intermediate_size",
        "mtp_transformer_layers",
        "num_mtp_modules",
        "shared_moe_mode",
        "swa_rope_theta",
        "use_mtp",
    ]);
    Ok(())
}

/// Whether the file has rotations by kind of layer; a kind that no layer is counts as read.
pub(super) fn by_kind(config: &Config) -> Result<bool, SpecError> {
    let Some(kinds) = config.nested("rope_parameters")? else {
        return Ok(false);
    };
    kinds.ignore(&["full_attention", "sliding_attention"]);
    Ok(true)
}

/// A rotation for each kind of layer.
fn rotate_by_kind(
    config: &Config,
    decoder: &mut Decoder<'_>,
    kinds: &[String],
    partial: Option<f64>,
    default: impl Fn(&str) -> (f64, f64),
) -> Result<(), SpecError> {
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: partial.is_some(),
            layer_type: Some(kind),
            default_partial: partial.unwrap_or(1.0),
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let (theta, fraction) = default(kind);
            Some(Rope::plain(
                (decoder.head_dim as f64 * fraction) as usize,
                theta,
            ))
        };
    }
    Ok(())
}

/// Mellum.
pub fn mellum(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let window = config.optional_size("sliding_window")?;
    let kinds = crate::build::layer_types(config, decoder.layers(), |_| "full_attention")?;
    decoder.mask_by_layer_types(window, |_| "full_attention")?;
    rotate_by_kind(config, &mut decoder, &kinds, Some(1.0), |kind| {
        (
            if kind == "full_attention" {
                500_000.0
            } else {
                10_000.0
            },
            1.0,
        )
    })?;
    config.ignore(&[
        "num_nextn_predict_layers",
        "mtp_layer_types",
        "mtp_mlp_layer_types",
    ]);
    let sparse = sparse_layers(config, decoder.layers(), |_| true)?;
    let experts = qwen_experts(config, &decoder)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let mut spec = decoder.build()?;
    spec.ignored.push("mtp.*");
    Ok(spec)
}

/// Flint: windows with rotation, full layers without, sinks, sigmoid scores.
pub fn flint(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let (layers, window) = (decoder.layers(), config.size("sliding_window")?);
    decoder.mask_by_layer_types(Some(window), |layer| {
        if layer < 2 || layer % 4 == 1 || layer == layers - 1 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    rotate_windows_only(&mut decoder);
    let sparse = qwen_layers(config, layers, &[0, 1])?;
    let mut experts = qwen_experts(config, &decoder)?;
    experts.score = RouterScore::Sigmoid;
    experts.shared = Some(shared_expert(
        config,
        SHARED_EXPERT,
        "shared_expert_intermediate_size",
        decoder.activation,
    )?);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let mut spec = decoder.build()?;
    sinks(&mut spec, "self_attn.softmax_offset", |_| true);
    Ok(spec)
}

fn rotate_windows_only(decoder: &mut Decoder<'_>) {
    let windows: Vec<bool> = decoder
        .masks
        .iter()
        .map(|mask| matches!(mask, Mask::CausalWindow(_)))
        .collect();
    decoder.keep_rotation(|layer| windows[layer]);
}

/// Kolibri 1: norms around each sublayer, logits choose, their sigmoid weighs.
pub fn kolibri1(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("moe_intermediate_size")?;
    let mut decoder = Decoder::with_width(config, norm, inner)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    decoder.arrangement = Arrangement::Sandwich {
        attention: ["input_layernorm", "post_attn_norm"],
        feed_forward: ["post_attention_layernorm", "post_ffn_norm"],
    };
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if (layer + 1) % 5 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    rotate_windows_only(&mut decoder);
    let mut experts = qwen_experts(config, &decoder)?;
    experts.score = RouterScore::SigmoidOfTopK;
    experts.choice_bias = &["moe.router.expert_bias"];
    experts.shared = Some(shared_expert(
        config,
        SHARED_EXPERTS,
        "shared_expert_intermediate_size",
        decoder.activation,
    )?);
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// AFM (Arcee Trinity): norms around each sublayer, gated attention outputs.
pub fn afmoe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.arrangement = Arrangement::Sandwich {
        attention: ["input_layernorm", "post_attention_layernorm"],
        feed_forward: ["pre_mlp_layernorm", "post_mlp_layernorm"],
    };
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    if config.flag("mup_enabled")? {
        decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    }
    let window = config.optional_size("sliding_window")?;
    let interval = config.size("global_attn_every_n_layers")?;
    decoder.mask_by_layer_types(window, |layer| {
        if (layer + 1) % interval == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    rotate_windows_only(&mut decoder);
    let dense = config.index("num_dense_layers")?;
    let mut experts = Experts {
        router: "mlp.router.gate",
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.expert_bias"],
        counted_bias: true,
        renormalize: Renormalize::Sum { plus: 1e-20 },
        scale: config.number("route_scale")?,
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            config.size("moe_intermediate_size")?,
            decoder.activation,
        )?
    };
    experts.shared = Some(Shared {
        tensors: SHARED_EXPERTS,
        intermediate_size: experts.intermediate_size * config.heads("num_shared_experts")?,
        bias: false,
        activation: decoder.activation,
        gate: None,
    });
    mix(&mut decoder, experts, move |layer| layer >= dense);
    let hidden_size = decoder.hidden_size;
    let mut spec = decoder.build()?;
    amend(&mut spec, |leaves, _, attention| {
        let shape = [attention.heads * attention.value_dim, hidden_size];
        attention.gate = Some(OutputGate {
            projection: leaves.linear("self_attn.gate_proj", shape, false, crate::Shard::Column),
            per_head: false,
            activation: Activation::Sigmoid,
            head_bias: None,
        });
    });
    Ok(spec)
}

/// ERNIE 4.5 MoE.
pub fn ernie4_5_moe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let bias = config.flag("use_bias")?;
    decoder.query_key_value_bias = bias;
    decoder.output_bias = bias;
    decoder.feed_forward_bias = bias;
    decoder.head_bias = bias;
    config.neutral(
        "moe_gate",
        &["topk".into()],
        "another way to choose experts",
    )?;
    config.ignore(&[
        "moe_capacity",
        "moe_use_aux_free",
        "num_nextn_predict_layers",
    ]);
    let (first, interval) = (
        config.index("moe_layer_start_index")?,
        config.size("moe_layer_interval")?,
    );
    let last = match config.number("moe_layer_end_index")? {
        end if end < 0.0 => decoder.layers() - 1,
        end => end as usize,
    };
    let mut experts = Experts {
        choice_bias: &["mlp.moe_statics.e_score_correction_bias"],
        counted_bias: true,
        renormalize: Renormalize::SumAtLeast(config.number("moe_norm_min")?),
        ..Experts::new(
            config,
            ["moe_num_experts", "moe_k"],
            config.size("moe_intermediate_size")?,
            decoder.activation,
        )?
    };
    let shared = config.index("moe_num_shared_experts")?;
    if shared > 0 {
        experts.shared = Some(Shared {
            tensors: SHARED_EXPERTS,
            intermediate_size: experts.intermediate_size * shared,
            bias,
            activation: decoder.activation,
            gate: None,
        });
    }
    mix(&mut decoder, experts, move |layer| {
        (layer + 1) % interval == 0 && (first..=last).contains(&layer)
    });
    let mut spec = decoder.build()?;
    spec.ignored.push("model.mtp*");
    Ok(spec)
}

/// Llama 4: windows of whole chunks, weights on the experts' inputs.
pub fn llama4_text(config: &Config) -> Result<ModelSpec, SpecError> {
    const NETWORK: [&str; 3] = [
        "feed_forward.gate_proj",
        "feed_forward.up_proj",
        "feed_forward.down_proj",
    ];
    let mut decoder = {
        let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
        Decoder::with_width(config, norm, config.size("intermediate_size_mlp")?)?
    };
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    attention_bias(config, &mut decoder)?;
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let layers = decoder.layers();
    let interval = config.size("no_rope_layer_interval")?;
    let rotated = match config
        .flags("no_rope_layers")?
        .filter(|rotated| !rotated.is_empty())
    {
        Some(rotated) if rotated.len() < layers => {
            return Err(config.invalid("no_rope_layers", format!("at least {layers} entries")));
        }
        Some(rotated) => rotated,
        None => (1..=layers).map(|layer| layer % interval != 0).collect(),
    };
    decoder.mask_by_layer_types(None, |layer| {
        if rotated[layer] {
            "chunked_attention"
        } else {
            "full_attention"
        }
    })?;
    decoder.keep_rotation(|layer| rotated[layer]);
    // Without a chunked layer nothing asks how long chunks are.
    config.ignore(&["attention_chunk_size", "for_llm_compressor"]);
    let step = config.size("interleave_moe_layer_step")?;
    let sparse: Vec<bool> = match config.numbers("moe_layers")? {
        Some(sparse) => (0..layers)
            .map(|layer| sparse.contains(&(layer as f64)))
            .collect(),
        None => (1..=layers).map(|layer| layer % step == 0).collect(),
    };
    let inner = config.size("intermediate_size")?;
    let experts = Experts {
        tensors: ExpertTensors::Transposed {
            names: [
                "feed_forward.experts.gate_up_proj",
                "feed_forward.experts.down_proj",
            ],
            interleaved: false,
        },
        router: "feed_forward.router",
        score: RouterScore::SigmoidOfTopK,
        weighs_input: true,
        shared: Some(Shared {
            tensors: SharedTensors::Plain([
                "feed_forward.shared_expert.gate_proj",
                "feed_forward.shared_expert.up_proj",
                "feed_forward.shared_expert.down_proj",
            ]),
            intermediate_size: inner,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    let (hidden_size, dense, activation) = (
        decoder.hidden_size,
        decoder.intermediate_size,
        decoder.activation,
    );
    decoder.feed_forward_of = MixerOf::new(move |leaves, layer| {
        Some(if sparse[layer] {
            experts.build(leaves, hidden_size)
        } else {
            let sizes = [hidden_size, dense];
            Mixer::FeedForward(leaves.gated_feed_forward(NETWORK, sizes, false, activation))
        })
    });
    let norm = config.flag("use_qk_norm")?.then_some(crate::HeadNorm {
        norm: crate::Norm {
            kind: crate::NormKind::Rms,
            weight: None,
            bias: None,
            epsilon: decoder.norm.epsilon,
        },
        span: NormSpan::Head,
        after_rotation: true,
    });
    let temperature = QueryTemperature::Llama4 {
        beta: config.number("attn_scale")?,
        original: config.positive("floor_scale")?,
        shift: 1.0,
    };
    let tuned = config.flag("attn_temperature_tuning")?;
    let mut spec = decoder.build()?;
    amend(&mut spec, |_, layer, attention| {
        if rotated[layer] {
            attention.query_norm.clone_from(&norm);
            attention.key_norm.clone_from(&norm);
        } else if tuned {
            attention.query_temperature = Some(temperature);
        }
    });
    Ok(spec)
}

/// Hunyuan A13B: norms of queries and keys behind the rotation, a shared network.
pub fn hunyuan_v1_moe(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.norm_after_rotation = true;
    decoder.names.query_norm = "self_attn.query_layernorm";
    decoder.names.key_norm = "self_attn.key_layernorm";
    let object = match config.nested("rope_scaling")? {
        Some(older) => Some(older),
        None => config.nested("rope_parameters")?,
    };
    let alpha = match &object {
        Some(object) => object.optional_positive("alpha")?,
        None => None,
    };
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    for rope in decoder.ropes.iter_mut().flatten() {
        let (RopeScaling::Dynamic { .. }, Some(alpha)) = (&rope.scaling, alpha) else {
            continue;
        };
        // The base is stretched once and for all.
        if let Some(object) = &object {
            object.ignore(&["beta_fast", "beta_slow", "mscale", "mscale_all_dim"]);
        }
        let dims = rope.span as f64;
        rope.theta *= alpha.powf(dims / (dims - 2.0));
        rope.scaling = RopeScaling::Default;
    }
    config.ignore(&["eod_token_id", "num_local_experts"]);
    published_hunyuan(config)?;
    let top_ks = match config.value("moe_topk") {
        Some(serde_json::Value::Array(_)) => config
            .numbers("moe_topk")?
            .unwrap_or_default()
            .into_iter()
            .map(|top_k| top_k as usize)
            .collect(),
        _ => vec![config.heads("moe_topk")?; decoder.layers()],
    };
    let count = config.heads("num_experts")?;
    let fits = |&top_k: &usize| (1..=count).contains(&top_k);
    if top_ks.len() < decoder.layers() || !top_ks.iter().all(fits) {
        return Err(config.invalid("moe_topk", format!("1 to {count} experts for each layer")));
    }
    crate::families::experts::ignore_training(config);
    let (hidden_size, inner) = (decoder.hidden_size, decoder.intermediate_size);
    let experts = Experts {
        router: "mlp.gate.wg",
        renormalize: Renormalize::Sum { plus: 0.0 },
        shared: Some(Shared {
            tensors: SharedTensors::Plain([
                "mlp.shared_mlp.gate_proj",
                "mlp.shared_mlp.up_proj",
                "mlp.shared_mlp.down_proj",
            ]),
            intermediate_size: inner,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::plain(count, 1, inner, decoder.activation)
    };
    decoder.feed_forward_of = MixerOf::new(move |leaves, layer| {
        let experts = Experts {
            top_k: top_ks[layer],
            ..experts.clone()
        };
        Some(experts.build(leaves, hidden_size))
    });
    decoder.build()
}

/// What published files say beyond the class's keys: it must be what the class does.
fn published_hunyuan(config: &Config) -> Result<(), SpecError> {
    config.neutral("use_qk_norm", &[true.into()], "queries and keys have norms")?;
    config.neutral(
        "use_mixed_mlp_moe",
        &[true.into()],
        "there is a shared network",
    )?;
    config.neutral("norm_topk_prob", &[true.into()], "weights sum to one")?;
    config.neutral(
        "moe_layer_num_skipped",
        &[0.into()],
        "every layer has experts",
    )?;
    config.off("use_cla", "keys and values of other layers are not shared")?;
    config.off("mlp_bias", "networks have no addends")?;
    for (key, expected) in [
        ("num_shared_expert", 1),
        ("moe_intermediate_size", config.size("intermediate_size")?),
    ] {
        let values = match config.value(key) {
            Some(serde_json::Value::Array(_)) => config.numbers(key)?.unwrap_or_default(),
            _ => config.optional_number(key)?.into_iter().collect(),
        };
        if values.iter().any(|&value| value != expected as f64) {
            return Err(config.unsupported(key, format!("this type has {expected}")));
        }
    }
    config.ignore(&[
        "capacity_factor",
        "cla_share_factor",
        "moe_drop_tokens",
        "moe_random_routing_dropped_token",
        "group_limited_greedy",
        "n_group",
        "topk_group",
        "routed_scaling_factor",
    ]);
    Ok(())
}

/// JetMoe: the projections of queries and outputs are experts too.
pub fn jetmoe(config: &Config) -> Result<ModelSpec, SpecError> {
    // The norms of the layers have an epsilon of their own.
    let norm = NormStyle::rms(1e-6);
    let (heads, head_dim) = (
        config.heads("num_key_value_heads")?,
        config.heads("kv_channels")?,
    );
    let (layers, inner) = (
        config.layers("num_hidden_layers")?,
        config.size("intermediate_size")?,
    );
    // Derived.
    config.ignore(&["num_attention_heads"]);
    let activation = config.activation("activation_function")?;
    let experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.input_linear.weight", "mlp.output_linear.weight"]),
        router: "mlp.router.layer",
        score: RouterScore::SoftmaxOfTopK,
        output_bias: Some("mlp.bias"),
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            inner,
            activation,
        )?
    };
    let mut decoder = Decoder::of_heads(
        config,
        norm,
        [layers, inner, head_dim],
        [heads * experts.top_k, heads],
    )?;
    decoder.family = "mixture";
    decoder.rotate(&RopeOptions::new(head_dim))?;
    let hidden_size = decoder.hidden_size;
    let (ropes, router) = (decoder.ropes.clone(), experts.clone());
    decoder.attention_of = MixerOf::new(move |leaves, layer| {
        Some(attention_experts(
            leaves,
            &router,
            [heads, head_dim, hidden_size],
            ropes[layer].clone(),
        ))
    });
    mix(&mut decoder, experts, |_| true);
    let mut spec = decoder.build()?;
    let epsilon = config.positive("rms_norm_eps")?;
    for stack in &mut spec.stacks {
        if let Some(norm) = &mut stack.head.norm {
            norm.epsilon = epsilon;
        }
    }
    Ok(spec)
}

fn attention_experts(
    leaves: &mut Leaves,
    experts: &Experts,
    [heads, head_dim, hidden_size]: [usize; 3],
    rope: Option<Rope>,
) -> Mixer {
    let (count, inner) = (experts.count, heads * head_dim);
    let projection = leaves.linear(
        "self_attention.experts.router.layer",
        [count, hidden_size],
        false,
        crate::Shard::Replicate,
    );
    let mut stacked = |name: &str, [rows, columns]: [usize; 2]| {
        let source = leaves.tensor(name);
        Linear {
            weight: leaves.weight(source, &[count, rows, columns], crate::Shard::Expert),
            bias: None,
            out_features: rows,
            in_features: columns,
        }
    };
    let query = stacked(
        "self_attention.experts.input_linear.weight",
        [inner, hidden_size],
    );
    let output = stacked(
        "self_attention.experts.output_linear.weight",
        [hidden_size, inner],
    );
    let both = leaves.tensor("self_attention.kv_proj.weight");
    let [key, value] = [0, 1].map(|part| {
        let source = both.clone().part(Split::Rows(vec![inner, inner]), part);
        leaves.linear_of(source, None, [inner, hidden_size], crate::Shard::Column)
    });
    let bias = leaves.tensor("self_attention.experts.bias");
    Mixer::MixtureOfAttention(Box::new(MixtureOfAttention {
        experts: count,
        router: Router::plain(projection, RouterScore::SoftmaxOfTopK, experts.top_k),
        heads,
        head_dim,
        query,
        key,
        value,
        output,
        output_bias: leaves.weight(bias, &[hidden_size], crate::Shard::Replicate),
        rope,
        mask: Mask::Causal,
        scale: (head_dim as f64).powf(-0.5),
    }))
}

/// DBRX: layer norms without addend, weights divided by their p-norm.
pub fn dbrx(config: &Config) -> Result<ModelSpec, SpecError> {
    let base = config.row()?.base_prefix.as_str();
    let (attention, network) = (config.nested("attn_config")?, config.nested("ffn_config")?);
    for nested in [&attention, &network].into_iter().flatten() {
        nested.ignore(&[
            "hidden_size",
            "moe_jitter_eps",
            "moe_loss_weight",
            "rope_theta",
            // Every configuration's class has it; the model's own is beside this object.
            "tie_word_embeddings",
        ]);
        nested.off(
            "uniform_expert_assignment",
            "experts that are dealt out in turn",
        )?;
    }
    let of = |nested: &Option<Config>, key: &str, usual: usize| match nested {
        Some(nested) if nested.in_file(key) => nested.heads(key),
        _ => Ok(usual),
    };
    let hidden_size = config.size("d_model")?;
    let (heads, kv_heads) = (config.heads("n_heads")?, of(&attention, "kv_n_heads", 1)?);
    // Derived, or of training.
    config.ignore(&["num_key_value_heads", "emb_pdrop"]);
    let head_dim = crate::build::divided(config, "n_heads", hidden_size, heads)?;
    crate::build::divided(config, "n_heads", heads, kv_heads)?;
    let clip = match &attention {
        Some(attention) => attention.optional_positive("clip_qkv")?,
        None => None,
    };
    // Published files have the base among the attention's keys; transformers 5 reads its own
    // `rope_parameters` only and would turn those by 10,000 instead of 500,000.
    let theta = match &attention {
        Some(attention) => attention.optional_positive("rope_theta")?,
        None => None,
    };
    let assumed =
        theta.map(|theta| serde_json::json!({"rope_type": "default", "rope_theta": theta}));
    let options = RopeOptions {
        assumed: assumed.as_ref(),
        ..RopeOptions::new(head_dim)
    };
    let rope = Rope::from_config(config, &options)?;
    let experts = dbrx_experts(config, network.as_ref(), of)?;
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(1e-5)
    };
    let tied = config.flag("tie_word_embeddings")?;
    let vocab_size = config.size("vocab_size")?;
    let layers = (0..config.layers("n_layers")?).map(|layer| {
        let mut leaves = Leaves::new(format!("{base}blocks.{layer}."));
        let first = leaves.norm("norm_attn_norm.norm_1", hidden_size, norm);
        let wide = heads * head_dim;
        let rows = [wide, kv_heads * head_dim, kv_heads * head_dim];
        let fused = leaves.tensor("norm_attn_norm.attn.Wqkv.weight");
        let [query, key, value] = [0, 1, 2].map(|part| {
            let source = fused.clone().part(Split::Rows(rows.to_vec()), part);
            leaves.linear_of(
                source,
                None,
                [rows[part], hidden_size],
                crate::Shard::Column,
            )
        });
        let shape = [hidden_size, wide];
        let output = leaves.linear(
            "norm_attn_norm.attn.out_proj",
            shape,
            false,
            crate::Shard::Row,
        );
        let key_value = crate::KeyValue::Own {
            key,
            value: Some(value),
        };
        let sizes = [heads, kv_heads, head_dim];
        let attention = Attention {
            clip,
            positions: rope
                .clone()
                .map(crate::Position::Rope)
                .into_iter()
                .collect(),
            ..Attention::plain(sizes, query, key_value, output, Mask::Causal)
        };
        let attention = Step {
            pre: Some(first),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        };
        let second = leaves.norm("norm_attn_norm.norm_2", hidden_size, norm);
        let experts = Step {
            pre: Some(second),
            ..Step::residual(experts.build(&mut leaves, hidden_size))
        };
        leaves.layer(vec![attention, experts])
    });
    let layers = layers.collect();
    let mut embedding = Leaves::new(base);
    let tokens = embedding.table("wte.weight", vocab_size, hidden_size);
    let head = CausalHead {
        norm: Some((format!("{base}norm_f"), norm)),
        projection: "lm_head",
        bias: false,
        tokens: format!("{base}wte.weight"),
        scale: 1.0,
        softcap: None,
    };
    let max = config.size("max_seq_len")?;
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "mixture",
        base_prefix: base,
        ignored: unused_head(config.class()?, tied, &["lm_head.weight"]),
        vocab_size,
        length_limit: rope.map_or(crate::LengthLimit::None, |rope| rope.length_limit(max)),
        positions: crate::PositionIds::Sequential,
        prompt: Vec::new(),
        stacks: vec![crate::Stack {
            name: "decoder",
            hidden_size,
            embedding: crate::Embedding::of_tokens(tokens, hidden_size, embedding.finish()),
            layers,
            head: head.build(config, [vocab_size, hidden_size])?,
        }],
    })
}

fn dbrx_experts(
    config: &Config,
    network: Option<&Config>,
    of: impl Fn(&Option<Config>, &str, usize) -> Result<usize, SpecError>,
) -> Result<Experts, SpecError> {
    let nested = network.cloned();
    let count = of(&nested, "moe_num_experts", 4)?;
    let top_k = of(&nested, "moe_top_k", 1)?;
    let inner = match &nested {
        Some(nested) if nested.in_file("ffn_hidden_size") => nested.size("ffn_hidden_size")?,
        _ => 3584,
    };
    if let (true, Some(network)) = (top_k > count, network) {
        return Err(network.invalid("moe_top_k", format!("at most {count} experts")));
    }
    let activation = match network {
        Some(network) => match network.nested("ffn_act_fn")? {
            Some(named) if named.mentions("name") => named.activation("name")?,
            _ => Activation::Silu,
        },
        None => Activation::Silu,
    };
    // Present as `null`: the weights stay as they are.
    let p = match network {
        Some(network) if network.mentions("moe_normalize_expert_weights") => {
            network.optional_positive("moe_normalize_expert_weights")?
        }
        _ => Some(1.0),
    };
    crate::families::experts::ignore_training(config);
    Ok(Experts {
        tensors: ExpertTensors::Tall([
            "ffn.experts.mlp.w1",
            "ffn.experts.mlp.v1",
            "ffn.experts.mlp.w2",
        ]),
        router: "ffn.router.layer",
        renormalize: p.map_or(Renormalize::No, |p| Renormalize::Norm { p }),
        ..Experts::plain(count, top_k, inner, activation)
    })
}
