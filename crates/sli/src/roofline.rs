//! How fast a run could be at best on this machine: the larger of bytes over bandwidth and operations over
//! peak arithmetic (Williams et al. 2009).

use std::path::Path;
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::FileExt;
use serde::Serialize;
use sli_engine::{Model, Plan, Settings};
use sli_kernels::Kernels;
use sli_kernels::measure::peak_gflops;

/// Bytes that the probe of the storage reads.
const PROBE_BYTES: usize = 4 << 20;

/// What limits a run, and the time that it cannot beat.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Roofline {
    /// Floating-point operations of the run.
    pub operations: f64,
    /// Peak operations a second of the threads that run, as measured.
    pub peak_operations_per_second: f64,
    /// Bytes that the run reads.
    pub bytes: u64,
    /// Bytes a second that the storage delivers, as measured; `None` for files too small to tell.
    pub bytes_per_second: Option<f64>,
    /// The larger of the two times, seconds.
    pub seconds: f64,
}

impl Roofline {
    /// Measures the machine and compares it with the work of a plan.
    pub fn measure(model: &Model, settings: &Settings, plan: &Plan) -> Self {
        let kernels = Kernels::new(settings.threads, settings.compute);
        let peak = peak_gflops(&kernels) * 1e9;
        let bandwidth = bandwidth(model);
        let operations = plan.work.linear + plan.work.attention;
        let reading = bandwidth.map_or(0.0, |bandwidth| plan.bytes_read as f64 / bandwidth);
        Self {
            operations,
            peak_operations_per_second: peak,
            bytes: plan.bytes_read,
            bytes_per_second: bandwidth,
            seconds: reading.max(operations / peak),
        }
    }

    /// Whether reading takes longer than computing.
    pub fn is_reading(&self) -> bool {
        self.operations / self.peak_operations_per_second < self.seconds
    }

    /// The least time the run takes.
    pub fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }
}

/// Bytes a second from the middle of the largest weight file.
fn bandwidth(model: &Model) -> Option<f64> {
    let file = model
        .checkpoint
        .files()
        .iter()
        .max_by_key(|file| file.size)?;
    let length = PROBE_BYTES.min(usize::try_from(file.size).ok()? / 2);
    if length < 1 << 20 {
        return None;
    }
    let handle = fs_err::File::open(Path::new(&model.folder).join(&file.name)).ok()?;
    let mut buffer = vec![0; length];
    let start = Instant::now();
    handle
        .read_exact_at(&mut buffer, file.size / 2 - length as u64 / 2)
        .ok()?;
    Some(length as f64 / start.elapsed().as_secs_f64().max(1e-9))
}
