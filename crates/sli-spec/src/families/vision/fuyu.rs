//! Fuyu (Bavishi et al. 2023): patches of pictures as they are projected, in front of Persimmon.

use super::compose::{Places, Projector, Tower, behind, scattered, spelled};
use super::part::DescribePart;
use super::tiles::decoder;
use crate::build::Leaves;
use crate::{Config, Described, PictureLayout, PictureRows, Pictures, Shard, SpecError};

/// Where files have the decoder.
const DECODER: Places = Places {
    base: &["language_model.model.", "model.language_model."],
    outside: &["language_model.", ""],
};

/// Fuyu.
pub fn fuyu(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // How large pictures are made before they come here.
    config.ignore(&["image_size"]);
    let text = decoder(config, "persimmon")?;
    let hidden = text.size("hidden_size")?;
    let [channels, patch] = [config.size("num_channels")?, config.size("patch_size")?];
    let mut leaves = Leaves::new("");
    let places = ["vision_embed_tokens.", "model.vision_embed_tokens."];
    let stored = |part: &str| spelled(&places, part);
    let shape = [hidden, channels * patch * patch];
    let (weight, bias) = (stored("weight"), stored("bias"));
    let projection = leaves.linear_of(weight, Some(bias), shape, Shard::Replicate);
    let tower = Tower::bare(Pictures {
        leaves: leaves.finish(),
        ..Pictures::new(
            PictureLayout::Rows {
                name: "pixel_values",
            },
            [channels, patch],
            projection,
        )
    });
    let rule = PictureRows::Patches { front: 0 };
    let projector = Projector::new(&tower, (rule, hidden), |_| (None, Vec::new()));
    let token = scattered(config, "image_token_id")?;
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}
