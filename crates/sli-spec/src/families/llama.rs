//! Llama and its variations: what each type changes of the plain [`Blocks`].

use serde_json::{Value, json};

use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::families::coordinates::turn_by_coordinates;
use crate::model_type::{ModelType, limited, row};
use crate::rope::{Pairs, Rope, RopeOptions, RopeScaling};
use crate::{Config, Described, Mask, NormSpan, QueryTemperature, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("apertus", apertus),
    row("arcee", arcee),
    row("bitnet", bitnet),
    row("cosmos3_edge_text", cosmos3_edge_text),
    row("cwm", cwm),
    row("diffllama", diffllama),
    limited(
        row("emu3_text_model", llama),
        "text only: images as their tokens",
    ),
    row("ernie4_5", ernie4_5),
    row("exaone4", exaone4),
    row("glm", glm),
    row("glm4", glm4),
    row("glm4v_text", glm4v_text),
    row("glm_ocr_text", glm_ocr_text),
    row("helium", helium),
    row("hunyuan_v1_dense", hunyuan_v1_dense),
    row("internlm3", internlm3),
    row("iquestcoder", iquestcoder),
    row("llama", llama),
    row("ministral", ministral),
    row("ministral3", ministral3),
    row("mistral", mistral),
    row("nanochat", nanochat),
    row("olmo2", olmo2),
    row("olmo3", olmo3),
    row("phi3", phi3),
    row("paddleocr_vl_text", paddleocr_vl_text),
    row("qwen2", qwen2),
    row("qwen2_vl_text", qwen2_vl_text),
    row("qwen2_5_vl_text", qwen2_vl_text),
    row("qwen3_vl_text", qwen3_vl_text),
    row("qwen3", qwen3),
    row("seed_oss", seed_oss),
    row("smollm3", smollm3),
];

/// RMS norms, rotate-half rope in all layers, `hidden_act`.
fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    rotated(config, |options| options)
}

/// [`plain`] with another rotation.
fn rotated<'c, 'o>(
    config: &'c Config,
    options: impl FnOnce(RopeOptions<'o>) -> RopeOptions<'o>,
) -> Result<Blocks<'c>, SpecError> {
    let mut decoder = Blocks::new(config, NormStyle::rms(config.positive("rms_norm_eps")?))?;
    decoder.rotate(&options(RopeOptions::new(decoder.head_dim)))?;
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// [`plain`], but neighbouring features are pairs.
fn interleaved(config: &Config) -> Result<Blocks<'_>, SpecError> {
    rotated(config, |options| RopeOptions {
        interleaved: true,
        ..options
    })
}

/// [`plain`] of a class that assumes these `rope_parameters`.
fn assuming<'c>(config: &'c Config, parameters: &Value) -> Result<Blocks<'c>, SpecError> {
    rotated(config, |options| RopeOptions {
        assumed: Some(parameters),
        ..options
    })
}

/// `attention_bias` on all four projections.
fn with_attention_bias(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    Ok(decoder)
}

/// `attention_bias` and `mlp_bias`.
pub(super) fn with_biases(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.set_network_bias(config.flag("mlp_bias")?);
    Ok(decoder)
}

/// Llama.
pub fn llama(config: &Config) -> Result<Described, SpecError> {
    with_biases(config)?.build()
}

/// InternLM 3: Llama under other names of the keys. In the class published beside the weights `bias` is
/// that of the output projection too; in the reference's own, `qkv_bias`.
pub fn internlm3(config: &Config) -> Result<Described, SpecError> {
    let classes = config.texts("architectures")?.unwrap_or_default();
    if classes.iter().any(|class| class.starts_with("InternLM3")) {
        let mut decoder = with_biases(config)?;
        decoder.output_bias = config.flag("mlp_bias")?;
        return decoder.build();
    }
    if config.flag("attention_bias")? != config.flag("mlp_bias")? {
        return Err(config.unsupported("qkv_bias", "it must be equal to `bias`"));
    }
    llama(config)
}

/// IQuest Coder: Llama; two options of the original code that no file uses.
pub fn iquestcoder(config: &Config) -> Result<Described, SpecError> {
    config.neutral("clip_qkv", &[], "the class refuses it")?;
    config.off("use_sliding_window", "the class refuses it")?;
    llama(config)
}

/// One window for all layers, if any.
pub(super) fn set_window(config: &Config, decoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    if let Some(window) = config.optional_size("sliding_window")? {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    Ok(())
}

/// Mistral: one window for all layers, if any.
pub fn mistral(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    set_window(config, &mut decoder)?;
    decoder.build()
}

/// Ministral: windows by the kind of layer.
pub fn ministral(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |_| match window {
        Some(_) => "sliding_attention",
        None => "full_attention",
    })?;
    decoder.build()
}

/// Ministral 3: queries grow with the logarithm of their position.
pub fn ministral3(config: &Config) -> Result<Described, SpecError> {
    let assumed = json!({
        "type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": 16384, "mscale": 1.0, "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1
    });
    let mut decoder = assuming(config, &assumed)?;
    set_window(config, &mut decoder)?;
    // The class warns about it and masks all layers alike.
    config.ignore(&["layer_types"]);
    let options = RopeOptions {
        assumed: Some(&assumed),
        ..RopeOptions::new(decoder.head_dim)
    };
    let parameters =
        Rope::parameters(config, &options)?.ok_or_else(|| config.missing("rope_parameters"))?;
    parameters.ignore(&["max_position_embeddings"]);
    let original = match decoder.ropes.first().and_then(Option::as_ref) {
        Some(Rope {
            scaling: RopeScaling::Yarn { original, .. } | RopeScaling::Llama3 { original, .. },
            ..
        }) => *original,
        _ => parameters.positive("original_max_position_embeddings")?,
    };
    decoder.query_temperature = Some(QueryTemperature::Llama4 {
        beta: parameters.number("llama_4_scaling_beta")?,
        original,
        shift: 0.0,
    });
    decoder.build()
}

/// Seed-OSS: the output projection has a switch of its own.
pub fn seed_oss(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_biases(config)?;
    decoder.output_bias = config.flag("attention_out_bias")?;
    decoder.build()
}

/// CWM: Llama 3 with windows in most layers.
pub fn cwm(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = assuming(
        config,
        &json!({
            "rope_type": "llama3", "rope_theta": 1e6, "factor": 16.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
        }),
    )?;
    config.off(
        "attention_bias",
        "the projections of this type have no addend",
    )?;
    decoder.set_network_bias(config.flag("mlp_bias")?);
    let window = config.index("sliding_window")?;
    decoder.mask_by_layer_types((window > 0).then_some(window), |layer| {
        if layer % 4 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    decoder.build()
}

/// Apertus: a norm of each query and key head, and a learned activation without gate.
pub fn apertus(config: &Config) -> Result<Described, SpecError> {
    let assumed = json!({
        "rope_type": "llama3", "rope_theta": 12e6, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
    });
    let mut decoder = Blocks::new(config, NormStyle::rms(config.positive("rms_norm_eps")?))?;
    decoder.rotate(&RopeOptions {
        assumed: Some(&assumed),
        ..RopeOptions::new(decoder.head_dim)
    })?;
    // What published files say again.
    config.off("mlp_bias", "the networks of this type have no addend")?;
    config.off("post_norm", "the norms of this type stand in front")?;
    config.neutral("qk_norm", &[true.into()], "this type has the norms")?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.arrangement = Arrangement::pre("attention_layernorm", "feedforward_layernorm");
    decoder.gated = false;
    decoder.xielu = config.optional_text("hidden_act")?.as_deref() == Some("xielu");
    if !decoder.xielu {
        decoder.activation = config.activation("hidden_act")?;
    }
    decoder.build()
}

/// Differential Llama: the difference of two attentions.
pub fn diffllama(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    // How the vectors of lambda start.
    config.ignore(&["lambda_std_dev"]);
    if decoder.kv_heads % 2 != 0 {
        return Err(config.invalid("num_key_value_heads", "an even number"));
    }
    decoder.differential = Some(NormStyle {
        weight: false,
        ..decoder.norm
    });
    decoder.build()
}

/// BitNet: norms in front of both downward projections. That the inputs of products are rounded to eight bits is a
/// matter of its packed weights' code.
pub fn bitnet(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.names = Names {
        output_norm: Some("self_attn.attn_sub_norm"),
        inner_norm: Some("mlp.ffn_sub_norm"),
        ..Names::USUAL
    };
    decoder.build()
}

/// Helium: neighbouring features are pairs.
pub fn helium(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = interleaved(config)?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.set_network_bias(config.flag("mlp_bias")?);
    if decoder.heads * decoder.head_dim != decoder.hidden_size {
        return Err(config.invalid("head_dim", "hidden_size / num_attention_heads"));
    }
    decoder.build()
}

/// ERNIE 4.5: neighbouring features are pairs; one switch for all addends.
pub fn ernie4_5(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = interleaved(config)?;
    let bias = config.flag("use_bias")?;
    decoder.set_attention_bias(bias);
    decoder.set_network_bias(bias);
    decoder.build()
}

/// Hunyuan: a norm of each query and key head after the rotation.
pub fn hunyuan_v1_dense(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = rotated(config, |options| RopeOptions {
        alpha: true,
        ..options
    })?;
    config.ignore(&["eod_token_id"]);
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.norm_after_rotation = true;
    decoder.names = Names {
        query_norm: "self_attn.query_layernorm",
        key_norm: "self_attn.key_layernorm",
        ..Names::USUAL
    };
    decoder.build()
}

/// EXAONE 4: norms on the sublayers' outputs and of each query and key head; where some layers have
/// windows, the others do not rotate.
pub fn exaone4(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.arrangement =
        Arrangement::post("post_attention_layernorm", "post_feedforward_layernorm");
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let window = config.optional_size("sliding_window")?;
    if config.in_file("layer_types") {
        // Published files spell the pattern in letters; the kinds of layers say it all.
        config.ignore(&["sliding_window_pattern"]);
    }
    let pattern = match (window, config.in_file("layer_types")) {
        (_, true) => 1,
        (Some(_), false) => config.layers("sliding_window_pattern")?,
        (None, false) => return Err(config.missing("layer_types")),
    };
    decoder.mask_by_layer_types(window, |layer| {
        if (layer + 1) % pattern == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    if window.is_some() {
        let windows = decoder.masks.clone();
        decoder.keep_rotation(|layer| windows[layer] != Mask::Causal);
    }
    decoder.build()
}

/// nanochat: norms without parameters, also of the token embedding and of queries and keys after the
/// rotation, which turns backwards.
pub fn nanochat(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = rotated(config, |options| RopeOptions {
        reversed: true,
        ..options
    })?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.set_norm(NormStyle {
        weight: false,
        ..decoder.norm
    });
    decoder.embedding_norm = Some(("embed_norm", decoder.norm));
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.norm_after_rotation = true;
    decoder.gated = false;
    decoder.names = PLAIN_NETWORK;
    decoder.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    decoder.build()
}

/// A feed-forward network of two numbered layers.
const PLAIN_NETWORK: Names = Names {
    up: "mlp.fc1",
    down: "mlp.fc2",
    ..Names::USUAL
};

/// The text side of Cosmos 3 Edge: a feed-forward network without gate.
pub fn cosmos3_edge_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_biases(config)?;
    let options = RopeOptions::new(decoder.head_dim);
    let assumed = Some([24, 20, 20]);
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::ByTurns)?;
    decoder.gated = false;
    decoder.names = PLAIN_NETWORK;
    decoder.build()
}

/// Phi-3: fused projections, a part of the head may rotate, `longrope`.
pub fn phi3(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = rotated(config, |options| RopeOptions {
        partial: true,
        only_long: true,
        ..options
    })?;
    decoder.names.projections = Projections::Rows("self_attn.qkv_proj");
    decoder.names.gate_up = Some("mlp.gate_up_proj");
    set_window(config, &mut decoder)?;
    for key in ["attention_bias", "mlp_bias", "lm_head_bias"] {
        config.off(key, "this type has no such addends")?;
    }
    decoder.build()
}

/// GLM: half of every head rotates in neighbouring pairs; gate and upward projection are one tensor.
fn glm_like(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = rotated(config, |options| RopeOptions {
        interleaved: true,
        partial: true,
        default_partial: 0.5,
        ..options
    })?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.names.gate_up = Some("mlp.gate_up_proj");
    Ok(decoder)
}

/// GLM-4 as transformers first had it.
pub fn glm(config: &Config) -> Result<Described, SpecError> {
    glm_like(config)?.build()
}

const GLM4_NORMS: Arrangement = Arrangement::sandwich(
    ["input_layernorm", "post_self_attn_layernorm"],
    ["post_attention_layernorm", "post_mlp_layernorm"],
);

/// GLM-4-0414: norms on both sides of each sublayer.
pub fn glm4(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = glm_like(config)?;
    decoder.arrangement = GLM4_NORMS;
    decoder.build()
}

/// The text side of GLM-4.1V: positions of three numbers.
pub fn glm4v_text(config: &Config) -> Result<Described, SpecError> {
    seeing_glm(config, true)
}

/// The text side of GLM-OCR: the same without addends.
pub fn glm_ocr_text(config: &Config) -> Result<Described, SpecError> {
    seeing_glm(config, false)
}

fn seeing_glm(config: &Config, bias: bool) -> Result<Described, SpecError> {
    let rotation = |options| RopeOptions {
        interleaved: true,
        partial: true,
        ..options
    };
    let mut decoder = rotated(config, rotation)?;
    decoder.query_key_value_bias = bias;
    decoder.names.gate_up = Some("mlp.gate_up_proj");
    decoder.arrangement = GLM4_NORMS;
    let options = rotation(RopeOptions::new(decoder.head_dim));
    let assumed = Some([8, 12, 12]);
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::Chunks)?;
    decoder.build()
}

/// The text side of PaddleOCR-VL: positions of three numbers, one switch for all addends.
pub fn paddleocr_vl_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    let bias = config.flag("use_bias")?;
    decoder.set_attention_bias(bias);
    decoder.set_network_bias(bias);
    let options = RopeOptions::new(decoder.head_dim);
    let assumed = Some([16, 24, 24]);
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::Chunks)?;
    decoder.build()
}

/// Qwen2: addends on queries, keys and values; windows from `max_window_layers` on.
pub fn qwen2(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = true;
    qwen_windows(config, &mut decoder)?;
    decoder.build()
}

/// Qwen3: a norm of each query and key head.
pub fn qwen3(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    qwen_windows(config, &mut decoder)?;
    decoder.build()
}

/// The text side of Qwen2-VL and Qwen2.5-VL: positions of three numbers.
pub fn qwen2_vl_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = true;
    qwen_windows(config, &mut decoder)?;
    let options = RopeOptions::new(decoder.head_dim);
    turn_by_coordinates(config, (&mut decoder, &options), None, Pairs::Chunks)?;
    decoder.build()
}

/// The text side of Qwen3-VL.
pub fn qwen3_vl_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let options = RopeOptions::new(decoder.head_dim);
    let assumed = Some([24, 20, 20]);
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::ByTurns)?;
    decoder.build()
}

fn qwen_windows(config: &Config, decoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    let (window, first) = (
        config.optional_size("sliding_window")?,
        config.index("max_window_layers")?,
    );
    let window = if config.flag("use_sliding_window")? {
        window
    } else {
        None
    };
    config.off("use_mrope", "text positions have one axis")?;
    decoder.mask_by_layer_types(window, |layer| match window {
        Some(_) if layer >= first => "sliding_attention",
        _ => "full_attention",
    })
}

/// SmolLM3: some layers do not rotate; those may have windows.
pub fn smollm3(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_biases(config)?;
    let layers = decoder.layers();
    // Left over from Qwen2's configuration, of which this one was made.
    config.ignore(&["max_window_layers"]);
    let interval = config.index("no_rope_layer_interval")?;
    let rotated = match config.flags("no_rope_layers")? {
        Some(rotated) if rotated.len() < layers => {
            return Err(config.invalid("no_rope_layers", format!("at least {layers} entries")));
        }
        Some(rotated) => rotated,
        None if interval == 0 => {
            return Err(config.invalid("no_rope_layer_interval", "at least 1"));
        }
        None => (1..=layers).map(|layer| layer % interval != 0).collect(),
    };
    let window = config.optional_size("sliding_window")?;
    let windows = config.flag("use_sliding_window")? && window.is_some();
    decoder.mask_by_layer_types(window, |layer| {
        if windows && !rotated[layer] {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    decoder.keep_rotation(|layer| rotated[layer]);
    decoder.build()
}

/// Arcee: a feed-forward network without gate.
pub fn arcee(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_biases(config)?;
    decoder.gated = false;
    decoder.build()
}

/// OLMo 2: norms on the sublayers' outputs; queries and keys normalised over all heads at once.
pub fn olmo2(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    set_olmo2(&mut decoder);
    decoder.build()
}

/// OLMo 3: windows in most layers, whose rotation is not scaled.
pub fn olmo3(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = Blocks::new(config, NormStyle::rms(config.positive("rms_norm_eps")?))?;
    decoder.activation = config.activation("hidden_act")?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    set_olmo2(&mut decoder);
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if (layer + 1) % 4 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    let full = RopeOptions {
        layer_type: Some("full_attention"),
        converted: true,
        ..RopeOptions::new(decoder.head_dim)
    };
    // The class gives the base beside the object to full attention only.
    let sliding = RopeOptions {
        layer_type: Some("sliding_attention"),
        scaled: false,
        theta_keys: &[],
        ..full
    };
    let [full, sliding] = [&full, &sliding].map(|options| Rope::from_config(config, options));
    let (full, sliding) = (full?, sliding?);
    let ropes = decoder.masks.iter().map(|mask| match mask {
        Mask::Causal => full.clone(),
        _ => sliding.clone(),
    });
    decoder.ropes = ropes.collect();
    decoder.build()
}

fn set_olmo2(decoder: &mut Blocks<'_>) {
    decoder.arrangement =
        Arrangement::post("post_attention_layernorm", "post_feedforward_layernorm");
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
}
