//! Models in which some layers go along the record with a state and others attend.

mod convolutions;
mod delta;
mod griffin;
mod kimi;
mod lightning;
mod nemotron;
mod qwen4;
mod scans;
mod zamba;

use std::rc::Rc;

use crate::build::{NormStyle, Stored, layer_types};
use crate::families::blocks::Blocks;
use crate::{Config, Source, SpecError};

pub use self::convolutions::{lfm2, lfm2_moe, lfm3};
pub use self::delta::{olmo_hybrid, qwen3_5_moe_text, qwen3_5_text, qwen3_next};
pub use self::griffin::recurrent_gemma;
pub use self::kimi::{bailing_hybrid, glm5_next_text, kimi_linear};
pub use self::lightning::minimax;
pub use self::nemotron::nemotron_h;
pub use self::qwen4::qwen4_exp_text;
pub use self::scans::{bamba, falcon_h1, granitemoehybrid, jamba};
pub use self::zamba::{zamba, zamba2};
use crate::model_type::{ModelType, limited, row};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("bailing_hybrid", bailing_hybrid),
    row("bamba", bamba),
    row("falcon_h1", falcon_h1),
    row("glm5_next_text", glm5_next_text),
    row("granitemoehybrid", granitemoehybrid),
    row("jamba", jamba),
    row("kimi_linear", kimi_linear),
    row("lfm2", lfm2),
    row("lfm2_moe", lfm2_moe),
    row("lfm3", lfm3),
    row("minimax", minimax),
    row("nemotron_h", nemotron_h),
    row("olmo_hybrid", olmo_hybrid),
    limited(
        row("qwen3_5_moe_text", qwen3_5_moe_text),
        "text only, where the three position axes are equal",
    ),
    limited(
        row("qwen3_5_text", qwen3_5_text),
        "text only, where the three position axes are equal",
    ),
    row("qwen3_next", qwen3_next),
    limited(
        row("qwen4_exp_text", qwen4_exp_text),
        "text only, where the three position axes are equal",
    ),
    row("recurrent_gemma", recurrent_gemma),
    row("zamba", zamba),
    row("zamba2", zamba2),
];

/// Which layers have a state, by `layer_types`; the others attend to all earlier tokens.
fn recurrent_layers(
    config: &Config,
    layers: usize,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, SpecError> {
    let kinds = layer_types(config, layers, |layer| {
        if otherwise(layer) {
            "linear_attention"
        } else {
            "full_attention"
        }
    })?;
    let is_recurrent = |kind: &String| match kind.as_str() {
        // Older files say `mamba` and `attention`.
        "linear_attention" | "mamba" => Ok(true),
        "full_attention" | "attention" => Ok(false),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            Err(config.unsupported("layer_types", reason))
        }
    };
    kinds.iter().map(is_recurrent).collect()
}

/// RMS norms whose factor is stored less one (`plus_one`) or as it is, an activation.
fn decoder(config: &Config, plus_one: bool, inner: usize) -> Result<Blocks<'_>, SpecError> {
    let norm = NormStyle {
        plus_one,
        ..NormStyle::rms(config.positive("rms_norm_eps")?)
    };
    let mut decoder = Blocks::with_width(config, norm, inner)?;
    decoder.family = "hybrid";
    // In generation only.
    config.ignore(&["num_logits_to_keep"]);
    let key = ["hidden_act", "hidden_activation"];
    let key = key[usize::from(config.declares(key[1]))];
    decoder.activation = config.activation(key)?;
    decoder.may_look_ahead = false;
    Ok(decoder)
}

/// Names of which a part may be spelled otherwise, and parts of fused tensors.
fn spelled(parts: &'static [(&'static str, &'static str)]) -> Stored {
    Rc::new(move |name: &str| {
        let mut spellings = vec![name.to_owned()];
        for &(part, other) in parts {
            let others = spellings.clone().into_iter();
            let others = others.filter(|name| name.contains(part));
            spellings.extend(
                others
                    .map(|name| name.replace(part, other))
                    .collect::<Vec<_>>(),
            );
        }
        Source::one_of(spellings.into_iter().map(Source::tensor).collect())
    })
}
