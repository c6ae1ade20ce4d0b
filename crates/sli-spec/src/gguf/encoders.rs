//! BERT and other encoders, and T5.

use serde_json::{Value, json};

use super::architecture::{Change, Names, Row, changed, layers, row, under};
use super::llama::{WINDOWS, layer_norm, rms};
use super::reader::{Read, Reader};

pub(super) const MODERN_BERT: &[Names] = &[
    under(
        "model.",
        "",
        &[
            row("embeddings.tok_embeddings", "token_embd"),
            row("embeddings.norm", "token_embd_norm"),
            row("final_norm", "output_norm"),
        ],
    ),
    layers(
        "model.layers.*.",
        &[
            row("attn_norm", "attn_norm"),
            row("mlp_norm", "ffn_norm"),
            row("attn.Wqkv", "attn_qkv"),
            row("attn.Wo", "attn_output"),
            row("mlp.Wi", "ffn_up"),
            row("mlp.Wo", "ffn_down"),
        ],
    ),
];

/// An encoder: how sentences are made of tokens is said by who asks for it.
fn encoder(reader: &mut Reader<'_>, class: &str) -> Read {
    reader.set("architectures", json!([class]));
    reader.unset("tie_word_embeddings");
    reader.ignore(&["classifier.pooling_type"]);
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
    reader.epsilon("norm_eps");
    reader.copy_if("hidden_activation", "hidden_activation");
    let window = reader.size("attention.sliding_window")?;
    reader.set("local_attention", window);
    reader.ignore(&["rope.scaling.type"]);
    let global = reader.needed("rope.freq_base")?;
    let local = reader.needed("rope.freq_base_swa")?;
    let usual = reader.number("attention.sliding_window_pattern")?;
    let every = usual.unwrap_or(3).max(1);
    let has_window = (0..reader.layers()?).map(|layer| layer % every != 0);
    reader.kinds("layer_types", has_window, WINDOWS);
    reader.plain_rotations(&global, &local);
    encoder(reader, "ModernBertModel")
}

pub(super) fn eurobert(reader: &mut Reader<'_>) -> Read {
    rms(reader, "eurobert")?;
    encoder(reader, "EuroBertModel")
}

const SELF_ATTENTION: &[Row] = &[
    row("layer_norm", "attn_norm"),
    row("SelfAttention.q", "attn_q"),
    row("SelfAttention.k", "attn_k"),
    row("SelfAttention.v", "attn_v"),
    row("SelfAttention.o", "attn_o"),
    row("SelfAttention.relative_attention_bias", "attn_rel_b"),
];

const CROSS_ATTENTION: &[Row] = &[
    row("layer_norm", "cross_attn_norm"),
    row("EncDecAttention.q", "cross_attn_q"),
    row("EncDecAttention.k", "cross_attn_k"),
    row("EncDecAttention.v", "cross_attn_v"),
    row("EncDecAttention.o", "cross_attn_o"),
];

const FEED_FORWARD: &[Row] = &[
    row("layer_norm", "ffn_norm"),
    row("DenseReluDense.wi", "ffn_up"),
    row("DenseReluDense.wi_0", "ffn_gate"),
    row("DenseReluDense.wi_1", "ffn_up"),
    row("DenseReluDense.wo", "ffn_down"),
];

pub(super) const T5: &[Names] = &[
    under(
        "transformer.",
        "",
        &[
            row("shared", "token_embd"),
            row("encoder.final_layer_norm", "enc.output_norm"),
            row("decoder.final_layer_norm", "dec.output_norm"),
        ],
    ),
    encoder_layers("transformer.encoder.block.*.layer.0.", SELF_ATTENTION),
    encoder_layers("transformer.encoder.block.*.layer.1.", FEED_FORWARD),
    decoder_layers("transformer.decoder.block.*.layer.0.", SELF_ATTENTION),
    decoder_layers("transformer.decoder.block.*.layer.1.", CROSS_ATTENTION),
    decoder_layers("transformer.decoder.block.*.layer.2.", FEED_FORWARD),
];

const fn encoder_layers(reference: &'static str, rows: &'static [Row]) -> Names {
    under(reference, "enc.blk.*.", rows)
}

const fn decoder_layers(reference: &'static str, rows: &'static [Row]) -> Names {
    under(reference, "dec.blk.*.", rows)
}

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

pub(super) const NOMIC_BERT: &[Names] = &[
    under(
        "nomic_bert.",
        "",
        &[
            row("embeddings.word_embeddings", "token_embd"),
            row("embeddings.token_type_embeddings", "token_types"),
            row("emb_ln", "token_embd_norm"),
        ],
    ),
    layers(
        "nomic_bert.encoder.layers.*.",
        &[
            row("attn.Wqkv", "attn_qkv"),
            row("attn.out_proj", "attn_output"),
            row("mlp.fc11", "ffn_up"),
            row("mlp.fc12", "ffn_gate"),
            row("mlp.fc2", "ffn_down"),
            // Where there are experts.
            row("mlp.fc1", "ffn_up"),
            row("mlp.router.layer", "ffn_gate_inp"),
            row("mlp.experts.mlp.w1", "ffn_up_exps.weight"),
            changed(
                "mlp.experts.mlp.w2",
                "ffn_down_exps.weight",
                Change::Transposed,
            ),
            row("norm1", "attn_output_norm"),
            row("norm2", "layer_output_norm"),
        ],
    ),
];

/// Nomic's BERT with experts, which has its keys from GPT-2. The converter leaves out the experts' addend.
pub(super) fn nomic_bert_moe(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "nomic_bert");
    reader.copy("block_count", "n_layer")?;
    reader.copy("context_length", "n_positions")?;
    reader.copy("embedding_length", "n_embd")?;
    reader.copy("feed_forward_length", "n_inner")?;
    reader.copy("attention.head_count", "n_head")?;
    reader.copy("attention.layer_norm_epsilon", "layer_norm_epsilon")?;
    reader.copy("rope.freq_base", "rotary_emb_base")?;
    reader.copy("moe_every_n_layers", "moe_every_n_layers")?;
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "moe_top_k")?;
    reader.set("experts_without_addend", true);
    reader.set("activation_function", "gelu");
    reader.set("moe_normalize_expert_weights", false);
    for (key, tensor) in [
        ("qkv_proj_bias", "attn_qkv"),
        ("mlp_fc1_bias", "ffn_up"),
        ("mlp_fc2_bias", "ffn_down"),
    ] {
        reader.set_where(key, &format!("blk.0.{tensor}.bias"));
    }
    reader.table()?;
    token_types(reader)?;
    encoder(reader, "NomicBertModel")
}

pub(super) const NEO_BERT: &[Names] = &[
    under(
        "model.",
        "",
        &[
            row("encoder", "token_embd"),
            row("layer_norm", "enc.output_norm"),
        ],
    ),
    layers(
        "model.transformer_encoder.*.",
        &[
            row("attention_norm", "attn_norm"),
            row("qkv", "attn_qkv"),
            row("wo", "attn_output"),
            row("ffn_norm", "ffn_norm"),
            row("ffn.w12", "ffn_up"),
            row("ffn.w3", "ffn_down"),
        ],
    ),
];

/// `NeoBERT`: rows of a head's queries, keys and values stand together, as the published ones do.
pub(super) fn neo_bert(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "neobert");
    reader.sizes()?;
    reader.unset("num_key_value_heads");
    reader.rename("max_position_embeddings", "max_length");
    let width = reader.size("feed_forward_length")?;
    // Of which the class takes two thirds.
    reader.set("intermediate_size", (3 * width).div_ceil(2));
    reader.copy("attention.layer_norm_rms_epsilon", "norm_eps")?;
    reader.copy_if("rope.freq_base", "rope_theta");
    reader.ignore(&["rope.scaling.type", "attention.layer_norm_epsilon"]);
    encoder(reader, "NeoBERT")
}

pub(super) fn nomic_bert(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "nomic_bert", "layer_norm_eps", false)?;
    reader.unset("num_key_value_heads");
    token_types(reader)?;
    encoder(reader, "NomicBertModel")
}

pub(super) const JINA3: &[Names] = &[
    under(
        "roberta.",
        "",
        &[
            row("embeddings.word_embeddings", "token_embd"),
            row("embeddings.token_type_embeddings", "token_types"),
            row("emb_ln", "token_embd_norm"),
        ],
    ),
    layers(
        "roberta.encoder.layers.*.",
        &[
            row("mixer.Wqkv", "attn_qkv"),
            row("mixer.out_proj", "attn_output"),
            row("mlp.fc1", "ffn_up"),
            row("mlp.fc2", "ffn_down"),
            row("norm1", "attn_output_norm"),
            row("norm2", "layer_output_norm"),
        ],
    ),
];

/// Jina's third version, whose adapters are files of their own.
pub(super) fn jina3(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "jina_embeddings_v3", "layer_norm_eps", false)?;
    reader.unset("num_key_value_heads");
    token_types(reader)?;
    encoder(reader, "JinaEmbeddingsV3Model")
}

const BERT_EMBEDDINGS: Names = under(
    "bert.embeddings.",
    "",
    &[
        row("word_embeddings", "token_embd"),
        row("position_embeddings", "position_embd"),
        row("token_type_embeddings", "token_types"),
        row("LayerNorm", "token_embd_norm"),
    ],
);

const BERT_ATTENTION: Names = layers(
    "bert.encoder.layer.*.attention.",
    &[
        row("self.query", "attn_q"),
        row("self.key", "attn_k"),
        row("self.value", "attn_v"),
        row("output.dense", "attn_output"),
        row("output.LayerNorm", "attn_output_norm"),
    ],
);

pub(super) const BERT: &[Names] = &[
    BERT_EMBEDDINGS,
    BERT_ATTENTION,
    layers(
        "bert.encoder.layer.*.",
        &[
            row("intermediate.dense", "ffn_up"),
            row("output.dense", "ffn_down"),
            row("output.LayerNorm", "layer_output_norm"),
        ],
    ),
];

pub(super) fn bert(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "bert");
    reader.sizes()?;
    reader.unset("num_key_value_heads");
    reader.copy("attention.layer_norm_epsilon", "layer_norm_eps")?;
    token_types(reader)?;
    encoder(reader, "BertModel")
}

/// How many types of tokens there are.
fn token_types(reader: &mut Reader<'_>) -> Read {
    let types = reader.shape("token_types.weight")?;
    reader.set("type_vocab_size", types.first().copied());
    Ok(())
}

pub(super) const JINA: &[Names] = &[
    layers(
        "bert.encoder.layer.*.mlp.",
        &[
            row("gated_layers", "ffn_up"),
            row("wo", "ffn_down"),
            row("layernorm", "layer_output_norm"),
        ],
    ),
    BERT_EMBEDDINGS,
    BERT_ATTENTION,
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
    bert(reader)?;
    reader.set("position_embedding_type", "alibi");
    reader.set("feed_forward_type", "geglu");
    Ok(())
}
