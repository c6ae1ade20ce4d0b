//! Hunyuan V1: settings that may differ from layer to layer.

use super::plain;
use crate::families::blocks::MixerOf;
use crate::families::experts::{Experts, Shared, SharedTensors};
use crate::rope::{RopeOptions, RopeScaling};
use crate::{Config, Described, NormSpan, Renormalize, SpecError};

/// Hunyuan A13B: norms of queries and keys behind the rotation, a shared network.
pub fn hunyuan_v1_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.norm_after_rotation = true;
    decoder.names.query_norm = "self_attn.query_layernorm";
    decoder.names.key_norm = "self_attn.key_layernorm";
    let object = match config.nested("rope_scaling")? {
        Some(older) => Some(older),
        None => config.nested("rope_parameters")?,
    };
    let alpha = match &object {
        Some(object) => object.optional_positive("alpha")?,
        None => None,
    };
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    for rope in decoder.ropes.iter_mut().flatten() {
        let (RopeScaling::Dynamic { .. }, Some(alpha)) = (&rope.scaling, alpha) else {
            continue;
        };
        // The base is stretched once and for all.
        if let Some(object) = &object {
            object.ignore(&["beta_fast", "beta_slow", "mscale", "mscale_all_dim"]);
        }
        let dims = rope.span as f64;
        rope.theta *= alpha.powf(dims / (dims - 2.0));
        rope.scaling = RopeScaling::Default;
    }
    config.ignore(&["eod_token_id", "num_local_experts"]);
    published_hunyuan(config)?;
    let top_ks = match config.value("moe_topk") {
        Some(serde_json::Value::Array(_)) => config
            .numbers("moe_topk")?
            .unwrap_or_default()
            .into_iter()
            .map(|top_k| top_k as usize)
            .collect(),
        _ => vec![config.heads("moe_topk")?; decoder.layers()],
    };
    let count = config.heads("num_experts")?;
    let fits = |&top_k: &usize| (1..=count).contains(&top_k);
    if top_ks.len() < decoder.layers() || !top_ks.iter().all(fits) {
        return Err(config.invalid("moe_topk", format!("1 to {count} experts for each layer")));
    }
    crate::families::experts::ignore_training(config);
    let (hidden_size, inner) = (decoder.hidden_size, decoder.intermediate_size);
    let experts = Experts {
        router: "mlp.gate.wg",
        renormalize: Renormalize::Sum { plus: 0.0 },
        shared: Some(Shared {
            tensors: SharedTensors::Plain([
                "mlp.shared_mlp.gate_proj",
                "mlp.shared_mlp.up_proj",
                "mlp.shared_mlp.down_proj",
            ]),
            intermediate_size: inner,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::plain(count, 1, inner, decoder.activation)
    };
    decoder.feed_forward_of = MixerOf::new(move |_, leaves, layer| {
        let experts = Experts {
            top_k: top_ks[layer],
            ..experts.clone()
        };
        Some(experts.build(leaves, hidden_size))
    });
    decoder.build()
}

/// What published files say beyond the class's keys: it must be what the class does.
fn published_hunyuan(config: &Config) -> Result<(), SpecError> {
    config.neutral("use_qk_norm", &[true.into()], "queries and keys have norms")?;
    config.neutral(
        "use_mixed_mlp_moe",
        &[true.into()],
        "there is a shared network",
    )?;
    config.neutral("norm_topk_prob", &[true.into()], "weights sum to one")?;
    config.neutral(
        "moe_layer_num_skipped",
        &[0.into()],
        "every layer has experts",
    )?;
    config.off("use_cla", "keys and values of other layers are not shared")?;
    config.off("mlp_bias", "networks have no addends")?;
    for (key, expected) in [
        ("num_shared_expert", 1),
        ("moe_intermediate_size", config.size("intermediate_size")?),
    ] {
        let values = match config.value(key) {
            Some(serde_json::Value::Array(_)) => config.numbers(key)?.unwrap_or_default(),
            _ => config.optional_number(key)?.into_iter().collect(),
        };
        if values.iter().any(|&value| value != expected as f64) {
            return Err(config.unsupported(key, format!("this type has {expected}")));
        }
    }
    config.ignore(&[
        "capacity_factor",
        "cla_share_factor",
        "moe_drop_tokens",
        "moe_random_routing_dropped_token",
        "group_limited_greedy",
        "n_group",
        "topk_group",
        "routed_scaling_factor",
    ]);
    Ok(())
}
