//! A layer on all parts of a super-batch: phase by phase, chunk by chunk.

use std::ops::Range;

use sli_kernels::{Kernels, Mat};
use sli_spec::Input;

use super::parts::{Group, Parts};
use super::passes::Sweep;
use crate::error::EngineError;
use crate::exec::batch::Batch;
use crate::exec::step::outputs_shown;
use crate::exec::{Computed, Rows, Slots};
use crate::plan::end_keys;
use crate::plan::phases::Phase;
use crate::results::ResultsError;
use crate::weights::Section;
use crate::weights::store::WeightStore;

impl<'a> Sweep<'a> {
    pub(super) fn embed(
        &mut self,
        store: &'a WeightStore<'a>,
        stack: usize,
        parts: &mut Parts,
    ) -> Result<(), EngineError> {
        let context = self.context;
        let layer = context.layer(store, stack, Section::Embedding);
        let description = &context.model.spec.stacks[stack];
        for part in 0..parts.portions.len() {
            let (batch, mut slots) = parts.create(context, part)?;
            match &description.input {
                Input::Tokens(embedding) => {
                    let ends = &slots.kept.ends;
                    layer.embed(embedding, &batch, ends, &mut slots.hidden)?;
                    layer.spread(embedding, &batch, &mut slots)?;
                }
                Input::Features(features) => {
                    let records = context.records.of(description.sequence);
                    layer.embed_features(features, &batch, records, &mut slots.hidden)?;
                }
                Input::Pictures(pictures) => {
                    let records = context.records.of(description.sequence);
                    layer.embed_pictures(pictures, &batch, records, &mut slots.hidden)?;
                }
                Input::Resampled(rows) => {
                    layer.resample(rows, &batch, &slots.kept.ends, &mut slots.hidden)?;
                }
            }
            refuse_overflow(context.kernels, &slots.hidden, || {
                format!("{} embedding", description.name)
            })?;
            self.observation
                .boundary(context.kernels, stack, 0, &batch, &mut slots)?;
            self.keep(stack, 0, part, &slots)?;
            parts.put(part, batch, slots);
        }
        store.release(&end_keys(context.model, stack, Section::Embedding));
        Ok(())
    }

    /// Runs a layer on all parts; returns their rows.
    pub(super) fn run_layer(
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
        if let Some(entering) = context.entering {
            entering.begin((stack, index), &self.folder)?;
        }
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
        if let Some(entering) = context.entering {
            entering.end(context.kernels, &mut self.folder)?;
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
        let mut pass = Computed::Whole;
        if let Some(rows) = parts.cut_rows(context, portions.start) {
            let window = context.plan.window_tokens();
            let begun = self.scratch.states.begin_record(rows, window);
            begun.map_err(ResultsError::from)?;
            if group.keys_first {
                for part in portions.clone() {
                    let (batch, mut slots) = parts.take(context, part)?;
                    self.run_phase(run, Computed::Keys, &batch, &mut slots)?;
                    parts.put_back(part, batch, slots);
                }
                pass = Computed::Queries;
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
                self.keep(stack, index + 1, part, &slots)?;
                rows += batch.rows();
            }
            parts.put(part, batch, slots);
        }
        Ok(rows)
    }

    fn run_phase(
        &mut self,
        run: Run<'a, '_>,
        pass: Computed,
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
        let layer = context.layer(run.store, stack, Section::Layer(index));
        let steps = &spec.stacks[stack].layers[index].steps;
        let shown = outputs_shown(&steps[..group.steps.start]);
        let mut probe = self.observation.probe(context.kernels, stack, index, shown);
        let numbers = group.steps.clone();
        for chunk in &chunks {
            probe.next_chunk();
            if let Some(entering) = context.entering {
                let tokens = batch.tokens_of_rows(chunk.rows.clone());
                entering.next(context.kernels, tokens, pass);
            }
            for step in numbers.clone().zip(&steps[numbers.clone()]) {
                let rows = Rows { batch, chunk, pass };
                layer.step(step, rows, slots, &mut self.scratch, &mut probe)?;
            }
        }
        probe.finish(batch)
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
