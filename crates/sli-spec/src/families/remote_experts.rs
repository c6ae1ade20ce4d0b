//! Mixtures of experts whose code is published beside their weights, not in transformers.

use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::families::experts::{ExpertTensors, Experts, SHARED_EXPERTS, Shared};
use crate::families::mixture::{mix, plain};
use crate::model_type::{ModelType, row};
use crate::rope::RopeOptions;
use crate::{Activation, Config, Described, Renormalize, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("deepseek", deepseek), row("grok-1", grok)];

/// DeepSeek-MoE: Llama's attention, dense first layers, always-on experts.
pub fn deepseek(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    config.neutral(
        "scoring_func",
        &["softmax".into()],
        "another way to choose experts",
    )?;
    let (first, step) = (
        config.index("first_k_dense_replace")?,
        config.size("moe_layer_freq")?,
    );
    let inner = config.size("moe_intermediate_size")?;
    let renormalize = config.flag("norm_topk_prob")?;
    let shared = config.optional_heads("n_shared_experts")?;
    if config.optional_heads("n_routed_experts")?.is_none() {
        config.ignore(&["num_experts_per_tok", "aux_loss_alpha", "seq_aux"]);
        return decoder.build();
    }
    let names = ["n_routed_experts", "num_experts_per_tok"];
    let mut experts = Experts::new(config, names, inner, decoder.activation)?;
    // The weight of a single expert stays as it is.
    if renormalize && experts.top_k > 1 {
        experts.renormalize = Renormalize::Sum { plus: 1e-20 };
    }
    experts.shared = shared.map(|count| Shared {
        tensors: SHARED_EXPERTS,
        intermediate_size: inner * count,
        bias: false,
        activation: decoder.activation,
        gate: None,
    });
    mix(&mut decoder, experts, move |layer| {
        layer >= first && layer % step == 0
    });
    decoder.build()
}

/// Grok-1: norms around each sublayer, capped logits without the usual scale, experts everywhere.
pub fn grok(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = Blocks::new(config, NormStyle::rms(config.positive("rms_norm_eps")?))?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.arrangement = Arrangement::sandwich(
        ["pre_attn_norm", "post_attn_norm"],
        ["pre_moe_norm", "post_moe_norm"],
    );
    decoder.attention_scale = config.number("attn_output_multiplier")?;
    decoder.attention_softcap = Some(config.positive("max_attn_value")?);
    decoder.embedding_scale = config.number("embedding_multiplier_scale")?;
    decoder.logit_scale = config.number("output_multiplier_scale")?;
    let names = ["num_experts", "num_experts_per_tok"];
    let mut experts = Experts::new(config, names, decoder.intermediate_size, Activation::Gelu)?;
    experts.router = "moe_block.gate";
    experts.tensors = ExpertTensors::Each([
        "moe_block.experts.{}.linear.weight",
        "moe_block.experts.{}.linear_v.weight",
        "moe_block.experts.{}.linear_1.weight",
    ]);
    mix(&mut decoder, experts, |_| true);
    decoder.names = Names {
        norm_factor: "scale",
        projections: Projections::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        output: "attn.o_proj",
        ..Names::USUAL
    };
    decoder.build()
}
