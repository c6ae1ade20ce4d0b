//! Layers of experts at intervals: ERNIE 4.5 and Llama 4.

use super::{mix, plain};
use crate::build::NormStyle;
use crate::families::blocks::{Blocks, Names};
use crate::families::experts::{ExpertTensors, Experts, SHARED_EXPERTS, Shared, SharedTensors};
use crate::rope::RopeOptions;
use crate::{Config, Described, NormSpan, QueryTemperature, Renormalize, RouterScore, SpecError};

/// ERNIE 4.5 MoE.
pub fn ernie4_5_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let bias = config.flag("use_bias")?;
    decoder.set_attention_bias(bias);
    decoder.set_network_bias(bias);
    decoder.head_bias = bias;
    config.neutral(
        "moe_gate",
        &["topk".into()],
        "another way to choose experts",
    )?;
    config.ignore(&[
        "moe_capacity",
        "moe_use_aux_free",
        "num_nextn_predict_layers",
    ]);
    let (first, interval) = (
        config.index("moe_layer_start_index")?,
        config.size("moe_layer_interval")?,
    );
    let last = match config.number("moe_layer_end_index")? {
        end if end < 0.0 => decoder.layers() - 1,
        end => end as usize,
    };
    let mut experts = Experts {
        choice_bias: &["mlp.moe_statics.e_score_correction_bias"],
        counted_bias: true,
        renormalize: Renormalize::SumAtLeast(config.number("moe_norm_min")?),
        ..Experts::new(
            config,
            ["moe_num_experts", "moe_k"],
            config.size("moe_intermediate_size")?,
            decoder.activation,
        )?
    };
    let shared = config.index("moe_num_shared_experts")?;
    if shared > 0 {
        experts.shared = Some(Shared {
            tensors: SHARED_EXPERTS,
            intermediate_size: experts.intermediate_size * shared,
            bias,
            activation: decoder.activation,
            gate: None,
        });
    }
    mix(&mut decoder, experts, move |layer| {
        (layer + 1) % interval == 0 && (first..=last).contains(&layer)
    });
    decoder.ignored.push("model.mtp*");
    decoder.build()
}

/// Llama 4: windows of whole chunks, weights on the experts' inputs.
pub fn llama4_text(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = {
        let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
        Blocks::with_width(config, norm, config.size("intermediate_size_mlp")?)?
    };
    decoder.family = "mixture";
    decoder.activation = config.activation("hidden_act")?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let layers = decoder.layers();
    let interval = config.size("no_rope_layer_interval")?;
    let rotated = match config
        .flags("no_rope_layers")?
        .filter(|rotated| !rotated.is_empty())
    {
        Some(rotated) if rotated.len() < layers => {
            return Err(config.invalid("no_rope_layers", format!("at least {layers} entries")));
        }
        Some(rotated) => rotated,
        None => (1..=layers).map(|layer| layer % interval != 0).collect(),
    };
    decoder.mask_by_layer_types(None, |layer| {
        if rotated[layer] {
            "chunked_attention"
        } else {
            "full_attention"
        }
    })?;
    decoder.keep_rotation(|layer| rotated[layer]);
    // Without a chunked layer nothing asks how long chunks are.
    config.ignore(&["attention_chunk_size", "for_llm_compressor"]);
    let step = config.size("interleave_moe_layer_step")?;
    let sparse: Vec<bool> = match config.numbers("moe_layers")? {
        Some(sparse) => (0..layers)
            .map(|layer| sparse.contains(&(layer as f64)))
            .collect(),
        None => (1..=layers).map(|layer| layer % step == 0).collect(),
    };
    let inner = config.size("intermediate_size")?;
    let experts = Experts {
        tensors: ExpertTensors::Transposed {
            names: [
                "feed_forward.experts.gate_up_proj",
                "feed_forward.experts.down_proj",
            ],
            interleaved: false,
        },
        router: "feed_forward.router",
        score: RouterScore::SigmoidOfTopK,
        weighs_input: true,
        shared: Some(Shared {
            tensors: SharedTensors::Plain([
                "feed_forward.shared_expert.gate_proj",
                "feed_forward.shared_expert.up_proj",
                "feed_forward.shared_expert.down_proj",
            ]),
            intermediate_size: inner,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    decoder.names = Names {
        gate: "feed_forward.gate_proj",
        up: "feed_forward.up_proj",
        down: "feed_forward.down_proj",
        ..Names::USUAL
    };
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let norm = config.flag("use_qk_norm")?.then_some(NormStyle {
        weight: false,
        ..decoder.norm
    });
    decoder.norm_after_rotation = true;
    let temperature = QueryTemperature::Llama4 {
        beta: config.number("attn_scale")?,
        original: config.positive("floor_scale")?,
        shift: 1.0,
    };
    let tuned = config.flag("attn_temperature_tuning")?;
    decoder.differ(move |own, layer| {
        if rotated[layer] {
            own.query_key_norm = norm.map(|norm| (NormSpan::Head, norm));
        } else if tuned {
            own.query_temperature = Some(temperature);
        }
    });
    decoder.build()
}
