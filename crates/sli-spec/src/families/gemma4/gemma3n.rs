//! Gemma 3n: AltUp's streams, LAuReL beside the attention, sparse networks.

use std::rc::Rc;

use super::quantile::normal_quantile;
use super::scaled;
use super::shared::{layer_input, own_inputs, plain, set_inputs, sources};
use crate::build::{Leaves, divided, layer_types};
use crate::families::blocks::Blocks;
use crate::families::gemma::rotations;
use crate::{
    Branch, Config, Described, Gain, Identity, LowRank, Mixer, Shard, Slot, SparseFeedForward,
    SpecError, Step, StreamUpdate, Streams, Write,
};

/// Gemma 3n: AltUp's streams, LAuReL beside the attention, sparse networks in the first layers.
pub fn gemma3n(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let kinds = layer_types(config, layers, |layer| {
        if (layer + 1) % 5 == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    // For training only.
    config.ignore(&["altup_coef_clip"]);
    let mut model = plain(config, &kinds)?;
    let Some(mut inputs) = own_inputs(config)? else {
        return Err(config.invalid("hidden_size_per_layer_input", "at least 1"));
    };
    inputs.beyond_is_first = true;
    divided(
        config,
        "num_attention_heads",
        model.hidden_size,
        model.heads,
    )?;
    divided(config, "num_key_value_heads", model.heads, model.kv_heads)?;
    let sources = sources(config, &mut model, &kinds)?;
    model.ropes = rotations(config, model.head_dim, &kinds)?;
    let inner = match config.sizes("intermediate_size")? {
        sizes if sizes.len() == layers => sizes,
        sizes if sizes.len() == 1 => sizes.repeat(layers),
        _ => return Err(config.invalid("intermediate_size", format!("one or {layers} sizes"))),
    };
    let sparsity = match config.numbers("activation_sparsity_pattern")? {
        Some(pattern) => pattern,
        None => {
            let sparse = if layers > 10 { 10 } else { 0 };
            (0..layers)
                .map(|layer| if layer < sparse { 0.95 } else { 0.0 })
                .collect()
        }
    };
    if sparsity.len() != layers || sparsity.iter().any(|part| !(0.0..1.0).contains(part)) {
        let expected = format!("{layers} numbers from 0 to below 1");
        return Err(config.invalid("activation_sparsity_pattern", expected));
    }
    let streams = config.heads("altup_num_inputs")?;
    let active = config.index("altup_active_idx")?;
    if streams > 32 || active >= streams {
        return Err(config.invalid("altup_active_idx", "one of the streams, of at most 32"));
    }
    let laurel = config.size("laurel_rank")?;
    let scaled_output = config.flag("altup_correct_scale")?;
    set_inputs(config, &mut model, Some(inputs), streams)?;
    let same = config.flag("attention_k_eq_v")?;
    model.differ(move |own, layer| {
        own.intermediate_size = inner[layer];
        own.keys_of_layer = sources[layer];
        own.values_are_keys = same && kinds[layer] == "full_attention";
    });
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let block = Gemma3nLayer {
            model: own,
            layer,
            streams,
            active,
            laurel,
            input_width: inputs.width,
            sparsity: sparsity[layer],
            scaled_output,
        };
        block.steps(leaves)
    }));
    model.build()
}

struct Gemma3nLayer<'a, 'c> {
    model: &'a Blocks<'c>,
    layer: usize,
    streams: usize,
    active: usize,
    laurel: usize,
    input_width: usize,
    sparsity: f64,
    scaled_output: bool,
}

impl Gemma3nLayer<'_, '_> {
    /// The slot of a residual stream.
    fn stream(stream: usize) -> Slot {
        match stream {
            0 => Slot::Hidden,
            _ => Slot::Stash(stream as u8 - 1),
        }
    }

    fn steps(&self, leaves: &mut Leaves) -> Vec<Step> {
        let model = self.model;
        let hidden = model.hidden_size;
        let norm = |leaves: &mut Leaves, name: &str| leaves.norm(name, hidden, model.norm);
        let router_norm = norm(leaves, "altup.router_norm");
        let shape = [self.streams, hidden];
        let router = leaves.linear("altup.modality_router", shape, false, Shard::Replicate);
        let shape = [self.streams * self.streams, self.streams];
        let coefficients = leaves.linear("altup.prediction_coefs", shape, false, Shard::Replicate);
        let update = |update| {
            let mut step = Step::residual(Mixer::Streams(Streams {
                streams: self.streams,
                active: self.active,
                norm: router_norm.clone(),
                router: router.clone(),
                update,
            }));
            step.read = Self::stream(self.active);
            step.write = Write::Set(Self::stream(self.active));
            step
        };
        let mut steps = vec![update(StreamUpdate::Predict { coefficients })];
        // What the layer makes of the active stream.
        let own = Slot::Stash(self.streams as u8 - 1);
        let half = Gain::Constant(0.5_f64.sqrt());
        let pre = norm(leaves, "input_layernorm");
        let attention = Branch {
            gain: half.clone(),
            post: None,
            ..Branch::plain(model.attention(leaves, self.layer))
        };
        let attention = Branch {
            post: Some(norm(leaves, "post_attention_layernorm")),
            ..attention
        };
        let low_rank = LowRank {
            down: leaves.linear(
                "laurel.linear_left",
                [self.laurel, hidden],
                false,
                Shard::Replicate,
            ),
            up: leaves.linear(
                "laurel.linear_right",
                [hidden, self.laurel],
                false,
                Shard::Replicate,
            ),
        };
        let low_rank = Branch {
            post: Some(norm(leaves, "laurel.post_laurel_norm")),
            gain: half.clone(),
            ..Branch::plain(Mixer::LowRank(low_rank))
        };
        let normed = Branch {
            gain: half.clone(),
            ..Branch::plain(Mixer::Identity(Identity))
        };
        steps.push(Step {
            read: Self::stream(self.active),
            connection: None,
            beside: None,
            pre: Some(pre),
            branches: vec![attention, low_rank, normed],
            post: None,
            write: Write::Set(own),
            only: None,
        });
        steps.push(Step {
            write: Write::AddTo(own),
            ..scaled(Self::stream(self.active), half, own)
        });
        let pre = norm(leaves, "pre_feedforward_layernorm");
        let network = model.network(leaves);
        steps.push(Step {
            read: own,
            pre: Some(pre),
            post: Some(norm(leaves, "post_feedforward_layernorm")),
            write: Write::AddTo(own),
            ..Step::residual(if self.sparsity > 0.0 {
                Mixer::SparseFeedForward(SparseFeedForward {
                    network,
                    deviations: normal_quantile(f64::from(self.sparsity as f32)),
                })
            } else {
                Mixer::FeedForward(network)
            })
        });
        let shape = [self.streams, self.streams];
        let coefficients = leaves.linear("altup.correction_coefs", shape, false, Shard::Replicate);
        steps.push(update(StreamUpdate::Correct {
            coefficients,
            computed: own,
        }));
        let scale = leaves.tensor("altup.correct_output_scale");
        let scale = leaves.weight(scale, &[hidden], Shard::Replicate);
        let gain = if self.scaled_output {
            Gain::Vector(scale)
        } else {
            Gain::One
        };
        steps.push(scaled(Self::stream(self.active), gain, own));
        let mixer = layer_input(model, leaves, self.input_width);
        steps.push(Step {
            read: own,
            post: Some(norm(leaves, "post_per_layer_input_norm")),
            write: Write::Set(own),
            ..Step::residual(mixer)
        });
        for stream in 1..self.streams {
            steps.push(Step {
                write: Write::AddTo(Self::stream(stream)),
                ..scaled(own, Gain::One, own)
            });
        }
        steps
    }
}
