//! What a run makes durable, and goes on from.

use std::ops::Range;
use std::time::Instant;

use super::parts::Parts;
use super::passes::Sweep;
use crate::error::EngineError;
use crate::journal::SuperBatchProgress;
use crate::spent::Spent;
use crate::weights::content;

impl Sweep<'_> {
    /// The stack in which a super-batch was interrupted, and the layers of it that are done.
    pub(super) fn resumed(&self, range: &Range<usize>) -> Option<(usize, usize)> {
        let current = self.folder.progress().current.as_ref()?;
        (current.records() == *range).then_some((current.stack, current.boundary))
    }

    /// Loads the activations of an interrupted super-batch.
    pub(super) fn resume(&mut self, parts: &mut Parts) -> Result<(), EngineError> {
        let current = self.folder.progress().current.as_ref();
        let (buffers, kept) = current.map_or_else(Default::default, |current| {
            (current.buffers.clone(), current.kept.clone())
        });
        self.kept = kept;
        let mut saved = buffers.iter();
        for part in 0..parts.portions.len() {
            let (batch, mut slots) = parts.create(self.context, part)?;
            for mat in slots.all_mut() {
                if let Some(buffer) = saved.next() {
                    self.folder.load_buffer(buffer, mat.as_mut_slice())?;
                }
            }
            slots.set_before();
            parts.put(part, batch, slots);
        }
        Ok(())
    }

    /// Makes everything so far durable.
    pub(super) fn checkpoint(
        &mut self,
        current: Option<(usize, usize, &mut Parts)>,
    ) -> Result<(), EngineError> {
        self.observation.save(&mut self.folder)?;
        content::save(self.context.model, &mut self.folder)?;
        if let Some((stack, boundary, parts)) = current {
            let mut buffers = Vec::new();
            for part in 0..parts.portions.len() {
                let (batch, slots) = parts.take(self.context, part)?;
                for (index, mat) in slots.all().enumerate() {
                    let name = format!("slot-{part}-{index}");
                    let values = mat.as_slice();
                    let saved = self
                        .folder
                        .save_buffer(&name, mat.rows(), mat.cols(), values)?;
                    buffers.push(saved);
                }
                parts.put_back(part, batch, slots);
            }
            let ends = parts.ends.save(&self.folder)?;
            self.folder.progress_mut().current = Some(SuperBatchProgress {
                portions: parts.portions.clone(),
                shared: self.context.settings.share_prefixes,
                stack,
                boundary,
                buffers,
                ends,
                kept: self.kept.clone(),
            });
        }
        self.folder.progress_mut().spent = self.spent();
        self.folder.checkpoint()?;
        self.checked = Instant::now();
        Ok(())
    }

    /// What the run has cost so far, earlier processes included.
    pub(super) fn spent(&self) -> Spent {
        let (model, clock) = (self.context.model, &self.clock);
        let stages = clock.stopwatch.so_far(model, self.context.kernels);
        Spent {
            processes: clock.before.processes + 1,
            seconds: clock.before.seconds + clock.began.elapsed().as_secs_f64(),
            bytes_read: clock.before.bytes_read + model.checkpoint.bytes_read(),
            stages: clock.before.stages.and(stages),
            layers: clock.layers.clone(),
        }
    }
}
