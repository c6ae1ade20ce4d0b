//! Latent attention to the keys that an indexer selects.

use std::rc::Rc;

use super::compressed::unmixed;
use super::latent::latent_decoder;
use super::{ignore_layers_behind, v3_experts, with_counted_experts};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Blocks, Gate, Hyper, MixerOf, Residual};
use crate::families::experts::{ExpertTensors, Shared, SharedTensors};
use crate::families::latent::{IndexerSizes, Latent};
use crate::families::mixture::{mix, sparse_layers};
use crate::{
    Activation, ClampedGate, Config, Described, LowRankGate, Mixer, Shard, Slot, Source, SpecError,
    Step, Write,
};

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
    sparse_attention(config, true, first, own_indexers)
}

/// Which layers have an indexer of their own, by GLM-5's keys; the others use the choice of a layer before.
pub(in crate::families) fn own_indexers(
    config: &Config,
    layers: usize,
) -> Result<Vec<bool>, SpecError> {
    // Of three ways to say the same, the first in the file counts.
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
    let mut sizes = IndexerSizes::read(config, &latent)?;
    if let Some(rope) = &mut sizes.rope {
        rope.interleaved = interleaved;
    }
    let mut decoder = indexed(config, latent, sizes, own)?;
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer >= first)?;
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

/// Latent attention to chosen keys in every layer; `own`: which layers choose themselves.
fn indexed(
    config: &Config,
    latent: Latent,
    sizes: IndexerSizes,
    own: impl Fn(&Config, usize) -> Result<Vec<bool>, SpecError>,
) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = latent_decoder(config, &latent)?;
    // Every layer has the indexer's attention, whatever its kind is called.
    config.ignore(&["indexer_rope_interleave", "layer_types", "rope_interleave"]);
    let own = own(config, decoder.layers())?;
    if !own[0] {
        return Err(config.invalid("indexer_types", "an indexer in the first layer"));
    }
    let hidden_size = decoder.hidden_size;
    decoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let mask = blocks.masks[layer];
        Some(latent.build(leaves, "self_attn", mask, |leaves| {
            Some(sizes.selection(leaves, hidden_size, own[layer]))
        }))
    });
    decoder.one_way = true;
    Ok(decoder)
}

/// A.X K2: norms with a gate, queries and a gate of the heads in one projection.
pub fn axk2(config: &Config) -> Result<Described, SpecError> {
    let mut latent = Latent::new(config, true)?;
    latent.gated_queries = true;
    let mut sizes = IndexerSizes::read(config, &latent)?;
    if let Some(rope) = &mut sizes.rope {
        rope.interleaved = false;
    }
    let every = |_: &Config, layers: usize| Ok(vec![true; layers]);
    let mut decoder = indexed(config, latent, sizes, every)?;
    let first = config.optional_index("first_k_dense_replace")?.unwrap_or(1);
    let frequency = config.optional_size("moe_layer_freq")?.unwrap_or(1);
    let sparse = sparse_layers(config, decoder.layers(), |layer| {
        layer >= first && layer % frequency == 0
    })?;
    if config.optional_heads("n_group")?.is_some() != config.optional_heads("topk_group")?.is_some()
    {
        return Err(config.invalid("topk_group", "a number where `n_group` is one"));
    }
    with_counted_experts(config, &mut decoder, sparse.clone(), "n_routed_experts")?;
    let rank = config.size("gated_norm_rank")?;
    decoder.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let names = ["input_layernorm", "post_attention_layernorm"];
        let mut steps = gated_norm(own, leaves, names[0], rank);
        steps.push(Step {
            read: NORMED,
            ..Step::residual(own.attention(leaves, layer))
        });
        let plain = |leaves: &mut Leaves| leaves.norm(names[1], own.hidden_size, own.norm);
        let network = if sparse[layer] {
            steps.extend(gated_norm(own, leaves, names[1], rank));
            Step {
                read: NORMED,
                ..Step::residual(own.feed_forward(leaves, layer))
            }
        } else {
            let pre = Some(plain(leaves));
            Step {
                pre,
                ..Step::residual(own.feed_forward(leaves, layer))
            }
        };
        steps.push(network);
        steps
    }));
    decoder.build()
}

/// Where a gated norm's output is.
const NORMED: Slot = Slot::Stash(0);

/// The stream, normed and gated by what a narrow network makes of it.
fn gated_norm(own: &Blocks<'_>, leaves: &mut Leaves, place: &str, rank: usize) -> Vec<Step> {
    let hidden = own.hidden_size;
    let pre = leaves.norm(&format!("{place}.norm"), hidden, own.norm);
    let mut linear = |part: &str, shape| {
        leaves.linear(&format!("{place}.{part}"), shape, false, Shard::Replicate)
    };
    let gate = LowRankGate {
        down: linear("W_down", [rank, hidden]),
        up: linear("W_up", [hidden, rank]),
        activation: Activation::Silu,
    };
    vec![Step {
        pre: Some(pre),
        write: Write::Set(NORMED),
        ..Step::residual(Mixer::LowRankGate(gate))
    }]
}

/// Hunyuan 4: hyper-connections without mixing, sinks, a gate of every feature, shared choices.
pub fn hy_v4(config: &Config) -> Result<Described, SpecError> {
    let mut latent = Latent::new(config, false)?;
    latent.gate = Some(Gate {
        name: "self_attn.linear_gate",
        per_head: false,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    latent.sinks = Some("learnable_sink_param");
    let mut sizes = IndexerSizes::read(config, &latent)?;
    let epsilon = config.positive("rms_norm_eps")?;
    sizes.key_norm = NormStyle::layer(epsilon);
    if let Some(rope) = &mut sizes.rope {
        rope.offset = sizes.head_dim - rope.dims;
    }
    let own = |config: &Config, layers: usize| match config.texts("indexer_types")? {
        Some(types) => indexer_layers(config, "indexer_types", &types, layers),
        None => Ok((0..layers)
            .map(|layer| layer == 0 || (layer - 1) % 4 == 0)
            .collect()),
    };
    let mut decoder = indexed(config, latent, sizes, own)?;
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    let mut experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    experts.tensors = ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]);
    experts.clamped = Some(ClampedGate::of(
        // Whatever the configuration says.
        Activation::Silu,
        config.positive("swiglu_limit")?,
    ));
    experts.shared = Some(Shared {
        tensors: SharedTensors::Plain([
            "mlp.shared_experts.linear_gate",
            "mlp.shared_experts.up_proj",
            "mlp.shared_experts.down_proj",
        ]),
        intermediate_size: experts.intermediate_size * config.heads("n_shared_experts")?,
        bias: false,
        activation: decoder.activation,
        gate: None,
    });
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.names.gate = "mlp.linear_gate";
    let hyper = unmixed(config, epsilon)?;
    decoder.residual = Residual::Hyper(Hyper {
        write: [config.number("hc_magnitude")?, hyper.epsilon],
        names: [
            [
                "hc_pre.hc_attn_layer.hc_fn",
                "hc_pre.hc_attn_layer.hc_base",
                "hc_pre.hc_attn_layer.hc_scale",
            ],
            [
                "hc_pre.hc_mlp_layer.hc_fn",
                "hc_pre.hc_mlp_layer.hc_base",
                "hc_pre.hc_mlp_layer.hc_scale",
            ],
        ],
        head: Some([
            "hc_pre.hc_head.hc_head_fn",
            "hc_pre.hc_head.hc_head_base",
            "hc_pre.hc_head.hc_head_scale",
        ]),
        ..hyper
    });
    // For the beginning of training.
    config.ignore(&["learnable_sink_init"]);
    // What the class writes, and what published files have.
    let others = [
        ("hc_pre.hc_head.hc_head_", "hc_head.hc_head_"),
        // The class without a head writes this.
        ("hc_pre.hc_head.hc_head_", "hc_head.hc_pre.hc_head_"),
        ("mlp.linear_gate.", "mlp.gate_proj."),
        ("shared_experts.linear_gate.", "shared_experts.gate_proj."),
    ];
    decoder.stored = Some(Rc::new(move |name: &str| {
        let of_name = others.iter().filter(|(own, _)| name.contains(own));
        let other = of_name.map(|(own, other)| Source::tensor(name.replace(own, other)));
        let spellings = std::iter::once(Source::tensor(name)).chain(other);
        Source::one_of(spellings.collect())
    }));
    decoder.build()
}
