//! JetMoE: experts for the attention too.

use super::mix;
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Blocks, MixerOf};
use crate::families::experts::{ExpertTensors, Experts};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Config, Described, Linear, Mask, Mixer, MixtureOfAttention, Router, RouterScore, SpecError,
    Split,
};

/// JetMoe: the projections of queries and outputs are experts too.
pub fn jetmoe(config: &Config) -> Result<Described, SpecError> {
    // The norms of the layers have an epsilon of their own.
    let norm = NormStyle::rms(1e-6);
    let (heads, head_dim) = (
        config.heads("num_key_value_heads")?,
        config.heads("kv_channels")?,
    );
    let (layers, inner) = (
        config.layers("num_hidden_layers")?,
        config.size("intermediate_size")?,
    );
    // Derived.
    config.ignore(&["num_attention_heads"]);
    let activation = config.activation("activation_function")?;
    let experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.input_linear.weight", "mlp.output_linear.weight"]),
        router: "mlp.router.layer",
        score: RouterScore::SoftmaxOfTopK,
        output_bias: Some("mlp.bias"),
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            inner,
            activation,
        )?
    };
    let sizes = [config.size("hidden_size")?, inner];
    let heads_of_token = heads * experts.top_k;
    let mut decoder = Blocks::sized(
        config,
        norm,
        layers,
        sizes,
        [heads_of_token, heads, head_dim],
    )?;
    decoder.family = "mixture";
    decoder.rotate(&RopeOptions::new(head_dim))?;
    let hidden_size = decoder.hidden_size;
    let (ropes, router) = (decoder.ropes.clone(), experts.clone());
    decoder.attention_of = MixerOf::new(move |_, leaves, layer| {
        Some(attention_experts(
            leaves,
            &router,
            [heads, head_dim, hidden_size],
            ropes[layer].clone(),
        ))
    });
    decoder.one_way = true;
    mix(&mut decoder, experts, |_| true);
    decoder.final_norm = Some(NormStyle::rms(config.positive("rms_norm_eps")?));
    decoder.build()
}

fn attention_experts(
    leaves: &mut Leaves,
    experts: &Experts,
    [heads, head_dim, hidden_size]: [usize; 3],
    rope: Option<Rope>,
) -> Mixer {
    let (count, inner) = (experts.count, heads * head_dim);
    let projection = leaves.linear(
        "self_attention.experts.router.layer",
        [count, hidden_size],
        false,
        crate::Shard::Replicate,
    );
    let mut stacked = |name: &str, [rows, columns]: [usize; 2]| {
        let source = leaves.tensor(name);
        let weight = leaves.weight(source, &[count, rows, columns], crate::Shard::Expert);
        Linear::plain(weight, None, [rows, columns])
    };
    let query = stacked(
        "self_attention.experts.input_linear.weight",
        [inner, hidden_size],
    );
    let output = stacked(
        "self_attention.experts.output_linear.weight",
        [hidden_size, inner],
    );
    let both = leaves.tensor("self_attention.kv_proj.weight");
    let [key, value] = [0, 1].map(|part| {
        let source = both.clone().part(Split::Rows(vec![inner, inner]), part);
        leaves.linear_of(source, None, [inner, hidden_size], crate::Shard::Column)
    });
    let bias = leaves.tensor("self_attention.experts.bias");
    Mixer::MixtureOfAttention(Box::new(MixtureOfAttention {
        experts: count,
        router: Router::plain(projection, RouterScore::SoftmaxOfTopK, experts.top_k),
        heads,
        head_dim,
        query,
        key,
        value,
        output,
        output_bias: leaves.weight(bias, &[hidden_size], crate::Shard::Replicate),
        rope,
        mask: Mask::Causal,
        scale: (head_dim as f64).powf(-0.5),
    }))
}
