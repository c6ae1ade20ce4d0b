//! RWKV 7 (Goose), in the files of flash-linear-attention.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Blocks, Names};
use crate::{
    ChannelMix, Config, DeltaMix, Described, Identity, LengthLimit, Linear, Mixer, Shard, Slot,
    SpecError, Step, Write,
};

/// What an attention has beside its state.
#[derive(Clone, Copy)]
pub(super) struct Goose {
    pub gate: bool,
    pub norm: Option<NormStyle>,
}

/// Sizes of the attention.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    hidden: usize,
    heads: usize,
    head_dim: usize,
    /// Between the projections to decay, strength, gate and first value.
    ranks: [usize; 4],
}

/// RWKV 7.
pub fn rwkv7(config: &Config) -> Result<Described, SpecError> {
    // How the same sums are computed.
    config.ignore(&["attn_mode", "fuse_cross_entropy", "fuse_norm"]);
    // Of layers of softmax attention.
    config.ignore(&["max_position_embeddings"]);
    let problem = "layers of softmax attention are not supported";
    config.neutral("attn", &[], problem)?;
    let problem = "the network squares what is above zero";
    config.neutral("hidden_act", &["sqrelu".into()], problem)?;
    let norm = NormStyle {
        bias: config.flag("norm_bias")?,
        ..NormStyle::layer(config.positive("norm_eps")?)
    };
    let hidden = config.size("hidden_size")?;
    let layers = config.layers("num_hidden_layers")?;
    let sizes = sizes(config, hidden)?;
    check_values(config, hidden)?;
    let mut model = Blocks::sized(
        config,
        norm,
        layers,
        [hidden, width(config, hidden)?],
        [1; 3],
    )?;
    model.family = "rwkv";
    model.names = Names {
        tokens: "embeddings",
        ..Names::USUAL
    };
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
    let parts = Goose {
        gate: true,
        norm: Some(NormStyle::layer(sizes.head_dim as f64 * norm.epsilon)),
    };
    let norm_first = config.flag("norm_first")?;
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = Vec::new();
        if norm_first && layer == 0 {
            steps.push(Step {
                pre: Some(leaves.norm("pre_norm", own.hidden_size, own.norm)),
                write: Write::Set(Slot::Hidden),
                ..Step::residual(Mixer::Identity(Identity))
            });
        }
        let mut add = |norm: &str, mixer: &dyn Fn(&mut Leaves) -> Mixer| {
            let norm = leaves.norm(norm, own.hidden_size, own.norm);
            steps.push(Step {
                pre: Some(norm),
                ..Step::residual(mixer(leaves))
            });
        };
        add("attn_norm", &|leaves| {
            attention(leaves, sizes, layer == 0, parts)
        });
        add("ffn_norm", &|leaves| {
            network(leaves, [hidden, own.intermediate_size])
        });
        steps
    }));
    model.build()
}

pub(super) fn sizes(config: &Config, hidden: usize) -> Result<Sizes, SpecError> {
    let head_dim = match config.optional_heads("head_dim")? {
        Some(head_dim) => {
            // Where both stand, the code goes by the features.
            config.optional_heads("num_heads")?;
            head_dim
        }
        None => divided(config, "num_heads", hidden, config.heads("num_heads")?)?,
    };
    Ok(Sizes {
        hidden,
        heads: divided(config, "head_dim", hidden, head_dim)?,
        head_dim,
        ranks: [
            config.size("decay_low_rank_dim")?,
            config.size("a_low_rank_dim")?,
            config.size("gate_low_rank_dim")?,
            config.size("v_low_rank_dim")?,
        ],
    })
}

/// An error where values have other features than keys.
fn check_values(config: &Config, hidden: usize) -> Result<(), SpecError> {
    let key = "value_dim";
    if config.value(key).is_some() && config.sizes(key)?.iter().any(|&size| size != hidden) {
        let problem = "values are as wide as the hidden state";
        return Err(config.unsupported(key, problem));
    }
    Ok(())
}

/// Features inside the network.
fn width(config: &Config, hidden: usize) -> Result<usize, SpecError> {
    let ratio = config.optional_positive("hidden_ratio")?.unwrap_or(4.0);
    match config.optional_size("intermediate_size")? {
        Some(width) => Ok(width),
        None if ratio <= 1024.0 => Ok(((hidden as f64 * ratio) as usize).next_multiple_of(32)),
        None => Err(config.invalid("hidden_ratio", "at most 1024")),
    }
}

pub(super) fn attention(leaves: &mut Leaves, sizes: Sizes, is_first: bool, parts: Goose) -> Mixer {
    let Sizes {
        hidden,
        heads,
        head_dim,
        ranks: [decay, strength, gate, first_value],
    } = sizes;
    let channels = heads * head_dim;
    let name = |part: &str| format!("attn.{part}");
    let mixed = ["r", "w", "k", "v", "a", "g"].into_iter();
    let mixed = mixed.take(5 + usize::from(parts.gate));
    let shares = mixed
        .map(|part| leaves.flat(&name(&format!("x_{part}")), hidden))
        .collect();
    let projections = ["r", "k", "v"].map(|part| {
        let name = name(&format!("{part}_proj"));
        leaves.linear(&name, [channels, hidden], false, Shard::Column)
    });
    let mut pair = |part: &str, rank: usize, bias: bool| -> [Linear; 2] {
        let name = name(&format!("{part}_lora.lora"));
        let down = leaves.linear(
            &format!("{name}.0"),
            [rank, hidden],
            false,
            Shard::Replicate,
        );
        let up = leaves.linear(&format!("{name}.2"), [channels, rank], bias, Shard::Column);
        [down, up]
    };
    let first_value = (!is_first).then(|| pair("v", first_value, true));
    let decay = pair("w", decay, true);
    let strength = pair("a", strength, true);
    let gate = parts.gate.then(|| pair("g", gate, false));
    Mixer::DeltaMix(Box::new(DeltaMix {
        heads,
        head_dim,
        shares,
        projections,
        decay,
        strength,
        gate,
        first_value,
        removal: leaves.flat(&name("k_k"), channels),
        entry: leaves.flat(&name("k_a"), channels),
        bonus: leaves.flat(&name("r_k"), channels),
        norm: parts
            .norm
            .map(|norm| leaves.norm(&name("g_norm"), channels, norm)),
        output: leaves.linear(&name("o_proj"), [hidden, channels], false, Shard::Row),
    }))
}

fn network(leaves: &mut Leaves, [hidden, inner]: [usize; 2]) -> Mixer {
    let mix = vec![leaves.flat("ffn.x_k", hidden)];
    Mixer::ChannelMix(ChannelMix {
        mix,
        of_before: true,
        key: leaves.linear("ffn.key", [inner, hidden], false, Shard::Column),
        receptance: None,
        value: leaves.linear("ffn.value", [hidden, inner], false, Shard::Row),
    })
}
