//! The tables of a comparison: `drift.parquet`, a row a boundary and kind of error, and `divergence.parquet`, a row a record.

use serde::Serialize;

use super::ResultsError;
use super::columns::Kind;
use super::record_name::RecordName;
use super::rows::RowSpool;
use super::tables::{fits_a_list, from_rows, from_spool};
use crate::journal::OutputFolder;

/// How far one boundary is off by one of its two errors, a row of `drift.parquet`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerDrift {
    /// The stack.
    pub stack: &'static str,
    /// The boundary: 0 is what enters the first layer, i the output of layer i.
    pub layer: u32,
    /// `hidden`, or `norm` for what the final norm makes of the last one.
    pub site: &'static str,
    /// `own`: the layer got what the reference's got. `accumulated`: it got what the layers before it made.
    pub error: &'static str,
    /// Rows that were compared.
    pub tokens: u64,
    /// Length of the difference by the length of the reference; `None`: the reference is zero.
    pub relative_error: Option<f64>,
    /// Mean over the rows of the cosine with the reference.
    pub cosine: Option<f64>,
    /// The least of them,
    pub least_cosine: Option<f64>,
    /// the row of its record in the input,
    pub least_row: Option<u64>,
    /// and its token.
    pub least_token: Option<u64>,
    /// Root of the mean square of the difference.
    pub rms: f64,
    /// Root of the mean square of the reference.
    pub rms_reference: f64,
    /// The largest difference.
    pub abs_max: f64,
}

/// Writes `drift.parquet`.
pub(crate) fn write_drift(
    folder: &mut OutputFolder,
    rows: &[LayerDrift],
) -> Result<(), ResultsError> {
    let columns = [
        ("stack", Kind::Name),
        ("layer", Kind::U32),
        ("site", Kind::Name),
        ("error", Kind::Name),
        ("tokens", Kind::U64),
        ("relative_error", Kind::OptionalF64),
        ("cosine", Kind::OptionalF64),
        ("rms", Kind::F64),
        ("rms_reference", Kind::F64),
        ("abs_max", Kind::F64),
        ("least_cosine", Kind::OptionalF64),
        ("least_row", Kind::I64),
        ("least_token", Kind::I64),
    ];
    from_rows(folder, "drift.parquet", &columns, rows, |row, cells| {
        cells.text(row.stack);
        cells.u32(row.layer);
        cells.text(row.site);
        cells.text(row.error);
        cells.u64(row.tokens);
        cells.optional_f64(row.relative_error);
        cells.optional_f64(row.cosine);
        cells.f64(row.rms);
        cells.f64(row.rms_reference);
        cells.f64(row.abs_max);
        cells.optional_f64(row.least_cosine);
        cells.u64(row.least_row.unwrap_or_default());
        cells.u64(row.least_token.unwrap_or_default());
    })
}

/// How far the distributions of a record are from the reference's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DivergenceRow<'a> {
    /// The record.
    pub record: RecordName<'a>,
    /// Tokens at the beginning that have no log-probability: one, or none.
    pub unscored: usize,
    /// Of the distribution at each position.
    pub kl: &'a [f32],
    /// The most probable token at each position,
    pub top_ids: &'a [u32],
    /// and the reference's.
    pub reference_top_ids: &'a [u32],
    /// Of each token but the unscored ones, by the distribution in front of it,
    pub logprobs: &'a [f32],
    /// and by the reference's.
    pub reference_logprobs: &'a [f32],
}

/// `divergence.parquet`.
pub(crate) struct DivergenceSink {
    spool: RowSpool,
    scores: bool,
}

impl DivergenceSink {
    const FILE: &str = "divergence.parquet";
    const COLUMNS: [(&'static str, Kind); 7] = [
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("kl", Kind::ListF32),
        ("top_ids", Kind::ListU32),
        ("reference_top_ids", Kind::ListU32),
        ("logprobs", Kind::ListF32),
        ("reference_logprobs", Kind::ListF32),
    ];

    /// Starts the table, or continues it; with log-probabilities where the model `scores` tokens.
    pub fn open(folder: &OutputFolder, scores: bool) -> Result<Self, ResultsError> {
        let spool = RowSpool::open(folder, "divergence", Self::FILE)?;
        Ok(Self { spool, scores })
    }

    /// Appends a record; they come in input order.
    pub fn push(&self, of: &DivergenceRow<'_>) -> Result<(), ResultsError> {
        fits_a_list(of.record.id, of.kl.len())?;
        self.spool.push(|row| {
            row.named(of.record);
            row.list_f32(of.kl.iter().copied());
            row.list_u32(of.top_ids.iter().copied());
            row.list_u32(of.reference_top_ids.iter().copied());
            let both = [of.logprobs, of.reference_logprobs];
            for logprobs in both.into_iter().filter(|_| self.scores) {
                if of.unscored == 0 {
                    row.list_f32(logprobs.iter().copied());
                } else {
                    row.list_f32_after_null(logprobs);
                }
            }
        })
    }

    /// Writes the Parquet file.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        let columns = if self.scores { 7 } else { 5 };
        from_spool(folder, Self::FILE, &Self::COLUMNS[..columns], &self.spool)
    }
}
