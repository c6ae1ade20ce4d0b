//! Kimi delta attention beside latent attention: Kimi Linear, Ling 3, GLM-5.3-Flash.

use std::rc::Rc;

use super::delta::{Delta, KEY_NORM, concatenated};
use super::{recurrent_layers, spelled};
use crate::build::{Leaves, NormStyle, divided, layer_types};
use crate::families::blocks::{Blocks, Gate, MixerOf, Residual};
use crate::families::deepseek::{
    hyper, ignore_layers_behind, latent_decoder, own_indexers, shared, v3_experts,
};
use crate::families::experts::ExpertTensors;
use crate::families::latent::{IndexerSizes, Latent};
use crate::families::mixture::{mix, sparse_layers};
use crate::{
    Activation, ClampedGate, Config, Described, Factored, ForgetGate, GatedDelta, Mixer, Pools,
    Shard, Source, SpecError,
};

/// What differs between the types.
#[derive(Clone, Copy)]
struct Style {
    /// The output's gate and what is left of the state come through this many features.
    rank: Option<usize>,
    /// The least logarithm of what is left.
    bound: Option<f64>,
}

/// The mechanism, under `self_attn`.
fn delta(sizes: &Delta, style: Style, leaves: &mut Leaves, norm: NormStyle) -> GatedDelta {
    let (hidden, all) = (sizes.hidden, sizes.values());
    let parts = ["q_proj", "k_proj", "v_proj"];
    let parts = parts.map(|name| leaves.tensor(&format!("self_attn.{name}.weight")));
    let input = Source::ConcatRows(parts.to_vec());
    let shape = [sizes.convolved(), hidden];
    let input = leaves.linear_of(input, None, shape, Shard::Column);
    let factored = |leaves: &mut Leaves, [down, up, whole]: [&str; 3]| match style.rank {
        Some(rank) => Factored {
            down: Some(leaves.linear(down, [rank, hidden], false, Shard::Replicate)),
            up: leaves.linear(up, [all, rank], false, Shard::Column),
        },
        None => Factored::whole(leaves.linear(whole, [all, hidden], false, Shard::Column)),
    };
    let columns = [sizes.convolved(), sizes.kernel];
    GatedDelta {
        heads: sizes.heads,
        key_heads: sizes.key_heads,
        key_dim: sizes.key_dim,
        value_dim: sizes.value_dim,
        input,
        convolution: leaves.convolution("self_attn.conv1d", columns, false, sizes.activation),
        key_norm: KEY_NORM,
        gate: factored(
            leaves,
            [
                "self_attn.g_a_proj",
                "self_attn.g_b_proj",
                "self_attn.g_proj",
            ],
        ),
        forget: ForgetGate {
            projection: factored(
                leaves,
                [
                    "self_attn.f_a_proj",
                    "self_attn.f_b_proj",
                    "self_attn.f_proj",
                ],
            ),
            bias: leaves.flat("self_attn.dt_bias", all),
            a_log: leaves.flat("self_attn.A_log", sizes.heads),
            bound: style.bound,
        },
        strength: leaves.linear(
            "self_attn.b_proj",
            [sizes.heads, hidden],
            false,
            Shard::Column,
        ),
        strength_scale: 1.0,
        gate_activation: Activation::Sigmoid,
        norm: leaves.norm("self_attn.o_norm", sizes.value_dim, norm),
        output: leaves.linear("self_attn.o_proj", [hidden, all], false, Shard::Row),
    }
}

/// Latent attention in the layers without a state.
fn both(
    decoder: &mut Blocks<'_>,
    recurrent: Vec<bool>,
    (sizes, style): (Delta, Style),
    latent: Latent,
) {
    let norm = decoder.norm;
    decoder.family = "hybrid";
    decoder.may_look_ahead = false;
    decoder.attention_of = MixerOf::new(move |own, leaves, layer| {
        Some(if recurrent[layer] {
            Mixer::GatedDelta(Box::new(delta(&sizes, style, leaves, norm)))
        } else {
            latent.build(leaves, "self_attn", own.masks[layer], |_| None)
        })
    });
}

/// Experts as DeepSeek-V3 chooses them.
fn experts<'c>(
    config: &'c Config,
    decoder: &mut Blocks<'c>,
    tensors: Option<ExpertTensors>,
    sparse: Vec<bool>,
) -> Result<(), SpecError> {
    let mut experts = v3_experts(config, "num_local_experts", decoder.activation)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    if let Some(tensors) = tensors {
        experts.tensors = tensors;
    }
    mix(decoder, experts, move |layer| sparse[layer]);
    Ok(())
}

/// The layers that these lists of the published file number from 1.
fn numbered(config: &Config, layers: usize) -> Result<Option<Vec<bool>>, SpecError> {
    let full = config.numbers("full_attn_layers")?;
    let own = config.numbers("kda_layers")?;
    let (Some(full), Some(own)) = (full, own) else {
        return Ok(None);
    };
    let of = |layer: usize| {
        let number = (layer + 1) as f64;
        match (full.contains(&number), own.contains(&number)) {
            (is_full, is_own) if is_full != is_own => Ok(is_own),
            _ => {
                let expected = format!("each of the layers 1 to {layers} in one of the two lists");
                Err(config.invalid("kda_layers", expected))
            }
        }
    };
    (0..layers).map(of).collect::<Result<_, _>>().map(Some)
}

/// Kimi Linear.
pub fn kimi_linear(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::unrotated(config)?;
    let mut decoder = latent_decoder(config, &latent)?;
    let layers = decoder.layers();
    let own = config.nested("linear_attn_config")?;
    // The published file has the sizes in an object of their own.
    let size = |name: &str, key: &str| {
        let own = own.as_ref().map(|own| own.optional_heads(name));
        match own.transpose()?.flatten() {
            Some(own) => {
                config.ignore(&[key]);
                Ok(own)
            }
            None => config.heads(key),
        }
    };
    let (heads, dim) = (
        size("num_heads", "linear_num_heads")?,
        size("head_dim", "linear_head_dim")?,
    );
    let sizes = Delta {
        hidden: decoder.hidden_size,
        heads,
        key_heads: heads,
        key_dim: dim,
        value_dim: dim,
        kernel: size("short_conv_kernel_size", "linear_conv_kernel_dim")?,
        activation: decoder.activation,
    };
    let listed = own.as_ref().map(|own| numbered(own, layers)).transpose()?;
    let listed = listed.flatten();
    let recurrent = recurrent_layers(config, layers, |layer| match &listed {
        Some(listed) => listed[layer],
        None => layer == 0 || layer % 4 != 0,
    })?;
    let style = Style {
        rank: Some(dim),
        bound: None,
    };
    both(&mut decoder, recurrent, (sizes, style), latent);
    let first = config.optional_index("first_k_dense_replace")?.unwrap_or(1);
    let sparse = sparse_layers(config, layers, |layer| layer >= first)?;
    let tensors = ExpertTensors::Each([
        "mlp.experts.{}.w1.weight",
        "mlp.experts.{}.w3.weight",
        "mlp.experts.{}.w2.weight",
    ]);
    experts(config, &mut decoder, Some(tensors), sparse)?;
    let spellings = spelled(&[(".mlp.", ".block_sparse_moe.")]);
    decoder.stored = Some(Rc::new(move |name: &str| {
        concatenated(name).unwrap_or_else(|| spellings(name))
    }));
    decoder.build()
}

/// Ling 3: the forget gate has a lower bound, latent attention a gate for every head.
pub fn bailing_hybrid(config: &Config) -> Result<Described, SpecError> {
    let mut latent = Latent::new(config, true)?;
    latent.gate = Some(Gate {
        name: "self_attn.g_proj",
        per_head: true,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let mut decoder = latent_decoder(config, &latent)?;
    let layers = decoder.layers();
    // What the class derives, and keeps where a file says it.
    let (dim, kernel) = (
        config.heads("head_dim")?,
        config.size("short_conv_kernel_size")?,
    );
    let heads = config
        .optional_heads("linear_num_heads")?
        .unwrap_or(latent.heads);
    let dim = config.optional_heads("linear_head_dim")?.unwrap_or(dim);
    let own = config.optional_size("linear_conv_kernel_dim")?;
    let sizes = Delta {
        hidden: decoder.hidden_size,
        heads,
        key_heads: heads,
        key_dim: dim,
        value_dim: dim,
        kernel: own.unwrap_or(kernel),
        activation: decoder.activation,
    };
    let bound = config.number("kda_lower_bound")?;
    let style = Style {
        rank: None,
        bound: config.flag("kda_safe_gate")?.then_some(bound),
    };
    let interval = config.size("layer_group_size")?;
    let recurrent = recurrent_layers(config, layers, |layer| (layer + 1) % interval != 0)?;
    both(&mut decoder, recurrent, (sizes, style), latent);
    let first = config.index("first_k_dense_replace")?;
    let sparse = sparse_layers(config, layers, |layer| layer >= first)?;
    experts(config, &mut decoder, None, sparse)?;
    ignore_layers_behind(&mut decoder, config)?;
    config.ignore(&["mtp_loss_scaling_factor"]);
    decoder.names.tokens = "word_embeddings";
    let spellings = spelled(&[("model.word_embeddings.", "model.embed_tokens.")]);
    decoder.stored = Some(Rc::new(move |name: &str| {
        let name = name.replace(".self_attn.", ".attention.");
        let name = name.replace(".attention.o_proj.", ".attention.dense.");
        let name = name.replace(".e_score_correction_bias", ".expert_bias");
        concatenated(&name).unwrap_or_else(|| spellings(&name))
    }));
    decoder.build()
}

/// GLM-5.3-Flash: hyper-connections; latent attention to pools of keys in the layers without a state.
pub fn glm5_next_text(config: &Config) -> Result<Described, SpecError> {
    let none = [0.into()];
    config.neutral("qk_rope_head_dim", &none, "attention without rotation")?;
    let mut latent = Latent::rotated(config, None, 0, config.size("v_head_dim")?)?;
    let epsilon = config.positive("rms_norm_eps")?;
    latent.norm = NormStyle::rms(epsilon);
    let mut decoder = latent_decoder(config, &latent)?;
    let layers = decoder.layers();
    let indexers = indexers(config, &latent)?;
    let kinds = layer_types(config, layers, |layer| {
        if layer % 4 == 3 {
            "indexed_attention"
        } else {
            "linear_attention"
        }
    })?;
    let is_recurrent = |kind: &String| match kind.as_str() {
        "linear_attention" => Ok(true),
        "indexed_attention" | "full_attention" => Ok(false),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            Err(config.unsupported("layer_types", reason))
        }
    };
    let recurrent: Vec<bool> = kinds.iter().map(is_recurrent).collect::<Result<_, _>>()?;
    let own = own_indexers(config, layers)?;
    for layer in 0..layers {
        let before = layer.checked_sub(1);
        let follows = before.is_some_and(|before| !recurrent[before] && own[before]);
        if !recurrent[layer] && !own[layer] && !follows {
            let expected = "an indexer in the layer in front of one that shares its choice";
            return Err(config.invalid("indexer_types", expected));
        }
    }
    let (sizes, style) = linear(config, &decoder)?;
    let (hidden, norm) = (decoder.hidden_size, decoder.norm);
    decoder.family = "hybrid";
    decoder.may_look_ahead = false;
    decoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        Some(if recurrent[layer] {
            Mixer::GatedDelta(Box::new(delta(&sizes, style, leaves, norm)))
        } else {
            let mask = blocks.masks[layer];
            latent.build(leaves, "self_attn", mask, |leaves| {
                Some(indexers.selection(leaves, hidden, own[layer]))
            })
        })
    });
    let limit = config.positive("swiglu_limit")?;
    let clamped = ClampedGate::of(decoder.activation, limit);
    let sparse = sparse_layers(config, layers, |layer| layer >= 3)?;
    let mut experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    // Of the chosen ones, whatever the configuration says.
    experts.clamped = Some(ClampedGate::of(Activation::Silu, limit));
    experts.shared_clamped = Some(clamped);
    decoder.clamped = Some(clamped);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.residual = Residual::Hyper(hyper(config, epsilon)?);
    decoder.stored = Some(Rc::new(|name: &str| {
        concatenated(name).unwrap_or_else(|| Source::tensor(name))
    }));
    decoder.build()
}

/// The indexers of GLM-5.3-Flash, which choose whole pools.
fn indexers(config: &Config, latent: &Latent) -> Result<IndexerSizes, SpecError> {
    let mut sizes = IndexerSizes::read(config, latent)?;
    let size = config.size("index_kpool")?;
    sizes.top_k = divided(config, "index_kpool", sizes.top_k, size)?;
    sizes.pools = Some(Pools {
        size,
        tail: config.flag("index_kpool_always_select_tail")?,
    });
    Ok(sizes)
}

/// Sizes of the layers with a state; the published file may have them in an object of their own.
fn linear(config: &Config, decoder: &Blocks<'_>) -> Result<(Delta, Style), SpecError> {
    let own = config.nested("linear_attn_config")?;
    let size = |name: &str, key: &str| {
        let inside = own.as_ref().map(|own| own.optional_heads(name));
        let beside = config.heads(key)?;
        Ok::<_, SpecError>(inside.transpose()?.flatten().unwrap_or(beside))
    };
    let heads = size("num_heads", "linear_num_heads")?;
    let dim = size("head_dim", "linear_head_dim")?;
    let mut bound = config.optional_number("linear_lower_bound")?;
    if let Some(own) = &own {
        if own.mentions("gate_lower_bound") {
            bound = own.optional_number("gate_lower_bound")?;
        }
        let is_safe = !own.mentions("safe_gate") || own.flag("safe_gate")?;
        bound = bound.or(is_safe.then_some(-5.0));
    }
    let sizes = Delta {
        hidden: decoder.hidden_size,
        heads,
        key_heads: heads,
        key_dim: dim,
        value_dim: dim,
        kernel: size("short_conv_kernel_size", "linear_conv_kernel_dim")?,
        activation: decoder.activation,
    };
    let rank = Some(dim);
    Ok((sizes, Style { rank, bound }))
}
