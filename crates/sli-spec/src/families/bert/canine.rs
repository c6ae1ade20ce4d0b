//! CANINE (Clark et al. 2021): characters without a vocabulary, a deep stack of a row for every few of them, and
//! characters again.

use std::rc::Rc;

use super::{BERT, encoder};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Classifier, Names, Table, Types};
use crate::{
    Activation, Becomes, Config, DenseConvolution, Described, InputRow, InputTable, LengthLimit,
    LookedUp, Mask, Resampled, Resampling, RowRule, Sequence, SpecError, Task, TypeRule,
};

/// What the hashes of a character are multiples of.
const PRIMES: [u32; 16] = [
    31, 43, 59, 61, 73, 97, 103, 113, 137, 149, 157, 173, 181, 193, 211, 223,
];

/// Characters of Unicode.
const CHARACTERS: usize = 0x11_0000;

/// CANINE: three stacks.
pub fn canine(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["is_decoder", "add_cross_attention"]);
    let rate = config.size("downsampling_rate")?;
    let mut characters = part(config, "characters", "initial_char_encoder.layer", 1)?;
    let stride = config.size("local_transformer_stride")?;
    characters.masks.fill(Mask::Block(stride));
    hash_characters(config, &mut characters)?;
    let layers = config.layers("num_hidden_layers")?;
    let mut molecules = part(config, "encoder", "encoder.layer", layers)?;
    molecules.sequence = Sequence::Rows(RowRule::Parts(rate));
    molecules.pooler = Some("pooler.dense");
    molecules.sequence_classifier = Some(Classifier::POOLED);
    molecules.classifies = config.class()?.task == Task::SequenceClassification;
    let mut last = part(config, "last_characters", "final_char_encoder.layer", 1)?;
    let (hidden, activation, norm) = (last.hidden_size, last.activation, last.norm);
    molecules.resampled = Some(Rc::new(move |leaves| {
        let rule = Resampling::Strided {
            stack: 0,
            convolution: DenseConvolution {
                padding: [0; 2],
                ..convolution(
                    leaves,
                    "chars_to_molecules",
                    [hidden; 2],
                    [rate; 2],
                    activation,
                )
            },
        };
        Resampled {
            norm: Some(leaves.norm("chars_to_molecules.LayerNorm", hidden, norm)),
            ..Resampled::plain(rule)
        }
    }));
    let kernel = config.size("upsampling_kernel_size")?;
    last.resampled = Some(Rc::new(move |leaves| {
        let rule = Resampling::Repeated {
            stack: 0,
            shorter: 1,
            times: rate,
            convolution: DenseConvolution {
                padding: [(kernel - 1) / 2; 2],
                ..convolution(
                    leaves,
                    "projection",
                    [2 * hidden, hidden],
                    [kernel, 1],
                    activation,
                )
            },
        };
        Resampled {
            norm: Some(leaves.norm("projection.LayerNorm", hidden, norm)),
            ..Resampled::plain(rule)
        }
    }));
    last.build_last(&[characters, molecules])
}

fn convolution(
    leaves: &mut Leaves,
    name: &str,
    sizes: [usize; 2],
    taps: [usize; 2],
    activation: Activation,
) -> DenseConvolution {
    leaves.dense_convolution(&format!("{name}.conv"), sizes, taps, activation, true)
}

/// One of the stacks: BERT's layers.
fn part<'c>(
    config: &'c Config,
    stack: &'static str,
    layers: &'static str,
    count: usize,
) -> Result<Blocks<'c>, SpecError> {
    let names = Names { layers, ..BERT };
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut part = encoder(config, &names, arrangement, norm)?;
    (part.family, part.stack) = ("canine", stack);
    part.intermediate_size = config.size("intermediate_size")?;
    part.activation = config.activation("hidden_act")?;
    part.masks = vec![Mask::Full; count];
    part.ropes = vec![None; count];
    part.embedding_norm = None;
    part.vocab_size = Some(CHARACTERS);
    part.length_limit = Some(LengthLimit::None);
    part.ignored = vec!["*char_embeddings.position_ids", "cls.*"];
    Ok(part)
}

/// Rows of several tables, by hashes of a character, side by side.
fn hash_characters(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    const HASHES: &str = "num_hash_functions";
    const BUCKETS: &str = "num_hash_buckets";
    let (hashes, buckets) = (config.size(HASHES)?, config.size(BUCKETS)?);
    let hidden = model.hidden_size;
    let Some(primes) = PRIMES.get(..hashes) else {
        return Err(config.invalid(HASHES, format!("at most {}", PRIMES.len())));
    };
    let width = divided(config, HASHES, hidden, hashes)?;
    let rows = u32::try_from(buckets);
    let rows = rows.map_err(|_| config.invalid(BUCKETS, "a number below 2^32"))?;
    model.without_tokens = true;
    model.embedding_norm = Some(("char_embeddings.LayerNorm", model.norm));
    model.types = Some(Types {
        name: "char_embeddings.token_type_embeddings",
        count: config.size("type_vocab_size")?,
        rule: TypeRule::Given,
    });
    // The table has as many rows as those of hashes.
    let positions = config.size("max_position_embeddings")?.min(buckets);
    model.table = Some(Table::Learned {
        name: "char_embeddings.char_position_embeddings",
        offset: 0,
        rows: buckets,
        otherwise: None,
    });
    model.length_limit = Some(LengthLimit::Table(positions));
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        let tables = primes.iter().enumerate().map(|(index, &prime)| {
            let name = format!("char_embeddings.HashBucketCodepointEmbedder_{index}.weight");
            InputTable {
                weight: leaves.table(&name, buckets, width),
                at: index * width,
                row: InputRow::Hashed { prime, rows },
            }
        });
        embedding.looked_up = Some(LookedUp {
            tables: tables.collect(),
            width: hidden,
            layers: Vec::new(),
            becomes: Becomes::Added,
        });
    }));
    Ok(())
}
