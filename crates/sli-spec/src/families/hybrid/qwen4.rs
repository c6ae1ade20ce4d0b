//! Qwen4-Exp: residual streams, features of n-grams, attention to chosen blocks of keys beside the gated delta rule.

use std::rc::Rc;

use super::decoder;
use super::delta::{Delta, gated_attention, gated_options, with_shared};
use crate::build::{Leaves, NormStyle, layer_types};
use crate::families::blocks::{
    Arrangement, BlockSizes, Blocks, Form, GatedStreams, MixerOf, Norms, Residual,
};
use crate::families::coordinates::turn_by_coordinates;
use crate::families::mixture::{mix, qwen_experts};
use crate::rope::Pairs;
use crate::{
    Activation, BlockScore, Config, Convolution, Described, Mixer, NgramInput, NgramTable,
    NgramTables, Shard, Slot, Source, SpecError, Step, Write,
};

/// Odd numbers and shifts of Steele, Lea and Flood's generator (2014).
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// What the seeds of layers differ by.
const SEED_STEP: u64 = 10_007;

/// Rows of a table, at most.
const MOST_ROWS: u64 = 1 << 31;

/// The text model.
pub fn qwen4_exp_text(config: &Config) -> Result<Described, SpecError> {
    let inner = config.size("moe_intermediate_size")?;
    let mut model = decoder(config, true, inner)?;
    gated_attention(config, &mut model, &[("model.", "model.language_model.")])?;
    let (options, assumed) = (gated_options(&model), Some([11, 11, 10]));
    turn_by_coordinates(config, (&mut model, &options), assumed, Pairs::ByTurns)?;
    let recurrent = recurrent(config, model.layers())?;
    if recurrent.contains(&false) {
        model.block_choice = Some(choice(config, &model)?);
        model.one_way = true;
    } else {
        config.ignore(&[
            "indexer_budget",
            "indexer_compress_ratio",
            "indexer_head_dim",
            "indexer_kv_heads",
            "indexer_n_heads",
        ]);
    }
    let norm = NormStyle::rms(model.norm.epsilon);
    let delta = Delta::new(config, &model)?;
    let gate = gate(config, model.activation)?;
    let streams = GatedStreams {
        streams: config.heads("hc_count")?,
        rank: config.size("hc_lowrank")?,
        places: ["attn_hyper_connection", "mlp_hyper_connection"],
        head: "hyper_connection_mixer",
    };
    if streams.streams < 2 {
        return Err(config.invalid("hc_count", "at least 2"));
    }
    model.residual = Residual::Gated(streams);
    model.arrangement = Arrangement {
        attention: Some(Norms::default()),
        feed_forward: Some(Norms::default()),
        form: Form::Sequential,
    };
    model.final_norm = None;
    let mut experts = qwen_experts(config, &model)?;
    with_shared(config, &mut experts)?;
    mix(&mut model, experts, |_| true);
    let is_recurrent = recurrent.clone();
    model.attention_of = MixerOf::new(move |_, leaves, layer| {
        is_recurrent[layer].then(|| {
            let mut mixer = delta.of_parts(leaves, norm);
            mixer.gate_activation = gate;
            Mixer::GatedDelta(Box::new(mixer))
        })
    });
    // The class reckons it.
    config.ignore(&["number_of_conv_states"]);
    if let Some(ngrams) = Ngrams::read(config, &model, streams, &recurrent)? {
        ngrams.add_to(&mut model);
    }
    model.build()
}

/// Which layers have a state; the others attend to chosen blocks.
fn recurrent(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let interval = config
        .optional_size("full_attention_interval")?
        .unwrap_or(4);
    let kinds = layer_types(config, layers, |layer| {
        if (layer + 1) % interval == 0 {
            "indexed_attention"
        } else {
            "linear_attention"
        }
    })?;
    let of = |kind: &String| match kind.as_str() {
        "linear_attention" => Ok(true),
        // Published files call it by the other name.
        "indexed_attention" | "full_attention" => Ok(false),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            Err(config.unsupported("layer_types", reason))
        }
    };
    kinds.iter().map(of).collect()
}

/// The indexer of blocks.
fn choice(config: &Config, model: &Blocks<'_>) -> Result<BlockSizes, SpecError> {
    let key = |name: &str| match config.optional_heads(name)? {
        Some(value) => Ok(value),
        None => Err(config.missing(name)),
    };
    if key("indexer_kv_heads")? != 1 {
        return Err(config.unsupported("indexer_kv_heads", "an indexer has one key"));
    }
    let (budget, size) = (key("indexer_budget")?, key("indexer_compress_ratio")?);
    if !budget.is_multiple_of(size) {
        return Err(config.invalid("indexer_budget", format!("a multiple of {size}")));
    }
    let sizes = BlockSizes {
        heads: key("indexer_n_heads")?,
        head_dim: key("indexer_head_dim")?,
        size,
        top_k: budget / size,
        by: BlockScore::MeanKey,
        projection: Some("index_qk_proj"),
        norms: ["q_layernorm", "k_layernorm"],
        norm: model.norm,
        rope: model.ropes.first().cloned().flatten(),
    };
    let rotated = sizes.rope.as_ref().map_or(0, |rope| rope.dims);
    if rotated > sizes.head_dim {
        return Err(config.invalid("indexer_head_dim", format!("at least {rotated}")));
    }
    Ok(sizes)
}

/// The activation of the gate of the gated delta rule.
fn gate(config: &Config, usual: Activation) -> Result<Activation, SpecError> {
    let named = config.optional_text("output_gate_type")?;
    let activation = match named.as_deref() {
        None | Some("") => usual,
        Some("sigmoid") => Activation::Sigmoid,
        Some("silu") => Activation::Silu,
        Some(_) => return Err(config.unsupported("output_gate_type", "`sigmoid` and `silu` are")),
    };
    match activation {
        Activation::Sigmoid | Activation::Silu => Ok(activation),
        _ => Err(config.unsupported("hidden_act", "gates are `sigmoid` or `silu`")),
    }
}

/// The token that ends what n-grams see, the first of those that end a text.
fn stop(config: &Config) -> Result<u32, SpecError> {
    const KEY: &str = "eos_token_id";
    let stop = match config.value(KEY) {
        Some(serde_json::Value::Array(_)) => {
            let listed = config.numbers(KEY)?.unwrap_or_default();
            let first = listed.first().filter(|id| (0.0..1e9).contains(*id));
            first.map(|&id| id as u32)
        }
        _ => config.token_id(KEY)?,
    };
    stop.ok_or_else(|| config.missing(KEY))
}

/// Features of n-grams: their tables, and the layers that have them.
struct Ngrams {
    /// The layers, in order.
    layers: Vec<usize>,
    tables: NgramTables,
    /// Rows of each layer's tables together.
    rows: Vec<u64>,
    /// Pieces of which a layer's tables are stored.
    shards: usize,
    /// Rows of the convolution.
    kernel: usize,
    streams: GatedStreams,
}

impl Ngrams {
    /// `None`: no layer has any.
    fn read(
        config: &Config,
        model: &Blocks<'_>,
        streams: GatedStreams,
        recurrent: &[bool],
    ) -> Result<Option<Self>, SpecError> {
        const LAYERS: &str = "ple_layer_ids";
        let mut listed: Vec<f64> = config.numbers(LAYERS)?.unwrap_or_default();
        listed.sort_by(f64::total_cmp);
        listed.dedup();
        let kernel = config.heads("ple_conv_kernel_size")?;
        let shards = config.heads("split_ngram_parts")?;
        let longest = config.heads("ngram_size")?;
        let heads = config.heads("heads_per_ngram")?;
        let base = config.size("ngram_vocab_size_base")? as u64;
        let divisor = config.heads("make_ngram_vocab_size_divisible_by")? as u64;
        let seed = config.index("seed")? as u64;
        let features = config.optional_size("ple_embed_dim")?;
        if listed.is_empty() {
            return Ok(None);
        }
        let is_known = |&id: &f64| {
            id >= 1.0 && id.fract() == 0.0 && recurrent.get(id as usize - 1) == Some(&true)
        };
        if !listed.iter().all(is_known) {
            return Err(config.invalid(LAYERS, "numbers of layers with a state, from 1 on"));
        }
        let layers: Vec<usize> = listed.iter().map(|&id| id as usize - 1).collect();
        let all = (longest - 1) * heads;
        let features = features.unwrap_or(model.hidden_size);
        if all == 0 || !features.is_multiple_of(all) {
            let expected = "a multiple of `heads_per_ngram` times the numbers of tokens of n-grams";
            return Err(config.invalid("ple_embed_dim", expected));
        }
        let stop = stop(config)?;
        let vocabulary = model.vocabulary()? as u64;
        let mut rows = Vec::with_capacity(layers.len());
        let mut tables = Vec::with_capacity(layers.len());
        let mut size = base.saturating_sub(1);
        for number in 0..layers.len() as u64 {
            let mut first = 0;
            let mut of_layer = Vec::with_capacity(all);
            for _ in 0..all {
                size = prime_behind(size);
                of_layer.push([first, size]);
                first += size;
            }
            if first > MOST_ROWS {
                return Err(config.invalid("ngram_vocab_size_base", "a smaller number"));
            }
            rows.push(first.next_multiple_of(divisor));
            tables.push(NgramTable {
                weight: crate::WeightIndex(0),
                multipliers: multipliers(
                    vocabulary,
                    longest,
                    seed.wrapping_add(SEED_STEP * number),
                ),
                tables: of_layer,
            });
        }
        Ok(Some(Self {
            layers,
            tables: NgramTables {
                longest,
                heads,
                width: features / all,
                stop,
                layers: tables,
            },
            rows,
            shards,
            kernel,
            streams,
        }))
    }

    /// Describes tables and steps.
    fn add_to(self, model: &mut Blocks<'_>) {
        let place = |layer: usize| format!("layers.{layer}.ple.ple_embedding");
        // They follow from the configuration.
        for part in [
            "*.ple.ple_embedding.layer_multipliers",
            "*.ple.ple_embedding.ngram_heads_offsets",
            "*.ple.ple_embedding.ngram_heads_vocab_sizes",
        ] {
            model.ignored.push(part);
        }
        let own = Rc::new(self);
        let ngrams = own.clone();
        model.further_input = Some(Rc::new(move |leaves, embedding| {
            let mut tables = ngrams.tables.clone();
            let of_layers = tables
                .layers
                .iter_mut()
                .zip(&ngrams.layers)
                .zip(&ngrams.rows);
            for ((table, &layer), &rows) in of_layers {
                let name = format!("{}.ngram_embedding", place(layer));
                let shards = (0..ngrams.shards)
                    .map(|shard| leaves.tensor(&format!("{name}.shard_{shard}.weight")));
                let shards = Source::ConcatRows(shards.collect());
                let whole = leaves.tensor(&format!("{name}.weight"));
                let source = Source::one_of(vec![shards, whole]);
                let shape = [rows as usize, ngrams.tables.width];
                table.weight = leaves.weight(source, &shape, Shard::Replicate);
            }
            embedding.ngrams = Some(tables);
        }));
        model.layer_of = Some(Rc::new(move |blocks, leaves, layer| {
            let number = own.layers.iter().position(|&with| with == layer);
            let mut steps = match number {
                Some(number) => own.steps(blocks, leaves, number),
                None => Vec::new(),
            };
            steps.extend(blocks.steps(leaves, layer));
            steps
        }));
    }

    /// What every stream takes of the features.
    fn steps(&self, blocks: &Blocks<'_>, leaves: &mut Leaves, number: usize) -> Vec<Step> {
        let (hidden, features) = (blocks.hidden_size, self.tables.columns());
        let streams = self.streams;
        let norms = |leaves: &mut Leaves, name: &str| {
            streams.norms(leaves, &format!("ple.{name}.weight"), hidden, blocks.norm)
        };
        let keys = streams.rows(leaves, "ple.key_proj.weight", [hidden, features]);
        let shape = [hidden, features];
        let value = leaves.linear("ple.value_proj", shape, false, Shard::Replicate);
        let key_norms = norms(leaves, "norm_key");
        let query_norms = norms(leaves, "norm_query");
        let value_norms = norms(leaves, "norm_conv");
        let columns = [hidden * streams.streams, self.kernel];
        let convolution: Convolution =
            leaves.convolution("ple.conv1d", columns, false, Activation::Silu);
        let of_streams = keys
            .into_iter()
            .zip(key_norms)
            .zip(query_norms)
            .zip(value_norms);
        let steps = of_streams.enumerate().map(|(stream, parts)| {
            let (((key, key_norm), query_norm), value_norm) = parts;
            let slot = match stream.checked_sub(1) {
                None => Slot::Hidden,
                Some(stash) => Slot::Stash(stash as u8),
            };
            Step {
                read: slot,
                write: match slot {
                    Slot::Hidden => Write::Add,
                    Slot::Stash(_) => Write::AddTo(slot),
                },
                ..Step::residual(Mixer::NgramInput(Box::new(NgramInput {
                    number,
                    key,
                    key_norm,
                    query_norm,
                    value: value.clone(),
                    value_norm,
                    convolution: convolution.clone(),
                    stream,
                    dilation: self.tables.longest,
                })))
            }
        });
        steps.collect()
    }
}

/// The next number of the generator.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(GAMMA);
    let value = (value ^ (value >> 30)).wrapping_mul(MIX[0]);
    let value = (value ^ (value >> 27)).wrapping_mul(MIX[1]);
    value ^ (value >> 31)
}

/// Odd factors on the tokens of n-grams, whose products with tokens are below `2^63`.
fn multipliers(vocabulary: u64, longest: usize, seed: u64) -> Vec<u64> {
    let most = i64::MAX as u64 / vocabulary.max(1);
    let half = (most / 2).max(1);
    let factor = |index: u64| {
        let value = seed.wrapping_add(GAMMA.wrapping_mul(index + 1));
        2 * (mixed(value) % half) + 1
    };
    (0..longest as u64).map(factor).collect()
}

/// The least prime beyond a number.
fn prime_behind(number: u64) -> u64 {
    let mut candidate = number + 1;
    while !is_prime(candidate) {
        candidate += 1;
    }
    candidate
}

fn is_prime(number: u64) -> bool {
    let mut divisors = (2..number).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::{multipliers, prime_behind};

    #[test]
    fn tables_are_primes_and_factors_those_of_the_reference() {
        assert_eq!(
            [0, 1, 2, 3, 199, 210].map(prime_behind),
            [2, 2, 3, 5, 211, 211]
        );
        assert_eq!(prime_behind(19_999_999), 20_000_003);
        let first = [
            25_912_437_101_140_037,
            21_043_097_849_633_001,
            55_314_113_489_879_299,
        ];
        assert_eq!(multipliers(160, 3, 1234), first);
        let third = [35_243_655_749_357, 23_198_521_423_797, 25_737_225_394_503];
        assert_eq!(multipliers(248_320, 3, 1234 + 2 * 10_007), third);
    }
}
