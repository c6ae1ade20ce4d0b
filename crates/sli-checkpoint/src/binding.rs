//! A model description bound to a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use sli_spec::{Leaf, ModelSpec};

use crate::checkpoint::Checkpoint;
use crate::coverage::{self, CoverageReport, Missing};
use crate::dtype::Dtype;
use crate::error::{CheckpointError, LeafProblem};
use crate::evaluate::{Evaluator, adds_axis, first_name};
use crate::leaf::ResolvedLeaf;
use crate::view::View;

/// A model whose every weight is in the checkpoint, and a checkpoint whose every tensor is known.
#[derive(Clone, Debug)]
pub struct Binding {
    checkpoint: Arc<Checkpoint>,
    base_prefix: &'static str,
    report: CoverageReport,
}

impl Binding {
    /// Checks a description against a checkpoint, both ways.
    ///
    /// # Errors
    /// [`CheckpointError::Coverage`] with everything that does not fit.
    pub fn new(checkpoint: Arc<Checkpoint>, spec: &ModelSpec) -> Result<Self, CheckpointError> {
        let binding = Self::examine(checkpoint, spec);
        if binding.report.is_complete() {
            return Ok(binding);
        }
        Err(CheckpointError::Coverage {
            place: binding.checkpoint.place(),
            report: Box::new(binding.report),
        })
    }

    /// [`Self::new`] whatever the report says, for showing it.
    pub fn examine(checkpoint: Arc<Checkpoint>, spec: &ModelSpec) -> Self {
        Self::examine_leaves(checkpoint, spec.base_prefix, spec.leaves(), &spec.ignored)
    }

    /// [`Self::examine`] with a description in pieces: the prefix that a bare base model lacks, the
    /// weights, and the patterns of what nothing needs.
    pub fn examine_leaves<'s>(
        checkpoint: Arc<Checkpoint>,
        base_prefix: &'static str,
        leaves: impl IntoIterator<Item = &'s Leaf>,
        ignored: &[&str],
    ) -> Self {
        let report = examine(&checkpoint, base_prefix, leaves.into_iter(), ignored);
        Self {
            checkpoint,
            base_prefix,
            report,
        }
    }

    /// What was found.
    pub fn report(&self) -> &CoverageReport {
        &self.report
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// The stored bytes of a weight. Cheap: nothing is read, no slice but the first is looked at.
    pub fn resolve(&self, leaf: &Leaf) -> Result<ResolvedLeaf, CheckpointError> {
        ResolvedLeaf::new(
            &self.checkpoint,
            self.base_prefix,
            &leaf.source,
            &leaf.shape,
        )
        .map_err(|problem| CheckpointError::Leaf {
            place: self.checkpoint.place(),
            problem,
        })
    }

    /// Whether a weight is there: `false` for those of an optional part that the checkpoint lacks.
    pub fn has(&self, leaf: &Leaf) -> bool {
        leaf.optional
            .is_none_or(|part| !self.report.absent_optional.contains(part))
    }
}

/// What one leaf's tensors are like.
#[derive(Default)]
struct LeafFindings {
    /// Alternatives of a missing tensor, one entry a tensor.
    missing: Vec<Vec<String>>,
    problems: Vec<LeafProblem>,
    /// Some tensor of it is there.
    present: bool,
}

fn examine<'s>(
    checkpoint: &Checkpoint,
    base_prefix: &str,
    leaves: impl Iterator<Item = &'s Leaf>,
    ignored: &[&str],
) -> CoverageReport {
    let evaluator = Evaluator {
        checkpoint,
        base_prefix,
    };
    let mut report = CoverageReport::default();
    let mut used = vec![false; checkpoint.tensors().len()];
    let mut parts: BTreeMap<&'static str, Vec<LeafFindings>> = BTreeMap::new();
    for leaf in leaves {
        let findings = examine_leaf(evaluator, leaf, &mut used);
        match leaf.optional {
            Some(part) => parts.entry(part).or_default().push(findings),
            None => report.add(findings, None),
        }
    }
    for (part, leaves) in parts {
        if leaves.iter().any(|leaf| leaf.present) {
            for findings in leaves {
                report.add(findings, Some(part));
            }
        } else {
            report.absent_optional.insert(part);
        }
    }
    let ignored = ignored_patterns(checkpoint, base_prefix, ignored);
    for (tensor, used) in checkpoint.tensors().zip(used) {
        if used {
            report.used += 1;
        } else if ignored
            .iter()
            .any(|pattern| coverage::matches(pattern, &tensor.name))
        {
            report.ignored.push(tensor.name.to_string());
        } else {
            report.unexpected.push(tensor.name.to_string());
        }
    }
    report
}

impl CoverageReport {
    fn add(&mut self, findings: LeafFindings, part: Option<&'static str>) {
        self.missing.extend(
            findings
                .missing
                .into_iter()
                .map(|names| Missing { names, part }),
        );
        self.mismatched.extend(findings.problems);
    }
}

/// Patterns of what nothing needs, without the base prefix where the checkpoint lacks it.
fn ignored_patterns<'p>(
    checkpoint: &Checkpoint,
    base_prefix: &str,
    ignored: &[&'p str],
) -> Vec<&'p str> {
    let bare = !checkpoint
        .tensors()
        .any(|tensor| tensor.name.starts_with(base_prefix));
    let strip = |pattern: &&'p str| pattern.strip_prefix(base_prefix).filter(|_| bare);
    ignored
        .iter()
        .copied()
        .chain(ignored.iter().filter_map(strip))
        .collect()
}

fn examine_leaf(evaluator: Evaluator<'_>, leaf: &Leaf, used: &mut [bool]) -> LeafFindings {
    let mut findings = LeafFindings::default();
    let slices = if adds_axis(&leaf.source) {
        slices_of(leaf)
    } else {
        1
    };
    // A count from a configuration: every slice takes a tensor, so more than there are is wrong.
    if slices > 1 && slices > evaluator.checkpoint.tensors().len() {
        findings.missing.push(vec![format!(
            "{} ({slices} tensors)",
            first_name(&leaf.source)
        )]);
        return findings;
    }
    let mut first: Option<View> = None;
    for slice in 0..slices.max(1) {
        let view = match &first {
            Some(first) => evaluator.leaf_as(&leaf.source, &leaf.shape, first.core, slice),
            None => evaluator.leaf(&leaf.source, &leaf.shape, slice),
        };
        match view {
            Ok(view) => {
                findings.present = true;
                for &tensor in &view.tensors {
                    if let Some(used) = used.get_mut(tensor as usize) {
                        *used = true;
                    }
                }
                findings
                    .problems
                    .extend(dtype_problem(evaluator, leaf, &view, first.as_ref()));
                first.get_or_insert(view);
            }
            Err(LeafProblem::Missing { names, partly }) => {
                findings.present |= partly;
                if partly {
                    findings
                        .missing
                        .extend(names.into_iter().map(|name| vec![name]));
                } else {
                    findings.missing.push(names);
                }
            }
            Err(problem) => {
                findings.present = true;
                mark_named(evaluator, leaf, slice, used);
                findings.problems.push(problem);
            }
        }
    }
    findings
}

/// The tensors of a weight that does not fit are named in its problem; they are not unexpected too.
fn mark_named(evaluator: Evaluator<'_>, leaf: &Leaf, slice: usize, used: &mut [bool]) {
    for name in leaf.source.names() {
        let name = name.replace("{}", &slice.to_string());
        if let Some(used) = evaluator.lookup(&name).and_then(|at| used.get_mut(at)) {
            *used = true;
        }
    }
}

/// Slices of a stacked weight: its experts.
fn slices_of(leaf: &Leaf) -> usize {
    let own = if leaf.shape.len() > 2 { 2 } else { 1 };
    let leading = leaf.shape.len().saturating_sub(own);
    leaf.shape
        .iter()
        .take(leading)
        .fold(1, |product, &n| product.saturating_mul(n))
}

fn dtype_problem(
    evaluator: Evaluator<'_>,
    leaf: &Leaf,
    view: &View,
    first: Option<&View>,
) -> Option<LeafProblem> {
    let problem = |found: Dtype, wanted: String| {
        let name = evaluator.view_name(view, &leaf.source);
        Some(LeafProblem::Dtype {
            name,
            found,
            wanted,
        })
    };
    if !view.dtype.is_plain_float() {
        return problem(view.dtype, "F64, F32, F16 or BF16".to_owned());
    }
    match first {
        Some(first) if first.dtype != view.dtype => problem(
            view.dtype,
            format!("{}, as the tensors stacked with it", first.dtype),
        ),
        _ => None,
    }
}
