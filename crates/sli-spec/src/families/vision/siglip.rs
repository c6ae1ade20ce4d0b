//! SigLIP's towers and what is built like them: no row of a class, a learned row that attends to all others.

use std::rc::Rc;

use super::towers::{CLIP, Sizes, layers, of_views, plain};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Blocks, Names};
use crate::families::pooled;
use crate::{
    Attention, BesidePlanes, Config, Described, Interpolation, KeyValue, Mask, Mixer,
    PictureLayout, Pictures, PlaceTable, PooledEnd, Resampled, Shard, Slot, Source, SpecError,
    Split, Stack, Step, Write,
};

/// SigLIP's (Zhai et al. 2023). What it makes of a picture is a learned row that attends to all of its rows.
pub fn siglip(config: &Config) -> Result<Described, SpecError> {
    let sizes = Sizes::read(config)?;
    let mut tower = plain(
        config,
        &CLIP,
        Arrangement::pre("layer_norm1", "layer_norm2"),
    )?;
    tower.ignored.push("*embeddings.position_ids");
    let pools = config.declares("vision_use_head") && config.flag("vision_use_head")?;
    let head = pools.then(|| probe(config, &tower)).transpose()?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let pictures = sizes.pictures(leaves, "embeddings.patch_embedding", true);
        Pictures {
            positions: Some(sizes.table(leaves, "embeddings.position_embedding.weight", 0)),
            ..pictures
        }
    }));
    let described = tower.build()?;
    Ok(match head {
        Some(row) => pooled::behind(described, &row, PooledEnd::Pooler),
        None => described,
    })
}

/// SigLIP's pooling head: a row of its own attends to all rows of a view, and goes through a network.
fn probe(config: &Config, tower: &Blocks<'_>) -> Result<Stack, SpecError> {
    let (hidden, inner) = (tower.hidden_size, tower.intermediate_size);
    let sizes = [tower.heads, tower.heads, tower.head_dim];
    let (norm, activation) = (tower.norm, tower.activation);
    let mut head = Blocks::sized(config, norm, 1, [hidden, inner], sizes)?;
    of_views(&mut head, "pooled", 1);
    head.prefix.clone_from(&tower.prefix);
    head.places = Some(vec!["head".to_owned()]);
    head.final_norm = None;
    head.resampled = Some(Rc::new(move |leaves| {
        let probe = Source::Reshape(Box::new(leaves.tensor("head.probe")));
        Resampled::table(leaves.weight(probe, &[1, hidden], Shard::Column), 1)
    }));
    head.layer_of = Some(Rc::new(move |_, leaves, _| {
        let mut third = |part: usize| {
            let of = |leaves: &Leaves, name: &str| {
                let fused = leaves.tensor(&format!("attention.in_proj_{name}"));
                fused.part(Split::Rows(vec![hidden; 3]), part)
            };
            let (weight, bias) = (of(leaves, "weight"), of(leaves, "bias"));
            leaves.linear_of(weight, Some(bias), [hidden; 2], Shard::Column)
        };
        let [query, key, value] = [0, 1, 2].map(&mut third);
        let output = leaves.linear("attention.out_proj", [hidden; 2], true, Shard::Row);
        let key_value = KeyValue::OfStack {
            stack: 0,
            key,
            value,
        };
        let attention = Attention::plain(sizes, query, key_value, output, Mask::Full);
        let attended = Step {
            write: Write::Set(Slot::Hidden),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        };
        let normed = leaves.norm("layernorm", hidden, norm);
        let names = ["mlp.fc1", "mlp.fc2"];
        let network = leaves.plain_feed_forward(names, [hidden, inner], true, activation);
        let fed = Step {
            pre: Some(normed),
            ..Step::residual(Mixer::FeedForward(network))
        };
        vec![attended, fed]
    }));
    let stack = head.build()?.spec.stacks.pop();
    stack.ok_or_else(|| config.unsupported("vision_use_head", "it has no stack"))
}

/// The names of Janus' layers.
static JANUS: Names = Names {
    output: "self_attn.projection_layer",
    ..CLIP
};

/// Janus'.
pub fn janus(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&[
        "depth",
        "projection_dim",
        "projection_dropout",
        "hidden_dropout_rate",
        "num_image_tokens",
    ]);
    // The class gives heads a norm of all features, which fails.
    config.off(
        "use_qk_norm",
        "norms of queries and keys do not run in the reference",
    )?;
    let sizes = Sizes::read(config)?;
    let inner = config.scaled("mlp_ratio", sizes.hidden)?;
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = layers(config, [sizes.hidden, inner], norm, (&JANUS, arrangement))?;
    tower.gated = false;
    tower.query_key_value_bias = config.flag("attention_bias")?;
    tower.ignored.push("*embeddings.position_ids");
    tower.pictures = Some(Rc::new(move |leaves| Pictures {
        positions: Some(sizes.table(leaves, "embeddings.position_embedding.weight", 0)),
        ..sizes.pictures(leaves, "embeddings.patch_embedding", true)
    }));
    tower.build()
}

/// Idefics 3's: SigLIP's for pictures of its own size.
pub fn idefics3(config: &Config) -> Result<Described, SpecError> {
    // Places of patches are rounded in f32: for these numbers of rows the reference takes some a row too early, as a run of
    // all numbers up to 64 shows.
    const ROUNDED: [usize; 17] = [
        19, 25, 29, 31, 38, 40, 41, 43, 47, 49, 50, 54, 55, 58, 59, 61, 62,
    ];
    let sizes = Sizes::read(config)?;
    let [rows, columns] = sizes.grid();
    if rows != columns || ROUNDED.contains(&rows) || rows > 64 {
        let problem = format!(
            "{rows} x {columns} patches, for which the reference rounds places to others, or it is not known that it does not"
        );
        return Err(config.unsupported("image_size", problem));
    }
    siglip(config)
}

/// Idefics 2's: SigLIP's for pictures of any size, whose places are those of the table that are as far into the picture.
pub fn navit(config: &Config) -> Result<Described, SpecError> {
    let sizes = Sizes::read(config)?.square(config)?;
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = plain(config, &CLIP, arrangement)?;
    tower.ignored.push("*embeddings.position_ids");
    tower.pictures = Some(Rc::new(move |leaves| {
        let pictures = sizes.pictures(leaves, "embeddings.patch_embedding", true);
        let table = sizes.table(leaves, "embeddings.position_embedding.weight", 0);
        Pictures {
            layout: PictureLayout::Planes {
                name: "pixel_values",
                size: None,
                beside: BesidePlanes::Points {
                    name: "pixel_attention_mask",
                    partly: false,
                },
            },
            positions: Some(PlaceTable {
                otherwise: Interpolation::Buckets,
                ..table
            }),
            ..pictures
        }
    }));
    tower.build()
}

/// Idefics 3's for whom it says how its places are rounded.
pub(super) fn idefics3_plain(config: &Config) -> Result<Described, SpecError> {
    Sizes::read(config)?.square(config)?;
    siglip(config)
}

/// SigLIP 2's (Tschannen et al. 2025), for pictures of any number of patches.
pub fn siglip2(config: &Config) -> Result<Described, SpecError> {
    let (hidden, channels, patch) = (
        config.size("hidden_size")?,
        config.size("num_channels")?,
        config.size("patch_size")?,
    );
    let places = config.size("num_patches")?;
    let side = places.isqrt();
    if side * side != places {
        return Err(config.invalid("num_patches", "a square number"));
    }
    let sizes = Sizes {
        hidden,
        channels,
        patch,
        picture: [side * patch; 2],
    };
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = plain(config, &CLIP, arrangement)?;
    tower.ignored.push("*embeddings.position_ids");
    let pools = config.declares("vision_use_head") && config.flag("vision_use_head")?;
    let head = pools.then(|| probe(config, &tower)).transpose()?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let pictures = sizes.pictures(leaves, "embeddings.patch_embedding", true);
        let table = sizes.table(leaves, "embeddings.position_embedding.weight", 0);
        Pictures {
            layout: PictureLayout::Padded {
                name: "pixel_values",
                shapes: "spatial_shapes",
                mask: "pixel_attention_mask",
                whole: 1,
            },
            positions: Some(PlaceTable {
                otherwise: Interpolation::LinearAntialiased,
                ..table
            }),
            ..pictures
        }
    }));
    let described = tower.build()?;
    Ok(match head {
        Some(row) => pooled::behind(described, &row, PooledEnd::Pooler),
        None => described,
    })
}
