//! What enters the matrices of the layers, shown to the results that are made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sli_kernels::{Kernels, MatRef};
use sli_spec::WeightIndex;

use crate::entered::{Entered, Token, Which};
use crate::error::EngineError;
use crate::exec::Computed;
use crate::hessian::Products;
use crate::imatrix::Inputs;
use crate::journal::OutputFolder;
use crate::model::Model;
use crate::records::RecordSpool;
use crate::take::Take;

/// Those who want to see what enters the matrices.
pub(crate) struct Entering<'m> {
    imatrix: Option<Inputs>,
    hessian: Option<Products<'m>>,
    chunk: Mutex<Chunk>,
}

/// What runs.
#[derive(Default)]
struct Chunk {
    tokens: Vec<Token>,
    pass: Option<Computed>,
    /// Rows that have entered the matrices of each leaf.
    entered: BTreeMap<u32, usize>,
    /// Leaves that have seen all rows when keys alone were computed.
    of_keys: BTreeSet<u32>,
    /// A leaf that saw other rows than it should have.
    wrong: Option<u32>,
}

impl Chunk {
    /// Whether every matrix has seen all rows, or none.
    fn check(&mut self) {
        let rows = self.tokens.len();
        let mut entered = self.entered.iter();
        let wrong = entered.find(|(_, seen)| **seen != rows);
        self.wrong = self.wrong.or(wrong.map(|(leaf, _)| *leaf));
        self.entered.clear();
    }
}

impl<'m> Entering<'m> {
    /// Where somebody wants to know.
    pub fn open(model: &'m Model, takes: &[Take]) -> Result<Option<Self>, EngineError> {
        let imatrix = Inputs::open(&model.spec, takes)?;
        let hessian = Products::open(model, takes)?;
        Ok((imatrix.is_some() || hessian.is_some()).then(|| Self {
            imatrix,
            hessian,
            chunk: Mutex::default(),
        }))
    }

    /// A layer, counted from 0, begins to run.
    pub fn begin(&self, place: (usize, usize), folder: &OutputFolder) -> Result<(), EngineError> {
        *self.chunk() = Chunk::default();
        if let Some(imatrix) = &self.imatrix {
            imatrix.begin(place, folder)?;
        }
        if let Some(hessian) = &self.hessian {
            hessian.begin(place, folder)?;
        }
        Ok(())
    }

    /// From here on the layer's steps compute this of the rows of these tokens.
    pub fn next(&self, kernels: &Kernels, tokens: Vec<Token>, pass: Computed) {
        if let (Some(hessian), Some(first)) = (&self.hessian, tokens.first()) {
            hessian.settle(kernels, first.0);
        }
        let mut chunk = self.chunk();
        chunk.check();
        chunk.tokens = tokens;
        chunk.pass = Some(pass);
    }

    /// Rows enter the matrices of some leaves: number `matrix` of so many.
    pub fn seen(
        &self,
        kernels: &Kernels,
        leaves: &[WeightIndex],
        matrix: (usize, usize),
        x: MatRef<'_>,
        which: Which<'_>,
    ) {
        if x.rows() == 0 {
            return;
        }
        let mut chunk = self.chunk();
        let numbers = || leaves.iter().map(|leaf| leaf.0);
        match chunk.pass {
            Some(Computed::Keys) => chunk.of_keys.extend(numbers()),
            Some(Computed::Queries) if numbers().any(|leaf| chunk.of_keys.contains(&leaf)) => {
                return;
            }
            _ => {}
        }
        if let Some(imatrix) = &self.imatrix {
            imatrix.seen(kernels, leaves, matrix, x);
        }
        let (Some(hessian), Some(leaf)) = (&self.hessian, numbers().next()) else {
            return;
        };
        let mut first = 0;
        if let Which::Next = which {
            let seen = chunk.entered.entry(leaf).or_default();
            first = *seen;
            *seen += x.rows();
        }
        let rows = Entered {
            tokens: &chunk.tokens,
            first,
            which,
        };
        hessian.seen(kernels, leaves, matrix, x, &rows);
    }

    /// The layer has run; what was added up is part of the next checkpoint.
    pub fn end(&self, kernels: &Kernels, folder: &mut OutputFolder) -> Result<(), EngineError> {
        if let Some(imatrix) = &self.imatrix {
            imatrix.end(folder)?;
        }
        if let Some(hessian) = &self.hessian {
            let mut chunk = self.chunk();
            chunk.check();
            hessian.end(kernels, folder, chunk.wrong)?;
        }
        Ok(())
    }

    /// Publishes the results; those of a part with what they are made of.
    pub fn finish(
        &self,
        records: &RecordSpool,
        folder: &mut OutputFolder,
    ) -> Result<(), EngineError> {
        if let Some(imatrix) = &self.imatrix {
            imatrix.finish(records, folder)?;
        }
        if let Some(hessian) = &self.hessian {
            hessian.finish(records.shard().is_some(), folder)?;
        }
        Ok(())
    }

    fn chunk(&self) -> MutexGuard<'_, Chunk> {
        self.chunk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
