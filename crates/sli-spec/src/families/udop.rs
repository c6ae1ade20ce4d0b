//! UDOP's page (Tang et al. 2022): where tokens are is added to them, and how far they are apart to the logits of its encoder.

use std::rc::Rc;

use crate::build::Leaves;
use crate::families::blocks::{Blocks, MixerOf};
use crate::{
    Apart, Becomes, BoxBuckets, BoxTerm, Config, InputKind, InputRow, InputTable, LookedUp, Mixer,
    Position, Shard, Source, SpecError, Task, TokenInput,
};

/// Of pictures, and what stands for a distance in one class and in another.
pub const UNUSED: [&str; 4] = [
    "*patch_embed.*",
    "*embed_patches.*",
    "*decoder.relative_bias.*",
    "*encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
];

/// The keys of what is added by distance.
const TERMS: &str = "relative_bias_args";

/// What is added by one kind of distance.
#[derive(Clone, Copy)]
struct Term {
    apart: Apart,
    buckets: usize,
    max_distance: usize,
}

/// Boxes beside tokens, and what follows from them.
pub fn place<'c>(config: &'c Config, encoder: &mut Blocks<'c>) -> Result<(), SpecError> {
    let rows = config.size("max_2d_position_embeddings")?;
    let width = encoder.hidden_size;
    encoder.buckets = None;
    encoder.masks.fill(crate::Mask::Full);
    encoder.further_input = Some(Rc::new(move |leaves, embedding| {
        let tables = ["x", "y"].map(|axis| {
            let name = format!("cell_2d_embedding.{axis}_position_embeddings.weight");
            leaves.table(&name, rows, width)
        });
        embedding.inputs = vec![TokenInput {
            name: "bbox",
            columns: 4,
            kind: InputKind::Fractions,
        }];
        let table = |column: usize| InputTable {
            weight: tables[column % 2],
            at: 0,
            row: InputRow::Fraction { column, rows },
        };
        embedding.looked_up = Some(LookedUp {
            tables: (0..4).map(table).collect(),
            width,
            layers: Vec::new(),
            becomes: Becomes::Added,
        });
    }));
    let terms = terms(config, encoder.heads)?;
    // The first one is the table of T5's own place too, but in the bare model.
    let is_tied = config.class()?.task != Task::Base;
    let of_class = config.heads("relative_attention_num_buckets")?;
    if is_tied && terms.first().is_some_and(|term| term.buckets != of_class) {
        let problem = format!(
            "another number of buckets than the {of_class} of the first layer, to whose table it is tied"
        );
        return Err(config.unsupported(TERMS, problem));
    }
    encoder.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves: &mut Leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let table = |(number, term): (usize, &Term)| {
            let own_name = format!(
                "{}relative_bias.biases.{number}.relative_attention_bias.weight",
                own.prefix
            );
            let mut source = Source::tensor(own_name);
            if number == 0 && is_tied {
                let first = format!(
                    "{}block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                    own.prefix
                );
                source = Source::Tied {
                    own: Box::new(source.clone()),
                    all: vec![Source::tensor(first), source],
                };
            }
            let source = Source::Reshape(Box::new(source));
            BoxTerm {
                table: leaves.weight(source, &[term.buckets * own.heads], Shard::Replicate),
                by_bucket: true,
                apart: term.apart,
                buckets: term.buckets,
                max_distance: term.max_distance,
            }
        };
        let terms: Vec<BoxTerm> = terms.iter().enumerate().map(table).collect();
        if !terms.is_empty() {
            attention
                .positions
                .push(Position::Boxes(BoxBuckets { terms, scale: 1.0 }));
        }
        Some(Mixer::Attention(Box::new(attention)))
    });
    Ok(())
}

/// What is added by distance: along the text, along the page, down the page.
fn terms(config: &Config, heads: usize) -> Result<Vec<Term>, SpecError> {
    let usual = |kind: &str| {
        let (of, scale, farthest) = match kind {
            "1d" => return Some((Apart::Tokens, 128)),
            "horizontal" => ([0, 2], 100.0, 100),
            "vertical" => ([1, 3], 100.0, 100),
            _ => return None,
        };
        Some((Apart::Middle { of, scale }, farthest))
    };
    let Some(told) = config.objects(TERMS)? else {
        let kinds = ["1d", "horizontal", "vertical"]
            .into_iter()
            .filter_map(usual);
        let term = |(apart, max_distance)| Term {
            apart,
            buckets: 32,
            max_distance,
        };
        return Ok(kinds.map(term).collect());
    };
    told.iter()
        .map(|own| {
            let kind = own.optional_text("type")?.unwrap_or_default();
            let known = usual(&kind);
            let unknown = || own.unsupported("type", "`1d`, `horizontal` and `vertical` are known");
            let (mut apart, farthest) = known.ok_or_else(unknown)?;
            own.neutral(
                "num_heads",
                &[heads.into()],
                "the heads of the model are others",
            )?;
            own.neutral(
                "bidirectional",
                &[true.into()],
                "distances of one sign alone",
            )?;
            own.off("prefix_bucket", "a beginning that has buckets of its own")?;
            own.off("expand", "a beginning that has buckets of its own")?;
            // It is of training, and says what things are.
            own.ignore(&["augmentation", "level"]);
            let factor = own.optional_positive("scaling_factor")?;
            match &mut apart {
                Apart::Middle { scale, .. } => *scale = factor.unwrap_or(*scale),
                _ if factor.is_none_or(|factor| factor == 1.0) => {}
                _ => return Err(own.invalid("scaling_factor", "1 along the text")),
            }
            if matches!(apart, Apart::Middle { scale, .. } if scale <= 1.0) {
                return Err(own.invalid("scaling_factor", "more than 1 on a page"));
            }
            let buckets = own
                .optional_heads("relative_attention_num_buckets")?
                .unwrap_or(32);
            let max_distance = own.optional_size("max_distance")?.unwrap_or(farthest);
            if buckets < 4 {
                return Err(own.invalid("relative_attention_num_buckets", "at least 4"));
            }
            if max_distance <= buckets / 4 {
                let expected = format!("more than {}", buckets / 4);
                return Err(own.invalid("max_distance", expected));
            }
            Ok(Term {
                apart,
                buckets,
                max_distance,
            })
        })
        .collect()
}
