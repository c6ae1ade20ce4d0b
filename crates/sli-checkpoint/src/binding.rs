//! A model description bound to a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use sli_spec::{Leaf, ModelSpec};

use crate::checkpoint::Checkpoint;
use crate::coverage::{self, CoverageReport, Ignored, Missing};
use crate::dtype::Dtype;
use crate::error::{CheckpointError, LeafProblem};
use crate::evaluate::{Evaluator, adds_axis, first_name};
use crate::leaf::ResolvedLeaf;
use crate::leftover;
use crate::suggest::{Status, suggest};
use crate::view::View;

/// A model whose every weight is in the checkpoint, and a checkpoint whose every tensor is known.
#[derive(Clone, Debug)]
pub struct Binding {
    checkpoint: Arc<Checkpoint>,
    base_prefix: &'static str,
    report: CoverageReport,
}

impl Binding {
    /// Checks a description against a checkpoint, both ways. Tensors of which nothing is known may be
    /// there where one of the patterns `allowed` fits.
    ///
    /// # Errors
    /// [`CheckpointError::Coverage`] with everything that does not fit.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        spec: &ModelSpec,
        allowed: &[String],
    ) -> Result<Self, CheckpointError> {
        let binding = Self::examine(checkpoint, spec, allowed);
        if binding.report.is_complete() {
            return Ok(binding);
        }
        Err(CheckpointError::Coverage {
            place: binding.checkpoint.place(),
            report: Box::new(binding.report),
        })
    }

    /// [`Self::new`] whatever the report says, for showing it.
    pub fn examine(checkpoint: Arc<Checkpoint>, spec: &ModelSpec, allowed: &[String]) -> Self {
        let report = examine(
            &checkpoint,
            spec.base_prefix,
            spec.leaves(),
            &Unneeded {
                ignored: &spec.ignored,
                allowed,
            },
        );
        Self {
            checkpoint,
            base_prefix: spec.base_prefix,
            report,
        }
    }

    /// [`Self::examine`] with a description in pieces: the prefix that a bare base model lacks, the
    /// weights, and the patterns of what nothing needs.
    pub fn examine_leaves<'s>(
        checkpoint: Arc<Checkpoint>,
        base_prefix: &'static str,
        leaves: impl IntoIterator<Item = &'s Leaf>,
        ignored: &[&str],
    ) -> Self {
        let unneeded = Unneeded {
            ignored,
            allowed: &[],
        };
        let report = examine(&checkpoint, base_prefix, leaves.into_iter(), &unneeded);
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

/// Patterns of tensors that may be there though no weight uses them.
struct Unneeded<'a> {
    /// Known of the family.
    ignored: &'a [&'a str],
    /// Allowed by the user.
    allowed: &'a [String],
}

/// What one leaf's tensors are like.
#[derive(Default)]
struct LeafFindings {
    /// Alternatives of a missing tensor, one entry a tensor.
    missing: Vec<Vec<String>>,
    problems: Vec<LeafProblem>,
    /// Some tensor of it is there that no weight before it uses: a head that is tied to the token
    /// table is not there because the table is.
    present: bool,
}

fn examine<'s>(
    checkpoint: &Checkpoint,
    base_prefix: &str,
    leaves: impl Iterator<Item = &'s Leaf>,
    unneeded: &Unneeded<'_>,
) -> CoverageReport {
    let evaluator = Evaluator {
        checkpoint,
        base_prefix,
    };
    let mut report = CoverageReport::default();
    let mut used = vec![false; checkpoint.tensors().len()];
    let mut parts: BTreeMap<&'static str, Vec<&Leaf>> = BTreeMap::new();
    for leaf in leaves {
        match leaf.optional {
            Some(part) => parts.entry(part).or_default().push(leaf),
            None => report.add(examine_leaf(evaluator, leaf, &mut used), None),
        }
    }
    for (part, leaves) in parts {
        let examined = leaves.iter();
        let examined: Vec<LeafFindings> = examined
            .map(|leaf| examine_leaf(evaluator, leaf, &mut used))
            .collect();
        let lacks = examined.iter().any(|leaf| !leaf.missing.is_empty());
        if lacks && !examined.iter().any(|leaf| leaf.present) {
            report.absent_optional.insert(part);
            continue;
        }
        for findings in examined {
            report.add(findings, Some(part));
        }
    }
    report.judge_the_rest(checkpoint, base_prefix, &used, unneeded);
    report
}

impl CoverageReport {
    /// Sorts the tensors that no weight uses into those that nothing needs and the unexpected ones.
    fn judge_the_rest(
        &mut self,
        checkpoint: &Checkpoint,
        base_prefix: &str,
        used: &[bool],
        unneeded: &Unneeded<'_>,
    ) {
        let of_family = ignored_patterns(checkpoint, base_prefix, unneeded.ignored);
        let fits = |pattern: &str, name: &str| coverage::matches(pattern, name);
        let mut statuses = Vec::with_capacity(used.len());
        for (at, (tensor, &used)) in checkpoint.tensors().zip(used).enumerate() {
            let name = &*tensor.name;
            let stored = checkpoint.stored_name(at);
            let allowed = |pattern: &String| fits(pattern, name) || fits(pattern, stored);
            let reason = if used {
                self.used += 1;
                statuses.push(Status::Used);
                continue;
            } else if of_family.iter().any(|pattern| fits(pattern, name)) {
                leftover::reason(tensor).or(Some(coverage::OF_FAMILY))
            } else if let Some(reason) = leftover::reason(tensor) {
                Some(reason)
            } else if unneeded.allowed.iter().any(allowed) {
                Some(coverage::ALLOWED)
            } else {
                None
            };
            let name = name.to_owned();
            match reason {
                Some(reason) => self.ignored.push(Ignored {
                    name,
                    stored_name: stored.to_owned(),
                    reason,
                }),
                None => self.unexpected.push(name),
            }
            statuses.push(reason.map_or(Status::Unexpected, |_| Status::Ignored));
        }
        if !self.unexpected.is_empty() {
            let names = checkpoint.tensors().map(|tensor| &*tensor.name);
            self.suggested = suggest(&names.zip(statuses).collect::<Vec<_>>());
        }
    }

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
                for &tensor in &view.tensors {
                    if let Some(used) = used.get_mut(tensor as usize) {
                        findings.present |= !*used;
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
