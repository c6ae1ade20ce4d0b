//! llama.cpp's names of the matrices of a model, whatever files it is read from.
//!
//! The tables that lead from a file's tensors to the reference's are used the other way: a description over the
//! reference's names is renamed, as if there were a file of it, and every weight that comes of tensors `blk.*` has
//! their names.

use std::collections::BTreeSet;

use super::architecture::{Architecture, Change, Names, Tiled};
use super::architectures::ARCHITECTURES;
use super::names::renamed;
use crate::source::{Leaf, Source};
use crate::{ModelSpec, Stack};

/// What the tensors of layers begin with.
const LAYERS: &str = "blk.";

/// Tensors that llama.cpp multiplies with something else than the reference's class does: what makes keys and values of a
/// latent vector, head by head.
const PER_HEAD: [&str; 2] = [".attn_k_b.", ".attn_v_b."];

/// llama.cpp's names of the weights of every layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrices {
    /// By stack, layer and leaf: the tensors that the leaf is, or is a part of. None: it is no tensor of a layer.
    pub names: Vec<Vec<Vec<Vec<String>>>>,
    /// Tensors whose inputs are other ones there, or in another order.
    pub different: BTreeSet<String>,
}

/// The names of a model's matrices; else why there are none.
pub fn matrices(spec: &ModelSpec) -> Result<Matrices, String> {
    let of_file = spec.stacks.iter().flat_map(leaves);
    let of_file = of_file.flat_map(|leaf| leaf.source.names());
    let is_file = of_file.into_iter().any(|name| name.starts_with(LAYERS));
    let (named, reordered) = if is_file {
        (spec.clone(), Vec::new())
    } else {
        let model_type = &spec.model_type;
        let architecture = architecture_of(model_type).ok_or_else(|| {
            format!("llama.cpp's names of the matrices of `{model_type}` are not known")
        })?;
        (renamed(spec, architecture), reordered(architecture))
    };
    let mut matrices = Matrices::default();
    for stack in &named.stacks {
        let mut of_stack = Vec::new();
        for layer in &stack.layers {
            let mut of_layer = Vec::new();
            for leaf in &layer.leaves {
                let mut found = Found::default();
                found.look(&leaf.source);
                let Found {
                    mut names,
                    is_other,
                } = found;
                names.retain(|name| name.starts_with(LAYERS));
                let is_other = is_other || names.iter().any(|name| differs(name, &reordered));
                if is_other {
                    matrices.different.extend(std::mem::take(&mut names));
                }
                of_layer.push(names);
            }
            of_stack.push(of_layer);
        }
        matrices.names.push(of_stack);
    }
    let mut all = matrices.names.iter().flatten().flatten().flatten();
    if all.next().is_none() {
        return Err(
            "llama.cpp collects nothing of it: none of its tensors is called `blk.*`".to_owned(),
        );
    }
    Ok(matrices)
}

fn leaves(stack: &Stack) -> impl Iterator<Item = &Leaf> {
    stack.layers.iter().flat_map(|layer| &layer.leaves)
}

/// The architecture of a type: of several the one that is called like it, else the first.
fn architecture_of(model_type: &str) -> Option<&'static Architecture> {
    let letters =
        |name: &str| -> String { name.chars().filter(char::is_ascii_alphanumeric).collect() };
    let of_type = |architecture: &&Architecture| architecture.model_types.contains(&model_type);
    let mut all = ARCHITECTURES.iter().filter(of_type);
    let first = all.next()?;
    let called = std::iter::once(first).chain(all);
    let mut called = called.filter(|one| letters(one.name) == letters(model_type));
    Some(called.next().unwrap_or(first))
}

/// What the names of tensors end with whose columns the converter puts into another order.
fn reordered(architecture: &Architecture) -> Vec<&'static str> {
    let rows = architecture
        .names
        .iter()
        .flat_map(|names: &Names| names.rows);
    rows.filter(|row| row.change == Change::Tiled(Tiled::Columns))
        .map(|row| row.file)
        .collect()
}

/// Whether a tensor's inputs are other ones than the reference's.
fn differs(name: &str, reordered: &[&str]) -> bool {
    let rest = name.splitn(3, '.').nth(2).unwrap_or(name);
    let module = rest.strip_suffix(".weight").unwrap_or(rest);
    reordered.contains(&module) || PER_HEAD.iter().any(|part| name.contains(part))
}

/// The tensors of an expression.
#[derive(Default)]
struct Found {
    names: Vec<String>,
    /// Its columns are not those of its tensors.
    is_other: bool,
}

impl Found {
    fn look_all(&mut self, all: &[Source]) {
        for one in all {
            self.look(one);
        }
    }

    fn look(&mut self, source: &Source) {
        match source {
            Source::Tensor(name) => {
                if !self.names.contains(name) {
                    self.names.push(name.clone());
                }
            }
            Source::OneOf(all) => self.look_all(&all[..all.len().min(1)]),
            Source::Tied { own, all: _ } => self.look(own),
            Source::ConcatRows(all) => self.look_all(all),
            Source::ConcatColumns(all) => {
                self.is_other |= all.len() > 1;
                self.look_all(all);
            }
            Source::Transpose(of) => {
                // What is put together of it is columns then.
                self.is_other |= matches!(**of, Source::ConcatRows(_));
                self.look(of);
            }
            Source::BlockDiagonal { of, groups } => {
                self.is_other |= *groups > 1;
                self.look(of);
            }
            Source::Part { of, .. }
            | Source::Each { of, .. }
            | Source::Index { of, .. }
            | Source::Elementwise { of, .. }
            | Source::RopePermute { of, .. }
            | Source::Reshape(of) => self.look(of),
        }
    }
}
