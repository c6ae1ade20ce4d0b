//! `sli diff`: how far a model drifts from another one of the same shape, the *reference*, over the same records.
//!
//! The reference runs first and leaves a *trace*: all that it has between its layers, and its logits. The model then runs every
//! record twice side by side ([`crate::records::RecordSpool::doubled`]): once on its own, and once *led*: between its layers the
//! led record is given what the reference had there. So at every boundary the first is off by what has accumulated, the second
//! by the error of one layer alone, and the weights are read once for both.

mod divergences;
mod follower;
mod reference;
mod sums;
mod totals;
mod trace;
mod unlike;

use std::path::{Path, PathBuf};

pub(crate) use follower::{Drift, bytes, row_bytes};
pub use totals::{Diverged, Drifted};
pub(crate) use trace::{Trace, values};
pub use unlike::unlike;

/// The output folder of the reference, in the work folder of the run that is compared with it.
pub fn reference_folder(work: &Path) -> PathBuf {
    work.join("reference")
}

/// The records of the reference, in the same folder.
pub fn reference_records(work: &Path) -> PathBuf {
    work.join("reference-records")
}

/// Whether a record, of those that run twice, is led by the reference.
fn is_led(record: usize) -> bool {
    record % 2 == 1
}

/// The number among the reference's records of one of those that run twice.
fn of_reference(record: usize) -> usize {
    record / 2
}
