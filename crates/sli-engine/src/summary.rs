//! What a run did, for the closing lines and `run.json`.

use std::time::Duration;

use serde::Serialize;

use crate::journal::Progress;
use crate::model::Model;
use crate::plan::Plan;
use crate::records::RecordSpool;
use crate::settings::Settings;

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Records.
    pub records: usize,
    /// Tokens.
    pub tokens: u64,
    /// Wall time of this process's part, seconds.
    pub seconds: f64,
    /// Bytes read from the checkpoint by this process.
    pub bytes_read: u64,
    /// Passes of a super-batch through a layer, over all processes that worked on this folder.
    pub layer_passes: u64,
    /// The same with those that an interruption ended and that were done again.
    pub layer_passes_begun: u64,
    /// Tokens times the layers they ran through, over all processes that worked on this folder: what
    /// records have in common runs once.
    pub token_layers: u64,
    /// The same if every record ran on its own.
    pub token_layers_alone: u64,
    /// Peak resident memory of this process, bytes; 0 where the system does not say.
    pub peak_memory: u64,
    /// Compute threads.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: String,
    /// The plan that was carried out.
    pub plan: Plan,
}

impl Summary {
    pub(crate) fn new(
        model: &Model,
        records: &RecordSpool,
        settings: &Settings,
        plan: &Plan,
        progress: &Progress,
        isa: String,
        elapsed: Duration,
    ) -> Self {
        let layers: usize = model
            .spec
            .stacks
            .iter()
            .map(|stack| stack.layers.len())
            .sum();
        Self {
            records: records.len(),
            tokens: records.total_tokens(),
            seconds: elapsed.as_secs_f64(),
            bytes_read: model.checkpoint.bytes_read(),
            layer_passes: progress.layer_passes,
            layer_passes_begun: progress.layer_passes,
            token_layers: progress.token_layers,
            token_layers_alone: records.total_tokens() * layers as u64,
            peak_memory: peak_memory(),
            threads: settings.threads,
            isa,
            plan: plan.clone(),
        }
    }
}

/// `VmHWM` of this process, bytes.
pub fn peak_memory() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
