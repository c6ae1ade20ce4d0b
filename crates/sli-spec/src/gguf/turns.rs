//! Gates on the outputs of attention: HRM, whose layers run by turns, and Muse Glimmer.

use serde_json::{Value, json};

use super::architecture::{
    Change, Names, Row, behind, changed, exactly, layers, plus_one, row, under,
};
use super::llama::{pattern, rms};
use super::reader::{Read, Reader};
use super::usual::PROJECTIONS;

/// The four projections of an attention and the two of a network, each by itself in the file.
const GROUP: &[Row] = &[
    changed(
        "attn.gqkv_proj",
        "attn_gate",
        Change::Parted(&["attn_gate", "attn_q", "attn_k", "attn_v"]),
    ),
    row("attn.o_proj", "attn_output"),
    changed("mlp.gate_up_proj", "ffn_gate", Change::Divided),
    row("mlp.down_proj", "ffn_down"),
];

pub(super) const HRM: &[Names] = &[
    under(
        "model.",
        "",
        &[exactly("z_L_init", "hrm.z_l_init", Change::None)],
    ),
    layers("model.L_module.layers.*.", GROUP),
    behind("hrm.layers_per_stack", "model.H_module.layers.*.", GROUP),
];

/// HRM: blocks of the fast group, then those of the slow one, each once.
pub(super) fn hrm_text(reader: &mut Reader<'_>) -> Read {
    rms(reader, "hrm_text")?;
    reader.unset("num_key_value_heads");
    reader.unset("num_hidden_layers");
    reader.copy("hrm.layers_per_stack", "num_layers_per_stack")?;
    reader.copy("hrm.h_cycles", "H_cycles")?;
    reader.copy("hrm.l_cycles", "L_cycles")?;
    reader.copy("embedding_scale", "embedding_scale")?;
    let prefix = reader.value("hrm.prefix_lm");
    reader.set("prefix_lm", prefix.unwrap_or(false.into()));
    Ok(())
}

/// Norms of a layer, which hold their one.
pub(super) const MUSE: &[Names] = &[
    layers(
        "model.layers.*.",
        &[
            plus_one("input_layernorm", "attn_norm"),
            plus_one("post_attention_layernorm", "post_attention_norm"),
            plus_one("pre_feedforward_layernorm", "ffn_norm"),
            plus_one("post_feedforward_layernorm", "post_ffw_norm"),
        ],
    ),
    layers(
        "model.layers.*.self_attn.",
        &[
            row("gate_proj", "attn_gate"),
            changed("q_proj", "attn_q", Change::Permuted),
            changed("k_proj", "attn_k", Change::Permuted),
        ],
    ),
    layers("model.layers.*.self_attn.", PROJECTIONS),
];

/// Muse Glimmer's text model. The factor on queries is in the norms of queries, which the class has none of.
pub(super) fn muse_glimmer(reader: &mut Reader<'_>) -> Read {
    rms(reader, "muse_glimmer_text")?;
    let base = reader.get("rope_theta").cloned().unwrap_or_default();
    reader.unset("rope_theta");
    reader.set(
        "rope_parameters",
        json!({"rope_type": "default", "rope_theta": base.clone()}),
    );
    reader.set("head_norm_weights", true);
    reader.copy("logit_scale", "output_multiplier")?;
    reader.copy("final_logit_softcapping", "final_logit_softcapping")?;
    reader.copy("attention.sliding_window", "sliding_window")?;
    reader.needed("attention.sliding_window_pattern")?;
    pattern(reader, 4)?;
    // Layers that see everything do not rotate.
    let kinds = reader.get("layer_types").and_then(Value::as_array).cloned();
    let bases = kinds.into_iter().flatten().map(|kind| {
        let rotates = kind == "sliding_attention";
        if rotates { base.clone() } else { 0.into() }
    });
    let bases: Vec<Value> = bases.collect();
    reader.set("layer_rope_theta", bases);
    Ok(())
}
