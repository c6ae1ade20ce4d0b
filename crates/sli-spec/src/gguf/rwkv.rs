//! RWKV 6 and 7, also in the layers of Qwen 2.

use super::architecture::{Change, Names, Row, changed, layers, row, under};
use super::reader::{Read, Reader};
use super::usual::DENSE;

/// One of the mixtures with the row before, which are one tensor.
const fn mixture(reference: &'static str, number: usize) -> Row {
    changed(reference, "time_mix_lerp_fused.weight", Change::Nth(number))
}

const fn transposed(reference: &'static str, file: &'static str) -> Row {
    changed(reference, file, Change::Transposed)
}

/// The attention of RWKV 6.
const FINCH: Names = layers(
    "rwkv.blocks.*.attention.",
    &[
        row("time_maa_x", "time_mix_lerp_x"),
        mixture("time_maa_w", 0),
        mixture("time_maa_k", 1),
        mixture("time_maa_v", 2),
        mixture("time_maa_r", 3),
        mixture("time_maa_g", 4),
        // Older files have each by itself.
        row("time_maa_w", "time_mix_lerp_w"),
        row("time_maa_k", "time_mix_lerp_k"),
        row("time_maa_v", "time_mix_lerp_v"),
        row("time_maa_r", "time_mix_lerp_r"),
        row("time_maa_g", "time_mix_lerp_g"),
        transposed("time_maa_w1", "time_mix_w1"),
        transposed("time_maa_w2", "time_mix_w2"),
        row("time_decay", "time_mix_decay"),
        transposed("time_decay_w1", "time_mix_decay_w1"),
        transposed("time_decay_w2", "time_mix_decay_w2"),
        row("time_faaaa", "time_mix_first"),
        row("receptance", "time_mix_receptance"),
        row("key", "time_mix_key"),
        row("value", "time_mix_value"),
        row("gate", "time_mix_gate"),
        row("ln_x", "time_mix_ln"),
        row("output", "time_mix_output"),
    ],
);

pub(super) const RWKV6: &[Names] = &[
    under(
        "",
        "",
        &[
            row("rwkv.embeddings", "token_embd"),
            row("rwkv.blocks.*.pre_ln", "token_embd_norm"),
            row("rwkv.ln_out", "output_norm"),
            row("head", "output"),
        ],
    ),
    layers(
        "rwkv.blocks.*.",
        &[row("ln1", "attn_norm"), row("ln2", "attn_norm_2")],
    ),
    FINCH,
    layers(
        "rwkv.blocks.*.feed_forward.",
        &[
            row("time_maa_k", "channel_mix_lerp_k"),
            row("time_maa_r", "channel_mix_lerp_r"),
            row("key", "channel_mix_key"),
            row("receptance", "channel_mix_receptance"),
            row("value", "channel_mix_value"),
        ],
    ),
];

/// What the generations have in common.
fn rwkv(reader: &mut Reader<'_>, model_type: &str, epsilon: &str) -> Read {
    reader.set("model_type", model_type);
    reader.copy("block_count", "num_hidden_layers")?;
    reader.copy("embedding_length", "hidden_size")?;
    reader.copy("feed_forward_length", "intermediate_size")?;
    reader.copy("attention.layer_norm_epsilon", epsilon)?;
    reader.ignore(&[
        "context_length",
        "attention.head_count",
        "token_shift_count",
    ]);
    reader.table()
}

pub(super) fn rwkv6(reader: &mut Reader<'_>) -> Read {
    rwkv(reader, "rwkv6", "layer_norm_epsilon")?;
    reader.copy("wkv.head_size", "head_size")?;
    // The file's weights of later layers are divided, and its hidden states are to be halved as often.
    reader.copy_if("rescale_every_n_layers", "divided_every");
    // By the shapes.
    reader.ignore(&["time_mix_extra_dim", "time_decay_extra_dim"]);
    Ok(())
}

/// The attention of RWKV 7.
const GOOSE: Names = layers(
    "model.layers.*.attn.",
    &[
        mixture("x_r", 0),
        mixture("x_w", 1),
        mixture("x_k", 2),
        mixture("x_v", 3),
        mixture("x_a", 4),
        mixture("x_g", 5),
        row("r_proj", "time_mix_receptance"),
        row("k_proj", "time_mix_key"),
        row("v_proj", "time_mix_value"),
        row("o_proj", "time_mix_output"),
        row("w_lora.lora.0", "time_mix_w1"),
        row("w_lora.lora.2", "time_mix_w2"),
        row("a_lora.lora.0", "time_mix_a1"),
        row("a_lora.lora.2", "time_mix_a2"),
        row("v_lora.lora.0", "time_mix_v1"),
        row("v_lora.lora.2", "time_mix_v2"),
        row("g_lora.lora.0", "time_mix_g1"),
        row("g_lora.lora.2", "time_mix_g2"),
        // Their biases, where the name before is that of no tensor.
        row("w_lora.lora.2", "time_mix_w0.weight"),
        row("a_lora.lora.2", "time_mix_a0.weight"),
        row("v_lora.lora.2", "time_mix_v0.weight"),
        row("k_k", "time_mix_k_k"),
        row("k_a", "time_mix_k_a"),
        row("r_k", "time_mix_r_k"),
        row("g_norm", "time_mix_ln"),
    ],
);

pub(super) const RWKV7: &[Names] = &[
    under(
        "model.",
        "",
        &[
            row("embeddings", "token_embd"),
            row("layers.*.pre_norm", "token_embd_norm"),
        ],
    ),
    layers(
        "model.layers.*.",
        &[
            row("attn_norm", "attn_norm"),
            row("ffn_norm", "attn_norm_2"),
        ],
    ),
    GOOSE,
    layers(
        "model.layers.*.ffn.",
        &[
            row("x_k", "channel_mix_lerp_k"),
            row("key", "channel_mix_key"),
            row("value", "channel_mix_value"),
        ],
    ),
];

/// The first layer's values are its own.
pub(super) const RWKV7_IDLE: &[&str] = &[
    "blk.0.time_mix_v0.weight",
    "blk.0.time_mix_v1.weight",
    "blk.0.time_mix_v2.weight",
];

pub(super) fn rwkv7(reader: &mut Reader<'_>) -> Read {
    rwkv(reader, "rwkv7", "norm_eps")?;
    reader.copy("wkv.head_size", "head_dim")?;
    for (key, to) in [
        ("attention.decay_lora_rank", "decay_low_rank_dim"),
        ("attention.iclr_lora_rank", "a_low_rank_dim"),
        ("attention.value_residual_mix_lora_rank", "v_low_rank_dim"),
        ("attention.gate_lora_rank", "gate_low_rank_dim"),
    ] {
        reader.copy(key, to)?;
    }
    reader.set("norm_bias", true);
    reader.set("norm_first", true);
    Ok(())
}

pub(super) const RWKV6_QWEN2: &[Names] = &[
    FINCH,
    under(
        "",
        "",
        &[
            row("rwkv.embeddings", "token_embd"),
            row("rwkv.norm", "output_norm"),
        ],
    ),
    layers(
        "rwkv.blocks.*.",
        &[row("ln1", "attn_norm"), row("ln2", "ffn_norm")],
    ),
    layers("rwkv.blocks.*.mlp.", DENSE),
];

pub(super) const ARWKV7: &[Names] = &[
    GOOSE,
    under("model.", "", &[row("embeddings", "token_embd")]),
    layers(
        "model.layers.*.",
        &[row("attn_norm", "attn_norm"), row("ffn_norm", "ffn_norm")],
    ),
];

/// What both have in common in layers of Qwen 2.
fn of_qwen(reader: &mut Reader<'_>, model_type: &str, epsilon: &str) -> Read {
    reader.set("model_type", model_type);
    reader.set("layers_of_qwen", true);
    reader.copy("block_count", "num_hidden_layers")?;
    reader.copy("embedding_length", "hidden_size")?;
    reader.copy("feed_forward_length", "intermediate_size")?;
    reader.copy("attention.layer_norm_rms_epsilon", epsilon)?;
    reader.ignore(&[
        "context_length",
        "attention.head_count",
        "token_shift_count",
    ]);
    reader.table()
}

/// Qwen 2 with the attention of RWKV 6.
pub(super) fn rwkv6qwen2(reader: &mut Reader<'_>) -> Read {
    of_qwen(reader, "rwkv6", "layer_norm_epsilon")?;
    for tensor in ["blk.0.time_mix_first.weight", "output_norm.bias"] {
        if reader.has(tensor) {
            let found = tensor.into();
            let reason = "RWKV's own bonus or layer norms in layers of Qwen are not read";
            return Err(reader.unsupported("tensors", &found, reason));
        }
    }
    reader.copy("wkv.head_size", "head_size")?;
    let kv_heads = reader.number("attention.head_count_kv")?;
    if let Some(kv_heads) = kv_heads.filter(|count| *count > 0) {
        reader.set("num_key_value_heads", kv_heads);
    }
    reader.copy("time_mix_extra_dim", "mixture_rank")?;
    reader.copy("time_decay_extra_dim", "decay_rank")?;
    reader.set_where("attention_bias", "blk.0.time_mix_receptance.bias");
    Ok(())
}

/// Qwen 2 with the attention of RWKV 7.
pub(super) fn arwkv7(reader: &mut Reader<'_>) -> Read {
    of_qwen(reader, "rwkv7", "norm_eps")?;
    reader.copy("wkv.head_size", "head_dim")?;
    reader.set_where("has_gate", "blk.0.time_mix_g1.weight");
    reader.set_where("has_head_norm", "blk.0.time_mix_ln.weight");
    // The converter writes usual numbers of these; the tensors have theirs.
    for (key, to) in [
        ("attention.decay_lora_rank", "decay_low_rank_dim"),
        ("attention.iclr_lora_rank", "a_low_rank_dim"),
        ("attention.value_residual_mix_lora_rank", "v_low_rank_dim"),
        ("attention.gate_lora_rank", "gate_low_rank_dim"),
    ] {
        let rank = reader.number(key)?.filter(|rank| *rank > 0);
        reader.set(to, rank.unwrap_or(1));
    }
    Ok(())
}
