//! Latent heads of two sizes, and with streams of the residual: dots3.note and Hunyuan 4.

use serde_json::{Map, Value, json};

use super::architecture::{Change, Names, changed, layers, row, under};
use super::experts::{LATENT, latent_heads, network_kinds, routed, sigmoid_scores};
use super::mixtures::{INDEXER, indexed, indexer};
use super::reader::{Read, Reader};
use super::usual::STACKED;

pub(super) const HY_V4: &[Names] = &[
    LATENT,
    INDEXER,
    under(
        "model.hc_pre.hc_head.",
        "",
        &[
            row("hc_head_fn", "output_hc_fn"),
            row("hc_head_base", "output_hc_base"),
            row("hc_head_scale", "output_hc_scale"),
        ],
    ),
    layers(
        "model.layers.*.hc_pre.",
        &[
            row("hc_attn_layer.hc_fn", "hc_attn_fn"),
            row("hc_attn_layer.hc_base", "hc_attn_base"),
            row("hc_attn_layer.hc_scale", "hc_attn_scale"),
            row("hc_mlp_layer.hc_fn", "hc_ffn_fn"),
            row("hc_mlp_layer.hc_base", "hc_ffn_base"),
            row("hc_mlp_layer.hc_scale", "hc_ffn_scale"),
        ],
    ),
    layers(
        "model.layers.*.self_attn.",
        &[
            row("linear_gate", "attn_gate"),
            row("learnable_sink_param", "attn_sinks.weight"),
        ],
    ),
    layers(
        "model.layers.*.mlp.",
        &[
            changed("linear_gate", "ffn_gate", Change::None),
            row("shared_experts.linear_gate", "ffn_gate_shexp"),
        ],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// Hunyuan 4.
pub(super) fn hy_v4(reader: &mut Reader<'_>) -> Read {
    sigmoid_scores(reader)?;
    indexed(reader, "hy_v4")?;
    reader.unset("first_k_dense_replace");
    network_kinds(reader)?;
    let limit = reader.limit("swiglu_clamp_exp")?;
    if limit.is_null() {
        let reason = "experts without a limit are not of this type";
        return Err(reader.unsupported("swiglu_clamp_exp", &limit, reason));
    }
    reader.set("swiglu_limit", limit);
    reader.copy("hyper_connection.count", "hc_mult")?;
    reader.copy("hyper_connection.epsilon", "hc_eps")?;
    reader.copy("hyper_connection.magnitude", "hc_magnitude")
}

pub(super) const DOTS3_NOTE: &[Names] = &[
    LATENT,
    INDEXER,
    layers(
        "model.layers.*.self_attn.",
        &[
            row("g_proj", "attn_gate"),
            row("k_rope_only_layernorm", "attn_k_norm"),
        ],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// dots3.note: fewer and other heads in layers with a window. Factors on the latents are in their norms.
pub(super) fn dots3_note(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "dots3_note_text");
    reader.set("latents_are_scaled", true);
    reader.by_layer(&["attention.head_count"]);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    for key in ["q_lora_rank", "kv_lora_rank"] {
        reader.copy(&format!("attention.{key}"), key)?;
    }
    let rotated = latent_heads(reader)?;
    let window = reader.layers_with("indexer.proj.weight")?;
    let window: Vec<bool> = window.into_iter().map(|chooses| !chooses).collect();
    reader.ignore(&["attention.sliding_window_pattern"]);
    reader.kinds(
        "layer_types",
        window.iter().copied(),
        ["indexed_attention", "sliding_attention"],
    );
    reader.copy("attention.sliding_window", "sliding_window")?;
    let heads = reader.needed("attention.head_count")?;
    let of_layer = |layer: usize| match &heads {
        Value::Array(heads) => heads.get(layer).cloned().unwrap_or_default(),
        heads => heads.clone(),
    };
    let first = window.iter().position(|window| !window).unwrap_or(0);
    for key in ["num_attention_heads", "num_key_value_heads"] {
        reader.set(key, of_layer(first));
    }
    let keys = reader.size("attention.key_length_mla_swa")?;
    let (rank, values) = (
        reader.size("attention.kv_lora_rank_swa")?,
        reader.size("attention.value_length_mla_swa")?,
    );
    reader.ignore(&["attention.key_length_swa", "attention.value_length_swa"]);
    let own = window.iter().enumerate().filter(|(_, window)| **window);
    let own = own.map(|(layer, _)| {
        let sizes = json!({
            "num_attention_heads": of_layer(layer), "num_key_value_heads": of_layer(layer),
            "kv_lora_rank": rank, "v_head_dim": values, "head_dim": keys,
            "qk_nope_head_dim": keys.saturating_sub(rotated)
        });
        (layer.to_string(), sizes)
    });
    let own: Map<String, Value> = own.collect();
    reader.set("per_layer_config", own);
    let wide = reader.get("qk_nope_head_dim").and_then(Value::as_u64);
    let wide = wide.unwrap_or(0).saturating_add(rotated);
    reader.set("head_dim", wide);
    let base = reader.needed("rope.freq_base")?;
    let local = reader.value("rope.freq_base_swa");
    let rotation = |base: Value, dim: u64| {
        let part = rotated as f64 / dim.max(1) as f64;
        json!({"rope_type": "default", "rope_theta": base, "partial_rotary_factor": part})
    };
    let local = local.unwrap_or_else(|| base.clone());
    reader.set(
        "rope_parameters",
        json!({"indexed_attention": rotation(base, wide), "sliding_attention": rotation(local, keys)}),
    );
    routed(reader)?;
    reader.unset("first_k_dense_replace");
    sigmoid_scores(reader)?;
    network_kinds(reader)?;
    indexer(reader)?;
    reader.unset("indexer_types");
    reader.copy(
        "expert_feed_forward_length",
        "shared_experts_intermediate_size",
    )
}
