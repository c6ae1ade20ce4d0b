//! In which order weights are used.

use crate::model::Model;
use crate::plan::end_keys;
use crate::plan::phases::Phase;
use crate::weights::{LeafKey, Section};

/// The order in which one super-batch uses its scheduled weights.
pub(super) struct Schedule {
    pub(super) keys: Vec<LeafKey>,
    /// By stack: position of the first key of every layer, and of what follows the last one.
    pub(super) layers: Vec<Vec<usize>>,
}

impl Schedule {
    pub(super) fn new(model: &Model, phases: &[Phase]) -> Self {
        let (mut keys, mut layers) = (Vec::new(), Vec::new());
        for (stack, description) in model.spec.stacks.iter().enumerate() {
            keys.extend(end_keys(model, stack, Section::Embedding));
            let mut starts = Vec::with_capacity(description.layers.len() + 1);
            for layer in 0..description.layers.len() {
                starts.push(keys.len());
                let own = phases
                    .iter()
                    .filter(|p| p.stack == stack && p.layer == layer);
                keys.extend(own.flat_map(|phase| &phase.scheduled));
            }
            starts.push(keys.len());
            layers.push(starts);
            keys.extend(end_keys(model, stack, Section::Head));
        }
        Self { keys, layers }
    }

    /// Where a super-batch begins that has some layers of a stack behind it.
    pub(super) fn position(&self, resumed: Option<(usize, usize)>) -> usize {
        resumed
            .and_then(|(stack, boundary)| self.layers.get(stack)?.get(boundary))
            .copied()
            .unwrap_or(0)
    }
}
