//! Grouped-query attention, DeepSeek-V3's experts.

use super::{from_first, ignore_layers_behind, shared, v3_experts, with_v3_experts};
use crate::build::NormStyle;
use crate::families::blocks::Blocks;
use crate::families::coordinates::turn_by_coordinates;
use crate::families::experts::{Experts, Shared, SharedTensors};
use crate::families::mixture::{mix, plain, sparse_layers};
use crate::rope::{Pairs, RopeOptions};
use crate::{Config, Described, NormSpan, Renormalize, RouterScore, SpecError};

/// GLM-4.5 and its successors: half of a head rotates.
pub fn glm4_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    if config.flag("use_qk_norm")? {
        decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    }
    decoder.rotate(&RopeOptions {
        partial: true,
        default_partial: 0.5,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    ignore_layers_behind(&mut decoder, config)?;
    decoder.build()
}

/// The text side of GLM-4.5V: positions of three numbers.
pub fn glm4v_moe_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    let options = RopeOptions {
        partial: true,
        default_partial: 0.5,
        ..RopeOptions::new(decoder.head_dim)
    };
    decoder.rotate(&options)?;
    let assumed = Some([8, 12, 12]);
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::Chunks)?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    decoder.build()
}

/// dots.llm1: Qwen3's attention.
pub fn dots1(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let window = config.optional_size("sliding_window")?;
    let first = config.index("max_window_layers")?;
    decoder.mask_by_layer_types(window, |layer| {
        if window.is_some() && layer >= first {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    decoder.build()
}

/// Solar Open: Llama's attention, experts in every layer.
pub fn solar_open(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("moe_intermediate_size")?;
    let mut decoder = Blocks::with_width(config, norm, inner)?;
    decoder.family = "deepseek";
    decoder.activation = config.activation("hidden_act")?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.rotate(&RopeOptions {
        partial: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    config.ignore(&["intermediate_size"]);
    config.neutral(
        "first_k_dense_replace",
        &[0.into()],
        "every layer has experts",
    )?;
    config.off("use_qk_norm", "queries and keys have no norms")?;
    let sparse = vec![true; decoder.layers()];
    with_v3_experts(config, &mut decoder, sparse)?;
    decoder.build()
}

/// K-EXAONE: windows with rotation, full layers without.
pub fn exaone_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    exaone_windows(config, &mut decoder)?;
    let first = config.index("first_k_dense_replace")?;
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer >= first)?;
    let mut experts = Experts {
        choice_bias: &["mlp.e_score_correction_bias"],
        ..v3_experts(config, "num_experts", decoder.activation)?
    };
    shared(&mut experts, config.heads("num_shared_experts")?);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.ignored.push("mtp.*");
    decoder.build()
}

/// `layer_types`, or `sliding_window_pattern` as a number or a string of `L` and `G`.
fn exaone_windows(config: &Config, decoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    let window = config.optional_size("sliding_window")?;
    let layers = decoder.layers();
    let pattern: Vec<bool> = match config.value("sliding_window_pattern").cloned() {
        _ if window.is_none() => vec![false; layers],
        None => vec![false; layers],
        Some(serde_json::Value::String(pattern)) => {
            let letters: Vec<char> = pattern.chars().collect();
            if letters.is_empty() {
                return Err(config.invalid("sliding_window_pattern", "letters `L` and `G`"));
            }
            (0..layers)
                .map(|layer| letters[layer % letters.len()] == 'L' && layer + 1 != layers)
                .collect()
        }
        Some(_) => {
            let interval = config.size("sliding_window_pattern")?;
            (1..=layers).map(|layer| layer % interval != 0).collect()
        }
    };
    decoder.mask_by_layer_types(window, |layer| {
        if pattern[layer] {
            "sliding_attention"
        } else {
            "full_attention"
        }
    })?;
    if window.is_some() {
        decoder.rotate_windows_only();
    }
    Ok(())
}

/// Hunyuan 3.
pub fn hy_v3(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.set_network_bias(config.flag("mlp_bias")?);
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    // How the sum of two parts is rounded in half precision.
    config.ignore(&["enable_moe_fp32_combine"]);
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        router: "mlp.router.gate",
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.expert_bias"],
        renormalize: Renormalize::Sum { plus: 1e-20 },
        scale: config.number("router_scaling_factor")?,
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    experts.shared = Some(Shared {
        tensors: SharedTensors::Plain([
            "mlp.shared_mlp.gate_proj",
            "mlp.shared_mlp.up_proj",
            "mlp.shared_mlp.down_proj",
        ]),
        // None is not none: the reference then takes the width of the dense layers.
        intermediate_size: match config.index("num_shared_experts")? {
            0 => decoder.intermediate_size,
            shared => inner * shared,
        },
        bias: decoder.up_bias,
        activation: decoder.activation,
        gate: None,
    });
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    ignore_layers_behind(&mut decoder, config)?;
    decoder.build()
}
