//! Weights on their way from the checkpoint to the kernels.
//!
//! [`store`] prefetches what is scheduled under a byte budget and hands it out by key; [`stream`]
//! passes pieces of one weight by, for what is larger than its share or known only late (experts,
//! the head). Both pack a weight once, as it is read.

pub(crate) mod content;
pub(crate) mod load;
pub(crate) mod store;
pub(crate) mod stream;

use sli_checkpoint::BoundLeaf;
use sli_kernels::PackedWeights;
use sli_spec::{Leaf, WeightIndex};

use crate::model::Model;

/// Where a leaf belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Section {
    /// The embedding of a stack.
    Embedding,
    /// A layer of a stack.
    Layer(usize),
    /// The head of a stack.
    Head,
}

/// One leaf of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LeafKey {
    pub stack: usize,
    pub part: Section,
    pub leaf: WeightIndex,
}

impl LeafKey {
    /// The leaf in the model's description.
    pub fn leaf(self, model: &Model) -> &Leaf {
        &leaves(model, self.stack, self.part)[self.leaf.0 as usize]
    }

    /// The tensors of the leaf.
    ///
    /// # Panics
    /// If it belongs to an optional part that the checkpoint lacks: a description that is bound uses none
    /// of these.
    pub fn bound(self, model: &Model) -> &BoundLeaf {
        let stack = model.binding.stack(self.stack);
        let leaves = match self.part {
            Section::Embedding => &stack.input,
            Section::Layer(index) => &stack.layers[index],
            Section::Head => &stack.head,
        };
        match &leaves[self.leaf.0 as usize] {
            Some(bound) => bound,
            None => panic!("{}: no part of this checkpoint", self.describe(model)),
        }
    }

    /// For messages.
    pub fn describe(self, model: &Model) -> String {
        let place = match self.part {
            Section::Embedding => "embedding".to_owned(),
            Section::Layer(index) => format!("layer {index}"),
            Section::Head => "head".to_owned(),
        };
        let names = self.leaf(model).source.names().join(" | ");
        format!("{} {place} ({names})", model.spec.stacks[self.stack].name)
    }
}

/// The leaves of one part of a stack.
pub(crate) fn leaves(model: &Model, stack: usize, part: Section) -> &[Leaf] {
    let stack = &model.spec.stacks[stack];
    match part {
        Section::Embedding => stack.input.leaves(),
        Section::Layer(index) => &stack.layers[index].leaves,
        Section::Head => &stack.head.leaves,
    }
}

/// The leaves of all layers of the model that the checkpoint has, layer after layer.
pub(crate) fn of_layers(model: &Model) -> impl Iterator<Item = impl Iterator<Item = LeafKey>> {
    let stacks = model.spec.stacks.iter().enumerate();
    stacks.flat_map(|(stack, description)| {
        let bound = &model.binding.stack(stack).layers;
        let layers = description.layers.iter().zip(bound).enumerate();
        layers.map(move |(index, (layer, bound))| {
            let leaves = (0..layer.leaves.len()).filter(|&leaf| bound[leaf].is_some());
            leaves.map(move |leaf| LeafKey {
                stack,
                part: Section::Layer(index),
                leaf: WeightIndex(leaf as u32),
            })
        })
    })
}

/// A weight in memory.
pub(crate) enum Weight {
    /// A norm's weight, a bias: plain f32.
    Vector(Vec<f32>),
    /// The weight of a linear layer, packed for the GEMM.
    Matrix(PackedWeights),
}
