//! What a run did, for the closing lines and `run.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sli_kernels::Compute;

use sli_checkpoint::source::ReadChoice;

use crate::ceilings::Roofline;
use crate::drift::Drifted;
use crate::journal::Progress;
use crate::leftovers::left_out;
use crate::model::Model;
use crate::plan::Plan;
use crate::records::RecordSpool;
use crate::settings::Settings;
use crate::shard::Shard;
use crate::spent::{LayerSeconds, Spent, Stages};
use crate::weights::content::WeightsRead;

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Records.
    pub records: usize,
    /// Records of the input that were left out, as nothing is in them.
    pub skipped: u64,
    /// Which part of the dataset they are; `None`: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Tokens.
    pub tokens: u64,
    /// Records that are shorter than their texts, because of a limit of the model or of `--max-length`.
    pub records_cut: u64,
    /// Wall time of this process's part, seconds.
    pub seconds: f64,
    /// The weights that were read.
    pub weights: WeightsRead,
    /// Bytes read from the checkpoint by this process.
    pub bytes_read: u64,
    /// Processes that worked on this folder and came to a checkpoint.
    pub processes: u64,
    /// Their wall time, seconds, each up to its last checkpoint.
    pub seconds_in_all: f64,
    /// Bytes that they read from the checkpoint.
    pub bytes_read_in_all: u64,
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
    /// Memory that it was allowed, bytes.
    pub memory_budget: u64,
    /// Compute threads.
    pub threads: usize,
    /// Precision of the products.
    pub compute: &'static str,
    /// Instruction set of the kernels.
    pub isa: String,
    /// The time that the run cannot beat, over all processes; `None` where nothing is known of the machine.
    pub roofline: Option<Roofline>,
    /// Its part of the time that the run took.
    pub roofline_fraction: Option<f64>,
    /// How large reads of the weights were done, where there was something to choose.
    pub reading: Option<ReadChoice>,
    /// How the names in the files became those of the model, where they are others.
    pub tensor_names: Option<String>,
    /// Tensors that nothing needs, by the reason why.
    pub left_out: BTreeMap<&'static str, Vec<String>>,
    /// Where the time of all processes went, each up to its last checkpoint.
    pub stages: Stages,
    /// Seconds that each layer of each stack took of it, its waiting for weights included.
    pub layer_seconds: LayerSeconds,
    /// How far the model is from the reference, where it was compared with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drifted>,
    /// The plan that was carried out.
    pub plan: Plan,
}

/// What a run found out about itself.
pub(crate) struct Measured {
    pub isa: String,
    pub reading: Option<ReadChoice>,
    /// By all processes.
    pub spent: Spent,
    pub elapsed: Duration,
}

/// Members of a summary that are about one process and its machine: where parts become one run they are kept part by part.
pub(crate) const OF_MACHINES: [&str; 11] = [
    "seconds",
    "bytes_read",
    "peak_memory",
    "memory_budget",
    "threads",
    "roofline",
    "roofline_fraction",
    "reading",
    "stages",
    "layer_seconds",
    "plan",
];

/// Members that are then the sums of those of the parts. All others are the same in every part.
pub(crate) const SUMS: [&str; 11] = [
    "records",
    "skipped",
    "tokens",
    "records_cut",
    "token_layers_alone",
    "processes",
    "seconds_in_all",
    "bytes_read_in_all",
    "layer_passes",
    "layer_passes_begun",
    "token_layers",
];

impl Summary {
    pub(crate) fn new(
        model: &Model,
        records: &RecordSpool,
        settings: &Settings,
        plan: &Plan,
        progress: &Progress,
        measured: Measured,
    ) -> Self {
        let Measured {
            isa,
            reading,
            spent,
            elapsed,
        } = measured;
        let (bytes_read, seconds) = (model.checkpoint.bytes_read(), elapsed.as_secs_f64());
        let roofline = settings.machine.limits.map(|limits| {
            let stored = settings.machine.cached(model.checkpoint.stored_bytes());
            Roofline::new(limits, plan.work, spent.bytes_read, stored)
        });
        Self {
            records: records.len() / records.copies(),
            skipped: records.skipped(),
            shard: records.shard().cloned(),
            tokens: records.tokens_in_all(&model.spec) / records.copies() as u64,
            records_cut: records.cut(),
            seconds,
            weights: WeightsRead::new(model),
            bytes_read,
            processes: spent.processes,
            seconds_in_all: spent.seconds,
            bytes_read_in_all: spent.bytes_read,
            roofline,
            roofline_fraction: roofline.map(|roofline| roofline.seconds / spent.seconds.max(1e-9)),
            reading,
            tensor_names: model.naming.as_ref().map(ToString::to_string),
            left_out: left_out(model.binding.report()),
            layer_passes: progress.layer_passes,
            layer_passes_begun: progress.layer_passes,
            token_layers: progress.token_layers,
            token_layers_alone: records.token_layers(&model.spec),
            peak_memory: peak_memory(),
            memory_budget: settings.memory,
            threads: settings.threads,
            compute: match settings.compute {
                Compute::F32 => "f32",
                Compute::Bf16 => "bf16",
            },
            isa,
            stages: spent.stages,
            layer_seconds: spent.layers,
            drift: None,
            plan: plan.clone(),
        }
    }
}

/// `VmHWM` of this process, bytes; 0 where the system does not say.
pub fn peak_memory() -> u64 {
    process_memory("VmHWM:")
}

/// Lets [`peak_memory`] start anew, where the system can.
pub fn forget_peak_memory() {
    // The kernel's own way to reset the mark; without it the peak is that of the whole process.
    let _ = fs_err::write("/proc/self/clear_refs", "5");
}

/// `VmRSS` of this process, bytes; 0 where the system does not say.
pub fn resident_memory() -> u64 {
    process_memory("VmRSS:")
}

fn process_memory(name: &str) -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
