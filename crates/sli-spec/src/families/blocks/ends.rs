//! What is in front of the first layer and behind the last one, and the whole description.

use super::Blocks;
use super::names::{Tie, Transform};
use super::{Patches, Residual, Rows, Stem};
use crate::build::{Described, Leaves, pattern};
use crate::defaults::is_remote;
use crate::rope::{StoredTurns, TurnsForm};
use crate::{
    Activation, ConstantRow, Embedding, Features, HEAD, Head, HeadTransform, Input, Layer,
    LengthLimit, LogitsHead, Mask, ModelSpec, Pictures, PooledEnd, Pooler, PositionTable, Predicts,
    Resampled, Shard, Sinusoidal, Source, SpecError, Stack, Task, TieOrder, TokenTypes, TypeRule,
};

/// How positions enter the embedding.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// A learned table.
    Learned {
        /// Its name, without `.weight`.
        name: &'static str,
        /// Rows in front of position 0.
        offset: usize,
        /// All rows.
        rows: usize,
        /// In its place where the checkpoint lacks it.
        otherwise: Option<Sinusoidal>,
    },
    /// A learned table that all positions of a record share out.
    Stretched {
        /// Its tensor.
        name: &'static str,
        /// All rows.
        rows: usize,
    },
    /// A computed one.
    Sinusoidal(Sinusoidal),
}

/// A token table of another width than the hidden state, and the projection between them.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// Features of the table.
    pub width: usize,
    /// Projection to the hidden size, by its name in the stack.
    pub inward: &'static str,
    /// It has an addend.
    pub bias: bool,
    /// Kinds and positions are added in front of it, as narrow as the tokens (ELECTRA); else behind it (OPT).
    pub sum_is_narrow: bool,
    /// It is of a token and both of its neighbours (MobileBERT).
    pub trigrams: bool,
    /// Columns of what is looked up beside the token (RoCBERT).
    pub beside: usize,
    /// Projection back, behind the final norm.
    pub outward: Option<&'static str>,
}

/// A table of which every token gets the same row.
#[derive(Clone, Copy, Debug)]
pub struct ConstantTable {
    /// Its name, without `.weight`.
    pub name: &'static str,
    /// Its rows.
    pub rows: usize,
    /// The row.
    pub row: usize,
}

/// Kinds of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    /// Their table, without `.weight`.
    pub name: &'static str,
    /// How many.
    pub count: usize,
    /// Where a token's kind comes from.
    pub rule: TypeRule,
}

/// The description of stacks in the order of their execution, of which the last one has the head.
fn describe<'s, 'c>(
    inputs: &'s [Blocks<'c>],
    output: &'s Blocks<'c>,
) -> Result<Described, SpecError> {
    let config = output.whole.unwrap_or(output.config);
    let stacks = || inputs.iter().chain([output]);
    let task = config.class()?.task;
    let asked = config.flag("tie_word_embeddings")?;
    for blocks in stacks() {
        blocks.check_projections()?;
    }
    let layers: Vec<Vec<Layer>> = stacks().map(Blocks::all_layers).collect();
    let described = |tied: bool| {
        let heads = inputs.iter().map(|input| {
            let own = if input.classifies { task } else { Task::Base };
            input.head(own, tied)
        });
        let heads = heads.chain([output.head(task, tied)]);
        let parts = stacks().zip(heads).zip(layers.clone());
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: output.family,
            base_prefix: config.row()?.base_prefix.as_str(),
            ignored: output.ignored(task, tied),
            unused: 0,
            vocab_size: output.vocabulary()?,
            ties: output
                .shared_tokens
                .map_or(TieOrder::HeadLast, |shared| shared.order),
            pooled_end: PooledEnd::No,
            stacks: parts
                .map(|((blocks, head), layers)| blocks.stack(head?, tied, layers))
                .collect::<Result<_, SpecError>>()?,
        })
    };
    let (tied, may_be_own) = match output.tie {
        Tie::Configured => (asked, asked),
        Tie::Always(tied) => (tied, asked && tied),
        Tie::UnlessStored => (true, true),
    };
    let spec = described(tied)?;
    let untied = may_be_own.then(|| described(false)).transpose()?;
    let untied = untied.filter(|untied| *untied != spec).map(Box::new);
    Ok(Described { spec, untied })
}

impl Blocks<'_> {
    /// The description of this stack alone.
    pub fn build(mut self) -> Result<Described, SpecError> {
        self.look_ahead()?;
        describe(&[], &self)
    }

    /// The description of this stack, which has the head, behind an encoder.
    pub fn build_behind(self, encoder: Self) -> Result<Described, SpecError> {
        describe(&[encoder], &self)
    }

    /// The description of this stack, which has the head, behind several.
    pub fn build_last(self, earlier: &[Self]) -> Result<Described, SpecError> {
        describe(earlier, &self)
    }

    fn all_layers(&self) -> Vec<Layer> {
        (0..self.layers()).map(|layer| self.layer(layer)).collect()
    }

    fn stack(&self, head: Head, tied: bool, layers: Vec<Layer>) -> Result<Stack, SpecError> {
        Ok(Stack {
            name: self.stack,
            hidden_size: self.hidden_size,
            stash_size: self.stash_size.unwrap_or(self.hidden_size),
            sequence: self.sequence,
            input: match (&self.features, &self.resampled, &self.pictures) {
                (Some(features), ..) => Input::Features(self.stem(&**features)),
                (None, Some(rows), _) => Input::Resampled(self.rows(&**rows)),
                (None, None, Some(pictures)) => Input::Pictures(self.patches(&**pictures)),
                (None, None, None) => Input::Tokens(self.embedding(tied)?),
            },
            positions: self.position_ids,
            limit: self.length_limit()?,
            turns: self.turns()?,
            prompt: self.prompt.clone(),
            layers,
            head,
        })
    }

    /// Tokens see later ones too, where the configuration says so.
    fn look_ahead(&mut self) -> Result<(), SpecError> {
        let config = self.config;
        let is_known = self.may_look_ahead && !is_remote(&config.model_type()?);
        if !is_known || !config.looks_ahead()? {
            return Ok(());
        }
        let one_way = self.one_way || self.dynamic_mask.is_some();
        if one_way || !self.masks.iter_mut().all(Mask::look_ahead) {
            let problem = "not every layer of this model can look ahead";
            return Err(config.unsupported("is_causal", problem));
        }
        Ok(())
    }

    pub(super) fn leaves(&self, prefix: impl Into<String>) -> Leaves {
        Leaves::stored(prefix, self.names.norm_factor, self.stored.clone())
    }

    fn ignored(&self, task: Task, tied: bool) -> Vec<&'static str> {
        let head = match (task, tied) {
            _ if !task.has_logits() => self.unused_head.without,
            (_, true) => self.unused_head.tied,
            (_, false) => self.unused_head.own,
        };
        let tokens =
            self.shared_tokens.map_or(
                &[][..],
                |shared| if tied { shared.tied } else { shared.own },
            );
        [&self.ignored[..], head, tokens].concat()
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> Result<usize, SpecError> {
        self.vocab_size
            .map_or_else(|| self.config.size("vocab_size"), Ok)
    }

    /// The full name of the token table.
    fn tokens(&self, tied: bool) -> Result<String, SpecError> {
        Ok(match self.shared_tokens {
            Some(shared) if tied => {
                let whole = self.whole.unwrap_or(self.config);
                format!("{}{}.weight", whole.row()?.base_prefix, shared.name)
            }
            _ => format!("{}{}.weight", self.prefix, self.names.tokens),
        })
    }

    /// The shortest of what the layers' rotations were trained for, where nothing else is said.
    fn length_limit(&self) -> Result<LengthLimit, SpecError> {
        if let Some(limit) = self.length_limit {
            return Ok(limit);
        }
        let max = self.config.size("max_position_embeddings")?;
        let ropes = self.ropes.iter().flatten();
        let trained = ropes.filter_map(|rope| match rope.length_limit(max) {
            LengthLimit::Trained(length) | LengthLimit::Table(length) => Some(length),
            LengthLimit::None => None,
        });
        Ok(trained
            .min()
            .map_or(LengthLimit::None, LengthLimit::Trained))
    }

    /// Where numbers of the rotations may be stored.
    fn turns(&self) -> Result<Option<StoredTurns>, SpecError> {
        let Some((form, names)) = self.stored_turns else {
            return Ok(None);
        };
        let mut leaves = self.leaves(&self.prefix);
        let spelled = names.iter().map(|name| leaves.tensor(name)).collect();
        let width = self.head_dim;
        let shape = match form {
            TurnsForm::Frequencies => vec![width / 2],
            TurnsForm::LogFactors => {
                let turned = self.ropes.iter().flatten().map(|rope| rope.dims / 2);
                vec![turned.max().unwrap_or(width / 2)]
            }
            TurnsForm::SinesThenCosines => {
                vec![self.config.size("max_position_embeddings")?, width]
            }
        };
        leaves.weight(Source::one_of(spelled), &shape, Shard::Replicate);
        let leaf = leaves.finish().pop();
        Ok(leaf.map(|leaf| StoredTurns {
            leaf,
            form,
            values: Vec::new(),
        }))
    }

    fn stem(&self, describe: &Stem<'_>) -> Features {
        let mut leaves = self.leaves(&self.prefix);
        let mut features = describe(&mut leaves);
        features.leaves = leaves.finish();
        features
    }

    fn patches(&self, describe: &Patches<'_>) -> Pictures {
        let mut leaves = self.leaves(&self.prefix);
        let mut pictures = describe(&mut leaves);
        pictures.leaves = leaves.finish();
        pictures
    }

    fn rows(&self, describe: &Rows<'_>) -> Resampled {
        let mut leaves = self.leaves(&self.prefix);
        let mut rows = describe(&mut leaves);
        rows.leaves = leaves.finish();
        rows
    }

    fn embedding(&self, tied: bool) -> Result<Embedding, SpecError> {
        let mut leaves = self.leaves(&self.prefix);
        let hidden = self.hidden_size;
        let width = self.narrow.map_or(hidden, |narrow| narrow.width);
        let vocab_size = self.vocabulary()?;
        let rows = vocab_size + self.further_rows;
        let table = self.leaves("").tensor(&self.tokens(tied)?);
        let tokens =
            (!self.without_tokens).then(|| leaves.weight(table, &[rows, width], Shard::Column));
        let norm_of = |leaves: &mut Leaves, norm: Option<(&str, _)>, width: usize| {
            norm.map(|(name, style)| leaves.norm(name, width, style))
        };
        let token_norm = norm_of(&mut leaves, self.token_norm, width);
        let trigrams = self.narrow.is_some_and(|narrow| narrow.trigrams);
        let beside = self.narrow.map_or(0, |narrow| narrow.beside);
        let tokens_wide = if trigrams { 3 * width } else { width };
        let shape = [hidden, tokens_wide + beside];
        let projection = self
            .narrow
            .map(|narrow| leaves.linear(narrow.inward, shape, narrow.bias, Shard::Column));
        let projection_first = self.narrow.is_some_and(|narrow| !narrow.sum_is_narrow);
        let sum_width = if projection_first { hidden } else { width };
        let token_types = self.types.map(|types| TokenTypes {
            weight: leaves.table(&format!("{}.weight", types.name), types.count, sum_width),
            types: types.count,
            rule: types.rule,
        });
        let positions = self.table.map(|table| match table {
            Table::Learned {
                name,
                offset,
                rows,
                otherwise,
            } => {
                // Each stack may lack its own.
                let part = || pattern(format!("{}{name}", self.prefix));
                leaves.optional(otherwise.map(|_| part()));
                let weight = leaves.table(&format!("{name}.weight"), rows, sum_width);
                leaves.optional(None);
                PositionTable::Learned {
                    weight,
                    offset,
                    rows,
                    otherwise,
                }
            }
            Table::Stretched { name, rows } => PositionTable::Stretched {
                weight: {
                    let stored = Source::Reshape(Box::new(leaves.tensor(name)));
                    leaves.weight(stored, &[rows, sum_width], Shard::Column)
                },
                rows,
            },
            Table::Sinusoidal(sinusoidal) => PositionTable::Sinusoidal(sinusoidal),
        });
        let constant_rows = self.constant_rows.iter().map(|table| ConstantRow {
            weight: leaves.table(&format!("{}.weight", table.name), table.rows, sum_width),
            row: table.row,
        });
        let constant_rows: Vec<ConstantRow> = constant_rows.collect();
        let norm = norm_of(&mut leaves, self.embedding_norm, sum_width);
        let mut embedding = Embedding {
            scale: self.embedding_scale,
            token_norm,
            positions,
            projection_first,
            trigrams,
            refused_token: self.refused_token,
            projection,
            token_types,
            constant_rows,
            norm,
            copies: match self.residual {
                Residual::Hyper(hyper) => hyper.streams - 1,
                Residual::Gated(gated) => gated.streams - 1,
                _ => 0,
            },
            ..Embedding::of_tokens(tokens, [vocab_size, width], Vec::new())
        };
        if let Some(further) = &self.further_input {
            further(&mut leaves, &mut embedding);
        }
        embedding.leaves = leaves.finish();
        Ok(embedding)
    }

    fn head(&self, task: Task, tied: bool) -> Result<Head, SpecError> {
        let mut leaves = self.leaves("");
        let full = |name: &str| format!("{}{name}", self.prefix);
        leaves.optional(Some("pooler"));
        let pooler = self.pooler.map(|name| Pooler {
            dense: leaves.linear(&full(name), [self.hidden_size; 2], true, Shard::Replicate),
            activation: Activation::Tanh,
        });
        leaves.optional(None);
        let norm = self
            .final_norm
            .map(|style| leaves.norm(&full(self.names.final_norm), self.hidden_size, style));
        leaves.optional(Some(HEAD));
        let logits = task
            .has_logits()
            .then(|| self.logits(&mut leaves, task, tied));
        let logits = logits.transpose()?;
        leaves.optional(None);
        // A part of the stack, so it is there without a head too.
        let output = self.narrow.and_then(|narrow| {
            let shape = [narrow.width, self.hidden_size];
            let name = full(narrow.outward?);
            Some(leaves.linear(&name, shape, false, Shard::Replicate))
        });
        let mut head = Head {
            norm,
            output,
            logits,
            pooler,
            ..Head::default()
        };
        head.classes = self.classes(&mut leaves, &head, task)?;
        match self.residual {
            Residual::Hyper(hyper) => head.streams = hyper.merge(&mut leaves, self),
            Residual::Gated(gated) => head.streams = gated.merge(&mut leaves, self),
            _ => {}
        }
        if let Some(further) = &self.further_head {
            further(&mut leaves, &mut head);
        }
        head.leaves = leaves.finish();
        Ok(head)
    }

    fn logits(&self, leaves: &mut Leaves, task: Task, tied: bool) -> Result<LogitsHead, SpecError> {
        let outward = self.narrow.filter(|narrow| narrow.outward.is_some());
        let mut width = outward.map_or(self.hidden_size, |narrow| narrow.width);
        let transform = |transform: &Transform| {
            let shape = [transform.width, width];
            width = transform.width;
            let dense = leaves.linear(transform.dense, shape, transform.bias, Shard::Replicate);
            HeadTransform {
                norm: (transform.norm).map(|name| leaves.norm(name, width, self.norm)),
                ..HeadTransform::plain(dense, transform.activation)
            }
        };
        let transforms: Vec<_> = self.transforms.iter().map(transform).collect();
        let name = self.names.head;
        let mut weight = if tied {
            leaves.tensor(&self.tokens(true)?)
        } else {
            let names = std::iter::once(name).chain(self.other_head);
            let spelled = names.map(|name| leaves.tensor(&format!("{name}.weight")));
            Source::one_of(spelled.collect())
        };
        if let Some(further) = self.further_columns {
            let further = leaves.tensor(&format!("{further}.weight")).transpose();
            weight = Source::ConcatColumns(vec![weight, further]);
        }
        let bias = self.head_bias.then(|| match self.tied_bias {
            Some(bias) if tied => leaves.tensor(bias),
            _ => leaves.tensor(&format!("{name}.bias")),
        });
        let vocab_size = self.vocabulary()?;
        let outputs = self.outputs.filter(|_| !tied).unwrap_or(vocab_size);
        Ok(LogitsHead {
            predicts: match task {
                Task::MaskedLm => Predicts::Masked,
                _ => Predicts::Next,
            },
            transforms,
            projection: leaves.linear_of(weight, bias, [outputs, width], Shard::Column),
            normalized_rows: self.normalized_head,
            scale: self.logit_scale,
            softcap: self.logit_softcap,
        })
    }
}
