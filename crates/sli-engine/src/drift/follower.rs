//! The model that is compared: its rows beside those of the reference, boundary by boundary.

use std::collections::BTreeMap;

use sli_kernels::{Kernels, Mat};
use sli_spec::{LogitsHead, ModelSpec};

use super::divergences::Divergences;
use super::is_led;
use super::reference::{Reference, stretches};
use super::sums::{RowDrift, Sums};
use super::totals::Drifted;
use crate::error::EngineError;
use crate::exec::batch::Batch;
use crate::exec::head::{HEAD_COLUMNS, HEAD_ROWS};
use crate::exec::{BoundLayer, Slots};
use crate::journal::OutputFolder;
use crate::profile::map_rows;
use crate::results::{LayerDrift, ResultsError, TensorRows, write_drift};

/// Values of the reference that are read together.
const READ: usize = 1 << 18;

/// Stack; boundary, or one more than there are for the normed end; whether the error is that of one layer alone.
type Place = (usize, usize, bool);

/// What the sums are called in a checkpoint.
const SUMS: &str = "drift";

/// What the divergences are called there.
const DIVERGENCES: &str = "divergences";

/// Compares rows with those of the reference, and gives the led records what the reference had.
pub(crate) struct Drift<'a> {
    spec: &'a ModelSpec,
    reference: Reference,
    sums: BTreeMap<Place, Sums>,
    divergences: Option<Divergences>,
}

/// Bytes that a row takes more: what is seen of its logits.
pub(crate) fn row_bytes() -> u64 {
    size_of::<RowDrift>() as u64 + Divergences::ROW_BYTES
}

/// Bytes that are held in any case: rows of the reference, a block of its logits, sums of every boundary.
pub(crate) fn bytes(spec: &ModelSpec) -> u64 {
    let widest = spec
        .stacks
        .iter()
        .map(|stack| stack.hidden_size * stack.streams());
    let rows = READ.max(widest.max().unwrap_or(0)) * size_of::<f32>();
    let has_head = spec.output_stack().head.logits.is_some();
    let block = HEAD_ROWS * HEAD_COLUMNS * size_of::<f32>() * usize::from(has_head);
    let boundaries = spec.stacks.iter().map(|stack| stack.layers.len() + 2);
    // What is read of a boundary has a file that is open.
    let boundaries = boundaries.sum::<usize>() * (2 * (size_of::<Place>() + Sums::BYTES) + 1024);
    (rows + block + boundaries) as u64
}

impl<'a> Drift<'a> {
    /// Starts, or goes on.
    pub fn open(spec: &'a ModelSpec, folder: &OutputFolder) -> Result<Self, ResultsError> {
        let damaged = || ResultsError::Damaged {
            path: folder.work_dir().join("buffers").join(SUMS),
            problem: "the saved sums are damaged".into(),
        };
        let reference = Reference::open(spec, folder)?;
        let sums = match folder.load_blob(SUMS)? {
            None => BTreeMap::new(),
            Some(bytes) => decode(&bytes).ok_or_else(damaged)?,
        };
        let mut divergences = None;
        if let Some(logits) = &spec.output_stack().head.logits {
            let saved = folder.load_blob(DIVERGENCES)?;
            divergences = Some(Divergences::open(logits, folder, saved)?.ok_or_else(damaged)?);
        }
        Ok(Self {
            spec,
            reference,
            sums,
            divergences,
        })
    }

    /// Makes the sums part of the next checkpoint.
    pub fn save(&self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        folder.save_blob(SUMS, &encode(&self.sums))?;
        if let Some(divergences) = &self.divergences {
            folder.save_blob(DIVERGENCES, &divergences.to_bytes())?;
        }
        Ok(())
    }

    /// A super-batch is at a boundary.
    pub fn boundary(
        &mut self,
        kernels: &Kernels,
        (stack, index): (usize, usize),
        batch: &Batch,
        slots: &mut Slots,
    ) -> Result<(), ResultsError> {
        let files = &self.reference.stacks[stack].boundaries[index];
        let streams = self.spec.stacks[stack].streams();
        let of_streams: Vec<&TensorRows> = files.iter().take(streams).flatten().collect();
        let sums = &mut self.sums;
        compare(
            kernels,
            (stack, index),
            batch,
            &of_streams,
            &slots.streams(streams),
            sums,
        )?;
        for stretch in stretches(batch, usize::MAX).filter(|stretch| is_led(stretch.number)) {
            for (file, buffer) in files.iter().zip(slots.all_mut()) {
                if let Some(file) = file {
                    stretch.replace(file, buffer)?;
                }
            }
        }
        Ok(())
    }

    /// A super-batch has the norm at the end of a stack behind it. What the led records are then given is
    /// [`Self::end`].
    pub fn norm(
        &mut self,
        kernels: &Kernels,
        stack: usize,
        batch: &Batch,
        normed: &Mat,
    ) -> Result<(), ResultsError> {
        let Some(file) = &self.reference.stacks[stack].norm else {
            return Ok(());
        };
        let place = (stack, self.spec.stacks[stack].layers.len() + 1);
        compare(kernels, place, batch, &[file], &[normed], &mut self.sums)
    }

    /// Later stacks read the end of this one.
    pub fn end(&self, stack: usize, batch: &Batch, end: &mut Mat) -> Result<(), ResultsError> {
        let Some(file) = &self.reference.stacks[stack].end else {
            return Ok(());
        };
        let mut led = stretches(batch, usize::MAX).filter(|stretch| is_led(stretch.number));
        led.try_for_each(|stretch| stretch.replace(file, end))
    }

    /// Puts the head on the end of the last stack.
    pub fn head(
        &mut self,
        layer: &BoundLayer<'_>,
        logits: &LogitsHead,
        (batch, x): (&Batch, &Mat),
        tile_bytes: u64,
    ) -> Result<(), EngineError> {
        match (&mut self.divergences, &self.reference.logits) {
            (Some(divergences), Some(reference)) => {
                divergences.look(reference, (layer, logits), (batch, x), tile_bytes)
            }
            _ => Ok(()),
        }
    }

    /// Writes the tables.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<Drifted, ResultsError> {
        let layers: Vec<LayerDrift> = self
            .sums
            .iter()
            .map(|(&(stack, boundary, is_led), sums)| {
                let description = &self.spec.stacks[stack];
                let is_norm = boundary > description.layers.len();
                let columns = if is_norm { 1 } else { description.streams() };
                let rms = sums.rms(columns * description.hidden_size);
                LayerDrift {
                    stack: description.name,
                    layer: boundary.min(description.layers.len()) as u32,
                    site: if is_norm { "norm" } else { "hidden" },
                    error: if is_led { "own" } else { "accumulated" },
                    tokens: sums.rows,
                    relative_error: sums.relative_error(),
                    cosine: sums.cosine(),
                    least_cosine: sums.least_cosine.map(|least| least.cosine),
                    least_row: sums.least_cosine.map(|least| least.row),
                    least_token: sums.least_cosine.map(|least| least.token),
                    rms: rms[0],
                    rms_reference: rms[1],
                    abs_max: f64::from(sums.largest),
                }
            })
            .collect();
        write_drift(folder, &layers)?;
        let divergence = match self.divergences {
            Some(divergences) => Some(divergences.finish(folder)?),
            None => None,
        };
        Ok(Drifted { divergence, layers })
    }
}

/// Adds up how the rows of a batch are off, which are the rows of some buffers side by side.
fn compare(
    kernels: &Kernels,
    (stack, boundary): (usize, usize),
    batch: &Batch,
    files: &[&TensorRows],
    own: &[&Mat],
    sums: &mut BTreeMap<Place, Sums>,
) -> Result<(), ResultsError> {
    let columns: usize = own.iter().map(|buffer| buffer.cols()).sum();
    let mut blocks: Vec<Mat> = files.iter().map(|_| Mat::default()).collect();
    for stretch in stretches(batch, (READ / columns.max(1)).max(1)) {
        for (file, block) in files.iter().zip(&mut blocks) {
            stretch.read(file, block)?;
        }
        let first = stretch.rows.start;
        let rows = map_rows(kernels, stretch.rows.len(), |range| {
            let rows = range.map(|row| {
                let mut drift = RowDrift::default();
                for (reference, own) in blocks.iter().zip(own) {
                    drift.add(reference.row(row), own.row(first + row));
                }
                drift
            });
            rows.collect::<Vec<RowDrift>>()
        });
        let sums = sums.entry((stack, boundary, is_led(stretch.number)));
        let sums = sums.or_default();
        for (token, row) in (stretch.token as u64..).zip(rows.iter().flatten()) {
            sums.add((stretch.record.row, token), row);
        }
    }
    Ok(())
}

/// Bytes of a place in a checkpoint.
const PLACE: usize = 24;

fn encode(all: &BTreeMap<Place, Sums>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(all.len() * (PLACE + Sums::BYTES));
    for (&(stack, boundary, is_led), sums) in all {
        for number in [stack, boundary, usize::from(is_led)] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.extend(sums.to_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<Place, Sums>> {
    let mut all = BTreeMap::new();
    for entry in bytes.chunks(PLACE + Sums::BYTES) {
        let (place, sums) = entry.split_at_checked(PLACE)?;
        let (numbers, _) = place.as_chunks();
        let numbers: Vec<u64> = numbers.iter().map(|raw| u64::from_le_bytes(*raw)).collect();
        let &[stack, boundary, is_led] = &numbers[..] else {
            return None;
        };
        let place = (
            usize::try_from(stack).ok()?,
            usize::try_from(boundary).ok()?,
            is_led == 1,
        );
        all.insert(place, Sums::from_bytes(sums)?);
    }
    Some(all)
}
