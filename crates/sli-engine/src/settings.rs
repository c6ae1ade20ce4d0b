//! What a caller asks of a run, and what it is told while it goes on.

use std::time::Duration;

use serde::Serialize;
use sli_kernels::Compute;

use crate::limits::Limits;
use crate::take::Take;

/// What to compute and with which means.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The results to produce.
    pub takes: Vec<Take>,
    /// Budget of the whole process, bytes.
    pub memory: u64,
    /// Bytes of it that the process holds for other purposes.
    pub host_bytes: u64,
    /// Compute threads.
    pub threads: usize,
    /// Precision of the products.
    pub compute: Compute,
    /// How hidden states are stored.
    pub hidden_dtype: HiddenDtype,
    /// Whether activations may leave memory.
    pub spill: Spill,
    /// Bytes of activations that may be spilled at a time; a run takes no more than half of what its
    /// disk has free.
    pub spill_room: u64,
    /// Whether records that begin alike share the work on what they share.
    pub share_prefixes: bool,
    /// Work between two checkpoints of the activations; zero: at every boundary.
    pub checkpoint_interval: Duration,
    /// Tokens run at a time, at most; `None`: the planner chooses. Never changes a result.
    pub chunk_tokens: Option<usize>,
    /// What is known of the machine. Never changes a result.
    pub machine: Machine,
}

impl Default for Settings {
    /// The default results in f32 on one thread, in as much memory as they take.
    fn default() -> Self {
        Self {
            takes: Take::defaults(),
            memory: u64::MAX,
            host_bytes: 0,
            threads: 1,
            compute: Compute::F32,
            hidden_dtype: HiddenDtype::F32,
            spill: Spill::Auto,
            spill_room: u64::MAX,
            share_prefixes: true,
            checkpoint_interval: Duration::from_mins(1),
            chunk_tokens: None,
            machine: Machine::default(),
        }
    }
}

/// What is known of the machine that runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// What it does at best, to compare the run with.
    pub limits: Option<Limits>,
    /// Bytes that the system has free for its page cache beside the run, where that is known.
    pub page_cache: Option<u64>,
}

impl Machine {
    /// These bytes, where the page cache has room for all of them.
    pub fn cached(self, stored: u64) -> Option<u64> {
        let room = self.page_cache?;
        (room >= stored).then_some(stored)
    }
}

/// Element type of stored hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenDtype {
    /// As computed.
    F32,
    /// Rounded to nearest even.
    Bf16,
    /// Rounded to nearest even; values beyond 65504 become infinite.
    F16,
}

/// Whether activations may leave memory between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spill {
    /// The planner decides.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where the run is.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The stack that runs.
    pub stack: &'a str,
    /// Layers of it that are done for the current super-batch.
    pub layer: usize,
    /// Layers of it.
    pub layers: usize,
    /// Records whose results are complete.
    pub records_done: usize,
    /// Records in all.
    pub records: usize,
    /// Token-layers done, of `token_layers`.
    pub token_layers_done: u64,
    /// Token-layers in all.
    pub token_layers: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// Bytes read from the checkpoint so far.
    pub bytes_read: u64,
    /// Bytes that the plan expects to be read.
    pub bytes_planned: u64,
}

/// Is told where the run is, and may end it.
pub trait Observer: Sync {
    /// Called at every boundary between layers and at the end.
    fn event(&self, event: &Event<'_>);
    /// Something that may be wrong.
    fn warning(&self, text: &str);
    /// Something that is good to know.
    fn note(&self, _text: &str) {}
    /// `true` ends the run at the next boundary with everything so far made durable.
    fn interrupted(&self) -> bool {
        false
    }
}

/// An observer that says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn event(&self, _event: &Event<'_>) {}
    fn warning(&self, _text: &str) {}
}
