//! `--take imatrix`: how large the inputs of every matrix are, for llama.cpp's quantiser.
//!
//! Of each matrix that llama.cpp multiplies with in a layer (`blk.*`, the router too), the squares of what enters it are summed,
//! column by column, over all rows; of experts, over the rows that were sent to each. Sums are exact, so no order of
//! records, chunks, threads or parts shows. They are in memory while their layer runs and in the work folder otherwise.

mod file;
mod sums;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sli_kernels::{Kernels, MatRef};
use sli_spec::gguf::{Matrices, matrices};
use sli_spec::{Layer, ModelSpec, WeightIndex};

use crate::error::EngineError;
use crate::journal::{DATASETS, OutputFolder};
use crate::records::RecordSpool;
use crate::results::ResultsError;
use crate::take::Take;
pub(crate) use file::{About, Part, write, write_part};
pub(crate) use sums::{LayerSums, Sums};

/// The result.
pub(crate) const IMATRIX: &str = "imatrix.gguf";

/// The file of the sums beside the results of a part of a dataset.
pub(crate) const ACCUMULATORS: &str = "imatrix.accumulators";

/// Stack and layer, from 0.
pub(crate) type Place = (usize, usize);

/// Is shown what enters the matrices of a model.
pub(crate) struct Inputs {
    matrices: Matrices,
    current: Mutex<Option<Current>>,
}

/// The layer that runs.
struct Current {
    place: Place,
    /// The tensors of each leaf that no earlier leaf is a part of.
    names: Vec<Vec<String>>,
    sums: LayerSums,
}

impl Inputs {
    /// Where somebody wants to know.
    pub fn open(spec: &ModelSpec, takes: &[Take]) -> Result<Option<Self>, EngineError> {
        if !takes.contains(&Take::Imatrix) {
            return Ok(None);
        }
        Ok(Some(Self {
            matrices: matrices(spec).map_err(EngineError::Unavailable)?,
            current: Mutex::default(),
        }))
    }

    /// A layer begins to run.
    pub fn begin(&self, place: Place, folder: &OutputFolder) -> Result<(), EngineError> {
        let mut known = BTreeSet::new();
        let (stack, layer) = place;
        let names = self.matrices.names[stack][layer].iter().map(|names| {
            let own = names.iter().filter(|name| known.insert(*name));
            own.cloned().collect()
        });
        let current = Current {
            place,
            names: names.collect(),
            sums: decode(place, folder.load_blob(&blob(place))?)?,
        };
        *self.current() = Some(current);
        Ok(())
    }

    /// Rows enter the matrices of some leaves: number `matrix` of so many.
    pub fn seen(
        &self,
        kernels: &Kernels,
        leaves: &[WeightIndex],
        (matrix, matrices): (usize, usize),
        x: MatRef<'_>,
    ) {
        if let Some(current) = &mut *self.current() {
            let names = leaves.iter().map(|leaf| &current.names[leaf.0 as usize]);
            let names: Vec<String> = names.flatten().cloned().collect();
            if !names.is_empty() {
                let sums = current.sums.of(names, x.cols(), matrices);
                sums.add(kernels, matrix, x);
            }
        }
    }

    /// The layer has run; what was added up is part of the next checkpoint.
    pub fn end(&self, folder: &mut OutputFolder) -> Result<(), EngineError> {
        if let Some(Current { place, sums, .. }) = self.current().take() {
            folder.save_blob(&blob(place), &sums.to_bytes())?;
        }
        Ok(())
    }

    /// Publishes the result; that of a part with what it is made of.
    pub fn finish(
        &self,
        records: &RecordSpool,
        folder: &mut OutputFolder,
    ) -> Result<(), EngineError> {
        let saved = folder.blobs();
        let stacks = self.matrices.names.iter().enumerate();
        let places = stacks
            .flat_map(|(stack, layers)| (0..layers.len()).map(move |layer| (stack, layer)))
            .filter(|place| saved.has(&blob(*place)));
        let places: Vec<Place> = places.collect();
        let key = folder.key();
        let datasets = key.get(DATASETS).or_else(|| key.get("records"));
        let datasets = datasets.unwrap_or_default().lines();
        let about = About {
            datasets: datasets.map(str::to_owned).collect(),
            records: records.len() as u64,
            longest: records.longest() as u64,
        };
        let load = |place| decode(place, saved.load(&blob(place))?);
        if records.shard().is_some() {
            write_part(folder, &about, &places, load)?;
        }
        write(folder, &about, &places, load)?;
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a layer that has rows and columns of a description: bytes of its sums.
pub(crate) fn layer_bytes(layer: &Layer) -> u64 {
    let matrices = layer.leaves.iter().filter(|leaf| leaf.shape.len() > 1);
    let columns = matrices.map(|leaf| {
        let [matrices @ .., _, columns] = &leaf.shape[..] else {
            return 0;
        };
        columns * matrices.iter().product::<usize>()
    });
    columns.sum::<usize>() as u64 * Sums::BYTES
}

/// What the sums of a layer are called in a checkpoint.
fn blob((stack, layer): Place) -> String {
    format!("imatrix-{stack}-{layer}")
}

/// The sums of a layer, of what was saved of them.
fn decode(place: Place, bytes: Option<Vec<u8>>) -> Result<LayerSums, ResultsError> {
    let Some(bytes) = bytes else {
        return Ok(LayerSums::default());
    };
    LayerSums::from_bytes(&bytes).ok_or_else(|| ResultsError::Damaged {
        path: blob(place).into(),
        problem: "the saved sums are damaged".into(),
    })
}
