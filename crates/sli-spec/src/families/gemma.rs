//! Gemma: RMS norms stored less one, embeddings times the root of their width.

use crate::build::{NormStyle, layer_types};
use crate::families::blocks::{Arrangement, Blocks};
use crate::model_type::{ModelType, row};
use crate::rope::{Rope, RopeOptions};
use crate::{Activation, Config, Described, Mask, NormSpan, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("gemma", gemma),
    row("gemma2", gemma2),
    row("gemma3_text", gemma3),
    row("vaultgemma", vaultgemma),
];

/// What all of them share.
fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let norm = NormStyle {
        plus_one: true,
        ..NormStyle::rms(config.positive("rms_norm_eps")?)
    };
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "gemma";
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    Ok(decoder)
}

fn causal_only(config: &Config) -> Result<(), SpecError> {
    config.off(
        "use_bidirectional_attention",
        "attention backends of the reference disagree about it",
    )
}

/// Gemma: the first one.
pub fn gemma(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    causal_only(config)?;
    // Published files carry this one too, which the reference does not read.
    config.ignore(&["hidden_activation"]);
    decoder.activation = match config.activation("hidden_act")? {
        // What the published files say, and do not mean.
        Activation::Gelu => Activation::GeluTanh,
        other => other,
    };
    decoder.build()
}

/// Query scale, cap of the logits and activation of the second generation.
pub(super) fn second(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = plain(config)?;
    // Published files carry these beside `hidden_activation` and `sliding_window`, which are read.
    config.ignore(&["hidden_act", "sliding_window_size"]);
    decoder.activation = config.activation("hidden_activation")?;
    decoder.attention_scale = config.positive("query_pre_attn_scalar")?.powf(-0.5);
    decoder.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    Ok(decoder)
}

const SANDWICH: Arrangement = Arrangement::sandwich(
    ["input_layernorm", "post_attention_layernorm"],
    ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
);

pub(super) fn alternating(config: &Config, decoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    decoder.attention_softcap = config.optional_positive("attn_logit_softcapping")?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if layer % 2 == 0 {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })
}

/// Gemma 2: norms around each sublayer, soft caps, every other layer with a window.
pub fn gemma2(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = second(config)?;
    causal_only(config)?;
    decoder.arrangement = SANDWICH;
    alternating(config, &mut decoder)?;
    decoder.build()
}

/// VaultGemma: Gemma 2 without the norms behind the sublayers.
pub fn vaultgemma(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = second(config)?;
    causal_only(config)?;
    decoder.arrangement = Arrangement::pre("input_layernorm", "pre_feedforward_layernorm");
    alternating(config, &mut decoder)?;
    decoder.build()
}

/// Gemma 3's layers without masks, and the kinds of them.
pub(super) fn third(config: &Config) -> Result<(Blocks<'_>, Vec<String>), SpecError> {
    let mut decoder = second(config)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    // The reference reads the cap of the attention's logits and does not apply it.
    config.ignore(&["_sliding_window_pattern", "attn_logit_softcapping"]);
    let interval = config.optional_size("sliding_window_pattern")?.unwrap_or(6);
    let kinds = layer_types(config, decoder.layers(), |layer| {
        if (layer + 1) % interval == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    decoder.ropes = rotations(config, decoder.head_dim, &kinds)?;
    Ok((decoder, kinds))
}

/// Gemma 3: norms of query and key heads, a rotation for each kind of layer; EmbeddingGemma sees
/// both ways.
pub fn gemma3(config: &Config) -> Result<Described, SpecError> {
    let (mut decoder, kinds) = third(config)?;
    decoder.arrangement = SANDWICH;
    let both_ways = config.flag("use_bidirectional_attention")?;
    let window = both_ways_window(config, both_ways)?;
    decoder.mask_by_kinds(&kinds, window)?;
    if both_ways {
        for mask in &mut decoder.masks {
            *mask = match *mask {
                // The reference halves the window, which reaches both ways.
                Mask::CausalWindow(window) => Mask::Window(window / 2),
                _ => Mask::Full,
            };
        }
    }
    decoder.build()
}

/// The window; where it reaches both ways it is halved, and may be 0.
pub(super) fn both_ways_window(
    config: &Config,
    both_ways: bool,
) -> Result<Option<usize>, SpecError> {
    if both_ways {
        config.optional_index("sliding_window")
    } else {
        config.optional_size("sliding_window")
    }
}

/// The rotation of every layer by its kind; the older keys scale the full layers only.
pub(super) fn rotations(
    config: &Config,
    head_dim: usize,
    kinds: &[String],
) -> Result<Vec<Option<Rope>>, SpecError> {
    let rotation = |kind: &'static str, theta_keys: &'static [&'static str], scaled: bool| {
        Rope::from_config(
            config,
            &RopeOptions {
                layer_type: Some(kind),
                converted: true,
                theta_keys,
                scaled,
                ..RopeOptions::new(head_dim)
            },
        )
    };
    let full = rotation("full_attention", &["rope_theta"], true)?;
    let sliding = rotation("sliding_attention", &["rope_local_base_freq"], false)?;
    Ok(kinds
        .iter()
        .map(|kind| match kind.as_str() {
            "sliding_attention" => sliding.clone(),
            _ => full.clone(),
        })
        .collect())
}
