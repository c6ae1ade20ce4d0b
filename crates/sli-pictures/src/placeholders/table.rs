//! The classes of processors: what they say of pictures, and what stands for pictures in their texts.

use serde_json::{Map, Value, json};

use super::expand::{Kinds, Placeholders, made};
use super::given::{Given, patch};
use super::rules::{AnyResolution, Count, Patches, Rule};
use super::tiled::{aya, cohere, idefics3, internvl, lfm2, llama4, ovis2, qianfan, smolvlm};
use super::whole::Whole;
use crate::error::DescriptionError;

/// Settings of pictures that a class decides, by the keys of `processor_config.json`.
type Images = fn(&Map<String, Value>) -> Vec<(&'static str, Value)>;
/// What stands for pictures.
type Read = fn(&Given<'_>) -> Result<Option<Placeholders>, DescriptionError>;

/// A class.
#[derive(Clone, Copy)]
pub struct Row {
    class: &'static str,
    pub images: Images,
    pub placeholders: Read,
}

/// The row of a class.
pub fn row(class: &str) -> Option<Row> {
    ROWS.into_iter().find(|row| row.class == class)
}

/// The names of all classes.
pub fn classes() -> impl Iterator<Item = &'static str> {
    ROWS.into_iter().map(|row| row.class)
}

const fn new(class: &'static str, placeholders: Read) -> Row {
    Row {
        class,
        images: |_| Vec::new(),
        placeholders,
    }
}

const fn with(class: &'static str, images: Images, placeholders: Read) -> Row {
    Row {
        class,
        images,
        placeholders,
    }
}

const ROWS: [Row; 51] = [
    new("AltCLIPProcessor", none),
    with("AriaProcessor", one_square, aria),
    with(
        "AyaVisionProcessor",
        |_| vec![("crop_to_patches", json!(true))],
        aya,
    ),
    new("Blip2Processor", blip_2),
    new("BlipProcessor", none),
    new("CLIPProcessor", none),
    new("ChameleonProcessor", chameleon),
    new("ChineseCLIPProcessor", none),
    new("Cohere2VisionProcessor", cohere),
    new("DeepseekVLProcessor", deepseek),
    new("DonutProcessor", none),
    new("Exaone4_5_Processor", |given| {
        grid(given, "<|image_pad|>", false)
    }),
    with("Gemma3Processor", pan_and_scan, gemma3),
    new("Gemma4Processor", gemma4),
    new("Gemma4UnifiedProcessor", |given| gemma4_of(given, 1)),
    new("GitProcessor", none),
    new("Glm46VProcessor", |given| grid(given, "<|image|>", true)),
    new("Glm4vProcessor", |given| grid(given, "<|image|>", true)),
    new("HyperCLOVAXVisionV2Processor", |given| {
        grid(given, "<|image_pad|>", false)
    }),
    new("IdeficsProcessor", idefics),
    new("Idefics2Processor", idefics2),
    new("Idefics3Processor", idefics3),
    new("InstructBlipProcessor", blip_2),
    with(
        "InternVLProcessor",
        |_| vec![("crop_to_patches", json!(true))],
        internvl,
    ),
    new("JanusProcessor", janus),
    new("Kimi_K25Processor", |given| {
        grid(given, "<|media_pad|>", false)
    }),
    new("Lfm2VlProcessor", lfm2),
    with(
        "LightOnOcrProcessor",
        |_| vec![("do_pad", json!(true))],
        lighton,
    ),
    new("Llama4Processor", llama4),
    new("LlavaNextProcessor", llava_next),
    new("LlavaOnevisionProcessor", llava_onevision),
    new("LlavaProcessor", llava),
    new("MgpstrProcessor", none),
    new("MllamaProcessor", mllama),
    new("Ovis2Processor", ovis2),
    new("OwlViTProcessor", none),
    new("PaddleOCRVLProcessor", |given| {
        grid(given, &given.token("image_token")?, true)
    }),
    new("PaliGemmaProcessor", paligemma),
    with(
        "Pix2StructProcessor",
        |_| vec![("max_patches", json!(2048))],
        none,
    ),
    with("PixtralProcessor", pixtral_patch, pixtral),
    with(
        "QianfanOCRProcessor",
        |_| vec![("crop_to_patches", json!(true))],
        qianfan,
    ),
    new("Qwen2VLProcessor", |given| {
        grid(given, "<|image_pad|>", true)
    }),
    new("Qwen2_5_VLProcessor", |given| {
        grid(given, "<|image_pad|>", true)
    }),
    new("Qwen3VLProcessor", |given| {
        grid(given, "<|image_pad|>", true)
    }),
    new("Siglip2Processor", none),
    new("SiglipProcessor", none),
    new("SmolVLMProcessor", smolvlm),
    new("TrOCRProcessor", none),
    new("VideoLlama3Processor", |given| {
        grid(given, "<|image_pad|>", false)
    }),
    new("VisionTextDualEncoderProcessor", none),
    new("XCLIPProcessor", none),
];

/// Pictures leave no trace in texts.
#[expect(clippy::unnecessary_wraps, reason = "one of the readers")]
fn none(_: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    Ok(None)
}

fn kinds(name: &'static str, token: &str) -> Option<Kinds> {
    let tokens = vec![token.to_owned()];
    Some(Kinds { name, tokens })
}

/// What `vision_feature_select_strategy` leaves out: the first row.
fn less(given: &Given<'_>) -> usize {
    usize::from(given.text("vision_feature_select_strategy").as_deref() == Some("default"))
}

/// The token of a picture where a class has one of `processor_config.json` too.
fn image_token(given: &Given<'_>) -> String {
    let usual = given.text("image_token");
    given.token_or("image_token", usual.as_deref().unwrap_or("<image>"))
}

fn blip_2(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token_or("image_token", "<image>");
    let count = given.needed("num_query_tokens")?;
    let rule = Rule::Times {
        token: token.clone(),
        count: Count::Fixed(count),
    };
    Ok(Some(Placeholders {
        token,
        rule,
        whole: Whole::Front { count },
        kinds: None,
    }))
}

fn llava(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = image_token(given);
    let count = Count::Patches {
        patch: patch(given, None)?,
        more: given.count("num_additional_image_tokens")?.unwrap_or(0),
        less: less(given),
    };
    made(token.clone(), Rule::Times { token, count })
}

fn any_resolution(
    given: &Given<'_>,
    rule: AnyResolution,
) -> Result<Option<Placeholders>, DescriptionError> {
    let token = image_token(given);
    let count = Count::AnyResolution(rule);
    made(token.clone(), Rule::Times { token, count })
}

fn llava_next(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    any_resolution(
        given,
        AnyResolution {
            resolutions: crate::ways::anyres::resolutions(given.images)?,
            patches: Patches::Pixels(patch(given, None)?),
            more: given.count("num_additional_image_tokens")?.unwrap_or(0),
            less: less(given),
            most: None,
        },
    )
}

fn llava_onevision(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    const RATIO: &str = "vision_aspect_ratio";
    let ratio = given.text(RATIO).unwrap_or_else(|| "anyres_max_9".into());
    let most = ratio
        .trim_matches(|letter| "anyres_max_".contains(letter))
        .parse::<u32>();
    let most = most.ok().filter(|&most| most > 0);
    any_resolution(
        given,
        AnyResolution {
            resolutions: crate::ways::anyres::resolutions(given.images)?,
            patches: Patches::Whole(given.needed("num_image_tokens")?),
            more: 0,
            less: less(given),
            most: Some(
                most.ok_or_else(|| given.refused(RATIO, "`anyres_max_` and a number is wanted"))?,
            ),
        },
    )
}

/// Qwen2-VL's and what came of it.
fn grid(
    given: &Given<'_>,
    usual: &str,
    is_told: bool,
) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token_or("image_token", usual);
    let merge = u64::from(given.images.few("merge_size")?);
    let count = Count::Merged(merge * merge);
    let rule = Rule::Times {
        token: token.clone(),
        count,
    };
    Ok(Some(Placeholders {
        kinds: is_told
            .then(|| kinds("mm_token_type_ids", &token))
            .flatten(),
        token,
        rule,
        whole: Whole::Same,
    }))
}

fn fixed(start: String, token: &str, count: usize, end: String) -> Rule {
    Rule::Between {
        start,
        view: token.to_owned(),
        view_end: String::new(),
        count: Count::Fixed(count),
        end,
    }
}

fn janus(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    if given.keys.get("use_default_system_prompt") == Some(&json!(true)) {
        let problem = "give the system prompt with the text, and switch it off";
        return Err(given.refused("use_default_system_prompt", problem));
    }
    let token = given.token("image_token")?;
    let count = given.count("num_image_tokens")?.unwrap_or(576);
    let rule = fixed(
        given.token("boi_token")?,
        &token,
        count,
        given.token("eoi_token")?,
    );
    made(token, rule)
}

fn deepseek(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token("image_token")?;
    let count = Count::Fixed(given.count("num_image_tokens")?.unwrap_or(576));
    made(token.clone(), Rule::Times { token, count })
}

fn chameleon(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = image_token(given);
    let count = given.count("image_seq_length")?.unwrap_or(1024);
    let (start, end) = (
        given.token_or("boi_token", "<racm3:break>"),
        given.token_or("eoi_token", "<eoss>"),
    );
    Ok(Some(Placeholders {
        rule: fixed(start, &token, count, end),
        token,
        whole: Whole::End {
            end: given.token("sep_token")?,
        },
        kinds: None,
    }))
}

/// What the class of Gemma 3 says of parts, whatever the files say.
fn pan_and_scan(_: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    vec![
        ("do_convert_rgb", json!(true)),
        ("do_pan_and_scan", json!(false)),
        ("pan_and_scan_min_crop_size", json!(256)),
        ("pan_and_scan_max_num_crops", json!(4)),
        ("pan_and_scan_min_ratio_to_activate", json!(1.2)),
    ]
}

fn gemma3(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let (begin, end, token) = (
        given.token("boi_token")?,
        given.token("eoi_token")?,
        given.token("image_token")?,
    );
    let count = given.count("image_seq_length")?.unwrap_or(256);
    if token.len().saturating_mul(count) > 1 << 20 {
        return Err(given.refused("image_seq_length", "it is too large"));
    }
    let whole = format!("\n\n{begin}{}{end}\n\n", token.repeat(count));
    Ok(Some(Placeholders {
        token: begin,
        rule: Rule::Parts(whole),
        whole: Whole::Same,
        kinds: kinds("token_type_ids", &token),
    }))
}

fn gemma4(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let pooled = u64::from(given.images.few("pooling_kernel_size")?);
    gemma4_of(given, pooled * pooled)
}

/// Gemma 4's, of so many patches a token.
fn gemma4_of(given: &Given<'_>, square: u64) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token("image_token")?;
    let rule = Rule::Between {
        start: given.token("boi_token")?,
        view: token.clone(),
        view_end: String::new(),
        count: Count::Merged(square),
        end: given.token("eoi_token")?,
    };
    Ok(Some(Placeholders {
        kinds: kinds("mm_token_type_ids", &token),
        token,
        rule,
        whole: Whole::Same,
    }))
}

fn idefics(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    // The class writes its tokens out.
    let token = "<image>".to_owned();
    let whole = Whole::Interleaved {
        begin: given.token("bos_token")?,
        fake: "<fake_token_around_image>".into(),
        end: given.token("eos_token")?,
    };
    let count = Count::Fixed(1);
    Ok(Some(Placeholders {
        rule: Rule::Times {
            token: token.clone(),
            count,
        },
        token,
        whole,
        kinds: None,
    }))
}

fn idefics2(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let (token, fake) = match (given.named)("image_token") {
        Some(token) => (token, given.token("image_boundary_token")?),
        None => ("<image>".to_owned(), "<fake_token_around_image>".to_owned()),
    };
    let count = given.count("image_seq_len")?.unwrap_or(64);
    // A picture that is split is five.
    let rule = Rule::Between {
        start: fake.clone(),
        view: token.clone(),
        view_end: fake.clone(),
        count: Count::Fixed(count),
        end: String::new(),
    };
    Ok(Some(Placeholders {
        token,
        rule,
        whole: Whole::Fake { fake },
        kinds: None,
    }))
}

fn mllama(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token_or("image_token", "<|image|>");
    let rule = Rule::Times {
        token: token.clone(),
        count: Count::Fixed(1),
    };
    Ok(Some(Placeholders {
        token,
        rule,
        whole: Whole::Begin {
            begin: given.token("bos_token")?,
        },
        kinds: None,
    }))
}

fn paligemma(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let token = given.token_or("image_token", "<image>");
    let count = given.images.count("image_seq_length")? as usize;
    let rule = Rule::Times {
        token: token.clone(),
        count: Count::Fixed(count),
    };
    Ok(Some(Placeholders {
        token,
        rule,
        whole: Whole::Prefix {
            begin: given.token("bos_token")?,
        },
        kinds: None,
    }))
}

/// What the class of Aria says, whatever the files say.
fn one_square(_: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    vec![
        ("max_image_size", json!(980)),
        ("split_image", json!(false)),
    ]
}

fn aria(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    const SIZES: &str = "size_conversion";
    let token = given.token("image_token")?;
    let side = given.images.count("max_image_size")?;
    let usual = if side == 490 { 128 } else { 256 };
    let count = match given.keys.get(SIZES).filter(|sizes| !sizes.is_null()) {
        None => Some(usual),
        Some(sizes) => sizes[side.to_string()]
            .as_u64()
            .filter(|&count| count < 1 << 20),
    };
    let count =
        count.ok_or_else(|| given.refused(SIZES, "it does not say the tokens of a picture"))?;
    let count = Count::Fixed(count as usize);
    made(token.clone(), Rule::Times { token, count })
}

/// One token for each square of patches, without breaks.
fn lighton(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let side =
        patch(given, Some(14))?.checked_mul(given.count("spatial_merge_size")?.unwrap_or(2) as u32);
    let token = given.token("image_token")?;
    let count = Count::Patches {
        patch: side
            .filter(|&side| side > 0)
            .ok_or_else(|| given.refused("spatial_merge_size", "it is 0 or too large"))?,
        more: 0,
        less: 0,
    };
    made(token.clone(), Rule::Times { token, count })
}

fn pixtral_patch(keys: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    vec![("patch_size", json!(pixtral_side(keys)))]
}

/// Pixels of the side that becomes a row of the model.
fn pixtral_side(keys: &Map<String, Value>) -> u64 {
    let count = |key: &str, usual| keys.get(key).and_then(Value::as_u64).unwrap_or(usual);
    count("patch_size", 16).saturating_mul(count("spatial_merge_size", 1))
}

fn pixtral(given: &Given<'_>) -> Result<Option<Placeholders>, DescriptionError> {
    let side = u32::try_from(pixtral_side(given.keys))
        .ok()
        .filter(|&side| side > 0);
    let text = |key: &str, usual: &str| given.text(key).unwrap_or_else(|| usual.to_owned());
    let token = text("image_token", "[IMG]");
    let rule = Rule::Breaks {
        token: token.clone(),
        line: text("image_break_token", "[IMG_BREAK]"),
        end: text("image_end_token", "[IMG_END]"),
        patch: side.ok_or_else(|| given.refused("patch_size", "it is 0 or too large"))?,
    };
    made(token, rule)
}
