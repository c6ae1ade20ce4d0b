//! The reference's names of tensors in llama.cpp's files, and what the converter did to their elements.

use super::architecture::{Architecture, Change, Names};
use super::stored::{FACTORS, Stored};
use super::undo::{Found, Sizes};
use super::usual::USUAL;
use crate::registry::{Built, Headed};
use crate::{Elementwise, Leaf, ModelSpec, Source};

/// Has a description look for its weights under the names of a file.
pub(super) fn rename(built: &mut Built, architecture: &Architecture, stored: &Stored) {
    let renaming = Renaming::new(architecture, stored);
    renaming.apply(&mut built.spec);
    if let Some(untied) = &mut built.untied {
        renaming.apply(untied);
    }
    if let Some(Headed { spec, untied }) = &mut built.headed {
        renaming.apply(spec);
        if let Some(untied) = untied {
            renaming.apply(untied);
        }
    }
}

/// A description over the names that a converter gives the tensors; what it does to their rows is not known of any file.
pub(super) fn renamed(spec: &ModelSpec, architecture: &Architecture) -> ModelSpec {
    let stored = Stored::default();
    let mut spec = spec.clone();
    Renaming::new(architecture, &stored).apply(&mut spec);
    spec
}

/// The endings of names.
const ENDINGS: [&str; 2] = [".weight", ".bias"];

struct Renaming<'a> {
    names: &'static [Names],
    idle: &'static [&'static str],
    sizes: Sizes<'a>,
}

impl<'a> Renaming<'a> {
    fn new(architecture: &'a Architecture, stored: &'a Stored) -> Self {
        Self {
            names: architecture.names,
            idle: architecture.idle,
            sizes: Sizes::new(architecture.name, stored),
        }
    }

    fn apply(&self, spec: &mut ModelSpec) {
        spec.base_prefix = "";
        spec.ignored = FACTORS.to_vec();
        spec.ignored.extend(self.sizes.drafts());
        spec.ignored.extend(self.idle);
        for stack in &mut spec.stacks {
            let layers = stack.layers.iter_mut().flat_map(|layer| &mut layer.leaves);
            let leaves = stack.input.leaves_mut().iter_mut().chain(layers);
            for leaf in leaves.chain(&mut stack.head.leaves) {
                self.rename_leaf(leaf);
            }
        }
    }

    fn rename_leaf(&self, leaf: &mut Leaf) {
        leaf.source = self.source(&leaf.source);
    }

    /// The tensor of a file for one of the reference.
    fn find(&self, name: &str) -> Option<Found> {
        let ending = ENDINGS.into_iter().find(|ending| name.ends_with(ending));
        let module = name.strip_suffix(ending.unwrap_or(""))?;
        let (pattern, layer) = without_number(module);
        let within = |names: &'static Names| {
            let rest = pattern.strip_prefix(names.reference);
            let rows = names.rows.iter();
            rows.filter(move |row| rest == Some(row.reference))
                .map(move |row| (names, row))
        };
        let own = self.names.iter().chain(USUAL);
        let number = layer.and_then(|layer| layer.parse::<usize>().ok());
        let mut named = own.flat_map(within).map(|(names, row)| {
            let whole = row.exact || ENDINGS.iter().any(|ending| row.file.ends_with(ending));
            let ending = if whole {
                ""
            } else {
                ending.unwrap_or(".weight")
            };
            let name = format!("{}{}{ending}", names.file, row.file);
            let before = names.behind.map_or(0, |key| self.sizes.count(key));
            let block = number.map(|number| number.saturating_add(before).to_string());
            (row, name.replacen('*', block.as_deref().unwrap_or("*"), 1))
        });
        let first = named.next()?;
        // Of several names the one that the file has.
        let (row, name) = if self.sizes.has(&first.1) {
            first
        } else {
            named
                .find(|(_, name)| self.sizes.has(name))
                .unwrap_or(first)
        };
        let change = match row.change {
            // Only weights were changed so.
            Change::PlusOne | Change::Transposed if ending == Some(".bias") => Change::None,
            change => change,
        };
        Some(Found {
            name,
            change,
            number: number.unwrap_or(0),
        })
    }

    fn found(&self, of: &Source) -> Option<Found> {
        match of {
            Source::Tensor(name) => self.find(name),
            _ => None,
        }
    }

    fn source(&self, source: &Source) -> Source {
        let boxed = |of: &Source| Box::new(self.source(of));
        let all = |all: &[Source]| all.iter().map(|one| self.source(one)).collect();
        match source {
            Source::Tensor(name) => match self.find(name) {
                Some(found) => self.sizes.undone(found),
                None => source.clone(),
            },
            Source::Elementwise { of, by } => match (by, self.source(of)) {
                // The file has the sum.
                (
                    Elementwise::PlusOne,
                    Source::Elementwise {
                        of,
                        by: Elementwise::MinusOne,
                    },
                ) => *of,
                (by, of) => of.by(*by),
            },
            Source::Transpose(of) => match self.source(of) {
                Source::Transpose(of) => *of,
                of => of.transpose(),
            },
            Source::Part { of, split, part } => {
                let inner = match &**of {
                    Source::Transpose(inner) => inner,
                    inner => inner,
                };
                let found = self.found(inner);
                let own = found.and_then(|found| self.sizes.part(&found, split, *part));
                own.unwrap_or_else(|| Source::Part {
                    of: boxed(of),
                    split: split.clone(),
                    part: *part,
                })
            }
            Source::Each { of, count } => {
                let of = self.source(of);
                if of.names().iter().any(|name| name.contains("{}")) {
                    let (of, count) = (Box::new(of), *count);
                    return Source::Each { of, count };
                }
                of
            }
            Source::OneOf(all) | Source::Tied { own: _, all } => self.one_of(source, all),
            Source::Index { of, index } => Source::Index {
                of: boxed(of),
                index: *index,
            },
            Source::ConcatRows(parts) => Source::ConcatRows(all(parts)),
            Source::ConcatColumns(parts) => Source::ConcatColumns(all(parts)),
            Source::RopePermute { of, head_dim } => Source::RopePermute {
                of: boxed(of),
                head_dim: *head_dim,
            },
            Source::Reshape(of) => match (&**of, self.source(of)) {
                // It was transposed as what it is seen as.
                (Source::Tensor(_), of @ Source::Transpose(_)) => of,
                (_, of) => Source::Reshape(Box::new(of)),
            },
            Source::BlockDiagonal { of, groups } => Source::BlockDiagonal {
                of: boxed(of),
                groups: *groups,
            },
        }
    }

    /// The spellings that are known, each once.
    fn one_of(&self, source: &Source, all: &[Source]) -> Source {
        let is_known = |one: &&Source| one.names().iter().any(|name| self.find(name).is_some());
        let mut distinct: Vec<Source> = Vec::new();
        for one in all.iter().filter(is_known).map(|one| self.source(one)) {
            if !distinct.contains(&one) {
                distinct.push(one);
            }
        }
        if distinct.is_empty() {
            source.clone()
        } else {
            Source::one_of(distinct)
        }
    }
}

/// A name with `*` in the place of its first number, and that number.
fn without_number(name: &str) -> (String, Option<&str>) {
    let mut number = None;
    let parts = name.split('.').map(|part| {
        if number.is_none() && is_number(part) {
            number = Some(part);
            return "*";
        }
        part
    });
    let parts: Vec<&str> = parts.collect();
    (parts.join("."), number)
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}
