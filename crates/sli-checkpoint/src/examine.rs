//! Looking for every weight of a model in a checkpoint, from headers alone: what is found is bound, what is not
//! comes into one report.

use std::collections::BTreeMap;
use std::sync::Arc;

use sli_spec::{CLASSIFIER, Leaf};

use crate::checkpoint::Checkpoint;
use crate::coverage::{self, CoverageReport, Ignored, Missing};
use crate::dtype::Dtype;
use crate::evaluate::{Evaluator, adds_axis, first_name};
use crate::leaf::BoundLeaf;
use crate::leftover;
use crate::problem::LeafProblem;
use crate::suggest::{Status, suggest};
use crate::view::{Slices, View};

/// Patterns of tensors that may be there though no weight uses them.
pub(crate) struct Unneeded<'a> {
    /// Known of the family.
    pub ignored: &'a [&'a str],
    /// Allowed by the user.
    pub allowed: &'a [String],
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
    /// The weight, where nothing is wrong with it.
    bound: Option<BoundLeaf>,
}

/// Looks for every leaf; the bound ones come in the order of the leaves.
pub(crate) fn examine<'s>(
    checkpoint: &Arc<Checkpoint>,
    base_prefix: &str,
    leaves: impl Iterator<Item = &'s Leaf>,
    unneeded: &Unneeded<'_>,
) -> (CoverageReport, Vec<Option<BoundLeaf>>) {
    let evaluator = Evaluator {
        checkpoint,
        base_prefix,
    };
    let mut report = CoverageReport::default();
    let mut bound = Vec::new();
    let mut used = vec![false; checkpoint.tensors().len()];
    let mut parts: BTreeMap<&'static str, Vec<(usize, &Leaf)>> = BTreeMap::new();
    for (at, leaf) in leaves.enumerate() {
        bound.push(None);
        match leaf.optional {
            Some(part) => parts.entry(part).or_default().push((at, leaf)),
            None => {
                let findings = examine_leaf(checkpoint, evaluator, leaf, &mut used);
                bound[at] = report.add(findings, None);
            }
        }
    }
    for (part, leaves) in parts {
        let mut used_so = used.clone();
        let examined = leaves.iter();
        let examined: Vec<LeafFindings> = examined
            .map(|(_, leaf)| examine_leaf(checkpoint, evaluator, leaf, &mut used_so))
            .collect();
        let lacks = examined.iter().any(|leaf| !leaf.missing.is_empty());
        let is_absent = if part == CLASSIFIER {
            // What does not fit is the head of something else, which nothing needs.
            lacks || examined.iter().any(|leaf| !leaf.problems.is_empty())
        } else {
            lacks && !examined.iter().any(|leaf| leaf.present)
        };
        if is_absent {
            report.absent_optional.insert(part);
        } else {
            used = used_so;
        }
        for (findings, (at, _)) in examined.into_iter().zip(leaves) {
            bound[at] = if is_absent {
                findings.bound
            } else {
                report.add(findings, Some(part))
            };
        }
    }
    report.judge_the_rest(checkpoint, base_prefix, &used, unneeded);
    (report, bound)
}

/// Binds one leaf.
pub(crate) fn examine_alone(
    checkpoint: &Arc<Checkpoint>,
    base_prefix: &str,
    leaf: &Leaf,
) -> Result<BoundLeaf, LeafProblem> {
    let evaluator = Evaluator {
        checkpoint,
        base_prefix,
    };
    let mut used = vec![false; checkpoint.tensors().len()];
    let findings = examine_leaf(checkpoint, evaluator, leaf, &mut used);
    if let Some(bound) = findings.bound {
        return Ok(bound);
    }
    let missing = LeafProblem::Missing {
        names: findings.missing.into_iter().flatten().collect(),
        partly: findings.present,
    };
    Err(findings.problems.into_iter().next().unwrap_or(missing))
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
        let owners = checkpoint.owners();
        for (at, (tensor, &used)) in checkpoint.tensors().zip(used).enumerate() {
            let name = &*tensor.name;
            let stored = checkpoint.stored_name(at);
            let allowed = |pattern: &String| fits(pattern, name) || fits(pattern, stored);
            // What a coded tensor that nothing needs has beside it is not needed either.
            let owner = owners.get(&(at as u32));
            let owner = owner.and_then(|&owner| checkpoint.tensor_at(owner as usize));
            let owner = owner.map_or(name, |owner| &owner.name);
            let reason = if used {
                self.used += 1;
                statuses.push(Status::Used);
                continue;
            } else if of_family
                .iter()
                .any(|pattern| fits(pattern, name) || fits(pattern, owner))
            {
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

    fn add(&mut self, findings: LeafFindings, part: Option<&'static str>) -> Option<BoundLeaf> {
        self.missing.extend(
            findings
                .missing
                .into_iter()
                .map(|names| Missing { names, part }),
        );
        self.mismatched.extend(findings.problems);
        findings.bound
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
    let all = ignored.iter().copied();
    all.chain(ignored.iter().filter_map(strip))
        .filter(|pattern| whole_layer(pattern).is_none_or(|layer| predicts(checkpoint, layer)))
        .collect()
}

/// The layer that a pattern is all of: `layers.61` of `model.layers.61.*`.
fn whole_layer(pattern: &str) -> Option<&str> {
    let inner = pattern.trim_matches(['*', '.']);
    let layer = &inner[inner.rfind("layers.")?..];
    let number = layer.strip_prefix("layers.")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(layer)
}

/// Whether a layer behind the last one is for the prediction of several tokens: it joins two states. A plain one
/// more than the configuration says is none.
fn predicts(checkpoint: &Checkpoint, layer: &str) -> bool {
    ["eh_proj", "enorm", "hnorm"].into_iter().all(|name| {
        let tensor = format!("{layer}.{name}.weight");
        let mut names = checkpoint.tensors().map(|tensor| &*tensor.name);
        names.any(|name| {
            name.strip_suffix(&*tensor)
                .is_some_and(|front| front.is_empty() || front.ends_with('.'))
        })
    })
}

fn examine_leaf(
    checkpoint: &Arc<Checkpoint>,
    evaluator: Evaluator<'_>,
    leaf: &Leaf,
    used: &mut [bool],
) -> LeafFindings {
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
    let mut found: Option<Slices> = None;
    for slice in 0..slices.max(1) {
        let view = match &found {
            Some(Slices { first, .. }) => {
                evaluator.leaf_as(&leaf.source, &leaf.shape, first.core, slice)
            }
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
                let first = found.as_ref().map(|found| &found.first);
                findings
                    .problems
                    .extend(problem_of(evaluator, leaf, &view, first));
                match &mut found {
                    Some(found) => found.others.push(view.tiles.into()),
                    None => {
                        let others = Vec::with_capacity(slices.saturating_sub(1));
                        let first = view;
                        found = Some(Slices { first, others });
                    }
                }
            }
            Err(LeafProblem::Missing { names, partly }) => {
                findings.present |= partly;
                if partly {
                    mark_named(evaluator, leaf, slice, used);
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
    if findings.problems.is_empty()
        && findings.missing.is_empty()
        && let Some(found) = found
    {
        let prefix = evaluator.base_prefix;
        findings.bound = BoundLeaf::new(checkpoint, prefix, &leaf.source, found);
    }
    findings
}

/// The tensors of a weight that does not fit are named in its problem; they are not unexpected too.
fn mark_named(evaluator: Evaluator<'_>, leaf: &Leaf, slice: usize, used: &mut [bool]) {
    for name in leaf.source.names() {
        let name = name.replace("{}", &slice.to_string());
        let Some(at) = evaluator.lookup(&name) else {
            continue;
        };
        if let Some(used) = used.get_mut(at) {
            *used = true;
        }
        if let Some(Err(_)) = evaluator.checkpoint.coded(at) {
            // What stands beside it would decode it.
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            let beside = |other: &str| {
                let within = |front: &str| other.strip_prefix(front)?.strip_prefix('.');
                within(module).is_some_and(|rest| !rest.contains('.')) || within(&name).is_some()
            };
            let tensors = evaluator.checkpoint.tensors().zip(&mut *used);
            let parts = tensors.filter(|(tensor, _)| !module.is_empty() && beside(&tensor.name));
            parts.for_each(|(_, used)| *used = true);
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

/// What is wrong with a slice that is there.
fn problem_of(
    evaluator: Evaluator<'_>,
    leaf: &Leaf,
    view: &View,
    first: Option<&View>,
) -> Option<LeafProblem> {
    let name = || evaluator.view_name(view, &leaf.source);
    let problem = |found: Dtype, wanted: String| {
        Some(LeafProblem::Dtype {
            name: name(),
            found,
            wanted,
        })
    };
    if !view.coded && view.dtype.float().is_none() {
        return problem(view.dtype, "F64, F32, F16 or BF16".to_owned());
    }
    if view.elementwise.is_some() && leaf.shape.len() > 1 {
        return Some(LeafProblem::Description {
            name: name(),
            reason: "a function of the numbers of a matrix, whose bytes are used as they are"
                .to_owned(),
        });
    }
    match first {
        Some(first) if (first.dtype, first.coded) != (view.dtype, view.coded) => problem(
            view.dtype,
            format!("{}, as the tensors stacked with it", first.dtype),
        ),
        Some(first) if first.elementwise != view.elementwise => Some(LeafProblem::Description {
            name: name(),
            reason: "a function of some slices only".to_owned(),
        }),
        _ => None,
    }
}
