//! What is in front of the first layer and behind the last one, and the whole description.

use super::Blocks;
use super::names::Tie;
use crate::build::{Described, Leaves, pattern};
use crate::defaults::is_remote;
use crate::{
    Activation, Embedding, HEAD, Head, HeadTransform, Input, Layer, LengthLimit, Linear,
    LogitsHead, Mask, ModelSpec, Pooler, PositionTable, Predicts, Shard, Sinusoidal, Source,
    SpecError, Stack, Task, TokenTypes, TypeRule,
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
    /// A computed one.
    Sinusoidal(Sinusoidal),
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
    let config = output.config;
    let stacks = || inputs.iter().chain([output]);
    let task = config.class()?.task;
    let asked = config.flag("tie_word_embeddings")?;
    for blocks in stacks() {
        blocks.check_projections()?;
    }
    let layers: Vec<Vec<Layer>> = stacks().map(Blocks::all_layers).collect();
    let described = |tied: bool| {
        let heads = inputs.iter().map(|input| input.head(Task::Base, tied));
        let heads = heads.chain([output.head(task, tied)]);
        let parts = stacks().zip(heads).zip(layers.clone());
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: output.family,
            base_prefix: config.row()?.base_prefix.as_str(),
            ignored: output.ignored(task, tied),
            vocab_size: output.vocabulary()?,
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

    fn all_layers(&self) -> Vec<Layer> {
        (0..self.layers()).map(|layer| self.layer(layer)).collect()
    }

    fn stack(&self, head: Head, tied: bool, layers: Vec<Layer>) -> Result<Stack, SpecError> {
        Ok(Stack {
            name: self.stack,
            hidden_size: self.hidden_size,
            sequence: self.sequence,
            input: Input::Tokens(self.embedding(tied)?),
            positions: self.position_ids,
            limit: self.length_limit()?,
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
            (Task::Base | Task::Encoder, _) => self.unused_head.without,
            (_, true) => self.unused_head.tied,
            (_, false) => self.unused_head.own,
        };
        let tokens =
            self.shared_tokens.map_or(
                &[][..],
                |shared| if tied { shared.tied } else { shared.own },
            );
        [&self.ignored, head, tokens].concat()
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
                format!("{}{}.weight", self.config.row()?.base_prefix, shared.name)
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

    fn embedding(&self, tied: bool) -> Result<Embedding, SpecError> {
        let mut leaves = self.leaves(&self.prefix);
        let hidden = self.hidden_size;
        let width = self.embedding_width.unwrap_or(hidden);
        let vocab_size = self.vocabulary()?;
        let rows = vocab_size + self.further_rows;
        let table = self.leaves("").tensor(&self.tokens(tied)?);
        let tokens = leaves.weight(table, &[rows, width], Shard::Column);
        let norm_of = |leaves: &mut Leaves, norm: Option<(&str, _)>| {
            norm.map(|(name, style)| leaves.norm(name, width, style))
        };
        let token_norm = norm_of(&mut leaves, self.token_norm);
        let shape = [hidden, width];
        let is_narrow = self.embedding_width.is_some();
        let projection =
            is_narrow.then(|| leaves.linear("project_in", shape, false, Shard::Column));
        let token_types = self.types.map(|types| TokenTypes {
            weight: leaves.table(&format!("{}.weight", types.name), types.count, hidden),
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
                let weight = leaves.table(&format!("{name}.weight"), rows, hidden);
                leaves.optional(None);
                PositionTable::Learned {
                    weight,
                    offset,
                    rows,
                    otherwise,
                }
            }
            Table::Sinusoidal(sinusoidal) => PositionTable::Sinusoidal(sinusoidal),
        });
        let norm = norm_of(&mut leaves, self.embedding_norm);
        let mut embedding = Embedding {
            scale: self.embedding_scale,
            token_norm,
            positions,
            positions_after_projection: is_narrow,
            projection,
            token_types,
            norm,
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
        let pooler = self.pooler.then(|| Pooler {
            dense: self.square(&mut leaves, &full("pooler.dense")),
            activation: Activation::Tanh,
        });
        leaves.optional(None);
        let norm = self
            .final_norm
            .map(|style| leaves.norm(&full(self.names.final_norm), self.hidden_size, style));
        leaves.optional(Some(HEAD));
        let has_logits = !matches!(task, Task::Base | Task::Encoder);
        let logits = has_logits.then(|| self.logits(&mut leaves, task, tied));
        let logits = logits.transpose()?;
        leaves.optional(None);
        // A part of the stack, so it is there without a head too.
        let output = self.embedding_width.map(|width| {
            let shape = [width, self.hidden_size];
            leaves.linear(&full("project_out"), shape, false, Shard::Replicate)
        });
        let mut head = Head {
            norm,
            output,
            logits,
            pooler,
            ..Head::default()
        };
        if let Some(further) = &self.further_head {
            further(&mut leaves, &mut head);
        }
        head.leaves = leaves.finish();
        Ok(head)
    }

    fn logits(&self, leaves: &mut Leaves, task: Task, tied: bool) -> Result<LogitsHead, SpecError> {
        let transform = self.transform.map(|transform| HeadTransform {
            dense: self.square(leaves, transform.dense),
            activation: transform.activation,
            norm: Some(leaves.norm(transform.norm, self.hidden_size, self.norm)),
        });
        let name = self.names.head;
        let weight = if tied {
            leaves.tensor(&self.tokens(true)?)
        } else {
            let names = std::iter::once(name).chain(self.other_head);
            let spelled = names.map(|name| leaves.tensor(&format!("{name}.weight")));
            Source::one_of(spelled.collect())
        };
        let bias = match self.transform {
            Some(transform) if tied => Some(leaves.tensor(transform.tied_bias)),
            _ => self
                .head_bias
                .then(|| leaves.tensor(&format!("{name}.bias"))),
        };
        let vocab_size = self.vocabulary()?;
        let outputs = self.outputs.filter(|_| !tied).unwrap_or(vocab_size);
        let width = self.embedding_width.unwrap_or(self.hidden_size);
        Ok(LogitsHead {
            predicts: match task {
                Task::MaskedLm => Predicts::Masked,
                Task::Base | Task::Encoder | Task::CausalLm | Task::Seq2SeqLm => Predicts::Next,
            },
            transform,
            projection: leaves.linear_of(weight, bias, [outputs, width], Shard::Column),
            normalized_rows: self.normalized_head,
            scale: self.logit_scale,
            softcap: self.logit_softcap,
        })
    }

    fn square(&self, leaves: &mut Leaves, name: &str) -> Linear {
        leaves.linear(name, [self.hidden_size; 2], true, Shard::Replicate)
    }
}
