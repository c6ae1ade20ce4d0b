//! Gemma 3n and 4, whose layers have inputs of their own.

use serde_json::{Value, json};

use super::architecture::{Change, Names, changed, exactly, layers, row, under};
use super::llama::{POST_NORMS, pattern};
use super::reader::{Read, Reader};
use crate::SpecError;
use crate::families::gemma4::normal_quantile;

pub(super) const GEMMA3N: &[Names] = &[
    under(
        "model.",
        "",
        &[
            row("embed_tokens_per_layer", "per_layer_token_embd"),
            row("per_layer_model_projection", "per_layer_model_proj"),
            row("per_layer_projection_norm", "per_layer_proj_norm"),
            changed("altup_projections.*", "altup_proj", Change::Stacked),
            changed(
                "altup_unembed_projections.*",
                "altup_unembd_proj",
                Change::Stacked,
            ),
        ],
    ),
    POST_NORMS,
    layers(
        "model.layers.*.",
        &[
            row("pre_feedforward_layernorm", "ffn_norm"),
            row("per_layer_input_gate", "inp_gate"),
            row("per_layer_projection", "proj"),
            row("post_per_layer_input_norm", "post_norm"),
        ],
    ),
    layers(
        "model.layers.*.altup.",
        &[
            row("correction_coefs", "altup_correct_coef"),
            row("correct_output_scale", "altup_correct_scale.weight"),
            row("modality_router", "altup_router"),
            row("prediction_coefs", "altup_predict_coef"),
            row("router_norm", "altup_router_norm"),
        ],
    ),
    layers(
        "model.layers.*.laurel.",
        &[
            row("linear_left", "laurel_l"),
            row("linear_right", "laurel_r"),
            row("post_laurel_norm", "laurel_post_norm"),
        ],
    ),
    // Gemma 4's.
    layers(
        "model.layers.*.",
        &[
            row("layer_scalar", "layer_output_scale.weight"),
            row("post_feedforward_layernorm_1", "post_ffw_norm_1"),
            row("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
            row("post_feedforward_layernorm_2", "post_ffw_norm_2"),
            row("router.proj", "ffn_gate_inp"),
            exactly("router.scale", "ffn_gate_inp.scale", Change::None),
            exactly(
                "router.per_expert_scale",
                "ffn_down_exps.scale",
                Change::None,
            ),
            row("experts.gate_up_proj", "ffn_gate_up_exps.weight"),
            changed(
                "experts.gate_up_proj",
                "ffn_gate_exps.weight",
                Change::Divided,
            ),
            row("experts.down_proj", "ffn_down_exps.weight"),
        ],
    ),
];

/// What both have in common, with heads of this width.
fn common(reader: &mut Reader<'_>, model_type: &str, head_dim: &str) -> Read {
    reader.set("model_type", model_type);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.copy(&format!("attention.{head_dim}"), "head_dim")?;
    reader.set("hidden_activation", "gelu_pytorch_tanh");
    reader.copy("attention.sliding_window", "sliding_window")?;
    pattern(reader, 5)?;
    reader.copy_if("attention.shared_kv_layers", "num_kv_shared_layers");
    reader.copy(
        "embedding_length_per_layer_input",
        "hidden_size_per_layer_input",
    )?;
    if reader.has("per_layer_token_embd.weight") {
        let table = reader.shape("per_layer_token_embd.weight")?;
        reader.set("vocab_size_per_layer_input", table.first().copied());
    }
    let softcap = reader.value("final_logit_softcapping");
    reader.set("final_logit_softcapping", softcap.unwrap_or_default());
    Ok(())
}

/// Bases of the rotations of both kinds of layers.
fn bases(reader: &mut Reader<'_>) -> [Value; 2] {
    let global = reader.value("rope.freq_base");
    let local = reader.value("rope.freq_base_swa");
    [global.unwrap_or(1e6.into()), local.unwrap_or(1e4.into())]
}

pub(super) fn gemma3n(reader: &mut Reader<'_>) -> Read {
    common(reader, "gemma3n_text", "key_length")?;
    reader.ignore(&["attention.value_length"]);
    let [global, local] = bases(reader);
    reader.plain_rotations(&global, &local);
    reader.copy("altup.active_idx", "altup_active_idx")?;
    reader.copy("altup.num_inputs", "altup_num_inputs")?;
    let laurel = reader.shape("blk.0.laurel_l.weight")?;
    reader.set("laurel_rank", laurel.first().copied());
    let Value::Array(scales) = reader.needed("activation_sparsity_scale")? else {
        let found = Value::from("no list");
        let reason = "a number for every layer is read";
        return Err(reader.unsupported("activation_sparsity_scale", &found, reason));
    };
    // What is not sparse has a scale below every number.
    let parts = scales
        .iter()
        .map(|scale| scale.as_f64().map_or(0.0, part_below));
    let parts: Vec<f64> = parts.collect();
    reader.set("activation_sparsity_pattern", json!(parts));
    Ok(())
}

/// The part of a normal distribution below so many deviations above its mean, for which the quantile is this.
fn part_below(deviations: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if normal_quantile(middle) < deviations {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

pub(super) fn gemma4(reader: &mut Reader<'_>) -> Read {
    // Those that share keys may have wider networks.
    let inner = reader.value("feed_forward_length");
    let widths = inner.as_ref().and_then(Value::as_array);
    let narrow = widths.and_then(|widths| widths.first()).cloned();
    let is_double =
        widths.is_some_and(|widths| widths.iter().any(|own| Some(own) != narrow.as_ref()));
    let kv_heads = reader.value("attention.head_count_kv");
    common_of_gemma4(reader, narrow.as_ref(), kv_heads.as_ref())?;
    reader.set("use_double_wide_mlp", is_double);
    let head_dim = reader.size("attention.key_length")?;
    reader.set("global_head_dim", head_dim);
    reader.ignore(&[
        "attention.value_length",
        "attention.value_length_swa",
        "rope.dimension_count",
    ]);
    gemma4_rotations(reader, head_dim)?;
    gemma4_experts(reader)
}

/// The sizes, where the file has them by layer.
fn common_of_gemma4(
    reader: &mut Reader<'_>,
    narrow: Option<&Value>,
    kv_heads: Option<&Value>,
) -> Read {
    let kinds_of = |reader: &mut Reader<'_>| -> Result<Vec<bool>, SpecError> {
        let layers = reader.layers_with("attn_norm.weight")?;
        let windows = reader.value("attention.sliding_window_pattern");
        let windows = windows.as_ref().and_then(Value::as_array);
        let window = |layer: usize| {
            windows
                .and_then(|all| all.get(layer))
                .and_then(Value::as_bool)
        };
        Ok((0..layers.len())
            .map(|layer| window(layer).unwrap_or(false))
            .collect())
    };
    reader.by_layer(&["feed_forward_length", "attention.head_count_kv"]);
    common(reader, "gemma4_text", "key_length_swa")?;
    if let Some(narrow) = narrow {
        reader.set("intermediate_size", narrow.clone());
    }
    let Some(heads) = kv_heads.and_then(Value::as_array) else {
        return Ok(());
    };
    let slides = kinds_of(reader)?;
    let of = |kind: bool| {
        let at = slides.iter().position(|slides| *slides == kind)?;
        heads.get(at).cloned()
    };
    if let Some(local) = of(true).or_else(|| of(false)) {
        reader.set("num_key_value_heads", local);
    }
    if let Some(global) = of(false) {
        reader.set("num_global_key_value_heads", global);
    }
    Ok(())
}

fn gemma4_rotations(reader: &mut Reader<'_>, head_dim: u64) -> Read {
    let [global, local] = bases(reader);
    let slides = reader.size("rope.dimension_count_swa")?;
    let own = reader.get("head_dim").and_then(Value::as_u64).unwrap_or(0);
    // Features that are not rotated have a factor beyond all others.
    let factors = reader.stored.factors.get("rope_freqs.weight");
    let rotated = factors.map_or(head_dim / 2, |factors| {
        factors.iter().filter(|factor| **factor == 1.0).count() as u64
    });
    let usual = |factor: &f64| {
        [1.0, 1e30]
            .iter()
            .any(|known| (factor / known - 1.0).abs() < 1e-6)
    };
    if factors.is_some_and(|factors| !factors.iter().all(usual)) || slides != own {
        let found = Value::from("others");
        let reason = "a part of the features of global heads is rotated, and all of the local ones";
        return Err(reader.unsupported("rope.dimension_count", &found, reason));
    }
    reader.set(
        "rope_parameters",
        json!({
            "full_attention": {
                "rope_type": "proportional", "rope_theta": global,
                "partial_rotary_factor": 2.0 * rotated as f64 / head_dim as f64
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": local}
        }),
    );
    Ok(())
}

fn gemma4_experts(reader: &mut Reader<'_>) -> Read {
    let full = reader.get("layer_types").and_then(Value::as_array).cloned();
    let full = full.unwrap_or_default();
    let full = full.iter().position(|kind| kind == "full_attention");
    let same = full.is_some_and(|layer| !reader.has(&format!("blk.{layer}.attn_v.weight")));
    reader.set("attention_k_eq_v", same);
    let experts = reader.number("expert_count")?.unwrap_or(0);
    reader.set("enable_moe_block", experts > 0);
    if experts > 0 {
        reader.set("num_experts", experts);
        reader.copy("expert_used_count", "top_k_experts")?;
        reader.copy("expert_feed_forward_length", "moe_intermediate_size")?;
    } else {
        reader.ignore(&["expert_used_count", "expert_feed_forward_length"]);
    }
    Ok(())
}
