//! Latent attention.

use super::{from_first, ignore_layers_behind, shared, with_v3_experts};
use crate::build::NormStyle;
use crate::families::blocks::{Blocks, MixerOf, Residual};
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::latent::Latent;
use crate::families::mixture::{mix, sparse_layers};
use crate::{Config, Described, QueryTemperature, Renormalize, SpecError};

/// A decoder with latent attention in every layer.
pub(in crate::families) fn latent_decoder<'c>(
    config: &'c Config,
    latent: &Latent,
) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let layers = config.layers("num_hidden_layers")?;
    let inner = config.size("intermediate_size")?;
    let head_dim = latent.nope_dim + latent.rope_dim;
    let heads = [latent.heads, latent.heads, head_dim];
    let mut decoder = Blocks::sized(config, norm, layers, [latent.hidden_size, inner], heads)?;
    decoder.family = "deepseek";
    decoder.activation = config.activation("hidden_act")?;
    decoder.ropes = vec![latent.rope.clone(); layers];
    let latent = latent.clone();
    decoder.attention_of = MixerOf::new(move |own, leaves, layer| {
        Some(latent.build(leaves, "self_attn", own.masks[layer], |_| None))
    });
    Ok(decoder)
}

/// DeepSeek-V2: softmax scores, groups by their best expert.
pub fn deepseek_v2(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::new(config, true)?;
    let mut decoder = latent_decoder(config, &latent)?;
    decoder.set_network_bias(config.flag("mlp_bias")?);
    let sparse = from_first(config, decoder.layers())?;
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        scale: config.number("routed_scaling_factor")?,
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    // The reference does not look at it.
    config.ignore(&["norm_topk_prob"]);
    config.neutral(
        "scoring_func",
        &["softmax".into()],
        "other scores of experts",
    )?;
    match config.optional_text("topk_method")?.as_deref() {
        Some("greedy") => config.ignore(&["n_group", "topk_group"]),
        Some("group_limited_greedy") => experts.limit_to_groups(config, 1)?,
        _ => return Err(config.unsupported("topk_method", "unknown way to choose experts")),
    }
    shared(&mut experts, config.heads("n_shared_experts")?);
    if let Some(shared) = &mut experts.shared {
        shared.bias = decoder.up_bias;
    }
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// DeepSeek-V3, R1, Kimi K2.
pub fn deepseek_v3(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    let mut decoder = latent_decoder(config, &latent)?;
    let sparse = from_first(config, decoder.layers())?;
    with_v3_experts(config, &mut decoder, sparse)?;
    ignore_layers_behind(&mut decoder, config)?;
    decoder.build()
}

/// GLM-4.7-Flash.
pub fn glm4_moe_lite(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    let mut decoder = latent_decoder(config, &latent)?;
    config.ignore(&["first_k_dense_replace"]);
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    with_v3_experts(config, &mut decoder, sparse)?;
    ignore_layers_behind(&mut decoder, config)?;
    decoder.build()
}

/// A.X K1: one more norm, on the experts' output.
pub fn axk1(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    if latent.q_rank.is_none() {
        return Err(config.missing("q_lora_rank"));
    }
    let mut decoder = latent_decoder(config, &latent)?;
    let first = if config.in_file("first_k_dense_replace") {
        config.index("first_k_dense_replace")?
    } else {
        1
    };
    let every = config.optional_size("moe_layer_freq")?.unwrap_or(1);
    config.ignore(&["first_k_dense_replace", "num_nextn_predict_layers"]);
    let sparse = sparse_layers(config, decoder.layers(), |layer| {
        layer >= first && layer % every == 0
    })?;
    with_v3_experts(config, &mut decoder, sparse.clone())?;
    decoder.differ(move |own, layer| {
        if let (true, Some(norms)) = (sparse[layer], &mut own.arrangement.feed_forward) {
            norms.output = Some("post_mlp_layernorm");
        }
    });
    decoder.build()
}

/// Youtu-LLM: latent attention, no experts.
pub fn youtu(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::new(config, config.flag("rope_interleave")?)?;
    config.ignore(&["embedding_initializer_range"]);
    latent_decoder(config, &latent)?.build()
}

/// PLM: latent attention, networks without a gate.
pub fn plm(config: &Config) -> Result<Described, SpecError> {
    let mut latent = Latent::new(config, true)?;
    latent.norm = NormStyle::rms(1e-6);
    let mut decoder = latent_decoder(config, &latent)?;
    decoder.gated = false;
    decoder.build()
}

/// MiniCPM 3: latent attention, no experts, scaled residuals.
pub fn minicpm3(config: &Config) -> Result<Described, SpecError> {
    let hidden_size = config.size("hidden_size")?;
    let mut latent = Latent::sized(config, false, |config| {
        match config.optional_size("v_head_dim")? {
            Some(value_dim) => Ok(value_dim),
            None => Ok(hidden_size / config.heads("num_attention_heads")?),
        }
    })?;
    latent.norm = NormStyle::rms(1e-6);
    let mut decoder = latent_decoder(config, &latent)?;
    decoder.set_network_bias(config.flag("mlp_bias")?);
    decoder.embedding_scale = config.number("scale_emb")?;
    let layers = decoder.layers() as f64;
    let depth = config
        .optional_number("scale_depth")?
        .unwrap_or_else(|| layers.sqrt());
    decoder.residual = Residual::Scaled(depth / layers.sqrt());
    let base = config
        .optional_size("dim_model_base")?
        .unwrap_or(hidden_size);
    decoder.logit_scale = base as f64 / hidden_size as f64;
    decoder.build()
}

/// Mistral Large 3: softmax scores with groups, queries scaled by their position.
pub fn mistral4(config: &Config) -> Result<Described, SpecError> {
    let mut latent = Latent::partial(config, config.flag("rope_interleave")?)?;
    let object = match config.nested("rope_scaling")? {
        Some(older) => Some(older),
        None => config.nested("rope_parameters")?,
    };
    let (beta, original) = match &object {
        Some(object) => (
            object.optional_number("llama_4_scaling_beta")?,
            object.optional_positive("original_max_position_embeddings")?,
        ),
        None => (Some(0.1), Some(8192.0)),
    };
    if let Some(object) = &object {
        object.ignore(&["max_position_embeddings"]);
    }
    let (Some(beta), Some(original)) = (beta, original) else {
        return Err(config.missing("rope_parameters.llama_4_scaling_beta"));
    };
    latent.temperature = Some(QueryTemperature::Llama4 {
        beta,
        original,
        shift: 0.0,
    });
    let mut decoder = latent_decoder(config, &latent)?;
    let first = config.index("first_k_dense_replace")?;
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        scale: config.number("routed_scaling_factor")?,
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 1e-20 };
    }
    experts.limit_to_groups(config, 2)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    mix(&mut decoder, experts, move |layer| layer >= first);
    decoder.build()
}
