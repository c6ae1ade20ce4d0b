//! Super-batch by super-batch.

use std::ops::Range;
use std::time::Instant;

use sli_kernels::{Kernels, Mat};
use sli_spec::ModelSpec;

use super::context::Context;
use super::driver::Driver;
use super::parts::Parts;
use crate::ends::Ends;
use crate::error::EngineError;
use crate::exec::batch::Batch;
use crate::exec::states::States;
use crate::exec::{BoundLayer, Scratch, Slots};
use crate::journal::{KeptState, OutputFolder};
use crate::observe::Observation;
use crate::plan::end_keys;
use crate::portion::Portion;
use crate::results::ResultsError;
use crate::settings::Event;
use crate::spent::{LayerSeconds, Spent};
use crate::spill::SpillFile;
use crate::stages::Stopwatch;
use crate::tally::Tally;
use crate::weights::Section;
use crate::weights::store::WeightStore;

pub(super) struct Sweep<'a> {
    pub(super) context: Context<'a>,
    pub(super) observation: Observation<'a>,
    pub(super) folder: OutputFolder,
    pub(super) tally: Tally,
    pub(super) scratch: Scratch,
    pub(super) token_layers_done: u64,
    pub(super) checked: Instant,
    pub(super) clock: RunClock,
    /// Of the super-batch at hand.
    pub(super) kept: Vec<KeptState>,
}

/// What the run costs.
pub(super) struct RunClock {
    pub(super) began: Instant,
    pub(super) stopwatch: Stopwatch,
    /// By earlier processes.
    pub(super) before: Spent,
    /// By all processes.
    pub(super) layers: LayerSeconds,
}

impl<'a> Sweep<'a> {
    pub(super) fn spec(&self) -> &'a ModelSpec {
        &self.context.model.spec
    }

    /// Runs what the driver says until it has no more.
    pub(super) fn run(
        &mut self,
        store: &'a WeightStore<'a>,
        driver: &mut dyn Driver,
    ) -> Result<(), EngineError> {
        self.token_layers_done = self.token_layers_before();
        while let Some(pass) = driver.next(self.folder.progress()) {
            store.begin_pass(pass.is_last);
            self.super_batch(store, pass.records.clone())?;
            self.folder.progress_mut().records_done = pass.records.end as u64;
            self.folder.progress_mut().current = None;
            if self.checked.elapsed() >= self.context.settings.checkpoint_interval {
                self.checkpoint(None)?;
            }
        }
        self.checkpoint(None)
    }

    /// Token-layers of the records that earlier processes completed.
    fn token_layers_before(&self) -> u64 {
        let done = self.folder.progress().records_done as usize;
        let stacks = self.spec().stacks.iter();
        let token_layers = stacks.map(|stack| {
            let records = self.context.records.of(stack.sequence);
            records.token_start(done) * stack.layers.len() as u64
        });
        token_layers.sum()
    }

    fn super_batch(
        &mut self,
        store: &'a WeightStore<'a>,
        range: Range<usize>,
    ) -> Result<(), EngineError> {
        let (context, spec) = (self.context, self.spec());
        let resumed = self.resumed(&range);
        self.kept.clear();
        let mut ends = Ends::default();
        if let (Some(current), Some(_)) = (&self.folder.progress().current, resumed) {
            let spills = context.plan.spill || current.portions.len() > 1;
            ends = Ends::load(&self.folder, &current.ends, spills)?;
        }
        for (stack, description) in spec.stacks.iter().enumerate() {
            let first = match resumed {
                Some((current, _)) if stack < current => description.layers.len(),
                Some((current, boundary)) if stack == current => boundary,
                _ => 0,
            };
            let mut parts = self.parts(&range, stack, ends)?;
            self.token_layers_done += (parts.tokens * first) as u64;
            match resumed {
                Some((current, _)) if stack < current => {
                    ends = parts.ends;
                    continue;
                }
                Some((current, _)) if stack == current => self.resume(&mut parts)?,
                _ => self.embed(store, stack, &mut parts)?,
            }
            for index in first..description.layers.len() {
                self.tally.begin().map_err(ResultsError::from)?;
                let began = Instant::now();
                let rows = self.run_layer(store, stack, index, &mut parts)?;
                let seconds = began.elapsed().as_secs_f64();
                self.clock.layers.add(description.name, index, seconds);
                let progress = self.folder.progress_mut();
                progress.layer_passes += 1;
                progress.token_layers += rows as u64;
                self.token_layers_done += parts.tokens as u64;
                self.report(stack, index + 1);
                let interrupted = context.observer.interrupted();
                if interrupted || self.checked.elapsed() >= context.settings.checkpoint_interval {
                    self.checkpoint(Some((stack, index + 1, &mut parts)))?;
                }
                if interrupted {
                    return Err(EngineError::Interrupted);
                }
            }
            // The head needs the room.
            let states = States::new(self.folder.disk(), self.folder.work_dir());
            self.scratch = Scratch::new(states);
            store.passage().clear();
            let layer = context.layer(store, stack, Section::Head);
            let is_read = spec.reads_end(stack);
            for part in 0..parts.portions.len() {
                let (batch, mut slots) = parts.take(context, part)?;
                self.look_back(&layer, stack, part, (&batch, &slots))?;
                let normed =
                    self.observation
                        .end(&layer, stack, &batch, &slots, context.plan.tile_bytes)?;
                if is_read {
                    let end = normed.unwrap_or_else(|| std::mem::take(&mut slots.hidden));
                    let end = match &description.head.handed {
                        Some(handed) => layer.hand_on(handed, &batch, end)?,
                        None => end,
                    };
                    let kept = &slots.stashes[..description.head.kept];
                    let mut end = beside(context.kernels, end, kept);
                    self.observation.handed(stack, &batch, &mut end)?;
                    let spills = parts.file.is_some();
                    parts.ends.push(&self.folder, stack, spills, end)?;
                } else {
                    parts.put_back(part, batch, slots);
                }
            }
            store.passage().clear();
            store.release(&end_keys(context.model, stack, Section::Head));
            ends = parts.ends;
        }
        Ok(())
    }

    /// Looks at what was kept of a part at the boundaries of a stack.
    fn look_back(
        &mut self,
        layer: &BoundLayer<'_>,
        stack: usize,
        part: usize,
        (batch, slots): (&Batch, &Slots),
    ) -> Result<(), EngineError> {
        let Self {
            observation,
            folder,
            kept,
            context,
            ..
        } = self;
        let load = |boundary: usize| {
            let mut state = Mat::new(slots.hidden.rows(), slots.hidden.cols());
            let own = kept.iter();
            let mut own = own.filter(|kept| kept.boundary == boundary && kept.part == part);
            let own = own.next().ok_or_else(|| {
                EngineError::Internal(format!("nothing was kept at boundary {boundary}"))
            })?;
            folder.load_buffer(&own.buffer, state.as_mut_slice())?;
            Ok(state)
        };
        let tile_bytes = context.plan.tile_bytes;
        observation.look_back(layer, stack, batch, slots, tile_bytes, load)
    }

    /// Keeps the state of a part at a boundary, where it is looked at when the stack has ended.
    pub(super) fn keep(
        &mut self,
        stack: usize,
        boundary: usize,
        part: usize,
        slots: &Slots,
    ) -> Result<(), EngineError> {
        if self.observation.keeps(stack, boundary) {
            let hidden = &slots.hidden;
            let name = format!("kept-{part}-{boundary}");
            let (rows, cols) = (hidden.rows(), hidden.cols());
            let buffer = self
                .folder
                .save_buffer(&name, rows, cols, hidden.as_slice())?;
            self.kept.push(KeptState {
                boundary,
                part,
                buffer,
            });
        }
        Ok(())
    }

    /// The parts of a super-batch, not yet filled.
    fn parts(&self, range: &Range<usize>, stack: usize, ends: Ends) -> Result<Parts, EngineError> {
        let Context { plan, division, .. } = self.context;
        let portions = match &self.folder.progress().current {
            Some(current) if current.records() == *range => current.portions.clone(),
            _ if plan.spill => division.portions(range.clone(), plan.super_batch_tokens),
            _ => vec![Portion::whole(range.clone())],
        };
        let file = if plan.spill || portions.len() > 1 {
            Some(SpillFile::create(&self.folder, "spill").map_err(ResultsError::from)?)
        } else {
            None
        };
        let mut rows = 0;
        let offsets = portions.iter().map(|portion| {
            let offset = rows;
            rows += division.rows_of(portion);
            offset
        });
        let records = self.context.records.of(self.spec().stacks[stack].sequence);
        Ok(Parts {
            stack,
            ends,
            compares: self.observation.compares(),
            offsets: offsets.collect(),
            tokens: range.clone().map(|record| records.tokens_of(record)).sum(),
            portions,
            file,
            held: None,
            is_changed: false,
        })
    }

    fn report(&self, stack: usize, layer: usize) {
        let records = self.context.records;
        let copies = records.copies();
        self.context.observer.event(&Event {
            stack: self.spec().stacks[stack].name,
            layer,
            layers: self.spec().stacks[stack].layers.len(),
            records_done: self.folder.progress().records_done as usize / copies,
            records: records.len() / copies,
            token_layers_done: self.token_layers_done,
            token_layers: records.token_layers(self.spec()),
            tokens: records.tokens_in_all(self.spec()),
            bytes_read: self.context.model.checkpoint.bytes_read(),
            bytes_planned: self.context.plan.bytes_read,
        });
    }
}

/// An end with the rows of buffers behind its features.
fn beside(kernels: &Kernels, end: Mat, kept: &[Mat]) -> Mat {
    if kept.is_empty() {
        return end;
    }
    let columns = end.cols() + kept.iter().map(Mat::cols).sum::<usize>();
    let mut all = Mat::new(end.rows(), columns);
    let mut first = 0;
    for part in std::iter::once(&end).chain(kept) {
        let own = first..first + part.cols();
        first = own.end;
        kernels.copy(part.view(), all.view_mut().cols_range(own));
    }
    all
}
