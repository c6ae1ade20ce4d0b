//! What a model is made of, and whether its checkpoint is complete.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sli_checkpoint::CoverageReport;
use sli_engine::{Examination, ExaminedWeights, examine, left_out};
use sli_remote::Keep;
use sli_spec::{Built, LengthLimit, Predicts, Stack};

use crate::cli::InspectArgs;
use crate::error::Error;
use crate::host::Host;
use crate::place::NamedModel;

/// What is known about a model before any weight is read.
#[derive(Serialize)]
pub struct Inspection {
    /// `model_type`.
    pub model_type: String,
    /// Its family.
    pub family: &'static str,
    /// The class that is run instead of the one that config.json names; `null` where it is that one.
    pub class: Option<String>,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Tokens of its vocabulary.
    pub vocab_size: usize,
    /// Longest record in tokens, `null` without a limit.
    pub length_limit: Option<usize>,
    /// Its stacks.
    pub stacks: Vec<StackFacts>,
    /// Bytes of tensors by element type.
    pub dtypes: BTreeMap<String, u64>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The files of its weights.
    pub files: Vec<String>,
    /// Why these files of the folder are its weights; `null` where a file was named.
    pub files_rule: Option<&'static str>,
    /// Weights that the folder has in another way too, which are not looked at.
    pub files_left: Vec<String>,
    /// Keys of config.json that were allowed to go unread.
    pub unread: Vec<String>,
    /// Keys of config.json that no class of the reference reads.
    pub idle: Vec<String>,
    /// How the names in the files became those of the model; `null` where they are the same.
    pub naming: Option<String>,
    /// `null`: there are no weights.
    pub coverage: Option<Coverage>,
}

/// A stack of layers.
#[derive(Serialize)]
pub struct StackFacts {
    /// Its name.
    pub name: &'static str,
    /// Number of its layers.
    pub layers: usize,
    /// Features of a row.
    pub hidden_size: usize,
    /// Number of layers by what is in them.
    pub mixers: BTreeMap<String, usize>,
    /// `next token`, `masked token` or `null`.
    pub head: Option<&'static str>,
    /// It has a pooling layer.
    pub pooler: bool,
}

/// How the tensors of the checkpoint and the weights of the model meet.
#[derive(Serialize)]
pub struct Coverage {
    /// Nothing is missing, unexpected or mismatched.
    pub complete: bool,
    /// Number of tensors that are read.
    pub used: usize,
    /// Tensors that nothing needs.
    pub ignored: Vec<String>,
    /// The ignored ones by the reason why nothing needs them, numbers of layers as `*`.
    pub left_out: BTreeMap<&'static str, Vec<String>>,
    /// Weights without a tensor.
    pub missing: Vec<String>,
    /// Tensors of unknown use.
    pub unexpected: Vec<String>,
    /// Tensors of another shape or type.
    pub mismatched: Vec<String>,
    /// Optional parts of the model that the checkpoint lacks.
    pub absent: BTreeSet<&'static str>,
}

/// A model that was looked at.
pub struct Inspected {
    /// What there is to know.
    pub inspection: Inspection,
    examination: Examination,
}

impl Inspected {
    /// Refuses an incomplete checkpoint.
    pub fn complete(self) -> Result<(), Error> {
        Ok(self.examination.complete()?)
    }
}

/// Looks at a model; an incomplete checkpoint is no error yet. A configuration without weights is shown as far as it
/// tells.
pub fn inspect(arguments: &InspectArgs, host: &dyn Host) -> Result<Inspected, Error> {
    let options = arguments.open.options();
    let named = NamedModel::find(&arguments.model, Keep::Everything, host)?;
    let examination = examine(&named.place, &options, host)?;
    let built = &examination.built;
    let inspection = match &examination.weights {
        None => Inspection::of_configuration(built),
        Some(weights) => Inspection::of_model(built, weights),
    };
    Ok(Inspected {
        inspection,
        examination,
    })
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
