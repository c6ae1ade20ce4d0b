//! The interpreter: runs the steps of one layer on some rows of a batch.
//!
//! Every operation is row-wise or within one record, of which earlier rows hand their states on, so a result does not depend on which rows
//! run together. Weights come from [`BoundLayer`], which knows whether they are resident or pass by.

pub(crate) mod batch;
mod computed;
pub(crate) mod connection;
mod convolve;
pub(crate) mod embed;
pub(crate) mod head;
pub(crate) mod linear;
mod look_up;
mod ngrams;
pub(crate) mod norm;
pub(crate) mod pictures;
pub(crate) mod place;
pub(crate) mod probe;
pub(crate) mod resample;
pub(crate) mod rounded;
mod sources;
pub(crate) mod states;
pub(crate) mod stem;
pub(crate) mod step;
pub(crate) mod target;

use std::ops::{Deref, Range};
use std::sync::Arc;

use sli_checkpoint::BoundLeaf;
use sli_kernels::{Kernels, Mat, MatMut, MatRef};
use sli_spec::{Embedding, Leaf, Slot, Stack, WeightIndex};

use crate::entered::Which;
use crate::entering::Entering;
use crate::error::EngineError;
use crate::model::Model;
use crate::weights::store::WeightStore;
use crate::weights::{LeafKey, Section, Weight, leaves};
use batch::{Batch, Chunk};
pub(crate) use computed::Computed;
use states::States;

/// How the matrices of a phase reach the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// Scheduled in the store, in memory for the whole phase.
    Resident,
    /// Passing by in tiles of at most this many bytes, again for every chunk.
    Tiled(u64),
}

/// One part of the model while it runs.
#[derive(Clone, Copy)]
pub(crate) struct BoundLayer<'a> {
    pub model: &'a Model,
    pub kernels: &'a Kernels,
    pub store: &'a WeightStore<'a>,
    pub stack: usize,
    pub part: Section,
    pub residency: Residency,
    /// Is shown what enters the matrices.
    pub entering: Option<&'a Entering<'a>>,
    /// What that is.
    pub enters: Enters,
    /// Where not all rows of a chunk enter, these.
    pub these: Option<&'a [u32]>,
    /// Where what comes of some rows of a chunk is left out, the others: these count.
    pub only: Option<&'a [u32]>,
}

/// What enters the matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enters {
    /// The rows of a chunk, all of them and once.
    Rows,
    /// Others, the same for a record in any company.
    Others,
    /// What depends on which records run together: it is not shown.
    Tables,
}

impl BoundLayer<'_> {
    /// Shows rows that enter the matrices of some leaves: number `matrix` of so many.
    pub fn show(
        &self,
        leaves: &[WeightIndex],
        matrix: (usize, usize),
        x: MatRef<'_>,
        which: Which<'_>,
    ) {
        let which = match self.enters {
            Enters::Rows => match (which, self.these) {
                (Which::Next, Some(rows)) => Which::These(rows),
                (which, _) => which,
            },
            Enters::Others => Which::Others,
            Enters::Tables => return,
        };
        let Some(entering) = self.entering else {
            return;
        };
        if let (Which::Next, Some(rows)) = (&which, self.only) {
            let mut own = Mat::new(rows.len(), x.cols());
            self.kernels.gather_rows(x, rows, own.view_mut());
            let which = Which::These(rows);
            entering.seen(self.kernels, leaves, matrix, own.view(), which);
        } else {
            entering.seen(self.kernels, leaves, matrix, x, which);
        }
    }

    /// The same part of the model, into which something else enters than the rows of a chunk.
    pub fn of(self, enters: Enters) -> Self {
        Self { enters, ..self }
    }

    /// The same part of the model, into which these rows of a chunk enter.
    pub fn of_these<'r>(&'r self, rows: &'r [u32]) -> BoundLayer<'r> {
        BoundLayer {
            these: Some(rows),
            ..*self
        }
    }

    /// Names a leaf of this part.
    pub fn key(&self, leaf: WeightIndex) -> LeafKey {
        LeafKey {
            stack: self.stack,
            part: self.part,
            leaf,
        }
    }

    /// A leaf's description.
    pub fn leaf(&self, index: WeightIndex) -> &Leaf {
        &leaves(self.model, self.stack, self.part)[index.0 as usize]
    }

    /// A leaf's tensors.
    pub fn bound(&self, index: WeightIndex) -> &BoundLeaf {
        self.key(index).bound(self.model)
    }

    /// A weight that the store holds or will hold.
    pub fn weight(&self, index: WeightIndex) -> Result<Arc<Weight>, EngineError> {
        self.store.get(self.key(index))
    }

    /// The only number of a vector.
    pub fn scalar(&self, index: WeightIndex) -> Result<f32, EngineError> {
        Ok(self.vector(index)?.first().copied().unwrap_or_default())
    }

    /// A vector.
    pub fn vector(&self, index: WeightIndex) -> Result<Vector, EngineError> {
        self.weight(index).map(Vector)
    }

    /// A vector, where there is one.
    pub fn optional(&self, index: Option<WeightIndex>) -> Result<Option<Vector>, EngineError> {
        index.map(|index| self.vector(index)).transpose()
    }
}

/// A weight that is used as a plain list of numbers.
pub(crate) struct Vector(Arc<Weight>);

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.0 {
            Weight::Vector(values) => values,
            Weight::Matrix(_) => &[],
        }
    }
}

/// The buffers of a batch that outlive a layer: `[tokens, hidden]` each, and what is kept for later
/// layers.
pub(crate) struct Slots {
    pub hidden: Mat,
    pub stashes: Vec<Mat>,
    /// Keys that the queries attend to, for layers that choose or share them.
    pub selection: Mat,
    pub kept: Kept,
    /// The hidden state at the boundary before, where the next one is compared with it.
    pub before: Option<Mat>,
}

/// What is computed once for several layers.
#[derive(Default)]
pub(crate) struct Kept {
    /// Inputs of the layers `[tokens, layers * width]`, where there are any.
    pub layer_inputs: Option<Mat>,
    /// Keys and values of the layers whose later ones use them.
    pub keys: Vec<KeptKeys>,
    /// What layers hand on to later ones beside the hidden state `[tokens, columns]`, where there is anything.
    pub handed_on: Option<Mat>,
    /// Ends of the earlier stacks that the layers read. They do not change, and are no part of [`Slots::all`].
    pub ends: Vec<EndRows>,
}

/// The end of an earlier stack.
#[derive(Clone)]
pub(crate) struct EndRows {
    pub stack: usize,
    /// `[rows of that stack, its hidden size]`, for the same records.
    pub rows: Arc<Mat>,
}

impl Kept {
    /// What layers hand on, of some rows.
    pub fn handed_on(&mut self, rows: Range<usize>) -> Result<MatMut<'_>, EngineError> {
        let problem = "there is no room for what layers hand on";
        let kept = self.handed_on.as_mut();
        let kept = kept.ok_or_else(|| EngineError::Internal(problem.into()))?;
        Ok(kept.rows_view_mut(rows))
    }
}

/// Finished keys and values of one layer, `[tokens, heads * features]`.
pub(crate) struct KeptKeys {
    pub layer: usize,
    pub key: Mat,
    pub value: Mat,
}

impl Slots {
    /// Zeroed buffers of `rows` tokens for a stack; with the boundary before, where it `compares` with it.
    pub fn new(rows: usize, stack: &Stack, compares: bool) -> Self {
        let mat = || Mat::new(rows, stack.hidden_size);
        let embedding = stack.input.embedding();
        let inputs = embedding.map_or(0, Embedding::layer_columns);
        let keys = stack.shared_keys().into_iter().map(|shared| KeptKeys {
            layer: shared.layer,
            key: Mat::new(rows, shared.keys),
            value: Mat::new(rows, shared.values),
        });
        Self {
            hidden: mat(),
            stashes: (0..stack.stashes())
                .map(|_| Mat::new(rows, stack.stash_size))
                .collect(),
            selection: Mat::new(rows, stack.chosen_keys().unwrap_or(0)),
            kept: Kept {
                layer_inputs: (inputs > 0).then(|| Mat::new(rows, inputs)),
                keys: keys.collect(),
                handed_on: Some(stack.handed_on())
                    .filter(|&columns| columns > 0)
                    .map(|columns| Mat::new(rows, columns)),
                ends: Vec::new(),
            },
            before: compares.then(mat),
        }
    }

    /// The boundary that is reached is the one that the next is compared with.
    pub fn set_before(&mut self) {
        if let Some(before) = &mut self.before {
            before
                .as_mut_slice()
                .copy_from_slice(self.hidden.as_slice());
        }
    }

    /// The residual streams: the hidden state and the stashes beside it.
    pub fn streams(&self, count: usize) -> Vec<&Mat> {
        std::iter::once(&self.hidden)
            .chain(&self.stashes)
            .take(count)
            .collect()
    }

    /// Every buffer, in a fixed order: what a checkpoint holds.
    pub fn all(&self) -> impl Iterator<Item = &Mat> {
        let selection = Some(&self.selection).filter(|selection| selection.cols() > 0);
        let keys = self
            .kept
            .keys
            .iter()
            .flat_map(|kept| [&kept.key, &kept.value]);
        std::iter::once(&self.hidden)
            .chain(&self.stashes)
            .chain(selection)
            .chain(&self.kept.layer_inputs)
            .chain(keys)
            .chain(&self.kept.handed_on)
    }

    /// Every buffer, in the order of [`Slots::all`].
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Mat> {
        let Self {
            hidden,
            stashes,
            selection,
            kept,
            before: _,
        } = self;
        all_mut(hidden, stashes, selection, kept)
    }

    /// Every buffer that moves to disk within a layer.
    pub fn spilled(&self) -> impl Iterator<Item = &Mat> {
        self.all().chain(&self.before)
    }

    /// The same, in the same order.
    pub fn spilled_mut(&mut self) -> impl Iterator<Item = &mut Mat> {
        let Self {
            hidden,
            stashes,
            selection,
            kept,
            before,
        } = self;
        all_mut(hidden, stashes, selection, kept).chain(before)
    }

    /// Values a token, in all buffers.
    pub fn row_values(&self) -> usize {
        self.spilled().map(Mat::cols).sum()
    }

    /// The buffer behind a slot.
    pub fn get(&self, slot: Slot) -> &Mat {
        match slot {
            Slot::Hidden => &self.hidden,
            Slot::Stash(index) => &self.stashes[usize::from(index)],
        }
    }

    /// The buffer behind a slot.
    pub fn get_mut(&mut self, slot: Slot) -> &mut Mat {
        match slot {
            Slot::Hidden => &mut self.hidden,
            Slot::Stash(index) => &mut self.stashes[usize::from(index)],
        }
    }
}

/// The buffers of slots, in a fixed order.
fn all_mut<'a>(
    hidden: &'a mut Mat,
    stashes: &'a mut [Mat],
    selection: &'a mut Mat,
    kept: &'a mut Kept,
) -> impl Iterator<Item = &'a mut Mat> {
    let selection = Some(selection).filter(|selection| selection.cols() > 0);
    let keys = kept.keys.iter_mut();
    let keys = keys.flat_map(|kept| [&mut kept.key, &mut kept.value]);
    std::iter::once(hidden)
        .chain(stashes)
        .chain(selection)
        .chain(&mut kept.layer_inputs)
        .chain(keys)
        .chain(&mut kept.handed_on)
}

/// Buffers that every chunk uses again.
pub(crate) struct Scratch {
    pub normed: Mat,
    pub branch_input: Mat,
    pub output: Mat,
    pub sum: Mat,
    pub query: Mat,
    pub key: Mat,
    pub value: Mat,
    pub heads: Mat,
    pub gate: Mat,
    pub up: Mat,
    pub inner: Mat,
    /// Weights of residual streams, from where a step reads them to where it writes them.
    pub connection: Mat,
    /// [`Slots::selection`] while a step runs.
    pub selection: Mat,
    /// Keys and values of other rows than the chunk's, and sums of the queries over them.
    pub window: [Mat; 3],
    pub states: States,
}

impl Scratch {
    /// Empty buffers.
    pub fn new(states: States) -> Self {
        let [normed, branch_input, output, sum, query, key, value] = Default::default();
        let [heads, gate, up, inner, connection, selection] = Default::default();
        Self {
            normed,
            branch_input,
            output,
            sum,
            query,
            key,
            value,
            heads,
            gate,
            up,
            inner,
            connection,
            selection,
            window: Default::default(),
            states,
        }
    }
}

/// What a mixer may know about the rows it runs on.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub batch: &'a Batch,
    pub chunk: &'a Chunk,
    pub pass: Computed,
}
