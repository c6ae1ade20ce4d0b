//! Muse (2026): a tower of windows whose places lie inside of its table, and blocks, feature by feature, through three dense layers.

use std::rc::Rc;

use super::compose::{Places, Projector, Tied, Tower, behind, decoder_config, dense, scattered};
use super::part::DescribePart;
use super::tiles::given;
use super::towers;
use crate::build::{Leaves, NormStyle, layer_types};
use crate::families::blocks::{Arrangement, Names, Projections};
use crate::rope::Pairs;
use crate::{
    Activation, Config, Described, Interpolation, Joining, Mask, PackedLimits, PictureLayout,
    PictureRows, Pictures, PlaceTable, SpecError,
};

/// The names of the tower's layers.
static NAMES: Names = Names {
    projections: Projections::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    output: "attn.proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "ln_post",
    ..Names::USUAL
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["model.vision_tower."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model.language_model."],
    outside: &[""],
};

/// The key of rows and columns of patches that become one.
const SIDE: &str = "merge_size";

/// Channels of a picture.
const CHANNELS: usize = 3;

/// The tower of Muse Glimmer.
pub fn glimmer_tower(config: &Config) -> Result<Described, SpecError> {
    tower(config, false)
}

/// The tower of Muse Spark, which counts the places of its table by the other side.
pub fn spark_tower(config: &Config) -> Result<Described, SpecError> {
    tower(config, true)
}

fn tower(config: &Config, turned: bool) -> Result<Described, SpecError> {
    // Of the table of places, whose sides count.
    config.ignore(&["max_position_embeddings"]);
    let (hidden, inner) = (
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    );
    // Those of the layers have an epsilon of their own.
    let style = NormStyle::layer(1e-5);
    let around = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::pre("norm1", "norm2");
    let mut tower = towers::layers(config, [hidden, inner], style, (&NAMES, arrangement))?;
    tower.gated = false;
    tower.final_norm = Some(around);
    let turns = (Pairs::ColumnsFirst, false, towers::theta(config)?);
    towers::turn(config, "num_attention_heads", &mut tower, turns)?;
    let patch = config.size("patch_size")?;
    let times = config.size("patch_temporal")?;
    let side = config.size("pos_emb_height")?;
    if config.size("pos_emb_width")? != side {
        let problem = "the reference takes places for those of a square";
        return Err(config.unsupported("pos_emb_width", problem));
    }
    let layers = tower.layers();
    let kinds = layer_types(config, layers, |layer| {
        if (layer + 1).is_multiple_of(4) || layer + 1 == layers {
            "full_attention"
        } else {
            "window_attention"
        }
    })?;
    for (mask, kind) in tower.masks.iter_mut().zip(&kinds) {
        *mask = match kind.as_str() {
            "full_attention" => Mask::Full,
            "window_attention" => Mask::Windows,
            other => {
                let reason = format!("`{other}` is no kind of layer of this type");
                return Err(config.unsupported("layer_types", reason));
            }
        };
    }
    let block = config.size(SIDE)?;
    let channels = CHANNELS.saturating_mul(times);
    tower.pictures = Some(Rc::new(move |leaves: &mut Leaves| {
        let of_patches = (leaves.tensor("patch_embedder.patch_embedding.weight"), None);
        let projection = towers::projection(leaves, of_patches, hidden, [channels, patch]);
        let layout = PictureLayout::packed(1, Some(side), PackedLimits::whole(block));
        let name = "patch_embedder.position_embedding_table.weight";
        let positions = Some(PlaceTable {
            weight: leaves.table(name, side * side, hidden),
            first: 0,
            grid: [side; 2],
            otherwise: Interpolation::LinearInside,
            turned,
        });
        Pictures {
            positions,
            norm: Some(leaves.norm("ln_pre", hidden, around)),
            ..Pictures::new(layout, [channels, patch], projection)
        }
    }));
    tower.build()
}

/// Muse Glimmer.
pub fn muse_glimmer(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let parts = ["muse_glimmer_vision", "muse_glimmer_text"];
    whole(config, parts, describe)
}

/// Muse Spark, without sound.
pub fn muse_spark(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    config.ignore(&["audio_config", "audio_token_id"]);
    let parts = ["muse_spark_vision", "muse_spark_text"];
    whole(config, parts, describe)
}

fn whole(
    config: &Config,
    [vision, text]: [&'static str; 2],
    describe: DescribePart,
) -> Result<Described, SpecError> {
    // Films.
    config.ignore(&["video_token_id"]);
    let vision = given(config, "vision_config", vision)?;
    let text = decoder_config(config, ("text_config", text), Tied::ByWhole)?;
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    tower.ignore(&["model.audio_tower.*"]);
    let side = vision.size(SIDE)?;
    let hidden = text.size("hidden_size")?;
    let width = side * side * tower.width();
    if config.size("out_hidden_size")? != width {
        let expected = format!("{width}, the features of a block");
        return Err(config.invalid("out_hidden_size", expected));
    }
    let inner = config.size("projector_hidden_size")?;
    let activation = config.activation("projector_hidden_act")?;
    let rule = (PictureRows::Blocks { side }, hidden);
    // The norm behind them is the one that the decoder gives all that enters it.
    let projector = Projector::new(&tower, rule, |leaves| {
        let place: &[&str] = &["model."];
        let mut layer =
            |name: &str, shape, activation| dense(leaves, (place, name), shape, false, activation);
        let layers = vec![
            layer("vision_adapter.fc1", [inner, width], activation),
            layer("vision_adapter.fc2", [inner; 2], activation),
            layer("vision_projection", [hidden, inner], Activation::Linear),
        ];
        (None, layers)
    })
    .joined(Joining::ByTurns);
    let token = scattered(config, "image_token_id")?;
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}
