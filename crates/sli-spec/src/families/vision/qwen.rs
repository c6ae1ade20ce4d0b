//! Qwen2-VL (Wang et al. 2024) and what came after it: patches of pictures of any size, turned by their rows and columns,
//! blocks of them in the place of a token, and a decoder whose tokens have three positions.

use std::rc::Rc;

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, norm, scattered,
};
use super::part::DescribePart;
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::rope::{Pairs, PositionAxis, Rope};
use crate::{
    Activation, Config, Described, Interpolation, LengthLimit, Mask, PictureLayout, PictureRows,
    Pictures, PlaceTable, Scattered, Shard, Source, SpecError,
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
const PLACES: &[&str] = &["model.visual.", "visual."];

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
        // Published names of what the class calls otherwise.
        config.ignore(&["in_chans", "spatial_patch_size"]);
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
fn layers(
    config: &Config,
    sizes: Sizes,
    inner: usize,
    norm: NormStyle,
    window: Option<usize>,
) -> Result<Blocks<'_>, SpecError> {
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

/// The tower of Qwen2.5-VL: gated networks, RMS norms, and layers that see windows.
pub fn qwen2_5_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it, and of films.
    config.ignore(&["out_hidden_size", "tokens_per_second"]);
    let sizes = Sizes::read(config, config.size("hidden_size")?)?;
    let span = sizes.patch.saturating_mul(sizes.side);
    let window = config.size("window_size")? / span;
    if window == 0 {
        let expected = format!("at least a block of {span} points");
        return Err(config.invalid("window_size", expected));
    }
    let inner = config.size("intermediate_size")?;
    let mut tower = layers(config, sizes, inner, NormStyle::rms(1e-6), Some(window))?;
    tower.names = Names {
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        ..NAMES
    };
    let whole = config.numbers("fullatt_block_indexes")?.unwrap_or_default();
    for (layer, mask) in tower.masks.iter_mut().enumerate() {
        if !whole.contains(&(layer as f64)) {
            *mask = Mask::Windows;
        }
    }
    tower.build()
}

/// The tower of Qwen3-VL: learned places, stretched.
pub fn qwen3_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["out_hidden_size", "deepstack_visual_indexes"]);
    let sizes = Sizes::read(config, config.size("hidden_size")?)?;
    let inner = config.size("intermediate_size")?;
    let mut tower = layers(config, sizes, inner, NormStyle::layer(1e-6), None)?;
    tower.gated = false;
    tower.names = Names {
        up: "mlp.linear_fc1",
        down: "mlp.linear_fc2",
        final_norm: "merger.norm",
        ..NAMES
    };
    let rows = config.size("num_position_embeddings")?;
    let side = rows.isqrt();
    if side * side != rows {
        return Err(config.invalid("num_position_embeddings", "a square"));
    }
    let plain = tower.pictures.take();
    tower.pictures = Some(Rc::new(move |leaves| {
        let mut pictures = match &plain {
            Some(plain) => plain(leaves),
            None => unreachable!("layers have pictures"),
        };
        let bias = leaves.tensor("patch_embed.proj.bias");
        pictures.projection.bias = Some(leaves.weight(bias, &[sizes.hidden], Shard::Replicate));
        Pictures {
            positions: Some(PlaceTable::Grid {
                weight: leaves.table("pos_embed.weight", rows, sizes.hidden),
                first: 0,
                grid: [side; 2],
                otherwise: Interpolation::Corners,
            }),
            ..pictures
        }
    }));
    tower.build()
}

/// Qwen2-VL.
pub fn qwen2_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part_as("vision_config", "qwen2_vl_vision", None)?;
    let text = decoder_config(config, ("text_config", "qwen2_vl_text"), Tied::ByEither)?;
    merged(config, (&vision, &text), ("hidden_size", &OLDER), describe)
}

/// Qwen2.5-VL.
pub fn qwen2_5_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part_as("vision_config", "qwen2_5_vl_vision", None)?;
    let text = decoder_config(config, ("text_config", "qwen2_5_vl_text"), Tied::ByEither)?;
    merged(
        config,
        (&vision, &text),
        ("out_hidden_size", &OLDER),
        describe,
    )
}

/// Qwen3-VL.
pub fn qwen3_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part_as("vision_config", "qwen3_vl_vision", None)?;
    let text = decoder_config(config, ("text_config", "qwen3_vl_text"), Tied::ByWhole)?;
    merged(
        config,
        (&vision, &text),
        ("out_hidden_size", &NEWER),
        describe,
    )
}

/// The names of what becomes of blocks.
struct Merger {
    layers: [&'static str; 2],
    /// Those of features of earlier layers, by their number.
    deep: Option<&'static str>,
}

const OLDER: Merger = Merger {
    layers: ["merger.mlp.0", "merger.mlp.2"],
    deep: None,
};

const NEWER: Merger = Merger {
    layers: ["merger.linear_fc1", "merger.linear_fc2"],
    deep: Some("deepstack_merger_list"),
};

/// Blocks of a tower's end through two dense layers in the place of a token; the tower's key `width` says how wide they
/// come out.
fn merged(
    config: &Config,
    (vision, text): (&Config, &Config),
    (width, names): (&str, &Merger),
    describe: DescribePart,
) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
        "vision_token_id",
    ]);
    let mut tower = Tower::read(vision, describe, TOWER)?;
    let hidden = text.size("hidden_size")?;
    if vision.size(width)? != hidden {
        return Err(vision.invalid(width, format!("{hidden}, as of the decoder")));
    }
    let side = vision.size("spatial_merge_size")?;
    let inner = side * side * tower.width();
    let rule = PictureRows::Blocks { side };
    let through = |leaves: &mut Leaves, [first, second]: [&str; 2]| {
        vec![
            dense(leaves, (PLACES, first), [inner; 2], true, Activation::Gelu),
            dense(
                leaves,
                (PLACES, second),
                [hidden, inner],
                true,
                Activation::Linear,
            ),
        ]
    };
    let mut parts = vec![Projector::new(&tower, (rule, hidden), |leaves| {
        (None, through(leaves, names.layers))
    })];
    let mut added = Vec::new();
    if let Some(deep) = names.deep {
        let layers = deep_layers(vision, tower.layers())?;
        tower.keep_behind(&layers);
        for (number, _) in layers.iter().enumerate() {
            added.push(number);
            parts.push(Projector::of_kept(
                &tower,
                number,
                (rule, hidden),
                |leaves| {
                    let name = |part: &str| format!("{deep}.{number}.{part}");
                    let norm = norm(
                        leaves,
                        (PLACES, &name("norm")),
                        inner,
                        NormStyle::layer(1e-6),
                    );
                    let names = [name("linear_fc1"), name("linear_fc2")];
                    (Some(norm), through(leaves, [&names[0], &names[1]]))
                },
            ));
        }
    }
    let token = Scattered {
        has_positions: true,
        ..scattered(config, "image_token_id")?
    };
    let decoder = describe(text)?;
    behind(config, (&tower, &parts, &added), (decoder, DECODER, token))
}

/// Layers (0-based) whose ends enter the decoder's first layers, one each.
fn deep_layers(config: &Config, layers: usize) -> Result<Vec<usize>, SpecError> {
    const KEY: &str = "deepstack_visual_indexes";
    let numbers = config.numbers(KEY)?.unwrap_or_default();
    let of = |number: &f64| {
        let fits = number.fract() == 0.0 && (0.0..layers as f64).contains(number);
        fits.then_some(*number as usize)
    };
    let found: Option<Vec<usize>> = numbers.iter().map(of).collect();
    found.ok_or_else(|| config.invalid(KEY, format!("layers from 0 to {}", layers - 1)))
}
