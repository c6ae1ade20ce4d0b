//! Result files. Each takes values a super-batch at a time, in record order, and continues after a kill.
//!
//! Until the run is complete a result lives in the work folder of the [`OutputFolder`](crate::journal), where
//! checkpoints make it durable. What the finished files hold depends on the data alone, so their bytes are the
//! same whatever the budget and however often the run was interrupted.

mod columns;
mod rows;
mod safetensors;
mod tables;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use parquet::errors::ParquetError;

use crate::durable::DiskError;
use crate::journal::JournalError;

pub use self::safetensors::{TensorFile, TensorShape};
pub use self::tables::{
    EmbeddingSink, ExpertRow, ProfileRow, RecordName, RouterSink, ScoresSink, TopKSink,
    write_experts, write_profile,
};

/// A result, or the spool of the records, cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A record's id cannot name its results.
    #[error("record id `{id}`: {problem}")]
    Id {
        /// The id, shortened.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file in the work folder is not as it was written.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The Parquet library refused.
    #[error("{name}: {source}")]
    Parquet {
        /// The result file.
        name: String,
        /// Its error.
        source: ParquetError,
    },
    /// The output folder.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file system.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ResultsError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Id { .. } => {
                "ids must be unique; without ids, records are numbered from 0".into()
            }
            Self::Damaged { .. } | Self::Parquet { .. } => "give --fresh to start over".into(),
            Self::Journal(error) => error.hint(),
            Self::Disk(error) => error.hint(),
        }
    }

    /// The exit code of the program: 3 for a bad record, 5 for input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Id { .. } => 3,
            Self::Damaged { .. } | Self::Parquet { .. } => 5,
            Self::Journal(error) => error.exit_code(),
            Self::Disk(error) => error.exit_code(),
        }
    }
}
