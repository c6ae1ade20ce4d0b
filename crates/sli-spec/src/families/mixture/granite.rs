//! Granite: experts stacked in one tensor, scaled residuals.

use super::{mix, plain};
use crate::families::blocks::{Blocks, Residual};
use crate::families::experts::{ExpertTensors, Experts, Shared, SharedTensors};
use crate::rope::RopeOptions;
use crate::{Config, Described, RouterScore, SpecError};

/// Granite's multipliers.
pub(in crate::families) fn granite(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.embedding_scale = config.number("embedding_multiplier")?;
    decoder.residual = Residual::Scaled(config.number("residual_multiplier")?);
    decoder.attention_scale = config.number("attention_multiplier")?;
    decoder.logit_scale = 1.0 / config.positive("logits_scaling")?;
    Ok(decoder)
}

/// A softmax over the chosen logits.
fn stacked_experts(
    config: &Config,
    decoder: &Blocks<'_>,
    stacked: [&'static str; 2],
    router: &'static str,
) -> Result<Experts, SpecError> {
    Ok(Experts {
        tensors: ExpertTensors::Stacked(stacked),
        router,
        score: RouterScore::SoftmaxOfTopK,
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            decoder.activation,
        )?
    })
}

/// [`stacked_experts`] under their usual names.
pub(in crate::families) fn granite_experts(
    config: &Config,
    decoder: &Blocks<'_>,
) -> Result<Experts, SpecError> {
    stacked_experts(
        config,
        decoder,
        GRANITE_EXPERTS,
        "block_sparse_moe.router.layer",
    )
}

const GRANITE_EXPERTS: [&str; 2] = [
    "block_sparse_moe.input_linear.weight",
    "block_sparse_moe.output_linear.weight",
];

pub(in crate::families) fn granite_shared(
    config: &Config,
    experts: &mut Experts,
) -> Result<(), SpecError> {
    let size = config.index("shared_intermediate_size")?;
    if size > 0 {
        experts.shared = Some(Shared {
            tensors: SharedTensors::Fused(["shared_mlp.input_linear", "shared_mlp.output_linear"]),
            intermediate_size: size,
            bias: false,
            activation: experts.activation,
            gate: None,
        });
    }
    Ok(())
}

/// Granite 3 MoE.
pub fn granitemoe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = granite(config)?;
    let experts = granite_experts(config, &decoder)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Granite MoE with an always-on network.
pub fn granitemoeshared(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = granite(config)?;
    let mut experts = granite_experts(config, &decoder)?;
    granite_shared(config, &mut experts)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Granite MoE with windows, sinks and a base of the rotation for each layer.
pub fn granitemoe_swa(config: &Config) -> Result<Described, SpecError> {
    const EXPERTS: [&str; 2] = [
        "block_sparse_moe.experts.gate_up_proj",
        "block_sparse_moe.experts.down_proj",
    ];
    let mut decoder = granite(config)?;
    let mut experts = stacked_experts(config, &decoder, EXPERTS, "block_sparse_moe.router")?;
    granite_shared(config, &mut experts)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    if let Some(bases) = config.numbers("layer_rope_theta")? {
        if bases.len() != decoder.layers() {
            let expected = format!("one entry for each of {} layers", decoder.layers());
            return Err(config.invalid("layer_rope_theta", expected));
        }
        for (rope, base) in decoder.ropes.iter_mut().zip(bases) {
            if base == 0.0 {
                *rope = None;
            } else if let Some(rope) = rope {
                rope.theta = base;
            }
        }
    }
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, |layer| {
        if layer % 4 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    decoder.sinks = Some("self_attn.sinks");
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}
