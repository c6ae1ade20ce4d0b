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

/// The line that weights come over from where they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Bytes a second.
    pub bytes_per_second: f64,
    /// They come again each time they are read: nothing of them is kept.
    pub each_time: bool,
}

impl Line {
    /// Of `bytes` that are read, `once` of them for the first time, those that come over the line.
    pub fn crossing(self, bytes: f64, once: f64) -> f64 {
        if self.each_time { bytes } else { once }
    }
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
    /// The line that the weights come over; `None` where they are on this machine, or are too few to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<Line>,
}
