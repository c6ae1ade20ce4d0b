//! `MobileCLIP`'s text encoder, as SAM 3's light one has it: convolutions in the first and the last layer.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Blocks, Names, Table};
use crate::{
    Config, Described, Gain, LengthLimit, Linear, Mask, Mixer, NormedConvolution, Shard, Slot,
    Source, SpecError, Step, Write,
};

/// What enters the network of a layer of convolutions.
const MIXED: Slot = Slot::Stash(0);

/// The text encoder of SAM 3's light version.
pub fn sam3_lite_text(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        tokens: "embeddings.token_embedding",
        layers: "layers",
        output: "self_attn.out_proj",
        up: "mlp.fc1",
        down: "mlp.fc2",
        final_norm: "final_layer_norm",
        ..Names::USUAL
    };
    // Of what it pools, and of how weights begin.
    config.ignore(&["projection_dim", "layer_scale_init_value"]);
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut model = Blocks::classic(config, names, arrangement, norm)?;
    (model.family, model.stack) = ("clip", "encoder");
    model.prefix = String::new();
    model.masks.fill(Mask::Full);
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.sequence_classifier = None;
    model.ignored = vec!["projection.weight", "*.num_batches_tracked"];
    model.table = Some(Table::Stretched {
        name: "embeddings.position_embedding.position_embedding",
        rows: config.size("max_position_embeddings")?,
    });
    model.length_limit = Some(LengthLimit::None);
    if !config.flag("use_repmixer_blocks")? {
        config.ignore(&["repmixer_kernel_size"]);
        return model.build();
    }
    let kernel = config.size("repmixer_kernel_size")?;
    if kernel % 2 == 0 {
        return Err(config.invalid("repmixer_kernel_size", "an odd number"));
    }
    let last = model.layers() - 1;
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        if layer == 0 || layer == last {
            convolutions(own, leaves, kernel)
        } else {
            own.steps(leaves, layer)
        }
    }));
    model.build()
}

/// A layer of two convolutions and a network.
fn convolutions(own: &Blocks<'_>, leaves: &mut Leaves, kernel: usize) -> Vec<Step> {
    let (hidden, inner) = (own.hidden_size, own.intermediate_size);
    let mixer = "token_mixer.mixer";
    let first = NormedConvolution {
        weight: leaves.flat(&format!("{mixer}.conv.weight"), hidden * kernel),
        features: hidden,
        kernel,
        norm: leaves.stored_norm(&format!("{mixer}.batchnorm_conv"), hidden),
        own: Some([
            leaves.stored_norm(&format!("{mixer}.batchnorm_skip"), hidden),
            leaves.stored_norm("token_mixer.reference_batchnorm", hidden),
        ]),
    };
    let mut mixed = Step::residual(Mixer::NormedConvolution(first));
    let share = leaves.flat("token_mixer.layer_scale", hidden);
    mixed.branches[0].gain = Gain::Vector(share);
    let place = "conv_feed_forward";
    let second = NormedConvolution {
        weight: leaves.flat(&format!("{place}.depthwise_conv.weight"), hidden * kernel),
        features: hidden,
        kernel,
        norm: leaves.stored_norm(&format!("{place}.depthwise_batchnorm"), hidden),
        own: None,
    };
    let convolved = Step {
        write: Write::Set(MIXED),
        ..Step::residual(Mixer::NormedConvolution(second))
    };
    let up = pointwise(leaves, &format!("{place}.mlp.fc1"), [inner, hidden]);
    let down = pointwise(leaves, &format!("{place}.mlp.fc2"), [hidden, inner]);
    let network = crate::FeedForward::plain(None, up, down, own.activation);
    let mut fed = Step {
        read: MIXED,
        ..Step::residual(Mixer::FeedForward(network))
    };
    let share = leaves.flat("layer_scale", hidden);
    fed.branches[0].gain = Gain::Vector(share);
    vec![mixed, convolved, fed]
}

/// A convolution of one row is a product.
fn pointwise(leaves: &mut Leaves, name: &str, shape: [usize; 2]) -> Linear {
    let weight = Source::Reshape(Box::new(leaves.tensor(&format!("{name}.weight"))));
    let bias = leaves.tensor(&format!("{name}.bias"));
    leaves.linear_of(weight, Some(bias), shape, Shard::Replicate)
}
