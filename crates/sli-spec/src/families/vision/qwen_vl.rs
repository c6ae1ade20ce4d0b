//! Qwen-VL (Bai et al. 2023): rows of a table attend once to what a tower sees, in the place of a token.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind};
use super::towers::{CLIP, Sizes, of_pictures, of_views, only_stack};
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::{
    Activation, Attention, Config, Described, HeadTransform, Interpolation, KeyValue, Mask, Mixer,
    PictureRows, Pictures, PlaceTable, PlacedRows, Resampled, Scattered, Shard, Slot, Source,
    SpecError, Split, Stack, Step, Write,
};

/// The key of the tower.
pub const VISUAL: &str = "visual";

/// The name that its configuration goes by here: files give it none.
const TOWER_TYPE: &str = "qwen_visual";

/// Where files have the tower and what attends to it.
const TOWER: Places = Places {
    base: &["transformer.visual."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["transformer."],
    outside: &[""],
};

/// The names of the tower's layers.
static LAYERS: Names = Names {
    layers: "transformer.resblocks",
    output: "attn.out_proj",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    ..CLIP
};

/// Rows and columns of the tower's table of places.
const PLACES: [usize; 2] = [16; 2];

/// Features of a head of the rows that attend.
const HEAD: usize = 128;

/// The norms of tower and rows.
fn norm() -> NormStyle {
    NormStyle::layer(1e-6)
}

/// A decoder behind the tower.
pub fn qwen_vl(config: &Config, decoder: Described) -> Result<Described, SpecError> {
    let visual = config.part(VISUAL, TOWER_TYPE, None, &[])?;
    let tower = Tower::read(&visual, tower, TOWER)?;
    let hidden = visual.size("output_dim")?;
    if hidden != config.size("hidden_size")? {
        let expected = format!("{hidden}, as of the tower's rows");
        return Err(config.invalid("hidden_size", expected));
    }
    let queries = visual.size("n_queries")?;
    let side = queries.isqrt();
    if side * side != queries {
        return Err(visual.invalid("n_queries", "the number of places of a square"));
    }
    let patches = tower.shown_grid();
    let table = move |leaves: &mut crate::build::Leaves| PlaceTable {
        weight: leaves.weight(
            Source::tensor(stored("attn_pool.pos_embed")),
            &[queries, hidden],
            Shard::Column,
        ),
        first: 0,
        grid: [side; 2],
        otherwise: Interpolation::Cubic,
        turned: false,
    };
    let rule = PictureRows::Patches { front: 0 };
    let width = tower.width();
    let keys = Projector::new(&tower, (rule, hidden), |leaves| {
        let weight = Source::tensor(stored("attn_pool.kv_proj.weight"));
        let linear = leaves.linear_of(weight, None, [hidden, width], Shard::Replicate);
        let layer = HeadTransform {
            norm: Some(leaves.norm(&stored("attn_pool.ln_kv"), hidden, norm())),
            ..HeadTransform::plain(linear, Activation::Linear)
        };
        (None, vec![layer])
    });
    let keys = keys.placed(|leaves| PlacedRows {
        table: table(leaves),
        grid: patches,
        beside: true,
    });
    let attending = attending(&visual, [queries, side, hidden])?;
    let rule = PictureRows::Views { rows: queries };
    let projector = Projector::behind((2, hidden), (rule, hidden), |leaves| {
        let weight = Source::tensor(stored("proj")).transpose();
        let linear = leaves.linear_of(weight, None, [hidden; 2], Shard::Replicate);
        let norm = leaves.norm(&stored("ln_post"), hidden, norm());
        (
            Some(norm),
            vec![HeadTransform::plain(linear, Activation::Linear)],
        )
    });
    let first = visual.number("image_start_id")?;
    if first.fract() != 0.0 || !(0.0..f64::from(u32::MAX - 2)).contains(&first) {
        return Err(visual.invalid("image_start_id", "a token"));
    }
    // Behind the tokens of start and end.
    let token = Scattered {
        stack: 3,
        token: first as u32 + 2,
        has_positions: false,
        inputs_of: None,
        marks: None,
        is_scaled: false,
    };
    let projectors = [
        keys.named("features"),
        Projector::of_stack(attending),
        projector,
    ];
    behind(
        config,
        (&tower, &projectors, &[]),
        (decoder, DECODER, token),
    )
}

/// A tensor of the tower's.
fn stored(name: &str) -> String {
    format!("{}{name}", TOWER.base[0])
}

/// The tower: CLIP's without a row of a class, heads side by side in one projection, places of 16 x 16.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    let width = config.size("width")?;
    let sizes = Sizes::of_square(config, width, 3)?;
    let inner = config.scaled("mlp_ratio", width)?;
    let heads = config.heads("heads")?;
    let head_dim = divided(config, "heads", width, heads)?;
    let of = [heads, heads, head_dim];
    let mut tower = Blocks::sized(config, norm(), config.layers("layers")?, [width, inner], of)?;
    of_pictures(&mut tower, "vision");
    (tower.names, tower.arrangement) = (LAYERS, Arrangement::pre("ln_1", "ln_2"));
    tower.set_biases(true);
    tower.activation = Activation::Gelu;
    tower.names.projections = Projections::Blocks {
        name: "attn.in_proj",
        blocks: heads,
        order: [0, 1, 2],
    };
    tower.gated = false;
    tower.final_norm = None;
    tower.pictures = Some(Rc::new(move |leaves| Pictures {
        positions: Some(PlaceTable {
            weight: {
                let stored = leaves.tensor("positional_embedding");
                let shape = [PLACES.iter().product(), width];
                leaves.weight(stored, &shape, Shard::Column)
            },
            first: 0,
            grid: PLACES,
            otherwise: Interpolation::Cubic,
            turned: false,
        }),
        norm: Some(leaves.norm("ln_pre", width, norm())),
        ..sizes.pictures(leaves, "conv1", false)
    }));
    tower.build()
}

/// Rows of a table, so many and of a square of so many, that attend once to rows with their places, which stand in front of
/// the same without.
fn attending(config: &Config, [queries, side, hidden]: [usize; 3]) -> Result<Stack, SpecError> {
    let heads = divided(config, "output_dim", hidden, HEAD)?;
    let of = [heads, heads, HEAD];
    let mut attending = Blocks::sized(config, norm(), 1, [hidden, hidden], of)?;
    of_views(&mut attending, "resampler", queries);
    TOWER.base[0].clone_into(&mut attending.prefix);
    attending.places = Some(vec!["attn_pool".to_owned()]);
    attending.final_norm = None;
    attending.resampled = Some(Rc::new(move |leaves| {
        let query = leaves.tensor("attn_pool.query");
        let weight = leaves.weight(query, &[queries, hidden], Shard::Column);
        let places = leaves.tensor("attn_pool.pos_embed");
        let places = leaves.weight(places, &[queries, hidden], Shard::Column);
        Resampled {
            norm: Some(leaves.norm("attn_pool.ln_q", hidden, norm())),
            placed: Some(PlacedRows {
                table: PlaceTable {
                    weight: places,
                    first: 0,
                    grid: [side; 2],
                    otherwise: Interpolation::None,
                    turned: false,
                },
                grid: [side; 2],
                beside: false,
            }),
            ..Resampled::table(weight, queries)
        }
    }));
    attending.layer_of = Some(Rc::new(move |_, leaves, _| {
        let fused = |leaves: &crate::build::Leaves, name: &str, rows: &[usize], part| {
            let fused = leaves.tensor(&format!("attn.in_proj_{name}"));
            fused.part(Split::Rows(rows.to_vec()), part)
        };
        let weight = fused(leaves, "weight", &[hidden; 3], 0);
        let bias = fused(leaves, "bias", &[hidden; 3], 0);
        let query = leaves.linear_of(weight, Some(bias), [hidden; 2], Shard::Column);
        // Keys are made of the first half of a row, values of the second.
        let mut half = |part: usize| {
            let both = fused(leaves, "weight", &[hidden, 2 * hidden], 1).block_diagonal(2);
            let weight = both.part(Split::Rows(vec![hidden; 2]), part);
            let bias = fused(leaves, "bias", &[hidden; 3], 1 + part);
            leaves.linear_of(weight, Some(bias), [hidden, 2 * hidden], Shard::Column)
        };
        let key_value = KeyValue::OfStack {
            stack: 1,
            key: half(0),
            value: half(1),
        };
        let output = leaves.linear("attn.out_proj", [hidden; 2], true, Shard::Row);
        let attention = Attention::plain(of, query, key_value, output, Mask::Full);
        vec![Step {
            write: Write::Set(Slot::Hidden),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        }]
    }));
    only_stack(config, attending)
}
