//! GPT-2's relatives, and others with layer norms.

use serde_json::{Value, json};

use super::architecture::{Change, Names, Row, changed, layers, row, under};
use super::llama::layer_norm;
use super::reader::{Read, Reader};
use super::usual::NORMS;

/// What stands in front of and behind the layers of GPT-2's relatives.
pub(super) const ENDS: Names = under(
    "transformer.",
    "",
    &[
        row("wte", "token_embd"),
        row("wpe", "position_embd"),
        row("word_embeddings", "token_embd"),
        row("word_embeddings_layernorm", "token_embd_norm"),
        row("ln_f", "output_norm"),
        row("norm_f", "output_norm"),
    ],
);

pub(super) const GPT2: &[Names] = &[
    ENDS,
    layers(
        "transformer.h.*.",
        &[
            row("ln_1", "attn_norm"),
            row("ln_2", "ffn_norm"),
            changed("attn.c_attn", "attn_qkv", Change::Transposed),
            changed("attn.c_proj", "attn_output", Change::Transposed),
            changed("mlp.c_fc", "ffn_up", Change::Transposed),
            changed("mlp.c_proj", "ffn_down", Change::Transposed),
        ],
    ),
];

/// Fused queries, keys and values.
const FUSED: &[Row] = &[
    changed("query_key_value", "attn_qkv", Change::Unmixed),
    row("dense", "attn_output"),
];

/// A network four times as wide inside.
const WIDE: &[Row] = &[
    row("dense_h_to_4h", "ffn_up"),
    row("dense_4h_to_h", "ffn_down"),
];

pub(super) const NEOX: &[Names] = &[
    under(
        "",
        "",
        &[
            row("gpt_neox.embed_in", "token_embd"),
            row("embed_out", "output"),
            row("gpt_neox.final_layer_norm", "output_norm"),
        ],
    ),
    layers("gpt_neox.layers.*.", NORMS),
    layers("gpt_neox.layers.*.attention.", FUSED),
    layers("gpt_neox.layers.*.mlp.", WIDE),
];

pub(super) const BLOOM: &[Names] = &[
    ENDS,
    layers("transformer.h.*.", NORMS),
    layers("transformer.h.*.self_attention.", FUSED),
    layers("transformer.h.*.mlp.", WIDE),
];

pub(super) const FALCON: &[Names] = &[
    ENDS,
    layers(
        "transformer.h.*.",
        &[
            row("input_layernorm", "attn_norm"),
            row("ln_attn", "attn_norm_2"),
            row("ln_mlp", "attn_norm"),
        ],
    ),
    layers("transformer.h.*.self_attention.", FUSED),
    layers("transformer.h.*.mlp.", WIDE),
];

pub(super) const MPT: &[Names] = &[
    ENDS,
    layers(
        "transformer.blocks.*.",
        &[
            row("norm_1", "attn_norm"),
            row("norm_2", "ffn_norm"),
            row("attn.Wqkv", "attn_qkv"),
            row("attn.out_proj", "attn_output"),
            row("attn.q_ln", "attn_q_norm"),
            row("attn.k_ln", "attn_k_norm"),
            row("ffn.up_proj", "ffn_up"),
            row("ffn.down_proj", "ffn_down"),
        ],
    ),
];

pub(super) const PHI2: &[Names] = &[
    under("model.", "", &[row("final_layernorm", "output_norm")]),
    layers(
        "model.layers.*.",
        &[
            row("self_attn.dense", "attn_output"),
            row("mlp.fc1", "ffn_up"),
            row("mlp.fc2", "ffn_down"),
        ],
    ),
];

pub(super) const STARCODER2: Names = layers(
    "model.layers.*.mlp.",
    &[row("c_fc", "ffn_up"), row("c_proj", "ffn_down")],
);

pub(super) const STABLELM: Names = layers(
    "model.layers.*.self_attn.",
    &[
        row("q_layernorm.norms.{}", "attn_q_norm"),
        row("k_layernorm.norms.{}", "attn_k_norm"),
    ],
);

/// Sizes of a model whose heads all have keys and values of their own, and no rotation.
pub(super) fn classic(reader: &mut Reader<'_>, model_type: &str, epsilon: &str) -> Read {
    reader.set("model_type", model_type);
    reader.sizes()?;
    reader.unset("num_key_value_heads");
    reader.copy("attention.layer_norm_epsilon", epsilon)?;
    width(reader)
}

/// The width inside the feed-forward network, by its tensor: the key is a multiple of the model's own where the
/// converter knew no better.
pub(super) fn width(reader: &mut Reader<'_>) -> Read {
    let shape = reader.shape("blk.0.ffn_up.weight")?;
    reader.set("intermediate_size", shape.first().copied().unwrap_or(0));
    Ok(())
}

pub(super) fn gpt2(reader: &mut Reader<'_>) -> Read {
    classic(reader, "gpt2", "layer_norm_epsilon")?;
    reader.rename("intermediate_size", "n_inner");
    Ok(())
}

pub(super) fn gptneox(reader: &mut Reader<'_>) -> Read {
    classic(reader, "gpt_neox", "layer_norm_eps")?;
    let parallel = reader.value("use_parallel_residual");
    reader.set("use_parallel_residual", parallel.unwrap_or(true.into()));
    let head_dim = reader.head_dim()?;
    reader.rotation(head_dim, true)?;
    reader.rename("partial_rotary_factor", "rotary_pct");
    Ok(())
}

pub(super) fn bloom(reader: &mut Reader<'_>) -> Read {
    classic(reader, "bloom", "layer_norm_epsilon")?;
    reader.unset("intermediate_size");
    reader.unset("max_position_embeddings");
    Ok(())
}

pub(super) fn falcon(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "falcon");
    reader.sizes()?;
    reader.ignore(&["tensor_data_layout"]);
    reader.copy("attention.layer_norm_epsilon", "layer_norm_epsilon")?;
    width(reader)?;
    reader.rename("intermediate_size", "ffn_hidden_size");
    let kv_heads = reader.number("attention.head_count_kv")?.unwrap_or(1);
    reader.unset("num_key_value_heads");
    reader.set_where("new_decoder_architecture", "blk.0.attn_norm_2.weight");
    reader.set("multi_query", kv_heads == 1);
    reader.set("num_kv_heads", kv_heads);
    reader.set_where("bias", "blk.0.attn_qkv.bias");
    reader.set("alibi", false);
    reader.set("parallel_attn", true);
    let head_dim = reader.head_dim()?;
    reader.rotation(head_dim, false)
}

pub(super) fn mpt(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "mpt");
    reader.sizes()?;
    for key in [
        "num_key_value_heads",
        "intermediate_size",
        "max_position_embeddings",
    ] {
        reader.unset(key);
    }
    reader.copy("context_length", "max_seq_len")?;
    reader.copy("attention.layer_norm_epsilon", "layer_norm_epsilon")?;
    let alibi = reader
        .float("attention.max_alibi_bias")
        .filter(|bias| *bias > 0.0);
    let clamp = reader.value("attention.clamp_kqv");
    let norms = reader.has("blk.0.attn_q_norm.weight");
    reader.set("attn_config", json!({
        "alibi": alibi.is_some(), "alibi_bias_max": alibi.unwrap_or(8.0) as u64, "clip_qkv": clamp, "qk_ln": norms
    }));
    Ok(())
}

pub(super) fn phi2(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "phi", "layer_norm_eps", true)?;
    width(reader)
}

pub(super) fn starcoder2(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "starcoder2", "norm_epsilon", false)?;
    reader.set_where("use_bias", "blk.0.attn_q.bias");
    reader.set("sliding_window", Value::Null);
    Ok(())
}

/// `CodeShell`, which is `StarCoder` 2 with one tensor for queries, keys and values.
pub(super) fn codeshell(reader: &mut Reader<'_>) -> Read {
    starcoder2(reader)?;
    reader.set("use_bias", true);
    Ok(())
}

pub(super) fn stablelm(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "stablelm", "layer_norm_eps", true)?;
    reader.copy("use_parallel_residual", "use_parallel_residual")?;
    reader.set_where("use_qkv_bias", "blk.0.attn_q.bias");
    reader.set_where("qk_layernorm", "blk.0.attn_q_norm.weight");
    Ok(())
}

pub(super) fn nemotron(reader: &mut Reader<'_>) -> Read {
    let head_dim = layer_norm(reader, "nemotron", "norm_eps", true)?;
    reader.set("head_dim", head_dim);
    reader.ignore(&["attention.layer_norm_rms_epsilon"]);
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("mlp_bias", "blk.0.ffn_up.bias");
    Ok(())
}
