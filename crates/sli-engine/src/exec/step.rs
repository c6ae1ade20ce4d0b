//! One residual step on the rows of one chunk.

use sli_kernels::{Mat, MatRef};
use sli_spec::{Branch, Gain, Mechanism, ResidualGate, Site, Step, TokenKind, Write};

use super::probe::Probe;
use super::states::MixerId;
use super::{BoundLayer, Computed, Rows, Scratch, Slots};
use crate::error::EngineError;
use crate::mixers::{self, At};

impl BoundLayer<'_> {
    /// Runs `step`, number `number` of its layer, on the rows of a chunk.
    pub fn step(
        &self,
        (number, step): (usize, &Step),
        rows: Rows<'_>,
        slots: &mut Slots,
        scratch: &mut Scratch,
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        if let [branch] = &step.branches[..]
            && branch.mixer.facts().is_in_place()
        {
            return mixers::of(&branch.mixer).run_in_place(self, rows, slots, scratch);
        }
        let range = rows.chunk.rows.clone();
        let only = step.only.map(|only| chosen(only, rows));
        let own = BoundLayer {
            only: only.as_deref(),
            ..*self
        };
        scratch.selection = std::mem::take(&mut slots.selection);
        let mut normed = std::mem::take(&mut scratch.normed);
        let mut kept = std::mem::take(&mut slots.kept);
        let mut weights = std::mem::take(&mut scratch.connection);
        let input = slots.get(step.read).rows_view(range.clone());
        let beside = step.beside.map(|slot| slots.get(slot));
        let beside = beside.map(|mat| mat.rows_view(range.clone()));
        let x = match (&step.connection, beside, &step.pre) {
            (Some(connection), _, norm) => {
                let buffers = (&mut weights, &mut *scratch);
                let streams = (&*slots, range.clone());
                self.collapse(connection, streams, buffers, &mut normed)?;
                if let Some(norm) = norm {
                    self.norm_in_place(norm, normed.view_mut())?;
                }
                normed.view()
            }
            (None, Some(beside), norm) => {
                normed.reset(range.len(), input.cols() + beside.cols());
                let (first, second) = normed.view_mut().split_cols(input.cols());
                self.kernels.copy(input, first);
                self.kernels.copy(beside, second);
                if let Some(norm) = norm {
                    self.norm_in_place(norm, normed.view_mut())?;
                }
                normed.view()
            }
            (None, None, Some(norm)) => {
                normed.reset(range.len(), input.cols());
                self.norm(norm, input, normed.view_mut())?;
                normed.view()
            }
            (None, None, None) => input,
        };
        let mut sum = std::mem::take(&mut scratch.sum);
        let alone = step.branches.len() == 1;
        // Branches that are one sublayer together are looked at as one.
        let together = common_site(step);
        for (index, branch) in step.branches.iter().enumerate() {
            let mut output = std::mem::take(&mut scratch.output);
            let mut at = At {
                layer: &own,
                mixer: MixerId {
                    step: number,
                    branch: index,
                    part: 0,
                },
                rows,
                slots,
                kept: &mut kept,
                scratch,
                probe,
            };
            self.branch(branch, x, &mut output, &mut at)?;
            if rows.pass == Computed::Keys {
                scratch.output = output;
                continue;
            }
            if alone && let Some(norm) = &step.post {
                self.norm_in_place(norm, output.view_mut())?;
            }
            if together.is_none()
                && let Some(site) = branch.mixer.facts().site()
            {
                probe.branch(site, rows, output.view());
            }
            self.gain(&branch.gain, &mut output)?;
            if branch.of_seeing {
                for (target, row) in range.clone().enumerate() {
                    if rows.batch.seen(row)?.is_empty() {
                        output.row_mut(target).fill(0.0);
                    }
                }
            }
            if index == 0 {
                std::mem::swap(&mut sum, &mut output);
            } else {
                self.kernels.add(output.view(), 1.0, sum.view_mut());
            }
            scratch.output = output;
        }
        if rows.pass == Computed::Keys {
            slots.selection = std::mem::take(&mut scratch.selection);
            slots.kept = kept;
            scratch.normed = normed;
            scratch.sum = sum;
            scratch.connection = weights;
            return Ok(());
        }
        if !alone && let Some(norm) = &step.post {
            self.norm_in_place(norm, sum.view_mut())?;
        }
        if let Some(site) = together {
            probe.branch(site, rows, sum.view());
        }
        slots.selection = std::mem::take(&mut scratch.selection);
        slots.kept = kept;
        match &step.connection {
            Some(connection) => self.expand(connection, &weights, sum.view(), (slots, range)),
            None => match &only {
                None => self.write(&step.write, &sum, rows, slots)?,
                Some(only) => self.write_only(&step.write, (&mut sum, only), range, slots)?,
            },
        }
        scratch.connection = weights;
        scratch.normed = normed;
        scratch.sum = sum;
        Ok(())
    }

    fn branch(
        &self,
        branch: &Branch,
        x: MatRef<'_>,
        output: &mut Mat,
        at: &mut At<'_>,
    ) -> Result<(), EngineError> {
        let mut branch_input = std::mem::take(&mut at.scratch.branch_input);
        let is_own = branch.pre.is_some() || branch.scale != 1.0;
        if is_own {
            branch_input.reset(x.rows(), x.cols());
            let input = branch_input.view_mut();
            match &branch.pre {
                Some(norm) => self.norm(norm, x, input)?,
                None => self.kernels.copy(x, input),
            }
        }
        if branch.scale != 1.0 {
            let scale = branch.scale as f32;
            self.kernels.scale_in_place(scale, branch_input.view_mut());
        }
        let x = if is_own { branch_input.view() } else { x };
        let mixer = mixers::of(&branch.mixer);
        if at.rows.pass == Computed::Keys {
            mixer.keys(at, x)?;
            at.scratch.branch_input = branch_input;
            return Ok(());
        }
        mixer.run(at, x, output)?;
        at.scratch.branch_input = branch_input;
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
                let factors = self.vector(*index)?;
                match &*factors {
                    [factor] => self.kernels.scale_in_place(*factor, x.view_mut()),
                    factors => self.kernels.scale_columns(factors, x.view_mut()),
                }
            }
            Gain::Gate(gate) => {
                let factors = self.gates(gate)?;
                self.kernels.scale_columns(&factors, x.view_mut());
            }
        }
        Ok(())
    }

    /// The factors of a side of a gate.
    fn gates(&self, gate: &ResidualGate) -> Result<Vec<f32>, EngineError> {
        let gates = &*self.vector(gate.gate)?;
        Ok(gates.iter().map(|&one| gate.factor(one)).collect())
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
            Write::AddToNormed(norm) => {
                let mut hidden = slots.hidden.rows_view_mut(range);
                self.norm_in_place(norm, hidden.reborrow())?;
                self.kernels.add(y.view(), 1.0, hidden);
            }
            Write::AddNorm(norm, gain) => {
                self.residual(gain, y, range.clone(), slots)?;
                self.norm_in_place(norm, slots.hidden.rows_view_mut(range))?;
            }
            Write::Set(slot) => {
                let target = slots.get_mut(*slot).rows_view_mut(range);
                self.kernels.copy(y.view(), target);
            }
            Write::AddTo(slot) => {
                self.kernels
                    .add(y.view(), 1.0, slots.get_mut(*slot).rows_view_mut(range));
            }
        }
        Ok(())
    }

    /// The same for some of the rows of a range.
    fn write_only(
        &self,
        write: &Write,
        (y, only): (&mut Mat, &[u32]),
        range: std::ops::Range<usize>,
        slots: &mut Slots,
    ) -> Result<(), EngineError> {
        let rows = only.iter().map(|&row| row as usize);
        match write {
            Write::Set(slot) => {
                let target = slots.get_mut(*slot);
                for row in rows {
                    target
                        .row_mut(range.start + row)
                        .copy_from_slice(y.row(row));
                }
                Ok(())
            }
            Write::AddNorm(norm, Gain::One) => {
                for row in rows.clone() {
                    let before = slots.hidden.row(range.start + row);
                    let pairs = y.row_mut(row).iter_mut().zip(before);
                    pairs.for_each(|(value, before)| *value += before);
                }
                self.norm_in_place(norm, y.view_mut())?;
                for row in rows {
                    let target = slots.hidden.row_mut(range.start + row);
                    target.copy_from_slice(y.row(row));
                }
                Ok(())
            }
            _ => {
                let problem = "rows of one kind are written in another way";
                Err(EngineError::Internal(problem.into()))
            }
        }
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
                let factors = &*self.vector(*index)?;
                let hidden = slots.hidden.rows_view_mut(range.clone());
                self.kernels.scale_columns(factors, hidden);
            }
            Gain::Gate(gate) => {
                let factors = self.gates(gate)?;
                let hidden = slots.hidden.rows_view_mut(range.clone());
                self.kernels.scale_columns(&factors, hidden);
            }
        }
        self.kernels
            .add(y.view(), 1.0, slots.hidden.rows_view_mut(range));
        Ok(())
    }
}

/// The rows of a chunk whose tokens are of a kind, or all others.
fn chosen((kind, is_own): (TokenKind, bool), rows: Rows<'_>) -> Vec<u32> {
    let numbered = (0_u32..).zip(rows.chunk.rows.clone());
    let chosen = numbered.filter(|&(_, row)| rows.batch.is_of(kind, row) == is_own);
    chosen.map(|(row, _)| row).collect()
}

/// How many outputs some steps show: one a branch that has a site, or one of all branches of a step that
/// are looked at as one.
pub(crate) fn outputs_shown(steps: &[Step]) -> usize {
    let shown = |step: &Step| match common_site(step) {
        Some(_) => 1,
        None => step.mechanisms().filter_map(Mechanism::site).count(),
    };
    steps.iter().map(shown).sum()
}

/// The site of several branches that all have the same one.
fn common_site(step: &Step) -> Option<Site> {
    let mut sites = step.mechanisms().map(Mechanism::site);
    let site = sites.next()??;
    let others = step.branches.len() > 1;
    (others && sites.all(|other| other == Some(site))).then_some(site)
}
