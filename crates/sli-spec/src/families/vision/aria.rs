//! Aria (Li et al. 2024): rows of a table attend once to what a tower sees, in the place of a token.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, dense, norm, scattered, spelled};
use super::part::DescribePart;
use super::siglip::idefics3_plain;
use super::tiles::{decoder, given, one_layer};
use super::towers::{of_views, only_stack};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::Blocks;
use crate::{
    Activation, Attention, Config, Described, HeadTransform, KeyValue, Mask, Mixer, PictureRows,
    Resampled, Scattered, Shard, Slot, Source, SpecError, Split, Stack, Step, Write,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_tower.", "model.vision_tower."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["language_model.model.", "model.language_model."],
    outside: &["language_model.", ""],
};

/// Where they have what attends to the tower.
const PROJECTOR: &[&str] = &["multi_modal_projector.", "model.multi_modal_projector."];

/// Aria.
pub fn aria(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = given(config, "vision_config", "idefics3_vision")?;
    let text = decoder(config, "aria_text")?;
    let mut tower = Tower::read(&vision, idefics3_plain, TOWER)?;
    one_layer(config, &mut tower)?;
    tower.set_points("pixel_mask", true);
    let [rows, columns] = tower.grid().unwrap_or_default();
    let [queries, table] = queries(config, rows * columns)?;
    let width = tower.width();
    let heads = vision.heads("num_attention_heads")?;
    let head_dim = divided(&vision, "num_attention_heads", width, heads)?;
    // Torch's default.
    let style = NormStyle::layer(1e-5);
    let rule = (PictureRows::Patches { front: 0 }, 2 * width);
    let keys = Projector::new(&tower, rule, |leaves| {
        let names = ["k_proj", "v_proj"]
            .map(|name| spelled(PROJECTOR, &format!("cross_attn.{name}.weight")));
        let both = Source::ConcatRows(names.into());
        let shape = [2 * width, width];
        let linear = leaves.linear_of(both, None, shape, Shard::Replicate);
        let name = (PROJECTOR, "cross_attn.layer_norm_kv");
        (
            Some(norm(leaves, name, width, style)),
            vec![HeadTransform::plain(linear, Activation::Linear)],
        )
    });
    let sizes = [heads, heads, head_dim];
    let attending = attending(&vision, (sizes, style), [queries, table, width])?;
    let hidden = text.size("hidden_size")?;
    let rule = PictureRows::Views { rows: queries };
    let projector = Projector::behind((2, width), (rule, hidden), |leaves| {
        let [first, second] =
            ["feed_forward.linear_in", "feed_forward.linear_out"].map(|name| (PROJECTOR, name));
        let (gelu, linear) = (Activation::GeluTanh, Activation::Linear);
        let layers = vec![
            dense(leaves, first, [hidden, width], false, gelu),
            dense(leaves, second, [hidden; 2], false, linear),
        ];
        let name = (PROJECTOR, "layer_norm");
        (Some(norm(leaves, name, width, style)), layers)
    });
    let token = Scattered {
        stack: 3,
        ..scattered(config, "image_token_index")?
    };
    let decoder = describe(&text)?;
    let attending = Projector::of_stack(attending);
    let projectors = [keys.named("features"), attending, projector];
    behind(
        config,
        (&tower, &projectors, &[]),
        (decoder, DECODER, token),
    )
}

/// Rows that a picture of so many patches becomes, and rows of the table.
fn queries(config: &Config, patches: usize) -> Result<[usize; 2], SpecError> {
    const KEY: &str = "projector_patch_to_query_dict";
    const MOST: &str = "max_value_projector_patch_to_query_dict";
    let wrong = || config.invalid(KEY, "numbers of rows by numbers of patches");
    let said = match config.nested(KEY)? {
        None => vec![(1225, 128), (4900, 256)],
        Some(object) => {
            let pairs = object.keys().map(|key| {
                let of: usize = key.parse().map_err(|_| wrong())?;
                Ok((of, object.size(key)?))
            });
            pairs.collect::<Result<Vec<_>, SpecError>>()?
        }
    };
    // Files may say what the class computes.
    let table = if config.in_file(MOST) {
        config.size(MOST)?
    } else {
        said.iter().map(|&(_, rows)| rows).max().unwrap_or(0)
    };
    let own = said.iter().find(|&&(of, _)| of == patches);
    let problem = || config.unsupported(KEY, format!("it says nothing of {patches} patches"));
    let own = own.ok_or_else(problem)?.1;
    if own > table {
        return Err(config.invalid(MOST, format!("at least {own}")));
    }
    Ok([own, table])
}

/// Rows of a table that attend once to the rows behind the tower.
fn attending(
    config: &Config,
    (of, norm): ([usize; 3], NormStyle),
    [rows, table, width]: [usize; 3],
) -> Result<Stack, SpecError> {
    let mut attending = Blocks::sized(config, norm, 1, [width, width], of)?;
    of_views(&mut attending, "resampler", rows);
    PROJECTOR[0].clone_into(&mut attending.prefix);
    attending.places = Some(vec!["cross_attn".to_owned()]);
    attending.stored = Some(Rc::new(|name: &str| {
        spelled(PROJECTOR, name.strip_prefix(PROJECTOR[0]).unwrap_or(name))
    }));
    attending.final_norm = None;
    attending.resampled = Some(Rc::new(move |leaves| {
        Resampled::table(leaves.table("query", table, width), table)
    }));
    attending.layer_of = Some(Rc::new(move |_, leaves, _| {
        let norm = leaves.norm("layer_norm", width, norm);
        let first = leaves.linear("q_proj", [width; 2], false, Shard::Replicate);
        let fused = |leaves: &Leaves, name: &str, rows: &[usize], part| {
            let fused = leaves.tensor(&format!("multihead_attn.in_proj_{name}"));
            fused.part(Split::Rows(rows.to_vec()), part)
        };
        let weight = fused(leaves, "weight", &[width; 3], 0);
        let bias = fused(leaves, "bias", &[width; 3], 0);
        let query = leaves.linear_of(weight, Some(bias), [width; 2], Shard::Column);
        // Keys and values are made of either half of a row.
        let mut half = |part: usize| {
            let both = fused(leaves, "weight", &[width, 2 * width], 1).block_diagonal(2);
            let weight = both.part(Split::Rows(vec![width; 2]), part);
            let bias = fused(leaves, "bias", &[width; 3], 1 + part);
            leaves.linear_of(weight, Some(bias), [width, 2 * width], Shard::Column)
        };
        let key_value = KeyValue::OfStack {
            stack: 1,
            key: half(0),
            value: half(1),
        };
        let name = "multihead_attn.out_proj";
        let output = leaves.linear(name, [width; 2], true, Shard::Row);
        let attention = Attention::plain(of, query, key_value, output, Mask::Full);
        let linear = leaves.linear("linear", [width; 2], true, Shard::Replicate);
        let set = |mixer| Step {
            write: Write::Set(Slot::Hidden),
            ..Step::residual(mixer)
        };
        vec![
            Step {
                pre: Some(norm),
                ..set(Mixer::Linear(first))
            },
            set(Mixer::Attention(Box::new(attention))),
            set(Mixer::Linear(linear)),
        ]
    }));
    only_stack(config, attending)
}
