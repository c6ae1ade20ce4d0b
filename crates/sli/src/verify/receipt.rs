//! What a verification found, for people who were not there.

use std::collections::BTreeMap;

use serde::Serialize;

/// How every receipt begins.
pub const BEGIN: &str = "{\n  \"sli\": ";

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The version of this program.
    pub sli: &'static str,
    /// Whether all numbers are within the tolerance.
    pub passed: bool,
    /// `model_type`.
    pub model_type: String,
    /// The weights that were read.
    pub files: Vec<ModelFile>,
    /// How the reference ran.
    pub reference: Side,
    /// How this program ran.
    pub ours: Side,
    /// What is allowed.
    pub tolerance: Tolerance,
    /// Records that were run.
    pub records: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Numbers that were compared.
    pub values: u64,
    /// The place that is farthest off, as measured by its row.
    pub worst: Worst,
    /// Every place in the model, with its own worst row.
    pub places: Vec<Compared>,
}

/// A weight file.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFile {
    /// Its name in the model's folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
    /// Whether the reference read the same; `None`: it names no such file.
    pub is_expected: Option<bool>,
}

/// One of the two that computed.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The precision of the products.
    pub dtype: String,
    /// The class, or the instruction set of the kernels.
    pub by: String,
    /// Versions of what took part.
    pub versions: BTreeMap<String, String>,
}

/// What is allowed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tolerance {
    /// The largest relative error of a row, `|ours - expected| / |expected|`.
    pub relative_error: f64,
    /// Why so much.
    pub from: &'static str,
}

/// A place in the model.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// `decoder layer 3`, `decoder end`, `logits`.
    pub place: String,
    /// Rows that were compared.
    pub rows: u64,
    /// The largest relative error of a row.
    pub relative_error: f64,
}

/// The row that is farthest off.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Worst {
    /// The record.
    pub record: String,
    /// The place, as in [`Compared`].
    pub place: String,
    /// The token of the row.
    pub token: usize,
    /// `|ours - expected| / |expected|` of the row.
    pub relative_error: f64,
    /// The feature of the row that is farthest off.
    pub feature: usize,
    /// Our value of it.
    pub ours: f32,
    /// The reference's.
    pub expected: f32,
}
