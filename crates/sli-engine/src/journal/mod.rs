//! The life of an output folder: empty, at work, finished; and what survives a kill in between.
//!
//! All work is in `DIR/.sli/`: a lock, the state, partial results and saved activations. Results move to
//! `DIR` when the run is complete; `run.json` comes last, then `.sli` goes. So a folder with `run.json` is
//! finished, one with `.sli/state.json` is continued, one with neither and nothing else in it starts, and any
//! other is somebody else's and is not touched.
//!
//! Invariant: what the state file says is on the device. [`OutputFolder::checkpoint`] first makes all that
//! the new state relies on durable, then replaces the state in one step, then removes what only the old state
//! needed. Files that the state does not know may hold anything.

mod clearing;
mod error;
mod files;
mod folder;
mod key;
mod manifest;
mod progress;
mod published;
mod saved;
mod state;
#[cfg(test)]
mod tests;

pub use self::error::JournalError;
pub use self::files::{Occupied, occupy};
pub use self::folder::{Durable, Opened, OutputFolder};
pub use self::key::{DATASETS, Difference, RunKey, SHARD, short_hash};
pub use self::manifest::{Manifest, ResultFile};
pub(crate) use self::progress::WEIGHTS;
pub use self::progress::{BufferRef, EndProgress, KeptState, Mark, Progress, SuperBatchProgress};
pub use self::published::ResultWriter;
pub(crate) use self::published::partial_path;
pub(crate) use self::saved::blob_of;
