//! BLIP (Li et al. 2022): a decoder of captions, each of whose layers attends to what a tower sees of the record's picture.

use super::compose::{Places, Tied, Tower, crossed, decoder_config};
use super::part::DescribePart;
use crate::{Config, Described, SpecError, Task};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_model."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["text_decoder.bert."],
    outside: &["text_decoder."],
};

/// BLIP with its decoder of captions.
pub fn blip(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    if config.class()?.task != Task::CausalLm {
        let problem = "of its classes the one for captions is known, BlipForConditionalGeneration";
        return Err(config.unsupported("architectures", problem));
    }
    // Of the other classes, of training, and of how weights begin.
    config.ignore(&[
        "image_text_hidden_size",
        "initializer_factor",
        "label_smoothing",
        "logit_scale_init_value",
        "projection_dim",
    ]);
    let vision = config.part("vision_config", "blip_vision_model", None, &[])?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let text = decoder_config(config, ("text_config", "blip_text_model"), Tied::ByEither)?;
    // The reference takes the tower's, whatever the file says.
    let text = text.decided("encoder_hidden_size", tower.width().into());
    crossed(config, (&tower, &[]), (describe(&text)?, DECODER))
}
