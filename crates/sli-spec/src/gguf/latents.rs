//! Latent heads and streams of the residual: Hunyuan 4.

use super::architecture::{Change, Names, changed, layers, row, under};
use super::experts::LATENT;
use super::experts::{network_kinds, sigmoid_scores};
use super::mixtures::{INDEXER, indexed};
use super::reader::{Read, Reader};
use super::usual::STACKED;

pub(super) const HY_V4: &[Names] = &[
    LATENT,
    INDEXER,
    under(
        "model.hc_pre.hc_head.",
        "",
        &[
            row("hc_head_fn", "output_hc_fn"),
            row("hc_head_base", "output_hc_base"),
            row("hc_head_scale", "output_hc_scale"),
        ],
    ),
    layers(
        "model.layers.*.hc_pre.",
        &[
            row("hc_attn_layer.hc_fn", "hc_attn_fn"),
            row("hc_attn_layer.hc_base", "hc_attn_base"),
            row("hc_attn_layer.hc_scale", "hc_attn_scale"),
            row("hc_mlp_layer.hc_fn", "hc_ffn_fn"),
            row("hc_mlp_layer.hc_base", "hc_ffn_base"),
            row("hc_mlp_layer.hc_scale", "hc_ffn_scale"),
        ],
    ),
    layers(
        "model.layers.*.self_attn.",
        &[
            row("linear_gate", "attn_gate"),
            row("learnable_sink_param", "attn_sinks.weight"),
        ],
    ),
    layers(
        "model.layers.*.mlp.",
        &[
            changed("linear_gate", "ffn_gate", Change::None),
            row("shared_experts.linear_gate", "ffn_gate_shexp"),
        ],
    ),
    layers("model.layers.*.mlp.experts.", STACKED),
];

/// Hunyuan 4.
pub(super) fn hy_v4(reader: &mut Reader<'_>) -> Read {
    sigmoid_scores(reader)?;
    indexed(reader, "hy_v4")?;
    reader.unset("first_k_dense_replace");
    network_kinds(reader)?;
    let limit = reader.limit("swiglu_clamp_exp")?;
    if limit.is_null() {
        let reason = "experts without a limit are not of this type";
        return Err(reader.unsupported("swiglu_clamp_exp", &limit, reason));
    }
    reader.set("swiglu_limit", limit);
    reader.copy("hyper_connection.count", "hc_mult")?;
    reader.copy("hyper_connection.epsilon", "hc_eps")?;
    reader.copy("hyper_connection.magnitude", "hc_magnitude")
}
