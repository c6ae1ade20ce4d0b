//! Where the time of a run goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sli_kernels::{Kernels, Stage};

use crate::model::Model;
use crate::spent::Stages;

/// Reads the clocks when the computation begins.
pub(crate) struct Stopwatch {
    start: Instant,
    read: Duration,
    packing: u64,
    waiting: u64,
}

impl Stopwatch {
    pub fn start(model: &Model) -> Self {
        Self {
            start: Instant::now(),
            read: model.checkpoint.time_reading(),
            packing: model.clock.packing.load(Ordering::Relaxed),
            waiting: model.clock.waiting.load(Ordering::Relaxed),
        }
    }

    /// The times since the start; `kernels` are those of this run.
    pub fn so_far(&self, model: &Model, kernels: &Kernels) -> Stages {
        let total = self.start.elapsed().as_secs_f64();
        let since = |now: &AtomicU64, before: u64| {
            Duration::from_nanos(now.load(Ordering::Relaxed) - before).as_secs_f64()
        };
        let of = |stage: Stage| kernels.time_of(stage).as_secs_f64();
        let wait = since(&model.clock.waiting, self.waiting);
        let known = wait + Stage::ALL.into_iter().map(of).sum::<f64>();
        Stages {
            prepare: 0.0,
            read: model
                .checkpoint
                .time_reading()
                .saturating_sub(self.read)
                .as_secs_f64(),
            pack: since(&model.clock.packing, self.packing),
            wait,
            gemm: of(Stage::Product),
            attention: of(Stage::Attention),
            norm: of(Stage::Norm),
            scan: of(Stage::Scan),
            rotary: of(Stage::Rotary),
            activation: of(Stage::Activation),
            vocabulary: of(Stage::Vocabulary),
            elementwise: of(Stage::Elementwise),
            other: (total - known).max(0.0),
            total,
        }
    }
}
