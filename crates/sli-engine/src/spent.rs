//! What a run costs, over all processes that work on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What processes spent on a run, each up to its last checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// How many processes.
    pub processes: u64,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Bytes read from the checkpoint.
    pub bytes_read: u64,
    /// Where the time went.
    pub stages: Stages,
    /// Where the layers' part of it went.
    #[serde(default)]
    pub layers: LayerSeconds,
}

/// Seconds of each layer of each stack, its waiting for weights included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerSeconds(BTreeMap<String, Vec<f64>>);

impl LayerSeconds {
    /// Counts the time of a layer, from 0.
    pub(crate) fn add(&mut self, stack: &str, layer: usize, seconds: f64) {
        let layers = self.0.entry(stack.to_owned()).or_default();
        if layers.len() <= layer {
            layers.resize(layer + 1, 0.0);
        }
        layers[layer] += seconds;
    }
}

/// Where the time of a run went, seconds.
///
/// `prepare` is over before the computation begins. `read` and `pack` are summed over the threads that do them,
/// beside the computation. The others follow one another on the computing thread, kernels with all their threads,
/// and add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// Reading the records and turning them into tokens.
    #[serde(default)]
    pub prepare: f64,
    /// Reading the checkpoint.
    pub read: f64,
    /// Packing weights for the kernels.
    pub pack: f64,
    /// Waiting for weights.
    pub wait: f64,
    /// Matrix products.
    pub gemm: f64,
    /// Attention.
    pub attention: f64,
    /// Norms.
    pub norm: f64,
    /// Convolutions and recurrences along a record.
    pub scan: f64,
    /// Rotary positions.
    pub rotary: f64,
    /// Activations and gates.
    pub activation: f64,
    /// Log-sum-exp, softmax, the best k.
    pub vocabulary: f64,
    /// Sums, scales and other element-wise work.
    pub elementwise: f64,
    /// The rest: looking up tables, routing, statistics, writing results and activations.
    pub other: f64,
    /// All on the computing thread.
    pub total: f64,
}

impl Stages {
    /// Those of two parts of a run.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            prepare: self.prepare + other.prepare,
            read: self.read + other.read,
            pack: self.pack + other.pack,
            wait: self.wait + other.wait,
            gemm: self.gemm + other.gemm,
            attention: self.attention + other.attention,
            norm: self.norm + other.norm,
            scan: self.scan + other.scan,
            rotary: self.rotary + other.rotary,
            activation: self.activation + other.activation,
            vocabulary: self.vocabulary + other.vocabulary,
            elementwise: self.elementwise + other.elementwise,
            other: self.other + other.other,
            total: self.total + other.total,
        }
    }
}
