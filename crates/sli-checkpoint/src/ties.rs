//! Heads that a configuration ties to the token table, tables that it ties to each other, and what the weights
//! say of them.
//!
//! After transformers' `tie_weights`: a stored head that differs from the table is used, one that
//! equals it is the table, and either may be missing. The same holds for the table of each of several stacks.

use std::sync::Arc;

use sli_spec::{Built, Input, Leaf, ModelSpec, Source, TieOrder, WeightIndex};

use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::examine::examine_alone;
use crate::leaf::BoundLeaf;
use crate::problem::LeafProblem;

/// Elements of both weights that are compared at a time.
const COMPARED: usize = 1 << 17;

/// Whose head the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadOrigin {
    /// As the configuration says.
    Configured,
    /// The configuration ties it to the token table, the weights have another one.
    Stored,
}

/// Makes the description one of the head that the checkpoint has.
///
/// # Errors
/// What is stored cannot be read.
pub(crate) fn settle_head(
    built: &mut Built,
    checkpoint: &Arc<Checkpoint>,
) -> Result<HeadOrigin, CheckpointError> {
    match settled(built, checkpoint) {
        // The report on the whole checkpoint says more about a weight that does not fit.
        Err(CheckpointError::Leaf { .. }) => Ok(HeadOrigin::Configured),
        origin => origin,
    }
}

fn settled(built: &mut Built, checkpoint: &Arc<Checkpoint>) -> Result<HeadOrigin, CheckpointError> {
    let Some(mut untied) = built.untied.take() else {
        return Ok(HeadOrigin::Configured);
    };
    let base_prefix = built.spec.base_prefix;
    let stored = |leaf: &Leaf| stored(checkpoint, base_prefix, leaf);
    // Whether both are stored and are not the same.
    let differ = |shared: &Leaf, own: &Leaf| match (stored(shared)?, stored(own)?) {
        (Some(shared), Some(own)) => differ(&shared, &own),
        _ => Ok(false),
    };
    let stands_in = |shared: &Leaf, own: &Leaf| -> Result<bool, CheckpointError> {
        Ok(stored(shared)?.is_none() && stored(own)?.is_some())
    };
    let stacks = built.spec.stacks.len();
    let shape = tokens(&mut built.spec, 0).map(|table| table.shape.clone());
    for tied in in_order(built.spec.ties, stacks) {
        let pair = weight(&mut built.spec, tied).zip(weight(&mut untied, tied));
        let pair = pair.map(|(shared, own)| table_in(shared, own, shape.clone()));
        if let Some((shared, own)) = pair
            && shared.source != own.source
            && stands_in(&shared, &own)?
        {
            respell(&mut built.spec, &shared.source, &own.source);
        }
    }
    for stack in 0..stacks {
        let tied = Tied::Tokens(stack);
        let pair = weight(&mut built.spec, tied).zip(weight(&mut untied, tied));
        if let Some((shared, own)) = pair
            && shared.source != own.source
            && differ(&shared, &own)?
            && let Some(table) = tokens(&mut built.spec, stack)
        {
            table.source = own.source;
        }
    }
    let (Some([table, addend]), Some([head, own_addend])) =
        (projection(&built.spec), projection(&untied))
    else {
        return Ok(HeadOrigin::Configured);
    };
    // Addends are tied one by one, whatever the weights are.
    let addends = match addend.zip(own_addend) {
        Some((shared, own)) if differ(&shared, &own)? || stands_in(&shared, &own)? => {
            Some((shared, own))
        }
        Some((shared, own)) => Some((own, shared)),
        None => None,
    };
    let (Some(table), Some(head)) = (table, head) else {
        return Ok(HeadOrigin::Configured);
    };
    let mut origin = HeadOrigin::Configured;
    if differ(&table, &head)? {
        for (stack, own) in built.spec.stacks.iter_mut().zip(untied.stacks) {
            if own.head.logits.is_some() {
                stack.head = own.head;
            }
        }
        if !built.own_head_is_told {
            origin = HeadOrigin::Stored;
        }
    }
    if let Some((unused, used)) = addends {
        respell(&mut built.spec, &unused.source, &used.source);
    }
    Ok(origin)
}

/// Makes the description one with a head, where the file names the base model and the checkpoint has the head: a
/// tensor of its own, or the token table where the configuration ties it.
pub(crate) fn find_head(built: &mut Built, checkpoint: &Arc<Checkpoint>) {
    let Some(headed) = built.headed.take() else {
        return;
    };
    let Some([Some(head), _]) = projection(&headed.spec) else {
        return;
    };
    // What does not fit is the head of something else.
    if let Ok(Some(_)) = stored(checkpoint, headed.spec.base_prefix, &head) {
        built.spec = *headed.spec;
        built.untied = headed.untied;
    }
}

/// The weight in the checkpoint; `None` where it is not stored.
fn stored(
    checkpoint: &Arc<Checkpoint>,
    base_prefix: &str,
    leaf: &Leaf,
) -> Result<Option<BoundLeaf>, CheckpointError> {
    match examine_alone(checkpoint, base_prefix, leaf) {
        Ok(found) => Ok(Some(found)),
        Err(LeafProblem::Missing { .. }) => Ok(None),
        Err(problem) => Err(CheckpointError::Leaf {
            place: checkpoint.place(),
            problem,
        }),
    }
}

/// The token table of a stack, where it has one.
fn tokens(spec: &mut ModelSpec, stack: usize) -> Option<&mut Leaf> {
    match &mut spec.stacks[stack].input {
        Input::Tokens(embedding) => embedding.leaves.get_mut(embedding.tokens?.0 as usize),
        Input::Features(_) | Input::Resampled(_) | Input::Pictures(_) => None,
    }
}

/// A weight that may stand for what it is tied to.
#[derive(Clone, Copy)]
enum Tied {
    /// The token table of a stack.
    Tokens(usize),
    Head,
}

/// The weights of a model of so many stacks, as the reference looks through them.
fn in_order(order: TieOrder, stacks: usize) -> Vec<Tied> {
    let tables = (0..stacks).map(Tied::Tokens);
    let head = std::iter::once(Tied::Head);
    match order {
        TieOrder::HeadLast => tables.chain(head).collect(),
        TieOrder::HeadFirst => head.chain(tables).collect(),
        TieOrder::Backwards => head.chain(tables.rev()).collect(),
    }
}

/// A weight of the model, where it has it.
fn weight(spec: &mut ModelSpec, tied: Tied) -> Option<Leaf> {
    match tied {
        Tied::Tokens(stack) => tokens(spec, stack).cloned(),
        Tied::Head => projection(spec)?[0].clone(),
    }
}

/// The weight that gives the logits, and its addend.
fn projection(spec: &ModelSpec) -> Option<[Option<Leaf>; 2]> {
    spec.stacks.iter().find_map(|stack| {
        let projection = &stack.head.logits.as_ref()?.projection;
        let leaf = |index: WeightIndex| stack.head.leaves.get(index.0 as usize).cloned();
        Some([leaf(projection.weight), projection.bias.and_then(leaf)])
    })
}

/// What of a head is the token table, and what stands in its place: a head may have further columns.
fn table_in(shared: Leaf, own: Leaf, shape: Option<Vec<usize>>) -> (Leaf, Leaf) {
    let (Source::ConcatColumns(parts), Source::ConcatColumns(others), Some(shape)) =
        (&shared.source, &own.source, shape)
    else {
        return (shared, own);
    };
    let mut pairs = parts.iter().zip(others);
    let Some((one, other)) = pairs.find(|(one, other)| one != other) else {
        return (shared, own);
    };
    let of = |source: &Source| Leaf {
        source: source.clone(),
        shape: shape.clone(),
        ..shared.clone()
    };
    (of(one), of(other))
}

/// Reads a weight of the embedding or the head from another place.
fn respell(spec: &mut ModelSpec, from: &Source, to: &Source) {
    for stack in &mut spec.stacks {
        let leaves = stack.input.leaves_mut().iter_mut();
        for leaf in leaves.chain(&mut stack.head.leaves) {
            if leaf.source == *from {
                leaf.source = to.clone();
            } else if let Source::ConcatColumns(parts) = &mut leaf.source {
                for part in parts.iter_mut().filter(|part| *part == from) {
                    *part = to.clone();
                }
            }
        }
    }
}

fn differ(table: &BoundLeaf, stored: &BoundLeaf) -> Result<bool, CheckpointError> {
    if table.shape() != stored.shape() {
        return Ok(true);
    }
    let step = (COMPARED / table.columns().max(1)).max(1);
    for start in (0..table.rows()).step_by(step) {
        let rows = start..table.rows().min(start + step);
        if table.read_f32(0, rows.clone())? != stored.read_f32(0, rows)? {
            return Ok(true);
        }
    }
    Ok(false)
}
