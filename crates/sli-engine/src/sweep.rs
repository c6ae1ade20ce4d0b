//! The sweep: super-batch by super-batch, layer by layer, chunk by chunk.

use std::ops::Range;
use std::time::Instant;

use sli_checkpoint::source::{CacheUse, ReadChoice};
use sli_kernels::{Kernels, Mat};
use sli_spec::{Input, ModelSpec, Step};

use crate::ends::Ends;
use crate::error::EngineError;
use crate::exec::batch::Batch;
use crate::exec::states::States;
use crate::exec::step::outputs_shown;
use crate::exec::{Layer, Pass, Residency, Rows, Scratch, Slots};
use crate::journal::{OutputFolder, SuperBatchProgress};
use crate::model::Model;
use crate::observe::Observation;
use crate::plan::division::Division;
use crate::plan::phases::{Phase, is_expert, phases};
use crate::plan::{self, Grain, Plan, READERS, end_keys};
use crate::portion::Portion;
use crate::records::RecordSpool;
use crate::results::ResultsError;
use crate::settings::{Event, Observer, Settings};
use crate::spent::Spent;
use crate::spill::SpillFile;
use crate::stages::Stopwatch;
use crate::summary::{Measured, Summary};
use crate::tally::Tally;
use crate::weights::content;
use crate::weights::store::WeightStore;
use crate::weights::{LeafKey, Part};

/// Runs the model over all records and finishes the output folder.
pub fn run(
    model: &Model,
    records: &RecordSpool,
    settings: &Settings,
    mut folder: OutputFolder,
    observer: &dyn Observer,
) -> Result<Summary, EngineError> {
    let began = Instant::now();
    let spill_room = settings
        .spill_room
        .min(crate::spill::room(folder.work_dir()));
    let settings = &Settings {
        spill_room,
        ..settings.clone()
    };
    let settings = &layout(settings, &folder, observer);
    let plan = plan::plan(model, records, settings)?;
    let division = Division::new(&model.spec, records, plan.shared_tokens > 0);
    let division = division.cut(plan.cut_tokens);
    if let Some(current) = &folder.progress().current {
        let most = plan.super_batch_tokens.max(division.longest_piece());
        let mut portions = current.portions.iter();
        if portions.any(|portion| division.rows_of(portion) > most) {
            observer.warning(
                "the budget is smaller than before: the interrupted super-batch starts again",
            );
            folder.forget_current().map_err(ResultsError::from)?;
        }
    }
    content::resume(model, &mut folder, observer)?;
    let kernels = Kernels::new(settings.threads, settings.compute);
    let phases = phases(model, plan.grain, settings.compute);
    let schedule = Schedule::new(model, &phases);
    let observation = Observation::open(model, records, settings, &folder)?;
    // All that decides results has been read.
    folder.add_files(&model.home.record());
    let context = Context {
        model,
        records,
        settings,
        observer,
        plan: &plan,
        division,
        kernels: &kernels,
        phases: &phases,
    };
    let tally = Tally::open(&folder).map_err(ResultsError::from)?;
    let before = folder.progress().spent;
    let reading = choose_reading(model, settings, &plan)?;
    let scratch = Scratch::new(States::new(folder.disk(), folder.work_dir()));
    let mut sweep = Sweep {
        context,
        observation,
        folder,
        tally,
        scratch,
        token_layers_done: 0,
        checked: Instant::now(),
        clock: RunClock {
            began,
            stopwatch: Stopwatch::start(model),
            before,
        },
    };
    let batches = sweep.batches()?;
    let resumed = sweep
        .folder
        .progress()
        .current
        .as_ref()
        .map(|current| (current.stack, current.boundary));
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
    )
    .keeping_head(plan.keeps_head);
    sweep.clock.stopwatch = Stopwatch::start(model);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| store.read_ahead());
        }
        let result = sweep.run(&store, &batches);
        store.stop();
        result
    })?;
    content::settle(model)?;
    // Writing the tables takes memory of its own.
    store.give_up();
    let spent = sweep.spent();
    let Sweep {
        observation,
        folder,
        tally,
        ..
    } = sweep;
    let isa = kernels.isa().to_string();
    let progress = folder.progress();
    let mut summary = Summary::new(
        model,
        records,
        settings,
        &plan,
        progress,
        Measured {
            isa,
            reading,
            spent,
            elapsed: began.elapsed(),
        },
    );
    summary.layer_passes_begun = tally.begun();
    observation.finish(folder, &mut summary)?;
    Ok(summary)
}

/// Chooses how large reads of the weights are done, where not all of the model stays in memory.
pub fn choose_reading(
    model: &Model,
    settings: &Settings,
    plan: &Plan,
) -> Result<Option<ReadChoice>, EngineError> {
    let layers = model.spec.stacks.iter().flat_map(|stack| &stack.layers);
    let has_experts = layers.flat_map(|layer| &layer.leaves).any(is_expert);
    if plan.grain == Grain::Model && !has_experts {
        return Ok(None);
    }
    let cache = CacheUse {
        fits: settings
            .machine
            .page_cache
            .is_none_or(|room| room >= model.checkpoint.stored_bytes()),
        again: plan.super_batches > 1,
        in_pieces: has_experts,
        enough: plan
            .seconds_computing
            .filter(|&seconds| seconds > 0.0)
            .map(|seconds| plan.bytes_read as f64 / seconds),
    };
    Ok(model.checkpoint.choose_mode(cache)?)
}

/// The settings with the layout of activations of the super-batch that was interrupted, where there is
/// one: it goes on as it began, and so do those that follow it in this process.
fn layout(settings: &Settings, folder: &OutputFolder, observer: &dyn Observer) -> Settings {
    let mut settings = settings.clone();
    if let Some(current) = &folder.progress().current
        && current.shared != settings.share_prefixes
    {
        observer.warning(if current.shared {
            "the interrupted super-batch shares common beginnings; it goes on so"
        } else {
            "the interrupted super-batch does not share common beginnings; it goes on so"
        });
        settings.share_prefixes = current.shared;
    }
    settings
}

/// The order in which one super-batch uses its scheduled weights.
struct Schedule {
    keys: Vec<LeafKey>,
    /// By stack: position of the first key of every layer, and of what follows the last one.
    layers: Vec<Vec<usize>>,
}

impl Schedule {
    fn new(model: &Model, phases: &[Phase]) -> Self {
        let (mut keys, mut layers) = (Vec::new(), Vec::new());
        for (stack, description) in model.spec.stacks.iter().enumerate() {
            keys.extend(end_keys(model, stack, Part::Embedding));
            let mut starts = Vec::with_capacity(description.layers.len() + 1);
            for layer in 0..description.layers.len() {
                starts.push(keys.len());
                let own = phases
                    .iter()
                    .filter(|p| p.stack == stack && p.layer == layer);
                keys.extend(own.flat_map(|phase| &phase.scheduled));
            }
            starts.push(keys.len());
            layers.push(starts);
            keys.extend(end_keys(model, stack, Part::Head));
        }
        Self { keys, layers }
    }

    /// Where a super-batch begins that has some layers of a stack behind it.
    fn position(&self, resumed: Option<(usize, usize)>) -> usize {
        resumed
            .and_then(|(stack, boundary)| self.layers.get(stack)?.get(boundary))
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
    division: Division<'a>,
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
    tally: Tally,
    scratch: Scratch,
    token_layers_done: u64,
    checked: Instant,
    clock: RunClock,
}

/// What the run costs.
struct RunClock {
    began: Instant,
    stopwatch: Stopwatch,
    /// By earlier processes.
    before: Spent,
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
            first = current.records().end;
            batches.push(current.records());
        }
        let all = first..self.context.records.len();
        let pass_tokens = self.context.plan.pass_tokens;
        batches.extend(self.context.division.ranges(all, pass_tokens));
        let done = self.folder.progress().records_done as usize;
        let stacks = self.spec().stacks.iter();
        let token_layers = stacks.map(|stack| {
            let records = self.context.records.of(stack.sequence);
            records.token_start(done) * stack.layers.len() as u64
        });
        self.token_layers_done = token_layers.sum();
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
        let resumed = self.resumed(&range);
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
                let rows = self.run_layer(store, stack, index, &mut parts)?;
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
            let layer = context.layer(store, stack, Part::Head);
            let is_read = spec.reads_end(stack);
            for part in 0..parts.portions.len() {
                let (batch, mut slots) = parts.take(context, part)?;
                let normed =
                    self.observation
                        .end(&layer, stack, &batch, &slots, context.plan.tile_bytes)?;
                if is_read {
                    let end = normed.unwrap_or_else(|| std::mem::take(&mut slots.hidden));
                    let spills = parts.file.is_some();
                    parts.ends.push(&self.folder, stack, spills, end)?;
                } else {
                    parts.put_back(part, batch, slots);
                }
            }
            store.passage().clear();
            store.release(&end_keys(context.model, stack, Part::Head));
            ends = parts.ends;
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

    fn embed(
        &mut self,
        store: &'a WeightStore<'a>,
        stack: usize,
        parts: &mut Parts,
    ) -> Result<(), EngineError> {
        let context = self.context;
        let layer = context.layer(store, stack, Part::Embedding);
        let description = &context.model.spec.stacks[stack];
        for part in 0..parts.portions.len() {
            let (batch, mut slots) = parts.create(context, part)?;
            let Input::Tokens(embedding) = &description.input;
            layer.embed(embedding, &batch, &mut slots.hidden)?;
            layer.spread(embedding, &batch, &mut slots)?;
            refuse_overflow(context.kernels, &slots.hidden, || {
                format!("{} embedding", description.name)
            })?;
            self.observation
                .boundary(context.kernels, stack, 0, &batch, &mut slots)?;
            parts.put(part, batch, slots);
        }
        store.release(&end_keys(context.model, stack, Part::Embedding));
        Ok(())
    }

    /// Runs a layer on all parts; returns their rows.
    fn run_layer(
        &mut self,
        store: &'a WeightStore<'a>,
        stack: usize,
        index: usize,
        parts: &mut Parts,
    ) -> Result<usize, EngineError> {
        let context = self.context;
        let steps = &context.model.spec.stacks[stack].layers[index].steps;
        let phases = context.phases.iter();
        let own = phases.filter(|p| p.stack == stack && p.layer == index);
        let mut rows = 0;
        for phase in own {
            for group in parts.groups(&steps[phase.steps.clone()], phase.steps.start) {
                let last = group.steps.end == steps.len();
                for record in parts.records() {
                    let run = Run {
                        store,
                        phase,
                        group: &group,
                        ends: last,
                    };
                    rows += self.run_group(run, record, parts)?;
                }
            }
            store.release(&phase.scheduled);
        }
        Ok(rows)
    }

    /// Runs some steps on a portion of whole records, or on all pieces of one record; returns the rows if
    /// the layer ends.
    fn run_group(
        &mut self,
        run: Run<'a, '_>,
        portions: Range<usize>,
        parts: &mut Parts,
    ) -> Result<usize, EngineError> {
        let context = self.context;
        let Run { phase, group, .. } = run;
        self.scratch.states.clear();
        let mut pass = Pass::Whole;
        if let Some(rows) = parts.cut_rows(context, portions.start) {
            let window = context.plan.window_tokens();
            let begun = self.scratch.states.begin_record(rows, window);
            begun.map_err(ResultsError::from)?;
            if group.keys_first {
                for part in portions.clone() {
                    let (batch, mut slots) = parts.take(context, part)?;
                    self.run_phase(run, Pass::Keys, &batch, &mut slots)?;
                    parts.put_back(part, batch, slots);
                }
                pass = Pass::Queries;
            }
        }
        let mut rows = 0;
        for part in portions {
            let (batch, mut slots) = parts.take(context, part)?;
            self.run_phase(run, pass, &batch, &mut slots)?;
            if run.ends {
                let (stack, index) = (phase.stack, phase.layer);
                refuse_overflow(context.kernels, &slots.hidden, || {
                    let name = &context.model.spec.stacks[stack].name;
                    format!("{name} layer {index}")
                })?;
                self.observation
                    .boundary(context.kernels, stack, index + 1, &batch, &mut slots)?;
                rows += batch.rows();
            }
            parts.put(part, batch, slots);
        }
        Ok(rows)
    }

    fn run_phase(
        &mut self,
        run: Run<'a, '_>,
        pass: Pass,
        batch: &Batch,
        slots: &mut Slots,
    ) -> Result<(), EngineError> {
        let (context, spec) = (self.context, self.spec());
        let Run { phase, group, .. } = run;
        let (stack, index) = (phase.stack, phase.layer);
        let chunks = if phase.whole || batch.piece().is_some() {
            vec![batch.whole()]
        } else {
            batch.chunks(context.plan.chunk_tokens)
        };
        let layer = context.layer(run.store, stack, Part::Layer(index));
        let steps = &spec.stacks[stack].layers[index].steps;
        let shown = outputs_shown(&steps[..group.steps.start]);
        let mut probe = self.observation.probe(context.kernels, stack, index, shown);
        let numbers = group.steps.clone();
        for chunk in &chunks {
            probe.next_chunk();
            for step in numbers.clone().zip(&steps[numbers.clone()]) {
                let rows = Rows { batch, chunk, pass };
                layer.step(step, rows, slots, &mut self.scratch, &mut probe)?;
            }
        }
        probe.finish(batch)
    }

    /// The stack in which a super-batch was interrupted, and the layers of it that are done.
    fn resumed(&self, range: &Range<usize>) -> Option<(usize, usize)> {
        let current = self.folder.progress().current.as_ref()?;
        (current.records() == *range).then_some((current.stack, current.boundary))
    }

    /// Loads the activations of an interrupted super-batch.
    fn resume(&mut self, parts: &mut Parts) -> Result<(), EngineError> {
        let buffers = match &self.folder.progress().current {
            Some(current) => current.buffers.clone(),
            None => Vec::new(),
        };
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
    fn checkpoint(
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
            });
        }
        self.folder.progress_mut().spent = self.spent();
        self.folder.checkpoint()?;
        self.checked = Instant::now();
        Ok(())
    }

    /// What the run has cost so far, earlier processes included.
    fn spent(&self) -> Spent {
        let (model, clock) = (self.context.model, &self.clock);
        let stages = clock.stopwatch.so_far(model, self.context.kernels);
        Spent {
            processes: clock.before.processes + 1,
            seconds: clock.before.seconds + clock.began.elapsed().as_secs_f64(),
            bytes_read: clock.before.bytes_read + model.checkpoint.bytes_read(),
            stages: clock.before.stages.and(stages),
        }
    }

    fn report(&self, stack: usize, layer: usize) {
        let records = self.context.records;
        self.context.observer.event(&Event {
            stack: self.spec().stacks[stack].name,
            layer,
            layers: self.spec().stacks[stack].layers.len(),
            records_done: self.folder.progress().records_done as usize,
            records: records.len(),
            token_layers_done: self.token_layers_done,
            token_layers: records.token_layers(self.spec()),
            tokens: records.tokens_in_all(self.spec()),
            bytes_read: self.context.model.checkpoint.bytes_read(),
            bytes_planned: self.context.plan.bytes_read,
        });
    }
}

/// The records of a super-batch: all in memory, or part by part on disk.
struct Parts {
    stack: usize,
    /// Of the stacks before.
    ends: Ends,
    /// Boundaries are compared with the ones before them.
    compares: bool,
    portions: Vec<Portion>,
    /// First row of every part within the super-batch, or a later one.
    offsets: Vec<usize>,
    tokens: usize,
    file: Option<SpillFile>,
    /// The part in memory.
    held: Option<(usize, Batch, Slots)>,
    /// It is not as the file has it.
    is_changed: bool,
}

/// Values that are not finite are refused where they first appear.
fn refuse_overflow(
    kernels: &Kernels,
    hidden: &Mat,
    place: impl FnOnce() -> String,
) -> Result<(), EngineError> {
    if kernels.all_finite(hidden.view()) {
        Ok(())
    } else {
        Err(EngineError::Overflow { place: place() })
    }
}

/// What runs: some steps of a phase.
#[derive(Clone, Copy)]
struct Run<'a, 'b> {
    store: &'a WeightStore<'a>,
    phase: &'a Phase,
    group: &'b Group,
    /// They are the last of the layer.
    ends: bool,
}

/// Consecutive steps of a layer that run on one part before they run on the next.
struct Group {
    /// Steps of the layer.
    steps: Range<usize>,
    /// Keys and values of all pieces of a record come first.
    keys_first: bool,
}

impl Parts {
    /// Whether some record is cut.
    fn has_pieces(&self) -> bool {
        let mut portions = self.portions.iter();
        portions.any(|portion| portion.piece.is_some())
    }

    /// The groups of the steps from number `first` on: a step that needs the keys of later rows is alone where
    /// records are cut.
    fn groups(&self, steps: &[Step], first: usize) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let cut = self.has_pieces();
        for (number, step) in (first..).zip(steps) {
            let keys_first = cut && step.takes_keys_first();
            match groups.last_mut() {
                Some(group) if !keys_first && !group.keys_first => group.steps.end = number + 1,
                _ => groups.push(Group {
                    steps: number..number + 1,
                    keys_first,
                }),
            }
        }
        groups
    }

    /// The parts, those of a record that is cut together.
    fn records(&self) -> Vec<Range<usize>> {
        let mut records: Vec<Range<usize>> = Vec::new();
        for (part, portion) in self.portions.iter().enumerate() {
            let goes_on = portion.piece.as_ref().is_some_and(|piece| piece.start > 0);
            match records.last_mut() {
                Some(record) if goes_on => record.end = part + 1,
                _ => records.push(part..part + 1),
            }
        }
        records
    }

    /// Rows of the record that is cut into pieces from a part on.
    fn cut_rows(&self, context: Context<'_>, part: usize) -> Option<usize> {
        let portion = &self.portions[part];
        let record = portion.records.start;
        portion
            .piece
            .as_ref()
            .map(|_| context.division.length(record))
    }

    /// A part with empty slots.
    fn create(&mut self, context: Context<'_>, part: usize) -> Result<(Batch, Slots), EngineError> {
        self.put_away()?;
        let spec = &context.model.spec;
        let stack = &spec.stacks[self.stack];
        let shared = context.plan.shared_tokens;
        let place = (spec, self.stack);
        let batch = Batch::read(place, context.records, &self.portions[part], shared)?;
        let mut slots = Slots::new(batch.rows(), stack, self.compares);
        slots.kept.ends = self.ends.of_part(&stack.sources(), part)?;
        Ok((batch, slots))
    }

    /// A part as it was last put.
    fn take(&mut self, context: Context<'_>, part: usize) -> Result<(Batch, Slots), EngineError> {
        if let Some((_, batch, slots)) = self.held.take_if(|(held, ..)| *held == part) {
            return Ok((batch, slots));
        }
        let (batch, mut slots) = self.create(context, part)?;
        if let Some(file) = &self.file {
            file.load(self.offsets[part], &mut slots)
                .map_err(ResultsError::from)?;
        }
        Ok((batch, slots))
    }

    /// Makes room for another part.
    fn put_away(&mut self) -> Result<(), EngineError> {
        if let (Some((part, _, slots)), Some(file), true) =
            (self.held.take(), &self.file, self.is_changed)
        {
            file.save(self.offsets[part], &slots)
                .map_err(ResultsError::from)?;
        }
        self.is_changed = false;
        Ok(())
    }

    /// Returns a part that has changed.
    fn put(&mut self, part: usize, batch: Batch, slots: Slots) {
        self.put_back(part, batch, slots);
        self.is_changed = true;
    }

    /// Returns a part that has not changed.
    fn put_back(&mut self, part: usize, batch: Batch, slots: Slots) {
        self.held = Some((part, batch, slots));
    }
}
