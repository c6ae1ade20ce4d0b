//! Ovis 2 (Lu et al. 2024): rows of a tower become shares of the rows of a table.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, scattered, with_vectors};
use super::part::DescribePart;
use super::tiles::{blocks, decoder, given};
use super::towers::{CLIP, Sizes, of_pictures};
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::{
    Activation, Config, Described, HeadTransform, Pictures, Shard, Source, SpecError, Split,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["model.vision_tower."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model.language_model."],
    outside: &[""],
};

/// The names of the tower's layers.
static LAYERS: Names = Names {
    layers: "transformer.encoder.layers",
    projections: Projections::Separate([
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
    ]),
    output: "attention.out_proj",
    gate: "ffn.gate_proj",
    up: "ffn.up_proj",
    down: "ffn.down_proj",
    final_norm: "transformer.rms_norm",
    ..CLIP
};

/// Ovis 2.
pub fn ovis2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    const KEY: &str = "visual_indicator_token_ids";
    config.ignore(&["vocab_size"]);
    let vision = given(config, "vision_config", "ovis2_vision")?;
    let text = decoder(config, "qwen2")?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    vision.neutral(
        "tokenize_function",
        &["softmax".into()],
        "only shares of all rows of the table are known here",
    )?;
    let hidden = text.size("hidden_size")?;
    if config.size("hidden_size")? != hidden {
        return Err(config.invalid("hidden_size", format!("{hidden}, as of the decoder")));
    }
    let side = vision.size("hidden_stride")?;
    let rule = (blocks(&vision, "hidden_stride", &tower, side)?, hidden);
    let inner = side * side * tower.width();
    let indicators = vision.heads("num_visual_indicator_tokens")?;
    let all = vision.size("vocab_size")?;
    let Some(rows) = all.checked_sub(indicators).filter(|&rows| rows > 0) else {
        let expected = format!("more than {indicators}");
        return Err(vision.invalid("vocab_size", expected));
    };
    let projector = Projector::new(&tower, rule, |leaves| {
        let tensor = |name: &str| Source::tensor(format!("{}{name}", TOWER.base[0]));
        let weight = tensor("head_linear.weight");
        let first = leaves.linear_of(weight, None, [rows, inner], Shard::Replicate);
        let name = format!("{}head_norm", TOWER.base[0]);
        let norm = leaves.norm(&name, rows, NormStyle::layer(1e-5));
        let first = HeadTransform {
            norm: Some(norm),
            shares: true,
            ..HeadTransform::plain(first, Activation::Linear)
        };
        let table = table().part(Split::Rows(vec![rows, indicators]), 0);
        let second = leaves.linear_of(table.transpose(), None, [hidden, rows], Shard::Replicate);
        let second = HeadTransform::plain(second, Activation::Linear);
        (None, vec![first, second])
    });
    let ids = config.numbers(KEY)?.unwrap_or_default();
    let is_token = |id: &f64| id.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(id);
    if ids.len() > indicators || !ids.iter().all(is_token) {
        let expected = format!("at most {indicators} tokens");
        return Err(config.invalid(KEY, expected));
    }
    let vectors = ids.into_iter().enumerate().map(|(number, id)| {
        let row = Source::Index {
            of: Box::new(table()),
            index: rows + number,
        };
        (id as u32, row)
    });
    let token = scattered(config, "image_token_id")?;
    let decoder = (describe(&text)?, DECODER, token);
    let described = behind(config, (&tower, &[projector], &[]), decoder)?;
    Ok(with_vectors(
        described,
        &vectors.collect::<Vec<_>>(),
        hidden,
    ))
}

/// The table of which the rows of pictures are shares; the tokens around pictures are its last rows.
fn table() -> Source {
    Source::tensor("model.visual_embeddings_table.weight".to_owned())
}

/// The tower: AIMv2's.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&[
        "vocab_size",
        "hidden_stride",
        "num_visual_indicator_tokens",
        "tokenize_function",
    ]);
    let sizes = Sizes::read(config)?;
    let style = NormStyle::rms(config.positive("rms_norm_eps")?);
    let heads = config.heads("num_attention_heads")?;
    let head_dim = divided(config, "num_attention_heads", sizes.hidden, heads)?;
    let count = config.layers("num_hidden_layers")?;
    let widths = [sizes.hidden, config.size("intermediate_size")?];
    let mut tower = Blocks::sized(config, style, count, widths, [heads, heads, head_dim])?;
    of_pictures(&mut tower, "vision");
    tower.names = LAYERS;
    tower.arrangement = Arrangement::pre("rms_norm1", "rms_norm2");
    tower.set_attention_bias(config.flag("qkv_bias")?);
    tower.set_network_bias(config.flag("mlp_bias")?);
    tower.activation = config.activation("hidden_act")?;
    tower.pictures = Some(Rc::new(move |leaves| Pictures {
        patch_norm: Some(leaves.norm("transformer.embeddings.rms_norm", sizes.hidden, style)),
        positions: {
            let name = "transformer.embeddings.position_embedding.weight";
            Some(sizes.table(leaves, name, 0))
        },
        ..sizes.pictures(leaves, "transformer.embeddings.patch_embedding", true)
    }));
    tower.build()
}
