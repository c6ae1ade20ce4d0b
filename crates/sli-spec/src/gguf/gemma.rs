//! Gemma.

use serde_json::Value;

use super::architecture::{Names, layers, plus_one, under};
use super::llama::{pattern, rms};
use super::reader::{Read, Reader};

/// Norms that are stored with their one.
pub(super) const PLUS_ONE: Names = under(
    "model.",
    "",
    &[
        plus_one("norm", "output_norm"),
        plus_one("layers.*.input_layernorm", "blk.*.attn_norm"),
        plus_one("layers.*.self_attn.q_norm", "blk.*.attn_q_norm"),
        plus_one("layers.*.self_attn.k_norm", "blk.*.attn_k_norm"),
    ],
);

/// The one in front of the network.
pub(super) const NETWORK_PLUS_ONE: Names = layers(
    "model.layers.*.",
    &[plus_one("post_attention_layernorm", "ffn_norm")],
);

pub(super) const GEMMA: &[Names] = &[PLUS_ONE, NETWORK_PLUS_ONE];

pub(super) const GEMMA2: &[Names] = &[
    PLUS_ONE,
    layers(
        "model.layers.*.",
        &[
            plus_one("post_attention_layernorm", "post_attention_norm"),
            plus_one("pre_feedforward_layernorm", "ffn_norm"),
            plus_one("post_feedforward_layernorm", "post_ffw_norm"),
        ],
    ),
];

pub(super) fn gemma(reader: &mut Reader<'_>) -> Read {
    rms(reader, "gemma")?;
    reader.set("hidden_activation", "gelu_pytorch_tanh");
    Ok(())
}

/// The scale of the attention's logits, which no key says: that of heads of this width, but for the largest model of
/// so many layers.
pub(super) fn query_scale(reader: &mut Reader<'_>, head_dim: u64, largest: u64) -> Read {
    let (layers, heads) = (reader.layers()?, reader.size("attention.head_count")?);
    let width = reader.size("embedding_length")?;
    let scale = if layers == largest {
        width / heads.max(1)
    } else {
        head_dim
    };
    reader.set("query_pre_attn_scalar", scale);
    Ok(())
}

pub(super) fn gemma2(reader: &mut Reader<'_>) -> Read {
    let head_dim = rms(reader, "gemma2")?;
    reader.set("hidden_activation", "gelu_pytorch_tanh");
    reader.copy("attn_logit_softcapping", "attn_logit_softcapping")?;
    reader.copy("final_logit_softcapping", "final_logit_softcapping")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    query_scale(reader, head_dim, 46)
}

pub(super) fn gemma3(reader: &mut Reader<'_>) -> Read {
    let head_dim = rms(reader, "gemma3_text")?;
    reader.set("hidden_activation", "gelu_pytorch_tanh");
    if reader.get("rope_theta").is_none() {
        reader.set("rope_theta", 1e6);
    }
    reader.copy("attention.sliding_window", "sliding_window")?;
    let local = reader.value("rope.freq_base_swa");
    reader.set("rope_local_base_freq", local.unwrap_or(Value::from(1e4)));
    pattern(reader, 6)?;
    reader.copy_if("final_logit_softcapping", "final_logit_softcapping");
    query_scale(reader, head_dim, 62)
}
