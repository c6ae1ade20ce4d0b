//! Towers of tiles of one size: blocks of patches side by side, through dense layers, in the place of a token.

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, norm, scattered,
};
use super::llava::{DECODER, PROJECTOR, TOWER, end_where_seen, selected};
use super::part::DescribePart;
use super::towers;
use crate::build::NormStyle;
use crate::{Activation, BesidePlanes, Config, Described, HeadTransform, PictureRows, SpecError};

/// Where Idefics 3's and DeepSeek-VL's files have the tower.
const VISION_MODEL: Places = Places {
    base: &["model.vision_model."],
    outside: &[],
};

/// Where Idefics 3's have the decoder.
const TEXT_MODEL: Places = Places {
    base: &["model.text_model."],
    outside: &[""],
};

/// Where DeepSeek-VL's have it.
const LANGUAGE_MODEL: Places = Places {
    base: &["model.language_model."],
    outside: &[""],
};

/// What models of InternViT differ in.
struct Intern {
    /// The types of tower and decoder that a file says no types of.
    parts: [&'static str; 2],
    tower: Places,
    decoder: Places,
    /// What projects: a norm and two dense layers.
    projector: (&'static [&'static str], [&'static str; 3]),
}

/// InternVL.
pub fn internvl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Intern {
        parts: ["internvl_vision", "qwen2"],
        tower: TOWER,
        decoder: DECODER,
        projector: (PROJECTOR, ["layer_norm", "linear_1", "linear_2"]),
    };
    intern(config, &whole, describe)
}

/// Qianfan-OCR.
pub fn qianfan_ocr(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Intern {
        parts: ["qianfan_ocr_vision", "qwen3"],
        tower: Places {
            base: &["vision_model."],
            outside: &[],
        },
        decoder: Places {
            // As it is published, and as the reference writes it.
            base: &["language_model.model.", "language_model.model.encoder."],
            outside: &["language_model."],
        },
        projector: (&["mlp1."], ["0", "1", "3"]),
    };
    intern(config, &whole, describe)
}

/// InternVL as its own code has it (Chen et al. 2023 and later).
pub fn internvl_chat(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    const TOKEN: &str = "img_context_token_id";
    const KEY: &str = "select_layer";
    const LLM: &str = "llm_config";
    // How pictures become tiles, and what was trained.
    config.ignore(&[
        "dynamic_image_size",
        "max_dynamic_patch",
        "min_dynamic_patch",
        "pad2square",
        "template",
        "use_thumbnail",
    ]);
    for key in ["use_backbone_lora", "use_llm_lora"] {
        config.neutral(
            key,
            &[0.into()],
            "adapters beside the weights are not known here",
        )?;
    }
    let reason = "blocks column by column are not known here";
    config.neutral("ps_version", &["v2".into()], reason)?;
    let vision = given(config, "vision_config", "intern_vit_6b")?;
    let vision = match config.value(towers::FORCED) {
        Some(size) => vision.decided(towers::FORCED, size.clone()),
        None => vision,
    };
    if config.value(LLM).is_none() {
        return Err(config.missing(LLM));
    }
    let text = decoder_config(config, (LLM, "internlm2"), Tied::ByEither)?;
    let places = Places {
        base: &["vision_model."],
        outside: &[],
    };
    let mut tower = Tower::read(&vision, describe, places)?;
    let layers = tower.layers();
    let layer = config.number(KEY)?;
    let behind_layer = layer
        + if layer < 0.0 {
            layers as f64 + 1.0
        } else {
            0.0
        };
    if behind_layer.fract() != 0.0 || !(0.0..=layers as f64).contains(&behind_layer) {
        let expected = format!("a whole number from {} to {layers}", -(layers as i64) - 1);
        return Err(config.invalid(KEY, expected));
    }
    tower.end_behind(behind_layer as usize);
    let [rows, columns] = tower.shown_grid();
    let ratio = config.positive("downsample_ratio")?;
    let side = (1.0 / ratio) as usize;
    if side == 0 || 1.0 / side as f64 != ratio || rows != columns || rows % side != 0 {
        let expected = "1 divided by a whole number that divides the rows of patches of a square";
        return Err(config.invalid("downsample_ratio", expected));
    }
    let hidden = text.size("hidden_size")?;
    let inner = side * side * tower.width();
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let place: &[&str] = &["mlp1."];
        let norm = norm(leaves, (place, "0"), inner, NormStyle::layer(1e-5));
        let (first, second) = ((place, "1"), (place, "3"));
        let layers = vec![
            dense(leaves, first, [hidden, inner], true, Activation::Gelu),
            dense(leaves, second, [hidden; 2], true, Activation::Linear),
        ];
        (Some(norm), layers)
    });
    // Published files leave it to the tokenizer.
    if config.value(TOKEN).is_none() {
        let problem =
            "the id of <IMG_CONTEXT> stands in the tokenizer alone: add it to config.json";
        return Err(config.unsupported(TOKEN, problem));
    }
    let token = scattered(config, TOKEN)?;
    let places = Places {
        base: &["language_model.model."],
        outside: &["language_model."],
    };
    let decoder = (describe(&text)?, places, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// Blocks of a tower's end through a norm and two dense layers.
fn intern(config: &Config, whole: &Intern, describe: DescribePart) -> Result<Described, SpecError> {
    config.ignore(&["image_seq_length"]);
    let vision = given(config, "vision_config", whole.parts[0])?;
    let text = decoder(config, whole.parts[1])?;
    let mut tower = Tower::read(&vision, describe, whole.tower)?;
    let front = selected(config, tower.front())?;
    if front != tower.front() {
        let problem = "rows of a class do not make a square with the patches";
        return Err(config.unsupported("vision_feature_select_strategy", problem));
    }
    // The last number means the tower's end, with its norm.
    if config.optional_number("vision_feature_layer")? != Some(-1.0) {
        one_layer(config, &mut tower)?;
    }
    let ratio = config.positive("downsample_ratio")?;
    let side = (1.0 / ratio) as usize;
    if side == 0 || 1.0 / side as f64 != ratio {
        return Err(config.invalid("downsample_ratio", "1 divided by a whole number"));
    }
    let rule = blocks(config, "downsample_ratio", &tower, side)?;
    let hidden = text.size("hidden_size")?;
    let inner = side * side * tower.width();
    let activation = config.activation("projector_hidden_act")?;
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let (places, [normed, first, second]) = whole.projector;
        let norm = norm(leaves, (places, normed), inner, NormStyle::layer(1e-5));
        let (first, second) = ((places, first), (places, second));
        let layers = vec![
            dense(leaves, first, [hidden, inner], true, activation),
            dense(leaves, second, [hidden; 2], true, Activation::Linear),
        ];
        (Some(norm), layers)
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = describe(&text)?;
    behind(
        config,
        (&tower, &[projector], &[]),
        (decoder, whole.decoder, token),
    )
}

/// Idefics 3 and SmolVLM.
pub fn idefics3(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    config.ignore(&["pad_token_id", "_pad_token_id", "vocab_size"]);
    let vision = given(config, "vision_config", "idefics3_vision")?;
    let text = decoder(config, "llama")?;
    let mut tower = Tower::read(&vision, describe, VISION_MODEL)?;
    tower.set_beside(BesidePlanes::Mask {
        name: "pixel_attention_mask",
    });
    let side = config.size("scale_factor")?;
    let rule = blocks(config, "scale_factor", &tower, side)?;
    let hidden = text.size("hidden_size")?;
    let inner = side * side * tower.width();
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let place: &[&str] = &["model.connector."];
        let name = (place, "modality_projection.proj");
        let shape = [hidden, inner];
        (
            None,
            vec![dense(leaves, name, shape, false, Activation::Linear)],
        )
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = describe(&text)?;
    let decoder = (decoder, TEXT_MODEL, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// Aya Vision.
pub fn aya_vision(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = given(config, "vision_config", "siglip_vision_model")?;
    // The head of the whole scales nothing.
    let text = decoder(config, "cohere2")?.decided("logit_scale", 1.0.into());
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    if selected(config, tower.front())? != tower.front() {
        let problem = "rows of a class do not make a square with the patches";
        return Err(config.unsupported("vision_feature_select_strategy", problem));
    }
    one_layer(config, &mut tower)?;
    let style = NormStyle::layer(config.positive("adapter_layer_norm_eps")?);
    // A key that the class does not have.
    let inner = match config.optional_size("alignment_intermediate_size")? {
        Some(inner) => inner,
        None => text.size("hidden_size")?,
    };
    let token = scattered(config, "image_token_index")?;
    gated(
        config,
        (&tower, &text),
        (inner, Some(style)),
        describe,
        token,
    )
}

/// Command A Vision.
pub fn cohere2_vision(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = given(config, "vision_config", "siglip_vision_model")?;
    // The head of the whole scales nothing.
    let text = decoder(config, "cohere2")?.decided("logit_scale", 1.0.into());
    let tower = Tower::read(&vision, describe, TOWER)?;
    let inner = config.size("alignment_intermediate_size")?;
    let token = scattered(config, "image_token_id")?;
    gated(config, (&tower, &text), (inner, None), describe, token)
}

/// Blocks through a norm, a gated layer of so many features and a dense one.
fn gated(
    config: &Config,
    (tower, text): (&Tower, &Config),
    (inner, style): (usize, Option<NormStyle>),
    describe: DescribePart,
    token: crate::Scattered,
) -> Result<Described, SpecError> {
    let side = config.size("downsample_factor")?;
    let rule = blocks(config, "downsample_factor", tower, side)?;
    if inner % 2 != 0 {
        return Err(config.invalid("alignment_intermediate_size", "an even number"));
    }
    let hidden = text.size("hidden_size")?;
    let width = side * side * tower.width();
    let projector = Projector::new(tower, (rule, hidden), |leaves| {
        let norm = style.map(|style| norm(leaves, (PROJECTOR, "layernorm"), width, style));
        let (first, second) = ((PROJECTOR, "linear_1"), (PROJECTOR, "linear_2"));
        let first = HeadTransform {
            gated: true,
            ..dense(leaves, first, [inner, width], true, Activation::Silu)
        };
        let shape = [hidden, inner / 2];
        let second = dense(leaves, second, shape, true, Activation::Linear);
        (norm, vec![first, second])
    });
    let decoder = describe(text)?;
    behind(
        config,
        (tower, &[projector], &[]),
        (decoder, DECODER, token),
    )
}

/// DeepSeek-VL: all patches through two dense layers.
pub fn deepseek_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = given(config, "vision_config", "siglip_vision_model")?;
    let text = decoder(config, "llama")?;
    let tower = Tower::read(&vision, describe, VISION_MODEL)?;
    let hidden = text.size("hidden_size")?;
    let rule = PictureRows::Patches { front: 0 };
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let place: &[&str] = &["model.aligner."];
        let shape = [hidden, tower.width()];
        let layers = vec![
            dense(leaves, (place, "linear1"), shape, true, Activation::Gelu),
            dense(
                leaves,
                (place, "linear2"),
                [hidden; 2],
                true,
                Activation::Linear,
            ),
        ];
        (None, layers)
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = describe(&text)?;
    let decoder = (decoder, LANGUAGE_MODEL, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// Janus, as far as it reads pictures: all patches through a dense layer and others with an activation in front.
pub fn janus(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // What draws pictures.
    config.ignore(&["vq_config"]);
    let vision = given(config, "vision_config", "janus_vision_model")?;
    let text = decoder(config, "llama")?;
    let mut tower = Tower::read(&vision, describe, VISION_MODEL)?;
    tower.ignore(&["model.vqmodel.*", "model.generation_*"]);
    let hidden = text.size("hidden_size")?;
    if vision.size("projection_dim")? != hidden {
        let expected = format!("{hidden}, as of the decoder");
        return Err(vision.invalid("projection_dim", expected));
    }
    let depth = vision.size("depth")?;
    let activation = vision.activation("hidden_act")?;
    let rule = PictureRows::Patches { front: 0 };
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let place: &[&str] = &["model.aligner."];
        let layers = (0..depth).map(|number| {
            let (name, inner) = match number.checked_sub(1) {
                None => ("fc1".to_owned(), tower.width()),
                Some(number) => (format!("hidden_layers.{number}"), hidden),
            };
            let activation = if number + 1 < depth {
                activation
            } else {
                Activation::Linear
            };
            dense(leaves, (place, &name), [hidden, inner], true, activation)
        });
        (None, layers.collect())
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = describe(&text)?;
    let decoder = (decoder, LANGUAGE_MODEL, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// Ends the tower behind the one layer whose features are taken.
pub(super) fn one_layer(config: &Config, tower: &mut Tower) -> Result<(), SpecError> {
    let width = tower.width();
    if end_where_seen(config, tower)? != width {
        let problem = "features of several layers do not fit what stands behind them";
        return Err(config.unsupported("vision_feature_layer", problem));
    }
    Ok(())
}

/// Blocks of a square of patches, in whole numbers.
pub(super) fn blocks(
    config: &Config,
    key: &str,
    tower: &Tower,
    side: usize,
) -> Result<PictureRows, SpecError> {
    let [rows, columns] = tower.grid().unwrap_or_default();
    if rows != columns {
        let problem = "blocks are of pictures that are squares";
        return Err(config.unsupported("vision_config", problem));
    }
    if rows % side != 0 {
        return Err(config.invalid(
            key,
            format!("blocks that {rows} rows of patches divide into"),
        ));
    }
    Ok(PictureRows::Blocks { side })
}

/// A part that the file must have: the type assumes other sizes for it than the part's own type does.
pub(super) fn given(config: &Config, key: &str, usual: &str) -> Result<Config, SpecError> {
    if config.value(key).is_none() {
        return Err(config.missing(key));
    }
    config.part(key, usual, None, &[])
}

/// The decoder, which the file must have.
pub(super) fn decoder(config: &Config, usual: &str) -> Result<Config, SpecError> {
    const KEY: &str = "text_config";
    if config.value(KEY).is_none() {
        return Err(config.missing(KEY));
    }
    decoder_config(config, (KEY, usual), Tied::ByWhole)
}
