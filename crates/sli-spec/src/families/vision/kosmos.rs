//! Kosmos-2 (Peng et al. 2023): rows of a table that attend once to what a tower sees stand at the marked tokens of a text.

use std::rc::Rc;

use super::compose::{Places, Projector, Tied, Tower, behind, decoder_config, dense, norm};
use super::part::DescribePart;
use super::towers::{of_views, only_stack};
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Blocks, Names, Projections};
use crate::{
    Activation, Config, Described, Head, Mixer, Norm, NormKind, PictureRows, Resampled, Scattered,
    Slot, SpecError, Stack, Step, Write,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_model.model."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["text_model.model."],
    outside: &["text_model."],
};

/// Where they have what stands between.
const PROJECTION: &str = "image_to_text_projection.";

/// What marks the tokens at which a picture stands.
const MARKS: &str = "image_embeds_position_mask";

/// Kosmos-2.
pub fn kosmos_2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part("vision_config", "kosmos_2_vision_model", None, &[])?;
    let text = decoder_config(
        config,
        ("text_config", "kosmos_2_text_model"),
        Tied::ByEither,
    )?;
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    let width = tower.width();
    let style = NormStyle::layer(vision.positive("layer_norm_eps")?);
    tower.norm_end(|leaves| norm(leaves, (TOWER.base, "post_layernorm"), width, style));
    let hidden = text.size("embed_dim")?;
    let rule = (PictureRows::Patches { front: 0 }, hidden);
    let features = Projector::new(&tower, rule, |leaves| {
        // Of length 1; the smallest length that the reference knows is 1e-12.
        let unit = Norm {
            kind: NormKind::L2,
            weight: None,
            bias: None,
            epsilon: 1e-24,
        };
        let name: (&[&str], &str) = (&[PROJECTION], "dense");
        let layer = dense(leaves, name, [hidden, width], true, Activation::Linear);
        (Some(unit), vec![layer])
    });
    let queries = queries(&text, hidden, config.size("latent_query_num")?)?;
    let projectors = [features.named("features"), Projector::of_stack(queries)];
    let places = Scattered {
        stack: 2,
        token: u32::MAX,
        marks: Some(MARKS),
        is_scaled: true,
        has_positions: false,
        inputs_of: None,
    };
    let decoder = describe(&text)?;
    behind(
        config,
        (&tower, &projectors, &[]),
        (decoder, DECODER, places),
    )
}

/// Learned rows for every view that attend once to it and to each other.
fn queries(config: &Config, hidden: usize, rows: usize) -> Result<Stack, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let heads = config.heads("attention_heads")?;
    let head_dim = divided(config, "attention_heads", hidden, heads)?;
    let mut queries = Blocks::sized(config, norm, 1, [hidden; 2], [heads, heads, head_dim])?;
    of_views(&mut queries, "queries", rows);
    PROJECTION.clone_into(&mut queries.prefix);
    queries.places = Some(vec!["x_attn".to_owned()]);
    queries.names = Names {
        projections: Projections::Separate(["q_proj", "k_proj", "v_proj"]),
        output: "out_proj",
        ..Names::USUAL
    };
    queries.set_biases(true);
    queries.final_norm = None;
    queries.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        let mut attention = blocks.usual_attention(leaves, number);
        attention.merged = Some(1);
        vec![Step {
            write: Write::Set(Slot::Hidden),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        }]
    }));
    queries.resampled = Some(Rc::new(move |leaves| {
        Resampled::table(leaves.table("latent_query", rows, hidden), rows)
    }));
    let mut queries = only_stack(config, queries)?;
    // That is the decoder's.
    queries.head = Head::default();
    Ok(queries)
}
