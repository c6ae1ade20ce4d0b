//! What the table of architectures says about a type, read off the description of the
//! configuration that its class has by default.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::registry::ModelType;
use crate::{
    Config, Leaf, LengthLimit, Mechanism, ModelSpec, NormKind, PooledEnd, PositionTable, Source,
    SpecError, Stack, Step, WeightIndex, Write,
};

/// Facts about one supported type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The family that describes it.
    pub family: &'static str,
    /// Its classes that are supported.
    pub classes: Vec<String>,
    /// Stacks, in order of execution.
    pub stacks: Vec<&'static str>,
    /// Kinds of mixers.
    pub mixers: BTreeSet<String>,
    /// How positions enter.
    pub positions: BTreeSet<&'static str>,
    /// Kinds of norms, and where they stand.
    pub norms: BTreeSet<String>,
    /// How tokens choose experts, where there are any.
    pub mixture_of_experts: Option<&'static str>,
    /// Prefix of a layer's tensors, `{}` for its number.
    pub layer_prefix: String,
    /// The token table's tensor.
    pub embedding: String,
    /// The projection to logits.
    pub head: Option<String>,
    /// The code whose outputs its goldens hold.
    pub verified_against: &'static str,
    /// What a model of this type cannot do here, or at all.
    pub limits: Vec<String>,
}

impl Facts {
    /// Describes the type's default configuration.
    pub fn of(row: &ModelType) -> Result<Self, SpecError> {
        let config = Config::of_defaults(row.model_type);
        let spec = (row.describe)(&config)?.spec;
        let classes = config.row()?.classes.keys().cloned().collect();
        let verified_against = if crate::defaults::is_remote(row.model_type) {
            "the code published beside the weights"
        } else {
            "transformers 5.23.0"
        };
        Ok(Self::of_spec(&spec, classes, verified_against, row.limit))
    }

    fn of_spec(
        spec: &ModelSpec,
        classes: Vec<String>,
        verified_against: &'static str,
        limit: Option<&'static str>,
    ) -> Self {
        let output = last_layers(spec);
        let mechanisms = spec.stacks.iter().flat_map(Stack::mechanisms);
        Self {
            model_type: spec.model_type.clone(),
            family: spec.family,
            classes,
            stacks: spec.stacks.iter().map(|stack| stack.name).collect(),
            mixers: mechanisms.clone().map(Mechanism::label).collect(),
            positions: spec
                .stacks
                .iter()
                .filter_map(table_name)
                .chain(mechanisms.clone().flat_map(Mechanism::positions))
                .collect(),
            norms: spec.stacks.iter().flat_map(norm_names).collect(),
            mixture_of_experts: mechanisms
                .filter_map(Mechanism::routing)
                .map(|routing| routing.router.label())
                .next(),
            layer_prefix: output.layers.first().map_or_else(String::new, |layer| {
                // The number is the last one of the prefix.
                let head = layer.prefix.strip_suffix("0.").unwrap_or(&layer.prefix);
                format!("{head}{{}}.")
            }),
            embedding: output
                .input
                .embedding()
                .and_then(|embedding| Some(tensor_name(&embedding.leaves, embedding.tokens?)))
                .unwrap_or_default(),
            head: output
                .head
                .logits
                .as_ref()
                .map(|logits| tensor_name(&output.head.leaves, logits.projection.weight)),
            verified_against,
            limits: limits(spec, limit),
        }
    }
}

/// The last stack with layers, but what pools the others.
fn last_layers(spec: &ModelSpec) -> &Stack {
    let pooled = usize::from(spec.pooled_end != PooledEnd::No);
    let stacks = spec.stacks.len().saturating_sub(pooled);
    let mut last_first = spec.stacks[..stacks].iter().rev();
    let found = last_first.find(|stack| !stack.layers.is_empty());
    found.unwrap_or_else(|| spec.output_stack())
}

fn limits(spec: &ModelSpec, own: Option<&str>) -> Vec<String> {
    let length = match spec.input_stack().limit {
        LengthLimit::Table(_) => Some("no record is longer than the table of positions".to_owned()),
        LengthLimit::Trained(_) | LengthLimit::None => None,
    };
    length.into_iter().chain(own.map(str::to_owned)).collect()
}

fn tensor_name(leaves: &[Leaf], index: WeightIndex) -> String {
    let source = leaves.get(index.0 as usize).map(|leaf| &leaf.source);
    source
        .and_then(|source: &Source| source.names().first().map(|&name| name.to_owned()))
        .unwrap_or_default()
}

fn table_name(stack: &Stack) -> Option<&'static str> {
    Some(match stack.input.positions()? {
        PositionTable::Learned { .. } => "learned table",
        PositionTable::Stretched { .. } => "learned table, stretched over a record",
        PositionTable::Sinusoidal(_) => "sinusoidal table",
    })
}

fn norm_names(stack: &Stack) -> BTreeSet<String> {
    let steps = stack.layers.iter().flat_map(|layer| &layer.steps);
    steps.flat_map(step_norms).collect()
}

fn step_norms(step: &Step) -> Vec<String> {
    let kind = |kind| match kind {
        NormKind::Rms => "RMS",
        NormKind::Layer => "layer",
        NormKind::L2 => "L2",
        NormKind::RmsOfScaled => "RMS (of what is scaled)",
        NormKind::AtMost(_) => "length",
        NormKind::Affine => "no (factor and addend)",
        NormKind::Shifted => "no (addend and factor)",
    };
    let mut names = Vec::new();
    let mut add = |norm: Option<&crate::Norm>, place: &str| {
        names.extend(norm.map(|norm| format!("{} norm, {place}", kind(norm.kind))));
    };
    add(step.pre.as_ref(), "before the sublayer");
    add(step.post.as_ref(), "after the sublayer");
    if let Write::AddNorm(norm, _) = &step.write {
        add(Some(norm), "after the residual sum");
    }
    for branch in &step.branches {
        add(branch.pre.as_ref(), "before the sublayer");
        add(branch.post.as_ref(), "after the sublayer");
        for (norm, of) in branch.mixer.facts().norms() {
            add(Some(norm), of);
        }
    }
    names
}
