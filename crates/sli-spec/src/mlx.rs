//! What files that MLX wrote have under other names: the experts of a layer, one behind the other in one tensor.

use crate::model::ModelSpec;
use crate::source::Source;

/// What experts' tensors are called where each has its own, and in `switch_mlp`.
const NAMES: [(&str, &str); 6] = [
    ("gate_proj", "gate_proj"),
    ("up_proj", "up_proj"),
    ("down_proj", "down_proj"),
    ("w1", "gate_proj"),
    ("w3", "up_proj"),
    ("w2", "down_proj"),
];

/// Lets experts be stacked as well.
pub(crate) fn stack_experts(spec: &mut ModelSpec) {
    let layers = spec.stacks.iter_mut().flat_map(|stack| &mut stack.layers);
    for leaf in layers.flat_map(|layer| &mut layer.leaves) {
        if let Some(stacked) = stacked(&leaf.source) {
            leaf.source = Source::OneOf(vec![leaf.source.clone(), stacked]);
        }
    }
}

/// The one tensor that experts may be in instead.
fn stacked(source: &Source) -> Option<Source> {
    let Source::Each { of, .. } = source else {
        return None;
    };
    let Source::Tensor(name) = &**of else {
        return None;
    };
    let (before, after) = name.split_once(".experts.{}.")?;
    let (own, end) = after.split_once('.')?;
    let (_, name) = NAMES.into_iter().find(|(each, _)| *each == own)?;
    Some(Source::Tensor(format!("{before}.switch_mlp.{name}.{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_of_either_naming_may_be_stacked() {
        let each = |name: &str| Source::Each {
            of: Box::new(Source::tensor(name)),
            count: 4,
        };
        for (name, wanted) in [
            (
                "l.mlp.experts.{}.up_proj.weight",
                Some("l.mlp.switch_mlp.up_proj.weight"),
            ),
            (
                "l.block_sparse_moe.experts.{}.w2.weight",
                Some("l.block_sparse_moe.switch_mlp.down_proj.weight"),
            ),
            ("l.mlp.experts.{}.router.weight", None),
            ("l.mlp.others.{}.up_proj.weight", None),
        ] {
            assert_eq!(stacked(&each(name)), wanted.map(Source::tensor), "{name}");
        }
        assert_eq!(stacked(&Source::tensor("l.experts.{}.w1.weight")), None);
    }
}
