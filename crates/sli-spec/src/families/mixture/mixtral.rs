//! Mixtral and its kin: experts under `block_sparse_moe`.

use super::{mix, plain};
use crate::build::NormStyle;
use crate::families::blocks::Blocks;
use crate::families::experts::{ExpertTensors, Experts, ignore_training};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{Config, Described, Mask, NormSpan, Renormalize, RouterScore, SpecError};

/// Mixtral's experts, under `block_sparse_moe`.
const BLOCK_SPARSE: ExpertTensors = ExpertTensors::Each([
    "block_sparse_moe.experts.{}.w1.weight",
    "block_sparse_moe.experts.{}.w3.weight",
    "block_sparse_moe.experts.{}.w2.weight",
]);

const BLOCK_SPARSE_ROUTER: &str = "block_sparse_moe.gate";
/// Experts that a sparse mixer chooses for a token.
const SPARSE_MIXER_CHOICES: usize = 2;

/// Mixtral: the weights of the chosen experts sum to one.
pub fn mixtral(config: &Config) -> Result<Described, SpecError> {
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

pub(in crate::families) fn block_sparse(
    config: &Config,
    decoder: &Blocks<'_>,
) -> Result<Experts, SpecError> {
    Ok(Experts {
        tensors: BLOCK_SPARSE,
        router: BLOCK_SPARSE_ROUTER,
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            decoder.activation,
        )?
    })
}

/// Phi-3.5-MoE: layer norms, a sparse mixer.
pub fn phimoe(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("rms_norm_eps")?);
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
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
    // A sparse mixer chooses two, whatever the file says.
    ignore_training(config);
    config.ignore(&["num_experts_per_tok"]);
    let experts = config.heads("num_local_experts")?;
    if experts < SPARSE_MIXER_CHOICES {
        return Err(config.invalid("num_local_experts", "at least 2, as many as a token gets"));
    }
    let experts = Experts {
        tensors: BLOCK_SPARSE,
        router: BLOCK_SPARSE_ROUTER,
        score: RouterScore::SparseMixer {
            jitter: config.number("router_jitter_noise")?,
        },
        ..Experts::plain(
            experts,
            SPARSE_MIXER_CHOICES,
            decoder.intermediate_size,
            decoder.activation,
        )
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

/// MiniMax-M2.
pub fn minimax_m2(config: &Config) -> Result<Described, SpecError> {
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
