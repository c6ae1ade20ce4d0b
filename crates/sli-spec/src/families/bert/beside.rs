//! Encoders whose tokens bring more along than ids: places in a document's tree (MarkupLM), sounds and shapes of Chinese
//! characters (RoCBERT).

use std::rc::Rc;

use super::roberta::of_names;
use super::{BERT, masked};
use crate::families::blocks::{Classifier, InFront, Narrow};
use crate::{
    Activation, Becomes, Config, Described, HeadTransform, InputKind, InputRow, InputTable,
    LookedUp, Shard, SpecError, TokenInput,
};

/// MarkupLM (Li et al. 2022): tags and subscripts of a token's path, of every depth, through a network of two layers.
pub fn markuplm(config: &Config) -> Result<Described, SpecError> {
    const PART: &str = "embeddings.xpath_embeddings";
    let mut model = of_names(config, &BERT)?;
    model.sequence_classifier = Some(Classifier::first_token(InFront::Pooler, &["classifier"]));
    model.ignored.push("*xpath_unitseq2_embeddings.*");
    let [depth, width] = [
        config.size("max_depth")?,
        config.size("xpath_unit_hidden_size")?,
    ];
    let kind = |rows: &str, padding: &str| -> Result<InputKind, SpecError> {
        let below = config.size(rows)?;
        let otherwise = config.index(padding)?;
        if otherwise >= below {
            return Err(config.invalid(padding, format!("less than {below}")));
        }
        Ok(InputKind::Ids {
            below,
            otherwise: otherwise as u32,
        })
    };
    let tags = kind("max_xpath_tag_unit_embeddings", "tag_pad_id")?;
    let subscripts = kind("max_xpath_subs_unit_embeddings", "subs_pad_id")?;
    let hidden = model.hidden_size;
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        let inputs = [("xpath_tags_seq", tags), ("xpath_subs_seq", subscripts)];
        let input = |(name, kind)| TokenInput {
            name,
            columns: depth,
            kind,
        };
        embedding.inputs = inputs.map(input).to_vec();
        let mut tables = Vec::new();
        for (first, (part, kind)) in [("tag", tags), ("subs", subscripts)]
            .into_iter()
            .enumerate()
        {
            let InputKind::Ids { below, .. } = kind else {
                continue;
            };
            for level in 0..depth {
                let name = format!("{PART}.xpath_{part}_sub_embeddings.{level}.weight");
                tables.push(InputTable {
                    weight: leaves.table(&name, below, width),
                    at: level * width,
                    row: InputRow::Column(first * depth + level),
                });
            }
        }
        let mut layer = |name: &str, shape, activation| {
            let dense = leaves.linear(&format!("{PART}.{name}"), shape, true, Shard::Replicate);
            HeadTransform::plain(dense, activation)
        };
        let (wide, inner) = (depth * width, 4 * hidden);
        embedding.looked_up = Some(LookedUp {
            tables,
            width: wide,
            layers: vec![
                layer("xpath_unitseq2_inner", [inner, wide], Activation::Relu),
                layer("inner2emb", [hidden, inner], Activation::Linear),
            ],
            becomes: Becomes::Added,
        });
    }));
    model.build()
}

/// RoCBERT (Su et al. 2022): rows of a character's shape and sound stand beside its own, and are mapped to the width of
/// the hidden state together.
pub fn roc_bert(config: &Config) -> Result<Described, SpecError> {
    const CONCATENATED: &str = "concat_input";
    const INPUTS: [(&str, &str, [&str; 3]); 2] = [
        (
            "input_shape_ids",
            "shape_embed",
            ["enable_shape", "shape_vocab_size", "shape_embed_dim"],
        ),
        (
            "input_pronunciation_ids",
            "pronunciation_embed",
            [
                "enable_pronunciation",
                "pronunciation_vocab_size",
                "pronunciation_embed_dim",
            ],
        ),
    ];
    let mut model = masked(config)?;
    if !config.flag(CONCATENATED)? {
        let problem = "means of characters, shapes and sounds are not implemented";
        return Err(config.unsupported(CONCATENATED, problem));
    }
    let mut parts = Vec::new();
    for (input, table, [enabled, rows, width]) in INPUTS {
        let sizes = [config.size(rows)?, config.size(width)?];
        if config.flag(enabled)? {
            parts.push((input, table, sizes));
        } else {
            // Stored all the same.
            model.ignored.push(if table == "shape_embed" {
                "*embeddings.shape_embed.weight"
            } else {
                "*embeddings.pronunciation_embed.weight"
            });
        }
    }
    let beside = parts.iter().map(|(_, _, [_, width])| width).sum();
    model.narrow = Some(Narrow {
        width: model.hidden_size,
        inward: "embeddings.map_inputs_layer",
        bias: true,
        sum_is_narrow: false,
        trigrams: false,
        beside,
        outward: None,
    });
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        let mut at = 0;
        let mut tables = Vec::new();
        for (column, &(name, table, [rows, width])) in parts.iter().enumerate() {
            embedding.inputs.push(TokenInput {
                name,
                columns: 1,
                kind: InputKind::Ids {
                    below: rows,
                    otherwise: 0,
                },
            });
            tables.push(InputTable {
                weight: leaves.table(&format!("embeddings.{table}.weight"), rows, width),
                at,
                row: InputRow::Column(column),
            });
            at += width;
        }
        embedding.looked_up = (at > 0).then_some(LookedUp {
            tables,
            width: at,
            layers: Vec::new(),
            becomes: Becomes::Beside,
        });
    }));
    model.build()
}
