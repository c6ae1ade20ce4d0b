//! The sweep: super-batch by super-batch, layer by layer, chunk by chunk.

use std::ops::Range;
use std::time::Instant;

use sli_kernels::Kernels;
use sli_spec::ModelSpec;

use crate::error::EngineError;
use crate::exec::batch::{Batch, Chunk};
use crate::exec::{Layer, Residency, Rows, Scratch, Slots};
use crate::journal::{OutputFolder, SuperBatchProgress};
use crate::model::Model;
use crate::observe::Observation;
use crate::plan::phases::{Phase, phases};
use crate::plan::{self, Grain, Plan, READERS, end_keys};
use crate::records::RecordSpool;
use crate::settings::{Event, Observer, Settings};
use crate::summary::Summary;
use crate::weights::store::WeightStore;
use crate::weights::{LeafKey, Part};

/// Runs the model over all records and finishes the output folder.
pub fn run(
    model: &Model,
    records: &RecordSpool,
    settings: &Settings,
    folder: OutputFolder,
    observer: &dyn Observer,
) -> Result<Summary, EngineError> {
    let began = Instant::now();
    let plan = plan::plan(model, records, settings)?;
    let kernels = Kernels::new(settings.threads, settings.compute);
    let phases = phases(model, plan.grain, settings.compute)?;
    let schedule = Schedule::new(model, &phases);
    let observation = Observation::open(model, records, settings, &folder)?;
    let context = Context {
        model,
        records,
        settings,
        observer,
        plan: &plan,
        kernels: &kernels,
        phases: &phases,
    };
    let mut sweep = Sweep {
        context,
        observation,
        folder,
        scratch: Scratch::default(),
        token_layers_done: 0,
        checked: Instant::now(),
    };
    let batches = sweep.batches()?;
    let resumed = sweep
        .folder
        .progress()
        .current
        .as_ref()
        .map(|current| current.boundary);
    let start = schedule.position(resumed);
    let end = match plan.grain {
        Grain::Model => start + schedule.keys.len(),
        _ => schedule.keys.len() * batches.len(),
    };
    let keys = schedule.keys.clone();
    let keep = plan.grain == Grain::Model;
    let store = WeightStore::new(
        model,
        settings.compute,
        plan.weight_budget,
        keys,
        start,
        end,
        keep,
    )?;
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| store.read_ahead());
        }
        let result = sweep.run(&store, &batches);
        store.stop();
        result
    })?;
    let Sweep {
        observation,
        folder,
        ..
    } = sweep;
    let isa = kernels.isa().to_string();
    let progress = folder.progress();
    let summary = Summary::new(
        model,
        records,
        settings,
        &plan,
        progress,
        isa,
        began.elapsed(),
    );
    observation.finish(folder, &summary)?;
    Ok(summary)
}

/// The order in which one super-batch uses its scheduled weights.
struct Schedule {
    keys: Vec<LeafKey>,
    /// Position of the first key of every layer of the first stack.
    layers: Vec<usize>,
}

impl Schedule {
    fn new(model: &Model, phases: &[Phase]) -> Self {
        let (mut keys, mut layers) = (Vec::new(), Vec::new());
        for (stack, description) in model.spec.stacks.iter().enumerate() {
            keys.extend(end_keys(model, stack, Part::Embedding));
            for layer in 0..description.layers.len() {
                if stack == 0 {
                    layers.push(keys.len());
                }
                let own = phases
                    .iter()
                    .filter(|p| p.stack == stack && p.layer == layer);
                keys.extend(own.flat_map(|phase| &phase.scheduled));
            }
            if stack == 0 {
                layers.push(keys.len());
            }
            keys.extend(end_keys(model, stack, Part::Head));
        }
        Self { keys, layers }
    }

    /// Where a super-batch begins that has some layers behind it.
    fn position(&self, layers_done: Option<usize>) -> usize {
        layers_done
            .and_then(|done| self.layers.get(done))
            .copied()
            .unwrap_or(0)
    }
}

/// What does not change during a run.
#[derive(Clone, Copy)]
struct Context<'a> {
    model: &'a Model,
    records: &'a RecordSpool,
    settings: &'a Settings,
    observer: &'a dyn Observer,
    plan: &'a Plan,
    kernels: &'a Kernels,
    phases: &'a [Phase],
}

impl<'a> Context<'a> {
    fn layer(self, store: &'a WeightStore<'a>, stack: usize, part: Part) -> Layer<'a> {
        let residency = match (self.plan.grain, part) {
            (Grain::Tile, Part::Layer(_)) => Residency::Tiled(self.plan.tile_bytes),
            _ => Residency::Resident,
        };
        Layer {
            model: self.model,
            kernels: self.kernels,
            store,
            stack,
            part,
            residency,
        }
    }
}

struct Sweep<'a> {
    context: Context<'a>,
    observation: Observation<'a>,
    folder: OutputFolder,
    scratch: Scratch,
    token_layers_done: u64,
    checked: Instant,
}

impl<'a> Sweep<'a> {
    fn spec(&self) -> &'a ModelSpec {
        &self.context.model.spec
    }

    /// The record ranges that are still to run; the first may be one that was interrupted.
    fn batches(&mut self) -> Result<Vec<Range<usize>>, EngineError> {
        let progress = self.folder.progress();
        let mut first = progress.records_done as usize;
        let mut batches = Vec::new();
        if let Some(current) = &progress.current {
            let range = current.records.clone();
            let tokens: usize = range
                .clone()
                .map(|record| self.context.records.tokens_of(record).max(1))
                .sum();
            if tokens
                <= self
                    .context
                    .plan
                    .super_batch_tokens
                    .max(self.context.records.longest())
            {
                first = range.end;
                batches.push(range);
            } else {
                self.context.observer.warning(
                    "the budget is smaller than before: the interrupted super-batch starts again",
                );
                self.folder.forget_current();
            }
        }
        let starts = plan::starts(
            self.context.records,
            first,
            self.context.plan.super_batch_tokens,
        );
        for (index, &start) in starts.iter().enumerate() {
            let end = starts
                .get(index + 1)
                .copied()
                .unwrap_or(self.context.records.len());
            batches.push(start..end);
        }
        let layers: usize = self
            .spec()
            .stacks
            .iter()
            .map(|stack| stack.layers.len())
            .sum();
        let done: u64 = (0..self.folder.progress().records_done as usize)
            .map(|record| self.context.records.tokens_of(record) as u64)
            .sum();
        self.token_layers_done = done * layers as u64;
        Ok(batches)
    }

    fn run(
        &mut self,
        store: &'a WeightStore<'a>,
        batches: &[Range<usize>],
    ) -> Result<(), EngineError> {
        for range in batches {
            self.super_batch(store, range.clone())?;
            self.folder.progress_mut().records_done = range.end as u64;
            self.folder.progress_mut().current = None;
            if self.checked.elapsed() >= self.context.settings.checkpoint_interval {
                self.checkpoint(None)?;
            }
        }
        self.checkpoint(None)
    }

    fn super_batch(
        &mut self,
        store: &'a WeightStore<'a>,
        range: Range<usize>,
    ) -> Result<(), EngineError> {
        let (context, spec) = (self.context, self.spec());
        let batch = Batch::new(spec, range.start, self.context.records.read(range.clone())?);
        for (stack, description) in spec.stacks.iter().enumerate() {
            let mut slots = Slots::new(description, batch.rows());
            let first = match self.resume(&range, &mut slots)? {
                Some(boundary) => {
                    self.observation.resumed(&slots.hidden);
                    boundary
                }
                None => {
                    let embedding = &description.embedding;
                    let layer = context.layer(store, stack, Part::Embedding);
                    layer.embed(embedding, &batch, &mut slots.hidden)?;
                    layer.spread(embedding, &batch, &mut slots)?;
                    store.release(&end_keys(context.model, stack, Part::Embedding));
                    self.observation
                        .boundary(context.kernels, stack, 0, &batch, &slots)?;
                    0
                }
            };
            for index in first..description.layers.len() {
                self.run_layer(store, stack, index, &batch, &mut slots)?;
                self.observation
                    .boundary(context.kernels, stack, index + 1, &batch, &slots)?;
                self.folder.progress_mut().layer_passes += 1;
                self.token_layers_done += batch.rows() as u64;
                self.report(stack, index + 1);
                let interrupted = self.context.observer.interrupted();
                if interrupted
                    || self.checked.elapsed() >= self.context.settings.checkpoint_interval
                {
                    self.checkpoint(Some((&range, stack, index + 1, &slots)))?;
                }
                if interrupted {
                    return Err(EngineError::Interrupted);
                }
            }
            // The head needs the room.
            self.scratch = Scratch::default();
            let layer = context.layer(store, stack, Part::Head);
            let tile = context.plan.tile_bytes;
            self.observation.end(&layer, stack, &batch, &slots, tile)?;
            store.release(&end_keys(context.model, stack, Part::Head));
        }
        Ok(())
    }

    fn run_layer(
        &mut self,
        store: &'a WeightStore<'a>,
        stack: usize,
        index: usize,
        batch: &Batch,
        slots: &mut Slots,
    ) -> Result<(), EngineError> {
        let (context, spec) = (self.context, self.spec());
        let all = [Chunk {
            rows: 0..batch.rows(),
            records: 0..batch.records.len(),
        }];
        let chunks = batch.chunks(context.plan.chunk_tokens);
        let own = context
            .phases
            .iter()
            .filter(|p| p.stack == stack && p.layer == index);
        for phase in own {
            let layer = context.layer(store, stack, Part::Layer(index));
            let steps = &spec.stacks[stack].layers[index].steps[phase.steps.clone()];
            let mut probe = self.observation.probe(context.kernels, stack, index);
            for chunk in if phase.whole { &all[..] } else { &chunks[..] } {
                for step in steps {
                    let rows = Rows { batch, chunk };
                    layer.step(step, rows, slots, &mut self.scratch, &mut probe)?;
                }
            }
            probe.finish()?;
            store.release(&phase.scheduled);
        }
        Ok(())
    }

    /// Loads the activations of an interrupted super-batch; returns how many layers it has behind
    /// it.
    fn resume(
        &self,
        range: &Range<usize>,
        slots: &mut Slots,
    ) -> Result<Option<usize>, EngineError> {
        let Some(current) = &self.folder.progress().current else {
            return Ok(None);
        };
        if &current.records != range {
            return Ok(None);
        }
        for (buffer, target) in current.buffers.iter().zip(slots.all_mut()) {
            self.folder.load_buffer(buffer, target.as_mut_slice())?;
        }
        Ok(Some(current.boundary))
    }

    /// Makes everything so far durable.
    fn checkpoint(
        &mut self,
        current: Option<(&Range<usize>, usize, usize, &Slots)>,
    ) -> Result<(), EngineError> {
        self.observation.save(&mut self.folder)?;
        if let Some((records, stack, boundary, slots)) = current {
            let mut buffers = Vec::new();
            for (index, mat) in slots.all().into_iter().enumerate() {
                let name = format!("slot-{index}");
                let values = mat.as_slice();
                buffers.push(
                    self.folder
                        .save_buffer(&name, mat.rows(), mat.cols(), values)?,
                );
            }
            self.folder.progress_mut().current = Some(SuperBatchProgress {
                records: records.clone(),
                stack,
                boundary,
                buffers,
            });
        }
        self.folder.checkpoint()?;
        self.checked = Instant::now();
        Ok(())
    }

    fn report(&self, stack: usize, layer: usize) {
        let layers: usize = self
            .spec()
            .stacks
            .iter()
            .map(|stack| stack.layers.len())
            .sum();
        self.context.observer.event(&Event {
            stack: self.spec().stacks[stack].name,
            layer,
            layers: self.spec().stacks[stack].layers.len(),
            records_done: self.folder.progress().records_done as usize,
            records: self.context.records.len(),
            token_layers_done: self.token_layers_done,
            token_layers: self.context.records.total_tokens() * layers as u64,
            tokens: self.context.records.total_tokens(),
            bytes_read: self.context.model.checkpoint.bytes_read(),
            bytes_planned: self.context.plan.bytes_read,
        });
    }
}
