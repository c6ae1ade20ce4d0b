//! What becomes of the rows of a record.

use sli_kernels::Compute;

use super::activation::DenseActivation;
use super::stored::Stored;
use crate::take::Pooling;

/// Vectors, or rows before they are pooled, that go through the steps together.
pub(super) const BLOCK: usize = 64;

/// What happens to the normed end of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    /// What happens to every row before they are pooled.
    pub rows: Vec<Step>,
    /// The poolings whose results stand one behind the other.
    pub modes: Vec<Mode>,
    /// The tokens of the prompt count.
    pub include_prompt: bool,
    /// What happens to the pooled vector.
    pub steps: Vec<Step>,
    /// How many numbers of the end are kept.
    pub truncate: Option<usize>,
}

/// The pooling modes of sentence-transformers, and the model's own pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Cls,
    Max,
    Mean,
    MeanSqrtLength,
    WeightedMean,
    Last,
    Pooler,
}

/// What a module does to each vector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Divided by its Euclidean norm, or by 1e-12 where that is more.
    Normalize,
    /// `torch.nn.LayerNorm` with its usual epsilon.
    LayerNorm { weight: Stored, bias: Stored },
    /// A linear layer.
    Dense(Dense),
}

/// `activation(W x + b)`, perhaps with a residual path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dense {
    pub in_features: usize,
    pub out_features: usize,
    pub weight: Stored,
    pub bias: Option<Stored>,
    pub activation: DenseActivation,
    pub residual: Option<Residual>,
}

/// What is added to the output of a [`Dense`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Residual {
    /// The input.
    Input,
    /// The input through a matrix of its own.
    Projected(Stored),
}

impl From<Pooling> for Mode {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Mean => Self::Mean,
            Pooling::Cls => Self::Cls,
            Pooling::Last => Self::Last,
            Pooling::Pooler => Self::Pooler,
        }
    }
}

impl Recipe {
    /// A pooling and nothing else.
    pub fn only(mode: Mode) -> Self {
        Self {
            rows: Vec::new(),
            modes: vec![mode],
            include_prompt: true,
            steps: Vec::new(),
            truncate: None,
        }
    }

    /// Numbers of an embedding, where the rows have `columns` and the model's pooler gives `pooler`.
    pub fn width(&self, columns: usize, pooler: Option<usize>) -> usize {
        let columns = width_after(&self.rows, columns);
        let pooled = self.modes.iter().map(|mode| match (mode, pooler) {
            (Mode::Pooler, Some(pooler)) => pooler,
            _ => columns,
        });
        let width = width_after(&self.steps, pooled.sum());
        self.truncate.map_or(width, |most| width.min(most))
    }

    /// Memory that its matrices and buffers take, bytes.
    pub fn bytes(&self, columns: usize, compute: Compute) -> u64 {
        let steps = || self.rows.iter().chain(&self.steps);
        let weights: u64 = steps().map(|step| step.bytes(compute)).sum();
        let widest = steps().map(Step::widest).max().unwrap_or(0);
        let widest = widest.max(columns * self.modes.len()) as u64;
        weights + 3 * 4 * widest * BLOCK as u64
    }
}

/// Numbers of a vector after some steps.
fn width_after(steps: &[Step], width: usize) -> usize {
    steps.iter().fold(width, |width, step| match step {
        Step::Dense(dense) => dense.out_features,
        Step::Normalize | Step::LayerNorm { .. } => width,
    })
}
