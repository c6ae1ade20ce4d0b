//! Perceiver (Jaegle et al. 2021) on bytes of a text: an array of rows that is the same for every record reads them, runs
//! through all layers, and is read by a row for every byte, or by one for the record.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, Judged, Names, Tie, UnusedHead,
};
use crate::model_type::{ModelType, limited, row};
use crate::{
    Attention, Config, Described, KeyValue, LengthLimit, Mask, Mixer, Resampled, RowRule, Sequence,
    Shard, Slot, SpecError, Step, Task, Write,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[limited(row("perceiver", perceiver), "of texts alone")];

/// Of `LayerNorm` as torch has it.
const EPSILON: f64 = 1e-5;

/// Keys of what reads and makes other things than texts.
const OF_OTHERS: [&str; 10] = [
    "_label_trainable_num_channels",
    "audio_samples_per_frame",
    "image_size",
    "layer_norm_eps",
    "num_frames",
    "output_num_channels",
    "output_shape",
    "samples_per_patch",
    "train_size",
    "is_decoder",
];

/// The layers of a stack.
#[derive(Clone, Copy)]
struct Layer {
    /// The stack whose end is read; `None`: the rows see each other.
    source: Option<usize>,
    heads: usize,
    /// Features of all queries, and of all values.
    queries: usize,
    values: usize,
    /// Of the rows, and of what is read.
    widths: [usize; 2],
    /// Times the width of the rows: what is inside the network.
    widening: usize,
    /// What the attention gives is added to the rows; else it replaces them.
    adds: bool,
}

/// Perceiver, for masked bytes or for classes of texts.
pub fn perceiver(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&OF_OTHERS);
    let masks = match config.class()?.task {
        Task::MaskedLm => true,
        Task::SequenceClassification => false,
        _ => {
            let problem = "it reads no text: its inputs are rows of numbers";
            return Err(config.unsupported("architectures", problem));
        }
    };
    let (width, latents) = (config.size("d_model")?, config.size("d_latents")?);
    let positions = config.size("max_position_embeddings")?;
    let cross = "encoder.cross_attention.attention.self.layernorm2";
    let mut bytes = part(config, "inputs", width, Vec::new())?;
    bytes.names.final_norm = cross;
    bytes.final_norm = Some(bytes.norm);
    bytes.learned_positions("input_preprocessor.position_embeddings", 0, positions);
    let decoder = if masks { "decoder" } else { "decoder.decoder" };
    let mut encoder = encoder(config, [width, latents])?;
    encoder.names.final_norm = if masks {
        "decoder.decoding_cross_attention.attention.self.layernorm2"
    } else {
        "decoder.decoder.decoding_cross_attention.attention.self.layernorm2"
    };
    encoder.final_norm = Some(encoder.norm);
    let last = if masks { width } else { latents };
    let place = format!("{decoder}.decoding_cross_attention");
    let mut output = part(config, "decoder", last, vec![place])?;
    let layer = if masks {
        Layer {
            source: Some(1),
            heads: 8,
            queries: 256,
            values: width,
            widths: [width, latents],
            widening: 1,
            adds: false,
        }
    } else {
        Layer {
            source: Some(1),
            heads: 1,
            queries: latents,
            values: latents,
            widths: [latents; 2],
            widening: 1,
            adds: true,
        }
    };
    layer.check(config, "d_model")?;
    output.layer_of = Some(Rc::new(move |own, leaves, _| layer.steps(own, leaves)));
    let rows = if masks { positions } else { 1 };
    set_table(
        &mut output,
        format!("{decoder}.output_position_encodings.position_embeddings"),
        rows,
    );
    if masks {
        output.tie = Tie::Always(true);
        output.head_bias = true;
        output.tied_bias = Some("embedding_decoder.bias");
    } else {
        output.sequence = Sequence::Rows(RowRule::Fixed(1));
        output.sequence_classifier = Some(Classifier::with_bias(
            Judged::First,
            InFront::Nothing,
            &["perceiver.decoder.decoder.final_layer"],
        ));
    }
    output.build_last(&[bytes, encoder])
}

/// The array that is the same for every record, and its layers.
fn encoder(config: &Config, [width, latents]: [usize; 2]) -> Result<Blocks<'_>, SpecError> {
    const SHAPE: &str = "cross_attention_shape_for_attention";
    let said = |key| config.optional_size(key);
    let (queries, values) = (said("qk_channels")?, said("v_channels")?);
    let like = match config.optional_text(SHAPE)?.as_deref() {
        Some("kv") => width,
        Some("q") => latents,
        _ if queries.is_some() => latents,
        _ => return Err(config.unsupported(SHAPE, "`kv` and `q` are known")),
    };
    let layer = |source, heads: &str, widening: &str, adds, widths, like: usize| {
        let queries = queries.unwrap_or(like);
        Ok::<_, SpecError>(Layer {
            source,
            heads: config.heads(heads)?,
            queries,
            values: values.unwrap_or(queries),
            widths,
            widening: config.size(widening)?,
            adds,
        })
    };
    let adds = config.flag("use_query_residual")?;
    let cross = layer(
        Some(0),
        "num_cross_attention_heads",
        "cross_attention_widening_factor",
        adds,
        [latents, width],
        like,
    )?;
    let own = layer(
        None,
        "num_self_attention_heads",
        "self_attention_widening_factor",
        true,
        [latents; 2],
        latents,
    )?;
    cross.check(config, "num_cross_attention_heads")?;
    own.check(config, "num_self_attention_heads")?;
    if own.values != latents {
        let expected = format!("{latents}, the width of the rows that they are added to");
        return Err(config.invalid("v_channels", expected));
    }
    let (blocks, layers) = (
        config.size("num_blocks")?,
        config.layers("num_self_attends_per_block")?,
    );
    let again = (0..blocks).flat_map(|_| 0..layers);
    let again = again.map(|layer| format!("encoder.self_attends.{layer}"));
    let places = std::iter::once("encoder.cross_attention".to_owned()).chain(again);
    let mut encoder = part(config, "latents", latents, places.collect())?;
    let rows = config.size("num_latents")?;
    encoder.sequence = Sequence::Rows(RowRule::Fixed(rows));
    set_table(&mut encoder, "embeddings.latents".into(), rows);
    encoder.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        let layer = if number == 0 { cross } else { own };
        layer.steps(blocks, leaves)
    }));
    Ok(encoder)
}

fn set_table(stack: &mut Blocks<'_>, name: String, rows: usize) {
    let width = stack.hidden_size;
    stack.resampled = Some(Rc::new(move |leaves| {
        Resampled::table(leaves.table(&name, rows, width), rows)
    }));
}

/// A stack with layers at these places.
fn part<'c>(
    config: &'c Config,
    name: &'static str,
    width: usize,
    places: Vec<String>,
) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::layer(EPSILON);
    let count = places.len();
    let mut part = Blocks::sized(config, norm, count, [width, width], [1, 1, width])?;
    (part.family, part.stack) = ("perceiver", name);
    part.names = Names {
        tokens: "input_preprocessor.embeddings",
        ..Names::USUAL
    };
    part.arrangement = Arrangement::pre("attention.self.layernorm1", "layernorm");
    part.masks.fill(Mask::Full);
    part.places = Some(places);
    part.activation = config.activation("hidden_act")?;
    part.final_norm = None;
    part.length_limit = Some(LengthLimit::None);
    part.sequence_classifier = None;
    part.ignored = Vec::new();
    part.unused_head = UnusedHead {
        without: &["embedding_decoder.bias"],
        tied: &[],
        own: &[],
    };
    Ok(part)
}

impl Layer {
    fn check(self, config: &Config, key: &str) -> Result<(), SpecError> {
        divided(config, key, self.queries, self.heads)?;
        divided(config, key, self.values, self.heads)?;
        Ok(())
    }

    fn steps(self, own: &Blocks<'_>, leaves: &mut Leaves) -> Vec<Step> {
        let [rows, read] = self.widths;
        let mut linear = |name: &str, shape, shard| {
            leaves.linear(&format!("attention.{name}"), shape, true, shard)
        };
        let query = linear("self.query", [self.queries, rows], Shard::Column);
        let key = linear("self.key", [self.queries, read], Shard::Column);
        let value = linear("self.value", [self.values, read], Shard::Column);
        let output = linear("output.dense", [rows, self.values], Shard::Row);
        let key_value = match self.source {
            Some(stack) => KeyValue::OfStack { stack, key, value },
            None => KeyValue::Own {
                key,
                value: Some(value),
            },
        };
        let sizes = [self.heads, self.heads, self.queries / self.heads];
        let attention = Attention {
            value_dim: self.values / self.heads,
            ..Attention::plain(sizes, query, key_value, output, Mask::Full)
        };
        let norm = leaves.norm("attention.self.layernorm1", rows, own.norm);
        let write = if self.adds {
            Write::Add
        } else {
            Write::Set(Slot::Hidden)
        };
        let attended = Step {
            pre: Some(norm),
            write,
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        };
        let norm = leaves.norm("layernorm", rows, own.norm);
        let sizes = [rows, self.widening * rows];
        let names = ["mlp.dense1", "mlp.dense2"];
        let network = leaves.plain_feed_forward(names, sizes, true, own.activation);
        let fed = Step {
            pre: Some(norm),
            ..Step::residual(Mixer::FeedForward(network))
        };
        vec![attended, fed]
    }
}
