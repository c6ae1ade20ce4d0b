//! Result files. Each takes values a super-batch at a time, in record order, and continues after a kill.
//!
//! Until the run is complete a result lives in the work folder of the [`OutputFolder`](crate::journal), where
//! checkpoints make it durable. What the finished files hold depends on the data alone, so their bytes are the
//! same whatever the budget and however often the run was interrupted.

mod cells;
mod classes;
mod columns;
mod drift;
mod joining;
mod lens;
mod reading;
mod record_name;
mod rows;
mod safetensors;
mod sparse;
mod tables;
mod tensor_rows;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use parquet::errors::ParquetError;

use crate::durable::DiskError;
use crate::journal::JournalError;

pub use self::classes::ClassesSink;
pub use self::drift::LayerDrift;
pub(crate) use self::drift::{DivergenceRow, DivergenceSink, write_drift};
pub(crate) use self::joining::{Stored, join_tables, join_tensors};
pub use self::lens::{LensRow, LensSink};
pub use self::record_name::RecordName;
pub(crate) use self::rows::LONG_ROW;
pub use self::safetensors::{TensorFile, TensorShape};
pub(crate) use self::safetensors::{file_name, name_of_file};
pub use self::sparse::SparseSink;
pub use self::tables::{
    BestTokens, ChannelsRow, EmbeddingSink, ExpertRow, ProfileRow, RouterSink, ScoresSink,
    TopKSink, write_channels, write_experts, write_profile, write_records,
};
pub(crate) use self::tables::{CHANNELS, EXPERTS, PROFILE};
pub(crate) use self::tensor_rows::TensorRows;

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
    /// A finite value is beyond what the type of a file holds.
    #[error(
        "record `{id}`, token {token}: {value} at position {column} of {place} does not fit {dtype}, whose \
         largest value is {largest}"
    )]
    Overflow {
        /// The record.
        id: String,
        /// Its token, from 0.
        token: usize,
        /// Where in the token's values, from 0.
        column: usize,
        /// What the file holds.
        place: String,
        /// The value.
        value: f32,
        /// The file's type.
        dtype: &'static str,
        /// The largest value of that type.
        largest: f32,
    },
    /// Experts were chosen in a layer that the table of choices was not opened with.
    #[error("internal error: layer {layer} chose experts, but the table was not made for it")]
    UnknownLayer {
        /// The layer, from 1.
        layer: u32,
    },
    /// Squares of what enters a matrix are beyond what f32 holds.
    #[error("the squares of what enters `{0}` are beyond the range of f32")]
    Squares(String),
    /// More was added to the sums of a matrix than they are exact for.
    #[error(
        "more than 67 million stretches of tokens enter `{0}`, which is what its sums hold exactly"
    )]
    Addends(String),
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
            Self::Overflow { dtype, .. } => match *dtype {
                "f16" => "--hidden-dtype bf16 has the range of f32, --hidden-dtype f32 is exact; give --fresh with it",
                _ => "--hidden-dtype f32 is exact; give --fresh with it",
            }
            .into(),
            Self::Damaged { .. } | Self::Parquet { .. } => "give --fresh to start over".into(),
            Self::Squares(_) => {
                "--take hidden and profile show where the values become so large".into()
            }
            Self::Addends(_) => "run over parts of the dataset".into(),
            Self::UnknownLayer { .. } => "this is a defect of the program; please report it".into(),
            Self::Journal(error) => error.hint(),
            Self::Disk(error) => error.hint(),
        }
    }

    /// The exit code of the program: 3 for a bad record, 5 for input and output.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Id { .. } | Self::Overflow { .. } | Self::Squares(_) | Self::Addends(_) => 3,
            Self::Damaged { .. } | Self::Parquet { .. } => 5,
            Self::UnknownLayer { .. } => 1,
            Self::Journal(error) => error.exit_code(),
            Self::Disk(error) => error.exit_code(),
        }
    }
}
