//! What the ends of earlier stacks are for later ones: the rows of a super-batch behind the last layer and its norm,
//! part by part. Where activations are on disk, these are as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use sli_kernels::Mat;

use crate::exec::EndRows;
use crate::journal::{BufferRef, EndProgress, JournalError, OutputFolder};
use crate::results::ResultsError;
use crate::spill::SpillFile;

/// The ends of the stacks that a super-batch has behind it.
#[derive(Default)]
pub(crate) struct Ends(BTreeMap<usize, StackEnd>);

/// The end of one stack.
#[derive(Default)]
struct StackEnd {
    parts: Vec<EndPart>,
    file: Option<SpillFile>,
    /// Values in the file.
    written: usize,
}

enum EndPart {
    Held(Arc<Mat>),
    /// Where it begins in the file, in values.
    Spilled {
        start: usize,
        rows: usize,
        cols: usize,
    },
}

impl Ends {
    /// Keeps the end of a stack for the next part, on disk if `spills`.
    pub fn push(
        &mut self,
        folder: &OutputFolder,
        stack: usize,
        spills: bool,
        end: Mat,
    ) -> Result<(), ResultsError> {
        let all = self.0.entry(stack).or_default();
        if !spills {
            all.parts.push(EndPart::Held(Arc::new(end)));
            return Ok(());
        }
        if all.file.is_none() {
            let name = format!("spill-end-{stack}");
            all.file = Some(SpillFile::create(folder, &name)?);
        }
        if let Some(file) = &all.file {
            file.write(all.written, end.as_slice())?;
        }
        all.parts.push(EndPart::Spilled {
            start: all.written,
            rows: end.rows(),
            cols: end.cols(),
        });
        all.written += end.rows() * end.cols();
        Ok(())
    }

    /// A part of the ends of some stacks.
    pub fn of_part(&self, stacks: &[usize], part: usize) -> Result<Vec<EndRows>, ResultsError> {
        let of = |&stack: &usize| {
            let all = self.0.get(&stack)?;
            let rows = all.parts.get(part)?;
            Some(all.rows(rows).map(|rows| EndRows { stack, rows }))
        };
        stacks.iter().filter_map(of).collect()
    }

    /// Saves all of them for the next checkpoint.
    pub fn save(&self, folder: &OutputFolder) -> Result<Vec<EndProgress>, ResultsError> {
        let mut saved = Vec::new();
        for (&stack, all) in &self.0 {
            let mut buffers = Vec::new();
            for (index, part) in all.parts.iter().enumerate() {
                let rows = all.rows(part)?;
                let name = format!("end-{stack}-{index}");
                let values = rows.as_slice();
                buffers.push(folder.save_buffer(&name, rows.rows(), rows.cols(), values)?);
            }
            saved.push(EndProgress { stack, buffers });
        }
        Ok(saved)
    }

    /// Loads what a checkpoint saved.
    pub fn load(
        folder: &OutputFolder,
        saved: &[EndProgress],
        spills: bool,
    ) -> Result<Self, ResultsError> {
        let mut ends = Self::default();
        for EndProgress { stack, buffers } in saved {
            for buffer in buffers {
                let end = loaded(folder, buffer)?;
                ends.push(folder, *stack, spills, end)?;
            }
        }
        Ok(ends)
    }
}

fn loaded(folder: &OutputFolder, buffer: &BufferRef) -> Result<Mat, JournalError> {
    let mut rows = Mat::new(buffer.rows, buffer.cols);
    folder.load_buffer(buffer, rows.as_mut_slice())?;
    Ok(rows)
}

impl StackEnd {
    fn rows(&self, part: &EndPart) -> Result<Arc<Mat>, ResultsError> {
        match part {
            EndPart::Held(rows) => Ok(Arc::clone(rows)),
            EndPart::Spilled { start, rows, cols } => {
                let mut end = Mat::new(*rows, *cols);
                if let Some(file) = &self.file {
                    file.read(*start, end.as_mut_slice())?;
                }
                Ok(Arc::new(end))
            }
        }
    }
}
