//! DBRX: fused projections that are clipped, layer norms, experts one below the other.

use crate::build::{CausalHead, Leaves, NormStyle, unused_head};
use crate::families::experts::{ExpertTensors, Experts};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Attention, Config, Input, Mask, Mixer, ModelSpec, Renormalize, SpecError, Split,
    Step,
};

/// DBRX: layer norms without addend, weights divided by their p-norm.
pub fn dbrx(config: &Config) -> Result<ModelSpec, SpecError> {
    let base = config.row()?.base_prefix.as_str();
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
    let head_dim = crate::build::divided(config, "n_heads", hidden_size, heads)?;
    crate::build::divided(config, "n_heads", heads, kv_heads)?;
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
    let tied = config.flag("tie_word_embeddings")?;
    let vocab_size = config.size("vocab_size")?;
    let layers = (0..config.layers("n_layers")?).map(|layer| {
        let mut leaves = Leaves::new(format!("{base}blocks.{layer}."));
        let first = leaves.norm("norm_attn_norm.norm_1", hidden_size, norm);
        let wide = heads * head_dim;
        let rows = [wide, kv_heads * head_dim, kv_heads * head_dim];
        let fused = leaves.tensor("norm_attn_norm.attn.Wqkv.weight");
        let [query, key, value] = [0, 1, 2].map(|part| {
            let source = fused.clone().part(Split::Rows(rows.to_vec()), part);
            leaves.linear_of(
                source,
                None,
                [rows[part], hidden_size],
                crate::Shard::Column,
            )
        });
        let shape = [hidden_size, wide];
        let output = leaves.linear(
            "norm_attn_norm.attn.out_proj",
            shape,
            false,
            crate::Shard::Row,
        );
        let key_value = crate::KeyValue::Own {
            key,
            value: Some(value),
        };
        let sizes = [heads, kv_heads, head_dim];
        let attention = Attention {
            clip,
            positions: rope
                .clone()
                .map(crate::Position::Rope)
                .into_iter()
                .collect(),
            ..Attention::plain(sizes, query, key_value, output, Mask::Causal)
        };
        let attention = Step {
            pre: Some(first),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        };
        let second = leaves.norm("norm_attn_norm.norm_2", hidden_size, norm);
        let experts = Step {
            pre: Some(second),
            ..Step::residual(experts.build(&mut leaves, hidden_size))
        };
        leaves.layer(vec![attention, experts])
    });
    let layers = layers.collect();
    let mut embedding = Leaves::new(base);
    let tokens = embedding.table("wte.weight", vocab_size, hidden_size);
    let head = CausalHead {
        norm: Some((format!("{base}norm_f"), norm)),
        projection: "lm_head",
        bias: false,
        tokens: format!("{base}wte.weight"),
        scale: 1.0,
        softcap: None,
    };
    let max = config.size("max_seq_len")?;
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "mixture",
        base_prefix: base,
        ignored: unused_head(&config.class()?, tied, &["lm_head.weight"]),
        vocab_size,
        stacks: vec![crate::Stack {
            name: "decoder",
            hidden_size,
            sequence: crate::Sequence::Record,
            input: Input::Tokens(crate::Embedding::of_tokens(
                tokens,
                hidden_size,
                embedding.finish(),
            )),
            positions: crate::PositionIds::Sequential,
            limit: rope.map_or(crate::LengthLimit::None, |rope| rope.length_limit(max)),
            prompt: Vec::new(),
            layers,
            head: head.build(config, [vocab_size, hidden_size])?,
        }],
    })
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
    crate::families::experts::ignore_training(config);
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
