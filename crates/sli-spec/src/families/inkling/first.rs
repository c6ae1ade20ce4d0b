//! Inkling: shared experts that the router weighs among the chosen ones.

use std::rc::Rc;

use super::rules::{Rules, computed, cut_head, kinds};
use crate::families::blocks::{Tie, UnusedHead};
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::mixture::{mix, sparse_layers};
use crate::{Config, Described, Gain, NormSpan, RouterScore, Shard, Slot, SpecError};

/// `dense_intermediate_size` of published files, beside which `intermediate_size` is that of an expert:
/// `[of a network, of an expert]`.
fn widths(config: &Config) -> Result<[usize; 2], SpecError> {
    let [inner, of_expert] = ["intermediate_size", "moe_intermediate_size"];
    Ok(match config.optional_size("dense_intermediate_size")? {
        Some(dense) => {
            config.ignore(&[of_expert]);
            [dense, config.size(inner)?]
        }
        None => [config.size(inner)?, config.size(of_expert)?],
    })
}

/// The text model of Inkling.
pub fn inkling_text(config: &Config) -> Result<Described, SpecError> {
    let local = config.numbers("local_layer_ids")?;
    let near = |layer: usize| match &local {
        Some(local) => local.contains(&(layer as f64)),
        None => !(layer + 1).is_multiple_of(6),
    };
    let kinds = kinds(config, near, true)?;
    let [inner, of_expert] = widths(config)?;
    let rules = Rules::new(config, kinds)?;
    let mut model = rules.blocks(config, inner)?;
    model.token_norm = Some(("embed_tokens.embed_norm", model.norm));
    model.query_key_norm = Some((NormSpan::Head, model.norm));
    model.tie = Tie::Always(false);
    model.logit_scale = 1.0 / config.positive("logits_mup_width_multiplier")?;
    model.unused_head = UnusedHead::projection(&["lm_head.weight"]);
    cut_head(config, &mut model, "lm_head")?;
    // Read by nothing, or by layers for further tokens.
    config.ignore(&[
        "chain_hidden_post_norm",
        "mtp_hidden_states_first",
        "mtp_local_layer_ids",
        "num_mtp_layers",
        "number_of_conv_states",
        "rms_norm_eps_moe_gate",
        "shared_expert_sink",
    ]);
    let dense = config.optional_index("dense_mlp_idx")?.unwrap_or(0);
    let sparse = sparse_layers(config, model.layers(), |layer| layer >= dense)?;
    let experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        score: RouterScore::ShareOfSigmoids,
        choice_bias: &["mlp.gate.e_score_correction_bias"],
        weighed: config.heads("n_shared_experts")?,
        weighed_names: [
            "mlp.shared_experts.gate_proj",
            "mlp.shared_experts.up_proj",
            "mlp.shared_experts.down_proj",
        ],
        scale: config.number("route_scale")?,
        weight_scale: Some("mlp.gate.global_scale"),
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            of_expert,
            model.activation,
        )?
    };
    let chosen = sparse.clone();
    mix(&mut model, experts, move |layer| chosen[layer]);
    let of_layer = rules.clone();
    model.differ(move |own, layer| {
        [own.heads, own.kv_heads, own.head_dim] = of_layer.of(layer, of_layer.sizes);
        own.attention_scale = 1.0 / own.head_dim as f64;
    });
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let names = ["self_attn.r_proj", "self_attn.rel_logits_proj.proj"];
        let mut attention = rules.attention(own, leaves, layer, (names, |_, _| None));
        let names = ["self_attn.k_sconv.conv1d", "self_attn.v_sconv.conv1d"];
        attention.convolutions = rules.of_keys(own, leaves, (names, 1.0));
        let attention = crate::Mixer::Attention(Box::new(attention));
        let from = (Slot::Hidden, "input_layernorm");
        let mut steps = vec![
            computed(own, leaves, from, attention),
            rules.add(own, leaves, ("attn_sconv.conv1d", 1.0)),
        ];
        let network = own.feed_forward(leaves, layer);
        let from = (Slot::Hidden, "post_attention_layernorm");
        let mut network = computed(own, leaves, from, network);
        if !sparse[layer] {
            let source = leaves.tensor("mlp.global_scale");
            let scale = leaves.weight(source, &[1], Shard::Replicate);
            network.branches[0].gain = Gain::Vector(scale);
        }
        steps.push(network);
        steps.push(rules.add(own, leaves, ("mlp_sconv.conv1d", 1.0)));
        steps
    }));
    model.build()
}
