//! Llama and what is built like it.

use serde_json::Value;

use super::architecture::{Change, Names, changed, layers, row};
use super::reader::{Read, Reader};
use crate::SpecError;

/// Experts as Mixtral names them.
pub(super) const MIXTRAL: Names = layers(
    "model.layers.*.block_sparse_moe.",
    &[
        row("gate", "ffn_gate_inp"),
        row("experts.{}.w1", "ffn_gate_exps"),
        row("experts.{}.w2", "ffn_down_exps"),
        row("experts.{}.w3", "ffn_up_exps"),
        row("e_score_correction_bias", "exp_probs_b.bias"),
        row("gate.e_score_correction_bias", "exp_probs_b.bias"),
    ],
);

pub(super) const LLAMA: &[Names] = &[PAIRS, MIXTRAL];

/// What has an RMS norm, a rotation and no biases but those that are there.
pub(super) fn rms(reader: &mut Reader<'_>, model_type: &str) -> Result<u64, SpecError> {
    rms_of(reader, model_type, false)
}

/// The same, whose rotation may be of a part of the head.
pub(super) fn rms_in_part(reader: &mut Reader<'_>, model_type: &str) -> Result<u64, SpecError> {
    rms_of(reader, model_type, true)
}

fn rms_of(reader: &mut Reader<'_>, model_type: &str, partial: bool) -> Result<u64, SpecError> {
    reader.set("model_type", model_type);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    let head_dim = reader.head_dim()?;
    reader.set("head_dim", head_dim);
    reader.rotation(head_dim, partial)?;
    Ok(head_dim)
}

pub(super) fn llama(reader: &mut Reader<'_>) -> Read {
    let experts = reader.number("expert_count")?.unwrap_or(0);
    let chosen = reader.number("expert_used_count")?;
    if experts > 0 {
        rms(reader, "mixtral")?;
        reader.set("num_local_experts", experts);
        reader.set("num_experts_per_tok", chosen.unwrap_or(2));
        return Ok(());
    }
    plain_llama(reader)
}

/// Llama itself.
pub(super) fn plain_llama(reader: &mut Reader<'_>) -> Read {
    rms(reader, "llama")?;
    reader.look_ahead();
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("mlp_bias", "blk.0.ffn_up.bias");
    Ok(())
}

pub(super) fn qwen2(reader: &mut Reader<'_>) -> Read {
    rms(reader, "qwen2")?;
    reader.look_ahead();
    reader.set("use_sliding_window", false);
    Ok(())
}

pub(super) fn qwen3(reader: &mut Reader<'_>) -> Read {
    rms(reader, "qwen3")?;
    reader.look_ahead();
    reader.set("use_sliding_window", false);
    Ok(())
}

/// Rows of queries and keys in pairs.
pub(super) const PAIRS: Names = layers(
    "model.layers.*.self_attn.",
    &[
        changed("q_proj", "attn_q", Change::Permuted),
        changed("k_proj", "attn_k", Change::Permuted),
    ],
);

/// Norms that bear the names of where they stand.
pub(super) const POST_NORMS: Names = layers(
    "model.layers.*.",
    &[
        row("post_attention_layernorm", "post_attention_norm"),
        row("post_feedforward_layernorm", "post_ffw_norm"),
    ],
);

pub(super) const GLM4: Names = layers(
    "model.layers.*.",
    &[
        row("post_self_attn_layernorm", "post_attention_norm"),
        row("post_mlp_layernorm", "post_ffw_norm"),
        row("mlp.gate_up_proj", "ffn_up"),
    ],
);

pub(super) const PHI3: Names = layers(
    "model.layers.*.",
    &[
        row("self_attn.qkv_proj", "attn_qkv"),
        row("mlp.gate_up_proj", "ffn_up"),
    ],
);

/// What has a layer norm, a rotation of a part of the head and biases where they are.
pub(super) fn layer_norm(
    reader: &mut Reader<'_>,
    model_type: &str,
    epsilon: &str,
    partial: bool,
) -> Result<u64, SpecError> {
    reader.set("model_type", model_type);
    reader.sizes()?;
    reader.copy("attention.layer_norm_epsilon", epsilon)?;
    let head_dim = reader.head_dim()?;
    reader.rotation(head_dim, partial)?;
    Ok(head_dim)
}

pub(super) fn arcee(reader: &mut Reader<'_>) -> Read {
    rms(reader, "arcee")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("mlp_bias", "blk.0.ffn_up.bias");
    Ok(())
}

pub(super) fn smollm3(reader: &mut Reader<'_>) -> Read {
    rms(reader, "smollm3")?;
    reader.unset("head_dim");
    reader.set("no_rope_layer_interval", 4);
    reader.set("use_sliding_window", false);
    Ok(())
}

pub(super) fn seed_oss(reader: &mut Reader<'_>) -> Read {
    rms(reader, "seed_oss")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("attention_out_bias", "blk.0.attn_output.bias");
    Ok(())
}

pub(super) fn ernie4_5(reader: &mut Reader<'_>) -> Read {
    rms(reader, "ernie4_5")?;
    reader.set_where("use_bias", "blk.0.attn_q.bias");
    Ok(())
}

/// The multipliers of Granite.
pub(super) fn multipliers(reader: &mut Reader<'_>) {
    for (key, to) in [
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        reader.copy_if(key, to);
    }
}

pub(super) fn granite(reader: &mut Reader<'_>) -> Read {
    rms(reader, "granite")?;
    reader.unset("head_dim");
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("mlp_bias", "blk.0.ffn_up.bias");
    multipliers(reader);
    Ok(())
}

/// What layers see, without a window and with one.
pub(super) const WINDOWS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Kinds of layers by a list, whose numbers are 0 where everything is seen, or where every so many-th sees everything.
pub(super) fn pattern(reader: &mut Reader<'_>, usual: u64) -> Read {
    let layers = reader.layers()?;
    let has_window: Vec<bool> = match reader.value("attention.sliding_window_pattern") {
        Some(Value::Array(windows)) => {
            let has = |window: &Value| window.as_bool().unwrap_or(window.as_u64() > Some(0));
            windows.iter().take(layers as usize).map(has).collect()
        }
        value => {
            let every = value.and_then(|value| value.as_u64()).unwrap_or(usual);
            let has = |layer: u64| !(layer + 1).is_multiple_of(every.max(1));
            (0..layers).map(has).collect()
        }
    };
    reader.kinds("layer_types", has_window, WINDOWS);
    Ok(())
}

pub(super) fn exaone4(reader: &mut Reader<'_>) -> Read {
    rms(reader, "exaone4")?;
    match reader.window()? {
        Some(_) => pattern(reader, 4),
        None => pattern(reader, 1),
    }
}

pub(super) fn olmo(reader: &mut Reader<'_>) -> Read {
    layer_norm(reader, "olmo", "layer_norm_eps", false)?;
    reader.unset("layer_norm_eps");
    reader.copy_if("attention.clamp_kqv", "clip_qkv");
    Ok(())
}

pub(super) fn olmo2(reader: &mut Reader<'_>) -> Read {
    rms(reader, "olmo2")?;
    reader.unset("head_dim");
    if let Some(window) = reader.number("attention.sliding_window")? {
        reader.set("model_type", "olmo3");
        reader.set("sliding_window", window);
        pattern(reader, 4)?;
    }
    Ok(())
}

pub(super) fn glm4(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "glm4")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    Ok(())
}

pub(super) fn phi3(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "phi3")?;
    reader.unset("head_dim");
    reader.copy_if(
        "rope.scaling.original_context_length",
        "original_max_position_embeddings",
    );
    reader.window()?;
    // The class wants it within the vocabulary.
    reader.set("pad_token_id", Value::Null);
    Ok(())
}

/// What Cohere's models have.
pub(super) fn cohere(reader: &mut Reader<'_>, model_type: &str) -> Read {
    layer_norm(reader, model_type, "layer_norm_eps", false)?;
    reader.copy("logit_scale", "logit_scale")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    Ok(())
}

pub(super) fn command_r(reader: &mut Reader<'_>) -> Read {
    cohere(reader, "cohere")?;
    reader.set_where("use_qk_norm", "blk.0.attn_q_norm.weight");
    Ok(())
}

pub(super) fn cohere2(reader: &mut Reader<'_>) -> Read {
    cohere(reader, "cohere2")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    pattern(reader, 4)
}
