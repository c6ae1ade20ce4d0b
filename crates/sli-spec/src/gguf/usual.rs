//! Names that most architectures have: Llama's, and the rows that other tables are made of.

use super::architecture::{Change, Names, Row, changed, layers, row, under};

/// Llama's names, behind an architecture's own.
pub(super) const USUAL: &[Names] = &[
    under(
        "",
        "",
        &[
            row("model.embed_tokens", "token_embd"),
            row("model.norm", "output_norm"),
            row("lm_head", "output"),
        ],
    ),
    layers("model.layers.*.", NORMS),
    layers("model.layers.*.self_attn.", PROJECTIONS),
    layers(
        "model.layers.*.self_attn.",
        &[
            row("q_norm", "attn_q_norm"),
            row("k_norm", "attn_k_norm"),
            row("sinks", "attn_sinks.weight"),
        ],
    ),
    layers("model.layers.*.mlp.", DENSE),
    layers("model.layers.*.mlp.", ROUTER),
    layers("model.layers.*.mlp.experts.{}.", EXPERTS),
    layers("model.layers.*.mlp.shared_expert.", SHARED),
    layers("model.layers.*.mlp.shared_experts.", SHARED),
    layers(
        "model.layers.*.mlp.",
        &[row("shared_expert_gate", "ffn_gate_inp_shexp")],
    ),
];

/// Norms in front of both sublayers.
pub(super) const NORMS: &[Row] = &[
    row("input_layernorm", "attn_norm"),
    row("post_attention_layernorm", "ffn_norm"),
];

/// Projections of an attention.
pub(super) const PROJECTIONS: &[Row] = &[
    row("q_proj", "attn_q"),
    row("k_proj", "attn_k"),
    row("v_proj", "attn_v"),
    row("o_proj", "attn_output"),
];

/// A network without experts.
pub(super) const DENSE: &[Row] = &[
    row("gate_proj", "ffn_gate"),
    row("up_proj", "ffn_up"),
    row("down_proj", "ffn_down"),
];

/// The same under numbers.
pub(super) const NUMBERED: &[Row] = &[
    row("w1", "ffn_gate"),
    row("w2", "ffn_down"),
    row("w3", "ffn_up"),
];

/// What chooses experts.
pub(super) const ROUTER: &[Row] = &[
    row("gate", "ffn_gate_inp"),
    row("gate.e_score_correction_bias", "exp_probs_b.bias"),
];

/// An expert.
pub(super) const EXPERTS: &[Row] = &[
    row("gate_proj", "ffn_gate_exps"),
    row("up_proj", "ffn_up_exps"),
    row("down_proj", "ffn_down_exps"),
];

/// Experts that are always on.
pub(super) const SHARED: &[Row] = &[
    row("gate_proj", "ffn_gate_shexp"),
    row("up_proj", "ffn_up_shexp"),
    row("down_proj", "ffn_down_shexp"),
];

/// Experts that are stacked, gate and upward projection in one.
pub(super) const STACKED: &[Row] = &[
    changed("gate_up_proj", "ffn_gate_exps.weight", Change::Divided),
    row("down_proj", "ffn_down_exps.weight"),
];

/// The same, stored as what they are multiplied by from the right.
pub(super) const TRANSPOSED: &[Row] = &[
    changed("gate_up_proj", "ffn_gate_exps.weight", Change::Divided),
    changed("down_proj", "ffn_down_exps.weight", Change::Transposed),
];
