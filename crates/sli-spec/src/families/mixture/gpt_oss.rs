//! Experts stored transposed: Aria, gpt-oss with its limited activation.

use super::{mix, plain};
use crate::build::NormStyle;
use crate::families::blocks::Blocks;
use crate::families::experts::{ExpertTensors, Experts, SHARED_EXPERTS, Shared};
use crate::rope::{RopeOptions, RopeScaling};
use crate::{Activation, ClampedGate, Config, Described, Mask, RouterScore, SpecError};

/// Aria's language model.
pub fn aria_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    let experts = Experts {
        tensors: ExpertTensors::Transposed {
            names: ["mlp.experts.fc1.weight", "mlp.experts.fc2.weight"],
            interleaved: false,
        },
        router: "mlp.router",
        score: RouterScore::SoftmaxOfTopK,
        shared: Some(Shared {
            tensors: SHARED_EXPERTS,
            intermediate_size: decoder.intermediate_size
                * config.heads("moe_num_shared_experts")?,
            bias: config.flag("mlp_bias")?,
            activation: decoder.activation,
            gate: None,
        }),
        // Whatever `hidden_act` says.
        ..Experts::new(
            config,
            ["moe_num_experts", "moe_topk"],
            decoder.intermediate_size,
            Activation::Silu,
        )?
    };
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Experts with addends, gate and `up` fused, a limited activation (gpt-oss).
fn clamped_experts(
    config: &Config,
    decoder: &Blocks<'_>,
    interleaved: bool,
) -> Result<Experts, SpecError> {
    Ok(Experts {
        tensors: ExpertTensors::Transposed {
            names: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
            interleaved,
        },
        bias: true,
        clamped: Some(ClampedGate::Sharp {
            limit: config.positive("swiglu_limit")?,
            sharpness: config.number("swiglu_alpha")?,
            addend: 1.0,
        }),
        router: "mlp.router",
        router_bias: true,
        score: RouterScore::SoftmaxOfTopK,
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            Activation::Silu,
        )?
    })
}

/// The rotation of gpt-oss, which has an extension by default.
fn gpt_oss_rope(
    config: &Config,
    decoder: &mut Blocks<'_>,
    interleaved: bool,
) -> Result<(), SpecError> {
    let options = RopeOptions {
        interleaved,
        ..RopeOptions::new(decoder.head_dim)
    };
    decoder.rotate(&options)?;
    if config.nested("rope_scaling")?.is_none() && config.nested("rope_parameters")?.is_none() {
        for rope in decoder.ropes.iter_mut().flatten() {
            rope.scaling = RopeScaling::Yarn {
                factor: 32.0,
                original: 4096.0,
                attention_factor: 0.1 * 32f64.ln() + 1.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                truncate: false,
            };
        }
    }
    Ok(())
}

/// gpt-oss.
pub fn gpt_oss(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "mixture";
    config.ignore(&["hidden_act", "initial_context_length"]);
    gpt_oss_rope(config, &mut decoder, false)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if layer % 2 == 0 {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    config.ignore(&["experts_per_token"]);
    let experts = clamped_experts(config, &decoder, true)?;
    decoder.sinks = Some("self_attn.sinks");
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// OpenAI's privacy filter: gpt-oss that looks both ways.
pub fn openai_privacy_filter(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "mixture";
    config.ignore(&["hidden_act", "initial_context_length", "classifier_dropout"]);
    gpt_oss_rope(config, &mut decoder, true)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder
        .masks
        .fill(Mask::Window(config.size("sliding_window")?));
    let experts = clamped_experts(config, &decoder, false)?;
    decoder.stack = "encoder";
    decoder.sinks = Some("self_attn.sinks");
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}
