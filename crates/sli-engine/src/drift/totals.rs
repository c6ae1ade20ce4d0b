//! What a comparison found, in numbers for people and `run.json`.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Drifted {
    /// How far the distributions at the end are apart; `None`: the models have no head that gives logits.
    pub divergence: Option<Diverged>,
    /// How far the states at the boundaries are apart, as `drift.parquet` has it.
    pub layers: Vec<LayerDrift>,
}

/// How far the distributions over the vocabulary are apart.
#[derive(Clone, Debug, Serialize)]
pub struct Diverged {
    /// Positions that were compared.
    pub positions: u64,
    /// The Kullback-Leibler divergence from the reference's distributions, nats: statistics over the positions.
    pub kl: BTreeMap<&'static str, f64>,
    /// The same where the head alone is the model's: it gets what the reference's head got.
    pub kl_of_head: BTreeMap<&'static str, f64>,
    /// Positions at which both hold the same token for the most probable one, of all.
    pub top1_agreement: f64,
    /// The same where the head alone is the model's.
    pub top1_agreement_of_head: f64,
    /// `exp` of the mean negative log-probability of the records' tokens; `None`: nothing predicts them.
    pub perplexity: Option<f64>,
    /// The reference's.
    pub reference_perplexity: Option<f64>,
}

/// One boundary, and which of its two errors.
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
