//! `BigBird` (Zaheer et al. 2020): BERT that sees few blocks of a longer record.

use super::{dense_classifier, masked, table};
use crate::families::blocks::Blocks;
use crate::{Config, Described, Position, SparseBlocks, SpecError};

/// `BigBird`.
pub fn big_bird(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["sep_token_id"]);
    let mut model = masked(config)?;
    model.pooler = Some("pooler");
    model.sequence_classifier = Some(dense_classifier(model.activation));
    model.query_key_value_bias = config.flag("use_bias")?;
    if config.flag("rescale_embeddings")? {
        model.embedding_scale = (model.hidden_size as f64).sqrt();
    }
    sparse_blocks(config, &mut model)?;
    if !model.positions.is_empty() {
        config.off(
            "is_decoder",
            "a decoder needs `attention_type: original_full`",
        )?;
    }
    table(config, &mut model, 0)?;
    model.build()
}

/// Which blocks a stack sees, of which the reference draws none where it does not train.
pub fn sparse_blocks(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    const KEY: &str = "attention_type";
    match config.optional_text(KEY)?.as_deref() {
        Some("original_full") => {
            config.ignore(&["block_size", "num_random_blocks"]);
            Ok(())
        }
        Some("block_sparse") => {
            let blocks = SparseBlocks {
                block: config.size("block_size")?,
                random: config.index("num_random_blocks")?,
            };
            model.positions.push(Position::SparseBlocks(blocks));
            Ok(())
        }
        _ => Err(config.unsupported(KEY, "`original_full` and `block_sparse` are known")),
    }
}
