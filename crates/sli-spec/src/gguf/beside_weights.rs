//! Models whose code is published beside their weights: `OpenELM`, `PLaMo`, PLM, Refact, Ling 1 and `DeepSeek-OCR`.

use serde_json::Value;

use super::architecture::{Change, Names, changed, layers, row, under};
use super::experts::{gating, latent, routed};
use super::published::deepseek;
use super::reader::{Read, Reader};
use super::usual::{DENSE, PROJECTIONS};

pub(super) const OPENELM: &[Names] = &[
    under(
        "transformer.",
        "",
        &[
            row("token_embeddings", "token_embd"),
            row("norm", "output_norm"),
        ],
    ),
    layers(
        "transformer.layers.*.",
        &[
            row("attn_norm", "attn_norm"),
            row("attn.qkv_proj", "attn_qkv"),
            row("attn.q_norm", "attn_q_norm"),
            row("attn.k_norm", "attn_k_norm"),
            row("attn.out_proj", "attn_output"),
            row("ffn_norm", "ffn_norm"),
            changed("ffn.proj_1", "ffn_gate", Change::Divided),
            row("ffn.proj_2", "ffn_down"),
        ],
    ),
];

/// `OpenELM`: heads and widths of every layer.
pub(super) fn openelm(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "openelm");
    let layers = reader.layers()?;
    reader.set("num_transformer_layers", layers);
    reader.copy("context_length", "max_context_length")?;
    let hidden = reader.size("embedding_length")?;
    reader.set("model_dim", hidden);
    reader.copy("attention.head_count", "num_query_heads")?;
    reader.copy("attention.head_count_kv", "num_kv_heads")?;
    reader.copy("attention.key_length", "head_dim")?;
    reader.copy("rope.freq_base", "rope_freq_constant")?;
    // The whole head is rotated, and the epsilon is the class's.
    reader.ignore(&[
        "attention.value_length",
        "rope.dimension_count",
        "attention.layer_norm_rms_epsilon",
    ]);
    let widths = reader.needed("feed_forward_length")?;
    let factor = |width: &Value| width.as_f64().map(|width| width / hidden as f64);
    let factors: Option<Vec<f64>> = widths
        .as_array()
        .and_then(|widths| widths.iter().map(factor).collect());
    let factors = factors.ok_or_else(|| {
        reader.unsupported(
            "feed_forward_length",
            &widths,
            "a list with each layer's is read",
        )
    })?;
    reader.set("ffn_multipliers", factors);
    reader.set("ffn_dim_divisor", 1);
    reader.set_where("normalize_qk_projections", "blk.0.attn_q_norm.weight");
    reader.table()?;
    reader.rename("tie_word_embeddings", "share_input_output_layers");
    Ok(())
}

pub(super) const PLAMO: &[Names] = &[
    layers("model.layers.layers.*.", &[row("norm", "attn_norm")]),
    layers("model.layers.layers.*.self_attn.", PROJECTIONS),
    layers("model.layers.layers.*.mlp.", DENSE),
];

/// `PLaMo`: the converter has put the query heads of a key head together.
pub(super) fn plamo(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "plamo");
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    let (heads, kv_heads) = (
        reader.size("attention.head_count")?,
        reader.size("attention.head_count_kv")?,
    );
    reader.set("n_shared_head", heads / kv_heads.max(1));
    reader.set("grouped_heads", true);
    Ok(())
}

/// PLM: latent heads, a network without a gate.
pub(super) fn plm(reader: &mut Reader<'_>) -> Read {
    latent(reader, "plm")
}

pub(super) const REFACT: &[Names] = &[
    under(
        "",
        "",
        &[
            row("transformer.wte", "token_embd"),
            row("ln_f", "output_norm"),
        ],
    ),
    layers(
        "transformer.h.*.",
        &[
            row("ln_1", "attn_norm"),
            row("attn.q", "attn_q"),
            changed("attn.kv", "attn_k", Change::Parted(&["attn_k", "attn_v"])),
            row("attn.c_proj", "attn_output"),
            row("ln_2", "ffn_norm"),
            changed("mlp.gate_up_proj", "ffn_gate", Change::Divided),
            row("mlp.c_proj", "ffn_down"),
        ],
    ),
];

/// Refact, whose norms are layer norms whatever the key's name says.
pub(super) fn refact(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "gpt_refact");
    reader.copy("block_count", "n_layer")?;
    reader.copy("context_length", "n_positions")?;
    reader.copy("embedding_length", "n_embd")?;
    reader.copy("attention.head_count", "n_head")?;
    reader.copy("attention.layer_norm_rms_epsilon", "layer_norm_epsilon")?;
    let kv_heads = reader.number("attention.head_count_kv")?;
    if kv_heads != Some(1) {
        let found = kv_heads.map(Value::from).unwrap_or_default();
        return Err(reader.unsupported("attention.head_count_kv", &found, "one key head is known"));
    }
    // Two thirds of this, up to a multiple of 256.
    let width = reader.size("feed_forward_length")?;
    reader.set("n_inner", (3 * width).div_ceil(2));
    reader.table()
}

/// The first generation of Ling, which is DeepSeek's first with normalised weights of experts.
pub(super) fn bailingmoe(reader: &mut Reader<'_>) -> Read {
    let (width, heads) = (
        reader.size("embedding_length")?,
        reader.size("attention.head_count")?,
    );
    let head_dim = reader.head_dim()?;
    if head_dim.checked_mul(heads) != Some(width) {
        let reason =
            "heads of another width than the hidden size leaves for each are not of this type";
        return Err(reader.unsupported("attention.key_length", &head_dim.into(), reason));
    }
    deepseek(reader)
}

/// The text model of `DeepSeek-OCR`: heads without a latent vector, whole heads rotate.
pub(super) fn deepseek2_ocr(reader: &mut Reader<'_>) -> Read {
    if let Some(found) = reader.value("attention.sliding_window") {
        let reason = "what a window of this model hides is not known";
        return Err(reader.unsupported("attention.sliding_window", &found, reason));
    }
    // It counts rotated features of heads with a latent vector.
    reader.ignore(&["rope.dimension_count"]);
    reader.set("model_type", "deepseek");
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.copy_if("rope.freq_base", "rope_theta");
    routed(reader)?;
    // Scores without groups are as they are.
    if gating(reader)? != 1 {
        let found = reader.value("expert_gating_func").unwrap_or_default();
        return Err(reader.unsupported("expert_gating_func", &found, "softmax (1) is known"));
    }
    super::published::plain_routes(reader)
}
