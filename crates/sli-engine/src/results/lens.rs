//! `lens.parquet`: what the head says of the states at boundaries; a row a record and boundary.

use super::ResultsError;
use super::columns::{Columns, Kind};
use super::record_name::RecordName;
use super::rows::RowSpool;
use super::tables::{fits_a_list, in_turn};
use crate::journal::OutputFolder;

/// A record at a boundary.
#[derive(Clone, Copy, Debug)]
pub struct LensRow<'a> {
    /// The record.
    pub record: RecordName<'a>,
    /// The boundary: 0 is what enters the first layer, i the output of layer i.
    pub layer: u32,
    /// Tokens at the beginning that have no log-probability: one, or none.
    pub unscored: usize,
    /// Of each other token, by the state in front of it.
    pub logprobs: &'a [f32],
    /// Of the distribution at each position.
    pub entropy: &'a [f32],
    /// The divergence of each from that of the last layer.
    pub kl: &'a [f32],
    /// Most probable tokens of a position.
    pub width: usize,
    /// Their ids, `[tokens, width]`.
    pub top_ids: &'a [u32],
    /// Their log-probabilities, `[tokens, width]`.
    pub top_logprobs: &'a [f32],
}

/// The table.
pub struct LensSink {
    /// A spool a boundary.
    layers: Vec<(u32, RowSpool)>,
}

impl LensSink {
    const FILE: &str = "lens.parquet";
    const COLUMNS: &Columns<'static> = &[
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("layer", Kind::U32),
        ("logprobs", Kind::ListF32),
        ("entropy", Kind::ListF32),
        ("kl", Kind::ListF32),
        ("top_ids", Kind::MatrixU32),
        ("top_logprobs", Kind::MatrixF32),
    ];

    /// Starts the table for the given boundaries, or continues it from the last checkpoint.
    pub fn open(folder: &OutputFolder, layers: &[u32]) -> Result<Self, ResultsError> {
        let open = |&layer: &u32| {
            let spool = RowSpool::open(folder, &format!("lens-{layer}"), Self::FILE)?;
            Ok((layer, spool))
        };
        let layers: Result<_, ResultsError> = layers.iter().map(open).collect();
        Ok(Self { layers: layers? })
    }

    /// Appends a record's part of one of the boundaries. Every record comes once for each, in input order.
    pub fn push(&self, lens: &LensRow<'_>) -> Result<(), ResultsError> {
        let LensRow { layer, width, .. } = *lens;
        fits_a_list(lens.record.id, lens.top_ids.len())?;
        let spool = self.layers.iter().find(|&&(number, _)| number == layer);
        let (_, spool) = spool.ok_or(ResultsError::UnknownLayer { layer })?;
        spool.push(|row| {
            row.named(lens.record);
            row.u32(layer);
            if lens.unscored == 0 {
                row.list_f32(lens.logprobs.iter().copied());
            } else {
                row.list_f32_after_null(lens.logprobs);
            }
            row.list_f32(lens.entropy.iter().copied());
            row.list_f32(lens.kl.iter().copied());
            let count = lens.top_ids.len();
            row.matrix(width, count, lens.top_ids.iter().map(|id| id.to_le_bytes()));
            let logprobs = lens.top_logprobs.iter().map(|value| value.to_le_bytes());
            row.matrix(width, count, logprobs);
        })
    }

    /// Writes the Parquet file: records in input order, the boundaries of each in order.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        in_turn(folder, Self::FILE, Self::COLUMNS, &self.layers)
    }
}
