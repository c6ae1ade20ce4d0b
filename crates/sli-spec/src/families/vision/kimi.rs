//! Kimi K2.5 (2026): pictures of any size, turned by columns and rows, and a decoder of DeepSeek-V3's.

use std::rc::Rc;

use super::compose::{Places, Tower, behind, scattered};
use super::navit::normed_blocks;
use super::part::DescribePart;
use super::tiles::{decoder, given};
use super::towers;
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Names, Projections};
use crate::rope::Pairs;
use crate::{
    Config, Described, Interpolation, PackedLimits, PictureLayout, Pictures, PlaceTable, Shard,
    Source, SpecError,
};

/// The published names of the tower's layers.
static NAMES: Names = Names {
    layers: "encoder.blocks",
    projections: Projections::Rows("wqkv"),
    output: "wo",
    up: "mlp.fc0",
    down: "mlp.fc1",
    final_norm: "encoder.final_layernorm",
    ..Names::USUAL
};

/// The key of rows and columns of patches that become one.
const KERNEL: &str = "merge_kernel_size";

/// Channels of a picture.
const CHANNELS: usize = 3;

/// The tower, for pictures of one time.
pub fn kimi_tower(config: &Config) -> Result<Described, SpecError> {
    // Of films, and of what stands behind the tower.
    config.ignore(&["pos_emb_time", "merge_kernel_size"]);
    let (hidden, inner) = (
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    );
    let around = Arrangement::pre("norm0", "norm1");
    let style = NormStyle::layer(1e-5);
    let mut tower = towers::layers(config, [hidden, inner], style, (&NAMES, around))?;
    tower.gated = false;
    let turns = (Pairs::ColumnsByTurns, true, towers::theta(config)?);
    towers::turn(config, "num_attention_heads", &mut tower, turns)?;
    let patch = config.size("patch_size")?;
    let side = config.size("pos_emb_height")?;
    if config.size("pos_emb_width")? != side {
        let problem = "the reference takes places for those of a square";
        return Err(config.unsupported("pos_emb_width", problem));
    }
    tower.pictures = Some(Rc::new(move |leaves| {
        // The reference writes it in another place than files are published with.
        let stored = |part: &str| {
            let places = ["patch_embed.proj", "encoder.patch_embed.proj"];
            let places = places.map(|place| leaves.tensor(&format!("{place}.{part}")));
            Source::one_of(places.to_vec())
        };
        let stored = (stored("weight"), Some(stored("bias")));
        let projection = towers::projection(leaves, stored, hidden, [CHANNELS, patch]);
        let table = Source::Reshape(Box::new(leaves.tensor("patch_embed.pos_emb.weight")));
        Pictures {
            positions: Some(PlaceTable {
                weight: leaves.weight(table, &[side * side, hidden], Shard::Column),
                first: 0,
                grid: [side; 2],
                otherwise: Interpolation::Cubic,
                turned: false,
            }),
            ..Pictures::new(
                PictureLayout::packed(
                    1,
                    None,
                    PackedLimits {
                        one_time: true,
                        ..PackedLimits::whole(1)
                    },
                ),
                [CHANNELS, patch],
                projection,
            )
        }
    }));
    tower.build()
}

/// The whole: normed patches of blocks side by side through two dense layers.
pub fn kimi_k25(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    ]);
    let vision = given(config, "vision_config", "kimi_k25_vision")?;
    let text = decoder(config, "deepseek_v3")?;
    let places = Places {
        base: &["vision_tower."],
        outside: &[],
    };
    let mut tower = Tower::read(&vision, describe, places)?;
    let side = match vision.sizes(KERNEL)?[..] {
        [rows, columns] if rows == columns => rows,
        _ => return Err(vision.unsupported(KERNEL, "blocks are squares here")),
    };
    tower.set_whole(side);
    let (hidden, width) = (text.size("hidden_size")?, tower.width());
    if config.size("projection_hidden_size")? != width {
        let expected = format!("{width}, the features of the tower");
        return Err(config.invalid("projection_hidden_size", expected));
    }
    let style = NormStyle::layer(config.positive("projection_layer_norm_eps")?);
    let place: &'static [&'static str] = &["mm_projector.", "model.mm_projector."];
    let names = (place, ["pre_norm", "proj.0", "proj.2"]);
    let projector = normed_blocks(&tower, names, (side, hidden), style);
    let token = scattered(config, "image_token_id")?;
    let places = Places {
        base: &["language_model.model."],
        outside: &["language_model."],
    };
    let decoder = (describe(&text)?, places, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}
