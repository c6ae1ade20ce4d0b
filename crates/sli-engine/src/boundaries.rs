//! The boundaries between layers of a model.

use sli_spec::ModelSpec;

use crate::take::{Boundary, LayerSelection, TakeError};

/// The boundaries that a selection names in this model.
pub(crate) fn boundaries(
    spec: &ModelSpec,
    selection: &LayerSelection,
) -> Result<Vec<Boundary>, TakeError> {
    let stacks: Vec<(&str, usize, bool)> = spec
        .stacks
        .iter()
        .map(|stack| (stack.name, stack.layers.len(), stack.head.norm.is_some()))
        .collect();
    selection.resolve(&stacks)
}
