//! Mixtures of experts whose gates are limited: MiniMax-M3's and Step 3.5's.

use serde_json::{Map, Value, json};

use super::architecture::{Change, Names, changed, layers, plus_one, row};
use super::experts::{network_kinds, sigmoid_scores};
use super::gemma::{NETWORK_PLUS_ONE, PLUS_ONE};
use super::llama::{pattern, rms_in_part};
use super::reader::{Read, Reader};
use super::rotation::divided;
use super::stored::FACTORS;
use super::usual::STACKED;

pub(super) const MINIMAX_M3: &[Names] = &[
    PLUS_ONE,
    NETWORK_PLUS_ONE,
    layers(
        "model.layers.*.self_attn.indexer.",
        &[
            row("q_proj", "indexer.q_proj"),
            row("k_proj", "indexer.k_proj"),
            plus_one("q_norm", "indexer.q_norm"),
            plus_one("k_norm", "indexer.k_norm"),
        ],
    ),
    layers(
        "model.layers.*.mlp.",
        &[
            changed("gate_up_proj", "ffn_gate", Change::Divided),
            changed(
                "shared_experts.gate_up_proj",
                "ffn_gate_shexp",
                Change::Divided,
            ),
            row("shared_experts.down_proj", "ffn_down_shexp"),
        ],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// MiniMax-M3: blocks of keys that an indexer chooses.
pub(super) fn minimax_m3(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "minimax_m3_vl_text")?;
    sigmoid_scores(reader)?;
    reader.experts("num_local_experts", "intermediate_size")?;
    reader.copy("expert_weights_scale", "routed_scaling_factor")?;
    reader.ignore(&["expert_weights_norm", "expert_shared_count"]);
    network_kinds(reader)?;
    // The key is the experts' again.
    for (key, ending) in [
        ("dense_intermediate_size", "ffn_gate.weight"),
        ("shared_intermediate_size", "ffn_gate_shexp.weight"),
    ] {
        let has = reader.layers_with(ending)?;
        if let Some(layer) = has.iter().position(|has| *has) {
            let shape = reader.shape(&format!("blk.{layer}.{ending}"))?;
            reader.set(key, shape.first().copied().unwrap_or(0));
        }
    }
    let chooses = reader.layers_with("indexer.q_proj.weight")?;
    reader.kinds(
        "layer_types",
        chooses,
        ["full_attention", "minimax_m3_sparse"],
    );
    for (key, to) in [
        ("head_count", "index_n_heads"),
        ("key_length", "index_head_dim"),
        ("top_k", "index_topk_blocks"),
        ("block_size", "index_block_size"),
        ("local_blocks", "index_local_blocks"),
    ] {
        reader.copy(&format!("attention.indexer.{key}"), to)?;
    }
    Ok(())
}

pub(super) const STEP: &[Names] = &[
    PLUS_ONE,
    NETWORK_PLUS_ONE,
    layers("model.layers.*.self_attn.", &[row("g_proj", "attn_gate")]),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// Step 3.5: more heads in layers with windows, of which the others rotate half.
pub(super) fn step35(reader: &mut Reader<'_>) -> Read {
    let heads = ["attention.head_count", "attention.head_count_kv"];
    reader.set("model_type", "step3p5");
    reader.by_layer(&heads);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    let head_dim = reader.size("attention.key_length")?;
    reader.ignore(&["attention.value_length"]);
    reader.set("head_dim", head_dim);
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    let mut layers = Map::new();
    for (key, to) in heads
        .into_iter()
        .zip(["num_attention_heads", "num_key_value_heads"])
    {
        let Some(Value::Array(counts)) = reader.value(key) else {
            continue;
        };
        for (layer, count) in counts
            .into_iter()
            .take(reader.layers()? as usize)
            .enumerate()
        {
            let own = layers.entry(layer.to_string()).or_insert_with(|| json!({}));
            own[to] = count;
        }
    }
    reader.set("per_layer_config", layers);
    reader.copy("attention.sliding_window", "sliding_window")?;
    reader.needed("attention.sliding_window_pattern")?;
    pattern(reader, 4)?;
    rotate(reader, head_dim)?;
    sigmoid_scores(reader)?;
    reader.experts("n_routed_experts", "moe_intermediate_size")?;
    reader.copy("expert_shared_feed_forward_length", "share_expert_dim")?;
    reader.copy_if("expert_weights_scale", "moe_router_scaling_factor");
    reader.ignore(&["expert_weights_norm", "moe_every_n_layers"]);
    reader.copy_if("swiglu_clamp_exp", "swiglu_limits");
    reader.copy_if("swiglu_clamp_shexp", "swiglu_limits_shared");
    network_kinds(reader)
}

/// A rotation for each kind of layer. Factors are those of layers that see everything, filled up with ones.
fn rotate(reader: &mut Reader<'_>, head_dim: u64) -> Read {
    let rotated = reader.number("rope.dimension_count")?.unwrap_or(head_dim);
    let part = |rotated: u64| rotated as f64 / head_dim.max(1) as f64;
    let base = reader.needed("rope.freq_base")?;
    let local = reader.value("rope.freq_base_swa");
    let mut full = json!({"rope_type": "default"});
    match reader.stored.factors.get(FACTORS[0]) {
        Some(factors) => {
            let half = factors.iter().copied().take((rotated / 4) as usize);
            let half: Vec<f64> = half.collect();
            full = divided(&half, reader.value("context_length").as_ref());
            reader.ignore(&[
                "rope.scaling.type",
                "rope.scaling.factor",
                "rope.scaling.original_context_length",
            ]);
        }
        None if reader
            .value("rope.scaling.type")
            .is_none_or(|kind| kind == "none") => {}
        None => {
            let found = reader.needed("rope.scaling.type")?;
            let reason = "a scaled rotation has a tensor of factors";
            return Err(reader.unsupported("rope.scaling.type", &found, reason));
        }
    }
    full["rope_theta"] = base.clone();
    full["partial_rotary_factor"] = part(rotated / 2).into();
    let sliding = json!({
        "rope_type": "default", "rope_theta": local.unwrap_or(base),
        "partial_rotary_factor": part(rotated)
    });
    reader.set(
        "rope_parameters",
        json!({"full_attention": full, "sliding_attention": sliding}),
    );
    Ok(())
}
