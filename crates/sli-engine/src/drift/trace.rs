//! What the reference leaves behind: every buffer at every boundary between layers, ends, and logits.

use sli_kernels::Mat;
use sli_spec::{ModelSpec, Stack};

use crate::exec::Slots;
use crate::exec::batch::Batch;
use crate::expansion;
use crate::journal::OutputFolder;
use crate::records::RecordSpool;
use crate::results::{ResultsError, TensorFile, TensorShape};
use crate::settings::HiddenDtype;

/// Files of the trace of one stack.
pub(super) struct StackTrace<T> {
    /// By boundary and buffer, in the order of [`Slots::all`]; those without columns have no file.
    pub boundaries: Vec<Vec<Option<T>>>,
    /// The normed end, where there is a final norm.
    pub norm: Option<T>,
    /// The end as later stacks read it, where any does.
    pub end: Option<T>,
}

impl<T> StackTrace<T> {
    /// Opens the files of a stack; `open` gets a name and columns.
    pub fn open<E>(
        spec: &ModelSpec,
        index: usize,
        mut open: impl FnMut(&str, usize) -> Result<T, E>,
    ) -> Result<Self, E> {
        let stack = &spec.stacks[index];
        let mut file = |part: &str, columns: usize| {
            (columns > 0)
                .then(|| open(&format!("{FOLDER}/{}.{part}", stack.name), columns))
                .transpose()
        };
        let columns = columns(stack);
        let mut boundaries = Vec::with_capacity(stack.layers.len() + 1);
        for boundary in 0..=stack.layers.len() {
            let buffers = columns.iter().enumerate();
            let buffers =
                buffers.map(|(buffer, &columns)| file(&format!("{boundary:03}.{buffer}"), columns));
            boundaries.push(buffers.collect::<Result<_, E>>()?);
        }
        let has_norm = stack.head.norm.is_some();
        let norm = file("norm", if has_norm { stack.hidden_size } else { 0 })?;
        let is_read = spec.reads_end(index);
        let end = file("end", if is_read { stack.end_width() } else { 0 })?;
        Ok(Self {
            boundaries,
            norm,
            end,
        })
    }
}

/// Folder of the trace in the results of the reference.
const FOLDER: &str = "trace";

/// The logits in it.
pub(super) const LOGITS: &str = "trace/logits";

/// Columns of the buffers that a stack has between two layers, in the order of [`Slots::all`].
pub(super) fn columns(stack: &Stack) -> Vec<usize> {
    Slots::new(0, stack, false).all().map(Mat::cols).collect()
}

/// Values of a token in the trace of a stack.
pub(crate) fn values(spec: &ModelSpec, index: usize) -> usize {
    let stack = &spec.stacks[index];
    let boundaries = columns(stack).iter().sum::<usize>() * (stack.layers.len() + 1);
    let norm = stack.hidden_size * usize::from(stack.head.norm.is_some());
    let end = stack.end_width() * usize::from(spec.reads_end(index));
    let is_last = index + 1 == spec.stacks.len();
    let logits = stack.head.logits.as_ref().filter(|_| is_last);
    boundaries + norm + end + logits.map_or(0, |logits| logits.projection.out_features)
}

/// Rows of a file of the trace.
pub(super) fn shape(columns: usize) -> TensorShape {
    TensorShape {
        rows_per_token: 1,
        cols: columns,
        dtype: HiddenDtype::F32,
    }
}

/// Writes the trace.
pub(crate) struct Trace {
    stacks: Vec<StackTrace<TensorFile>>,
}

impl Trace {
    /// Starts the trace, or goes on with it. Takes all the space that it needs.
    pub fn open(
        spec: &ModelSpec,
        records: &RecordSpool,
        folder: &OutputFolder,
    ) -> Result<Self, ResultsError> {
        let stacks = spec.stacks.iter().enumerate().map(|(index, stack)| {
            let records = records.of(stack.sequence);
            StackTrace::open(spec, index, |name, columns| {
                TensorFile::open(folder, records, name, shape(columns))
            })
        });
        Ok(Self {
            stacks: stacks.collect::<Result<_, ResultsError>>()?,
        })
    }

    /// Where the logits of the head go.
    pub fn logits(
        columns: usize,
        records: &RecordSpool,
        folder: &OutputFolder,
    ) -> Result<TensorFile, ResultsError> {
        TensorFile::open(folder, records, LOGITS, shape(columns))
    }

    /// Writes all buffers at a boundary.
    pub fn boundary(
        &self,
        stack: usize,
        index: usize,
        batch: &Batch,
        slots: &Slots,
    ) -> Result<(), ResultsError> {
        let files = self.stacks[stack].boundaries[index].iter();
        for (file, buffer) in files.zip(slots.all()) {
            write(file.as_ref(), batch, buffer)?;
        }
        Ok(())
    }

    /// Writes the normed end of a stack.
    pub fn norm(&self, stack: usize, batch: &Batch, normed: &Mat) -> Result<(), ResultsError> {
        write(self.stacks[stack].norm.as_ref(), batch, normed)
    }

    /// Writes the end of a stack as later ones read it.
    pub fn end(&self, stack: usize, batch: &Batch, end: &Mat) -> Result<(), ResultsError> {
        write(self.stacks[stack].end.as_ref(), batch, end)
    }

    /// Completes the files.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        for stack in self.stacks {
            let boundaries = stack.boundaries.into_iter().flatten();
            for file in boundaries.chain([stack.norm, stack.end]).flatten() {
                file.finish(folder)?;
            }
        }
        Ok(())
    }
}

fn write(file: Option<&TensorFile>, batch: &Batch, rows: &Mat) -> Result<(), ResultsError> {
    match file {
        Some(file) => expansion::write_rows(file, batch, &[rows]),
        None => Ok(()),
    }
}
