//! The results of a run as they come into being: every take looks at the boundaries and branch
//! outputs it needs and hands its part to a file.

use std::collections::BTreeMap;

use sli_kernels::{Kernels, Mat, MatRef};
use sli_spec::{ModelSpec, Pooler, Site, Stack};

use crate::boundaries::boundaries;
use crate::classes::Classes;
use crate::drift::{Drift, Trace};
use crate::entering::Entering;
use crate::error::EngineError;
use crate::exec::batch::Batch;
use crate::exec::head::{LogitResults, LogitSink, Wanted};
use crate::exec::probe::Probe;
use crate::exec::{BoundLayer, Rows, Slots};
use crate::expansion;
use crate::journal::OutputFolder;
use crate::lens::{self, Lens};
use crate::lexical::{self, Lexical};
use crate::model::Model;
use crate::plan::reads_logits;
use crate::pooling::{Embedder, Pool, embedding_width, pooled_stack, recipe};
use crate::profile::{BLOB, BranchOutputs, Profile};
use crate::records::RecordSpool;
use crate::results::{
    BestTokens, EmbeddingSink, RouterSink, ScoresSink, TensorFile, TensorShape, TopKSink,
    write_records,
};
use crate::settings::{HiddenDtype, Settings};
use crate::sparse::Sparse;
use crate::summary::{Summary, peak_memory};
use crate::take::{Boundary, BoundaryKind, Take};
use crate::token_scores::Scores;

/// All takes of a run.
pub(crate) struct Observation<'a> {
    spec: &'a ModelSpec,
    hidden: BTreeMap<Boundary, TensorFile>,
    logits: Option<TensorFile>,
    scores: Option<ScoresSink>,
    top_k: Option<(usize, TopKSink)>,
    embedding: Option<(Embedder, EmbeddingSink)>,
    /// The stack whose end becomes them.
    pooled: Option<usize>,
    router: Option<RouterSink>,
    profile: Option<Profile>,
    /// And the stack whose end is classified.
    classes: Option<(usize, Classes<'a>)>,
    sparse: Option<Sparse>,
    lexical: Option<Lexical>,
    lens: Option<Lens>,
    trace: Option<Trace>,
    drift: Option<Drift<'a>>,
    /// They are shown what enters the matrices while a layer runs.
    entering: Option<&'a Entering<'a>>,
    wants_logits: bool,
    records: RecordSpool,
    /// Of a record whose pieces come one by one.
    open: Open,
}

/// Results of a record that is cut, until its last piece is there.
#[derive(Default)]
struct Open {
    scores: Scores,
    best: Best,
    pool: Option<Pool>,
    routes: Routes,
}

/// The best tokens of every row of a record, as many a row.
#[derive(Default)]
struct Best {
    entries: Vec<(f32, u32)>,
    log_sum_exp: Vec<f64>,
}

/// The experts of every row of a record.
#[derive(Default)]
struct Routes {
    ids: Vec<u32>,
    weights: Vec<f32>,
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
        entering: Option<&'a Entering<'a>>,
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
            pooled: None,
            router: None,
            profile: None,
            classes: None,
            sparse: None,
            lexical: None,
            lens: None,
            trace: None,
            drift: None,
            entering,
            wants_logits: settings.takes.iter().any(reads_logits),
            records: records.clone(),
            open: Open::default(),
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
                        let records = records.of(stack.sequence);
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
                    let records = records.of(output.sequence);
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
                    observation.pooled = Some(pooled_stack(model, *asked)?);
                    observation.embedding = Some((embedder, EmbeddingSink::open(folder, length)?));
                }
                Take::Router => {
                    let layers = routed_layers(output);
                    observation.router = Some(RouterSink::open(folder, &layers)?);
                }
                Take::Profile => {
                    observation.profile = Some(Profile::open(folder)?);
                }
                Take::Sparse if lexical::is_there(model)? => {
                    observation.lexical = Some(Lexical::open(model, settings.compute, folder)?);
                }
                Take::Sparse => observation.sparse = Some(Sparse::open(model, folder)?),
                Take::Imatrix | Take::Hessian(_) => {}
                Take::Trace => {
                    observation.trace = Some(Trace::open(spec, records, folder)?);
                    let columns = vocabulary(output);
                    if columns > 0 {
                        let records = records.of(output.sequence);
                        observation.logits = Some(Trace::logits(columns, records, folder)?);
                    }
                }
                Take::Drift => observation.drift = Some(Drift::open(spec, folder)?),
                Take::Lens(k, selection) => {
                    let k = (*k).min(vocabulary(output));
                    let layers = lens::layers(spec, selection)?;
                    observation.lens = Some(Lens::open(k, layers, folder)?);
                }
                Take::Classes => {
                    let classified = spec.classified_stack();
                    if let Some((stack, head)) = classified
                        .and_then(|(index, stack)| Some((index, stack.head.classes.as_ref()?)))
                    {
                        observation.classes = Some((stack, Classes::open(head, folder)?));
                    }
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
        slots: &mut Slots,
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
            profile.boundary(kernels, (stack, index), batch, slots);
        }
        if let Some(trace) = &self.trace {
            trace.boundary(stack, index, batch, slots)?;
        }
        if let Some(drift) = &mut self.drift {
            drift.boundary(kernels, (stack, index), batch, slots)?;
        }
        slots.set_before();
        Ok(())
    }

    /// Whether the hidden state at a boundary is kept until the end of the stack is there.
    pub fn keeps(&self, stack: usize, index: usize) -> bool {
        let is_last = stack + 1 == self.spec.stacks.len();
        let lens = self.lens.as_ref().filter(|_| is_last);
        lens.is_some_and(|lens| lens.wants(index))
    }

    /// Puts the head on what was kept at the boundaries of a stack, which `load` reads.
    pub fn look_back(
        &mut self,
        layer: &BoundLayer<'_>,
        stack: usize,
        batch: &Batch,
        slots: &Slots,
        tile_bytes: u64,
        load: impl FnMut(usize) -> Result<Mat, EngineError>,
    ) -> Result<(), EngineError> {
        let is_last = stack + 1 == self.spec.stacks.len();
        match self.lens.as_mut().filter(|_| is_last) {
            Some(lens) => {
                let head = &self.spec.stacks[stack].head;
                lens.look((layer, head), batch, &slots.hidden, tile_bytes, load)
            }
            None => Ok(()),
        }
    }

    /// Whether the hidden state at a boundary is compared with the one before.
    pub fn compares(&self) -> bool {
        self.profile.is_some()
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
        let stacks = self.spec.stacks.len();
        LayerProbe {
            kernels,
            stack,
            layer: layer + 1,
            // The table has the layers of the last stack.
            router: self.router.as_ref().filter(|_| stack + 1 == stacks),
            routes: &mut self.open.routes,
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
        if let Some(drift) = &self.drift {
            drift.save(folder)?;
        }
        Ok(())
    }

    /// The end of a stack as later ones read it.
    pub fn handed(&self, stack: usize, batch: &Batch, end: &mut Mat) -> Result<(), EngineError> {
        if let Some(trace) = &self.trace {
            trace.end(stack, batch, end)?;
        }
        if let Some(drift) = &self.drift {
            drift.end(stack, batch, end)?;
        }
        Ok(())
    }

    /// Runs what follows the last layer of a stack, and takes its results; the normed end, where there is a norm.
    pub fn end(
        &mut self,
        layer: &BoundLayer<'_>,
        stack: usize,
        batch: &Batch,
        slots: &Slots,
        tile_bytes: u64,
    ) -> Result<Option<Mat>, EngineError> {
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
            if let Some(trace) = &self.trace {
                trace.norm(stack, batch, normed)?;
            }
            if let Some(drift) = &mut self.drift {
                drift.norm(layer.kernels, stack, batch, normed)?;
            }
        }
        let x = normed.as_ref().unwrap_or(hidden);
        let projected = layer.output(head, x)?;
        let x = projected.as_ref().unwrap_or(x);
        if Some(stack) == self.pooled {
            self.embed(layer, head.pooler.as_ref(), batch, x)?;
        }
        let is_last = stack + 1 == self.spec.stacks.len();
        if let Some(lexical) = self.lexical.as_mut().filter(|_| is_last) {
            lexical.weigh(layer, batch, x)?;
        }
        if let Some((_, classes)) = self.classes.as_mut().filter(|(own, _)| *own == stack) {
            classes.classify(layer, batch, x)?;
        }
        let Some(logits) = head
            .logits
            .as_ref()
            .filter(|_| is_last && self.wants_logits)
        else {
            return Ok(normed);
        };
        if let Some(drift) = &mut self.drift {
            drift.head(layer, logits, (batch, x), tile_bytes)?;
            return Ok(normed);
        }
        if let Some(sparse) = &self.sparse {
            sparse.fold(layer, logits, (batch, x), tile_bytes)?;
            if self.logits.is_none() && self.scores.is_none() && self.top_k.is_none() {
                return Ok(normed);
            }
        }
        let wanted = Wanted {
            log_sum_exp: true,
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
        let results = layer.logits(logits, x.view(), &wanted, tile_bytes, sink)?;
        self.score(batch, &results)?;
        Ok(normed)
    }

    /// Pools every record.
    fn embed(
        &mut self,
        layer: &BoundLayer<'_>,
        pooler: Option<&Pooler>,
        batch: &Batch,
        x: &Mat,
    ) -> Result<(), EngineError> {
        match &self.embedding {
            Some((embedder, sink)) => {
                embedder.embed(layer, pooler, (batch, x), &mut self.open.pool, sink)
            }
            None => Ok(()),
        }
    }

    /// Hands on what was computed from the logits, record by record.
    fn score(&mut self, batch: &Batch, results: &LogitResults) -> Result<(), EngineError> {
        for (index, record) in (batch.first_record..).zip(&batch.records) {
            let runs = batch.path(record);
            if let Some(sink) = &self.scores {
                let scores = &mut self.open.scores;
                scores.add(batch, record, &runs, results);
                if record.ends() {
                    let Scores { tokens, logprobs } = std::mem::take(scores);
                    let records = self.records.of(self.spec.output_stack().sequence);
                    let annotation = records.annotation(index)?;
                    sink.push(record.name(), &tokens, &logprobs, &annotation)?;
                }
            }
            if let (Some((_, sink)), Some(top)) = (&self.top_k, &results.top) {
                let rows = runs.iter().cloned().flatten().map(|row| BestTokens {
                    entries: top.row(row),
                    log_sum_exp: results.log_sum_exp[row],
                });
                if record.is_whole() {
                    sink.push(record.name(), &rows.collect::<Vec<_>>())?;
                    continue;
                }
                let best = &mut self.open.best;
                rows.for_each(|row| best.add(&row));
                if record.ends() {
                    sink.push(record.name(), &std::mem::take(best).rows())?;
                }
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
        if self.trace.is_none() && (self.logits.is_some() || !self.hidden.is_empty()) {
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
        if let Some(lexical) = self.lexical {
            lexical.finish(&mut folder)?;
        }
        if let Some(lens) = self.lens {
            lens.finish(&mut folder)?;
        }
        if let Some(sparse) = self.sparse {
            sparse.finish(&mut folder)?;
        }
        if let Some(trace) = self.trace {
            trace.finish(&mut folder)?;
        }
        if let Some(drift) = self.drift {
            summary.drift = Some(drift.finish(&mut folder)?);
        }
        if let Some((_, classes)) = self.classes {
            classes.finish(&mut folder)?;
        }
        if let Some(profile) = self.profile {
            let stacks: Vec<&str> = self.spec.stacks.iter().map(|stack| stack.name).collect();
            if self.records.shard().is_some() {
                profile.publish(&stacks, &mut folder)?;
            }
            profile.finish(&stacks, &mut folder)?;
        }
        if let Some(entering) = self.entering {
            entering.finish(&self.records, &mut folder)?;
        }
        // Writing the last results takes memory too.
        summary.peak_memory = peak_memory();
        let manifest = serde_json::to_value(&*summary).unwrap_or_default();
        folder.finish(manifest)?;
        Ok(())
    }
}

impl Best {
    /// Adds one row.
    fn add(&mut self, row: &BestTokens<'_>) {
        self.entries.extend_from_slice(row.entries);
        self.log_sum_exp.push(row.log_sum_exp);
    }

    /// All rows.
    fn rows(&self) -> Vec<BestTokens<'_>> {
        let count = self.entries.len() / self.log_sum_exp.len().max(1);
        let entries = self.entries.chunks(count.max(1));
        let rows = entries.zip(&self.log_sum_exp);
        rows.map(|(entries, &log_sum_exp)| BestTokens {
            entries,
            log_sum_exp,
        })
        .collect()
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
    routes: &'p mut Routes,
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
                let routes = &mut *self.routes;
                routes.ids.extend(expansion::values(experts, top_k, &runs));
                routes
                    .weights
                    .extend(expansion::values(weights, top_k, &runs));
                if !record.ends() {
                    continue;
                }
                let Routes { ids, weights } = std::mem::take(routes);
                let pushed = sink.push(self.layer as u32, record.name(), top_k, &ids, &weights);
                if let Err(error) = pushed {
                    self.failed.get_or_insert(error.into());
                }
            }
        }
    }
}
