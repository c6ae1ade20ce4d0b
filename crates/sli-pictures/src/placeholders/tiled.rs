//! What stands for pictures that are divided into tiles.

use super::expand::{Placeholders, made};
use super::given::{Given, patch};
use super::rules::{Count, Rule};
use super::whole::Whole;
use crate::error::DescriptionError;

pub fn idefics3(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = "<image>".to_owned();
    let rule = Rule::Rows {
        fake: "<fake_token_around_image>".into(),
        global: "<global-img>".into(),
        token: token.clone(),
        count: given.count("image_seq_len")?.unwrap_or(169),
    };
    made(token, rule)
}

pub fn smolvlm(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token_or("image_token", "<image>");
    let rule = Rule::Rows {
        fake: given.token_or("fake_image_token", "<fake_token_around_image>"),
        global: given.token_or("global_image_token", "<global-img>"),
        token: token.clone(),
        count: given.count("image_seq_len")?.unwrap_or(169),
    };
    made(token, rule)
}

pub fn aya(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let text = |key: &str, usual: &str| given.text(key).unwrap_or_else(|| usual.to_owned());
    let side =
        patch(given, Some(28))? as usize * given.count("downsample_factor")?.unwrap_or(1).max(1);
    let patches = given.count("img_size")?.unwrap_or(364) / side;
    let rule = Rule::Numbered {
        start: text("start_of_img_token", "<|START_OF_IMG|>"),
        tile: text("tile_token", "TILE"),
        global: text("tile_global_token", "TILE_GLOBAL"),
        token: text("img_patch_token", "<|IMG_PATCH|>"),
        count: patches.saturating_mul(patches),
        end: text("end_of_img_token", "<|END_OF_IMG|>"),
    };
    made(text("image_token", "<image>"), rule)
}

pub fn cohere(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let side = given.images.number("patch_size")?.unwrap_or(16.0);
    let token = given.token("image_token")?;
    let rule = Rule::Between {
        start: given.token("boi_token")?,
        view: token.clone(),
        view_end: given.token("img_line_break_token")?,
        count: Count::Fixed((side * side) as usize),
        end: given.token("eoi_token")?,
    };
    made(token, rule)
}

pub fn llama4(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    const RATIO: &str = "pixel_shuffle_ratio";
    let ratio = match given.keys.get(RATIO) {
        None => 0.5,
        Some(value) => value.as_f64().unwrap_or(0.0),
    };
    let ratio = (1.0 / (ratio * ratio)).round_ties_even();
    if !(1.0..1e6).contains(&ratio) {
        return Err(given.refused(RATIO, "a number above 0, 1 at most, is wanted"));
    }
    let rule = Rule::Separated {
        patch: patch(given, Some(14))?,
        ratio: ratio as u64,
    };
    made(
        given
            .text("image_token")
            .unwrap_or_else(|| "<|image|>".into()),
        rule,
    )
}

pub fn ovis2(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let count = given.count("image_seq_length")?.unwrap_or(256);
    made("<image>".into(), Rule::Grid(count))
}

pub fn internvl(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token("context_image_token")?;
    let rule = Rule::Between {
        start: given.token("start_image_token")?,
        view: token.clone(),
        view_end: String::new(),
        count: Count::Views(given.count("image_seq_length")?.unwrap_or(256)),
        end: given.token("end_image_token")?,
    };
    made(token, rule)
}

pub fn qianfan(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let placeholder = given.text("image_placeholder_token");
    let made = internvl(given)?.map(|own| Placeholders {
        token: placeholder.unwrap_or_else(|| "<image>".into()),
        ..own
    });
    Ok(made)
}

pub fn lfm2(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token_or("image_token", "<image>");
    let usual = |name: &str, usual: &str| given.token_or(name, usual);
    let marks = [
        usual("image_start_token", "<|image_start|>"),
        usual("image_thumbnail_token", "<|img_thumbnail|>"),
        usual("image_end_token", "<|image_end|>"),
    ];
    let is_marked = given.keys.get("use_image_special_tokens") != Some(&serde_json::json!(false));
    let rule = Rule::Views {
        token: token.clone(),
        marks: is_marked.then_some(marks),
        patch: given.images.few("encoder_patch_size")?,
        merge: given.images.few("downsample_factor")?,
        shows_whole: given.images.switch("use_thumbnail")?,
    };
    Ok(Some(Placeholders {
        token,
        rule,
        whole: Whole::Bare,
        kinds: None,
    }))
}
