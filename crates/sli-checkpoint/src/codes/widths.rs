//! The columns of a model's matrices, by the names of their tensors: for codes that do not say them.

use std::collections::BTreeMap;

use sli_spec::{Leaf, Source};

/// Columns by name; `None` where a model has several for one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Widths(BTreeMap<String, Option<usize>>);

impl Widths {
    /// Those of the tensors of which weights are made. A name is known with and without the base model's prefix, which
    /// names may lack.
    pub fn of<'l>(leaves: impl IntoIterator<Item = &'l Leaf>, base_prefix: &str) -> Self {
        let mut widths = Self::default();
        let matrices = leaves.into_iter().filter(|leaf| leaf.shape.len() > 1);
        for (leaf, &columns) in matrices.filter_map(|leaf| Some((leaf, leaf.shape.last()?))) {
            walk(&leaf.source, &mut |name| {
                if let Some(bare) = name.strip_prefix(base_prefix)
                    && !base_prefix.is_empty()
                {
                    widths.insert(bare, columns);
                }
                widths.insert(name, columns);
            });
        }
        widths
    }

    fn insert(&mut self, name: &str, columns: usize) {
        let known = self.0.entry(name.to_owned()).or_insert(Some(columns));
        if *known != Some(columns) {
            *known = None;
        }
    }

    /// The columns of the tensor of this name, if the model has them.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied().flatten()
    }
}

/// The names of the tensors that have as many columns as the expression.
fn walk(source: &Source, found: &mut dyn FnMut(&str)) {
    match source {
        Source::Tensor(name) => found(name),
        Source::OneOf(all) | Source::Tied { own: _, all } | Source::ConcatRows(all) => {
            for one in all {
                walk(one, found);
            }
        }
        Source::Each { of, count } => walk(of, &mut |name| {
            (0..*count).for_each(|slot| found(&name.replace("{}", &slot.to_string())));
        }),
        Source::Part { of, .. }
        | Source::Index { of, .. }
        | Source::Elementwise { of, .. }
        | Source::RopePermute { of, .. } => walk(of, found),
        Source::Transpose(_)
        | Source::ConcatColumns(_)
        | Source::Reshape(_)
        | Source::BlockDiagonal { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use sli_spec::Split;

    use super::*;

    #[test]
    fn columns_are_those_of_the_tensors_that_weights_are_made_of() {
        let each = |name: &str| Source::Each {
            of: Box::new(Source::tensor(name)),
            count: 2,
        };
        let part = Source::Part {
            of: Box::new(Source::tensor("b.qkv")),
            split: Split::Rows(vec![3, 3, 3]),
            part: 1,
        };
        let turned = Source::Transpose(Box::new(Source::tensor("b.turned")));
        let leaves = [
            Leaf::new(part, [3, 5]),
            Leaf::new(each("b.{}.w"), [2, 3, 7]),
            Leaf::new(turned, [3, 4]),
            Leaf::new(Source::tensor("b.vector"), [3]),
            Leaf::new(Source::tensor("b.two"), [3, 5]),
            Leaf::new(Source::tensor("b.two"), [3, 6]),
        ];
        let widths = Widths::of(&leaves, "b.");
        for (name, columns) in [
            ("b.qkv", Some(5)),
            ("qkv", Some(5)),
            ("b.0.w", Some(7)),
            ("1.w", Some(7)),
            ("b.2.w", None),
            ("b.turned", None),
            ("b.vector", None),
            ("b.two", None),
        ] {
            assert_eq!(widths.get(name), columns, "{name}");
        }
    }
}
