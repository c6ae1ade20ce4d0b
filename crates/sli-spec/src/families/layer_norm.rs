//! Decoders of Llama's arrangement with layer norms in place of RMS norms.

use serde_json::Value;

use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::model_type::{ModelType, row};
use crate::rope::RopeOptions;
use crate::{Config, Described, Mask, NormSpan, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("jais2", jais2),
    row("nemotron", nemotron),
    row("olmo", olmo),
    row("persimmon", persimmon),
    row("stablelm", stablelm),
    row("starcoder2", starcoder2),
];

/// Rotate-half rope of the whole head in all layers, `hidden_act`.
fn plain(config: &Config, norm: NormStyle) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "layer_norm";
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// The first features of every head rotate.
fn partial(
    config: &Config,
    norm: NormStyle,
    default_partial: f64,
) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "layer_norm";
    decoder.rotate(&RopeOptions {
        partial: true,
        default_partial,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// OLMo: norms without parameters; queries, keys and values may be limited.
pub fn olmo(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle {
        weight: false,
        bias: false,
        ..NormStyle::layer(1e-5)
    };
    let mut decoder = plain(config, norm)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.clip = config.optional_positive("clip_qkv")?;
    decoder.build()
}

/// Jais 2: a feed-forward network without gate.
pub fn jais2(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut decoder = plain(config, norm)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.set_network_bias(config.flag("mlp_bias")?);
    decoder.gated = false;
    decoder.build()
}

/// StarCoder 2: one window for all layers, if any.
pub fn starcoder2(config: &Config) -> Result<Described, SpecError> {
    // What the published files choose and the class does not.
    config.neutral("mlp_type", &["default".into()], "the class has one network")?;
    config.neutral(
        "norm_type",
        &["layer_norm".into()],
        "the class has one norm",
    )?;
    let norm = NormStyle::layer(config.positive("norm_epsilon")?);
    let mut decoder = plain(config, norm)?;
    let bias = config.flag("use_bias")?;
    decoder.set_attention_bias(bias);
    decoder.set_network_bias(bias);
    decoder.gated = false;
    decoder.names = Names {
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        ..Names::USUAL
    };
    if let Some(window) = config.optional_size("sliding_window")? {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    decoder.build()
}

/// Nemotron: the norms' factors are stored less one; half of every head rotates.
pub fn nemotron(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle {
        plus_one: true,
        ..NormStyle::layer(config.positive("norm_eps")?)
    };
    let mut decoder = partial(config, norm, 0.5)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.set_network_bias(config.flag("mlp_bias")?);
    decoder.gated = false;
    // Published files repeat the size of a head.
    let head_dim = Value::from(decoder.head_dim);
    config.neutral("kv_channels", &[head_dim], "it must be the size of a head")?;
    // Eager attention looks ahead, the class's other one does not.
    decoder.may_look_ahead = false;
    decoder.build()
}

/// StableLM: a quarter of every head rotates; the sublayers may stand side by side; queries and keys
/// may have a norm of their own for each head.
pub fn stablelm(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut decoder = partial(config, norm, 0.25)?;
    decoder.query_key_value_bias = config.flag("use_qkv_bias")?;
    if config.flag("use_parallel_residual")? {
        decoder.arrangement = Arrangement::parallel("input_layernorm");
    }
    if config.flag("qk_layernorm")? {
        let norm = NormStyle {
            bias: false,
            ..norm
        };
        decoder.query_key_norm = Some((NormSpan::HeadOwnWeight, norm));
        decoder.names = Names {
            query_norm: "self_attn.q_layernorm.norms.{}",
            key_norm: "self_attn.k_layernorm.norms.{}",
            ..Names::USUAL
        };
    }
    // Eager attention looks ahead, the class's other one does not.
    decoder.may_look_ahead = false;
    decoder.build()
}

/// Persimmon: query, key and value of each head side by side in one tensor.
pub fn persimmon(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut decoder = partial(config, norm, 0.5)?;
    decoder.set_attention_bias(true);
    decoder.set_network_bias(true);
    decoder.gated = false;
    decoder.names = Names {
        query_norm: "self_attn.q_layernorm",
        key_norm: "self_attn.k_layernorm",
        projections: Projections::per_head("self_attn.query_key_value", decoder.heads),
        output: "self_attn.dense",
        up: "mlp.dense_h_to_4h",
        down: "mlp.dense_4h_to_h",
        final_norm: "final_layernorm",
        ..Names::USUAL
    };
    if config.flag("qk_layernorm")? {
        decoder.query_key_norm = Some((NormSpan::Head, norm));
    }
    decoder.build()
}
