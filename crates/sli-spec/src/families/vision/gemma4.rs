//! Gemma 4 (2026): pictures of any size with places by column and row, means of blocks; and Gemma 4 without a tower.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, dense, norm, scattered, seeing, spelled};
use super::part::DescribePart;
use super::tiles::{decoder, given};
use super::towers;
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::rope::Pairs;
use crate::{
    Activation, AxisTables, Config, Described, Joining, Mask, NormSpan, PictureLayout, PictureRows,
    Pictures, Scattered, Shard, Source, SpecError,
};

/// Where files have the decoder.
const DECODER: Places = Places {
    base: &["model.language_model."],
    outside: &[""],
};

/// Where files have what projects.
const PROJECTOR: &[&str] = &["model.embed_vision."];

/// Channels of a picture.
const CHANNELS: usize = 3;

/// The names of the tower's layers.
static NAMES: Names = Names {
    layers: "encoder.layers",
    projections: Projections::Separate([
        "self_attn.q_proj.linear",
        "self_attn.k_proj.linear",
        "self_attn.v_proj.linear",
    ]),
    output: "self_attn.o_proj.linear",
    gate: "mlp.gate_proj.linear",
    up: "mlp.up_proj.linear",
    down: "mlp.down_proj.linear",
    ..Names::USUAL
};

/// Pictures whose patches come with their columns and rows.
fn layout() -> PictureLayout {
    PictureLayout::Placed {
        name: "pixel_values",
        places: "image_position_ids",
        whole: 1,
    }
}

/// The tower.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    // Of no consequence, and of what stands behind it.
    config.ignore(&[
        "attention_bias",
        "max_position_embeddings",
        "pooling_kernel_size",
        "standardize",
    ]);
    let (hidden, inner) = (
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    );
    let sizes = [
        config.heads("num_attention_heads")?,
        config.heads("num_key_value_heads")?,
        config.heads("head_dim")?,
    ];
    let style = NormStyle::rms(config.positive("rms_norm_eps")?);
    let layers = config.layers("num_hidden_layers")?;
    let mut tower = Blocks::sized(config, style, layers, [hidden, inner], sizes)?;
    towers::of_pictures(&mut tower, "vision");
    tower.names = NAMES;
    tower.limited = config.flag("use_clipped_linears")?;
    tower.arrangement = Arrangement::sandwich(
        ["input_layernorm", "post_attention_layernorm"],
        ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    );
    tower.activation = config.activation("hidden_activation")?;
    tower.final_norm = None;
    tower.query_key_norm = Some((NormSpan::Head, style));
    tower.value_norm = true;
    tower.attention_scale = 1.0;
    let theta = match config.value("rope_parameters") {
        None => 100.0,
        Some(_) => towers::theta(config)?,
    };
    let turns = (Pairs::ColumnsApart, false, theta);
    towers::turn(config, "head_dim", &mut tower, turns)?;
    let patch = config.size("patch_size")?;
    let count = config.size("position_embedding_size")?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let shape = [hidden, CHANNELS * patch * patch];
        let name = "patch_embedder.input_proj";
        let projection = leaves.linear(name, shape, false, Shard::Replicate);
        let name = "patch_embedder.position_embedding_table";
        let stored = Source::Reshape(Box::new(leaves.tensor(name)));
        let axes = AxisTables {
            weight: leaves.weight(stored, &[2 * count, hidden], Shard::Column),
            count,
            columns: [0, 1],
            rows: [count, 1],
        };
        Pictures {
            centred: true,
            axes: Some(axes),
            ..Pictures::new(layout(), [CHANNELS, patch], projection)
        }
    }));
    tower.build()
}

/// The whole, without sound and films.
pub fn gemma4(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    ignore_others(config);
    let vision = given(config, "vision_config", "gemma4_vision")?;
    let text = decoder(config, "gemma4_text")?;
    let (tower, projector) = means(&vision, text.size("hidden_size")?, describe)?;
    let scattered = scattered(config, "image_token_id")?;
    let has_inputs = text
        .optional_index("hidden_size_per_layer_input")?
        .is_some_and(|width| width > 0);
    let token = Scattered {
        inputs_of: has_inputs.then(|| padding(&text)).transpose()?,
        ..scattered
    };
    // Layers that see all tokens see none of a picture's later ones.
    let see = |mask: Mask| match mask {
        Mask::CausalWindow(_) => mask.with_runs(token.token, false),
        _ => Some(mask),
    };
    let decoder = looking(config, &text, describe(&text)?, see)?;
    behind(
        config,
        (&tower, &[projector], &[]),
        (decoder, DECODER, token),
    )
}

/// EmbeddingGemma 2, without sound and films: an encoder, whose layers' inputs are of what stands in the place of a token.
pub fn embedding_gemma2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    ignore_others(config);
    let vision = given(config, "vision_config", "gemma4_vision")?;
    let text = decoder(config, "embedding_gemma2_text")?;
    let (tower, projector) = means(&vision, text.size("hidden_size")?, describe)?;
    let token = scattered(config, "image_token_id")?;
    let encoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), encoder)
}

/// The tower of a configuration, and means of its blocks through a norm and a dense layer to so many features.
fn means(
    vision: &Config,
    hidden: usize,
    describe: DescribePart,
) -> Result<(Tower, Projector), SpecError> {
    let places = Places {
        base: &["model.vision_tower."],
        outside: &[],
    };
    let mut tower = Tower::read(vision, describe, places)?;
    tower.ignore(&["model.audio_tower.*", "model.embed_audio.*"]);
    let side = vision.size("pooling_kernel_size")?;
    if side == 1 {
        let problem = "of pictures that are not made smaller the reference keeps the padding";
        return Err(vision.unsupported("pooling_kernel_size", problem));
    }
    tower.set_whole(side);
    let width = tower.width();
    let epsilon = vision.positive("rms_norm_eps")?;
    let standardises = vision.flag("standardize")?;
    // What the norm sees is multiplied by the root of the width, which changes nothing but what its number means.
    let epsilon = if standardises {
        epsilon
    } else {
        epsilon / width as f64
    };
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        projected(leaves, epsilon, [hidden, width])
    })
    .joined(Joining::Mean);
    let projector = if standardises {
        let names = ["std_bias", "std_scale"];
        let stored = names.map(|name| Source::tensor(format!("model.vision_tower.{name}")));
        projector.standardised((width as f64).sqrt(), stored)
    } else {
        projector
    };
    Ok((tower, projector))
}

/// The one without a tower: patches, normed, projected and with their places.
pub fn gemma4_unified(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    ignore_others(config);
    let vision = given(config, "vision_config", "gemma4_unified_vision")?;
    let text = decoder(config, "gemma4_unified_text")?;
    let hidden = text.size("hidden_size")?;
    let width = vision.size("mm_embed_dim")?;
    if vision.size("output_proj_dims")? != width {
        return Err(vision.invalid("output_proj_dims", format!("{width}, as `mm_embed_dim`")));
    }
    let patch = vision
        .size("patch_size")?
        .saturating_mul(vision.size("pooling_kernel_size")?);
    let count = vision.size("mm_posemb_size")?;
    let inner = CHANNELS * patch * patch;
    let places: &[&str] = &["model.vision_embedder.", "model.embed_vision."];
    let stored = |name: &str| spelled(places, name);
    let style = NormStyle::layer(1e-5);
    let mut leaves = Leaves::new("");
    let input_norm = norm(&mut leaves, (places, "patch_ln1"), inner, style);
    let (weight, bias) = (stored("patch_dense.weight"), stored("patch_dense.bias"));
    let shape = [width, inner];
    let projection = leaves.linear_of(weight, Some(bias), shape, Shard::Replicate);
    let patch_norm = norm(&mut leaves, (places, "patch_ln2"), width, style);
    let table = Source::Reshape(Box::new(stored("pos_embedding")));
    let axes = AxisTables {
        weight: leaves.weight(table, &[2 * count, width], Shard::Column),
        count,
        columns: [0, 2],
        rows: [1, 2],
    };
    let last = norm(&mut leaves, (places, "pos_norm"), width, style);
    let mut tower = Tower::bare(Pictures {
        leaves: leaves.finish(),
        input_norm: Some(input_norm),
        patch_norm: Some(patch_norm),
        axes: Some(axes),
        norm: Some(last),
        ..Pictures::new(layout(), [CHANNELS, patch], projection)
    });
    tower.ignore(&["model.embed_audio.*"]);
    let epsilon = vision.positive("rms_norm_eps")?;
    let rule = (PictureRows::Patches { front: 0 }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        projected(leaves, epsilon, [hidden, width])
    });
    let token = scattered(config, "image_token_id")?;
    let see = |mask: Mask| mask.with_runs(token.token, true);
    let decoder = looking(config, &text, describe(&text)?, see)?;
    behind(
        config,
        (&tower, &[projector], &[]),
        (decoder, DECODER, token),
    )
}

/// Sound, films, and what stands around pictures.
fn ignore_others(config: &Config) {
    config.ignore(&[
        "audio_config",
        "audio_token_id",
        "boa_token_id",
        "boi_token_id",
        "eoa_token_index",
        "eoi_token_id",
        "video_token_id",
    ]);
}

/// A norm without a factor and a dense layer.
fn projected(
    leaves: &mut Leaves,
    epsilon: f64,
    [hidden, width]: [usize; 2],
) -> (Option<crate::Norm>, Vec<crate::HeadTransform>) {
    let style = NormStyle {
        weight: false,
        ..NormStyle::rms(epsilon)
    };
    let normed = norm(
        leaves,
        (PROJECTOR, "embedding_pre_projection_norm"),
        width,
        style,
    );
    let name = (PROJECTOR, "embedding_projection");
    let layer = dense(leaves, name, [hidden, width], false, Activation::Linear);
    (Some(normed), vec![layer])
}

/// The token whose inputs of layers stand for those of pictures.
fn padding(text: &Config) -> Result<u32, SpecError> {
    const KEY: &str = "pad_token_id";
    let token = text.token_id(KEY)?;
    token.ok_or_else(|| text.missing(KEY))
}

/// The decoder, whose tokens of a picture see later ones where its configuration says so.
fn looking(
    config: &Config,
    text: &Config,
    decoder: Described,
    see: impl Fn(Mask) -> Option<Mask>,
) -> Result<Described, SpecError> {
    match text
        .optional_text("use_bidirectional_attention")?
        .as_deref()
    {
        Some("vision") => seeing(config, decoder, see),
        _ => Ok(decoder),
    }
}
