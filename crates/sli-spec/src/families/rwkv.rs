//! RWKV 4: no attention; what goes along the record is a weighted mean of each channel.

use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Blocks, Names, Tie};
use crate::{
    Activation, Branch, ChannelMix, Config, Described, Gain, Identity, LengthLimit, Mixer, Shard,
    Slot, SpecError, Step, TimeMix, Write,
};

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
    model.family = "rwkv";
    model.names = Names {
        tokens: "embeddings",
        layers: "blocks",
        final_norm: "ln_out",
        head: "head",
        ..Names::USUAL
    };
    model.activation = Activation::Relu2;
    model.tie = Tie::Configured;
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
    let halved = config.index("rescale_every")?;
    let halves = move |layer: usize| halved > 0 && layer > 0 && layer.is_multiple_of(halved);
    // The class leaves the epsilon of the last norm as it is; half of the stream and a quarter of it are the same to a
    // norm as both whole.
    let epsilon = if halves(layers) { 4e-5 } else { 1e-5 };
    model.final_norm = Some(NormStyle::layer(epsilon));
    model.layer_of = Some(std::rc::Rc::new(move |own, leaves, layer| {
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
                    mix,
                    key,
                    receptance,
                    value: leaves.linear(&name("value"), [hidden, inner], false, Shard::Row),
                })
            }
        }
    }
}
