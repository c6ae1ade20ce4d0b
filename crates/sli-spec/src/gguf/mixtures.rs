//! Further mixtures of experts: Llama 4's, those with windows, with routers of other names.

use serde_json::{Value, json};

use super::architecture::{Change, Names, changed, layers, row};
use super::experts::{LATENT, latent_heads, network_kinds, routed};
use super::gpt::{ENDS, classic};
use super::llama::{POST_NORMS, cohere, layer_norm, pattern, rms, rms_in_part};
use super::reader::{Read, Reader};
use super::usual::{DENSE, SHARED, TRANSPOSED};

pub(super) const LLAMA4: &[Names] = &[
    layers("model.layers.*.feed_forward.", DENSE),
    layers("model.layers.*.feed_forward.shared_expert.", SHARED),
    layers(
        "model.layers.*.feed_forward.",
        &[row("router", "ffn_gate_inp")],
    ),
    layers("model.layers.*.feed_forward.experts.", TRANSPOSED),
];

/// Llama 4: what no key says is the same in all published models.
pub(super) fn llama4(reader: &mut Reader<'_>) -> Read {
    rms(reader, "llama4_text")?;
    let dense = reader.size("feed_forward_length")?;
    reader.set("intermediate_size_mlp", dense);
    reader.copy("expert_feed_forward_length", "intermediate_size")?;
    let experts = reader.size("expert_count")?;
    reader.set("num_local_experts", experts);
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    reader.copy("interleave_moe_layer_step", "interleave_moe_layer_step")?;
    // Maverick, of 128 experts, has no norms of queries and keys.
    reader.set("use_qk_norm", experts != 128);
    reader.set("attention_chunk_size", 8192);
    reader.set("floor_scale", 8192);
    reader.set("attn_scale", 0.1);
    reader.set("attn_temperature_tuning", true);
    reader.set("no_rope_layer_interval", 4);
    Ok(())
}

pub(super) const ERNIE_EXPERTS: Names = layers(
    "model.layers.*.mlp.moe_statics.",
    &[row("e_score_correction_bias", "exp_probs_b.bias")],
);

pub(super) fn ernie4_5_moe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "ernie4_5_moe")?;
    reader.set_where("use_bias", "blk.0.attn_q.bias");
    reader.copy("expert_count", "moe_num_experts")?;
    reader.copy("expert_used_count", "moe_k")?;
    reader.copy("expert_feed_forward_length", "moe_intermediate_size")?;
    reader.copy("interleave_moe_layer_step", "moe_layer_interval")?;
    reader.copy("leading_dense_block_count", "moe_layer_start_index")?;
    reader.set("moe_layer_end_index", -1);
    let shared = reader.number("expert_shared_count")?;
    reader.set("moe_num_shared_experts", shared.unwrap_or(0));
    reader.ignore(&["expert_shared_feed_forward_length"]);
    Ok(())
}

pub(super) const HUNYUAN: &[Names] = &[
    layers(
        "model.layers.*.",
        &[
            row("self_attn.query_layernorm", "attn_q_norm"),
            row("self_attn.key_layernorm", "attn_k_norm"),
            row("mlp.gate.wg", "ffn_gate_inp"),
        ],
    ),
    layers("model.layers.*.mlp.shared_mlp.", SHARED),
];

/// Hunyuan, whose rotation is stretched by its base alone.
pub(super) fn hunyuan_dense(reader: &mut Reader<'_>) -> Read {
    rms(reader, "hunyuan_v1_dense")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    Ok(())
}

pub(super) fn hunyuan_moe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "hunyuan_v1_moe")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "moe_topk")?;
    reader.copy("expert_feed_forward_length", "intermediate_size")?;
    reader.ignore(&["expert_shared_feed_forward_length", "expert_shared_count"]);
    Ok(())
}

pub(super) fn minimax_m2(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "minimax_m2")?;
    reader.unset("partial_rotary_factor");
    let rotated = reader.size("rope.dimension_count")?;
    reader.set("rotary_dim", rotated);
    reader.experts("num_local_experts", "intermediate_size")?;
    reader.ignore(&["expert_gating_func"]);
    Ok(())
}

pub(super) const STARCODER: &[Names] = &[
    ENDS,
    layers(
        "transformer.h.*.",
        &[
            row("ln_1", "attn_norm"),
            row("ln_2", "ffn_norm"),
            row("attn.c_attn", "attn_qkv"),
            row("attn.c_proj", "attn_output"),
            row("mlp.c_fc", "ffn_up"),
            row("mlp.c_proj", "ffn_down"),
        ],
    ),
];

pub(super) fn starcoder(reader: &mut Reader<'_>) -> Read {
    classic(reader, "gpt_bigcode", "layer_norm_epsilon")?;
    reader.rename("intermediate_size", "n_inner");
    let heads = reader.number("attention.head_count_kv")?;
    reader.set("multi_query", heads == Some(1));
    Ok(())
}

pub(super) const DBRX: &[Names] = &[
    ENDS,
    layers(
        "transformer.blocks.*.norm_attn_norm.",
        &[
            row("norm_1", "attn_norm"),
            row("norm_2", "attn_output_norm"),
            row("attn.Wqkv", "attn_qkv"),
            row("attn.out_proj", "attn_output"),
        ],
    ),
    layers(
        "transformer.blocks.*.ffn.",
        &[
            row("router.layer", "ffn_gate_inp"),
            row("experts.mlp.w1", "ffn_gate_exps"),
            row("experts.mlp.v1", "ffn_up_exps"),
            changed("experts.mlp.w2", "ffn_down_exps", Change::Transposed),
        ],
    ),
];

pub(super) fn dbrx(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "dbrx");
    reader.sizes()?;
    for key in [
        "num_key_value_heads",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "hidden_size",
        "num_hidden_layers",
    ] {
        reader.unset(key);
    }
    reader.copy("block_count", "n_layers")?;
    reader.copy("embedding_length", "d_model")?;
    reader.copy("attention.head_count", "n_heads")?;
    reader.copy("context_length", "max_seq_len")?;
    reader.ignore(&["attention.layer_norm_epsilon"]);
    let heads = reader.size("attention.head_count_kv")?;
    let (clip, base) = (
        reader.value("attention.clamp_kqv"),
        reader.needed("rope.freq_base")?,
    );
    reader.set(
        "attn_config",
        json!({"kv_n_heads": heads, "clip_qkv": clip, "rope_theta": base}),
    );
    let (experts, chosen) = (
        reader.size("expert_count")?,
        reader.size("expert_used_count")?,
    );
    let inner = reader.size("feed_forward_length")?;
    reader.set(
        "ffn_config",
        json!({
            "ffn_hidden_size": inner, "moe_num_experts": experts, "moe_top_k": chosen,
            "moe_normalize_expert_weights": 1.0, "ffn_act_fn": {"name": "silu"}
        }),
    );
    Ok(())
}

/// The factors of MiniCPM 3 are the same in all published models, and in no key.
pub(super) fn minicpm3(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "minicpm3");
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.copy("attention.kv_lora_rank", "kv_lora_rank")?;
    let rank = reader.value("attention.q_lora_rank");
    reader.set("q_lora_rank", rank.unwrap_or(Value::Null));
    let heads = reader.size("attention.head_count")?;
    let output = reader.shape("blk.0.attn_output.weight")?;
    let values = output.get(1).copied().unwrap_or(0) as u64 / heads.max(1);
    reader.ignore(&["attention.value_length"]);
    let rotated = reader.size("rope.dimension_count")?;
    let keys = reader.size("attention.key_length")?;
    reader.set("qk_rope_head_dim", rotated);
    reader.set("qk_nope_head_dim", keys.saturating_sub(rotated));
    reader.set("v_head_dim", values);
    reader.set("scale_emb", 12);
    reader.set("scale_depth", 1.4);
    reader.set("dim_model_base", 256);
    reader.rotation(rotated, false)
}

pub(super) const EXAONE_EXPERTS: Names = layers(
    "model.layers.*.mlp.",
    &[row("e_score_correction_bias", "exp_probs_b.bias")],
);

pub(super) fn exaone_moe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "exaone_moe")?;
    let window = reader.number("attention.sliding_window")?;
    reader.set("sliding_window", window.map_or(Value::Null, Value::from));
    pattern(reader, 4)?;
    routed(reader)?;
    reader.rename("n_routed_experts", "num_experts");
    reader.rename("n_shared_experts", "num_shared_experts");
    reader.ignore(&["expert_gating_func", "expert_shared_feed_forward_length"]);
    Ok(())
}

pub(super) const AFMOE: &[Names] = &[
    POST_NORMS,
    layers(
        "model.layers.*.",
        &[
            row("pre_mlp_layernorm", "ffn_norm"),
            row("post_mlp_layernorm", "post_ffw_norm"),
            row("self_attn.gate_proj", "attn_gate"),
            row("mlp.router.gate", "ffn_gate_inp"),
            row("mlp.expert_bias", "exp_probs_b.bias"),
        ],
    ),
];

pub(super) fn afmoe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "afmoe")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    reader.set("global_attn_every_n_layers", 4);
    pattern(reader, 4)?;
    reader.experts("num_experts", "moe_intermediate_size")?;
    reader.copy("expert_shared_count", "num_shared_experts")?;
    reader.copy("leading_dense_block_count", "num_dense_layers")?;
    let scale = reader.value("expert_weights_scale");
    reader.set("route_scale", scale.unwrap_or(1.0.into()));
    reader.ignore(&["expert_gating_func", "expert_weights_norm"]);
    reader.set("mup_enabled", true);
    Ok(())
}

pub(super) fn jais2(reader: &mut Reader<'_>) -> Read {
    let head_dim = layer_norm(reader, "jais2", "layer_norm_eps", false)?;
    reader.set("head_dim", head_dim);
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("mlp_bias", "blk.0.ffn_up.bias");
    Ok(())
}

pub(super) fn cohere2_moe(reader: &mut Reader<'_>) -> Read {
    cohere(reader, "cohere2_moe")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    pattern(reader, 4)?;
    let head_dim = reader.head_dim()?;
    reader.set("head_dim", head_dim);
    let dense = reader.number("feed_forward_length")?;
    if let Some(dense) = dense.filter(|dense| *dense > 0) {
        reader.set("prefix_dense_intermediate_size", dense);
    }
    reader.experts("num_experts", "intermediate_size")?;
    let score = match super::experts::gating(reader)? {
        1 => "softmax",
        _ => "sigmoid",
    };
    reader.set("expert_selection_fn", score);
    let norm = reader.value("expert_weights_norm");
    reader.set("norm_topk_prob", norm.unwrap_or(false.into()));
    network_kinds(reader)?;
    reader.ignore(&["leading_dense_block_count"]);
    Ok(())
}

/// What chooses keys.
pub(super) const INDEXER: Names = layers(
    "model.layers.*.self_attn.indexer.",
    &[
        row("wk", "indexer.attn_k"),
        row("wq_b", "indexer.attn_q_b"),
        row("k_norm", "indexer.k_norm"),
        row("weights_proj", "indexer.proj"),
    ],
);

pub(super) const INDEXED: &[Names] = &[LATENT, INDEXER];

/// Latent heads that see what an indexer chose.
pub(super) fn indexed(reader: &mut Reader<'_>, model_type: &str) -> Read {
    super::experts::latent(reader, model_type)?;
    latent_heads(reader)?;
    routed(reader)?;
    reader.ignore(&["expert_gating_func"]);
    indexer(reader)
}

/// An indexer, and which layers have one.
pub(super) fn indexer(reader: &mut Reader<'_>) -> Read {
    reader.copy("attention.indexer.head_count", "index_n_heads")?;
    reader.copy("attention.indexer.key_length", "index_head_dim")?;
    reader.copy("attention.indexer.top_k", "index_topk")?;
    if let Some(Value::Array(kinds)) = reader.value("attention.indexer.types") {
        let kind = |own: &Value| if own == true { "full" } else { "shared" };
        let kinds: Vec<&str> = kinds.iter().map(kind).collect();
        reader.set("indexer_types", json!(kinds));
    }
    Ok(())
}

pub(super) fn deepseek32(reader: &mut Reader<'_>) -> Read {
    indexed(reader, "deepseek_v32")
}

pub(super) fn glm_dsa(reader: &mut Reader<'_>) -> Read {
    indexed(reader, "glm_moe_dsa")?;
    network_kinds(reader)
}
