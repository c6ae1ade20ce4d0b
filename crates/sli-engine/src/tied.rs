//! Heads that a configuration ties to the token table, and what the weights say of them.
//!
//! After transformers' `tie_weights`: a stored head that differs from the table is used, one that
//! equals it is the table, and either may be missing.

use std::sync::Arc;

use sli_checkpoint::{Binding, Checkpoint, CheckpointError, LeafProblem, ResolvedLeaf};
use sli_spec::{Built, Leaf, ModelSpec};

use crate::error::EngineError;

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
pub fn settle_head(
    built: &mut Built,
    checkpoint: &Arc<Checkpoint>,
) -> Result<HeadOrigin, EngineError> {
    let Some(untied) = built.untied.take() else {
        return Ok(HeadOrigin::Configured);
    };
    let (Some(shared), Some(own)) = (projection(&built.spec), projection(&untied)) else {
        return Ok(HeadOrigin::Configured);
    };
    let resolve = |spec: &ModelSpec, leaf: &Leaf| {
        let nothing = std::iter::empty();
        Binding::examine_leaves(Arc::clone(checkpoint), spec.base_prefix, nothing, &[])
            .resolve(leaf)
    };
    let Ok(stored) = resolve(&untied, own) else {
        return Ok(HeadOrigin::Configured);
    };
    match resolve(&built.spec, shared) {
        Ok(table) if differ(&table, &stored)? => {
            built.spec = *untied;
            return Ok(HeadOrigin::Stored);
        }
        Err(CheckpointError::Leaf {
            problem: LeafProblem::Missing { .. },
            ..
        }) => {
            let (table, head) = (shared.source.clone(), own.source.clone());
            for stack in &mut built.spec.stacks {
                let leaves = stack.embedding.leaves.iter_mut();
                for leaf in leaves.chain(&mut stack.head.leaves) {
                    if leaf.source == table {
                        leaf.source = head.clone();
                    }
                }
            }
        }
        _ => {}
    }
    Ok(HeadOrigin::Configured)
}

/// The weight that gives the logits.
fn projection(spec: &ModelSpec) -> Option<&Leaf> {
    spec.stacks.iter().find_map(|stack| {
        let index = stack.head.logits.as_ref()?.projection.weight.0;
        stack.head.leaves.get(index as usize)
    })
}

fn differ(table: &ResolvedLeaf, stored: &ResolvedLeaf) -> Result<bool, EngineError> {
    let readable = |leaf: &ResolvedLeaf| leaf.dtype().is_plain_float();
    if !readable(table) || !readable(stored) {
        return Ok(false);
    }
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
