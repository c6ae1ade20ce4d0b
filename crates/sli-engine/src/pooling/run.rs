//! Carries out a recipe: pools the rows of records and takes the vectors through the steps.
//!
//! A vector depends on the rows of its own record only: sums over rows are in `f64` and in order, products are the
//! kernels'.

use sli_kernels::{Compute, Kernels, Mat, MatRef, Store};
use sli_spec::Pooler;

use super::recipe::{BLOCK, Mode, Recipe, Step};
use super::weights::{LoadedDense, LoadedResidual, LoadedStep};

use crate::error::EngineError;
use crate::exec::BoundLayer;
use crate::exec::batch::{Batch, BatchRecord};
use crate::expansion;
use crate::results::EmbeddingSink;

/// A recipe whose weights are in memory.
pub(crate) struct Embedder {
    recipe: Recipe,
    rows: Vec<LoadedStep>,
    steps: Vec<LoadedStep>,
    /// Tokens at the beginning of every record that are not pooled.
    skip: usize,
}

impl Embedder {
    /// Reads the weights of the modules; the first `skip` tokens of every record are a prompt.
    pub fn load(recipe: Recipe, compute: Compute, skip: usize) -> Result<Self, EngineError> {
        let load = |steps: &[Step]| -> Result<Vec<LoadedStep>, EngineError> {
            steps.iter().map(|step| step.load(compute)).collect()
        };
        let (rows, steps) = (load(&recipe.rows), load(&recipe.steps));
        let skip = if recipe.include_prompt { 0 } else { skip };
        Ok(Self {
            rows: rows?,
            steps: steps?,
            recipe,
            skip,
        })
    }

    /// Hands the vectors of all records that end in a batch to `sink`; `open` is what there is so far of one whose
    /// pieces come one by one.
    pub fn embed(
        &self,
        layer: &BoundLayer<'_>,
        pooler: Option<&Pooler>,
        (batch, x): (&Batch, &Mat),
        open: &mut Option<Pool>,
        sink: &EmbeddingSink,
    ) -> Result<(), EngineError> {
        for records in batch.records.chunks(BLOCK) {
            let (mut pooled, mut filled) = (Vec::new(), 0);
            for record in records.iter().filter(|record| record.length > 0) {
                let pool = self.pool(layer, batch, record, x, open.take());
                if record.ends() {
                    pooled.extend(self.pooled(layer, pooler, record, pool)?);
                    filled += 1;
                } else {
                    *open = Some(pool);
                }
            }
            let columns = pooled.len() / std::cmp::max(filled, 1);
            let mut vectors = Mat::from_vec(filled, columns, pooled);
            for step in &self.steps {
                vectors = step.run(layer.kernels, vectors);
            }
            let kept = self
                .recipe
                .truncate
                .unwrap_or(usize::MAX)
                .min(vectors.cols());
            let mut next = 0;
            for record in records.iter().filter(|record| record.ends()) {
                if record.length == 0 {
                    sink.push(record.name(), None)?;
                } else {
                    sink.push(record.name(), Some(&vectors.row(next)[..kept]))?;
                    next += 1;
                }
            }
        }
        Ok(())
    }

    /// The rows of a record that are in a batch, after those that came before.
    fn pool(
        &self,
        layer: &BoundLayer<'_>,
        batch: &Batch,
        record: &BatchRecord,
        x: &Mat,
        before: Option<Pool>,
    ) -> Pool {
        let mut copy = Mat::default();
        let rows = expansion::rows(x, &batch.path(record), &mut copy);
        let mut pool = before.unwrap_or_else(|| Pool::new(&self.recipe.modes, self.skip));
        if self.rows.is_empty() {
            pool.add(rows);
            return pool;
        }
        for start in (0..rows.rows()).step_by(BLOCK) {
            let range = start..(start + BLOCK).min(rows.rows());
            let mut block = Mat::new(range.len(), rows.cols());
            for (to, from) in range.enumerate() {
                block.row_mut(to).copy_from_slice(rows.row(from));
            }
            for step in &self.rows {
                block = step.run(layer.kernels, block);
            }
            pool.add(block.view());
        }
        pool
    }

    /// The pooled vector of a record that ends.
    fn pooled(
        &self,
        layer: &BoundLayer<'_>,
        pooler: Option<&Pooler>,
        record: &BatchRecord,
        pool: Pool,
    ) -> Result<Vec<f32>, EngineError> {
        if let (Some(pooler), [Mode::Pooler]) = (pooler, &self.recipe.modes[..]) {
            let mut pooled = Mat::new(1, pooler.dense.out_features);
            let first = MatRef::from_slice(&pool.first, 1, pool.first.len());
            layer.dense(&pooler.dense, pooler.activation, first, pooled.view_mut())?;
            return Ok(pooled.row(0).to_vec());
        }
        pool.finish().ok_or_else(|| EngineError::Record {
            id: record.id.clone(),
            problem: "it has no token beside the prompt, and the largest of none is not a number"
                .into(),
        })
    }
}

impl LoadedStep {
    /// What it makes of vectors, one a row.
    fn run(&self, kernels: &Kernels, mut x: Mat) -> Mat {
        match self {
            Self::Normalize => {
                for row in 0..x.rows() {
                    normalize(x.row_mut(row));
                }
                x
            }
            Self::LayerNorm { weight, bias } => {
                kernels.layer_norm_in_place(Some(weight), Some(bias), 1e-5, x.view_mut());
                x
            }
            Self::Dense(dense) => dense.run(kernels, &x),
        }
    }
}

impl LoadedDense {
    fn run(&self, kernels: &Kernels, x: &Mat) -> Mat {
        let mut out = Mat::new(x.rows(), self.weight.n());
        let bias = self.bias.as_deref();
        kernels.gemm(x.view(), &self.weight, bias, Store::Set, out.view_mut());
        self.activation.apply(kernels, &mut out);
        match &self.residual {
            LoadedResidual::None => {}
            LoadedResidual::Input => {
                let parts = out.as_mut_slice().iter_mut().zip(x.as_slice());
                parts.for_each(|(out, &x)| *out += x);
            }
            LoadedResidual::Projected(weight) => {
                kernels.gemm(x.view(), weight, None, Store::Add, out.view_mut());
            }
        }
        out
    }
}

/// Divides by the Euclidean norm, as `normalize` of torch does.
fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
    let norm = square.sqrt().max(1e-12) as f32;
    for value in vector {
        *value /= norm;
    }
}

/// The poolings of one record while its rows pass by.
pub(crate) struct Pool {
    modes: Vec<Mode>,
    /// Rows that do not count.
    skip: usize,
    /// Rows so far.
    rows: usize,
    /// Sums of the rows, and of the rows times their number from 1.
    sum: Vec<f64>,
    weighted: Vec<f64>,
    most: Vec<f32>,
    /// The first row of all, the first and the last that count.
    first: Vec<f32>,
    begin: Vec<f32>,
    last: Vec<f32>,
}

impl Pool {
    fn new(modes: &[Mode], skip: usize) -> Self {
        Self {
            modes: modes.to_vec(),
            skip,
            rows: 0,
            sum: Vec::new(),
            weighted: Vec::new(),
            most: Vec::new(),
            first: Vec::new(),
            begin: Vec::new(),
            last: Vec::new(),
        }
    }

    /// The next rows of the record.
    fn add(&mut self, rows: MatRef<'_>) {
        let has = |some: &[Mode]| self.modes.iter().any(|mode| some.contains(mode));
        let sums = has(&[Mode::Mean, Mode::MeanSqrtLength]);
        let (weights, maximum) = (has(&[Mode::WeightedMean]), has(&[Mode::Max]));
        let columns = rows.cols();
        for index in 0..rows.rows() {
            let row = rows.row(index);
            let number = self.rows;
            self.rows += 1;
            if number == 0 {
                self.first = row.to_vec();
                self.sum = vec![0.0; columns];
                self.weighted = vec![0.0; columns];
                self.last = vec![0.0; columns];
            }
            if number < self.skip {
                continue;
            }
            if number == self.skip {
                self.begin = row.to_vec();
                self.most = row.to_vec();
            }
            if sums {
                let parts = self.sum.iter_mut().zip(row);
                parts.for_each(|(sum, &value)| *sum += f64::from(value));
            }
            if weights {
                let factor = number as f64 + 1.0;
                let parts = self.weighted.iter_mut().zip(row);
                parts.for_each(|(sum, &value)| *sum += f64::from(value) * factor);
            }
            if maximum {
                let parts = self.most.iter_mut().zip(row);
                parts.for_each(|(most, &value)| *most = most.max(value));
            }
        }
        if let Some(index) = rows.rows().checked_sub(1)
            && self.rows > self.skip
        {
            self.last = rows.row(index).to_vec();
        }
    }

    /// The results of all modes one behind the other; `None` for the largest of no row.
    fn finish(self) -> Option<Vec<f32>> {
        let counted = self.rows.saturating_sub(self.skip) as f64;
        let numbers = |rows: usize| rows as f64 * (rows as f64 + 1.0) / 2.0;
        let weight = numbers(self.rows) - numbers(self.skip.min(self.rows));
        let over = |sum: &[f64], divisor: f64| -> Vec<f32> {
            // As the reference: nothing at all is zero.
            let divisor = divisor.max(1e-9);
            sum.iter().map(|value| (value / divisor) as f32).collect()
        };
        let mut all = Vec::new();
        for mode in &self.modes {
            all.extend(match mode {
                Mode::Mean => over(&self.sum, counted),
                Mode::MeanSqrtLength => over(&self.sum, counted.sqrt()),
                Mode::WeightedMean => over(&self.weighted, weight),
                Mode::Max if self.most.is_empty() => return None,
                Mode::Max => self.most.clone(),
                // Where nothing counts, the reference takes the first.
                Mode::Cls | Mode::Pooler if self.begin.is_empty() => self.first.clone(),
                Mode::Cls | Mode::Pooler => self.begin.clone(),
                Mode::Last => self.last.clone(),
            });
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::activation::DenseActivation;
    use sli_kernels::{Activation, Compute, Kernels, Mat, MatRef, PackedKind, PackedWeights};

    use super::{LoadedDense, LoadedResidual, LoadedStep, Mode, Pool, normalize};

    fn pool(modes: &[Mode], skip: usize, rows: &[f32], columns: usize) -> Option<Vec<f32>> {
        let mut pool = Pool::new(modes, skip);
        for row in rows.chunks(columns) {
            pool.add(MatRef::from_slice(row, 1, columns));
        }
        pool.finish()
    }

    #[test]
    fn modes_stand_one_behind_the_other() {
        let rows = [3.0, 0.0, 1.0, 4.0];
        let of = |mode| pool(&[mode], 0, &rows, 2).unwrap();
        assert_eq!(of(Mode::Mean), [2.0, 2.0]);
        assert_eq!(of(Mode::Cls), [3.0, 0.0]);
        assert_eq!(of(Mode::Last), [1.0, 4.0]);
        assert_eq!(of(Mode::Max), [3.0, 4.0]);
        assert_eq!(of(Mode::WeightedMean), [5.0 / 3.0, 8.0 / 3.0]);
        let all = pool(&[Mode::Last, Mode::Cls, Mode::Mean], 0, &rows, 2);
        assert_eq!(all, Some(vec![1.0, 4.0, 3.0, 0.0, 2.0, 2.0]));
    }

    #[test]
    fn a_prompt_does_not_count() {
        let rows = [9.0, 1.0, 3.0];
        let of = |mode, skip| pool(&[mode], skip, &rows, 1);
        assert_eq!(of(Mode::Mean, 1), Some(vec![2.0]));
        assert_eq!(of(Mode::Cls, 1), Some(vec![1.0]));
        assert_eq!(of(Mode::Last, 1), Some(vec![3.0]));
        assert_eq!(of(Mode::Max, 1), Some(vec![3.0]));
        // Numbers of rows are those in the whole record.
        assert_eq!(of(Mode::WeightedMean, 1), Some(vec![11.0 / 5.0]));
        for skip in [3, 4] {
            assert_eq!(of(Mode::Mean, skip), Some(vec![0.0]));
            assert_eq!(of(Mode::Cls, skip), Some(vec![9.0]));
            assert_eq!(of(Mode::Last, skip), Some(vec![0.0]));
            assert_eq!(of(Mode::Max, skip), None);
        }
    }

    #[test]
    fn steps_on_vectors() {
        let kernels = Kernels::new(1, Compute::F32);
        let mut weight = PackedWeights::new(2, 2, PackedKind::F32);
        weight.pack_rows_f32(0, &[1.0, 2.0, -1.0, 0.0]);
        let dense = LoadedStep::Dense(LoadedDense {
            weight,
            bias: Some(vec![0.5, 0.0]),
            activation: DenseActivation::OfLayers(Activation::Relu),
            residual: LoadedResidual::Input,
        });
        let out = dense.run(&kernels, Mat::from_vec(1, 2, vec![1.0, 1.0]));
        assert_eq!(out.row(0), [4.5, 1.0]);
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zeros = [0.0, 0.0];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0, 0.0]);
    }
}
