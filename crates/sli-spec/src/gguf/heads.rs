//! Models whose layers differ in their heads, or whose rotation differs from layer to layer.

use serde_json::{Value, json};

use super::architecture::{Change, Names, Row, exactly, layers, row, under};
use super::experts::{LATENT, latent, network_kinds, plain_yarn, routed, sigmoid_scores};
use super::llama::{MIXTRAL, PAIRS, WINDOWS, pattern, rms};
use super::published::queries_grow;
use super::reader::{Read, Reader};
use super::usual::{SHARED, STACKED};
use crate::SpecError;

pub(super) const PHIMOE: &[Names] = &[MIXTRAL];

/// The factor of the rotation's turns in the published models with long contexts, which is in no key.
const PHIMOE_MAGNITUDE: f64 = 1.243_163_121_016_122;

pub(super) fn phimoe(reader: &mut Reader<'_>) -> Read {
    rms(reader, "phimoe")?;
    reader.unset("head_dim");
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set_where("lm_head_bias", "output.bias");
    reader.copy("expert_count", "num_local_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    reader.window()?;
    if let Some(Value::Object(mut scaling)) = reader.get("rope_scaling").cloned() {
        scaling.remove("attention_factor");
        for key in ["short_mscale", "long_mscale"] {
            scaling.insert(key.to_owned(), PHIMOE_MAGNITUDE.into());
        }
        let trained = scaling.get("original_max_position_embeddings").cloned();
        reader.set(
            "original_max_position_embeddings",
            trained.unwrap_or_default(),
        );
        reader.set("rope_scaling", scaling);
    }
    Ok(())
}

pub(super) const MIMO2: &[Names] = &[layers(
    "model.layers.*.self_attn.",
    &[row("attention_sink_bias", "attn_sinks.weight")],
)];

/// `MiMo` 2: values of another width than keys, windows with twice the key heads.
pub(super) fn mimo2(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "mimo_v2_flash");
    reader.by_layer(&["attention.head_count_kv"]);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    let head_dim = reader.size("attention.key_length")?;
    reader.set("head_dim", head_dim);
    reader.copy("attention.value_length", "v_head_dim")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    reader.needed("attention.sliding_window_pattern")?;
    pattern(reader, 4)?;
    rotations(reader, head_dim)?;
    sigmoid_scores(reader)?;
    reader.experts("n_routed_experts", "moe_intermediate_size")?;
    reader.copy_if("expert_group_count", "n_group");
    reader.copy_if("expert_group_used_count", "topk_group");
    reader.copy_if("attention.value_scale", "attention_value_scale");
    network_kinds(reader)
}

pub(super) const LAGUNA: &[Names] = &[layers(
    "model.layers.*.",
    &[
        row("self_attn.g_proj", "attn_gate"),
        row("mlp.experts.e_score_correction_bias", "exp_probs_b.bias"),
    ],
)];

/// Laguna: a number of heads for each layer, gated attention.
pub(super) fn laguna(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "laguna");
    reader.by_layer(&["attention.head_count"]);
    reader.sizes()?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    let head_dim = reader.size("attention.key_length")?;
    reader.ignore(&["attention.value_length"]);
    reader.set("head_dim", head_dim);
    if let Some(Value::Array(mut heads)) = reader.value("attention.head_count") {
        heads.truncate(reader.layers()? as usize);
        reader.set("num_attention_heads_per_layer", heads);
    }
    let heads = reader.get("num_attention_heads").and_then(Value::as_u64);
    let gates = reader.shape("blk.0.attn_gate.weight")?.first();
    let per_head = gates.map(|rows| *rows as u64) == heads;
    let form = if per_head { "per-head" } else { "per-element" };
    reader.set("gating", form);
    if reader.window()?.is_some() {
        if reader.value("attention.sliding_window_pattern").is_some() {
            pattern(reader, 4)?;
        } else {
            // Every fourth layer, from the first on, sees everything.
            let has_window = (0..reader.layers()?).map(|layer| layer % 4 != 0);
            reader.kinds("layer_types", has_window, WINDOWS);
        }
    }
    rotations(reader, head_dim)?;
    sigmoid_scores(reader)?;
    reader.experts("num_experts", "moe_intermediate_size")?;
    reader.copy(
        "expert_shared_feed_forward_length",
        "shared_expert_intermediate_size",
    )?;
    reader.copy("expert_weights_scale", "moe_routed_scaling_factor")?;
    reader.ignore(&["expert_weights_norm"]);
    network_kinds(reader)
}

pub(super) const HY_V3: &[Names] = &[
    layers(
        "model.layers.*.mlp.",
        &[
            row("router.gate", "ffn_gate_inp"),
            exactly("expert_bias", "exp_probs_b", Change::None),
            row("expert_bias", "exp_probs_b.bias"),
        ],
    ),
    layers("model.layers.*.mlp.shared_mlp.", SHARED),
];

pub(super) fn hy_v3(reader: &mut Reader<'_>) -> Read {
    rms(reader, "hy_v3")?;
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    sigmoid_scores(reader)?;
    reader.experts("num_experts", "moe_intermediate_size")?;
    let inner = reader.size("expert_feed_forward_length")?;
    let shared = reader.size("expert_shared_feed_forward_length")?;
    reader.set("num_shared_experts", shared / inner.max(1));
    reader.copy("expert_weights_scale", "router_scaling_factor")?;
    reader.ignore(&["expert_weights_norm"]);
    network_kinds(reader)
}

pub(super) const MISTRAL4: &[Names] = &[LATENT, layers("model.layers.*.mlp.experts.", STACKED)];

/// Mistral 4: latent heads, the queries of later tokens are larger.
pub(super) fn mistral4(reader: &mut Reader<'_>) -> Read {
    latent(reader, "mistral4")?;
    routed(reader)?;
    reader.ignore(&["expert_gating_func"]);
    plain_yarn(reader)?;
    // The published model's, which the file does not have.
    let beta = reader.value("attention.temperature_scale");
    queries_grow(reader, Some(beta.unwrap_or(0.1.into())));
    Ok(())
}

pub(super) const DECI: &[Names] = &[
    PAIRS,
    layers(
        "model.layers.*.self_attn.",
        &[row("linear_attn", "attn_output")],
    ),
];

/// `DeciLM` and Nemotron-NAS: what a search left of each layer.
pub(super) fn deci(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "nemotron-nas");
    let keys = [
        "attention.head_count",
        "attention.head_count_kv",
        "feed_forward_length",
    ];
    reader.by_layer(&keys);
    reader.copy("block_count", "num_hidden_layers")?;
    reader.copy("context_length", "max_position_embeddings")?;
    reader.copy("embedding_length", "hidden_size")?;
    reader.copy("attention.layer_norm_rms_epsilon", "rms_norm_eps")?;
    reader.table()?;
    let layers = reader.layers()? as usize;
    let [heads, kv_heads, widths] = keys.map(|key| each(reader, key, layers));
    let (heads, kv_heads, widths) = (heads?, kv_heads?, widths?);
    let most = heads.iter().copied().max().unwrap_or(0);
    reader.set("num_attention_heads", most);
    let block = |layer: usize| {
        let attention = match (heads[layer], kv_heads[layer]) {
            (0, _) => {
                json!({"no_op": true, "n_heads_in_group": null, "replace_with_linear": false})
            }
            (_, 0) => {
                json!({"no_op": false, "n_heads_in_group": null, "replace_with_linear": true})
            }
            (heads, kv_heads) => json!({
                "no_op": false, "n_heads_in_group": heads / kv_heads, "replace_with_linear": false
            }),
        };
        let network = match widths[layer] {
            0 => json!({"no_op": true, "replace_with_linear": false}),
            width => {
                json!({"no_op": false, "replace_with_linear": false, "intermediate_size": width})
            }
        };
        json!({"attention": attention, "ffn": network})
    };
    let blocks: Vec<Value> = (0..layers).map(block).collect();
    reader.set("block_configs", blocks);
    let width = reader.size("embedding_length")?;
    let own = reader.number("attention.key_length")?;
    reader.ignore(&["attention.value_length"]);
    let head_dim = own.unwrap_or(width / most.max(1));
    reader.rotation(head_dim, false)
}

/// A number for each layer.
fn each(reader: &mut Reader<'_>, key: &str, layers: usize) -> Result<Vec<u64>, SpecError> {
    let value = reader.needed(key)?;
    let list = match &value {
        Value::Array(values) => values.clone(),
        one => vec![one.clone(); layers],
    };
    let numbers: Option<Vec<u64>> = list.iter().map(Value::as_u64).collect();
    match numbers.filter(|numbers| numbers.len() == layers) {
        Some(numbers) => Ok(numbers),
        None => Err(reader.unsupported(key, &value, "one whole number for each layer is read")),
    }
}

/// Norms and projections of Grok.
const GROK_ATTENTION: &[Row] = &[
    row("pre_attn_norm.scale", "attn_norm"),
    row("post_attn_norm.scale", "attn_output_norm"),
    row("pre_moe_norm.scale", "ffn_norm"),
    row("post_moe_norm.scale", "layer_output_norm"),
    row("attn.q_proj", "attn_q"),
    row("attn.k_proj", "attn_k"),
    row("attn.v_proj", "attn_v"),
    row("attn.o_proj", "attn_output"),
    row("moe_block.gate", "ffn_gate_inp"),
    row("moe_block.experts.{}.linear", "ffn_gate_exps"),
    row("moe_block.experts.{}.linear_v", "ffn_up_exps"),
    row("moe_block.experts.{}.linear_1", "ffn_down_exps"),
];

pub(super) const GROK: &[Names] = &[
    under("model.", "", &[row("norm.scale", "output_norm")]),
    layers("model.layers.*.", GROK_ATTENTION),
];

pub(super) fn grok(reader: &mut Reader<'_>) -> Read {
    rms(reader, "grok-1")?;
    reader.unset("head_dim");
    reader.copy("attention.output_scale", "attn_output_multiplier")?;
    reader.copy("attn_logit_softcapping", "max_attn_value")?;
    reader.copy("embedding_scale", "embedding_multiplier_scale")?;
    reader.copy("logit_scale", "output_multiplier_scale")?;
    reader.copy("expert_count", "num_experts")?;
    reader.copy("expert_used_count", "num_experts_per_tok")?;
    // The published code does not limit the router's logits.
    reader.ignore(&["router_logit_softcapping"]);
    Ok(())
}

pub(super) const APERTUS: &[Names] = &[
    layers(
        "model.layers.*.",
        &[
            row("attention_layernorm", "attn_norm"),
            row("feedforward_layernorm", "ffn_norm"),
        ],
    ),
    under(
        "model.layers.*.mlp.act_fn.",
        "xielu.",
        &[
            exactly("alpha_p", "alpha_p", Change::Listed),
            exactly("alpha_n", "alpha_n", Change::Listed),
            exactly("beta", "beta", Change::Listed),
            exactly("eps", "eps", Change::Listed),
        ],
    ),
];

/// Apertus, whose activation has learned numbers.
pub(super) fn apertus(reader: &mut Reader<'_>) -> Read {
    rms(reader, "apertus")?;
    reader.unset("head_dim");
    reader.set_where("attention_bias", "blk.0.attn_q.bias");
    reader.set("hidden_act", "xielu");
    Ok(())
}

/// A rotation for layers that see everything and one for those with windows, in heads of this width.
fn rotations(reader: &mut Reader<'_>, head_dim: u64) -> Read {
    reader.rotation(head_dim, true)?;
    let parts = ["rope.dimension_count", "rope.dimension_count_swa"].map(|key| reader.number(key));
    let [all, local] = parts;
    let all = all?.unwrap_or(head_dim);
    let part = |rotated: u64| rotated as f64 / head_dim as f64;
    let mut full = match reader.get("rope_scaling").cloned() {
        Some(Value::Object(scaling)) => scaling,
        _ => serde_json::Map::from_iter([("rope_type".to_owned(), "default".into())]),
    };
    let base = reader.needed("rope.freq_base")?;
    let local_base = reader.value("rope.freq_base_swa");
    full.insert("rope_theta".to_owned(), base.clone());
    full.insert("partial_rotary_factor".to_owned(), part(all).into());
    for key in ["rope_scaling", "rope_theta", "partial_rotary_factor"] {
        reader.unset(key);
    }
    reader.set(
        "rope_parameters",
        json!({
            "full_attention": full,
            "sliding_attention": {
                "rope_type": "default", "rope_theta": local_base.unwrap_or(base),
                "partial_rotary_factor": part(local?.unwrap_or(all))
            }
        }),
    );
    Ok(())
}

pub(super) const QWEN: &[Names] = &[
    under(
        "transformer.",
        "",
        &[row("wte", "token_embd"), row("ln_f", "output_norm")],
    ),
    layers(
        "transformer.h.*.",
        &[
            row("ln_1", "attn_norm"),
            row("ln_2", "ffn_norm"),
            row("attn.c_attn", "attn_qkv"),
            row("attn.c_proj", "attn_output"),
            row("mlp.w1", "ffn_up"),
            row("mlp.w2", "ffn_gate"),
            row("mlp.c_proj", "ffn_down"),
        ],
    ),
];

/// Qwen 1. How long its training's records were is in no key: 8192 tokens but for the largest model; beyond that the rotation and the
/// queries change.
pub(super) fn qwen(reader: &mut Reader<'_>) -> Read {
    reader.set("model_type", "qwen");
    reader.sizes()?;
    reader.unset("num_key_value_heads");
    reader.epsilon("layer_norm_epsilon");
    let head_dim = reader.head_dim()?;
    reader.set("kv_channels", head_dim);
    reader.rotation(head_dim, true)?;
    reader.rename("rope_theta", "rotary_emb_base");
    reader.rename("partial_rotary_factor", "rotary_pct");
    let largest = reader.size("embedding_length")? == 8192;
    reader.set("seq_length", if largest { 32_768 } else { 8192 });
    Ok(())
}
