//! Of which class a record or a token is: the head for classes on the end of a stack.
//!
//! What is said of a record depends on its own rows only, so it is the same in company, in pieces and alone.

use sli_kernels::{Mat, MatRef};
use sli_spec::{ClassesHead, Classified, ModelSpec, Probabilities};

use crate::error::EngineError;
use crate::exec::BoundLayer;
use crate::exec::batch::{Batch, BatchRecord};
use crate::expansion;
use crate::journal::OutputFolder;
use crate::results::{ClassesSink, ResultsError};

/// Rows that go through the head together.
const BLOCK: usize = 64;

fn blocks(rows: MatRef<'_>) -> impl Iterator<Item = MatRef<'_>> {
    let all = rows.rows();
    let starts = (0..all).step_by(BLOCK);
    starts.map(move |start| rows.rows_range(start..all.min(start + BLOCK)))
}

/// The head for classes and what it has said.
pub(crate) struct Classes<'a> {
    head: &'a ClassesHead,
    sink: ClassesSink,
    /// Of a record whose pieces come one by one.
    open: Open,
}

/// What there is so far of a record.
#[derive(Default)]
struct Open {
    /// The row that stands for it.
    row: Vec<f32>,
    /// Sum of the rows, and their number.
    sum: Vec<f64>,
    rows: usize,
    /// Logits of its tokens.
    logits: Vec<f32>,
}

/// Bytes of the buffers of a head on rows of `width` values.
pub(crate) fn buffer_bytes(head: &ClassesHead, width: usize) -> u64 {
    let transformed = head.transform.as_ref();
    let transformed = transformed.map_or(0, |transform| transform.dense.out_features);
    let classes = head.projection.out_features;
    // The rows, what is made of them, logits and their probabilities.
    (4 * BLOCK * (2 * width + transformed + 4 * classes)) as u64
}

/// Classes that every token has a value for, where tokens are classified.
pub(crate) fn classes_of_token(spec: &ModelSpec) -> u64 {
    let head = spec.classified_stack();
    let head = head.and_then(|(_, stack)| stack.head.classes.as_ref());
    let of_tokens = head.filter(|head| head.classified == Classified::Tokens);
    of_tokens.map_or(0, |head| head.projection.out_features as u64)
}

impl<'a> Classes<'a> {
    /// Starts the table, or goes on with it.
    pub fn open(head: &'a ClassesHead, folder: &OutputFolder) -> Result<Self, ResultsError> {
        let sink = match head.classified {
            Classified::Tokens => ClassesSink::of_tokens(folder, &head.labels)?,
            Classified::First
            | Classified::Mean
            | Classified::Each
            | Classified::Last { .. }
            | Classified::Label { .. } => ClassesSink::of_records(folder, &head.labels)?,
        };
        Ok(Self {
            head,
            sink,
            open: Open::default(),
        })
    }

    /// Classifies what of a batch comes to its end; `x` is the end of the stack.
    pub fn classify(
        &mut self,
        layer: &BoundLayer<'_>,
        batch: &Batch,
        x: &Mat,
    ) -> Result<(), EngineError> {
        match self.head.classified {
            Classified::Tokens => return self.tokens(layer, batch, x),
            Classified::Each => return self.mean_of_tokens(layer, batch, x),
            Classified::First
            | Classified::Mean
            | Classified::Last { .. }
            | Classified::Label { .. } => {}
        }
        for records in batch.records.chunks(BLOCK) {
            let mut rows = Vec::new();
            for record in records.iter().filter(|record| record.length > 0) {
                self.choose(batch, record, x);
                if record.ends() {
                    let open = std::mem::take(&mut self.open);
                    rows.extend(
                        open.representative()
                            .ok_or_else(|| self.without_row(record))?,
                    );
                }
            }
            let logits = self.logits(
                layer,
                MatRef::from_slice(&rows, rows.len() / x.cols(), x.cols()),
            )?;
            let mut next = 0;
            for record in records.iter().filter(|record| record.ends()) {
                if record.length == 0 {
                    self.sink.push_record(record.name(), None)?;
                    continue;
                }
                let logits = logits.row(next);
                let probabilities = self.probabilities(logits);
                let values = Some((logits, probabilities.as_deref()));
                self.sink.push_record(record.name(), values)?;
                next += 1;
            }
        }
        Ok(())
    }

    /// Publishes the table.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        self.sink.finish(folder)
    }

    /// Takes what a record is judged by from its rows that are in the batch.
    fn choose(&mut self, batch: &Batch, record: &BatchRecord, x: &Mat) {
        let open = &mut self.open;
        let mut rows = batch.path(record).into_iter().flatten();
        let is_first = open.rows == 0;
        open.rows += record.tokens;
        let chosen = match self.head.classified {
            Classified::Tokens | Classified::Each => None,
            Classified::First => rows.next().filter(|_| is_first),
            Classified::Last { padding } => {
                let first = rows.clone().next().filter(|_| is_first);
                let shown = |row: &usize| Some(batch.tokens[*row]) != padding;
                rows.rfind(shown).or(first)
            }
            Classified::Label { token } => {
                let is_token = |row: &usize| {
                    let label = batch.labels_of(*row..*row + 1);
                    label.is_some_and(|label| label == [token])
                };
                rows.rfind(is_token)
            }
            Classified::Mean => {
                rows.for_each(|row| add_to(&mut open.sum, x.row(row)));
                None
            }
        };
        if let Some(row) = chosen {
            open.row = x.row(row).to_vec();
        }
    }

    /// No row of a record stands for it.
    fn without_row(&self, record: &BatchRecord) -> EngineError {
        let problem = match self.head.classified {
            Classified::Label { token } => format!(
                "its class is told where the decoder is to say token {token}, which the record does not have"
            ),
            _ => "no token of it can be classified".to_owned(),
        };
        EngineError::Record {
            id: record.id.clone(),
            problem,
        }
    }

    fn tokens(
        &mut self,
        layer: &BoundLayer<'_>,
        batch: &Batch,
        x: &Mat,
    ) -> Result<(), EngineError> {
        let classes = self.head.projection.out_features;
        for record in &batch.records {
            let mut copy = Mat::default();
            let rows = expansion::rows(x, &batch.path(record), &mut copy);
            for block in blocks(rows) {
                let logits = self.logits(layer, block)?;
                self.open.logits.extend_from_slice(logits.as_slice());
            }
            if record.ends() {
                let Open { logits, .. } = std::mem::take(&mut self.open);
                let of_token = logits.chunks(classes.max(1));
                let of_token = of_token.filter_map(|logits| self.probabilities(logits));
                let probabilities: Vec<f32> = of_token.flatten().collect();
                self.sink
                    .push_tokens(record.name(), &logits, &probabilities)?;
            }
        }
        Ok(())
    }

    /// Classifies records by the mean of what is said of their tokens.
    fn mean_of_tokens(
        &mut self,
        layer: &BoundLayer<'_>,
        batch: &Batch,
        x: &Mat,
    ) -> Result<(), EngineError> {
        for record in &batch.records {
            let mut copy = Mat::default();
            let rows = expansion::rows(x, &batch.path(record), &mut copy);
            for block in blocks(rows) {
                let logits = self.logits(layer, block)?;
                for row in 0..logits.rows() {
                    add_to(&mut self.open.sum, logits.row(row));
                }
                self.open.rows += logits.rows();
            }
            if record.ends() {
                let mean = std::mem::take(&mut self.open).representative();
                let probabilities = mean.as_deref().and_then(|mean| self.probabilities(mean));
                let values = mean.as_deref().map(|mean| (mean, probabilities.as_deref()));
                self.sink.push_record(record.name(), values)?;
            }
        }
        Ok(())
    }

    /// The head on some rows.
    fn logits(&self, layer: &BoundLayer<'_>, x: MatRef<'_>) -> Result<Mat, EngineError> {
        let transform = self.head.transform.as_ref();
        let transformed = transform.map(|transform| layer.transformed(transform, x));
        let transformed = transformed.transpose()?;
        let x = transformed.as_ref().map_or(x, Mat::view);
        let mut logits = Mat::new(x.rows(), self.head.projection.out_features);
        let out = logits.view_mut();
        layer.dense(&self.head.projection, self.head.activation, x, out)?;
        if layer.kernels.all_finite(logits.view()) {
            return Ok(logits);
        }
        let place = "the head (classes)".to_owned();
        Err(EngineError::Overflow { place })
    }

    /// Of the logits of a record or a token, where there are any.
    fn probabilities(&self, logits: &[f32]) -> Option<Vec<f32>> {
        let kind = self.head.probabilities?;
        Some(probabilities(kind, logits))
    }
}

impl Open {
    /// The row that stands for the record, where it has one.
    fn representative(self) -> Option<Vec<f32>> {
        if self.sum.is_empty() {
            return Some(self.row).filter(|row| !row.is_empty());
        }
        let count = self.rows as f64;
        Some(self.sum.iter().map(|sum| (sum / count) as f32).collect())
    }
}

/// Adds a row to a sum of rows, which begins as none.
fn add_to(sum: &mut Vec<f64>, row: &[f32]) {
    sum.resize(row.len(), 0.0);
    let parts = sum.iter_mut().zip(row);
    parts.for_each(|(sum, &value)| *sum += f64::from(value));
}

fn probabilities(kind: Probabilities, logits: &[f32]) -> Vec<f32> {
    let logits = || logits.iter().map(|&logit| f64::from(logit));
    match kind {
        Probabilities::Sigmoid => logits()
            .map(|logit| (1.0 / (1.0 + (-logit).exp())) as f32)
            .collect(),
        Probabilities::Softmax => {
            let most = logits().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits().map(|logit| (logit - most).exp()).sum();
            logits()
                .map(|logit| ((logit - most).exp() / sum) as f32)
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Probabilities, probabilities};

    #[test]
    fn probabilities_of_logits() {
        assert_eq!(
            probabilities(Probabilities::Sigmoid, &[0.0, 1000.0, -1000.0]),
            [0.5, 1.0, 0.0]
        );
        assert_eq!(
            probabilities(Probabilities::Softmax, &[1000.0, 1000.0]),
            [0.5, 0.5]
        );
        assert_eq!(probabilities(Probabilities::Softmax, &[3.0]), [1.0]);
    }
}
