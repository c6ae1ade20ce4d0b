//! LLaVA (Liu et al. 2023) and what is built like it: rows of a tower through two dense layers.

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, norm, scattered,
};
use super::part::DescribePart;
use crate::build::{Leaves, NormStyle};
use crate::{
    Activation, BesidePlanes, Config, Described, HeadTransform, PictureRows, Scattered, Source,
    SpecError, Tiling,
};

/// Where files have the tower.
pub(super) const TOWER: Places = Places {
    base: &[
        "model.vision_tower.",
        "vision_tower.",
        "vision_tower.vision_model.",
        "model.vision_tower.vision_model.",
    ],
    outside: &[],
};

/// Where files have the decoder.
pub(super) const DECODER: Places = Places {
    base: &["model.language_model.", "language_model.model."],
    outside: &["", "language_model."],
};

/// Where files have what projects.
pub(super) const PROJECTOR: &[&str] = &["model.multi_modal_projector.", "multi_modal_projector."];

/// What tower and decoder are where the file does not say it.
const USUAL: [&str; 2] = ["clip_vision_model", "llama"];

/// LLaVA 1.5.
pub fn llava(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let parts = Parts::read(config, USUAL, describe, Tied::ByEither)?;
    let rule = PictureRows::Patches { front: parts.front };
    let layers = two_layers(config, &parts)?;
    let projector = Projector::of_all(&parts.tower, (rule, parts.hidden), |leaves| {
        (None, layers(leaves))
    });
    parts.finish(config, projector, describe)
}

/// LLaVA-NeXT: pictures are cut to tiles.
pub fn llava_next(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    tiled(config, None, Tied::ByWhole, describe)
}

/// LLaVA-NeXT-Video, as far as it sees pictures.
pub fn llava_next_video(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    config.ignore(&[
        "spatial_pool_mode",
        "spatial_pool_stride",
        "video_seq_length",
        "video_token_index",
    ]);
    tiled(config, None, Tied::ByEither, describe)
}

/// Video-LLaVA, as far as it sees pictures: films have a tower of their own.
pub fn video_llava(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    const TOWER: Places = Places {
        base: &[
            "model.image_tower.",
            "image_tower.",
            "image_tower.vision_model.",
            "model.image_tower.vision_model.",
        ],
        outside: &[],
    };
    config.ignore(&["video_seq_length", "video_token_index"]);
    let mut parts = Parts::read_at(config, USUAL, describe, Tied::ByWhole, TOWER)?;
    parts.tower.set_name("pixel_values_images");
    parts.tower.ignore(&["*video_tower.*"]);
    let rule = PictureRows::Patches { front: parts.front };
    let layers = two_layers(config, &parts)?;
    let projector = Projector::of_all(&parts.tower, (rule, parts.hidden), |leaves| {
        (None, layers(leaves))
    });
    parts.finish(config, projector, describe)
}

/// LLaVA-OneVision: as LLaVA-NeXT where the reference cuts pictures, with fewer rows of many tiles. Where it does not (several of a record, as its processor
/// marks them) and films are refused: what comes of them has other axes.
pub fn llava_onevision(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    const KEY: &str = "vision_aspect_ratio";
    config.ignore(&["video_token_id", "video_token_index"]);
    let told = config.optional_text(KEY)?.unwrap_or_default();
    let most = told.strip_prefix("anyres_max_");
    let most = most.and_then(|most| most.parse::<usize>().ok());
    let most = most.filter(|most| (1..=1 << 20).contains(most));
    let most = most.ok_or_else(|| config.invalid(KEY, "\"anyres_max_\" and a number of tiles"))?;
    tiled(config, Some(most), Tied::ByWhole, describe)
}

/// Pictures that are cut to tiles, of so many at most without change.
fn tiled(
    config: &Config,
    most: Option<usize>,
    tied: Tied,
    describe: DescribePart,
) -> Result<Described, SpecError> {
    let usual = match most {
        Some(_) => ["siglip_vision_model", "qwen2"],
        None => USUAL,
    };
    let mut parts = Parts::read(config, usual, describe, tied)?;
    if parts.front != parts.tower.front() {
        let problem = "rows of a class stand among those of tiles";
        return Err(config.unsupported("vision_feature_select_strategy", problem));
    }
    let tile = parts.vision.size("image_size")?;
    let beside = BesidePlanes::Sizes {
        name: "image_sizes",
        counts: most.map(|_| "batch_num_images"),
        tiling: Tiling {
            sizes: match most {
                // As the class assumes.
                Some(_) if config.value("image_grid_pinpoints").is_none() => {
                    let rows = (1..=6).map(|rows| rows * 384);
                    let both =
                        rows.flat_map(|rows| (1..=6).map(move |columns| [rows, columns * 384]));
                    both.collect()
                }
                _ => tiled_sizes(config, tile)?,
            },
            tile,
        },
    };
    parts.tower.set_beside(beside);
    let newline = ["model.image_newline", "image_newline"].map(Source::tensor);
    let newline = Source::one_of(newline.to_vec());
    let layers = two_layers(config, &parts)?;
    let hidden = parts.hidden;
    let Some(most) = most else {
        let rows = (PictureRows::Tiles, hidden);
        let projector = Projector::of_all(&parts.tower, rows, |leaves| (None, layers(leaves)));
        let projector = projector.with_vectors([newline]);
        return parts.finish(config, projector, describe);
    };
    let rows = (PictureRows::Covered, hidden);
    let projector = Projector::of_all(&parts.tower, rows, |leaves| (None, layers(leaves)));
    let mixing = Projector::mixing(PictureRows::Shrunk { most }, hidden, newline);
    parts.finish_behind(config, &[projector, mixing], describe)
}

/// ViP-LLaVA: features of several layers side by side, normed.
pub fn vipllava(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let parts = Parts::read(config, USUAL, describe, Tied::ByWhole)?;
    let rule = PictureRows::Patches { front: parts.front };
    let style = NormStyle::layer(config.positive("projector_layernorm_eps")?);
    let layers = two_layers(config, &parts)?;
    let projector = Projector::of_all(&parts.tower, (rule, parts.hidden), |leaves| {
        let name = (PROJECTOR, "projector_layernorm");
        let norm = norm(leaves, name, parts.width, style);
        (Some(norm), layers(leaves))
    });
    parts.finish(config, projector, describe)
}

/// A tower that ends where its features are taken, and the decoder's configuration.
struct Parts {
    vision: Config,
    text: Config,
    tower: Tower,
    /// Features of a row, of all layers that they are taken of.
    width: usize,
    /// Rows in front of every view that are left out.
    front: usize,
    /// Features of the decoder's.
    hidden: usize,
}

impl Parts {
    fn read(
        config: &Config,
        [usual, decoder]: [&str; 2],
        describe: DescribePart,
        tied: Tied,
    ) -> Result<Self, SpecError> {
        Self::read_at(config, [usual, decoder], describe, tied, TOWER)
    }

    /// The same of a tower that is elsewhere.
    fn read_at(
        config: &Config,
        [usual, decoder]: [&str; 2],
        describe: DescribePart,
        tied: Tied,
        places: Places,
    ) -> Result<Self, SpecError> {
        // How many tokens stand for a picture says its processor.
        config.ignore(&[
            "image_seq_length",
            "ignore_index",
            "vocab_size",
            "pad_token_id",
        ]);
        let vision = config.part("vision_config", usual, None, &[])?;
        let text = decoder_config(config, ("text_config", decoder), tied)?;
        let mut tower = Tower::read(&vision, describe, places)?;
        let front = selected(config, tower.front())?;
        let width = end_where_seen(config, &mut tower)?;
        Ok(Self {
            hidden: text.size("hidden_size")?,
            vision,
            text,
            tower,
            width,
            front,
        })
    }

    fn finish(
        self,
        config: &Config,
        projector: Projector,
        describe: DescribePart,
    ) -> Result<Described, SpecError> {
        self.finish_behind(config, &[projector], describe)
    }

    /// The last of several projectors stands for the token.
    fn finish_behind(
        self,
        config: &Config,
        projectors: &[Projector],
        describe: DescribePart,
    ) -> Result<Described, SpecError> {
        let key = if config.declares("image_token_index") {
            "image_token_index"
        } else {
            "image_token_id"
        };
        let token = Scattered {
            stack: projectors.len(),
            ..scattered(config, key)?
        };
        let decoder = describe(&self.text)?;
        behind(
            config,
            (&self.tower, projectors, &[]),
            (decoder, DECODER, token),
        )
    }
}

/// The two dense layers of the usual names.
fn two_layers(
    config: &Config,
    parts: &Parts,
) -> Result<impl FnOnce(&mut Leaves) -> Vec<HeadTransform> + use<>, SpecError> {
    const BIAS: &str = "multimodal_projector_bias";
    let bias = !config.declares(BIAS) || config.flag(BIAS)?;
    let activation = config.activation("projector_hidden_act")?;
    let (hidden, width) = (parts.hidden, parts.width);
    Ok(move |leaves: &mut Leaves| {
        let (first, second) = ((PROJECTOR, "linear_1"), (PROJECTOR, "linear_2"));
        vec![
            dense(leaves, first, [hidden, width], bias, activation),
            dense(leaves, second, [hidden; 2], bias, Activation::Linear),
        ]
    })
}

/// Heights and widths that pictures are brought to, each of whole tiles.
fn tiled_sizes(config: &Config, tile: usize) -> Result<Vec<[usize; 2]>, SpecError> {
    const KEY: &str = "image_grid_pinpoints";
    let Some(value) = config.value(KEY) else {
        // As the class assumes.
        let usual = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]];
        return Ok(usual.map(|sizes| sizes.map(|tiles| tiles * 336)).to_vec());
    };
    let size = |value: &serde_json::Value| {
        let length = value.as_u64().and_then(|size| usize::try_from(size).ok())?;
        (1..=1 << 20).contains(&length).then_some(length)
    };
    let pair = |value: &serde_json::Value| match value.as_array()?.as_slice() {
        [height, width] => Some([size(height)?, size(width)?]),
        _ => None,
    };
    let list = value.as_array().into_iter().flatten();
    let sizes: Option<Vec<_>> = list.map(pair).collect();
    let whole = |sizes: &Vec<[usize; 2]>| {
        !sizes.is_empty() && sizes.iter().flatten().all(|length| length % tile == 0)
    };
    sizes
        .filter(whole)
        .ok_or_else(|| config.invalid(KEY, format!("pairs of multiples of {tile}, a tile's size")))
}

/// Ends the tower where its features are taken: behind a layer, or behind the last of several, whose features are kept. How
/// many features a row has.
pub(super) fn end_where_seen(config: &Config, tower: &mut Tower) -> Result<usize, SpecError> {
    const KEY: &str = "vision_feature_layer";
    let layers = tower.layers();
    let list = config.value(KEY).is_some_and(serde_json::Value::is_array);
    if !list {
        tower.end_behind(layer_of(config, config.number(KEY)?, layers)?);
        return Ok(tower.width());
    }
    let numbers = config.numbers(KEY)?.unwrap_or_default();
    let numbers = numbers.into_iter();
    let behind = numbers.map(|number| layer_of(config, number, layers));
    let behind = behind.collect::<Result<Vec<_>, _>>()?;
    let kept: Option<Vec<_>> = behind.iter().map(|own| own.checked_sub(1)).collect();
    let (Some(kept), Some(&last)) = (kept, behind.iter().max()) else {
        let problem = "features of the tower's input beside those of layers are not known here";
        return Err(config.unsupported(KEY, problem));
    };
    if kept.len() > usize::from(u8::MAX) {
        return Err(config.invalid(KEY, "at most 255 layers"));
    }
    tower.end_behind(last);
    tower.keep_behind(&kept);
    Ok(kept.len() * tower.width())
}

/// How many layers of the tower run for features of this number.
fn layer_of(config: &Config, number: f64, layers: usize) -> Result<usize, SpecError> {
    let behind = if number < 0.0 {
        number + layers as f64 + 1.0
    } else {
        number
    };
    if behind.fract() != 0.0 || !(0.0..=layers as f64).contains(&behind) {
        let expected = format!("a whole number from {} to {layers}", -(layers as i64) - 1);
        return Err(config.invalid("vision_feature_layer", expected));
    }
    Ok(behind as usize)
}

/// Rows that are left out of every view: the first one, or none. Types without the key leave it out.
pub(super) fn selected(config: &Config, front: usize) -> Result<usize, SpecError> {
    const KEY: &str = "vision_feature_select_strategy";
    let (told, key) = if config.declares(KEY) {
        (config.optional_text(KEY)?, KEY)
    } else {
        (Some("default".to_owned()), "vision_config")
    };
    match told.as_deref() {
        Some("default") if front == 1 => Ok(1),
        Some("default") => {
            let problem =
                "the tower has no row of a class in front, and the first patch would be left out";
            Err(config.unsupported(key, problem))
        }
        Some("full") => Ok(0),
        _ => Err(config.invalid(KEY, "\"default\" or \"full\"")),
    }
}
