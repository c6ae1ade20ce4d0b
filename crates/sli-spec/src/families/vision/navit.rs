//! Towers of SigLIP for pictures of any size, turned by rows and columns or not, and what stands behind them.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, dense, norm, scattered, spelled_otherwise};
use super::llava::{DECODER, PROJECTOR, TOWER};
use super::part::DescribePart;
use super::tiles::{decoder, given};
use super::towers::{self, CLIP, Sizes};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Blocks};
use crate::rope::Pairs;
use crate::{
    Activation, Config, Described, Interpolation, Joining, PackedLimits, PictureLayout,
    PictureRows, Pictures, PlaceTable, Scattered, Source, SpecError,
};

/// A tower whose patches come one picture after the other, row by row, and turn.
fn turned<'c>(
    config: &'c Config,
    merges: Option<&'static str>,
    further: impl Fn(&mut Leaves, Pictures) -> Pictures + 'c,
) -> Result<Blocks<'c>, SpecError> {
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = towers::plain(config, &CLIP, arrangement)?;
    tower.ignored.push("*embeddings.position_ids");
    let hidden = tower.hidden_size;
    let turns = (Pairs::Halves, false, towers::theta(config)?);
    towers::turn(config, "num_attention_heads", &mut tower, turns)?;
    let [channels, patch] = Sizes::read_patches(config)?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let stored = |part: &str| leaves.tensor(&format!("embeddings.patch_embedding.{part}"));
        let stored = (stored("weight"), Some(stored("bias")));
        let projection = towers::projection(leaves, stored, hidden, [channels, patch]);
        let pictures = Pictures::new(
            PictureLayout::packed(
                1,
                None,
                PackedLimits {
                    merges,
                    ..PackedLimits::whole(1)
                },
            ),
            [channels, patch],
            projection,
        );
        further(leaves, pictures)
    }));
    Ok(tower)
}

/// The tower of `VideoLLaMA` 3: no learned places.
pub fn video_llama_3_tower(config: &Config) -> Result<Described, SpecError> {
    turned(config, Some("image_merge_sizes"), |_, pictures| pictures)?.build()
}

/// The tower of PaddleOCR-VL: learned places, stretched.
pub fn paddleocr_vl_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["spatial_merge_size"]);
    let sizes = Sizes::read(config)?.square(config)?;
    let tower = turned(config, None, move |leaves, pictures| Pictures {
        positions: Some(PlaceTable {
            otherwise: Interpolation::Linear,
            ..sizes.table(leaves, "embeddings.position_embedding.weight", 0)
        }),
        ..pictures
    })?;
    tower.build()
}

/// `VideoLLaMA` 3: all patches through two dense layers.
pub fn video_llama_3(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Films.
    config.ignore(&["video_token_id"]);
    let vision = given(config, "vision_config", "video_llama_3_vision")?;
    let text = decoder(config, "qwen2")?;
    let tower = Places {
        base: &["model.vision_model."],
        outside: &[],
    };
    let tower = Tower::read(&vision, describe, tower)?;
    let hidden = text.size("hidden_size")?;
    let rule = PictureRows::Patches { front: 0 };
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let place: &'static [&'static str] = &["model.projector.readout."];
        let shape = [hidden, tower.width()];
        let layers = vec![
            dense(leaves, (place, "0"), shape, true, Activation::Gelu),
            dense(leaves, (place, "2"), [hidden; 2], true, Activation::Linear),
        ];
        (None, layers)
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// PaddleOCR-VL: normed patches of blocks side by side through two dense layers; tokens have three positions.
pub fn paddleocr_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    ]);
    let vision = given(config, "vision_config", "paddleocr_vl_vision")?;
    let text = decoder(config, "paddleocr_vl_text")?;
    let places = Places {
        base: &["visual.vision_model.", "model.visual.vision_model."],
        outside: &[],
    };
    let mut tower = Tower::read(&vision, describe, places)?;
    let side = vision.size("spatial_merge_size")?;
    tower.set_whole(side);
    let hidden = text.size("hidden_size")?;
    let place: &'static [&'static str] = &["mlp_AR.", "model.projector."];
    let names = (place, ["pre_norm", "linear_1", "linear_2"]);
    let projector = normed_blocks(&tower, names, (side, hidden), NormStyle::layer(1e-5));
    let token = Scattered {
        has_positions: true,
        ..scattered(config, "image_token_id")?
    };
    let places = Places {
        base: &["model.", "model.language_model."],
        outside: &[""],
    };
    let decoder = (describe(&text)?, places, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// Blocks of `side` rows and columns of patches, each patch normed, side by side through two dense layers.
pub(super) fn normed_blocks(
    tower: &Tower,
    (places, [norm_name, first, second]): (&'static [&'static str], [&str; 3]),
    (side, hidden): (usize, usize),
    style: NormStyle,
) -> Projector {
    let width = tower.width();
    let inner = side * side * width;
    let rule = PictureRows::Blocks { side };
    let projector = Projector::new(tower, (rule, hidden), |leaves| {
        let normed = norm(leaves, (places, norm_name), width, style);
        let (gelu, linear) = (Activation::Gelu, Activation::Linear);
        let layers = vec![
            dense(leaves, (places, first), [inner; 2], true, gelu),
            dense(leaves, (places, second), [hidden, inner], true, linear),
        ];
        (Some(normed), layers)
    });
    projector.joined(Joining::EachNormed)
}

/// LFM2-VL: blocks of the patches of SigLIP 2, which do not turn, through two dense layers.
pub fn lfm2_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = given(config, "vision_config", "siglip2_vision_model")?;
    let text = decoder(config, "lfm2")?;
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    let side = config.size("downsample_factor")?;
    tower.set_whole(side);
    let hidden = text.size("hidden_size")?;
    let inner = side * side * tower.width();
    let middle = config.size("projector_hidden_size")?;
    let (bias, is_normed) = (
        config.flag("projector_bias")?,
        config.flag("projector_use_layernorm")?,
    );
    let activation = config.activation("projector_hidden_act")?;
    let rule = PictureRows::Blocks { side };
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let style = NormStyle::layer(1e-5);
        let normed = is_normed.then(|| norm(leaves, (PROJECTOR, "layer_norm"), inner, style));
        let (first, second) = ((PROJECTOR, "linear_1"), (PROJECTOR, "linear_2"));
        let layers = vec![
            dense(leaves, first, [middle, inner], bias, activation),
            dense(leaves, second, [hidden, middle], bias, Activation::Linear),
        ];
        (normed, layers)
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// The tower of Cosmos 3 Edge: that of SigLIP 2 for packed patches, in blocks.
pub fn cosmos3_edge_tower(config: &Config) -> Result<Described, SpecError> {
    let places = config.size("num_patches")?;
    let side = places.isqrt();
    if side * side != places {
        return Err(config.invalid("num_patches", "a square number"));
    }
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = towers::plain(config, &CLIP, arrangement)?;
    tower.ignored.push("*embeddings.position_ids");
    tower.stored = Some(Rc::new(cosmos3_edge_name));
    let hidden = tower.hidden_size;
    let [channels, patch] = Sizes::read_patches(config)?;
    let block = config.size("spatial_merge_size")?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let stored = |part: &str| leaves.tensor(&format!("embeddings.patch_embedding.{part}"));
        let stored = (stored("weight"), Some(stored("bias")));
        let projection = towers::projection(leaves, stored, hidden, [channels, patch]);
        let layout = PictureLayout::packed(block, None, PackedLimits::whole(block));
        let name = "embeddings.position_embedding.weight";
        Pictures {
            positions: Some(PlaceTable {
                weight: leaves.table(name, places, hidden),
                first: 0,
                grid: [side; 2],
                otherwise: Interpolation::LinearAntialiased,
                turned: false,
            }),
            ..Pictures::new(layout, [channels, patch], projection)
        }
    }));
    tower.build()
}

/// A tensor of Cosmos 3 Edge's layers by its own name and by that of the library that its files were made for.
fn cosmos3_edge_name(name: &str) -> Source {
    const OTHERS: [(&str, &str); 6] = [
        (".self_attn.q_proj.", ".self_attn.to_q."),
        (".self_attn.k_proj.", ".self_attn.to_k."),
        (".self_attn.v_proj.", ".self_attn.to_v."),
        (".self_attn.o_proj.", ".self_attn.to_out."),
        (".mlp.fc1.", ".mlp.up_proj."),
        (".mlp.fc2.", ".mlp.down_proj."),
    ];
    let other = OTHERS.iter().fold(name.to_owned(), |name, (own, other)| {
        name.replace(own, other)
    });
    Source::named([name.to_owned(), other])
}

/// Cosmos 3 Edge: normed patches of blocks side by side through two dense layers; tokens have three positions.
pub fn cosmos3_edge(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    ]);
    let vision = given(config, "vision_config", "cosmos3_edge_vision")?;
    let text = decoder(config, "cosmos3_edge_text")?;
    let places = Places {
        base: &["model.visual."],
        outside: &[],
    };
    let tower = Tower::read(&vision, describe, places)?;
    let side = vision.size("spatial_merge_size")?;
    let hidden = text.size("hidden_size")?;
    let inner = side * side * tower.width();
    let middle = config.size("projector_hidden_size")?;
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let place: &'static [&'static str] = &["model.projector."];
        let style = NormStyle::layer(1e-6);
        let normed = norm(leaves, (place, "norm"), tower.width(), style);
        let (first, second) = ((place, "linear_fc1"), (place, "linear_fc2"));
        let layers = vec![
            dense(leaves, first, [middle, inner], true, Activation::Gelu),
            dense(leaves, second, [hidden, middle], true, Activation::Linear),
        ];
        (Some(normed), layers)
    });
    let projector = projector.joined(Joining::EachNormed);
    let token = Scattered {
        has_positions: true,
        ..scattered(config, "image_token_id")?
    };
    let places = Places {
        base: &["", "model.language_model."],
        outside: &[""],
    };
    let decoder = spelled_otherwise(describe(&text)?, &cosmos3_edge_name);
    behind(
        config,
        (&tower, &[projector], &[]),
        (decoder, places, token),
    )
}
