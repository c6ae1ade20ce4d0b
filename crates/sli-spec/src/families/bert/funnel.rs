//! Funnel transformers (Dai et al. 2020): blocks of layers, each on half as many rows as the one before, and a decoder on
//! all of them again.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, pattern};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, MixerOf, Names, UnusedHead,
};
use crate::{
    Activation, Attention, Config, Described, DistanceKeys, DistanceTable, DistanceVectors,
    Halving, KeyValue, LengthLimit, Mask, Mixer, Position, QueryBiases, Resampled, Resampling,
    RowPlaces, RowRule, Segments, Sequence, Shard, Source, SpecError, Task,
};

/// The kind of the token in front, which is of the same segment as all others.
const NEUTRAL: u32 = 2;

/// Funnel: a stack for each block, and the decoder but for the base model.
pub fn funnel(config: &Config) -> Result<Described, SpecError> {
    const REPEATS: &str = "block_repeats";
    let funnel = Funnel::read(config)?;
    let mut stacks = Vec::new();
    for (block, (&layers, &repeats)) in funnel.sizes.iter().zip(&funnel.repeats).enumerate() {
        let places = (0..layers).flat_map(|layer| {
            std::iter::repeat_n(format!("encoder.blocks.{block}.{layer}"), repeats)
        });
        let name = pattern(format!("block{block}"));
        let mut stack = funnel.stack(name, block, places.collect())?;
        if block > 0 {
            funnel.shorten(&mut stack, block);
        }
        stacks.push(stack);
    }
    if is_base(config)? {
        config.ignore(&["num_decoder_layers"]);
        let Some(mut last) = stacks.pop() else {
            return Err(config.invalid("block_sizes", "sizes of blocks"));
        };
        let dense = InFront::dense("classifier.linear_hidden", Activation::Tanh);
        let names = &["classifier.linear_out"];
        last.sequence_classifier = Some(Classifier::first_token(dense, names));
        last.ignored.push("*decoder.layers.*");
        return last.build_last(&stacks);
    }
    if funnel.repeats.first() != Some(&1) {
        let problem = "the decoder would read the middle of the first block";
        return Err(config.unsupported(REPEATS, problem));
    }
    let layers = config.layers("num_decoder_layers")?;
    let places = (0..layers).map(|layer| format!("decoder.layers.{layer}"));
    let mut decoder = funnel.stack("decoder", 0, places.collect())?;
    let (shorter, halving) = (stacks.len() - 1, funnel.halving);
    decoder.resampled = Some(Rc::new(move |_| {
        Resampled::plain(Resampling::Spread {
            stack: 0,
            shorter,
            times: 1 << shorter,
            halving,
        })
    }));
    decoder.build_last(&stacks)
}

/// What the stacks have in common.
#[derive(Clone)]
struct Funnel<'c> {
    config: &'c Config,
    sizes: Vec<usize>,
    repeats: Vec<usize>,
    halving: Halving,
    /// Pooled by the largest numbers.
    largest: bool,
    /// The first layer of a block sees the rows that its own are made of.
    sees_all: bool,
    /// Distances are found by shifts of rows.
    shifts: bool,
}

impl<'c> Funnel<'c> {
    fn read(config: &'c Config) -> Result<Self, SpecError> {
        let sizes = config.sizes("block_sizes")?;
        let repeats = match config.value("block_repeats") {
            None => vec![1; sizes.len()],
            Some(_) => config.sizes("block_repeats")?,
        };
        if repeats.len() != sizes.len() {
            let expected = format!("a number for each of {} blocks", sizes.len());
            return Err(config.invalid("block_repeats", expected));
        }
        let largest = match config.optional_text("pooling_type")?.as_deref() {
            Some("mean") => false,
            Some("max") => true,
            _ => return Err(config.unsupported("pooling_type", "`mean` and `max` are known")),
        };
        let shifts = match config.optional_text("attention_type")?.as_deref() {
            Some("relative_shift") => true,
            Some("factorized") => false,
            _ => {
                let problem = "`relative_shift` and `factorized` are known";
                return Err(config.unsupported("attention_type", problem));
            }
        };
        let halving = Halving {
            first_apart: config.flag("separate_cls")?,
            truncates: config.flag("truncate_seq")?,
        };
        Ok(Self {
            config,
            sizes,
            repeats,
            halving,
            largest,
            sees_all: config.flag("pool_q_only")?,
            shifts,
        })
    }

    /// Layers at these places, on rows that were halved so often.
    fn stack(
        &self,
        name: &'static str,
        times: usize,
        places: Vec<String>,
    ) -> Result<Blocks<'c>, SpecError> {
        let config = self.config;
        let hidden = config.size("d_model")?;
        let (heads, head_dim) = (config.heads("n_head")?, config.heads("d_head")?);
        if hidden % 2 != 0 {
            return Err(config.invalid("d_model", "an even number"));
        }
        let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
        let sizes = [hidden, config.size("d_inner")?];
        let count = places.len();
        let mut stack = Blocks::sized(config, norm, count, sizes, [heads, heads, head_dim])?;
        (stack.family, stack.stack) = ("funnel", name);
        stack.names = Names {
            tokens: "embeddings.word_embeddings",
            up: "ffn.linear_1",
            down: "ffn.linear_2",
            ..Names::USUAL
        };
        stack.arrangement = Arrangement::after_sum("attention.layer_norm", "ffn.layer_norm");
        stack.masks.fill(Mask::Full);
        stack.places = Some(places);
        stack.gated = false;
        stack.set_biases(true);
        stack.activation = config.activation("hidden_act")?;
        stack.embedding_norm = Some(("embeddings.layer_norm", norm));
        stack.final_norm = None;
        stack.length_limit = Some(LengthLimit::None);
        stack.sequence_classifier = None;
        stack.head_bias = true;
        stack.ignored = vec!["discriminator_predictions.*"];
        stack.unused_head = UnusedHead {
            without: &["lm_head.*"],
            tied: &["lm_head.weight"],
            own: &[],
        };
        let places = RowPlaces {
            stride: 1 << times,
            first_apart: self.halving.first_apart,
        };
        let sees_all = times > 0 && self.sees_all;
        stack.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
            let source = (sees_all && layer == 0).then(|| times - 1);
            let attention = attention(own, leaves, places, source);
            Some(Mixer::Attention(Box::new(attention)))
        });
        Ok(stack)
    }

    /// Makes the rows of a stack those of the one before, by twos.
    fn shorten(&self, stack: &mut Blocks<'_>, times: usize) {
        let (halving, largest) = (self.halving, self.largest);
        stack.sequence = Sequence::Rows(RowRule::Halved {
            times,
            halving,
            shifts: self.shifts,
        });
        stack.resampled = Some(Rc::new(move |_| {
            Resampled::plain(Resampling::Halved {
                stack: times - 1,
                halving,
                largest,
            })
        }));
    }
}

/// The attention of a layer, to its own rows or to those of an earlier stack.
fn attention(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    places: RowPlaces,
    source: Option<usize>,
) -> Attention {
    let (hidden, wide) = (own.hidden_size, own.heads * own.head_dim);
    let name = |name: &str| format!("attention.{name}");
    let flat = |leaves: &Leaves, of: &str| Source::Reshape(Box::new(leaves.tensor(&name(of))));
    let bias = flat(leaves, "r_w_bias");
    let weight = leaves.tensor(&name("q_head.weight"));
    let query = leaves.linear_of(weight, Some(bias), [wide, hidden], Shard::Column);
    let key = leaves.linear(&name("k_head"), [wide, hidden], true, Shard::Column);
    let value = leaves.linear(&name("v_head"), [wide, hidden], true, Shard::Column);
    // Stored `[in, heads, head]`.
    let distances = flat(leaves, "r_kernel").transpose();
    let distances = leaves.linear_of(distances, None, [wide, hidden], Shard::Column);
    let of_distances = leaves.flat(&name("r_r_bias"), wide);
    let of_kinds = leaves.flat(&name("r_s_bias"), wide);
    // Stored with other kinds first.
    let kinds = leaves.tensor(&name("seg_embed"));
    let kind = |index| Source::Index {
        of: Box::new(kinds.clone()),
        index,
    };
    let kinds = Source::Reshape(Box::new(Source::ConcatRows(vec![kind(1), kind(0)])));
    let kinds = leaves.weight(kinds, &[2 * wide], Shard::Column);
    let table = DistanceTable::Sines { farthest: None };
    let vectors = DistanceVectors {
        keys: Some(DistanceKeys::Projected(distances)),
        query_biases: QueryBiases::instead(query.bias, of_distances),
        segments: Some(Segments {
            vectors: kinds,
            bias: of_kinds,
            neutral: Some(NEUTRAL),
        }),
        places: Some(places),
        ..DistanceVectors::new(table, hidden, own.attention_scale)
    };
    let output = leaves.linear(&name("post_proj"), [hidden, wide], true, Shard::Row);
    let key_value = match source {
        Some(stack) => KeyValue::OfStack { stack, key, value },
        None => KeyValue::Own {
            key,
            value: Some(value),
        },
    };
    let sizes = [own.heads, own.heads, own.head_dim];
    Attention {
        positions: vec![Position::Vectors(Box::new(vectors))],
        ..Attention::plain(sizes, query, key_value, output, Mask::Full)
    }
}

/// Whether the class has no decoder.
fn is_base(config: &Config) -> Result<bool, SpecError> {
    let classes = config.texts("architectures")?.unwrap_or_default();
    let of_base = |name: &String| name.ends_with("BaseModel") || name.contains("MultipleChoice");
    let task = config.class()?.task;
    Ok(task == Task::SequenceClassification || classes.first().is_some_and(of_base))
}
