//! One residual step on the rows of one chunk.

use sli_kernels::{Mat, MatRef};
use sli_spec::{Branch, Gain, KeySelection, Mixer, Slot, Step, Write};

use super::{Kept, Layer, Rows, Scratch, Slots, values};
use crate::error::EngineError;
use crate::mixers;

/// Where in a layer a branch's output is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Site {
    Hidden,
    Attention,
    Mlp,
}

impl Site {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Hidden, Self::Attention, Self::Mlp];

    /// The name in `profile.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Attention => "attention",
            Self::Mlp => "mlp",
        }
    }
}

/// The site of a mixer's output, where it is one that is looked at.
pub(crate) fn site(mixer: &Mixer) -> Option<Site> {
    match mixer {
        Mixer::Attention(_) | Mixer::LatentAttention(_) | Mixer::MixtureOfAttention(_) => {
            Some(Site::Attention)
        }
        Mixer::FeedForward(_) | Mixer::SparseFeedForward(_) | Mixer::MixtureOfExperts(_) => {
            Some(Site::Mlp)
        }
        Mixer::LowRank(_)
        | Mixer::LayerInput(_)
        | Mixer::Streams(_)
        | Mixer::Linear(_)
        | Mixer::Identity => None,
    }
}

/// How many outputs some steps show: one a branch that has a site, or one of all branches of a step that
/// are looked at as one.
pub(crate) fn outputs_shown(steps: &[Step]) -> usize {
    let shown = |step: &Step| match common_site(&step.branches) {
        Some(_) => 1,
        None => {
            let branches = step.branches.iter();
            branches
                .filter(|branch| site(&branch.mixer).is_some())
                .count()
        }
    };
    steps.iter().map(shown).sum()
}

/// Is shown what the interpreter computes on the way.
pub(crate) trait Probe {
    /// The output of a branch `[rows, hidden]`, as it enters the residual sum.
    fn branch(&mut self, site: Site, rows: Rows<'_>, output: MatRef<'_>);
    /// The feed-forward experts that the rows chose, which are all of the batch: `top_k` ids and weights a row, of
    /// `count` in the layer.
    fn routed(
        &mut self,
        rows: Rows<'_>,
        top_k: usize,
        count: usize,
        experts: &[u32],
        weights: &[f32],
    );
}

impl Layer<'_> {
    /// Runs `step` on the rows of a chunk.
    pub fn step(
        &self,
        step: &Step,
        rows: Rows<'_>,
        slots: &mut Slots,
        scratch: &mut Scratch,
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        if let [
            Branch {
                mixer: Mixer::Streams(streams),
                ..
            },
        ] = &step.branches[..]
        {
            return mixers::streams::run(self, streams, rows, slots, scratch);
        }
        let range = rows.chunk.rows.clone();
        scratch.selection = std::mem::take(&mut slots.selection);
        let mut normed = std::mem::take(&mut scratch.normed);
        let mut kept = std::mem::take(&mut slots.kept);
        let input = slots.get(step.read).rows_view(range.clone());
        let x = match &step.pre {
            Some(norm) => {
                normed.reset(range.len(), input.cols());
                self.norm(norm, input, normed.view_mut())?;
                normed.view()
            }
            None => input,
        };
        let mut sum = std::mem::take(&mut scratch.sum);
        let alone = step.branches.len() == 1;
        // Branches that are one sublayer together are looked at as one.
        let together = common_site(&step.branches);
        for (index, branch) in step.branches.iter().enumerate() {
            let mut output = std::mem::take(&mut scratch.output);
            self.branch(branch, x, rows, (&mut output, &mut kept), scratch, probe)?;
            if alone && let Some(norm) = &step.post {
                self.norm_in_place(norm, output.view_mut())?;
            }
            if together.is_none()
                && let Some(site) = site(&branch.mixer)
            {
                probe.branch(site, rows, output.view());
            }
            self.gain(&branch.gain, &mut output)?;
            if index == 0 {
                std::mem::swap(&mut sum, &mut output);
            } else {
                self.kernels.add(output.view(), 1.0, sum.view_mut());
            }
            scratch.output = output;
        }
        if !alone && let Some(norm) = &step.post {
            self.norm_in_place(norm, sum.view_mut())?;
        }
        if let Some(site) = together {
            probe.branch(site, rows, sum.view());
        }
        slots.selection = std::mem::take(&mut scratch.selection);
        slots.kept = kept;
        self.write(&step.write, &sum, rows, slots)?;
        scratch.normed = normed;
        scratch.sum = sum;
        Ok(())
    }

    fn branch(
        &self,
        branch: &Branch,
        x: MatRef<'_>,
        rows: Rows<'_>,
        (output, kept): (&mut Mat, &mut Kept),
        scratch: &mut Scratch,
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        let mut branch_input = std::mem::take(&mut scratch.branch_input);
        let x = match &branch.pre {
            Some(norm) => {
                branch_input.reset(x.rows(), x.cols());
                self.norm(norm, x, branch_input.view_mut())?;
                branch_input.view()
            }
            None => x,
        };
        match &branch.mixer {
            Mixer::Attention(attention) => {
                mixers::attention::run(
                    self,
                    attention,
                    x,
                    rows,
                    (output, &mut kept.keys),
                    scratch,
                )?;
            }
            Mixer::LatentAttention(attention) => {
                mixers::latent_attention::run(self, attention, x, rows, output, scratch)?;
            }
            Mixer::FeedForward(network) => {
                mixers::feed_forward::run(self, network, x, output, scratch)?;
            }
            Mixer::MixtureOfExperts(experts) => {
                mixers::experts::run(self, experts, x, rows, output, scratch, probe)?;
            }
            Mixer::MixtureOfAttention(attention) => {
                let run = mixers::attention_experts::run;
                run(self, attention, x, rows, output, scratch)?;
            }
            Mixer::Linear(linear) => {
                output.reset(x.rows(), linear.out_features);
                self.linear(x, linear, output.view_mut())?;
            }
            Mixer::SparseFeedForward(sparse) => {
                let deviations = Some(sparse.deviations as f32);
                mixers::feed_forward::sparse(
                    self,
                    &sparse.network,
                    deviations,
                    x,
                    output,
                    scratch,
                )?;
            }
            Mixer::LowRank(product) => {
                mixers::low_rank::run(self, product, x, output, scratch)?;
            }
            Mixer::LayerInput(input) => {
                let inputs = kept.layer_inputs.as_ref();
                mixers::layer_input::run(self, input, x, rows, inputs, output, scratch)?;
            }
            Mixer::Streams(_) => {
                return Err(EngineError::Internal(
                    "an update of the residual streams is a step of its own".into(),
                ));
            }
            Mixer::Identity => {
                output.reset(x.rows(), x.cols());
                for row in 0..x.rows() {
                    output.row_mut(row).copy_from_slice(x.row(row));
                }
            }
        }
        scratch.branch_input = branch_input;
        if let Some(norm) = &branch.post {
            self.norm_in_place(norm, output.view_mut())?;
        }
        Ok(())
    }

    /// `x = gain * x`.
    fn gain(&self, gain: &Gain, x: &mut Mat) -> Result<(), EngineError> {
        match gain {
            Gain::One => {}
            Gain::Constant(factor) => self.kernels.scale_in_place(*factor as f32, x.view_mut()),
            Gain::Vector(index) => {
                let vector = self.vector(Some(*index))?;
                let Some(factors) = values(vector.as_ref()) else {
                    return Ok(());
                };
                for row in 0..x.rows() {
                    let row = x.row_mut(row);
                    if let [factor] = factors {
                        for value in row {
                            *value *= factor;
                        }
                    } else {
                        for (value, factor) in row.iter_mut().zip(factors) {
                            *value *= factor;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn write(
        &self,
        write: &Write,
        y: &Mat,
        rows: Rows<'_>,
        slots: &mut Slots,
    ) -> Result<(), EngineError> {
        let range = rows.chunk.rows.clone();
        match write {
            Write::Add => {
                self.kernels
                    .add(y.view(), 1.0, slots.hidden.rows_view_mut(range));
            }
            Write::AddScaled(gain) => self.residual(gain, y, range, slots)?,
            Write::AddNorm(norm, gain) => {
                self.residual(gain, y, range.clone(), slots)?;
                self.norm_in_place(norm, slots.hidden.rows_view_mut(range))?;
            }
            Write::Set(slot) => {
                let target = slots.get_mut(*slot);
                for (row, index) in range.enumerate() {
                    target.row_mut(index).copy_from_slice(y.row(row));
                }
            }
            Write::AddTo(slot) => {
                self.kernels
                    .add(y.view(), 1.0, slots.get_mut(*slot).rows_view_mut(range));
            }
        }
        Ok(())
    }

    /// `h = gain * h + y`.
    fn residual(
        &self,
        gain: &Gain,
        y: &Mat,
        range: std::ops::Range<usize>,
        slots: &mut Slots,
    ) -> Result<(), EngineError> {
        match gain {
            Gain::One => {}
            Gain::Constant(factor) => {
                self.kernels
                    .scale_in_place(*factor as f32, slots.hidden.rows_view_mut(range.clone()));
            }
            Gain::Vector(index) => {
                let vector = self.vector(Some(*index))?;
                let factors = values(vector.as_ref()).unwrap_or_default();
                for row in range.clone() {
                    let row = slots.hidden.row_mut(row);
                    row.iter_mut()
                        .zip(factors)
                        .for_each(|(value, factor)| *value *= factor);
                }
            }
        }
        self.kernels
            .add(y.view(), 1.0, slots.hidden.rows_view_mut(range));
        Ok(())
    }
}

/// The site of several branches that all have the same one.
fn common_site(branches: &[Branch]) -> Option<Site> {
    let (first, others) = branches.split_first()?;
    let site = site(&first.mixer)?;
    let same = |branch: &Branch| self::site(&branch.mixer) == Some(site);
    (!others.is_empty() && others.iter().all(same)).then_some(site)
}

/// Keys that a query of these layers may choose, where queries choose.
pub(crate) fn chosen_keys(layers: &[sli_spec::Layer]) -> Option<usize> {
    layers
        .iter()
        .flat_map(|layer| &layer.steps)
        .flat_map(|step| &step.branches)
        .filter_map(|branch| match &branch.mixer {
            Mixer::LatentAttention(attention) => attention.selection.as_ref(),
            _ => None,
        })
        .map(keys_chosen_by)
        .max()
}

/// Keys that a query may choose.
pub(crate) fn keys_chosen_by(selection: &KeySelection) -> usize {
    match selection {
        KeySelection::Indexer(indexer) => indexer.top_k,
        KeySelection::Previous { top_k } => *top_k,
    }
}

/// Buffers beside the hidden state that the steps of a stack use.
pub(crate) fn stashes(layers: &[sli_spec::Layer]) -> usize {
    let number = |slot: &Slot| match slot {
        Slot::Hidden => 0,
        Slot::Stash(index) => usize::from(*index) + 1,
    };
    layers
        .iter()
        .flat_map(|layer| &layer.steps)
        .map(|step| {
            let written = match &step.write {
                Write::Set(slot) | Write::AddTo(slot) => number(slot),
                Write::Add | Write::AddScaled(_) | Write::AddNorm(..) => 0,
            };
            number(&step.read).max(written)
        })
        .max()
        .unwrap_or(0)
}
