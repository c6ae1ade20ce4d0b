//! GPT-2's relatives, and others with layer norms.

use serde_json::{Value, json};

use super::architecture::{Change, Row, changed, row};
use super::llama::layer_norm;
use super::reader::{Read, Reader};

/// GPT-2's.
pub(super) const GPT2: &[Row] = &[
    row("transformer.wte", "token_embd"),
    row("transformer.wpe", "position_embd"),
    row("transformer.ln_f", "output_norm"),
    row("transformer.h.*.ln_1", "blk.*.attn_norm"),
    row("transformer.h.*.ln_2", "blk.*.ffn_norm"),
    changed(
        "transformer.h.*.attn.c_attn",
        "blk.*.attn_qkv",
        Change::Transposed,
    ),
    changed(
        "transformer.h.*.attn.c_proj",
        "blk.*.attn_output",
        Change::Transposed,
    ),
    changed(
        "transformer.h.*.mlp.c_fc",
        "blk.*.ffn_up",
        Change::Transposed,
    ),
    changed(
        "transformer.h.*.mlp.c_proj",
        "blk.*.ffn_down",
        Change::Transposed,
    ),
];

pub(super) const NEOX: &[Row] = &[
    row("gpt_neox.embed_in", "token_embd"),
    row("embed_out", "output"),
    row("gpt_neox.final_layer_norm", "output_norm"),
    row("gpt_neox.layers.*.input_layernorm", "blk.*.attn_norm"),
    row(
        "gpt_neox.layers.*.post_attention_layernorm",
        "blk.*.ffn_norm",
    ),
    changed(
        "gpt_neox.layers.*.attention.query_key_value",
        "blk.*.attn_qkv",
        Change::Unmixed,
    ),
    row("gpt_neox.layers.*.attention.dense", "blk.*.attn_output"),
    row("gpt_neox.layers.*.mlp.dense_h_to_4h", "blk.*.ffn_up"),
    row("gpt_neox.layers.*.mlp.dense_4h_to_h", "blk.*.ffn_down"),
];

pub(super) const BLOOM: &[Row] = &[
    row("transformer.word_embeddings", "token_embd"),
    row("transformer.word_embeddings_layernorm", "token_embd_norm"),
    row("transformer.ln_f", "output_norm"),
    row("transformer.h.*.input_layernorm", "blk.*.attn_norm"),
    row("transformer.h.*.post_attention_layernorm", "blk.*.ffn_norm"),
    changed(
        "transformer.h.*.self_attention.query_key_value",
        "blk.*.attn_qkv",
        Change::Unmixed,
    ),
    row("transformer.h.*.self_attention.dense", "blk.*.attn_output"),
    row("transformer.h.*.mlp.dense_h_to_4h", "blk.*.ffn_up"),
    row("transformer.h.*.mlp.dense_4h_to_h", "blk.*.ffn_down"),
];

pub(super) const FALCON: &[Row] = &[
    row("transformer.word_embeddings", "token_embd"),
    row("transformer.ln_f", "output_norm"),
    row("transformer.h.*.input_layernorm", "blk.*.attn_norm"),
    row("transformer.h.*.ln_attn", "blk.*.attn_norm_2"),
    row("transformer.h.*.ln_mlp", "blk.*.attn_norm"),
    changed(
        "transformer.h.*.self_attention.query_key_value",
        "blk.*.attn_qkv",
        Change::Unmixed,
    ),
    row("transformer.h.*.self_attention.dense", "blk.*.attn_output"),
    row("transformer.h.*.mlp.dense_h_to_4h", "blk.*.ffn_up"),
    row("transformer.h.*.mlp.dense_4h_to_h", "blk.*.ffn_down"),
];

pub(super) const MPT: &[Row] = &[
    row("transformer.wte", "token_embd"),
    row("transformer.wpe", "position_embd"),
    row("transformer.norm_f", "output_norm"),
    row("transformer.blocks.*.norm_1", "blk.*.attn_norm"),
    row("transformer.blocks.*.norm_2", "blk.*.ffn_norm"),
    row("transformer.blocks.*.attn.Wqkv", "blk.*.attn_qkv"),
    row("transformer.blocks.*.attn.out_proj", "blk.*.attn_output"),
    row("transformer.blocks.*.attn.q_ln", "blk.*.attn_q_norm"),
    row("transformer.blocks.*.attn.k_ln", "blk.*.attn_k_norm"),
    row("transformer.blocks.*.ffn.up_proj", "blk.*.ffn_up"),
    row("transformer.blocks.*.ffn.down_proj", "blk.*.ffn_down"),
];

pub(super) const PHI2: &[Row] = &[
    row("model.final_layernorm", "output_norm"),
    row("model.layers.*.self_attn.dense", "blk.*.attn_output"),
    row("model.layers.*.mlp.fc1", "blk.*.ffn_up"),
    row("model.layers.*.mlp.fc2", "blk.*.ffn_down"),
];

pub(super) const STARCODER2: &[Row] = &[
    row("model.layers.*.mlp.c_fc", "blk.*.ffn_up"),
    row("model.layers.*.mlp.c_proj", "blk.*.ffn_down"),
];

pub(super) const STABLELM: &[Row] = &[
    row(
        "model.layers.*.self_attn.q_layernorm.norms.{}",
        "blk.*.attn_q_norm",
    ),
    row(
        "model.layers.*.self_attn.k_layernorm.norms.{}",
        "blk.*.attn_k_norm",
    ),
];

pub(super) const BERT: &[Row] = &[
    row("bert.embeddings.word_embeddings", "token_embd"),
    row("bert.embeddings.position_embeddings", "position_embd"),
    row("bert.embeddings.token_type_embeddings", "token_types"),
    row("bert.embeddings.LayerNorm", "token_embd_norm"),
    row("bert.encoder.layer.*.attention.self.query", "blk.*.attn_q"),
    row("bert.encoder.layer.*.attention.self.key", "blk.*.attn_k"),
    row("bert.encoder.layer.*.attention.self.value", "blk.*.attn_v"),
    row(
        "bert.encoder.layer.*.attention.output.dense",
        "blk.*.attn_output",
    ),
    row(
        "bert.encoder.layer.*.attention.output.LayerNorm",
        "blk.*.attn_output_norm",
    ),
    row("bert.encoder.layer.*.intermediate.dense", "blk.*.ffn_up"),
    row("bert.encoder.layer.*.output.dense", "blk.*.ffn_down"),
    row(
        "bert.encoder.layer.*.output.LayerNorm",
        "blk.*.layer_output_norm",
    ),
];

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
    let width = reader.get("intermediate_size").cloned();
    reader.unset("intermediate_size");
    reader.set("n_inner", width.unwrap_or_default());
    Ok(())
}

pub(super) fn gptneox(reader: &mut Reader<'_>) -> Read {
    classic(reader, "gpt_neox", "layer_norm_eps")?;
    let parallel = reader.value("use_parallel_residual");
    reader.set("use_parallel_residual", parallel.unwrap_or(true.into()));
    let head_dim = reader.head_dim()?;
    reader.rotation(head_dim, true)?;
    let part = reader.get("partial_rotary_factor").cloned();
    reader.unset("partial_rotary_factor");
    reader.set("rotary_pct", part.unwrap_or_default());
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
    let width = reader.get("intermediate_size").cloned();
    reader.unset("intermediate_size");
    reader.set("ffn_hidden_size", width.unwrap_or_default());
    let kv_heads = reader.number("attention.head_count_kv")?.unwrap_or(1);
    let new = reader.has("blk.0.attn_norm_2.weight");
    reader.unset("num_key_value_heads");
    reader.set("new_decoder_architecture", new);
    reader.set("multi_query", kv_heads == 1);
    reader.set("num_kv_heads", kv_heads);
    reader.set("bias", reader.has("blk.0.attn_qkv.bias"));
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
    reader.set("use_bias", reader.has("blk.0.attn_q.bias"));
    reader.set("sliding_window", Value::Null);
    Ok(())
}

pub(super) fn stablelm(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "stablelm", "layer_norm_eps", true)?;
    reader.copy("use_parallel_residual", "use_parallel_residual")?;
    reader.set("use_qkv_bias", reader.has("blk.0.attn_q.bias"));
    reader.set("qk_layernorm", reader.has("blk.0.attn_q_norm.weight"));
    Ok(())
}

pub(super) fn nemotron(reader: &mut Reader<'_>) -> Read {
    let head_dim = layer_norm(reader, "nemotron", "norm_eps", true)?;
    reader.set("head_dim", head_dim);
    reader.ignore(&["attention.layer_norm_rms_epsilon"]);
    reader.set("attention_bias", reader.has("blk.0.attn_q.bias"));
    reader.set("mlp_bias", reader.has("blk.0.ffn_up.bias"));
    Ok(())
}

pub(super) fn bert(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "bert");
    reader.set("architectures", json!(["BertModel"]));
    reader.sizes()?;
    for key in ["num_key_value_heads", "tie_word_embeddings"] {
        reader.unset(key);
    }
    reader.copy("attention.layer_norm_epsilon", "layer_norm_eps")?;
    // How sentences are made of tokens is said by who asks for it.
    reader.ignore(&["pooling_type"]);
    let types = reader.shape("token_types.weight")?;
    reader.set("type_vocab_size", types.first().copied().unwrap_or(0));
    match reader.value("attention.causal") {
        Some(Value::Bool(true)) => {
            let reason = "an encoder sees everything";
            Err(reader.unsupported("attention.causal", &true.into(), reason))
        }
        _ => Ok(()),
    }
}
