//! Llama and its variations.

use crate::build::NormStyle;
use crate::families::decoder::Decoder;
use crate::rope::RopeOptions;
use crate::{Config, ModelSpec, SpecError};

/// RMS norms, rotate-half rope in all layers, `hidden_act`.
fn plain(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let mut decoder = Decoder::new(config, NormStyle::rms(config.positive("rms_norm_eps")?))?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// `attention_bias` on all four projections, `mlp_bias`.
fn with_biases(config: &Config) -> Result<Decoder<'_>, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.output_bias = decoder.query_key_value_bias;
    decoder.feed_forward_bias = config.flag("mlp_bias")?;
    Ok(decoder)
}

/// Llama.
pub fn llama(config: &Config) -> Result<ModelSpec, SpecError> {
    with_biases(config)?.build()
}
