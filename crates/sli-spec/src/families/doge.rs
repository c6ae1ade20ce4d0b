//! Doge: keys are chosen by their values, experts of one inner feature each, learned factors on the residual.

use crate::build::Leaves;
use crate::families::blocks::{Blocks, MixerOf, Residual};
use crate::families::llama::{set_window, with_biases};
use crate::model_type::{ModelType, row};
use crate::{
    Config, Described, FeedForward, Linear, Mixer, MixtureOfExperts, NormSpan, Router, RouterScore,
    Shard, Source, SpecError,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("doge", doge)];

/// Doge.
pub fn doge(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = with_biases(config)?;
    set_window(config, &mut decoder)?;
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.dynamic_mask = Some(config.size("keep_window_size")?);
    decoder.residual = Residual::Learned(["input_residual", "post_attention_residual"]);
    let (count, top_k) = (
        config.heads("num_experts")?,
        config.heads("num_experts_per_tok")?,
    );
    if config.flag("is_moe")? {
        let keys = count.isqrt();
        if top_k > keys * keys {
            return Err(config.invalid("num_experts_per_tok", format!("at most {}", keys * keys)));
        }
        decoder.feed_forward_of =
            MixerOf::new(move |own, leaves, _| Some(with_experts(own, leaves, [count, top_k])));
    }
    // The weights of the chosen sum to 1 as they are.
    config.ignore(&[
        "norm_topk_prob",
        "output_router_logits",
        "router_aux_loss_coef",
    ]);
    decoder.build()
}

/// The network and, added to it, experts that product keys choose.
fn with_experts(blocks: &Blocks<'_>, leaves: &mut Leaves, [experts, top_k]: [usize; 2]) -> Mixer {
    let network = blocks.network(leaves);
    let hidden = blocks.hidden_size;
    let keys = experts.isqrt();
    let shape = [2 * keys, hidden];
    let router = leaves.linear("mlp.router_gate", shape, false, Shard::Replicate);
    let mut of_experts = |name: &str, shape: [usize; 2]| {
        let source = Source::Reshape(Box::new(leaves.tensor(name)));
        let weight = leaves.weight(source, &[experts, shape[0], shape[1]], Shard::Expert);
        Linear::plain(weight, None, shape)
    };
    // Named after what the rows do in memory layers: the first table is multiplied with the input.
    let up = of_experts("mlp.down_embed.weight", [1, hidden]);
    let down = of_experts("mlp.up_embed.weight", [hidden, 1]);
    let expert = FeedForward::plain(None, up, down, blocks.activation);
    let router = Router::plain(router, RouterScore::ProductKeys(keys), top_k);
    Mixer::MixtureOfExperts(Box::new(MixtureOfExperts {
        shared: Some(network),
        ..MixtureOfExperts::plain(experts, router, expert)
    }))
}
