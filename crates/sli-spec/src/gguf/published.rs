//! Types whose code is published beside their weights, and relatives of Llama with keys of their own.

use serde_json::{Value, json};

use super::architecture::{Change, Names, changed, layers, row, under};
use super::experts::routed;
use super::llama::{layer_norm, multipliers, pattern, rms, rms_in_part};
use super::reader::{Read, Reader};
use super::usual::NUMBERED;

pub(super) const INTERNLM2: &[Names] = &[
    under(
        "",
        "",
        &[
            row("model.tok_embeddings", "token_embd"),
            row("output", "output"),
        ],
    ),
    layers(
        "model.layers.*.",
        &[
            row("attention_norm", "attn_norm"),
            row("ffn_norm", "ffn_norm"),
            changed("attention.wqkv", "attn_qkv", Change::Separated),
            row("attention.wo", "attn_output"),
        ],
    ),
    layers("model.layers.*.feed_forward.", NUMBERED),
];

pub(super) fn internlm2(reader: &mut Reader<'_>) -> Read {
    rms(reader, "internlm2")?;
    reader.unset("head_dim");
    reader.set_where("bias", "blk.0.attn_q.bias");
    Ok(())
}

/// `MiniCPM`, whose factors older files leave out.
pub(super) fn minicpm(reader: &mut Reader<'_>) -> Read {
    rms(reader, "minicpm")?;
    reader.unset("head_dim");
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    let layers = reader.size("block_count")? as f64;
    let hidden = reader.size("embedding_length")? as f64;
    let embedding = reader.float("embedding_scale").unwrap_or(12.0);
    reader.set("scale_emb", embedding);
    let residual = reader.float("residual_scale");
    reader.set(
        "scale_depth",
        residual.map_or(1.4, |scale| scale * layers.sqrt()),
    );
    let logits = reader.float("logit_scale");
    reader.set(
        "dim_model_base",
        logits.map_or(256.0, |scale| hidden / scale),
    );
    Ok(())
}

/// Orion, whose layer norms have the epsilon of an RMS norm.
pub(super) fn orion(reader: &mut Reader<'_>) -> Read {
    reader.ignore(&["tensor_data_layout"]);
    layer_norm(reader, "orion", "rms_norm_eps", false)?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    Ok(())
}

pub(super) fn xverse(reader: &mut Reader<'_>) -> Read {
    reader.ignore(&["tensor_data_layout"]);
    rms(reader, "xverse")?;
    reader.unset("head_dim");
    Ok(())
}

pub(super) const BAICHUAN: Names = layers(
    "model.layers.*.self_attn.",
    &[changed("W_pack", "attn_qkv", Change::Separated)],
);

/// Baichuan: the larger models, of 40 layers, have ALiBi, and the second generation, with its own vocabulary, a head whose
/// rows are normalised; that changes nothing where they were before.
pub(super) fn baichuan(reader: &mut Reader<'_>) -> Read {
    reader.ignore(&["tensor_data_layout"]);
    rms(reader, "baichuan")?;
    for key in ["head_dim", "num_key_value_heads"] {
        reader.unset(key);
    }
    if reader.size("block_count")? == 40 {
        reader.rename("max_position_embeddings", "model_max_length");
        reader.unset("rope_theta");
    }
    let tokens = reader.get("vocab_size").and_then(Value::as_u64);
    let class = match tokens {
        Some(125_696) => "BaichuanForCausalLM",
        _ => "BaiChuanForCausalLM",
    };
    reader.set("architectures", json!([class]));
    Ok(())
}

/// `DeepSeek`'s first mixture.
pub(super) fn deepseek(reader: &mut Reader<'_>) -> Read {
    rms(reader, "deepseek")?;
    reader.unset("head_dim");
    routed(reader)?;
    plain_routes(reader)?;
    match super::experts::gating(reader)? {
        1 => {
            reader.set("scoring_func", "softmax");
            Ok(())
        }
        kind => Err(reader.unsupported("expert_gating_func", &kind.into(), "softmax (1) is known")),
    }
}

/// Routes without groups and without a factor, which the first `DeepSeek` has no keys for.
pub(super) fn plain_routes(reader: &mut Reader<'_>) -> Read {
    for key in ["n_group", "topk_group", "routed_scaling_factor"] {
        let is_neutral = reader.get(key).and_then(Value::as_f64) == Some(1.0);
        if !is_neutral {
            let found = reader.get(key).cloned().unwrap_or_default();
            return Err(reader.unsupported(key, &found, "this type has no such factor"));
        }
        reader.unset(key);
    }
    reader.set("moe_layer_freq", 1);
    Ok(())
}

pub(super) const CHATGLM: Names = layers("model.layers.*.mlp.", &[row("gate_up_proj", "ffn_up")]);

/// ChatGLM 2, 3 and GLM-4, which are the reference's GLM under other names.
pub(super) fn chatglm(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "glm")?;
    let bias = reader.has("blk.0.attn_qkv.bias") || reader.has("blk.0.attn_q.bias");
    reader.set("attention_bias", bias);
    reader.set("pad_token_id", Value::Null);
    Ok(())
}

/// The queries of later tokens are larger, which the class says beside its rotation.
pub(super) fn queries_grow(reader: &mut Reader<'_>, beta: Option<Value>) {
    if let (Some(Value::Object(mut scaling)), Some(beta)) =
        (reader.get("rope_scaling").cloned(), beta)
    {
        scaling.insert("llama_4_scaling_beta".to_owned(), beta);
        if let Some(base) = reader.get("rope_theta") {
            scaling.insert("rope_theta".to_owned(), base.clone());
        }
        reader.unset("rope_scaling");
        reader.unset("rope_theta");
        reader.set("rope_parameters", scaling);
    }
}

/// Mistral 3's text models: the queries of later tokens are larger.
pub(super) fn mistral3(reader: &mut Reader<'_>) -> Read {
    let beta = reader.value("attention.temperature_scale");
    rms(reader, "ministral3")?;
    queries_grow(reader, beta);
    reader.set("sliding_window", Value::Null);
    Ok(())
}

/// Granite with windows.
pub(super) fn granite_swa(reader: &mut Reader<'_>) -> Read {
    rms(reader, "granite_swa")?;
    reader.unset("head_dim");
    multipliers(reader);
    reader.copy("attention.sliding_window", "sliding_window")?;
    pattern(reader, 4)
}

pub(super) fn mellum(reader: &mut Reader<'_>) -> Read {
    rms(reader, "mellum")?;
    let global = reader.needed("rope.freq_base")?;
    let local = reader.needed("rope.freq_base_swa")?;
    reader.unset("rope_theta");
    reader.plain_rotations(&global, &local);
    reader.copy("attention.sliding_window", "sliding_window")?;
    pattern(reader, 4)?;
    reader.experts("num_experts", "moe_intermediate_size")?;
    reader.set("norm_topk_prob", true);
    Ok(())
}
