//! `sli inspect`: what a model is made of, and whether its checkpoint is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use sli_checkpoint::CoverageReport;
use sli_engine::bytes::human;
use sli_engine::{ExaminedWeights, examine, left_out};
use sli_spec::{Built, LengthLimit, Predicts, Stack};

use super::table::table;
use crate::cli::InspectArgs;
use crate::error::Error;
use crate::place::NamedModel;
use crate::progress::count;
use crate::terminal::{self, Plain};
use sli_remote::Keep;

/// What is known about a model before any weight is read.
#[derive(Serialize)]
struct Inspection {
    model_type: String,
    family: &'static str,
    /// The class that is run instead of the one that config.json names; `null` where it is that one.
    class: Option<String>,
    parameters: u64,
    vocab_size: usize,
    /// Longest record in tokens, `null` without a limit.
    length_limit: Option<usize>,
    stacks: Vec<StackFacts>,
    /// Bytes of tensors by element type.
    dtypes: BTreeMap<String, u64>,
    /// Bytes of all tensors.
    bytes: u64,
    files: Vec<String>,
    /// Why these files of the folder are its weights; `null` where a file was named.
    files_rule: Option<&'static str>,
    /// Weights that the folder has in another way too, which are not looked at.
    files_left: Vec<String>,
    /// Keys of config.json that were allowed to go unread.
    unread: Vec<String>,
    /// Keys of config.json that no class of the reference reads.
    idle: Vec<String>,
    /// How the names in the files became those of the model; `null` where they are the same.
    naming: Option<String>,
    /// `null`: there are no weights.
    coverage: Option<Coverage>,
}

/// A stack of layers.
#[derive(Serialize)]
struct StackFacts {
    name: &'static str,
    layers: usize,
    hidden_size: usize,
    /// Number of layers by what is in them.
    mixers: BTreeMap<String, usize>,
    /// `next token`, `masked token` or `null`.
    head: Option<&'static str>,
    pooler: bool,
}

/// How the tensors of the checkpoint and the weights of the model meet.
#[derive(Serialize)]
struct Coverage {
    complete: bool,
    used: usize,
    ignored: Vec<String>,
    /// The ignored ones by the reason why nothing needs them, numbers of layers as `*`.
    left_out: BTreeMap<&'static str, Vec<String>>,
    missing: Vec<String>,
    unexpected: Vec<String>,
    mismatched: Vec<String>,
    /// Optional parts of the model that the checkpoint lacks.
    absent: BTreeSet<&'static str>,
}

/// Shows a model; an incomplete checkpoint is shown and is then an error. A configuration without
/// weights is shown as far as it tells.
pub fn inspect(arguments: &InspectArgs) -> Result<(), Error> {
    let path = &arguments.model;
    let options = arguments.open.options();
    let named = NamedModel::find(path, Keep::Everything)?;
    let examination = examine(&named.place, &options, &Plain)?;
    let built = &examination.built;
    let inspection = match &examination.weights {
        None => Inspection::of_configuration(built),
        Some(weights) => Inspection::of_model(built, weights),
    };
    inspection.show(path, arguments.json)?;
    Ok(examination.complete()?)
}

impl Inspection {
    /// What the configuration alone tells.
    fn of_configuration(built: &Built) -> Self {
        let absent = built.parts_of_other_classes().iter().copied().collect();
        Self::new(built, &absent)
    }

    fn of_model(built: &Built, weights: &ExaminedWeights) -> Self {
        let ExaminedWeights {
            checkpoint,
            naming,
            report,
        } = weights;
        let mut dtypes = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            *dtypes.entry(tensor.dtype.to_string()).or_default() += tensor.bytes;
        }
        let files = checkpoint.files().iter().map(|file| file.name.clone());
        Self {
            dtypes,
            bytes: checkpoint.stored_bytes(),
            files: files.collect(),
            files_rule: checkpoint.choice().map(|choice| choice.rule),
            files_left: checkpoint
                .choice()
                .map_or_else(Vec::new, |choice| choice.left.clone()),
            naming: naming.as_ref().map(ToString::to_string),
            coverage: Some(Coverage::new(report)),
            ..Self::new(built, &report.absent_optional)
        }
    }

    /// A model that lacks these optional parts.
    fn new(built: &Built, absent: &BTreeSet<&'static str>) -> Self {
        let spec = &built.spec;
        let stacks = spec.stacks.iter();
        Self {
            model_type: spec.model_type.clone(),
            family: spec.family,
            class: built.instead.as_ref().map(|class| class.run.clone()),
            parameters: spec.parameters(|part| !absent.contains(part)),
            vocab_size: spec.vocab_size,
            length_limit: match spec.input_stack().limit {
                LengthLimit::None => None,
                LengthLimit::Table(limit) | LengthLimit::Trained(limit) => Some(limit),
            },
            stacks: stacks.map(|stack| StackFacts::new(stack, absent)).collect(),
            dtypes: BTreeMap::new(),
            bytes: 0,
            files: Vec::new(),
            files_rule: None,
            files_left: Vec::new(),
            unread: built.unread.clone(),
            idle: built.idle.clone(),
            naming: None,
            coverage: None,
        }
    }

    fn show(&self, path: &Path, json: bool) -> Result<(), Error> {
        if json {
            terminal::print_json(self)
        } else {
            terminal::print(&self.describe(path))
        }
    }

    fn describe(&self, path: &Path) -> String {
        let mut rows = vec![
            ["model".to_owned(), path.display().to_string()],
            [
                "type".to_owned(),
                format!("{} ({} family)", self.model_type, self.family),
            ],
            ["parameters".to_owned(), count(self.parameters)],
            ["vocabulary".to_owned(), count(self.vocab_size as u64)],
        ];
        if let Some(class) = &self.class {
            rows.push(["run as".to_owned(), class.clone()]);
        }
        if let Some(limit) = self.length_limit {
            rows.push([
                "length limit".to_owned(),
                format!("{} tokens", count(limit as u64)),
            ]);
        }
        for stack in &self.stacks {
            let layers = format!("{} layers of {} features", stack.layers, stack.hidden_size);
            rows.push([stack.name.to_owned(), layers]);
            for (mixers, layers) in &stack.mixers {
                rows.push([String::new(), format!("{layers} x {mixers}")]);
            }
            let head = stack
                .head
                .map(|predicts| format!("head predicts the {predicts}"));
            let pooler = stack.pooler.then(|| "pooler".to_owned());
            rows.extend(
                head.into_iter()
                    .chain(pooler)
                    .map(|part| [String::new(), part]),
            );
        }
        if !self.unread.is_empty() {
            rows.push(["unread keys".to_owned(), self.unread.join(", ")]);
        }
        if !self.idle.is_empty() {
            let keys = self.idle.join(", ");
            rows.push([
                "idle keys".to_owned(),
                format!("{keys} (no class of the reference reads them)"),
            ]);
        }
        if let Some(naming) = &self.naming {
            rows.push(["tensor names".to_owned(), naming.clone()]);
        }
        if let Some(coverage) = &self.coverage {
            self.describe_weights(coverage, &mut rows);
        }
        table(&rows)
    }

    fn describe_weights(&self, coverage: &Coverage, rows: &mut Vec<[String; 2]>) {
        let dtypes: Vec<String> = self
            .dtypes
            .iter()
            .map(|(dtype, bytes)| format!("{dtype} {}", human(*bytes)))
            .collect();
        rows.push(["stored".to_owned(), dtypes.join(", ")]);
        let files = match &self.files[..] {
            [one] => one.clone(),
            many => format!("{} files", many.len()),
        };
        let files = match self.files_rule {
            Some(rule) => format!("{files} ({rule})"),
            None => files,
        };
        rows.push(["files".to_owned(), files]);
        if !self.files_left.is_empty() {
            rows.push(["not looked at".to_owned(), self.files_left.join(", ")]);
        }
        rows.push([
            "tensors".to_owned(),
            format!(
                "{} used, {} ignored, {} missing, {} unexpected, {} mismatched",
                coverage.used,
                coverage.ignored.len(),
                coverage.missing.len(),
                coverage.unexpected.len(),
                coverage.mismatched.len()
            ),
        ]);
        for (reason, names) in &coverage.left_out {
            rows.push([
                "left out".to_owned(),
                format!("{reason}: {}", names.join(", ")),
            ]);
        }
        if !coverage.absent.is_empty() {
            let absent: Vec<&str> = coverage.absent.iter().copied().collect();
            rows.push(["not included".to_owned(), absent.join(", ")]);
        }
    }
}

impl StackFacts {
    fn new(stack: &Stack, absent: &BTreeSet<&'static str>) -> Self {
        let mut mixers: BTreeMap<String, usize> = BTreeMap::new();
        for layer in &stack.layers {
            let branches = layer.steps.iter().flat_map(|step| &step.branches);
            let names: Vec<String> = branches
                .map(|branch| branch.mixer.facts().summary())
                .collect();
            *mixers.entry(names.join(" + ")).or_default() += 1;
        }
        let head = &stack.head;
        let there = |weight: sli_spec::WeightIndex| {
            let leaf = head.leaves.get(weight.0 as usize);
            leaf.is_some_and(|leaf| leaf.optional.is_none_or(|part| !absent.contains(part)))
        };
        Self {
            name: stack.name,
            layers: stack.layers.len(),
            hidden_size: stack.hidden_size,
            mixers,
            head: head
                .logits
                .as_ref()
                .filter(|logits| there(logits.projection.weight))
                .map(|logits| match logits.predicts {
                    Predicts::Next => "next token",
                    Predicts::Masked => "masked token",
                }),
            pooler: head
                .pooler
                .as_ref()
                .is_some_and(|pooler| there(pooler.dense.weight)),
        }
    }
}

impl Coverage {
    fn new(report: &CoverageReport) -> Self {
        Self {
            complete: report.is_complete(),
            used: report.used,
            ignored: report
                .ignored
                .iter()
                .map(|tensor| tensor.name.clone())
                .collect(),
            left_out: left_out(report),
            missing: report.missing.iter().map(ToString::to_string).collect(),
            unexpected: report.unexpected.clone(),
            mismatched: report.mismatched.iter().map(ToString::to_string).collect(),
            absent: report.absent_optional.clone(),
        }
    }
}
