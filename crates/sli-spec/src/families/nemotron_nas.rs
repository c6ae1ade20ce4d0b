//! DeciLM and Nemotron-NAS: Llama whose layers a search has shrunk, each differently.

use crate::build::divided;
use crate::families::blocks::{Blocks, MixerOf};
use crate::families::llama_remote::of_width;
use crate::model_type::{ModelType, row};
use crate::rope::RopeOptions;
use crate::{Config, Described, Mixer, Shard, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("deci", deci), row("nemotron-nas", nemotron_nas)];

fn with_biases(config: &Config) -> Result<Blocks<'_>, SpecError> {
    // A search over layers leaves no common width.
    let width = config.optional_size("intermediate_size")?;
    let mut model = of_width(
        config,
        width.map_or_else(|| config.size("hidden_size"), Ok)?,
    )?;
    model.rotate(&RopeOptions::new(model.head_dim))?;
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    Ok(model)
}

/// DeciLM: every layer has its own number of key heads.
pub fn deci(config: &Config) -> Result<Described, SpecError> {
    let model = with_biases(config)?;
    let key = "num_key_value_heads_per_layer";
    let Some(counts) = config.numbers(key)? else {
        return model.build();
    };
    if counts.len() != model.layers() {
        return Err(config.invalid(
            key,
            format!("one number for each of {} layers", model.layers()),
        ));
    }
    let sublayer = |&count: &f64| {
        let kv_heads = whole_heads(config, key, count, model.heads)?;
        Ok((
            Sublayer::Full(kv_heads),
            Sublayer::Full(model.intermediate_size),
        ))
    };
    let sublayers = counts
        .iter()
        .map(sublayer)
        .collect::<Result<Vec<_>, SpecError>>()?;
    build(model, sublayers)
}

fn whole_heads(config: &Config, key: &str, count: f64, heads: usize) -> Result<usize, SpecError> {
    let kv_heads = count as usize;
    if kv_heads == 0 || kv_heads as f64 != count || !heads.is_multiple_of(kv_heads) {
        return Err(config.invalid(key, format!("divisors of {heads}")));
    }
    Ok(kv_heads)
}

/// What stands in a sublayer's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sublayer {
    /// Nothing, not even its norm.
    Absent,
    /// One linear map.
    Linear,
    /// The sublayer, with so many key heads or so wide.
    Full(usize),
}

/// Nemotron-NAS: `block_configs` says for each layer what became of its attention and its network.
pub fn nemotron_nas(config: &Config) -> Result<Described, SpecError> {
    let Some(blocks) = config.objects("block_configs")? else {
        return with_biases(config)?.build();
    };
    let model = with_biases(config)?;
    if blocks.len() != model.layers() {
        let expected = format!("one object for each of {} layers", model.layers());
        return Err(config.invalid("block_configs", expected));
    }
    let sublayers = blocks
        .iter()
        .map(|block| Ok((attention(block, &model)?, network(block, &model)?)))
        .collect::<Result<Vec<_>, SpecError>>()?;
    build(model, sublayers)
}

fn attention(block: &Config, model: &Blocks<'_>) -> Result<Sublayer, SpecError> {
    let Some(own) = block.nested("attention")? else {
        return Err(block.missing("attention"));
    };
    for key in [
        "num_sink_tokens",
        "window_length",
        "sparsify",
        "llama4",
        "mamba",
    ] {
        own.neutral(key, &[], "not published")?;
    }
    own.off("unshifted_sink", "not published")?;
    own.off("use_prefill_window_in_sink_attention", "not published")?;
    let queries = own.optional_heads("n_heads_in_group")?;
    let (absent, linear) = (own.flag("no_op")?, own.flag("replace_with_linear")?);
    Ok(if absent {
        Sublayer::Absent
    } else if linear {
        Sublayer::Linear
    } else {
        let queries = queries.ok_or_else(|| own.missing("n_heads_in_group"))?;
        Sublayer::Full(divided(&own, "n_heads_in_group", model.heads, queries)?)
    })
}

fn network(block: &Config, model: &Blocks<'_>) -> Result<Sublayer, SpecError> {
    let Some(own) = block.nested("ffn")? else {
        return Err(block.missing("ffn"));
    };
    for key in ["sparsify", "moe"] {
        own.neutral(key, &[], "not published")?;
    }
    own.neutral("gated", &[true.into()], "not published")?;
    own.neutral("hidden_act", &["silu".into()], "not published")?;
    let factor = own.optional_positive("ffn_mult")?;
    let (absent, linear) = (own.flag("no_op")?, own.flag("replace_with_linear")?);
    let width = own.optional_size("intermediate_size")?;
    Ok(if absent {
        Sublayer::Absent
    } else if linear {
        Sublayer::Linear
    } else if let Some(width) = width {
        Sublayer::Full(width)
    } else {
        // Two thirds of the multiple, rounded up to a multiple of 256.
        let factor = factor.ok_or_else(|| own.missing("ffn_mult"))?;
        let width = (2.0 * factor * model.hidden_size as f64 / 3.0) as usize;
        Sublayer::Full(width.next_multiple_of(256))
    })
}

/// The decoder with these sublayers.
fn build(
    mut model: Blocks<'_>,
    sublayers: Vec<(Sublayer, Sublayer)>,
) -> Result<Described, SpecError> {
    let hidden = model.hidden_size;
    let linear = move |name| {
        let shape = [hidden; 2];
        MixerOf::new(move |_, leaves, _| {
            Some(Mixer::Linear(leaves.linear(
                name,
                shape,
                false,
                Shard::Column,
            )))
        })
    };
    model.differ(move |own, layer| {
        let (attention, network) = sublayers[layer];
        match attention {
            Sublayer::Absent => own.arrangement.attention = None,
            Sublayer::Linear => own.attention_of = linear("self_attn.linear_attn"),
            Sublayer::Full(kv_heads) => own.kv_heads = kv_heads,
        }
        match network {
            Sublayer::Absent => own.arrangement.feed_forward = None,
            Sublayer::Linear => own.feed_forward_of = linear("mlp.linear_mlp"),
            Sublayer::Full(intermediate_size) => own.intermediate_size = intermediate_size,
        }
    });
    model.build()
}
