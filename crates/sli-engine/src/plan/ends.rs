//! Weights of embeddings and heads.

use sli_checkpoint::BoundLeaf;
use sli_spec::{Becomes, Input, Merge, Standard, StemStep, WeightIndex};

use crate::model::Model;
use crate::weights::{LeafKey, Section};

/// What the store reads for an embedding or a head: all but the tables, whose rows are read one by
/// one, and the projection to logits, which passes by.
pub(crate) fn end_keys(model: &Model, stack: usize, part: Section) -> Vec<LeafKey> {
    let description = &model.spec.stacks[stack];
    let mut keys = Vec::new();
    let mut add = |leaf: WeightIndex| keys.push(LeafKey { stack, part, leaf });
    match part {
        Section::Embedding => {
            let embedding = match &description.input {
                Input::Tokens(embedding) => embedding,
                Input::Features(features) => {
                    let steps = features.stem.iter();
                    steps.flat_map(StemStep::weights).for_each(&mut add);
                    if let Some(norm) = &features.norm {
                        norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
                    }
                    return keys;
                }
                Input::Pictures(pictures) => {
                    add(pictures.projection.weight);
                    pictures.projection.bias.into_iter().for_each(&mut add);
                    let norms = pictures.input_norm.iter().chain(&pictures.patch_norm);
                    for norm in norms.chain(&pictures.norm) {
                        norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
                    }
                    if let Some(tables) = &pictures.tiles {
                        add(tables.of_tiles.factor);
                        add(tables.of_rows.factor);
                        add(tables.of_places);
                    }
                    return keys;
                }
                Input::Resampled(rows) => {
                    if let Some(convolution) = rows.convolution() {
                        let projection = &convolution.projection;
                        add(projection.weight);
                        projection.bias.into_iter().for_each(&mut add);
                    }
                    if let Some(norm) = &rows.norm {
                        norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
                    }
                    rows.vectors().iter().copied().for_each(&mut add);
                    if let Some(Standard { bias, factor, .. }) = rows.standard() {
                        [bias, factor].into_iter().for_each(&mut add);
                    }
                    for layer in &rows.layers {
                        layer.weights().for_each(&mut add);
                    }
                    return keys;
                }
            };
            for &(_, vector) in &embedding.own_vectors {
                add(vector);
            }
            for norm in embedding.token_norm.iter().chain(&embedding.norm) {
                norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
            }
            if let Some(start) = &embedding.start {
                start.addend.into_iter().for_each(&mut add);
            }
            let inputs = embedding.layer_inputs.as_ref();
            let inputs = inputs.and_then(|inputs| inputs.projected.as_ref());
            let projections = embedding.projection.iter().chain(&embedding.streams);
            for projection in projections.chain(inputs.map(|inputs| &inputs.projection)) {
                add(projection.weight);
                projection.bias.into_iter().for_each(&mut add);
            }
            if let Some(looked_up) = &embedding.looked_up {
                for layer in &looked_up.layers {
                    layer.weights().for_each(&mut add);
                }
                if let Becomes::Stream { positions: _, norm } = &looked_up.becomes {
                    norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
                }
            }
            if let Some(norm) = inputs.map(|inputs| &inputs.norm) {
                norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
            }
        }
        Section::Head => {
            let head = &description.head;
            match &head.streams {
                Merge::One | Merge::Mean(_) => {}
                Merge::Attended(attention) => add(attention.queries),
                Merge::Projected(others) => {
                    for projection in others {
                        add(projection.weight);
                    }
                }
                Merge::Gated(mean) => {
                    for linear in mean.down.iter().chain(&mean.up) {
                        add(linear.weight);
                    }
                    let norms = mean.norms.iter();
                    norms.filter_map(|norm| norm.weight).for_each(&mut add);
                }
                Merge::Weighed(weights) => {
                    for projection in &weights.projections {
                        add(projection.weight);
                    }
                    add(weights.base);
                    add(weights.scale);
                }
            }
            if let Some(projection) = &head.output {
                add(projection.weight);
            }
            let handed = head.handed.as_ref();
            if let Some(projection) = handed.and_then(|handed| handed.projection.as_ref()) {
                add(projection.weight);
                projection.bias.into_iter().for_each(&mut add);
            }
            if let Some(norm) = &head.norm {
                norm.weight.into_iter().chain(norm.bias).for_each(&mut add);
            }
            if let Some(pooler) = &head.pooler {
                add(pooler.dense.weight);
                pooler.dense.bias.into_iter().for_each(&mut add);
            }
            if let Some(classes) = &head.classes {
                let transform = classes.transform.as_ref();
                // A pooler is among them already.
                let transform = transform.filter(|transform| {
                    let pooler = head.pooler.as_ref();
                    pooler.is_none_or(|pooler| pooler.dense.weight != transform.dense.weight)
                });
                if let Some(transform) = transform {
                    transform.weights().for_each(&mut add);
                }
                add(classes.projection.weight);
                classes.projection.bias.into_iter().for_each(&mut add);
            }
            if let Some(logits) = &head.logits {
                for transform in &logits.transforms {
                    transform.weights().for_each(&mut add);
                }
                logits.projection.bias.into_iter().for_each(&mut add);
            }
        }
        Section::Layer(_) => {}
    }
    keys
}

/// The projection to logits, where there is one.
pub(super) fn logits_leaf(model: &Model) -> Option<&BoundLeaf> {
    let logits = model.spec.output_stack().head.logits.as_ref()?;
    let key = LeafKey {
        stack: model.spec.stacks.len() - 1,
        part: Section::Head,
        leaf: logits.projection.weight,
    };
    Some(key.bound(model))
}
