//! What limits a run, and where that is known from.

use serde::{Deserialize, Serialize};

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `sli bench` measured it.
    Bench,
    /// A quick look just before the run.
    Probe,
}

/// What limits a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Operations a second on registers, of the threads and the compute type of the run.
    pub operations_per_second: f64,
    /// Where that comes from.
    pub operations_from: Origin,
    /// Operations a second of a matrix product; of a [`Origin::Probe`], a usual part of the above.
    pub products_per_second: f64,
    /// Bytes a second that the threads read from memory; of a [`Origin::Probe`], what is usual.
    pub memory_per_second: f64,
    /// Bytes a second that the storage delivers; `None` where there is too little to tell.
    pub bytes_per_second: Option<f64>,
    /// Where that comes from.
    pub bytes_from: Origin,
}
