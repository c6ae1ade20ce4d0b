//! Mixtures of experts on Llama-like attention.

mod dbrx;
mod gpt_oss;
mod granite;
mod hunyuan;
mod jetmoe;
mod llama4;
mod minimax_m3;
mod mixtral;
mod qwen;
mod windows;

use crate::build::NormStyle;
use crate::families::blocks::{Blocks, MixerOf};
use crate::families::experts::Experts;
use crate::rope::{Rope, RopeOptions};
use crate::{Config, SpecError};

pub use self::dbrx::dbrx;
pub use self::gpt_oss::{aria_text, gpt_oss, openai_privacy_filter};
pub(super) use self::granite::{granite, granite_experts, granite_shared};
pub use self::granite::{granitemoe, granitemoe_swa, granitemoeshared};
pub use self::hunyuan::hunyuan_v1_moe;
pub use self::jetmoe::jetmoe;
pub use self::llama4::{ernie4_5_moe, llama4_text};
pub use self::minimax_m3::minimax_m3_vl_text;
pub(super) use self::mixtral::block_sparse;
pub use self::mixtral::{minimax_m2, mixtral, phimoe};
pub use self::qwen::{flex_olmo, mellum, olmoe, qwen2_moe, qwen3_moe, qwen3_vl_moe_text};
pub(super) use self::qwen::{qwen_experts, qwen_layers, shared_expert};
pub use self::windows::{afmoe, flint, kolibri1};
use crate::model_type::{ModelType, row};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("afmoe", afmoe),
    row("aria_text", aria_text),
    row("dbrx", dbrx),
    row("ernie4_5_moe", ernie4_5_moe),
    row("flex_olmo", flex_olmo),
    row("flint", flint),
    row("gpt_oss", gpt_oss),
    row("granitemoe", granitemoe),
    row("granitemoe_swa", granitemoe_swa),
    row("granitemoeshared", granitemoeshared),
    row("hunyuan_v1_moe", hunyuan_v1_moe),
    row("jetmoe", jetmoe),
    row("kolibri1", kolibri1),
    row("llama4_text", llama4_text),
    row("mellum", mellum),
    row("minimax_m2", minimax_m2),
    row("minimax_m3_vl_text", minimax_m3_vl_text),
    row("mixtral", mixtral),
    row("olmoe", olmoe),
    row("openai_privacy_filter", openai_privacy_filter),
    row("phimoe", phimoe),
    row("qwen2_moe", qwen2_moe),
    row("qwen3_moe", qwen3_moe),
    row("qwen3_vl_moe_text", qwen3_vl_moe_text),
];

/// RMS norms, `hidden_act`, no rotation yet.
pub(super) fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// Experts instead of the feed-forward network in some layers.
pub(super) fn mix<'c>(
    decoder: &mut Blocks<'c>,
    experts: Experts,
    sparse: impl Fn(usize) -> bool + 'c,
) {
    let hidden_size = decoder.hidden_size;
    decoder.feed_forward_of = MixerOf::new(move |_, leaves, layer| {
        sparse(layer).then(|| experts.build(leaves, hidden_size))
    });
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
    decoder: &mut Blocks<'_>,
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
