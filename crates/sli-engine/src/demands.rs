//! What a model demands of a record's tokens.

use sli_spec::{
    LengthLimit, Mechanism, ModelSpec, PositionIds, RowRule, Sequence, Stack, TokenInput, TypeRule,
};

use crate::error::EngineError;
use crate::records::Record;

/// What the tokens of a record must be for a model to run them.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Number of token types that a record may give, 0 where the model has none.
    pub token_types: usize,
    /// How long a record may be.
    pub limit: LengthLimit,
    /// How its tokens are placed.
    pub positions: PositionIds,
    /// A token that the reference takes for padding and hides by itself.
    pub refused_token: Option<u32>,
    /// What rows the model makes of them, where they are others: those of the last such stack.
    pub rows: Option<RowRule>,
    /// What records may have beside their tokens, in the order of their numbers.
    pub inputs: [Option<TokenInput>; 2],
}

impl Demands {
    /// Those of a model, of a record's own tokens.
    pub fn of(spec: &ModelSpec) -> Self {
        let types = |stack: &Stack| {
            let embedding = stack.input.embedding();
            let table = embedding.and_then(|embedding| embedding.token_types.as_ref());
            let of_table = table.filter(|table| table.rule == TypeRule::Given);
            let mut mechanisms = stack.mechanisms();
            match of_table {
                Some(table) => table.types,
                // Whether they are equal is all that counts.
                None if mechanisms.any(Mechanism::reads_kinds) => u32::MAX as usize,
                None if matches!(stack.positions, PositionIds::OfKinds(_)) => u32::MAX as usize,
                None => 0,
            }
        };
        let stack = spec.input_stack();
        let mut sequences = spec.stacks.iter().rev().map(|stack| stack.sequence);
        Self {
            token_types: types(stack),
            rows: sequences.find_map(|sequence| match sequence {
                Sequence::Rows(rule) => Some(rule),
                Sequence::Record | Sequence::Decoder(_) | Sequence::Pictures => None,
            }),
            ..Self::of_stack(stack)
        }
    }

    /// Those of one of its stacks, where it gets no token types.
    pub fn of_stack(stack: &Stack) -> Self {
        let embedding = stack.input.embedding();
        Self {
            refused_token: embedding.and_then(|embedding| embedding.refused_token),
            inputs: [0, 1].map(|index| embedding?.inputs.get(index).copied()),
            vocab_size: stack.usable_tokens(),
            token_types: 0,
            rows: None,
            limit: stack.limit,
            positions: stack.positions,
        }
    }

    /// Index of the first token that the model does not know.
    pub fn unknown_token(&self, tokens: &[u32]) -> Option<usize> {
        let mut tokens = tokens.iter();
        tokens.position(|&token| token as usize >= self.vocab_size)
    }

    /// Why the model does not take a token that it knows, if there is one.
    pub fn refused(&self, tokens: &[u32]) -> Option<String> {
        let refused = self.refused_token?;
        let index = tokens.iter().position(|&token| token == refused)?;
        Some(format!(
            "token id {refused} at position {index} is padding, which this type hides by itself"
        ))
    }

    /// Whether records may have this beside their tokens.
    pub fn reads(&self, input: &str) -> bool {
        let mut inputs = self.inputs.iter().flatten();
        inputs.any(|own| own.name == input)
    }

    /// What is wrong with the types of tokens, if anything is.
    pub fn wrong_type(&self, types: &[u32]) -> Option<String> {
        let known = self.token_types.max(1);
        let (index, kind) = (0..)
            .zip(types)
            .find(|(_, kind)| **kind as usize >= known)?;
        Some(match self.token_types {
            0 => format!("token type {kind} at position {index}, but the model has no token types"),
            types => {
                format!("token type {kind} at position {index} is beyond the model's {types} types")
            }
        })
    }

    /// What is wrong with what a record has beside its tokens, or has not.
    pub fn wrong_inputs(&self, tokens: usize, inputs: Option<&[u32]>) -> Option<String> {
        let known = self.inputs.iter().flatten();
        let columns: usize = known.clone().map(|input| input.columns).sum();
        let Some(numbers) = inputs else {
            let required = known.clone().find(|input| input.kind.is_required());
            let required = required.filter(|_| tokens > 0)?;
            return Some(format!(
                "it has no `{}`, without which the reference's class does not run",
                required.name
            ));
        };
        if numbers.len() != tokens * columns {
            return Some(format!(
                "{} numbers beside {tokens} tokens, {columns} for each are read",
                numbers.len()
            ));
        }
        if columns == 0 {
            return None;
        }
        let mut first = 0;
        for input in known {
            let rows = numbers.chunks_exact(columns).enumerate();
            for (position, row) in rows {
                if let Some(problem) = input.wrong(&row[first..first + input.columns]) {
                    return Some(format!(
                        "`{}` of the token at position {position} has {problem}",
                        input.name
                    ));
                }
            }
            first += input.columns;
        }
        None
    }

    /// The limit that a record of so many tokens exceeds, and what it is about. A model can run records that are longer
    /// than those that it was trained with, where that is wanted.
    pub fn exceeded(&self, tokens: usize, allow_long: bool) -> Option<(usize, &'static str)> {
        let (limit, what) = match self.limit {
            LengthLimit::None => return None,
            LengthLimit::Trained(_) if allow_long => return None,
            LengthLimit::Table(limit) => (limit, "the model has positions for"),
            LengthLimit::Trained(limit) => (limit, "the model was trained for"),
        };
        (tokens > limit).then_some((limit, what))
    }

    /// Refuses a record that the model cannot run.
    pub fn check(&self, record: &Record, allow_long: bool) -> Result<(), EngineError> {
        let (tokens, types) = (&record.tokens, record.token_types.as_deref());
        let problem = if let Some(index) = self.unknown_token(tokens) {
            Some(format!(
                "token id {} at position {index} is beyond the vocabulary of {}",
                tokens[index], self.vocab_size
            ))
        } else if let Some(types) = types.filter(|types| types.len() != tokens.len()) {
            Some(format!(
                "{} token types for {} tokens",
                types.len(),
                tokens.len()
            ))
        } else if let Some((limit, what)) = self.exceeded(tokens.len(), allow_long) {
            Some(format!("{} tokens, {what} {limit}", tokens.len()))
        } else {
            types
                .and_then(|types| self.wrong_type(types))
                .or_else(|| self.refused(tokens))
                .or_else(|| self.wrong_inputs(tokens.len(), record.inputs.as_deref()))
                .or_else(|| self.positions.blocks(tokens, types).err())
                .or_else(|| self.rows?.refused(tokens.len()))
        };
        problem.map_or(Ok(()), |problem| {
            Err(EngineError::Record {
                id: record.id.clone(),
                problem,
            })
        })
    }
}
