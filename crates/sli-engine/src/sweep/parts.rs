//! The records of a super-batch, part by part.

use std::ops::Range;

use sli_spec::Step;

use super::context::Context;
use crate::ends::Ends;
use crate::error::EngineError;
use crate::exec::Slots;
use crate::exec::batch::Batch;
use crate::portion::Portion;
use crate::results::ResultsError;
use crate::spill::SpillFile;

/// The records of a super-batch: all in memory, or part by part on disk.
pub(super) struct Parts {
    pub(super) stack: usize,
    /// Of the stacks before.
    pub(super) ends: Ends,
    /// Boundaries are compared with the ones before them.
    pub(super) compares: bool,
    pub(super) portions: Vec<Portion>,
    /// First row of every part within the super-batch, or a later one.
    pub(super) offsets: Vec<usize>,
    pub(super) tokens: usize,
    pub(super) file: Option<SpillFile>,
    /// The part in memory.
    pub(super) held: Option<(usize, Batch, Slots)>,
    /// It is not as the file has it.
    pub(super) is_changed: bool,
}

/// Consecutive steps of a layer that run on one part before they run on the next.
pub(super) struct Group {
    /// Steps of the layer.
    pub(super) steps: Range<usize>,
    /// Keys and values of all pieces of a record come first.
    pub(super) keys_first: bool,
}

impl Parts {
    /// Whether some record is cut.
    fn has_pieces(&self) -> bool {
        let mut portions = self.portions.iter();
        portions.any(|portion| portion.piece.is_some())
    }

    /// The groups of the steps from number `first` on: a step that needs the keys of later rows is alone where
    /// records are cut.
    pub(super) fn groups(&self, steps: &[Step], first: usize) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let cut = self.has_pieces();
        for (number, step) in (first..).zip(steps) {
            let keys_first = cut && step.takes_keys_first();
            match groups.last_mut() {
                Some(group) if !keys_first && !group.keys_first => group.steps.end = number + 1,
                _ => groups.push(Group {
                    steps: number..number + 1,
                    keys_first,
                }),
            }
        }
        groups
    }

    /// The parts, those of a record that is cut together.
    pub(super) fn records(&self) -> Vec<Range<usize>> {
        let mut records: Vec<Range<usize>> = Vec::new();
        for (part, portion) in self.portions.iter().enumerate() {
            let goes_on = portion.piece.as_ref().is_some_and(|piece| piece.start > 0);
            match records.last_mut() {
                Some(record) if goes_on => record.end = part + 1,
                _ => records.push(part..part + 1),
            }
        }
        records
    }

    /// Rows of the record that is cut into pieces from a part on.
    pub(super) fn cut_rows(&self, context: Context<'_>, part: usize) -> Option<usize> {
        let portion = &self.portions[part];
        let record = portion.records.start;
        portion
            .piece
            .as_ref()
            .map(|_| context.division.length(record))
    }

    /// A part with empty slots.
    pub(super) fn create(
        &mut self,
        context: Context<'_>,
        part: usize,
    ) -> Result<(Batch, Slots), EngineError> {
        self.put_away()?;
        let spec = &context.model.spec;
        let stack = &spec.stacks[self.stack];
        let shared = context.plan.shared();
        let place = (spec, self.stack);
        let batch = Batch::read(place, context.records, &self.portions[part], shared)?;
        let mut slots = Slots::new(batch.rows(), stack, self.compares);
        slots.kept.ends = self.ends.of_part(&stack.sources(), part)?;
        Ok((batch, slots))
    }

    /// A part as it was last put.
    pub(super) fn take(
        &mut self,
        context: Context<'_>,
        part: usize,
    ) -> Result<(Batch, Slots), EngineError> {
        if let Some((_, batch, slots)) = self.held.take_if(|(held, ..)| *held == part) {
            return Ok((batch, slots));
        }
        let (batch, mut slots) = self.create(context, part)?;
        if let Some(file) = &self.file {
            file.load(self.offsets[part], &mut slots)
                .map_err(ResultsError::from)?;
        }
        Ok((batch, slots))
    }

    /// Makes room for another part.
    fn put_away(&mut self) -> Result<(), EngineError> {
        if let (Some((part, _, slots)), Some(file), true) =
            (self.held.take(), &self.file, self.is_changed)
        {
            file.save(self.offsets[part], &slots)
                .map_err(ResultsError::from)?;
        }
        self.is_changed = false;
        Ok(())
    }

    /// Returns a part that has changed.
    pub(super) fn put(&mut self, part: usize, batch: Batch, slots: Slots) {
        self.put_back(part, batch, slots);
        self.is_changed = true;
    }

    /// Returns a part that has not changed.
    pub(super) fn put_back(&mut self, part: usize, batch: Batch, slots: Slots) {
        self.held = Some((part, batch, slots));
    }
}
