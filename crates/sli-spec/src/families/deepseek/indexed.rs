//! Latent attention to the keys that an indexer selects.

use super::latent::latent_decoder;
use super::{ignore_layers_behind, with_counted_experts};
use crate::families::blocks::MixerOf;
use crate::families::latent::{IndexerSizes, Latent};
use crate::families::mixture::sparse_layers;
use crate::rope::Rope;
use crate::{Config, Described, KeySelection, SpecError};

/// DeepSeek-V3.2: a query attends to the keys that an indexer chooses.
pub fn deepseek_v32(config: &Config) -> Result<Described, SpecError> {
    let first = config.index("first_k_dense_replace")?;
    config.ignore(&["mlp_bias", "moe_layer_freq"]);
    let own = |_: &Config, layers: usize| Ok(vec![true; layers]);
    sparse_attention(config, false, first, own)
}

/// Keys from which GLM-5 derives which layers have an indexer, where `indexer_types` does not say.
const SCHEDULE: [&str; 3] = [
    "index_topk_pattern",
    "index_topk_freq",
    "index_skip_topk_offset",
];

/// GLM-5: some layers use the choice of the layer before.
pub fn glm_moe_dsa(config: &Config) -> Result<Described, SpecError> {
    let first = config.index("first_k_dense_replace")?;
    config.ignore(&["mlp_bias", "moe_layer_freq"]);
    // About the layers that predict further tokens.
    config.ignore(&["index_share_for_mtp_iteration"]);
    sparse_attention(config, true, first, |config, layers| {
        // Of the three ways to say the same, the first in the file counts.
        let [pattern, every, offset] = SCHEDULE;
        if let Some(types) = config.texts("indexer_types")? {
            config.ignore(&SCHEDULE);
            return indexer_layers(config, "indexer_types", &types, layers);
        }
        match config.value(pattern).cloned() {
            Some(serde_json::Value::String(letters)) => {
                config.ignore(&[every, offset]);
                let types: Vec<String> = letters.chars().map(String::from).collect();
                indexer_layers(config, pattern, &types, layers)
            }
            Some(_) => {
                config.ignore(&[every, offset]);
                let types = config.texts(pattern)?.unwrap_or_default();
                indexer_layers(config, pattern, &types, layers)
            }
            None => {
                let every = config.optional_index(every)?.unwrap_or(1).max(1);
                let offset = config.optional_index(offset)?.unwrap_or(2);
                Ok((0..layers)
                    .map(|layer| (layer + 1).saturating_sub(offset) % every == 0)
                    .collect())
            }
        }
    })
}

fn indexer_layers(
    config: &Config,
    key: &str,
    types: &[String],
    layers: usize,
) -> Result<Vec<bool>, SpecError> {
    if types.len() < layers {
        return Err(config.invalid(key, format!("one entry for each of {layers} layers")));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            "full" | "F" => Ok(true),
            "shared" | "S" => Ok(false),
            _ => Err(config.unsupported(key, "unknown kind of indexer")),
        })
        .collect()
}

fn sparse_attention(
    config: &Config,
    interleaved: bool,
    first: usize,
    own: impl Fn(&Config, usize) -> Result<Vec<bool>, SpecError>,
) -> Result<Described, SpecError> {
    let latent = Latent::new(config, true)?;
    let Some(q_rank) = latent.q_rank else {
        return Err(config.missing("q_lora_rank"));
    };
    let mut decoder = latent_decoder(config, &latent)?;
    let layers = decoder.layers();
    // Every layer has the indexer's attention, whatever its kind is called.
    config.ignore(&["indexer_rope_interleave", "layer_types", "rope_interleave"]);
    let own = own(config, layers)?;
    if !own[0] {
        return Err(config.invalid("indexer_types", "an indexer in the first layer"));
    }
    let sizes = IndexerSizes {
        heads: config.heads("index_n_heads")?,
        head_dim: config.size("index_head_dim")?,
        top_k: config.size("index_topk")?,
        q_rank,
        rope: latent.rope.clone().map(|rope| Rope {
            interleaved,
            ..rope
        }),
    };
    if sizes.head_dim < latent.rope_dim {
        return Err(config.invalid("index_head_dim", format!("at least {}", latent.rope_dim)));
    }
    let hidden_size = decoder.hidden_size;
    let described = latent.clone();
    decoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let mask = blocks.masks[layer];
        Some(described.build(leaves, "self_attn", mask, |leaves| {
            Some(if own[layer] {
                KeySelection::Indexer(Box::new(sizes.build(leaves, hidden_size)))
            } else {
                KeySelection::Previous { top_k: sizes.top_k }
            })
        }))
    });
    decoder.one_way = true;
    let sparse = sparse_layers(config, layers, |layer| layer >= first)?;
    // An older name, which wins over the class's own.
    let count = if config.in_file("num_experts") {
        config.ignore(&["n_routed_experts"]);
        "num_experts"
    } else {
        "n_routed_experts"
    };
    with_counted_experts(config, &mut decoder, sparse, count)?;
    ignore_layers_behind(&mut decoder, config)?;
    decoder.build()
}
