//! What a model itself makes of a text or a picture: a row of a stack behind the others.

use crate::build::{Leaves, pattern};
use crate::{
    Activation, Described, Head, HeadTransform, Input, Joining, Leaf, LengthLimit, Linear,
    ModelSpec, Norm, PictureRows, PooledEnd, PositionIds, Resampled, Resampling, RowRule, Sequence,
    Source, Stack, WeightIndex,
};

/// A row for every view.
pub const VIEWS: RowRule = RowRule::Pictures(PictureRows::Views { rows: 1 });

/// A stack of rows of the end of `source`, by a rule, normed.
pub fn row_of(
    (name, rule): (&'static str, RowRule),
    source: usize,
    width: usize,
    describe: impl FnOnce(&mut Leaves) -> Option<Norm>,
    mut leaves: Leaves,
) -> Stack {
    let norm = describe(&mut leaves);
    let gathered = Resampling::Gathered {
        stack: source,
        columns: [0, width],
        parts: 1,
        joining: Joining::Beside,
        vectors: Vec::new(),
        standard: None,
    };
    let made_of = Resampled {
        leaves: leaves.finish(),
        norm,
        ..Resampled::plain(gathered)
    };
    rows((name, rule), width, made_of)
}

/// A stack of rows and nothing else.
pub fn rows((name, rule): (&'static str, RowRule), width: usize, made_of: Resampled) -> Stack {
    Stack {
        name,
        hidden_size: width,
        stash_size: width,
        sequence: Sequence::Rows(rule),
        input: Input::Resampled(made_of),
        positions: PositionIds::Sequential,
        limit: LengthLimit::None,
        turns: None,
        prompt: Vec::new(),
        layers: Vec::new(),
        head: Head::default(),
    }
}

/// Sends the rows of a stack without layers through one more dense layer `[out]`.
pub fn project(stack: &mut Stack, weight: Source, bias: Option<Source>, out: usize) {
    let width = stack.hidden_size;
    let Input::Resampled(rows) = &mut stack.input else {
        return;
    };
    let mut leaf = |source: Source, shape: &[usize]| {
        rows.leaves.push(Leaf::new(source, shape));
        WeightIndex(rows.leaves.len() as u32 - 1)
    };
    let weight = leaf(weight, &[out, width]);
    let bias = bias.map(|bias| leaf(bias, &[out]));
    let dense = Linear::plain(weight, bias, [out, width]);
    rows.layers
        .push(HeadTransform::plain(dense, Activation::Linear));
    (stack.hidden_size, stack.stash_size) = (out, out);
}

/// Files may lack the last dense layer of a stack, and then have no such stack; what comes out of it goes through an activation.
pub fn optional(stack: &mut Stack, part: &'static str, activation: Activation) {
    let Input::Resampled(rows) = &mut stack.input else {
        return;
    };
    for leaf in &mut rows.leaves {
        leaf.optional = Some(part);
    }
    if let Some(layer) = rows.layers.last_mut() {
        layer.activation = activation;
    }
}

/// A description with a stack of what its model makes of a record behind all others.
pub fn behind(mut described: Described, stack: &Stack, end: PooledEnd) -> Described {
    let untied = described.untied.as_deref_mut();
    for spec in std::iter::once(&mut described.spec).chain(untied) {
        spec.stacks.push(stack.clone());
        spec.pooled_end = end;
    }
    described
}

/// The description without such a stack, whose tensors files may have all the same.
pub fn without(spec: &mut ModelSpec) {
    if spec.pooled_end == PooledEnd::No {
        return;
    }
    spec.pooled_end = PooledEnd::No;
    let Some(stack) = spec.stacks.pop() else {
        return;
    };
    let layers = stack.layers.iter().flat_map(|layer| &layer.leaves);
    for leaf in stack
        .input
        .leaves()
        .iter()
        .chain(layers)
        .chain(&stack.head.leaves)
    {
        if leaf.optional.is_none() {
            spec.unused += leaf.elements();
        }
        let names = leaf.source.names().into_iter();
        spec.ignored
            .extend(names.map(|name| pattern(name.to_owned())));
    }
}
