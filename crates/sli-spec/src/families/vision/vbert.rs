//! Encoders of texts that see: blocks of SigLIP's patches through one projection, in the place of a token (Teiletche et al. 2025).

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, norm, scattered,
    spelled_otherwise,
};
use super::part::DescribePart;
use super::tiles::{blocks, given};
use crate::build::NormStyle;
use crate::{Activation, BesidePlanes, Config, Described, HeadTransform, Source, SpecError};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["model.vision_model."],
    outside: &[],
};

/// Where they have the encoder.
const TEXT: Places = Places {
    base: &["model.text_model."],
    outside: &[""],
};

/// Where they have what projects.
const CONNECTOR: &[&str] = &["model.connector."];

/// `ModernVBERT`: `ModernBERT` behind SigLIP.
pub fn modernvbert(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let spelled: fn(&str) -> Vec<String> = |name| {
        if name.starts_with("decoder.") {
            vec![name.replacen("decoder.", "lm_head.", 1)]
        } else if name.starts_with("head.") {
            // The class that predicts tokens has another name for it than the one for classes.
            vec![format!("projection_{name}"), name.to_owned()]
        } else {
            vec![name.to_owned()]
        }
    };
    seeing(config, ("modernbert", spelled), None, describe)
}

/// `UltraVBERT`: `UltraBERT` behind SigLIP and a norm.
pub fn ultravbert(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let spelled: fn(&str) -> Vec<String> = |name| {
        if name.starts_with("cls.") {
            let names = ["head.decoder.", "lm_head."];
            names.map(|own| name.replacen("cls.", own, 1)).to_vec()
        } else if name.starts_with("head.") {
            vec![name.to_owned(), format!("projection_{name}")]
        } else {
            vec![name.to_owned()]
        }
    };
    let normed = Some("rms_norm_eps");
    seeing(config, ("ultrabert", spelled), normed, describe)
}

/// An encoder of this type, by these names outside of its base, behind SigLIP; what projects is normed where a key says how.
fn seeing(
    config: &Config,
    (text, spelled): (&'static str, fn(&str) -> Vec<String>),
    normed: Option<&str>,
    describe: DescribePart,
) -> Result<Described, SpecError> {
    const FACTOR: &str = "pixel_shuffle_factor";
    // How weights begin.
    config.ignore(&["initializer_cutoff_factor"]);
    // The part says it of its head.
    if config.declares("classifier_bias") {
        config.ignore(&["classifier_bias"]);
    }
    let vision = given(config, "vision_config", "siglip_vision_model")?;
    if config.value("text_config").is_none() {
        return Err(config.missing("text_config"));
    }
    let mut text = decoder_config(config, ("text_config", text), Tied::ByWhole)?;
    // The whole says what stands for a record and which classes there are.
    for key in ["classifier_pooling", "id2label", "num_labels"] {
        if let Some(value) = config.value(key) {
            text = text.decided(key, value.clone());
        }
    }
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    tower.set_beside(BesidePlanes::Mask {
        name: "pixel_attention_mask",
    });
    let side = config.size(FACTOR)?;
    let rule = blocks(config, FACTOR, &tower, side)?;
    let hidden = text.size("hidden_size")?;
    let inner = side * side * tower.width();
    let style = normed
        .map(|key| Ok(NormStyle::rms(text.positive(key)?)))
        .transpose()?;
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let name = (CONNECTOR, "modality_projection");
        let layer = HeadTransform {
            norm: style.map(|style| norm(leaves, (CONNECTOR, "norm"), hidden, style)),
            ..dense(leaves, name, [hidden, inner], false, Activation::Linear)
        };
        (None, vec![layer])
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = spelled_otherwise(describe(&text)?, &|name| {
        let names = spelled(name).into_iter().map(Source::tensor);
        Source::one_of(names.collect())
    });
    behind(config, (&tower, &[projector], &[]), (decoder, TEXT, token))
}
