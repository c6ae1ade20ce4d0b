//! Llama 4 (2025): tiles turned by columns and rows, blocks of patches through an adapter and a projection.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, dense, scattered};
use super::llava::{DECODER, PROJECTOR};
use super::part::DescribePart;
use super::tiles::{decoder, given};
use super::towers::{self, Sizes};
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Names};
use crate::rope::Pairs;
use crate::{Activation, Config, Described, FrontRow, PictureRows, Pictures, SpecError};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_model."],
    outside: &[],
};

/// The names of its layers.
static NAMES: Names = Names {
    layers: "model.layers",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "layernorm_post",
    ..Names::USUAL
};

/// The tower, without the adapter behind it.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    // The class has one activation and one number in its norms, whatever these say; the others are of what stands behind.
    config.ignore(&[
        "hidden_act",
        "norm_eps",
        "multi_modal_projector_bias",
        "projector_dropout",
        "projector_input_dim",
        "projector_output_dim",
        "vision_output_dim",
        "pixel_shuffle_ratio",
        "vision_feature_select_strategy",
        "vision_feature_layer",
    ]);
    let sizes = Sizes::read(config)?;
    let hidden = config.size("hidden_size")?;
    let inner = config.size("intermediate_size")?;
    let style = NormStyle::layer(1e-5);
    let around = Arrangement::pre("input_layernorm", "post_attention_layernorm");
    let mut tower = towers::layers(config, [hidden, inner], style, (&NAMES, around))?;
    tower.gated = false;
    tower.activation = Activation::Gelu;
    let turns = (Pairs::ColumnsFirst, true, towers::theta(config)?);
    towers::turn(config, "num_attention_heads", &mut tower, turns)?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let class = sizes.class(leaves, "class_embedding");
        let pictures = sizes.pictures(leaves, "patch_embedding.linear", false);
        let last = sizes.patches();
        Pictures {
            front: vec![FrontRow {
                position: Some(last),
                ..class
            }],
            front_is_last: true,
            positions: Some(sizes.table_around(leaves, "positional_embedding_vlm", [0, 1])),
            norm: Some(leaves.norm("layernorm_pre", hidden, style)),
            ..pictures
        }
    }));
    tower.build()
}

/// The whole.
pub fn llama4(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // What stands around pictures.
    config.ignore(&["boi_token_index", "eoi_token_index"]);
    let vision = given(config, "vision_config", "llama4_vision_model")?;
    let text = decoder(config, "llama4_text")?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let ratio = vision.positive("pixel_shuffle_ratio")?;
    let side = (1.0 / ratio) as usize;
    let [rows, columns] = tower.grid().unwrap_or_default();
    if side == 0 || 1.0 / side as f64 != ratio || rows != columns || rows % side != 0 {
        let expected = "1 divided by a whole number that divides the rows of patches of a square";
        return Err(vision.invalid("pixel_shuffle_ratio", expected));
    }
    let inner = side * side * tower.width();
    if vision.size("intermediate_size")? != inner {
        let expected = format!("{inner}, the features of a block of patches");
        return Err(vision.invalid("intermediate_size", expected));
    }
    let width = vision.size("projector_output_dim")?;
    for key in ["projector_input_dim", "vision_output_dim"] {
        if vision.size(key)? != width {
            return Err(vision.invalid(key, format!("{width}, as `projector_output_dim`")));
        }
    }
    let hidden = text.size("hidden_size")?;
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let mut layer = |place: &[&str], name: &str, shape, activation| {
            dense(leaves, (place, name), shape, false, activation)
        };
        let gelu = Activation::Gelu;
        let layers = vec![
            layer(TOWER.base, "vision_adapter.mlp.fc1", [width, inner], gelu),
            layer(TOWER.base, "vision_adapter.mlp.fc2", [width; 2], gelu),
            layer(PROJECTOR, "linear_1", [hidden, width], Activation::Linear),
        ];
        (None, layers)
    });
    let token = scattered(config, "image_token_index")?;
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}
