//! A model description bound to a checkpoint.

use std::sync::Arc;

use sli_spec::{Built, Leaf, ModelSpec};

use crate::checkpoint::Checkpoint;
use crate::coverage::CoverageReport;
use crate::error::CheckpointError;
use crate::examine::{Unneeded, examine, examine_alone};
use crate::leaf::BoundLeaf;
use crate::ties::{self, HeadOrigin};

/// A model whose every weight is in the checkpoint, and a checkpoint whose every tensor is known. Every weight is
/// bound to its tensors once, here; nobody looks for a name later.
#[derive(Clone, Debug)]
pub struct Binding {
    report: CoverageReport,
    head: HeadOrigin,
    stacks: Vec<BoundStack>,
}

/// The weights of a stack, in the order of its leaves; `None` where an optional part is not there.
#[derive(Clone, Debug, Default)]
pub struct BoundStack {
    /// In front of the first layer.
    pub input: Vec<Option<BoundLeaf>>,
    /// Of every layer.
    pub layers: Vec<Vec<Option<BoundLeaf>>>,
    /// Of the head.
    pub head: Vec<Option<BoundLeaf>>,
}

impl Binding {
    /// Binds a description to a checkpoint and checks them against each other, both ways. The description
    /// becomes one of the head that is stored, where it ties the head to the token table. Tensors of which
    /// nothing is known may be there where one of the patterns `allowed` fits.
    ///
    /// # Errors
    /// [`CheckpointError::Coverage`] with everything that does not fit.
    pub fn new(
        checkpoint: &Arc<Checkpoint>,
        built: &mut Built,
        allowed: &[String],
    ) -> Result<Self, CheckpointError> {
        let (binding, report) = Self::found(checkpoint, built, allowed)?;
        if report.is_complete() {
            return Ok(Self { report, ..binding });
        }
        Err(CheckpointError::Coverage {
            place: checkpoint.place(),
            report: Box::new(report),
        })
    }

    /// The report of [`Self::new`], whatever it says.
    pub fn examine(
        checkpoint: &Arc<Checkpoint>,
        built: &mut Built,
        allowed: &[String],
    ) -> Result<CoverageReport, CheckpointError> {
        let (_, report) = Self::found(checkpoint, built, allowed)?;
        Ok(report)
    }

    fn found(
        checkpoint: &Arc<Checkpoint>,
        built: &mut Built,
        allowed: &[String],
    ) -> Result<(Self, CoverageReport), CheckpointError> {
        ties::find_head(built, checkpoint);
        let head = ties::settle_head(built, checkpoint)?;
        let spec = &built.spec;
        let unneeded = Unneeded {
            ignored: &spec.ignored,
            allowed,
        };
        let (report, bound) = examine(checkpoint, spec.base_prefix, spec.leaves(), &unneeded);
        let binding = Self {
            report: CoverageReport::default(),
            head,
            stacks: by_stack(spec, bound),
        };
        Ok((binding, report))
    }

    /// What was found.
    pub fn report(&self) -> &CoverageReport {
        &self.report
    }

    /// Whose head the model has.
    pub fn head(&self) -> HeadOrigin {
        self.head
    }

    /// The weights of a stack of the description.
    pub fn stack(&self, index: usize) -> &BoundStack {
        &self.stacks[index]
    }

    /// Whether a weight is there: `false` for those of an optional part that the checkpoint lacks.
    pub fn has(&self, leaf: &Leaf) -> bool {
        leaf.optional
            .is_none_or(|part| !self.report.absent_optional.contains(part))
    }
}

/// Bound leaves in the order of [`ModelSpec::leaves`], by where they belong.
fn by_stack(spec: &ModelSpec, bound: Vec<Option<BoundLeaf>>) -> Vec<BoundStack> {
    let mut bound = bound.into_iter();
    let mut next = |leaves: &[Leaf]| bound.by_ref().take(leaves.len()).collect();
    let stacks = spec.stacks.iter().map(|stack| BoundStack {
        input: next(stack.input.leaves()),
        layers: (stack.layers.iter())
            .map(|layer| next(&layer.leaves))
            .collect(),
        head: next(&stack.head.leaves),
    });
    stacks.collect()
}

impl CoverageReport {
    /// The report of some weights: `base_prefix` is what a bare base model lacks, the patterns `ignored` fit
    /// what nothing needs.
    pub fn of<'s>(
        checkpoint: &Arc<Checkpoint>,
        base_prefix: &str,
        leaves: impl IntoIterator<Item = &'s Leaf>,
        ignored: &[&str],
    ) -> Self {
        let allowed = &[];
        let unneeded = Unneeded { ignored, allowed };
        examine(checkpoint, base_prefix, leaves.into_iter(), &unneeded).0
    }
}

impl BoundLeaf {
    /// Binds a weight by itself.
    pub fn bind(
        checkpoint: &Arc<Checkpoint>,
        base_prefix: &str,
        leaf: &Leaf,
    ) -> Result<Self, CheckpointError> {
        examine_alone(checkpoint, base_prefix, leaf).map_err(|problem| CheckpointError::Leaf {
            place: checkpoint.place(),
            problem,
        })
    }
}
