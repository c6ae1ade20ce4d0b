//! RWKV's attentions in the layers of Qwen 2: RMS norms, a gated network. llama.cpp's files of them are read, which give
//! the keys of RWKV 6 and 7.

use std::rc::Rc;

use super::goose::{self, Goose};
use super::mixtures::{RowRanks, row_mixtures};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Blocks, Names};
use crate::{
    Activation, Config, Described, LengthLimit, MatrixMix, Mixer, Mixtures, Shard, Source,
    SpecError, Split, Step,
};

/// The key that says so; only those files have it.
pub(super) const KEY: &str = "layers_of_qwen";

/// Whether layers are Qwen's.
pub(super) fn is_so(config: &Config) -> Result<bool, SpecError> {
    Ok(config.in_file(KEY) && config.flag(KEY)?)
}

/// Layers of an attention and a gated network.
fn described<'c>(
    config: &'c Config,
    norm: NormStyle,
    [tokens, layers]: [&'static str; 2],
    norms: [&'static str; 2],
    attention: impl Fn(&mut Leaves, usize) -> Mixer + 'c,
) -> Result<Described, SpecError> {
    let sizes = [
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    ];
    let count = config.layers("num_hidden_layers")?;
    let mut model = Blocks::sized(config, norm, count, sizes, [1; 3])?;
    model.family = "rwkv";
    model.names = Names {
        tokens,
        layers,
        final_norm: "norm",
        head: "lm_head",
        ..Names::USUAL
    };
    model.activation = Activation::Silu;
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let first = leaves.norm(norms[0], own.hidden_size, own.norm);
        let attention = Step {
            pre: Some(first),
            ..Step::residual(attention(leaves, layer))
        };
        let second = leaves.norm(norms[1], own.hidden_size, own.norm);
        let network = Step {
            pre: Some(second),
            ..Step::residual(own.feed_forward(leaves, layer))
        };
        vec![attention, network]
    }));
    model.build()
}

/// RWKV 6: keys and values may be fewer, what enters a state is what the decay makes room for.
pub(super) fn finch(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("layer_norm_epsilon")?);
    let hidden = config.size("hidden_size")?;
    let head_dim = config.heads("head_size")?;
    let heads = divided(config, "head_size", hidden, head_dim)?;
    let kv_heads = config
        .optional_heads("num_key_value_heads")?
        .unwrap_or(heads);
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let ranks = RowRanks {
        mixtures: config.size("mixture_rank")?,
        decay: config.size("decay_rank")?,
    };
    let bias = config.flag("attention_bias")?;
    config.ignore(&["head_size_divisor", "num_attention_heads", "rescale_every"]);
    described(
        config,
        norm,
        ["embeddings", "blocks"],
        ["ln1", "ln2"],
        move |leaves, _| {
            // A key head's rows for each of its query heads.
            let repeated = |of: Source| {
                let split = Split::Rows(vec![head_dim; kv_heads]);
                let head = |head: usize| of.clone().part(split.clone(), head * kv_heads / heads);
                Source::ConcatRows((0..heads).map(head).collect())
            };
            let projections = ["receptance", "key", "value", "gate"].map(|part| {
                let tensor = |ending: &str| leaves.tensor(&format!("attention.{part}.{ending}"));
                let is_shared = kv_heads < heads && ["key", "value"].contains(&part);
                let own = |of: Source| if is_shared { repeated(of) } else { of };
                let addend = (bias && part != "gate").then(|| own(tensor("bias")));
                let weight = own(tensor("weight"));
                leaves.linear_of(weight, addend, [hidden; 2], Shard::Column)
            });
            Mixer::MatrixMix(Box::new(MatrixMix {
                heads,
                head_dim,
                mixtures: Mixtures::OfRows(Box::new(row_mixtures(leaves, [hidden; 2], ranks))),
                projections,
                decay: leaves.flat("attention.time_decay", hidden),
                bonus: None,
                norm: None,
                gate: Activation::Sigmoid,
                output: leaves.linear("attention.output", [hidden; 2], false, Shard::Row),
            }))
        },
    )
}

/// RWKV 7: without norms of heads and gates where the files have none.
pub(super) fn seventh(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("norm_eps")?);
    let hidden = config.size("hidden_size")?;
    let sizes = goose::sizes(config, hidden)?;
    let parts = Goose {
        gate: config.flag("has_gate")?,
        norm: config
            .flag("has_head_norm")?
            .then_some(NormStyle::layer(64e-5)),
    };
    config.ignore(&["norm_bias", "norm_first", "hidden_act"]);
    described(
        config,
        norm,
        ["embeddings", "layers"],
        ["attn_norm", "ffn_norm"],
        move |leaves, layer| goose::attention(leaves, sizes, layer == 0, parts),
    )
}
