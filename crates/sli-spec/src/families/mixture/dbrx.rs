//! DBRX: fused projections that are clipped, layer norms, experts one below the other.

use super::mix;
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::families::experts::{ExpertTensors, Experts, ignore_training};
use crate::rope::{Rope, RopeOptions};
use crate::{Activation, Config, Described, LengthLimit, Renormalize, SpecError};

/// DBRX: layer norms without addend, weights divided by their p-norm.
pub fn dbrx(config: &Config) -> Result<Described, SpecError> {
    let (attention, network) = (config.nested("attn_config")?, config.nested("ffn_config")?);
    for nested in [&attention, &network].into_iter().flatten() {
        nested.ignore(&[
            "hidden_size",
            "moe_jitter_eps",
            "moe_loss_weight",
            "rope_theta",
            // Every configuration's class has it; the model's own is beside this object.
            "tie_word_embeddings",
        ]);
        nested.off(
            "uniform_expert_assignment",
            "experts that are dealt out in turn",
        )?;
    }
    let of = |nested: &Option<Config>, key: &str, usual: usize| match nested {
        Some(nested) if nested.in_file(key) => nested.heads(key),
        _ => Ok(usual),
    };
    let hidden_size = config.size("d_model")?;
    let (heads, kv_heads) = (config.heads("n_heads")?, of(&attention, "kv_n_heads", 1)?);
    // Derived, or of training.
    config.ignore(&["num_key_value_heads", "emb_pdrop"]);
    let head_dim = divided(config, "n_heads", hidden_size, heads)?;
    divided(config, "n_heads", heads, kv_heads)?;
    let clip = match &attention {
        Some(attention) => attention.optional_positive("clip_qkv")?,
        None => None,
    };
    // Published files have the base among the attention's keys; transformers 5 reads its own
    // `rope_parameters` only and would turn those by 10,000 instead of 500,000.
    let theta = match &attention {
        Some(attention) => attention.optional_positive("rope_theta")?,
        None => None,
    };
    // A base beside the attention's keys is the reference's own, in the older spelling.
    let theta = theta.filter(|_| !config.in_file("rope_theta"));
    let assumed =
        theta.map(|theta| serde_json::json!({"rope_type": "default", "rope_theta": theta}));
    let options = RopeOptions {
        assumed: assumed.as_ref(),
        ..RopeOptions::new(head_dim)
    };
    let rope = Rope::from_config(config, &options)?;
    let experts = dbrx_experts(config, network.as_ref(), of)?;
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(1e-5)
    };
    let layers = config.layers("n_layers")?;
    let sizes = [hidden_size, experts.intermediate_size];
    let mut model = Blocks::sized(config, norm, layers, sizes, [heads, kv_heads, head_dim])?;
    model.family = "mixture";
    model.ignored.clear();
    model.names = Names {
        tokens: "wte",
        layers: "blocks",
        projections: Projections::Rows("norm_attn_norm.attn.Wqkv"),
        output: "norm_attn_norm.attn.out_proj",
        final_norm: "norm_f",
        ..Names::USUAL
    };
    model.arrangement = Arrangement::pre("norm_attn_norm.norm_1", "norm_attn_norm.norm_2");
    model.clip = clip;
    let max = config.size("max_seq_len")?;
    let limit = rope.as_ref().map(|rope| rope.length_limit(max));
    model.length_limit = Some(limit.unwrap_or(LengthLimit::None));
    model.ropes.fill(rope);
    model.may_look_ahead = false;
    mix(&mut model, experts, |_| true);
    model.build()
}

fn dbrx_experts(
    config: &Config,
    network: Option<&Config>,
    of: impl Fn(&Option<Config>, &str, usize) -> Result<usize, SpecError>,
) -> Result<Experts, SpecError> {
    let nested = network.cloned();
    let count = of(&nested, "moe_num_experts", 4)?;
    let top_k = of(&nested, "moe_top_k", 1)?;
    let inner = match &nested {
        Some(nested) if nested.in_file("ffn_hidden_size") => nested.size("ffn_hidden_size")?,
        _ => 3584,
    };
    if let (true, Some(network)) = (top_k > count, network) {
        return Err(network.invalid("moe_top_k", format!("at most {count} experts")));
    }
    let activation = match network {
        Some(network) => match network.nested("ffn_act_fn")? {
            Some(named) if named.mentions("name") => named.activation("name")?,
            _ => Activation::Silu,
        },
        None => Activation::Silu,
    };
    // Present as `null`: the weights stay as they are.
    let p = match network {
        Some(network) if network.mentions("moe_normalize_expert_weights") => {
            network.optional_positive("moe_normalize_expert_weights")?
        }
        _ => Some(1.0),
    };
    ignore_training(config);
    Ok(Experts {
        tensors: ExpertTensors::Tall([
            "ffn.experts.mlp.w1",
            "ffn.experts.mlp.v1",
            "ffn.experts.mlp.w2",
        ]),
        router: "ffn.router.layer",
        renormalize: p.map_or(Renormalize::No, |p| Renormalize::Norm { p }),
        ..Experts::plain(count, top_k, inner, activation)
    })
}
