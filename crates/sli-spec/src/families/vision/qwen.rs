//! Qwen2-VL (Wang et al. 2024) and what came after it: patches of pictures of any size, turned by their rows and columns,
//! blocks of them in the place of a token, and a decoder whose tokens have three positions.

use std::rc::Rc;

use super::DescribePart;
use super::compose::{Places, Projector, Tower, behind, decoder_config, dense, scattered};
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::rope::{Pairs, PositionAxis, Rope};
use crate::{
    Activation, Config, Described, LengthLimit, Mask, PictureLayout, PictureRows, Pictures,
    Scattered, Shard, Source, SpecError,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["model.visual.", "visual."],
    outside: &[],
};

/// Where files have the decoder.
const DECODER: Places = Places {
    base: &["model.language_model.", "model."],
    outside: &[""],
};

/// Where files have what becomes of blocks.
const MERGER: &[&str] = &["model.visual.merger.", "visual.merger."];

/// The names of the tower's layers.
const NAMES: Names = Names {
    layers: "blocks",
    projections: Projections::Rows("attn.qkv"),
    output: "attn.proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "merger.ln_q",
    ..Names::USUAL
};

/// The sizes of a tower.
#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    /// Points of a patch in all channels and times, its rows and columns left out.
    channels: usize,
    patch: usize,
    /// Rows and columns of a block.
    side: usize,
}

impl Sizes {
    fn read(config: &Config, hidden: usize) -> Result<Self, SpecError> {
        let times = config.size("temporal_patch_size")?;
        Ok(Self {
            hidden,
            channels: config.size("in_channels")?.saturating_mul(times),
            patch: config.size("patch_size")?,
            side: config.size("spatial_merge_size")?,
        })
    }
}

/// The layers of a tower of so many features, heads and features inside its network.
fn layers<'c>(
    config: &'c Config,
    sizes: Sizes,
    inner: usize,
    norm: NormStyle,
    window: Option<usize>,
) -> Result<Blocks<'c>, SpecError> {
    let heads = config.heads("num_heads")?;
    let head_dim = divided(config, "num_heads", sizes.hidden, heads)?;
    if head_dim % 4 != 0 {
        return Err(config.invalid("num_heads", "heads of a multiple of 4 features"));
    }
    let layers = config.layers("depth")?;
    let shape = [sizes.hidden, inner];
    let mut tower = Blocks::sized(config, norm, layers, shape, [heads, heads, head_dim])?;
    (tower.family, tower.stack, tower.names) = ("vision", "vision", NAMES);
    tower.arrangement = Arrangement::pre("norm1", "norm2");
    tower.ignored.clear();
    tower.set_biases(true);
    tower.activation = config.activation("hidden_act")?;
    tower.masks.fill(Mask::Full);
    tower.length_limit = Some(LengthLimit::None);
    tower.vocab_size = Some(1);
    tower.may_look_ahead = false;
    let theta = match config.nested("rope_parameters")? {
        Some(own) => {
            own.neutral(
                "rope_type",
                &["axial".into()],
                "towers turn by rows and columns",
            )?;
            own.optional_positive("rope_theta")?
        }
        None => None,
    };
    let rope = Rope {
        dims: head_dim,
        axis: PositionAxis::Coordinates(Pairs::Halves),
        ..Rope::plain(head_dim / 2, theta.unwrap_or(10_000.0))
    };
    tower.ropes.fill(Some(rope));
    tower.pictures = Some(Rc::new(move |leaves| {
        let name = "patch_embed.proj.weight";
        let weight = Source::Reshape(Box::new(leaves.tensor(name)));
        let shape = [sizes.hidden, sizes.channels * sizes.patch * sizes.patch];
        Pictures {
            leaves: Vec::new(),
            layout: PictureLayout::Packed {
                name: "pixel_values",
                grids: "image_grid_thw",
                side: sizes.side,
                window,
            },
            channels: sizes.channels,
            patch: sizes.patch,
            projection: leaves.linear_of(weight, None, shape, Shard::Replicate),
            front: Vec::new(),
            positions: None,
            norm: None,
        }
    }));
    Ok(tower)
}

/// The tower of Qwen2-VL.
pub fn qwen2_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["hidden_size"]);
    let hidden = config.size("embed_dim")?;
    let sizes = Sizes::read(config, hidden)?;
    let ratio = config.positive("mlp_ratio")?;
    let inner = (hidden as f64 * ratio) as usize;
    let mut tower = layers(config, sizes, inner, NormStyle::layer(1e-6), None)?;
    tower.gated = false;
    tower.build()
}

/// Qwen2-VL.
pub fn qwen2_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part("vision_config", "qwen2_vl_vision", None, &[])?;
    let text = decoder_config(config, "text_config", "qwen2_vl_text")?;
    merged(
        config,
        (&vision, &text),
        vision.size("hidden_size")?,
        describe,
    )
}

/// Blocks of a tower's end through two dense layers to `width` features, in the place of a token.
fn merged(
    config: &Config,
    (vision, text): (&Config, &Config),
    width: usize,
    describe: DescribePart,
) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    ]);
    let tower = Tower::read(vision, describe, TOWER)?;
    let hidden = text.size("hidden_size")?;
    if width != hidden {
        return Err(vision.invalid("hidden_size", format!("{hidden}, as of the decoder")));
    }
    let side = vision.size("spatial_merge_size")?;
    let inner = side * side * tower.width();
    let rule = PictureRows::Blocks { side };
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let (first, second) = ((MERGER, "mlp.0"), (MERGER, "mlp.2"));
        let layers = vec![
            dense(leaves, first, [inner; 2], true, Activation::Gelu),
            dense(leaves, second, [hidden, inner], true, Activation::Linear),
        ];
        (None, layers)
    });
    let token = Scattered {
        has_positions: true,
        ..scattered(config, "image_token_id")?
    };
    let decoder = describe(text)?;
    behind(config, tower, projector, (decoder, DECODER, token))
}
