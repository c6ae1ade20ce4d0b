//! Towers like SAM's (Kirillov et al. 2023): windows, vectors of rows and columns apart, convolutions behind.

use std::rc::Rc;

use super::compose::{Projector, Tower, behind, dense, norm, scattered, spelled};
use super::llava::{DECODER, PROJECTOR, TOWER};
use super::part::DescribePart;
use super::tiles::{decoder, given};
use super::towers::{CLIP, Sizes, of_pictures};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::{
    Activation, AxisDistances, Config, Described, HeadTransform, Joining, Mask, Mixer, PictureRows,
    Pictures, Position, Scattered, Shard, Source, SpecError,
};

/// The names of the tower's layers.
static LAYERS: Names = Names {
    layers: "layers",
    projections: Projections::Rows("attn.qkv"),
    output: "attn.proj",
    up: "mlp.lin1",
    down: "mlp.lin2",
    ..CLIP
};

/// Rows and columns of a window, which is filled where a picture has fewer.
const LARGEST_WINDOW: usize = 256;

/// The tower up to its last layer.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind the layers, and of masks.
    config.ignore(&["output_channels", "mlp_ratio", "num_pos_feats", "scale"]);
    let sizes = Sizes::read(config)?.square(config)?;
    let view = sizes.grid();
    let heads = config.heads("num_attention_heads")?;
    let head_dim = divided(config, "num_attention_heads", sizes.hidden, heads)?;
    let style = NormStyle::layer(config.positive("layer_norm_eps")?);
    let count = config.layers("num_hidden_layers")?;
    let widths = [sizes.hidden, config.size("mlp_dim")?];
    let mut tower = Blocks::sized(config, style, count, widths, [heads, heads, head_dim])?;
    of_pictures(&mut tower, "vision");
    tower.names = LAYERS;
    tower.arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    tower.set_biases(true);
    tower.query_key_value_bias = config.flag("qkv_bias")?;
    tower.gated = false;
    tower.activation = config.activation("hidden_act")?;
    tower.final_norm = None;
    let window = match config.optional_number("window_size")? {
        Some(0.0) => None,
        _ => Some(config.size("window_size")?),
    };
    if window.is_some_and(|side| side > LARGEST_WINDOW) {
        let expected = format!("at most {LARGEST_WINDOW}");
        return Err(config.invalid("window_size", expected));
    }
    let global = config.numbers("global_attn_indexes")?.unwrap_or_default();
    let is_global = move |layer: usize| window.is_none() || global.contains(&(layer as f64));
    for (layer, mask) in tower.masks.iter_mut().enumerate() {
        if !is_global(layer) {
            *mask = Mask::Windows;
        }
    }
    let has_vectors = config.flag("use_rel_pos")?;
    tower.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let mut attention = blocks.usual_attention(leaves, layer);
        let grid = match window {
            Some(side) if blocks.masks[layer] == Mask::Windows => [side; 2],
            _ => view,
        };
        let mut table = |axis: usize, name: &str| {
            let stored = Source::Reshape(Box::new(leaves.tensor(name)));
            let numbers = (2 * grid[axis] - 1) * blocks.head_dim;
            leaves.weight(stored, &[numbers], Shard::Replicate)
        };
        let vectors = has_vectors.then(|| [table(0, "attn.rel_pos_h"), table(1, "attn.rel_pos_w")]);
        attention.positions.push(Position::Axes(AxisDistances {
            vectors,
            grid,
            view,
        }));
        Some(Mixer::Attention(Box::new(attention)))
    });
    let has_places = config.flag("use_abs_pos")?;
    tower.pictures = Some(Rc::new(move |leaves: &mut Leaves| {
        let places = has_places.then(|| sizes.table(leaves, "pos_embed", 0));
        Pictures {
            positions: places,
            ..sizes.pictures(leaves, "patch_embed.projection", true)
        }
    }));
    tower.build()
}

/// What stands behind a tower's layers: a projection, and a convolution of what is around every patch, both normed.
fn neck(tower: &Tower, channels: usize, place: &'static [&'static str]) -> [Projector; 2] {
    let style = NormStyle::layer(1e-6);
    let width = tower.width();
    let rule = (PictureRows::Blocks { side: 1 }, channels);
    let first = Projector::new(tower, rule, |leaves| {
        let layer = convolution(leaves, (place, "conv1"), [channels, width]);
        let norm = norm(leaves, (place, "layer_norm1"), channels, style);
        (None, vec![normed(layer, norm)])
    });
    let rule = PictureRows::Around {
        halved: 0,
        halves: false,
    };
    let second = Projector::behind((1, channels), (rule, channels), |leaves| {
        let layer = convolution(leaves, (place, "conv2"), [channels, 9 * channels]);
        let norm = norm(leaves, (place, "layer_norm2"), channels, style);
        (None, vec![normed(layer, norm)])
    });
    let second = second.joined(Joining::ByTurns);
    [first.named("neck"), second.named("neck-around")]
}

fn normed(layer: HeadTransform, norm: crate::Norm) -> HeadTransform {
    HeadTransform {
        norm: Some(norm),
        ..layer
    }
}

/// A convolution `NAME` of so many numbers, whatever the axes of its weight.
fn convolution(
    leaves: &mut Leaves,
    (place, name): (&[&str], &str),
    shape: [usize; 2],
) -> HeadTransform {
    let stored = spelled(place, &format!("{name}.weight"));
    let stored = Source::Reshape(Box::new(stored));
    let linear = leaves.linear_of(stored, None, shape, Shard::Replicate);
    HeadTransform::plain(linear, Activation::Linear)
}

/// Where GOT-OCR 2's files have the end of its tower.
const NECK: &[&str] = &["model.vision_tower.neck.", "vision_tower.neck."];

/// GOT-OCR 2.0 (Wei et al. 2024).
pub fn got_ocr2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    config.ignore(&["image_seq_length", "pad_token_id"]);
    let vision = given(config, "vision_config", "got_ocr2_vision")?;
    let text = decoder(config, "qwen2")?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let channels = vision.size("output_channels")?;
    let hidden = text.size("hidden_size")?;
    let [first, second] = neck(&tower, channels, NECK);
    let halving = |halved| PictureRows::Around {
        halved,
        halves: true,
    };
    let third = Projector::behind((2, channels), (halving(0), 2 * channels), |leaves| {
        let shape = [2 * channels, 9 * channels];
        (
            None,
            vec![convolution(leaves, (PROJECTOR, "conv_upsampler1"), shape)],
        )
    });
    let last = Projector::behind((3, 2 * channels), (halving(1), hidden), |leaves| {
        let shape = [hidden, 18 * channels];
        let layers = vec![
            convolution(leaves, (PROJECTOR, "conv_upsampler2"), shape),
            dense(
                leaves,
                (PROJECTOR, "multimodal_projector"),
                [hidden; 2],
                true,
                Activation::Linear,
            ),
        ];
        (None, layers)
    });
    let projectors = [
        first,
        second,
        third.joined(Joining::ByTurns).named("halved"),
        last.joined(Joining::ByTurns),
    ];
    let key = if config.declares("image_token_index") {
        "image_token_index"
    } else {
        "image_token_id"
    };
    let token = Scattered {
        stack: 4,
        ..scattered(config, key)?
    };
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &projectors, &[]), decoder)
}
