//! Granite and its variations: Llama with multipliers.

use crate::families::blocks::{Arrangement, Blocks, Residual};
use crate::families::llama;
use crate::model_type::{ModelType, row};
use crate::{Config, Described, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("granite", granite),
    row("granite_docling_text", granite),
    row("granite_swa", granite_swa),
    row("hyperclovax", hyperclovax),
];

/// Granite: four multipliers.
pub fn granite(config: &Config) -> Result<Described, SpecError> {
    multiplied(config)?.build()
}

fn multiplied(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = llama::with_biases(config)?;
    decoder.embedding_scale = config.number("embedding_multiplier")?;
    decoder.residual = Residual::Scaled(config.number("residual_multiplier")?);
    decoder.attention_scale = config.number("attention_multiplier")?;
    decoder.logit_scale = 1.0 / config.positive("logits_scaling")?;
    Ok(decoder)
}

/// Granite SWA: windows in most layers, a learned logit per head in the denominator, a base of the
/// rotation for every layer (0: none).
pub fn granite_swa(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = multiplied(config)?;
    decoder.sinks = Some("self_attn.sinks");
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if layer % 4 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    if let Some(bases) = config.numbers("layer_rope_theta")? {
        let usable = |&base: &f64| base.is_finite() && base >= 0.0;
        if bases.len() < decoder.layers() || !bases.iter().all(usable) {
            let expected = format!("{} numbers of at least 0", decoder.layers());
            return Err(config.invalid("layer_rope_theta", expected));
        }
        for (rope, &base) in decoder.ropes.iter_mut().zip(&bases) {
            *rope = rope.take().filter(|_| base != 0.0);
            if let Some(rope) = rope {
                rope.theta = base;
            }
        }
    }
    decoder.build()
}

/// HyperCLOVA X: norms on the sublayers' outputs too; logits are multiplied, not divided.
pub fn hyperclovax(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = llama::with_biases(config)?;
    decoder.embedding_scale = config.number("embedding_multiplier")?;
    decoder.residual = Residual::Scaled(config.number("residual_multiplier")?);
    if let Some(scale) = config.optional_number("attention_multiplier")? {
        decoder.attention_scale = scale;
    }
    decoder.logit_scale = config.number("logits_scaling")?;
    if config.flag("use_post_norm")? {
        decoder.arrangement = Arrangement::sandwich(
            ["input_layernorm", "post_norm1"],
            ["post_attention_layernorm", "post_norm2"],
        );
    }
    decoder.build()
}
