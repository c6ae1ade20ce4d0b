//! Encoders, and T5.

use serde_json::{Value, json};

use super::architecture::{Row, row};
use super::llama::{layer_norm, rms};
use super::reader::{Read, Reader};

pub(super) const MODERN_BERT: &[Row] = &[
    row("model.embeddings.tok_embeddings", "token_embd"),
    row("model.embeddings.norm", "token_embd_norm"),
    row("model.final_norm", "output_norm"),
    row("model.layers.*.attn_norm", "blk.*.attn_norm"),
    row("model.layers.*.mlp_norm", "blk.*.ffn_norm"),
    row("model.layers.*.attn.Wqkv", "blk.*.attn_qkv"),
    row("model.layers.*.attn.Wo", "blk.*.attn_output"),
    row("model.layers.*.mlp.Wi", "blk.*.ffn_up"),
    row("model.layers.*.mlp.Wo", "blk.*.ffn_down"),
];

/// An encoder: how sentences are made of tokens is said by who asks for it.
fn encoder(reader: &mut Reader<'_>, class: &str) -> Read {
    reader.set("architectures", json!([class]));
    reader.unset("tie_word_embeddings");
    reader.ignore(&["pooling_type", "classifier.pooling_type"]);
    match reader.value("attention.causal") {
        Some(Value::Bool(true)) => {
            let reason = "an encoder sees everything";
            Err(reader.unsupported("attention.causal", &true.into(), reason))
        }
        _ => Ok(()),
    }
}

pub(super) fn modern_bert(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "modernbert");
    reader.sizes()?;
    reader.unset("num_key_value_heads");
    for key in [
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
    ] {
        reader.copy_if(key, "norm_eps");
    }
    reader.copy_if("hidden_activation", "hidden_activation");
    let window = reader.size("attention.sliding_window")?;
    reader.set("local_attention", window);
    reader.ignore(&["rope.scaling.type"]);
    let [global, local] = ["rope.freq_base", "rope.freq_base_swa"].map(|key| reader.needed(key));
    let (global, local) = (global?, local?);
    let usual = reader.number("attention.sliding_window_pattern")?;
    let every = usual.unwrap_or(3).max(1);
    let layers = reader.size("block_count")?;
    let kind = |layer: u64| match layer % every {
        0 => "full_attention",
        _ => "sliding_attention",
    };
    let kinds: Vec<&str> = (0..layers.min(10_000)).map(kind).collect();
    reader.set("layer_types", json!(kinds));
    reader.set(
        "rope_parameters",
        json!({
            "full_attention": {"rope_type": "default", "rope_theta": global},
            "sliding_attention": {"rope_type": "default", "rope_theta": local}
        }),
    );
    encoder(reader, "ModernBertModel")
}

pub(super) fn eurobert(reader: &mut Reader<'_>) -> Read {
    rms(reader, "eurobert")?;
    encoder(reader, "EuroBertModel")
}

pub(super) const T5: &[Row] = &[
    row("transformer.shared", "token_embd"),
    row("transformer.encoder.final_layer_norm", "enc.output_norm"),
    row(
        "transformer.encoder.block.*.layer.0.layer_norm",
        "enc.blk.*.attn_norm",
    ),
    row(
        "transformer.encoder.block.*.layer.0.SelfAttention.q",
        "enc.blk.*.attn_q",
    ),
    row(
        "transformer.encoder.block.*.layer.0.SelfAttention.k",
        "enc.blk.*.attn_k",
    ),
    row(
        "transformer.encoder.block.*.layer.0.SelfAttention.v",
        "enc.blk.*.attn_v",
    ),
    row(
        "transformer.encoder.block.*.layer.0.SelfAttention.o",
        "enc.blk.*.attn_o",
    ),
    row(
        "transformer.encoder.block.*.layer.0.SelfAttention.relative_attention_bias",
        "enc.blk.*.attn_rel_b",
    ),
    row(
        "transformer.encoder.block.*.layer.1.layer_norm",
        "enc.blk.*.ffn_norm",
    ),
    row(
        "transformer.encoder.block.*.layer.1.DenseReluDense.wi",
        "enc.blk.*.ffn_up",
    ),
    row(
        "transformer.encoder.block.*.layer.1.DenseReluDense.wi_0",
        "enc.blk.*.ffn_gate",
    ),
    row(
        "transformer.encoder.block.*.layer.1.DenseReluDense.wi_1",
        "enc.blk.*.ffn_up",
    ),
    row(
        "transformer.encoder.block.*.layer.1.DenseReluDense.wo",
        "enc.blk.*.ffn_down",
    ),
    row("transformer.decoder.final_layer_norm", "dec.output_norm"),
    row(
        "transformer.decoder.block.*.layer.0.layer_norm",
        "dec.blk.*.attn_norm",
    ),
    row(
        "transformer.decoder.block.*.layer.0.SelfAttention.q",
        "dec.blk.*.attn_q",
    ),
    row(
        "transformer.decoder.block.*.layer.0.SelfAttention.k",
        "dec.blk.*.attn_k",
    ),
    row(
        "transformer.decoder.block.*.layer.0.SelfAttention.v",
        "dec.blk.*.attn_v",
    ),
    row(
        "transformer.decoder.block.*.layer.0.SelfAttention.o",
        "dec.blk.*.attn_o",
    ),
    row(
        "transformer.decoder.block.*.layer.0.SelfAttention.relative_attention_bias",
        "dec.blk.*.attn_rel_b",
    ),
    row(
        "transformer.decoder.block.*.layer.1.layer_norm",
        "dec.blk.*.cross_attn_norm",
    ),
    row(
        "transformer.decoder.block.*.layer.1.EncDecAttention.q",
        "dec.blk.*.cross_attn_q",
    ),
    row(
        "transformer.decoder.block.*.layer.1.EncDecAttention.k",
        "dec.blk.*.cross_attn_k",
    ),
    row(
        "transformer.decoder.block.*.layer.1.EncDecAttention.v",
        "dec.blk.*.cross_attn_v",
    ),
    row(
        "transformer.decoder.block.*.layer.1.EncDecAttention.o",
        "dec.blk.*.cross_attn_o",
    ),
    row(
        "transformer.decoder.block.*.layer.2.layer_norm",
        "dec.blk.*.ffn_norm",
    ),
    row(
        "transformer.decoder.block.*.layer.2.DenseReluDense.wi",
        "dec.blk.*.ffn_up",
    ),
    row(
        "transformer.decoder.block.*.layer.2.DenseReluDense.wi_0",
        "dec.blk.*.ffn_gate",
    ),
    row(
        "transformer.decoder.block.*.layer.2.DenseReluDense.wi_1",
        "dec.blk.*.ffn_up",
    ),
    row(
        "transformer.decoder.block.*.layer.2.DenseReluDense.wo",
        "dec.blk.*.ffn_down",
    ),
];

/// T5, and what has a table of distances in every layer, UMT5.
fn t5_of(reader: &mut Reader<'_>, class: &str) -> Read {
    let has_own = reader.has("enc.blk.1.attn_rel_b.weight");
    reader.set("model_type", if has_own { "umt5" } else { "t5" });
    let prefix = if has_own { "UMT5" } else { "T5" };
    reader.set("architectures", json!([format!("{prefix}{class}")]));
    reader.copy("block_count", "num_layers")?;
    reader.copy("embedding_length", "d_model")?;
    reader.copy("feed_forward_length", "d_ff")?;
    reader.copy("attention.head_count", "num_heads")?;
    reader.copy("attention.key_length", "d_kv")?;
    reader.copy("attention.layer_norm_rms_epsilon", "layer_norm_epsilon")?;
    reader.copy(
        "attention.relative_buckets_count",
        "relative_attention_num_buckets",
    )?;
    reader.ignore(&[
        "context_length",
        "attention.value_length",
        "attention.layer_norm_epsilon",
        "decoder_start_token_id",
    ]);
    let is_gated = reader.has("enc.blk.0.ffn_gate.weight");
    let form = if is_gated { "gated-gelu" } else { "relu" };
    reader.set("feed_forward_proj", form);
    reader.table()
}

pub(super) fn t5(reader: &mut Reader<'_>) -> Read {
    t5_of(reader, "ForConditionalGeneration")?;
    reader.copy("decoder_block_count", "num_decoder_layers")
}

pub(super) fn t5encoder(reader: &mut Reader<'_>) -> Read {
    t5_of(reader, "EncoderModel")
}

pub(super) const NOMIC_BERT: &[Row] = &[
    row("nomic_bert.embeddings.word_embeddings", "token_embd"),
    row("nomic_bert.embeddings.token_type_embeddings", "token_types"),
    row("nomic_bert.emb_ln", "token_embd_norm"),
    row("nomic_bert.encoder.layers.*.attn.Wqkv", "blk.*.attn_qkv"),
    row(
        "nomic_bert.encoder.layers.*.attn.out_proj",
        "blk.*.attn_output",
    ),
    row("nomic_bert.encoder.layers.*.mlp.fc11", "blk.*.ffn_up"),
    row("nomic_bert.encoder.layers.*.mlp.fc12", "blk.*.ffn_gate"),
    row("nomic_bert.encoder.layers.*.mlp.fc2", "blk.*.ffn_down"),
    row(
        "nomic_bert.encoder.layers.*.norm1",
        "blk.*.attn_output_norm",
    ),
    row(
        "nomic_bert.encoder.layers.*.norm2",
        "blk.*.layer_output_norm",
    ),
];

pub(super) fn nomic_bert(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "nomic_bert", "layer_norm_eps", false)?;
    reader.unset("num_key_value_heads");
    let types = reader.shape("token_types.weight")?;
    reader.set("type_vocab_size", types.first().copied());
    encoder(reader, "NomicBertModel")
}

pub(super) const JINA: &[Row] = &[
    row("bert.encoder.layer.*.mlp.gated_layers", "blk.*.ffn_up"),
    row("bert.encoder.layer.*.mlp.wo", "blk.*.ffn_down"),
    row(
        "bert.encoder.layer.*.mlp.layernorm",
        "blk.*.layer_output_norm",
    ),
    super::gpt::BERT[0],
    super::gpt::BERT[2],
    super::gpt::BERT[3],
    super::gpt::BERT[4],
    super::gpt::BERT[5],
    super::gpt::BERT[6],
    super::gpt::BERT[7],
    super::gpt::BERT[8],
];

/// Jina's second version, in the form without norms of queries and keys.
pub(super) fn jina2(reader: &mut Reader<'_>) -> Read {
    for tensor in ["blk.0.attn_q_norm.weight", "blk.0.ffn_gate.weight"] {
        if reader.has(tensor) {
            let found = Value::from(tensor);
            let reason = "the form with norms of queries and keys is not read";
            return Err(reader.unsupported("tensors", &found, reason));
        }
    }
    super::gpt::bert(reader)?;
    reader.set("position_embedding_type", "alibi");
    reader.set("feed_forward_type", "geglu");
    Ok(())
}
