//! Llama and its variations: what each type changes of the plain [`Decoder`].

use crate::build::NormStyle;
use crate::families::decoder::{Arrangement, Decoder};
use crate::rope::RopeOptions;
use crate::{Config, Mask, ModelSpec, NormSpan, SpecError};

/// RMS norms, rotate-half rope in all layers, `hidden_act`.
fn plain(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let mut decoder = Decoder::new(config, NormStyle::rms(config.positive("rms_norm_eps")?))?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// `attention_bias` on all four projections.
fn with_attention_bias(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.output_bias = decoder.query_key_value_bias;
    Ok(decoder)
}

/// `attention_bias` and `mlp_bias`.
fn with_biases(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.feed_forward_bias = config.flag("mlp_bias")?;
    Ok(decoder)
}

/// Llama.
pub fn llama(config: &Config) -> Result<ModelSpec, SpecError> {
    with_biases(config)?.build()
}

/// Mistral: one window for all layers, if any.
pub fn mistral(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    if let Some(window) = config.optional_size("sliding_window")? {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    decoder.build()
}

/// Qwen2: addends on queries, keys and values; windows from `max_window_layers` on.
pub fn qwen2(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = true;
    qwen_windows(config, &mut decoder)?;
    decoder.build()
}

/// Qwen3: a norm of each query and key head.
pub fn qwen3(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    qwen_windows(config, &mut decoder)?;
    decoder.build()
}

fn qwen_windows(config: &Config, decoder: &mut Decoder<'_>) -> Result<(), SpecError> {
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
pub fn smollm3(config: &Config) -> Result<ModelSpec, SpecError> {
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
pub fn arcee(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = with_biases(config)?;
    decoder.gated = false;
    decoder.build()
}

/// Granite: four multipliers.
pub fn granite(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = with_biases(config)?;
    decoder.embedding_scale = config.number("embedding_multiplier")?;
    decoder.residual_scale = config.number("residual_multiplier")?;
    decoder.attention_scale = config.number("attention_multiplier")?;
    decoder.logit_scale = 1.0 / config.positive("logits_scaling")?;
    decoder.build()
}

/// OLMo 2: norms on the sublayers' outputs; queries and keys normalised over all heads at once.
pub fn olmo2(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = with_attention_bias(config)?;
    decoder.arrangement = Arrangement::Post {
        attention: "post_attention_layernorm",
        feed_forward: "post_feedforward_layernorm",
    };
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    decoder.build()
}
