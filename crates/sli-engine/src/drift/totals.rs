//! What a comparison found, in numbers for people and `run.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::results::LayerDrift;

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
