//! A plain decoder whose files name or lay out its weights otherwise.
//!
//! A family describes such a type as a [`Decoder`](super::decoder::Decoder) and respells the result:
//! the mathematics is written once, the layout of the file is a table.

use crate::{Attention, Layer, Leaf, Mixer, ModelSpec, Shard, Source, Split, Stack, WeightIndex};

/// Where a module's weight and addend are.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a module of another name.
    As(&'static str),
    /// In some rows of a module that holds several: name, division, part.
    Part(&'static str, Split, usize),
    /// In a module whose heads have their rotated features in interleaved pairs: name, head size.
    Interleaved(&'static str, usize),
}

/// The names of a file's modules.
#[derive(Clone, Debug)]
pub struct Spelling {
    /// What stands in front of a layer's number.
    pub layers: &'static str,
    /// Added to a layer's number.
    pub first_layer: usize,
    /// Modules of a layer, by their usual names; others keep theirs.
    pub in_layer: Vec<(&'static str, Place)>,
    /// Modules outside the layers: their usual names without the base prefix, and their full names.
    pub outside: Vec<(&'static str, String)>,
}

impl Spelling {
    /// The usual names in the layers, apart from `in_layer`.
    pub fn of_layers(in_layer: Vec<(&'static str, Place)>) -> Self {
        Self {
            layers: "model.layers.",
            first_layer: 0,
            in_layer,
            outside: Vec::new(),
        }
    }

    /// Gives every weight of a decoder the name and layout that the file has.
    pub fn apply(&self, spec: &mut ModelSpec) {
        let base = spec.base_prefix;
        for stack in &mut spec.stacks {
            let (embedding, head) = (stack.input.leaves_mut(), &mut stack.head.leaves);
            for leaf in embedding.iter_mut().chain(head) {
                respell(&mut leaf.source, &|name| {
                    self.name_outside(name, base).map(Source::tensor)
                });
            }
            for (number, layer) in stack.layers.iter_mut().enumerate() {
                let prefix = format!("{}{}.", self.layers, number + self.first_layer);
                let usual = std::mem::replace(&mut layer.prefix, prefix.clone());
                for leaf in &mut layer.leaves {
                    respell(&mut leaf.source, &|name| {
                        let bare = name.strip_prefix(&usual)?;
                        Some(self.place_in_layer(&prefix, bare))
                    });
                }
            }
        }
    }

    fn name_outside(&self, name: &str, base: &str) -> Option<String> {
        let bare = name.strip_prefix(base).unwrap_or(name);
        let (module, parameter) = bare.rsplit_once('.')?;
        let (_, place) = self.outside.iter().find(|(usual, _)| *usual == module)?;
        Some(format!("{place}.{parameter}"))
    }

    fn place_in_layer(&self, prefix: &str, name: &str) -> Source {
        let Some((module, parameter)) = name.rsplit_once('.') else {
            return Source::tensor(format!("{prefix}{name}"));
        };
        let tensor = |module: &str| Source::tensor(format!("{prefix}{module}.{parameter}"));
        match self.in_layer.iter().find(|(usual, _)| *usual == module) {
            None => tensor(module),
            Some((_, Place::As(module))) => tensor(module),
            Some((_, Place::Part(module, split, part))) => {
                tensor(module).part(split.clone(), *part)
            }
            Some((_, Place::Interleaved(module, head_dim))) => Source::RopePermute {
                of: Box::new(tensor(module)),
                head_dim: *head_dim,
            },
        }
    }
}

/// Queries, keys and values one after another in one module; sizes in rows.
pub fn fused_rows(module: &'static str, rows: [usize; 3]) -> Vec<(&'static str, Place)> {
    let split = Split::Rows(rows.to_vec());
    fused(module, &split)
}

/// Queries, keys and values as parts 0, 1 and 2 of one module.
pub fn fused(module: &'static str, split: &Split) -> Vec<(&'static str, Place)> {
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
        .into_iter()
        .enumerate()
        .map(|(part, usual)| (usual, Place::Part(module, split.clone(), part)))
        .collect()
}

/// Replaces every tensor of an expression.
pub fn respell(source: &mut Source, place: &impl Fn(&str) -> Option<Source>) {
    match source {
        Source::Tensor(name) => {
            if let Some(found) = place(name) {
                *source = found;
            }
        }
        Source::OneOf(all) | Source::ConcatRows(all) | Source::ConcatColumns(all) => {
            for source in all {
                respell(source, place);
            }
        }
        Source::Part { of, .. }
        | Source::Transpose(of)
        | Source::Each { of, .. }
        | Source::Index { of, .. }
        | Source::PlusOne(of)
        | Source::RopePermute { of, .. }
        | Source::Reshape(of) => respell(of, place),
    }
}

/// The only stack of a decoder.
pub fn decoder(spec: &mut ModelSpec) -> &mut Stack {
    &mut spec.stacks[0]
}

/// Every attention of a model.
pub fn attentions(spec: &mut ModelSpec) -> impl Iterator<Item = &mut Attention> {
    let layers = spec.stacks.iter_mut().flat_map(|stack| &mut stack.layers);
    layers
        .flat_map(|layer: &mut Layer| &mut layer.steps)
        .flat_map(|step| &mut step.branches)
        .filter_map(|branch| match &mut branch.mixer {
            Mixer::Attention(attention) => Some(attention.as_mut()),
            _ => None,
        })
}

/// Adds a vector to the weights of an embedding or a head.
pub fn add_vector(
    leaves: &mut Vec<Leaf>,
    name: String,
    features: usize,
    optional: Option<&'static str>,
) -> WeightIndex {
    let index = WeightIndex(leaves.len() as u32);
    leaves.push(Leaf {
        source: Source::tensor(name),
        shape: vec![features],
        shard: Shard::Replicate,
        optional,
        constant: false,
    });
    index
}
