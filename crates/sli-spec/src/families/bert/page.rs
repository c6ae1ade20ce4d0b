//! Encoders of pages, whose tokens have boxes: LayoutLM and its third version's text, LiLT, BROS.

use std::rc::Rc;

use super::roberta::of_names;
use super::{BERT, masked, table, usual};
use crate::build::Leaves;
use crate::families::blocks::{Blocks, Classifier, InFront, MixerOf};
use crate::{
    Activation, Apart, Becomes, BoxBuckets, BoxTerm, Config, CornerSines, Described, Gain,
    HeadTransform, Identity, InputKind, InputRow, InputTable, LayoutAttention, LayoutStream,
    LookedUp, Mixer, Position, Shard, Slot, Source, SpecError, Step, TokenInput, Write,
};

/// Where the layout is.
const LAYOUT: Slot = Slot::Stash(0);

/// The tables of a box, and what of it their rows are: both edges, height and width.
const OF_BOX: [(&str, InputRow); 6] = [
    ("x", InputRow::Column(0)),
    ("y", InputRow::Column(1)),
    ("x", InputRow::Column(2)),
    ("y", InputRow::Column(3)),
    ("h", InputRow::Difference([3, 1])),
    ("w", InputRow::Difference([2, 0])),
];

/// The boxes of tokens.
fn boxes(below: usize, ordered: bool) -> TokenInput {
    TokenInput {
        name: "bbox",
        columns: 4,
        kind: InputKind::Boxes { below, ordered },
    }
}

/// The tables of boxes; `place` says how wide one is, and the column that its rows go to.
fn box_tables(
    leaves: &mut Leaves,
    part: &str,
    rows: usize,
    place: impl Fn(usize) -> [usize; 2],
) -> Vec<InputTable> {
    let tables = OF_BOX.iter().enumerate();
    let table = |(index, (axis, row)): (usize, &(&str, InputRow))| {
        let [width, at] = place(index);
        let name = format!("{part}.{axis}_position_embeddings.weight");
        InputTable {
            weight: leaves.table(&name, rows, width),
            at,
            row: *row,
        }
    };
    tables.map(table).collect()
}

/// LayoutLM (Xu et al. 2020): rows of a box's edges and sizes are added.
pub fn layoutlm(config: &Config) -> Result<Described, SpecError> {
    let mut model = masked(config)?;
    let rows = config.size("max_2d_position_embeddings")?;
    let width = model.hidden_size;
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        embedding.inputs = vec![boxes(rows, true)];
        embedding.looked_up = Some(LookedUp {
            tables: box_tables(leaves, "embeddings", rows, |_| [width, 0]),
            width,
            layers: Vec::new(),
            becomes: Becomes::Added,
        });
    }));
    model.build()
}

/// The text of LayoutLMv3 (Huang et al. 2022): rows of a box side by side, and addends by distance on the page.
pub fn layoutlmv3(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["input_size", "patch_size", "num_channels", "visual_embed"]);
    if !config.flag("text_embed")? {
        return Err(config.unsupported("text_embed", "only texts are read, not their pictures"));
    }
    let mut model = of_names(config, &BERT)?;
    model.pooler = None;
    model.ignored.extend([
        "*patch_embed.*",
        "*cls_token",
        "*pos_embed",
        "layoutlmv3.norm.*",
        "layoutlmv3.LayerNorm.*",
        "norm.*",
        "LayerNorm.*",
    ]);
    if number_of_labels(config)? >= 10 {
        model.token_classifier = Classifier {
            front: InFront::dense("classifier.dense", Activation::Tanh),
            names: &["classifier.out_proj"],
            ..Classifier::TOKENS
        };
    }
    let rows = config.size("max_2d_position_embeddings")?;
    let [edge, size] = [config.size("coordinate_size")?, config.size("shape_size")?];
    let width = model.hidden_size;
    if 4 * edge + 2 * size != width {
        let expected = format!("four times it and twice `shape_size` are {width}");
        return Err(config.invalid("coordinate_size", expected));
    }
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        embedding.inputs = vec![boxes(rows, false)];
        let place = move |index: usize| match index {
            0..4 => [edge, index * edge],
            _ => [size, 4 * edge + (index - 4) * size],
        };
        embedding.looked_up = Some(LookedUp {
            tables: box_tables(leaves, "embeddings", rows, place),
            width,
            layers: Vec::new(),
            becomes: Becomes::Added,
        });
    }));
    set_page_distances(config, &mut model)?;
    model.build()
}

/// Labels of a classifier, as the reference's configuration counts them.
fn number_of_labels(config: &Config) -> Result<usize, SpecError> {
    let named = config.value("id2label").and_then(|names| names.as_object());
    match named {
        Some(names) => Ok(names.len()),
        None => Ok(config.optional_size("num_labels")?.unwrap_or(2)),
    }
}

/// Addends by distance, in one table for all layers.
fn set_page_distances(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    // Distances on the page count beside those of tokens alone.
    if !config.flag("has_relative_attention_bias")? {
        config.ignore(&[
            "rel_pos_bins",
            "max_rel_pos",
            "rel_2d_pos_bins",
            "max_rel_2d_pos",
        ]);
        model.ignored.extend(["*encoder.rel_pos_*"]);
        config.flag("has_spatial_attention_bias")?;
        return Ok(());
    }
    let mut terms = vec![(
        "rel_pos_bias",
        None,
        buckets(config, "rel_pos_bins", "max_rel_pos")?,
    )];
    if config.flag("has_spatial_attention_bias")? {
        let on_page = buckets(config, "rel_2d_pos_bins", "max_rel_2d_pos")?;
        terms.push(("rel_pos_x_bias", Some(0), on_page));
        terms.push(("rel_pos_y_bias", Some(3), on_page));
    } else {
        config.ignore(&["rel_2d_pos_bins", "max_rel_2d_pos"]);
    }
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let mut term = |&(name, column, [buckets, max_distance]): &Term| {
            let source = Source::tensor(format!("{}encoder.{name}.weight", own.prefix));
            let source = Source::Reshape(Box::new(source));
            BoxTerm {
                table: leaves.weight(source, &[own.heads * buckets], Shard::Replicate),
                by_bucket: false,
                apart: column.map_or(Apart::Tokens, Apart::Column),
                buckets,
                max_distance,
            }
        };
        attention.positions.push(Position::Boxes(BoxBuckets {
            terms: terms.iter().map(&mut term).collect(),
            scale: own.attention_scale,
        }));
        Some(Mixer::Attention(Box::new(attention)))
    });
    Ok(())
}

/// The name of a table, the column of the boxes whose numbers are apart (none: the tokens themselves), and its buckets and
/// the distance from which all share one.
type Term = (&'static str, Option<usize>, [usize; 2]);

/// A number of buckets, and the distance from which all share one.
fn buckets(config: &Config, count: &str, farthest: &str) -> Result<[usize; 2], SpecError> {
    let [buckets, farthest_of] = [config.size(count)?, config.size(farthest)?];
    if buckets < 4 {
        return Err(config.invalid(count, "at least 4"));
    }
    if farthest_of <= buckets / 4 {
        return Err(config.invalid(farthest, format!("more than {}", buckets / 4)));
    }
    Ok([buckets, farthest_of])
}

/// LiLT (Wang et al. 2022): a narrow stream of the layout beside that of the text, with a network of its own.
pub fn lilt(config: &Config) -> Result<Described, SpecError> {
    const RATIO: &str = "channel_shrink_ratio";
    let mut model = of_names(config, &BERT)?;
    let (hidden, ratio) = (model.hidden_size, config.size(RATIO)?);
    let [narrow, head_dim] = [hidden / ratio, model.head_dim / ratio];
    let inner = model.intermediate_size / ratio;
    if head_dim == 0 || inner == 0 || model.heads * head_dim != narrow {
        let expected = format!("a divisor of {}, the features of a head", model.head_dim);
        return Err(config.invalid(RATIO, expected));
    }
    if !hidden.is_multiple_of(6) {
        return Err(config.invalid("hidden_size", "a multiple of 6"));
    }
    model.stash_size = Some(narrow);
    let boxes_of = config.size("max_2d_position_embeddings")?;
    let positions = config.size("max_position_embeddings")?;
    let norm = model.norm;
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        let part = "layout_embeddings";
        embedding.inputs = vec![boxes(boxes_of, true)];
        let width = hidden / 6;
        let tables = box_tables(leaves, part, boxes_of, |index| [width, index * width]);
        let name = format!("{part}.box_linear_embeddings");
        let dense = leaves.linear(&name, [narrow, hidden], true, Shard::Replicate);
        let name = format!("{part}.box_position_embeddings.weight");
        embedding.looked_up = Some(LookedUp {
            tables,
            width: hidden,
            layers: vec![HeadTransform::plain(dense, Activation::Linear)],
            becomes: Becomes::Stream {
                positions: leaves.table(&name, positions, narrow),
                norm: leaves.norm(&format!("{part}.LayerNorm"), narrow, norm),
            },
        });
    }));
    model.layer_of = Some(Rc::new(move |own, leaves, _| {
        let text = ["", "attention.output"];
        let layout = ["layout_", "attention.layout_output"];
        let streams = [
            stream(own, leaves, text, [hidden, own.head_dim]),
            stream(own, leaves, layout, [narrow, head_dim]),
        ];
        let attention = LayoutAttention {
            heads: own.heads,
            streams,
        };
        let sizes = [hidden, own.intermediate_size];
        let network = leaves.plain_feed_forward([BERT.up, BERT.down], sizes, true, own.activation);
        let norm = leaves.norm("output.LayerNorm", hidden, own.norm);
        let of_text = Step {
            write: Write::AddNorm(norm, Gain::One),
            ..Step::residual(Mixer::FeedForward(network))
        };
        let names = ["layout_intermediate.dense", "layout_output.dense"];
        let network = leaves.plain_feed_forward(names, [narrow, inner], true, own.activation);
        let norm = leaves.norm("layout_output.LayerNorm", narrow, own.norm);
        let of_layout = Step {
            read: LAYOUT,
            write: Write::AddTo(LAYOUT),
            ..Step::residual(Mixer::FeedForward(network))
        };
        let normed = Step {
            read: LAYOUT,
            pre: Some(norm),
            write: Write::Set(LAYOUT),
            ..Step::residual(Mixer::Identity(Identity))
        };
        let attention = Step::residual(Mixer::LayoutAttention(Box::new(attention)));
        vec![attention, of_text, of_layout, normed]
    }));
    model.build()
}

/// The part of a stream in LiLT's attention.
fn stream(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    [part, output]: [&str; 2],
    [width, head_dim]: [usize; 2],
) -> LayoutStream {
    let wide = own.heads * head_dim;
    let projections = ["query", "key", "value"].map(|name| {
        let name = format!("attention.self.{part}{name}");
        leaves.linear(&name, [wide, width], true, Shard::Column)
    });
    let name = format!("{output}.dense");
    LayoutStream {
        head_dim,
        projections,
        output: leaves.linear(&name, [width, wide], true, Shard::Row),
        norm: leaves.norm(&format!("{output}.LayerNorm"), width, own.norm),
    }
}

/// BROS (Hong et al. 2022): queries meet sines of how far the corners of boxes are apart.
pub fn bros(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["n_relations", "classifier_dropout_prob"]);
    config.neutral(
        "dim_bbox",
        &[8.into()],
        "boxes are known by their four corners alone",
    )?;
    let mut model = usual(config, &BERT)?;
    model.ignored.push("*bbox_sinusoid_emb.*.inv_freq");
    let coordinates = 8;
    let told = |key: &str, otherwise: usize| -> Result<usize, SpecError> {
        let told = config.optional_size(key)?.unwrap_or(otherwise);
        if told != otherwise {
            return Err(config.invalid(key, format!("{otherwise}")));
        }
        Ok(told)
    };
    let features = told("dim_bbox_sinusoid_emb_2d", model.hidden_size / 4)?;
    let of_coordinate = told("dim_bbox_sinusoid_emb_1d", features / coordinates)?;
    told("dim_bbox_projection", model.head_dim)?;
    if features == 0 || of_coordinate % 2 != 0 || of_coordinate * coordinates != features {
        return Err(config.invalid("hidden_size", "a multiple of 64"));
    }
    let scale = config.positive("bbox_scale")?;
    model.further_input = Some(Rc::new(move |_, embedding| {
        embedding.inputs = vec![TokenInput {
            name: "bbox",
            columns: coordinates,
            kind: InputKind::Corners,
        }];
    }));
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let name = format!("{}bbox_embeddings.bbox_projection.weight", own.prefix);
        let source = Source::Reshape(Box::new(Source::tensor(name)));
        attention.positions.push(Position::Corners(CornerSines {
            projection: leaves.weight(source, &[own.head_dim * features], Shard::Replicate),
            coordinates,
            frequencies: of_coordinate / 2,
            scale,
        }));
        Some(Mixer::Attention(Box::new(attention)))
    });
    table(config, &mut model, 0)?;
    model.build()
}
