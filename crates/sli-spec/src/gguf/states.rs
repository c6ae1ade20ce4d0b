//! Layers that carry a state: Mamba's relatives, gated delta rules and short convolutions.

use serde_json::{Value, json};

use super::architecture::{
    Change, Names, Row, Tiled, changed, exactly, layers, plus_one, row, under,
};
use super::experts::{
    GRANITE_ROUTED, GRANITE_SHARED, LATENT, latent_heads, network_kinds, qwen_experts,
};
use super::gemma::PLUS_ONE;
use super::llama::{MIXTRAL, PAIRS, multipliers, rms, rms_in_part};
use super::reader::{Read, Reader};
use super::usual::{DENSE, EXPERTS, NUMBERED, PROJECTIONS, ROUTER, SHARED, STACKED};
use crate::SpecError;

const fn decay(reference: &'static str, file: &'static str) -> Row {
    exactly(reference, file, Change::Decay)
}

/// A selective scan.
const SCAN: &[Row] = &[
    row("in_proj", "ssm_in"),
    row("conv1d", "ssm_conv1d"),
    row("x_proj", "ssm_x"),
    row("dt_proj", "ssm_dt"),
    row("dt_bias", "ssm_dt.bias"),
    decay("A_log", "ssm_a"),
    exactly("D", "ssm_d", Change::None),
    row("dt_layernorm", "ssm_dt_norm"),
    row("b_layernorm", "ssm_b_norm"),
    row("c_layernorm", "ssm_c_norm"),
    changed("norm", "ssm_norm", Change::Flat),
    row("out_proj", "ssm_out"),
];

/// What stands around the mixers of layers that have nothing else.
const BACKBONE: Names = under(
    "backbone.",
    "",
    &[
        row("embeddings", "token_embd"),
        row("norm_f", "output_norm"),
        row("layers.*.norm", "blk.*.attn_norm"),
    ],
);

pub(super) const MAMBA: &[Names] = &[BACKBONE, layers("backbone.layers.*.mixer.", SCAN)];

/// Layers of Mamba under the name of Jamba, Bamba, Granite and Falcon.
pub(super) const BESIDE: &[Names] = &[
    under("model.", "", &[row("final_layernorm", "output_norm")]),
    layers(
        "model.layers.*.",
        &[
            row("pre_ff_layernorm", "ffn_norm"),
            exactly("pre_ff_layernorm", "ffn_norm", Change::None),
            row("feed_forward.router", "ffn_gate_inp"),
        ],
    ),
    layers("model.layers.*.mamba.", SCAN),
    layers("model.layers.*.feed_forward.", DENSE),
    layers("model.layers.*.feed_forward.experts.{}.", EXPERTS),
];

/// The same with rows of queries and keys in pairs, and Granite's experts.
pub(super) const GRANITE_HYBRID: &[Names] = &[
    PAIRS,
    layers("model.layers.*.mamba.", SCAN),
    GRANITE_ROUTED,
    GRANITE_SHARED,
    layers(
        "model.layers.*.shared_mlp.",
        &[
            changed("input_linear", "ffn_gate", Change::Divided),
            row("output_linear", "ffn_down"),
        ],
    ),
    // Bamba's.
    under("model.", "", &[row("final_layernorm", "output_norm")]),
    layers("model.layers.*.", &[row("pre_ff_layernorm", "ffn_norm")]),
    layers("model.layers.*.feed_forward.", DENSE),
];

pub(super) const NEMOTRON_H: &[Names] = &[
    BACKBONE,
    layers("backbone.layers.*.mixer.", SCAN),
    layers("backbone.layers.*.mixer.", PROJECTIONS),
    layers("backbone.layers.*.mixer.", ROUTER),
    layers("backbone.layers.*.mixer.", DENSE),
    layers("backbone.layers.*.mixer.experts.{}.", EXPERTS),
    layers("backbone.layers.*.mixer.shared_experts.", SHARED),
];

const fn tiled(reference: &'static str, file: &'static str, tiled: Tiled) -> Row {
    changed(reference, file, Change::Tiled(tiled))
}

/// Norms of the Qwen models whose layers carry states.
const QWEN_NORMS: Names = layers(
    "model.layers.*.",
    &[plus_one("post_attention_layernorm", "post_attention_norm")],
);

pub(super) const QWEN3_NEXT: &[Names] = &[
    PLUS_ONE,
    QWEN_NORMS,
    layers(
        "model.layers.*.linear_attn.",
        &[
            changed("in_proj_qkvz", "attn_qkv", Change::Ungrouped),
            row("in_proj_ba", "ssm_ba"),
            row("conv1d", "ssm_conv1d"),
            row("dt_bias", "ssm_dt.bias"),
            decay("A_log", "ssm_a"),
            row("norm", "ssm_norm"),
            row("out_proj", "ssm_out"),
        ],
    ),
];

pub(super) const QWEN3_5: &[Names] = &[
    PLUS_ONE,
    QWEN_NORMS,
    layers(
        "model.layers.*.linear_attn.",
        &[
            tiled("in_proj_qkv", "attn_qkv", Tiled::Behind),
            tiled("in_proj_z", "attn_gate", Tiled::Rows),
            tiled("in_proj_a", "ssm_alpha", Tiled::Rows),
            tiled("in_proj_b", "ssm_beta", Tiled::Rows),
            tiled("conv1d", "ssm_conv1d", Tiled::Behind),
            tiled("dt_bias", "ssm_dt.bias", Tiled::Rows),
            exactly("A_log", "ssm_a", Change::Tiled(Tiled::Decays)),
            row("norm", "ssm_norm"),
            tiled("out_proj", "ssm_out", Tiled::Columns),
        ],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

pub(super) const LFM2: &[Names] = &[
    under(
        "model.",
        "",
        &[
            row("embedding_norm", "token_embd_norm"),
            row("embedding_norm", "output_norm"),
        ],
    ),
    layers(
        "model.layers.*.",
        &[
            row("operator_norm", "attn_norm"),
            row("ffn_norm", "ffn_norm"),
            row("conv.conv", "shortconv.conv"),
            row("conv.in_proj", "shortconv.in_proj"),
            row("conv.out_proj", "shortconv.out_proj"),
            row("self_attn.out_proj", "attn_output"),
            row("self_attn.q_layernorm", "attn_q_norm"),
            row("self_attn.k_layernorm", "attn_k_norm"),
        ],
    ),
    layers(
        "model.layers.*.feed_forward.",
        &[
            row("gate", "ffn_gate_inp"),
            row("expert_bias", "exp_probs_b.bias"),
            row("experts.{}.w1", "ffn_gate_exps"),
            row("experts.{}.w2", "ffn_down_exps"),
            row("experts.{}.w3", "ffn_up_exps"),
        ],
    ),
    layers("model.layers.*.feed_forward.", NUMBERED),
];

/// Sizes of what has no attention anywhere.
fn without_heads(reader: &mut Reader<'_>, model_type: &str) -> Read {
    reader.set("model_type", model_type);
    reader.copy("block_count", "num_hidden_layers")?;
    reader.copy("embedding_length", "hidden_size")?;
    reader.copy("ssm.conv_kernel", "conv_kernel")?;
    reader.copy("ssm.state_size", "state_size")?;
    reader.copy("attention.layer_norm_rms_epsilon", "layer_norm_epsilon")?;
    reader.ignore(&[
        "context_length",
        "feed_forward_length",
        "attention.head_count",
    ]);
    reader.table()
}

/// How many times the hidden size the inner one is.
fn expansion(reader: &mut Reader<'_>, key: &str) -> Result<u64, SpecError> {
    let (inner, hidden) = (
        reader.size("ssm.inner_size")?,
        reader.size("embedding_length")?,
    );
    if hidden == 0 || inner % hidden != 0 {
        let reason = "it is no multiple of the hidden size";
        return Err(reader.unsupported("ssm.inner_size", &inner.into(), reason));
    }
    reader.set(key, inner / hidden);
    Ok(inner)
}

pub(super) fn mamba(reader: &mut Reader<'_>) -> Read {
    let is_normed = reader
        .value("ssm.dt_b_c_rms")
        .is_some_and(|value| value == true);
    without_heads(reader, if is_normed { "falcon_mamba" } else { "mamba" })?;
    reader.copy("ssm.inner_size", "intermediate_size")?;
    reader.copy("ssm.time_step_rank", "time_step_rank")?;
    reader.set_where("use_bias", "blk.0.ssm_in.bias");
    reader.set_where("use_conv_bias", "blk.0.ssm_conv1d.bias");
    Ok(())
}

pub(super) fn mamba2(reader: &mut Reader<'_>) -> Read {
    without_heads(reader, "mamba2")?;
    let inner = expansion(reader, "expand")?;
    let heads = reader.size("ssm.time_step_rank")?;
    reader.set("num_heads", heads);
    reader.set("head_dim", inner / heads.max(1));
    reader.copy("ssm.group_count", "n_groups")?;
    reader.set_where("use_bias", "blk.0.ssm_in.bias");
    reader.set_where("use_conv_bias", "blk.0.ssm_conv1d.bias");
    Ok(())
}

/// Where `has` holds, from one layer on at equal distances: first layer and distance.
fn period(reader: &Reader<'_>, has: &[bool], key: &str) -> Result<[u64; 2], SpecError> {
    let at: Vec<usize> = (0..has.len()).filter(|layer| has[*layer]).collect();
    let first = at.first().copied().unwrap_or(0);
    let period = at.get(1).map_or(has.len().max(1), |second| second - first);
    let expected = |layer: usize| !at.is_empty() && layer % period == first % period;
    if first >= period || (0..has.len()).any(|layer| has[layer] != expected(layer)) {
        let reason = "its layers do not repeat";
        return Err(reader.unsupported(key, &json!(has), reason));
    }
    Ok([first as u64, period as u64])
}

/// What the layers of Mamba-2 beside attention have in common.
fn beside_attention(reader: &mut Reader<'_>, heads: bool) -> Read {
    let inner = expansion(reader, "mamba_expand")?;
    reader.copy("ssm.conv_kernel", "mamba_d_conv")?;
    reader.copy("ssm.state_size", "mamba_d_state")?;
    let rank = reader.size("ssm.time_step_rank")?;
    if heads {
        reader.set("mamba_n_heads", rank);
        reader.set("mamba_d_head", inner / rank.max(1));
        reader.copy("ssm.group_count", "mamba_n_groups")?;
    } else {
        reader.set("mamba_dt_rank", rank);
    }
    reader.set("mamba_conv_bias", reader.has_any(".ssm_conv1d.bias"));
    reader.set("mamba_proj_bias", reader.has_any(".ssm_in.bias"));
    Ok(())
}

pub(super) fn jamba(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "jamba");
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    beside_attention(reader, false)?;
    let attends = reader.layers_with("attn_q.weight")?;
    let [offset, distance] = period(reader, &attends, "attention.head_count_kv")?;
    reader.set("attn_layer_offset", offset);
    reader.set("attn_layer_period", distance);
    let sparse = reader.layers_with("ffn_gate_inp.weight")?;
    let [offset, distance] = period(reader, &sparse, "expert_count")?;
    reader.set("expert_layer_offset", offset);
    reader.set("expert_layer_period", distance);
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")
}

pub(super) fn granite_hybrid(reader: &mut Reader<'_>) -> Read {
    // Bamba has none of Granite's factors.
    let is_granite = reader.value("attention.scale").is_some();
    let model_type = ["bamba", "granitemoehybrid"][usize::from(is_granite)];
    reader.set("model_type", model_type);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    beside_attention(reader, true)?;
    let rotates = reader.value("rope.scaling.finetuned");
    if is_granite && rotates == Some(false.into()) {
        reader.ignore(&["rope.freq_base", "rope.dimension_count"]);
        reader.set("position_embedding_type", "nope");
    } else {
        let head_dim = reader.head_dim()?;
        reader.rotation(head_dim, !is_granite)?;
    }
    let attends = reader.layers_with("attn_q.weight")?;
    if is_granite {
        reader.kinds("layer_types", attends, ["mamba", "attention"]);
        let experts = reader.number("expert_count")?.unwrap_or(0);
        reader.set("num_local_experts", experts);
        reader.copy_if("expert_used_count", "num_experts_per_tok");
        let shared = reader.number("expert_shared_feed_forward_length")?;
        let own = reader.get("intermediate_size").cloned();
        let shared = shared.map(Value::from).or(own).unwrap_or_default();
        reader.set("shared_intermediate_size", shared);
        multipliers(reader);
    } else {
        let at: Vec<usize> = (0..attends.len()).filter(|at| attends[*at]).collect();
        reader.set("attn_layer_indices", json!(at));
        reader.ignore(&["expert_used_count", "expert_count"]);
    }
    Ok(())
}

pub(super) fn falcon_h1(reader: &mut Reader<'_>) -> Read {
    rms(reader, "falcon_h1")?;
    let inner = reader.size("ssm.inner_size")?;
    let heads = reader.size("ssm.time_step_rank")?;
    reader.set("mamba_d_ssm", inner);
    reader.set("mamba_n_heads", heads);
    reader.set("mamba_d_head", inner / heads.max(1));
    reader.copy("ssm.conv_kernel", "mamba_d_conv")?;
    reader.copy("ssm.state_size", "mamba_d_state")?;
    reader.copy("ssm.group_count", "mamba_n_groups")?;
    reader.set_where("mamba_conv_bias", "blk.0.ssm_conv1d.bias");
    reader.set_where("mamba_rms_norm", "blk.0.ssm_norm.weight");
    // They are in the weights.
    for key in [
        "attention_in_multiplier",
        "attention_out_multiplier",
        "embedding_multiplier",
        "key_multiplier",
        "lm_head_multiplier",
        "ssm_in_multiplier",
        "ssm_out_multiplier",
    ] {
        reader.set(key, 1.0);
    }
    reader.set("mlp_multipliers", json!([1.0, 1.0]));
    reader.set("ssm_multipliers", json!([1.0, 1.0, 1.0, 1.0, 1.0]));
    Ok(())
}

pub(super) fn nemotron_h(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "nemotron_h");
    reader.sizes()?;
    for key in ["max_position_embeddings", "num_hidden_layers"] {
        reader.unset(key);
    }
    reader.epsilon("layer_norm_epsilon");
    reader.ignore(&["rope.dimension_count", "rope.scaling.finetuned"]);
    let head_dim = reader.head_dim()?;
    reader.set("head_dim", head_dim);
    let tensors = ["ssm_in", "attn_q", "ffn_gate_inp", "ffn_up"];
    let mut kinds = Vec::new();
    let layers = tensors.map(|tensor| reader.layers_with(&format!("{tensor}.weight")));
    let [scans, attends, sparse, dense] = layers;
    let (scans, attends, sparse, dense) = (scans?, attends?, sparse?, dense?);
    for layer in 0..scans.len() {
        kinds.push(match () {
            () if scans[layer] => "mamba",
            () if attends[layer] => "attention",
            () if sparse[layer] => "moe",
            () => "mlp",
        });
    }
    reader.set("layers_block_type", json!(kinds));
    if let Some(layer) = dense.iter().position(|has| *has) {
        let shape = reader.shape(&format!("blk.{layer}.ffn_up.weight"))?;
        reader.set("intermediate_size", shape.first().copied().unwrap_or(0));
    }
    let inner = reader.size("ssm.inner_size")?;
    let heads = reader.size("ssm.time_step_rank")?;
    reader.set("mamba_num_heads", heads);
    reader.set("mamba_head_dim", inner / heads.max(1));
    reader.copy("ssm.conv_kernel", "conv_kernel")?;
    reader.copy("ssm.state_size", "ssm_state_size")?;
    reader.copy("ssm.group_count", "n_groups")?;
    if sparse.contains(&true) {
        reader.experts("n_routed_experts", "moe_intermediate_size")?;
        reader.copy(
            "expert_shared_feed_forward_length",
            "moe_shared_expert_intermediate_size",
        )?;
        reader.copy("expert_shared_count", "n_shared_experts")?;
        reader.copy_if("expert_weights_norm", "norm_topk_prob");
        reader.copy_if("expert_weights_scale", "routed_scaling_factor");
        reader.copy_if("expert_group_count", "n_group");
        reader.copy_if("expert_group_used_count", "topk_group");
        reader.copy_if("moe_latent_size", "moe_latent_size");
    } else {
        // The converter writes what the class would have by default.
        reader.ignore(&[
            "expert_count",
            "expert_used_count",
            "expert_feed_forward_length",
            "expert_shared_feed_forward_length",
            "expert_shared_count",
            "expert_weights_norm",
            "expert_weights_scale",
            "expert_group_count",
            "expert_group_used_count",
        ]);
    }
    Ok(())
}

/// What layers attend to, without a state and with one.
pub(super) const STATES: [&str; 2] = ["full_attention", "linear_attention"];

/// Sizes and kinds of layers of the gated delta rule.
fn delta(reader: &mut Reader<'_>) -> Read {
    reader.copy("ssm.conv_kernel", "linear_conv_kernel_dim")?;
    reader.copy("ssm.state_size", "linear_key_head_dim")?;
    reader.copy("ssm.group_count", "linear_num_key_heads")?;
    let heads = reader.size("ssm.time_step_rank")?;
    let inner = reader.size("ssm.inner_size")?;
    reader.set("linear_num_value_heads", heads);
    reader.set("linear_value_head_dim", inner / heads.max(1));
    reader.ignore(&["full_attention_interval", "attention.recurrent_layers"]);
    let recurrent = reader.layers_with("ssm_out.weight")?;
    reader.kinds("layer_types", recurrent, STATES);
    Ok(())
}

/// What has an attention whose heads are rotated in part.
fn qwen(reader: &mut Reader<'_>, model_type: &str) -> Read {
    rms_in_part(reader, model_type)?;
    // Of text all three axes are the same.
    reader.ignore(&["rope.dimension_sections"]);
    delta(reader)
}

pub(super) fn qwen3next(reader: &mut Reader<'_>) -> Read {
    qwen(reader, "qwen3_next")?;
    qwen_experts(reader)?;
    reader.unset("use_sliding_window");
    reader.copy(
        "expert_shared_feed_forward_length",
        "shared_expert_intermediate_size",
    )?;
    reader.set("norm_topk_prob", true);
    Ok(())
}

pub(super) fn qwen35(reader: &mut Reader<'_>) -> Read {
    qwen(reader, "qwen3_5_text")
}

pub(super) fn qwen35moe(reader: &mut Reader<'_>) -> Read {
    qwen(reader, "qwen3_5_moe_text")?;
    qwen_experts(reader)?;
    for key in [
        "use_sliding_window",
        "decoder_sparse_step",
        "mlp_only_layers",
    ] {
        reader.unset(key);
    }
    reader.copy(
        "expert_shared_feed_forward_length",
        "shared_expert_intermediate_size",
    )
}

/// Short convolutions beside attention.
fn convolutions(reader: &mut Reader<'_>, model_type: &str) -> Read {
    reader.set("model_type", model_type);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "norm_eps")?;
    reader.copy("shortconv.l_cache", "conv_L_cache")?;
    let head_dim = reader.head_dim()?;
    reader.rotation(head_dim, false)?;
    let attends = reader.layers_with("attn_q.weight")?;
    reader.kinds("layer_types", attends, ["conv", "full_attention"]);
    reader.set("conv_bias", reader.has_any(".shortconv.conv.bias"));
    Ok(())
}

pub(super) fn lfm2(reader: &mut Reader<'_>) -> Read {
    convolutions(reader, "lfm2")?;
    reader.set("block_auto_adjust_ff_dim", false);
    Ok(())
}

pub(super) fn lfm2moe(reader: &mut Reader<'_>) -> Read {
    convolutions(reader, "lfm2_moe")?;
    reader.experts("num_experts", "moe_intermediate_size")?;
    reader.copy("leading_dense_block_count", "num_dense_layers")?;
    reader.ignore(&["expert_gating_func"]);
    reader.set("use_expert_bias", reader.has_any(".exp_probs_b.bias"));
    reader.set("norm_topk_prob", true);
    Ok(())
}

/// The delta rule with a decay of every feature.
pub(super) const DELTA: Names = layers(
    "model.layers.*.self_attn.",
    &[
        row("q_conv1d", "ssm_conv1d_q"),
        row("k_conv1d", "ssm_conv1d_k"),
        row("v_conv1d", "ssm_conv1d_v"),
        row("f_a_proj", "ssm_f_a"),
        row("f_b_proj", "ssm_f_b"),
        row("g_a_proj", "ssm_g_a"),
        row("g_b_proj", "ssm_g_b"),
        row("b_proj", "ssm_beta"),
        row("dt_bias", "ssm_dt.bias"),
        decay("A_log", "ssm_a"),
        row("o_norm", "ssm_norm"),
    ],
);

pub(super) const KIMI_LINEAR: &[Names] = &[
    LATENT,
    DELTA,
    MIXTRAL,
    layers("model.layers.*.block_sparse_moe.shared_experts.", SHARED),
];

pub(super) fn kimi_linear(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "kimi_linear");
    reader.sizes()?;
    let heads = reader.size("attention.head_count")?;
    reader.set("num_key_value_heads", heads);
    reader.unset("max_position_embeddings");
    reader.copy("context_length", "model_max_length")?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.copy("attention.kv_lora_rank", "kv_lora_rank")?;
    latent_heads(reader)?;
    reader.copy("ssm.conv_kernel", "linear_conv_kernel_dim")?;
    reader.copy("kda.head_dim", "linear_head_dim")?;
    reader.set("linear_num_heads", heads);
    let states = reader.layers_with("ssm_beta.weight")?;
    reader.kinds("layer_types", states, STATES);
    network_kinds(reader)?;
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "num_experts_per_token")?;
    reader.copy("expert_feed_forward_length", "moe_intermediate_size")?;
    reader.copy("expert_shared_count", "num_shared_experts")?;
    reader.copy("expert_weights_scale", "routed_scaling_factor")?;
    reader.copy_if("expert_group_count", "num_expert_group");
    reader.copy_if("expert_group_used_count", "topk_group");
    reader.ignore(&["expert_gating_func"]);
    reader.set("moe_renormalize", true);
    Ok(())
}
