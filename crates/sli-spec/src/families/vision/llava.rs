//! LLaVA (Liu et al. 2023) and what is built like it: rows of a tower through two dense layers.

use super::compose::{Places, Projector, Tied, Tower, behind, decoder_config, dense, scattered};
use super::part::DescribePart;
use crate::{Activation, Config, Described, PictureRows, SpecError};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &[
        "model.vision_tower.",
        "vision_tower.",
        "vision_tower.vision_model.",
        "model.vision_tower.vision_model.",
    ],
    outside: &[],
};

/// Where files have the decoder.
const DECODER: Places = Places {
    base: &["model.language_model.", "language_model.model."],
    outside: &["", "language_model."],
};

/// Where files have what projects.
const PROJECTOR: &[&str] = &["model.multi_modal_projector.", "multi_modal_projector."];

/// LLaVA 1.5.
pub fn llava(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // How many tokens stand for a picture says its processor.
    config.ignore(&[
        "image_seq_length",
        "ignore_index",
        "vocab_size",
        "pad_token_id",
    ]);
    let vision = config.part("vision_config", "clip_vision_model", None, &[])?;
    let text = decoder_config(config, ("text_config", "llama"), Tied::ByEither)?;
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    let front = tower.front();
    tower.end_behind(layers_of(config, tower.layers())?);
    let hidden = text.size("hidden_size")?;
    let bias = config.flag("multimodal_projector_bias")?;
    let activation = config.activation("projector_hidden_act")?;
    let rule = PictureRows::Patches {
        front: selected(config, front)?,
    };
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let (first, second) = ((PROJECTOR, "linear_1"), (PROJECTOR, "linear_2"));
        let layers = vec![
            dense(leaves, first, [hidden, tower.width()], bias, activation),
            dense(leaves, second, [hidden; 2], bias, Activation::Linear),
        ];
        (None, layers)
    });
    let token = scattered(config, "image_token_index")?;
    let decoder = describe(&text)?;
    let parts = [projector];
    behind(config, (&tower, &parts, &[]), (decoder, DECODER, token))
}

/// How many layers of the tower run.
fn layers_of(config: &Config, layers: usize) -> Result<usize, SpecError> {
    const KEY: &str = "vision_feature_layer";
    let expected = || {
        let expected = format!("a whole number from {} to {layers}", -(layers as i64) - 1);
        config.invalid(KEY, expected)
    };
    let number = config.number(KEY)?;
    let behind = if number < 0.0 {
        number + layers as f64 + 1.0
    } else {
        number
    };
    if behind.fract() != 0.0 || !(0.0..=layers as f64).contains(&behind) {
        return Err(expected());
    }
    Ok(behind as usize)
}

/// Rows that are left out of every view: the first one, or none.
fn selected(config: &Config, front: usize) -> Result<usize, SpecError> {
    const KEY: &str = "vision_feature_select_strategy";
    match config.optional_text(KEY)?.as_deref() {
        Some("default") if front == 1 => Ok(1),
        Some("default") => {
            let problem =
                "the tower has no row of a class in front, and the first patch would be left out";
            Err(config.unsupported(KEY, problem))
        }
        Some("full") => Ok(0),
        _ => Err(config.invalid(KEY, "\"default\" or \"full\"")),
    }
}
