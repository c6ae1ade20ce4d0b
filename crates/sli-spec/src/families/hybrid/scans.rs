//! Scans of Mamba and Mamba-2 beside attention: Jamba, Bamba, Granite 4, Falcon H1.

use std::rc::Rc;

use super::{decoder, recurrent_layers};
use crate::build::Leaves;
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names};
use crate::families::experts::{ExpertTensors, Experts, ignore_training};
use crate::families::mamba::{
    Dual, Selected, Selective, expanded, time_step_limits, time_step_rank,
};
use crate::families::mixture::{granite, granite_experts, granite_shared, mix};
use crate::rope::RopeOptions;
use crate::{Branch, Config, Described, FeedForward, Gain, Identity, Mixer, SpecError, Step};

/// Names that Jamba, Bamba and Falcon H1 have in common.
const FEED_FORWARD: Names = Names {
    gate: "feed_forward.gate_proj",
    up: "feed_forward.up_proj",
    down: "feed_forward.down_proj",
    final_norm: "final_layernorm",
    ..Names::USUAL
};

/// Norms of theirs.
const PRE_NORMS: Arrangement = Arrangement::pre("input_layernorm", "pre_ff_layernorm");

/// A scan under `mamba` in some layers.
fn scan_in(
    decoder: &mut Blocks<'_>,
    recurrent: Vec<bool>,
    scan: impl Fn(&mut Leaves) -> Mixer + 'static,
) {
    decoder.attention_of =
        MixerOf::new(move |_, leaves, layer| recurrent[layer].then(|| scan(leaves)));
}

/// Jamba: Mamba's scan with norms of what is selected, attention without positions, experts in some layers.
pub fn jamba(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = decoder(config, false, config.size("intermediate_size")?)?;
    decoder.names = FEED_FORWARD;
    decoder.arrangement = PRE_NORMS;
    config.ignore(&["use_associative_scan", "use_mamba_kernels", "use_mambapy"]);
    let hidden = decoder.hidden_size;
    let scan = Selective {
        hidden,
        channels: expanded(config, "mamba_expand", hidden)?,
        state: config.size("mamba_d_state")?,
        rank: time_step_rank(config, "mamba_dt_rank", hidden)?,
        kernel: config.size("mamba_d_conv")?,
        bias: config.flag("mamba_proj_bias")?,
        convolution_bias: config.flag("mamba_conv_bias")?,
        activation: decoder.activation,
        norms: Selected::Named(decoder.norm, ["dt_layernorm", "b_layernorm", "c_layernorm"]),
    };
    let layers = decoder.layers();
    let attends = periodic(config, layers, "attn_layer_period", "attn_layer_offset")?;
    let recurrent = attends.iter().map(|attends| !attends).collect();
    scan_in(&mut decoder, recurrent, move |leaves| {
        scan.build(leaves, "mamba")
    });
    let experts = Experts {
        tensors: ExpertTensors::Each([
            "feed_forward.experts.{}.gate_proj.weight",
            "feed_forward.experts.{}.up_proj.weight",
            "feed_forward.experts.{}.down_proj.weight",
        ]),
        router: "feed_forward.router",
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            decoder.intermediate_size,
            decoder.activation,
        )?
    };
    let sparse = periodic(config, layers, "expert_layer_period", "expert_layer_offset")?;
    let several = experts.count > 1;
    mix(&mut decoder, experts, move |layer| several && sparse[layer]);
    decoder.build()
}

/// Every so many layers, from one on.
fn periodic(
    config: &Config,
    layers: usize,
    period: &str,
    offset: &str,
) -> Result<Vec<bool>, SpecError> {
    let (every, first) = (config.size(period)?, config.index(offset)?);
    if first >= every {
        return Err(config.invalid(offset, format!("less than `{period}`")));
    }
    Ok((0..layers).map(|layer| layer % every == first).collect())
}

/// Mamba-2's scan by the keys of Bamba, of so many features.
fn dual(config: &Config, decoder: &Blocks<'_>, features: usize) -> Result<Dual, SpecError> {
    let heads = config.heads("mamba_n_heads")?;
    let head_dim = match config.value("mamba_d_head") {
        Some(value) if value == "auto" => features / heads,
        _ => config.heads("mamba_d_head")?,
    };
    config.size("mamba_chunk_size")?;
    let scan = Dual {
        hidden: decoder.hidden_size,
        heads,
        head_dim,
        state: config.size("mamba_d_state")?,
        groups: config.heads("mamba_n_groups")?,
        kernel: config.size("mamba_d_conv")?,
        input_bias: config.flag("mamba_proj_bias")?,
        output_bias: config.flag("mamba_proj_bias")?,
        convolution_bias: config.flag("mamba_conv_bias")?,
        activation: decoder.activation,
        limits: time_step_limits(config, "time_step_limit")?,
        norm: Some((decoder.norm, false)),
        multipliers: None,
    };
    scan.check(config, ["mamba_n_heads", "mamba_n_groups"], features)?;
    Ok(scan)
}

/// Bamba: Mamba-2's scan beside attention of which half of a head turns.
pub fn bamba(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = decoder(config, false, config.size("intermediate_size")?)?;
    decoder.names = FEED_FORWARD;
    decoder.arrangement = PRE_NORMS;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.set_network_bias(config.flag("mlp_bias")?);
    // The class puts its own in the place of the file's.
    config.ignore(&["partial_rotary_factor", "z_loss_coefficient"]);
    decoder.rotate(&RopeOptions {
        partial: true,
        partial_keys: &[],
        default_partial: 0.5,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let attends = config.numbers("attn_layer_indices")?.unwrap_or_default();
    let layers = 0..decoder.layers();
    let recurrent = layers
        .map(|layer| !attends.contains(&(layer as f64)))
        .collect();
    let features = expanded(config, "mamba_expand", decoder.hidden_size)?;
    let scan = dual(config, &decoder, features)?;
    scan_in(&mut decoder, recurrent, move |leaves| {
        scan.build(leaves, "mamba")
    });
    decoder.build()
}

/// Granite 4: Granite's factors, Mamba-2's scan, a network beside the experts or alone.
pub fn granitemoehybrid(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = granite(config)?;
    decoder.family = "hybrid";
    decoder.may_look_ahead = false;
    match config.optional_text("position_embedding_type")?.as_deref() {
        Some("rope") => decoder.rotate(&RopeOptions::new(decoder.head_dim))?,
        _ => config.ignore(&["rope_parameters", "rope_theta", "rope_scaling"]),
    }
    let recurrent = recurrent_layers(config, decoder.layers(), |_| true)?;
    let features = expanded(config, "mamba_expand", decoder.hidden_size)?;
    let scan = dual(config, &decoder, features)?;
    scan_in(&mut decoder, recurrent, move |leaves| {
        scan.build(leaves, "mamba")
    });
    if config.optional_index("num_local_experts")?.unwrap_or(0) == 0 {
        config.ignore(&["num_experts_per_tok", "intermediate_size"]);
        ignore_training(config);
        decoder.intermediate_size = config.size("shared_intermediate_size")?;
        decoder.names.gate_up = Some("shared_mlp.input_linear");
        decoder.names.down = "shared_mlp.output_linear";
        return decoder.build();
    }
    let mut experts = granite_experts(config, &decoder)?;
    granite_shared(config, &mut experts)?;
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Falcon H1: Mamba-2's scan and attention side by side in every layer, with factors on everything.
pub fn falcon_h1(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = decoder(config, false, config.size("intermediate_size")?)?;
    decoder.names = FEED_FORWARD;
    decoder.arrangement = PRE_NORMS;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.set_network_bias(config.flag("mlp_bias")?);
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let factor = |key: &str| Ok::<f64, SpecError>(config.optional_number(key)?.unwrap_or(1.0));
    let factors = |key: &str, count: usize| match config.numbers(key)? {
        Some(factors) if factors.len() == count => Ok(factors),
        None => Ok(vec![1.0; count]),
        Some(_) => Err(config.invalid(key, format!("{count} numbers"))),
    };
    decoder.embedding_scale = factor("embedding_multiplier")?;
    decoder.logit_scale = factor("lm_head_multiplier")?;
    decoder.attention_scale *= factor("key_multiplier")?;
    let features = match config.optional_size("mamba_d_ssm")? {
        Some(features) => {
            config.ignore(&["mamba_expand"]);
            features
        }
        None => expanded(config, "mamba_expand", decoder.hidden_size)?,
    };
    let before_gate = config.flag("mamba_norm_before_gate")?;
    let normed = config.flag("mamba_rms_norm")?;
    let multipliers = factors("ssm_multipliers", 5)?;
    let scan = Dual {
        output_bias: config.flag("projectors_bias")?,
        norm: normed.then_some((decoder.norm, before_gate)),
        multipliers: <[f64; 5]>::try_from(multipliers).ok(),
        ..dual(config, &decoder, features)?
    };
    let [scan_in, scan_out] = [factor("ssm_in_multiplier")?, factor("ssm_out_multiplier")?];
    let attention = [
        factor("attention_in_multiplier")?,
        factor("attention_out_multiplier")?,
    ];
    let network = factors("mlp_multipliers", 2)?;
    decoder.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let norm = leaves.norm("input_layernorm", own.hidden_size, own.norm);
        let weighed = |mixer, [scale, gain]: [f64; 2]| Branch {
            scale,
            gain: Gain::Constant(gain),
            ..Branch::plain(mixer)
        };
        let scan = weighed(scan.build(leaves, "mamba"), [scan_in, scan_out]);
        let attention = weighed(own.attention(leaves, layer), attention);
        let both = Step {
            pre: Some(norm),
            branches: vec![scan, attention],
            ..Step::residual(Mixer::Identity(Identity))
        };
        let norm = leaves.norm("pre_ff_layernorm", own.hidden_size, own.norm);
        let mixer = FeedForward {
            gate_scale: network[0],
            ..own.network(leaves)
        };
        let network = weighed(Mixer::FeedForward(mixer), [1.0, network[1]]);
        let network = Step {
            pre: Some(norm),
            branches: vec![network],
            ..Step::residual(Mixer::Identity(Identity))
        };
        vec![both, network]
    }));
    decoder.build()
}
