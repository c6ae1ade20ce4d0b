//! DeepSeek's experts (sigmoid scores, a bias for the choice, groups) and latent attention, with
//! the types that took over the one or the other.

mod compressed;
mod grouped;
mod indexed;
mod latent;
mod longcat;
mod note;
mod shared_latent;
mod uneven;

use crate::build::pattern;
use crate::families::blocks::Blocks;
use crate::families::experts::{Experts, SHARED_EXPERTS, Shared};
use crate::families::mixture::mix;
use crate::{Activation, Config, Renormalize, RouterScore, SpecError};

pub use self::compressed::deepseek_v4;
pub(super) use self::compressed::hyper;
pub use self::grouped::{dots1, exaone_moe, glm4_moe, glm4v_moe_text, hy_v3, solar_open};
pub(super) use self::indexed::own_indexers;
pub use self::indexed::{axk2, deepseek_v32, glm_moe_dsa, hy_v4};
pub(super) use self::latent::latent_decoder;
pub use self::latent::{
    axk1, deepseek_v2, deepseek_v3, glm4_moe_lite, minicpm3, mistral4, plm, youtu,
};
pub use self::longcat::longcat_flash;
pub use self::note::dots3_note_text;
pub use self::shared_latent::mistral_large4_text;
pub use self::uneven::{beam, laguna, mimo_v2_flash};
use crate::model_type::{ModelType, row};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("axk1", axk1),
    row("axk2", axk2),
    row("beam", beam),
    row("deepseek_v2", deepseek_v2),
    row("deepseek_v3", deepseek_v3),
    row("deepseek_v32", deepseek_v32),
    row("deepseek_v4", deepseek_v4),
    row("dots1", dots1),
    row("dots3_note_text", dots3_note_text),
    row("exaone_moe", exaone_moe),
    row("glm4_moe", glm4_moe),
    row("glm4_moe_lite", glm4_moe_lite),
    row("glm4v_moe_text", glm4v_moe_text),
    row("glm_moe_dsa", glm_moe_dsa),
    row("hy_v3", hy_v3),
    row("hy_v4", hy_v4),
    row("kimi_k2", deepseek_v3),
    row("laguna", laguna),
    row("longcat_flash", longcat_flash),
    row("mimo_v2_flash", mimo_v2_flash),
    row("minicpm3", minicpm3),
    row("mistral4", mistral4),
    row("mistral_large4_text", mistral_large4_text),
    row("solar_open", solar_open),
    row("plm", plm),
    row("youtu", youtu),
];

/// Sigmoid scores, a bias for the choice, groups by their two best, a shared network.
pub(super) fn v3_experts(
    config: &Config,
    count: &str,
    activation: Activation,
) -> Result<Experts, SpecError> {
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

pub(super) fn shared(experts: &mut Experts, count: usize) {
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
    decoder: &mut Blocks<'c>,
    sparse: Vec<bool>,
) -> Result<(), SpecError> {
    with_counted_experts(config, decoder, sparse, "n_routed_experts")
}

/// [`with_v3_experts`], as many as this key says.
fn with_counted_experts<'c>(
    config: &'c Config,
    decoder: &mut Blocks<'c>,
    sparse: Vec<bool>,
    count: &str,
) -> Result<(), SpecError> {
    let mut experts = v3_experts(config, count, decoder.activation)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    mix(decoder, experts, move |layer| sparse[layer]);
    Ok(())
}

fn from_first(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let first = config.index("first_k_dense_replace")?;
    config.neutral("moe_layer_freq", &[1.into()], "every layer has experts")?;
    Ok((0..layers).map(|layer| layer >= first).collect())
}

/// Layers for the prediction of several tokens, which files carry behind the last layer.
pub(super) fn ignore_layers_behind(
    decoder: &mut Blocks<'_>,
    config: &Config,
) -> Result<(), SpecError> {
    let layers = decoder.layers();
    let behind = match config.value("num_nextn_predict_layers") {
        Some(_) => config.index("num_nextn_predict_layers")?,
        None => 1,
    };
    for layer in layers..layers.saturating_add(behind.clamp(1, 16)) {
        decoder
            .ignored
            .push(pattern(format!("model.layers.{layer}.*")));
    }
    Ok(())
}
