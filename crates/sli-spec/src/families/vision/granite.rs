//! Granite Docling (2026): blocks of SigLIP's patches with places of sines and cosines, features of earlier layers, and a decoder
//! whose embeddings are multiplied.

use super::compose::{Places, Projector, Tower, behind, dense, norm, scattered};
use super::part::DescribePart;
use super::qwen::{DEEP, deep_layers};
use super::siglip;
use super::tiles::{blocks, decoder, given};
use crate::build::{Leaves, NormStyle};
use crate::{
    Activation, Config, Described, HeadTransform, Joining, PictureRows, Scattered, SpecError,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["model.vision_model."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model.text_model."],
    outside: &[""],
};

/// Where they have what projects.
const CONNECTOR: &[&str] = &["model.vision_model.connector."];

/// The key of rows and columns of patches that become one.
const SIDE: &str = "scale_factor";

/// The tower: SigLIP's.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["out_hidden_size", SIDE, DEEP, "use_fine_route"]);
    siglip::siglip(config)
}

/// The whole by its coarse path, which is that of every page unless its processor is told otherwise.
pub fn granite_docling(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Which pages take the other path is decided outside of the model's run.
    config.ignore(&[
        "density_router_hidden_size",
        "density_router_loss_weight",
        "density_router_threshold",
        "pad_token_id",
    ]);
    let vision = given(config, "vision_config", "granite_docling_vision")?;
    let text = decoder(config, "granite_docling_text")?;
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    tower.ignore(&["*connector.fine.*", "model.density_router.*", "mtp.*"]);
    let hidden = text.size("hidden_size")?;
    if vision.size("out_hidden_size")? != hidden {
        let expected = format!("{hidden}, as of the decoder");
        return Err(vision.invalid("out_hidden_size", expected));
    }
    if !hidden.is_multiple_of(4) {
        return Err(vision.invalid("out_hidden_size", "a multiple of 4"));
    }
    let side = vision.size(SIDE)?;
    let rule = blocks(&vision, SIDE, &tower, side)?;
    let [rows, columns] = tower.shown_grid();
    let grid = [rows / side, columns / side];
    let inner = side * side * tower.width();
    let usual = NormStyle::layer(1e-5);
    let width = tower.width();
    let first = Projector::new(&tower, (rule, hidden), |leaves| {
        let normed = norm(leaves, (CONNECTOR, "ln_in"), width, usual);
        let name = (CONNECTOR, "coarse.projection");
        let layer = dense(leaves, name, [hidden, inner], false, Activation::Linear);
        (Some(normed), vec![layer])
    })
    .joined(Joining::EachNormed)
    .with_waves(grid)
    .named("blocks");
    let rule = (PictureRows::Made { side }, hidden);
    let second = Projector::behind((1, hidden), rule, |leaves| {
        let normed = norm(leaves, (CONNECTOR, "ln_mid"), hidden, usual);
        let name = (CONNECTOR, "mlp_fc2");
        let layer = HeadTransform {
            norm: Some(norm(leaves, (CONNECTOR, "ln_out"), hidden, usual)),
            ..dense(leaves, name, [hidden; 2], false, Activation::Linear)
        };
        (Some(normed), vec![layer])
    })
    .activated(Activation::Gelu);
    let deep = deep_layers(&vision, tower.layers(), &[3.0, 7.0, 10.0])?;
    if !deep.is_sorted_by(|one, next| one < next) {
        return Err(vision.invalid(DEEP, "layers, each behind the one before"));
    }
    tower.keep_behind(&deep);
    let mut parts = vec![first, second];
    let rule = PictureRows::Blocks { side };
    for number in 0..deep.len() {
        let through = |leaves: &mut Leaves| {
            let name = |part: &str| format!("coarse.deepstack_mergers.{number}.{part}");
            let normed = norm(leaves, (CONNECTOR, &name("layer_norm")), inner, usual);
            let (first, second) = (name("linear_1"), name("linear_2"));
            let layers = vec![
                dense(
                    leaves,
                    (CONNECTOR, &first),
                    [hidden, inner],
                    true,
                    Activation::Gelu,
                ),
                dense(
                    leaves,
                    (CONNECTOR, &second),
                    [hidden; 2],
                    true,
                    Activation::Linear,
                ),
            ];
            (Some(normed), layers)
        };
        parts.push(Projector::of_kept(&tower, number, (rule, hidden), through));
    }
    let added: Vec<usize> = (0..deep.len()).collect();
    let token = Scattered {
        stack: 2,
        is_scaled: true,
        ..scattered(config, "image_token_id")?
    };
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &parts, &added), decoder)
}
