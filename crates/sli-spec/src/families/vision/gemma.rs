//! Decoders of Gemma that see: tokens of pictures, or of what a record is asked, see later ones.

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, norm, scattered, seeing,
};
use super::llava::{DECODER, PROJECTOR, TOWER};
use super::part::DescribePart;
use super::tiles::{decoder, given};
use crate::build::NormStyle;
use crate::{
    Activation, Config, Described, HeadTransform, Joining, Mask, PictureRows, PositionIds, Shard,
    Source, SpecError,
};

/// Gemma 3: means of blocks, normed and projected; the tokens of a picture see all of it.
pub fn gemma3(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let text = decoder(config, "gemma3_text")?;
    means(config, &text, ([TOWER, DECODER], PROJECTOR), describe)
}

/// ShieldGemma 2: Gemma 3 inside of another class.
pub fn shieldgemma2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    const KEY: &str = "text_config";
    // Which logits the class keeps.
    config.ignore(&["yes_token_index", "no_token_index"]);
    if config.value(KEY).is_none() {
        return Err(config.missing(KEY));
    }
    let text = decoder_config(config, (KEY, "gemma3_text"), Tied::ByEither)?;
    let tower = Places {
        base: &[
            "model.vision_tower.",
            "vision_tower.",
            "vision_tower.vision_model.",
            "model.vision_tower.vision_model.",
            "model.model.vision_tower.",
            "model.model.vision_tower.vision_model.",
        ],
        outside: &[],
    };
    let decoder = Places {
        base: &[
            "model.language_model.",
            "language_model.model.",
            "model.language_model.model.",
            "model.model.language_model.",
            "model.model.language_model.model.",
        ],
        outside: &["", "language_model.", "model.", "model.language_model."],
    };
    let projector = &[
        "model.multi_modal_projector.",
        "multi_modal_projector.",
        "model.model.multi_modal_projector.",
    ];
    means(config, &text, ([tower, decoder], projector), describe)
}

/// Gemma 3 of files that have tower, decoder and projector in these places.
fn means(
    config: &Config,
    text: &Config,
    ([tower, decoder], places): ([Places; 2], &'static [&'static str]),
    describe: DescribePart,
) -> Result<Described, SpecError> {
    // What stands around pictures.
    config.ignore(&["boi_token_index", "eoi_token_index"]);
    let vision = given(config, "vision_config", "siglip_vision_model")?;
    let tower = Tower::read(&vision, describe, tower)?;
    let token = scattered(config, "image_token_index")?;
    let tokens = config.size("mm_tokens_per_image")?;
    let [rows, columns] = tower.grid().unwrap_or_default();
    let side = rows / tokens.isqrt();
    if rows != columns || side == 0 {
        let expected = format!("at most {}, in pictures that are squares", rows * rows);
        return Err(config.invalid("mm_tokens_per_image", expected));
    }
    let style = NormStyle {
        plus_one: true,
        ..NormStyle::rms(vision.positive("layer_norm_eps")?)
    };
    let (hidden, width) = (text.size("hidden_size")?, tower.width());
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let norm = norm(leaves, (places, "mm_soft_emb_norm"), width, style);
        let name = "mm_input_projection_weight";
        let stored = places.iter();
        let stored = stored.map(|prefix| Source::tensor(format!("{prefix}{name}")));
        let stored = Source::Transpose(Box::new(Source::one_of(stored.collect())));
        let dense = leaves.linear_of(stored, None, [hidden, width], Shard::Replicate);
        let layer = HeadTransform::plain(dense, Activation::Linear);
        (Some(norm), vec![layer])
    })
    .joined(Joining::Mean);
    let see = |mask: Mask| mask.with_runs(token.token, false);
    let described = seeing(config, describe(text)?, see)?;
    behind(
        config,
        (&tower, &[projector], &[]),
        (described, decoder, token),
    )
}

/// PaliGemma: all patches through one dense layer; tokens of kind 0, with which a record begins, see each other.
pub fn paligemma(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Those of the decoder count, whose tokens see each other as their kinds say.
    config.ignore(&["hidden_size", "vocab_size"]);
    let vision = given(config, "vision_config", "siglip_vision_model")?;
    let text = decoder(config, "gemma")?;
    text.ignore(&["use_bidirectional_attention", "num_image_tokens"]);
    let text = text.decided("use_bidirectional_attention", false.into());
    let tower = Tower::read(&vision, describe, TOWER)?;
    vision.ignore(&["projection_dim", "num_image_tokens", "projector_hidden_act"]);
    let hidden = text.size("hidden_size")?;
    if config.size("projection_dim")? != hidden {
        let expected = format!("{hidden}, as the decoder has");
        return Err(config.invalid("projection_dim", expected));
    }
    let rule = (PictureRows::Patches { front: 0 }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let shape = [hidden, tower.width()];
        let name = (PROJECTOR, "linear");
        let layer = dense(leaves, name, shape, true, Activation::Linear);
        (None, vec![layer])
    });
    let token = scattered(config, "image_token_index")?;
    let mut decoder = seeing(config, describe(&text)?, Mask::with_context)?;
    let specs = std::iter::once(&mut decoder.spec).chain(decoder.untied.as_deref_mut());
    for stack in specs.flat_map(|spec| &mut spec.stacks) {
        stack.positions = PositionIds::OfKinds(0);
    }
    behind(
        config,
        (&tower, &[projector], &[]),
        (decoder, DECODER, token),
    )
}
