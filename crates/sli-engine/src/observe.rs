//! The results of a run as they come into being: every take looks at the boundaries and branch
//! outputs it needs and hands its part to a file.

use std::collections::BTreeMap;

use sli_kernels::{Kernels, Mat, MatRef};
use sli_spec::{ModelSpec, Pooler, Site, Stack};

use crate::error::EngineError;
use crate::exec::batch::Batch;
use crate::exec::head::{LogitResults, LogitSink, Wanted};
use crate::exec::probe::Probe;
use crate::exec::{Layer, Rows, Slots};
use crate::expansion;
use crate::journal::OutputFolder;
use crate::model::Model;
use crate::plan::needs_logits;
use crate::pooling::{Embedder, embedding_width, recipe};
use crate::profile::{BLOB, BranchOutputs, Profile};
use crate::records::RecordSpool;
use crate::results::{
    BestTokens, EmbeddingSink, RouterSink, ScoresSink, TensorFile, TensorShape, TopKSink,
    write_records,
};
use crate::settings::{HiddenDtype, Settings};
use crate::summary::{Summary, peak_memory};
use crate::take::{Boundary, BoundaryKind, LayerSelection, Take, TakeError};

/// All takes of a run.
pub(crate) struct Observation<'a> {
    spec: &'a ModelSpec,
    hidden: BTreeMap<Boundary, TensorFile>,
    logits: Option<TensorFile>,
    scores: Option<ScoresSink>,
    top_k: Option<(usize, TopKSink)>,
    embedding: Option<(Embedder, EmbeddingSink)>,
    router: Option<RouterSink>,
    profile: Option<Profile>,
    wants_logits: bool,
    records: RecordSpool,
}

/// The boundaries that a selection names in this model.
pub(crate) fn boundaries(
    spec: &ModelSpec,
    selection: &LayerSelection,
) -> Result<Vec<Boundary>, TakeError> {
    let stacks: Vec<(&str, usize, bool)> = spec
        .stacks
        .iter()
        .map(|stack| (stack.name, stack.layers.len(), stack.head.norm.is_some()))
        .collect();
    selection.resolve(&stacks)
}

/// Layers of a stack that route to experts, counted from 1.
fn routed_layers(stack: &Stack) -> Vec<u32> {
    let routes = |layer: &sli_spec::Layer| {
        let mut routings = layer.mechanisms().filter_map(sli_spec::Mechanism::routing);
        routings.any(|routing| routing.is_shown)
    };
    (1..)
        .zip(&stack.layers)
        .filter(|(_, layer)| routes(layer))
        .map(|(index, _)| index)
        .collect()
}

impl<'a> Observation<'a> {
    /// Opens, or goes on with, the files of all takes.
    pub fn open(
        model: &'a Model,
        records: &RecordSpool,
        settings: &Settings,
        folder: &OutputFolder,
    ) -> Result<Self, EngineError> {
        let spec = &model.spec;
        let output = spec.output_stack();
        let mut observation = Self {
            spec,
            hidden: BTreeMap::new(),
            logits: None,
            scores: None,
            top_k: None,
            embedding: None,
            router: None,
            profile: None,
            wants_logits: needs_logits(&settings.takes),
            records: records.clone(),
        };
        for take in &settings.takes {
            match take {
                Take::Hidden(selection) => {
                    for boundary in boundaries(spec, selection)? {
                        let stack = &spec.stacks[boundary.stack];
                        let name = format!("hidden/{}.{}", stack.name, boundary.kind.file_part());
                        let shape = TensorShape {
                            rows_per_token: match boundary.kind {
                                BoundaryKind::Layer(_) => stack.streams(),
                                BoundaryKind::Norm => 1,
                            },
                            cols: stack.hidden_size,
                            dtype: settings.hidden_dtype,
                        };
                        let file = TensorFile::open(folder, records, &name, shape)?;
                        observation.hidden.insert(boundary, file);
                    }
                }
                Take::Logits => {
                    let cols = vocabulary(output);
                    let shape = TensorShape {
                        rows_per_token: 1,
                        cols,
                        dtype: HiddenDtype::F32,
                    };
                    let file = TensorFile::open(folder, records, "logits", shape)?;
                    observation.logits = Some(file);
                }
                Take::Scores => observation.scores = Some(ScoresSink::open(folder)?),
                Take::TopK(k) => {
                    let k = (*k).min(vocabulary(output));
                    observation.top_k = Some((k, TopKSink::open(folder, k)?));
                }
                Take::Embedding(asked) => {
                    let recipe = recipe(model, *asked)?;
                    let length = embedding_width(model, *asked)?;
                    let skip = records.prompt_tokens();
                    let embedder = Embedder::load(recipe, settings.compute, skip)?;
                    observation.embedding = Some((embedder, EmbeddingSink::open(folder, length)?));
                }
                Take::Router => {
                    let layers = routed_layers(output);
                    observation.router = Some(RouterSink::open(folder, &layers)?);
                }
                Take::Profile => {
                    observation.profile = Some(Profile::open(folder)?);
                }
            }
        }
        Ok(observation)
    }

    /// The hidden state at a boundary: 0 is what enters the first layer. Statistics are of the first
    /// residual stream.
    pub fn boundary(
        &mut self,
        kernels: &Kernels,
        stack: usize,
        index: usize,
        batch: &Batch,
        slots: &Slots,
    ) -> Result<(), EngineError> {
        self.write(
            Boundary {
                stack,
                kind: BoundaryKind::Layer(index),
            },
            batch,
            &slots.streams(self.spec.stacks[stack].streams()),
        )?;
        if let Some(profile) = &mut self.profile {
            profile.boundary(kernels, (stack, index), batch, &slots.hidden);
        }
        Ok(())
    }

    /// The super-batch goes on from a checkpoint with this hidden state.
    pub fn resumed(&mut self, hidden: &Mat) {
        if let Some(profile) = &mut self.profile {
            profile.set_previous(hidden);
        }
    }

    fn write(
        &self,
        boundary: Boundary,
        batch: &Batch,
        streams: &[&Mat],
    ) -> Result<(), EngineError> {
        match self.hidden.get(&boundary) {
            Some(file) => Ok(expansion::write_rows(file, batch, streams)?),
            None => Ok(()),
        }
    }

    /// What looks into a layer while a phase of it runs; `shown` outputs of it were shown in earlier
    /// phases.
    pub fn probe<'p>(
        &'p mut self,
        kernels: &'p Kernels,
        stack: usize,
        layer: usize,
        shown: usize,
    ) -> LayerProbe<'p> {
        LayerProbe {
            kernels,
            stack,
            layer: layer + 1,
            router: self.router.as_ref(),
            profile: self.profile.as_mut(),
            shown,
            outputs: BranchOutputs::default(),
            failed: None,
        }
    }

    /// Makes the accumulators part of the next checkpoint.
    pub fn save(&self, folder: &mut OutputFolder) -> Result<(), EngineError> {
        if let Some(profile) = &self.profile {
            folder.save_blob(BLOB, &profile.to_bytes())?;
        }
        Ok(())
    }

    /// Runs what follows the last layer of a stack, and takes its results.
    pub fn end(
        &mut self,
        layer: &Layer<'_>,
        stack: usize,
        batch: &Batch,
        slots: &Slots,
        tile_bytes: u64,
    ) -> Result<(), EngineError> {
        let description = &self.spec.stacks[stack];
        let head = &description.head;
        let merged = layer.merge(head, slots)?;
        let hidden = merged.as_ref().unwrap_or(&slots.hidden);
        let normed = layer.final_norm(head, hidden)?;
        if let Some(normed) = &normed {
            self.write(
                Boundary {
                    stack,
                    kind: BoundaryKind::Norm,
                },
                batch,
                &[normed],
            )?;
        }
        if stack + 1 < self.spec.stacks.len() {
            return Ok(());
        }
        let x = normed.as_ref().unwrap_or(hidden);
        let projected = layer.output(head, x)?;
        let x = projected.as_ref().unwrap_or(x);
        self.embed(layer, head.pooler.as_ref(), batch, x)?;
        let Some(logits) = head.logits.as_ref().filter(|_| self.wants_logits) else {
            return Ok(());
        };
        let wanted = Wanted {
            targets: self.scores.as_ref().map(|_| batch.targets()),
            top_k: self.top_k.as_ref().map(|(k, _)| *k),
        };
        let file = self.logits.as_ref();
        let mut write = |row: usize, column: usize, block: MatRef<'_>| {
            let Some(file) = file else { return Ok(()) };
            Ok(expansion::write_block(file, batch, (row, column), block)?)
        };
        let sink: Option<&mut LogitSink<'_>> = if file.is_some() {
            Some(&mut write)
        } else {
            None
        };
        let results = layer.logits(logits, x, &wanted, tile_bytes, sink)?;
        self.score(batch, &results)
    }

    /// Pools every record.
    fn embed(
        &self,
        layer: &Layer<'_>,
        pooler: Option<&Pooler>,
        batch: &Batch,
        x: &Mat,
    ) -> Result<(), EngineError> {
        match &self.embedding {
            Some((embedder, sink)) => embedder.embed(layer, pooler, batch, x, sink),
            None => Ok(()),
        }
    }

    /// Hands on what was computed from the logits, record by record.
    fn score(&self, batch: &Batch, results: &LogitResults) -> Result<(), EngineError> {
        for (index, record) in (batch.first_record..).zip(&batch.records) {
            let runs = batch.path(record);
            let rows = runs.iter().cloned().flatten();
            if let Some(sink) = &self.scores {
                let scored = rows.clone().zip(rows.clone().skip(1));
                let logprobs: Vec<f32> = scored
                    .map(|(row, next)| {
                        (f64::from(results.target[next]) - results.log_sum_exp[row]) as f32
                    })
                    .collect();
                let tokens = expansion::values(&batch.tokens, 1, &runs);
                let annotation = self.records.annotation(index)?;
                sink.push(record.name(), &tokens, &logprobs, &annotation)?;
            }
            if let (Some((_, sink)), Some(top)) = (&self.top_k, &results.top) {
                let best = rows.map(|row| BestTokens {
                    entries: top.row(row),
                    log_sum_exp: results.log_sum_exp[row],
                });
                sink.push(record.name(), &best.collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Publishes every result and ends the output folder.
    pub fn finish(
        self,
        mut folder: OutputFolder,
        summary: &mut Summary,
    ) -> Result<(), EngineError> {
        if self.logits.is_some() || !self.hidden.is_empty() {
            write_records(&mut folder, &self.records)?;
        }
        for file in self.hidden.into_values().chain(self.logits) {
            file.finish(&mut folder)?;
        }
        if let Some(sink) = self.scores {
            sink.finish(&mut folder)?;
        }
        if let Some((_, sink)) = self.top_k {
            sink.finish(&mut folder)?;
        }
        if let Some((_, sink)) = self.embedding {
            sink.finish(&mut folder)?;
        }
        if let Some(sink) = self.router {
            sink.finish(&mut folder)?;
        }
        if let Some(profile) = self.profile {
            profile.finish(self.spec, &mut folder)?;
        }
        // Writing the last results takes memory too.
        summary.peak_memory = peak_memory();
        let manifest = serde_json::to_value(&*summary).unwrap_or_default();
        folder.finish(manifest)?;
        Ok(())
    }
}

/// Rows of the projection to logits.
fn vocabulary(stack: &Stack) -> usize {
    stack
        .head
        .logits
        .as_ref()
        .map_or(0, |logits| logits.projection.out_features)
}

/// Looks into one layer while it runs.
pub(crate) struct LayerProbe<'p> {
    kernels: &'p Kernels,
    stack: usize,
    /// Counted from 1.
    layer: usize,
    router: Option<&'p RouterSink>,
    profile: Option<&'p mut Profile>,
    shown: usize,
    outputs: BranchOutputs,
    failed: Option<EngineError>,
}

impl LayerProbe<'_> {
    /// From here on the steps run on another chunk.
    pub fn next_chunk(&mut self) {
        self.outputs.next_chunk();
    }

    /// Folds what was seen of all rows; the first error of a sink.
    pub fn finish(self, batch: &Batch) -> Result<(), EngineError> {
        if let Some(profile) = self.profile {
            let place = (self.stack, self.layer, self.shown);
            profile.branches(place, batch, self.outputs);
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl Probe for LayerProbe<'_> {
    fn branch(&mut self, site: Site, rows: Rows<'_>, output: MatRef<'_>) {
        if self.profile.is_some() {
            self.outputs.add(self.kernels, site, rows, output);
        }
    }

    fn routed(
        &mut self,
        rows: Rows<'_>,
        top_k: usize,
        count: usize,
        experts: &[u32],
        weights: &[f32],
    ) {
        if let Some(profile) = &mut self.profile {
            let key = (self.stack, self.layer);
            profile.routed(key, rows.batch, (top_k, count), experts, weights);
        }
        if let Some(sink) = self.router {
            for record in &rows.batch.records {
                let runs = rows.batch.path(record);
                let ids = expansion::values(experts, top_k, &runs);
                let weights = expansion::values(weights, top_k, &runs);
                let pushed = sink.push(self.layer as u32, record.name(), top_k, &ids, &weights);
                if let Err(error) = pushed {
                    self.failed.get_or_insert(error.into());
                }
            }
        }
    }
}
