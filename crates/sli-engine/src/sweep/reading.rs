//! How large reads of the weights are done.

use sli_checkpoint::source::{CacheUse, ReadChoice};

use crate::error::EngineError;
use crate::model::Model;
use crate::plan::phases::is_expert;
use crate::plan::{Grain, Plan};
use crate::settings::Settings;

/// Chooses how large reads of the weights are done, where not all of the model stays in memory.
pub fn choose_reading(
    model: &Model,
    settings: &Settings,
    plan: &Plan,
) -> Result<Option<ReadChoice>, EngineError> {
    let layers = model.spec.stacks.iter().flat_map(|stack| &stack.layers);
    let has_experts = layers.flat_map(|layer| &layer.leaves).any(is_expert);
    if plan.grain == Grain::Model && !has_experts {
        return Ok(None);
    }
    let in_pieces = if has_experts {
        Some("experts are announced, and the system fetches several at a time")
    } else if model.checkpoint.has_strips() {
        Some("what is stored transposed is read in strips, which share pages")
    } else {
        None
    };
    let cache = CacheUse {
        fits: settings
            .machine
            .page_cache
            .is_none_or(|room| room >= model.checkpoint.stored_bytes()),
        again: plan.super_batches > 1,
        in_pieces,
        enough: plan
            .seconds_computing
            .filter(|&seconds| seconds > 0.0)
            .map(|seconds| plan.bytes_read as f64 / seconds),
    };
    Ok(model.checkpoint.choose_mode(cache)?)
}
