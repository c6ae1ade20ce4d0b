//! RWKV 4 to 7: no attention; what goes along the record is a weighted mean of each channel, or a matrix of each head.

mod goose;
mod mixtures;
mod qwen;

use std::rc::Rc;

use self::mixtures::{RowRanks, row_mixtures};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Blocks, Names};
use crate::model_type::{ModelType, row};
use crate::{
    Activation, Branch, ChannelMix, Config, Described, Gain, Identity, LengthLimit, MatrixMix,
    Mixer, Mixtures, Shard, Slot, SpecError, Step, TimeMix, Write,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("rwkv", rwkv),
    row("rwkv5", rwkv5),
    row("rwkv6", rwkv6),
    row("rwkv7", rwkv7),
];

/// RWKV 4.
pub fn rwkv(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_epsilon")?);
    let layers = config.layers("num_hidden_layers")?;
    let hidden = config.size("hidden_size")?;
    let channels = config
        .optional_size("attention_hidden_size")?
        .unwrap_or(hidden);
    let inner = config.optional_size("intermediate_size")?;
    let sizes = [hidden, inner.unwrap_or(4 * hidden)];
    let mut model = Blocks::sized(config, norm, layers, sizes, [1; 3])?;
    // Only a kernel of another device goes by it.
    config.ignore(&["context_length"]);
    usual(&mut model);
    let halved = config.index("rescale_every")?;
    let halves = move |layer: usize| halved > 0 && layer > 0 && layer.is_multiple_of(halved);
    // The class leaves the epsilon of the last norm as it is; half of the stream and a quarter of it are the same to a
    // norm as both whole.
    let epsilon = if halves(layers) { 4e-5 } else { 1e-5 };
    model.final_norm = Some(NormStyle::layer(epsilon));
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = Vec::new();
        if halves(layer) {
            steps.push(Step {
                write: Write::Set(Slot::Hidden),
                ..gained(Mixer::Identity(Identity), 0.5)
            });
        }
        if layer == 0 {
            steps.push(Step {
                pre: Some(leaves.norm("pre_ln", own.hidden_size, own.norm)),
                write: Write::Set(Slot::Hidden),
                ..Step::residual(Mixer::Identity(Identity))
            });
        }
        // The class divides the weights behind as many halvings by as many twos.
        let gain = match halved {
            0 => 1.0,
            halved => 0.5_f64.powi((layer / halved) as i32),
        };
        for (norm, half) in [("ln1", Half::Time), ("ln2", Half::Channel)] {
            let norm = leaves.norm(norm, own.hidden_size, own.norm);
            let mixer = half.build(leaves, own, channels);
            steps.push(Step {
                pre: Some(norm),
                ..gained(mixer, gain)
            });
        }
        steps
    }));
    model.build()
}

/// Names and ends of all generations.
fn usual(model: &mut Blocks<'_>) {
    model.family = "rwkv";
    model.names = Names {
        tokens: "embeddings",
        layers: "blocks",
        final_norm: "ln_out",
        head: "head",
        ..Names::USUAL
    };
    model.activation = Activation::Relu2;
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
}

/// RWKV 5 (Eagle).
pub fn rwkv5(config: &Config) -> Result<Described, SpecError> {
    matrices(config, Generation::Eagle)
}

/// RWKV 6 (Finch): mixtures and decays follow from the rows.
pub fn rwkv6(config: &Config) -> Result<Described, SpecError> {
    if qwen::is_so(config)? {
        return qwen::finch(config);
    }
    matrices(config, Generation::Finch)
}

/// RWKV 7 (Goose).
pub fn rwkv7(config: &Config) -> Result<Described, SpecError> {
    if qwen::is_so(config)? {
        return qwen::seventh(config);
    }
    goose::rwkv7(config)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Eagle,
    Finch,
}

fn matrices(config: &Config, generation: Generation) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_epsilon")?);
    let layers = config.layers("num_hidden_layers")?;
    let hidden = config.size("hidden_size")?;
    let channels = config
        .optional_size("attention_hidden_size")?
        .unwrap_or(hidden);
    let head_dim = config.heads("head_size")?;
    let heads = divided(config, "head_size", channels, head_dim)?;
    // What a file says of the width, the code does not read; nor that late layers are halved, which it undoes.
    config.ignore(&[
        "context_length",
        "intermediate_size",
        "num_attention_heads",
        "rescale_every",
    ]);
    let inner = 7 * hidden / 2 / 32 * 32;
    // Of GGUF files, in which what halvings undo was divided beforehand: here the stream stays whole.
    let divided_every = config.optional_index("divided_every")?.unwrap_or(0);
    let mut model = Blocks::sized(config, norm, layers, [hidden, inner], [1; 3])?;
    usual(&mut model);
    model.final_norm = Some(NormStyle::layer(1e-5));
    let divisor = config.positive("head_size_divisor")?;
    let head_norm = NormStyle::layer(1e-5 * divisor * divisor);
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = Vec::new();
        if layer == 0 {
            steps.push(Step {
                pre: Some(leaves.norm("pre_ln", own.hidden_size, own.norm)),
                write: Write::Set(Slot::Hidden),
                ..Step::residual(Mixer::Identity(Identity))
            });
        }
        let whole = |mixer| match divided_every {
            0 => Step::residual(mixer),
            every => gained(mixer, 2_f64.powi((layer / every) as i32)),
        };
        let norm = leaves.norm("ln1", own.hidden_size, own.norm);
        let mixer = matrix_mix(leaves, generation, [hidden, heads, head_dim], head_norm);
        steps.push(Step {
            pre: Some(norm),
            ..whole(mixer)
        });
        let norm = leaves.norm("ln2", own.hidden_size, own.norm);
        let mixer = channel_mix(leaves, generation, [hidden, inner]);
        steps.push(Step {
            pre: Some(norm),
            ..whole(mixer)
        });
        steps
    }));
    model.build()
}

/// The attention.
fn matrix_mix(
    leaves: &mut Leaves,
    generation: Generation,
    [hidden, heads, head_dim]: [usize; 3],
    norm: NormStyle,
) -> Mixer {
    let channels = heads * head_dim;
    let name = |part: &str| format!("attention.{part}");
    let vector = |leaves: &mut Leaves, part: &str| leaves.flat(&name(part), hidden);
    let mixtures = match generation {
        Generation::Eagle => Mixtures::Fixed(
            ["receptance", "key", "value", "gate"]
                .map(|part| vector(leaves, &format!("time_mix_{part}"))),
        ),
        Generation::Finch => {
            let large = hidden == 4096;
            let ranks = RowRanks {
                mixtures: if large { 64 } else { 32 },
                decay: if large { 128 } else { 64 },
            };
            Mixtures::OfRows(Box::new(row_mixtures(leaves, [hidden, channels], ranks)))
        }
    };
    let projections = ["receptance", "key", "value", "gate"]
        .map(|part| leaves.linear(&name(part), [channels, hidden], false, Shard::Column));
    Mixer::MatrixMix(Box::new(MatrixMix {
        heads,
        head_dim,
        mixtures,
        projections,
        decay: leaves.flat(&name("time_decay"), channels),
        bonus: Some(leaves.flat(&name("time_faaaa"), channels)),
        norm: Some(leaves.norm(&name("ln_x"), channels, norm)),
        gate: Activation::Silu,
        output: leaves.linear(&name("output"), [hidden, channels], false, Shard::Row),
    }))
}

/// The network.
fn channel_mix(leaves: &mut Leaves, generation: Generation, [hidden, inner]: [usize; 2]) -> Mixer {
    let name = |part: &str| format!("feed_forward.{part}");
    let names = match generation {
        Generation::Eagle => ["time_mix_key", "time_mix_receptance"],
        Generation::Finch => ["time_maa_k", "time_maa_r"],
    };
    let mix = names.map(|part| leaves.flat(&name(part), hidden));
    let key = leaves.linear(&name("key"), [inner, hidden], false, Shard::Column);
    let receptance = leaves.linear(&name("receptance"), [hidden; 2], false, Shard::Column);
    Mixer::ChannelMix(ChannelMix {
        mix: mix.to_vec(),
        of_before: generation == Generation::Finch,
        key,
        receptance: Some(receptance),
        value: leaves.linear(&name("value"), [hidden, inner], false, Shard::Row),
    })
}

/// A step that adds so much of a mixer's output.
fn gained(mixer: Mixer, gain: f64) -> Step {
    let mixer = Branch {
        gain: Gain::Constant(gain),
        ..Branch::plain(mixer)
    };
    Step {
        branches: vec![mixer],
        ..Step::residual(Mixer::Identity(Identity))
    }
}

/// The halves of a layer.
#[derive(Clone, Copy)]
enum Half {
    Time,
    Channel,
}

impl Half {
    fn build(self, leaves: &mut Leaves, own: &Blocks<'_>, channels: usize) -> Mixer {
        let (hidden, inner) = (own.hidden_size, own.intermediate_size);
        match self {
            Self::Time => {
                let name = |part: &str| format!("attention.{part}");
                let parts = ["key", "value", "receptance"];
                let mix = parts.map(|part| leaves.flat(&name(&format!("time_mix_{part}")), hidden));
                let shape = [channels, hidden];
                let projections =
                    parts.map(|part| leaves.linear(&name(part), shape, false, Shard::Column));
                Mixer::TimeMix(Box::new(TimeMix {
                    mix,
                    projections,
                    decay: leaves.flat(&name("time_decay"), channels),
                    first: leaves.flat(&name("time_first"), channels),
                    output: leaves.linear(&name("output"), [hidden, channels], false, Shard::Row),
                }))
            }
            Self::Channel => {
                let name = |part: &str| format!("feed_forward.{part}");
                let mix = ["key", "receptance"];
                let mix = mix.map(|part| leaves.flat(&name(&format!("time_mix_{part}")), hidden));
                let key = leaves.linear(&name("key"), [inner, hidden], false, Shard::Column);
                let shape = [hidden; 2];
                let receptance = leaves.linear(&name("receptance"), shape, false, Shard::Column);
                Mixer::ChannelMix(ChannelMix {
                    mix: mix.to_vec(),
                    of_before: false,
                    key,
                    receptance: Some(receptance),
                    value: leaves.linear(&name("value"), [hidden, inner], false, Shard::Row),
                })
            }
        }
    }
}
