//! `--take hessian`: the products of what enters every matrix with itself, `X^T X`, from which quantisers like GPTQ make their
//! Hessians.
//!
//! The rows of a matrix are added up in *units*: those of a record at positions `512 u` to `512 u + 511`, of an expert those of them that
//! chose it. A unit's product is a chain of multiply-adds in f32 over its rows in order; units are added up exactly
//! ([`bins`]). So neither chunks, threads nor parts show, and what is in memory is some rows and a stripe of the sums, whose place is a
//! file ([`sums`]).

mod bins;
mod file;
mod place;
mod saved;
mod scales;
mod sums;
mod unit;
mod waiting;

use std::sync::{Mutex, MutexGuard, PoisonError};

use sli_kernels::{Kernels, MatRef};
use sli_spec::WeightIndex;

use crate::entered::Entered;
use crate::error::EngineError;
use crate::journal::OutputFolder;
use crate::model::Model;
use crate::results::ResultsError;
use crate::take::Take;
pub(crate) use file::{is_result, join, result_of};
pub(crate) use place::{Place, largest_bytes, layers, product_operations, result_bytes};
use saved::Loading;
use sums::LayerSums;
use waiting::Waiting;

/// Is shown what enters the matrices of a model.
pub(crate) struct Products<'m> {
    model: &'m Model,
    places: Vec<Place>,
    current: Mutex<Option<Current>>,
}

/// The layer that runs.
struct Current {
    place: Place,
    /// Of every leaf the one that stands for it.
    owners: Vec<usize>,
    sums: LayerSums,
    waiting: Waiting,
    failed: Option<ResultsError>,
}

impl<'m> Products<'m> {
    /// Where somebody wants to know.
    pub fn open(model: &'m Model, takes: &[Take]) -> Result<Option<Self>, EngineError> {
        for take in takes {
            if let Take::Hessian(selection) = take {
                return Ok(Some(Self {
                    model,
                    places: layers(&model.spec, selection)?,
                    current: Mutex::default(),
                }));
            }
        }
        Ok(None)
    }

    /// A layer begins to run.
    pub fn begin(&self, place: Place, folder: &OutputFolder) -> Result<(), EngineError> {
        if !self.places.contains(&place) {
            return Ok(());
        }
        let (stack, layer) = place;
        let current = Current {
            place,
            owners: place::owners(&self.model.spec.stacks[stack].layers[layer]),
            sums: load(folder, place)?,
            waiting: Waiting::default(),
            failed: None,
        };
        *self.current() = Some(current);
        Ok(())
    }

    /// No more rows of records in front of this one enter matrices that rows of later ones have entered.
    pub fn settle(&self, kernels: &Kernels, record: usize) {
        if let Some(current) = &mut *self.current() {
            let Current { waiting, sums, .. } = current;
            if let Err(error) = waiting.settle(kernels, record, sums) {
                current.failed.get_or_insert(error);
            }
        }
    }

    /// Rows enter the matrices of some leaves: number `number` of so many.
    pub fn seen(
        &self,
        kernels: &Kernels,
        leaves: &[WeightIndex],
        (number, count): (usize, usize),
        x: MatRef<'_>,
        rows: &Entered<'_>,
    ) {
        let mut current = self.current();
        let Some(current) = &mut *current else { return };
        let mut numbers = leaves.iter().map(|leaf| leaf.0 as usize);
        let Some(leaf) = numbers.find(|&leaf| current.owners[leaf] == leaf) else {
            return;
        };
        if current.failed.is_none()
            && let Err(error) = current.take(self.model, kernels, (leaf, number, count), x, rows)
        {
            current.failed = Some(error);
        }
    }

    /// The layer has run; what was added up is part of the next checkpoint. `wrong`: a leaf that other rows than those of tokens have
    /// entered.
    pub fn end(
        &self,
        kernels: &Kernels,
        folder: &mut OutputFolder,
        wrong: Option<u32>,
    ) -> Result<(), EngineError> {
        let Some(mut current) = self.current().take() else {
            return Ok(());
        };
        if let Some(error) = current.failed.take() {
            return Err(error.into());
        }
        let Current {
            place,
            owners,
            mut sums,
            mut waiting,
            ..
        } = current;
        if let Some(leaf) = wrong.map(|leaf| leaf as usize) {
            let names = place::names(self.model, place, &owners, owners[leaf], 0);
            return Err(EngineError::Unavailable(format!(
                "no `hessian` of `{}`: other rows than those of tokens enter it",
                names.join("`, `")
            )));
        }
        waiting.add_all(kernels, &mut sums)?;
        folder.save_pieces(&blob(place), sums.saved_bytes(), |out| sums.save(out))?;
        Ok(())
    }

    /// Publishes the results; of a part with what they are made of.
    pub fn finish(&self, is_part: bool, folder: &mut OutputFolder) -> Result<(), EngineError> {
        for &(stack, layer) in &self.places {
            let name = file::result(self.model.spec.stacks[stack].name, layer + 1);
            let sums = load(folder, (stack, layer))?;
            if is_part {
                file::write_part(folder, &name, &sums)?;
            }
            file::write(folder, &name, &sums)?;
        }
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// Takes rows that enter a matrix.
    fn take(
        &mut self,
        model: &Model,
        kernels: &Kernels,
        (leaf, number, count): (usize, usize, usize),
        x: MatRef<'_>,
        rows: &Entered<'_>,
    ) -> Result<(), ResultsError> {
        if !self.waiting.knows((leaf, number)) {
            for number in 0..count {
                let names = place::names(model, self.place, &self.owners, leaf, number);
                let place = self.sums.place(&names, x.cols());
                let place = place.ok_or_else(|| damaged(self.place))?;
                self.waiting.enter((leaf, number), place, x.cols());
            }
        }
        let Self { waiting, sums, .. } = self;
        waiting.push(kernels, (leaf, number), x, rows, sums)
    }
}

/// What the sums of a layer are called in a checkpoint.
fn blob((stack, layer): Place) -> String {
    format!("hessian-{stack}-{layer}")
}

/// The sums of a layer, of what was saved of them.
fn load(folder: &OutputFolder, place: Place) -> Result<LayerSums, ResultsError> {
    let mut loading = Loading::new(LayerSums::scratch(folder, "")?);
    let mut is_sound = true;
    let found = folder.load_pieces(&blob(place), |piece| {
        is_sound = is_sound && loading.push(piece)?;
        Ok(())
    })?;
    if !found {
        return LayerSums::scratch(folder, "");
    }
    let sums = loading.end().filter(|_| is_sound);
    sums.ok_or_else(|| damaged(place))
}

fn damaged(place: Place) -> ResultsError {
    ResultsError::Damaged {
        path: blob(place).into(),
        problem: "the saved sums are damaged".into(),
    }
}
