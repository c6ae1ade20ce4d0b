//! LongCat-Flash: two sublayers of attention a layer, experts beside them.

use std::rc::Rc;

use crate::build::{NormStyle, pattern};
use crate::families::blocks::Blocks;
use crate::families::experts::{Experts, ignore_training};
use crate::families::latent::Latent;
use crate::{Activation, Config, Described, Identity, Mixer, Slot, SpecError, Step, Write};

/// LongCat-Flash: two sublayers of attention and network in a layer, and experts beside them.
pub fn longcat_flash(config: &Config) -> Result<Described, SpecError> {
    let mut latent = Latent::new(config, true)?;
    let Some(q_rank) = latent.q_rank else {
        return Err(config.missing("q_lora_rank"));
    };
    let hidden_size = latent.hidden_size;
    latent.latent_scales = [
        (hidden_size as f64 / q_rank as f64).sqrt(),
        (hidden_size as f64 / latent.kv_rank as f64).sqrt(),
    ];
    let layers = if config.in_file("num_layers") || !config.in_file("num_hidden_layers") {
        config.layers("num_layers")?
    } else {
        config.layers("num_hidden_layers")? / 2
    };
    config.ignore(&["num_hidden_layers"]);
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.size("ffn_hidden_size")?;
    let dim = latent.nope_dim + latent.rope_dim;
    let heads = [latent.heads, latent.heads, dim];
    let mut decoder = Blocks::sized(config, norm, layers, [hidden_size, inner], heads)?;
    decoder.family = "deepseek";
    decoder.activation = config.activation("hidden_act")?;
    decoder.ropes = vec![latent.rope.clone(); layers];
    config.neutral(
        "zero_expert_type",
        &["identity".into()],
        "other experts without weights",
    )?;
    config.neutral("attention_method", &["MLA".into()], "another attention")?;
    for key in ["mla_scale_q_lora", "mla_scale_kv_lora"] {
        config.neutral(key, &[true.into()], "latents are scaled")?;
    }
    let experts = longcat_experts(config, decoder.activation)?;
    let (routed, identities) = (experts.count, experts.identities);
    decoder.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = Vec::new();
        for half in 0..2 {
            let pre = leaves.norm(&format!("input_layernorm.{half}"), hidden_size, norm);
            let attention = latent.build(
                leaves,
                &format!("self_attn.{half}"),
                own.masks[layer],
                |_| None,
            );
            steps.push(Step {
                pre: Some(pre),
                ..Step::residual(attention)
            });
            let pre = leaves.norm(
                &format!("post_attention_layernorm.{half}"),
                hidden_size,
                norm,
            );
            if half == 0 {
                steps.push(Step {
                    pre: Some(pre.clone()),
                    write: Write::Set(Slot::Stash(0)),
                    ..Step::residual(experts.build(leaves, hidden_size))
                });
            }
            let names =
                ["gate_proj", "up_proj", "down_proj"].map(|part| format!("mlps.{half}.{part}"));
            let names = [&names[0], &names[1], &names[2]].map(String::as_str);
            let sizes = [hidden_size, inner];
            let network = leaves.gated_feed_forward(names, sizes, false, own.activation);
            steps.push(Step {
                pre: Some(pre),
                ..Step::residual(Mixer::FeedForward(network))
            });
        }
        steps.push(Step {
            read: Slot::Stash(0),
            ..Step::residual(Mixer::Identity(Identity))
        });
        steps
    }));
    decoder.ignored.push("model.mtp.*");
    // The reference writes gates for the experts without weights.
    for expert in routed..routed + identities {
        let gates = format!("model.layers.*.mlp.experts.{expert}.*");
        decoder.ignored.push(pattern(gates));
    }
    decoder.build()
}

fn longcat_experts(config: &Config, activation: Activation) -> Result<Experts, SpecError> {
    let routed = config.heads("n_routed_experts")?;
    let identities = config
        .value("zero_expert_num")
        .map(|_| config.index("zero_expert_num"))
        .transpose()?
        .unwrap_or(0);
    let top_k = config.heads("moe_topk")?;
    if top_k > routed + identities {
        return Err(config.invalid(
            "moe_topk",
            format!("at most {} experts", routed + identities),
        ));
    }
    ignore_training(config);
    // The reference declares the router's addend but does not use it.
    config.off("router_bias", "the reference leaves it out of the logits")?;
    Ok(Experts {
        count: routed,
        identities,
        top_k,
        router: "mlp.router.classifier",
        choice_bias: &["mlp.router.e_score_correction_bias"],
        scale: config.number("routed_scaling_factor")?,
        ..Experts::plain(
            routed,
            top_k,
            config.size("expert_ffn_hidden_size")?,
            activation,
        )
    })
}
