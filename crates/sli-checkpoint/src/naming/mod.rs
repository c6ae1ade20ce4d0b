//! Names as training code leaves them: prefixes that a wrapper puts in front of every name, and
//! wrappers within names.
//!
//! Nothing is done to a checkpoint whose names fit. Otherwise one change of the beginnings is looked
//! for that gives every weight of the model a tensor: a prefix taken off, a prefix added, or the base
//! model's own prefix replaced. The prefix is found, not listed: the name of the first weight
//! (*anchor*) is looked for at the end of the stored names. Where two changes fit, both are named and
//! none is made. `docs/decisions/014-tensor-names.md` has the reasons.

mod problem;
mod stored;
mod wrappers;

use std::collections::BTreeSet;
use std::fmt;

use sli_spec::{Leaf, ModelSpec, Source};

use crate::checkpoint::Checkpoint;
use crate::coverage::matches;
use crate::error::CheckpointError;
pub use problem::NamingProblem;
use stored::{Prefix, StoredNames};

/// How the names in the file became those of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// What every name begins with in the file, and what the model has in its place; one of them may
    /// be empty.
    pub prefix: Option<(String, String)>,
    /// Parts within names that are left out.
    pub wrappers: Vec<String>,
    /// Number of tensors that have another name in the file.
    pub renamed: usize,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some((stored, model)) if model.is_empty() => write!(f, "`{stored}` is taken off")?,
            Some((stored, model)) if stored.is_empty() => write!(f, "`{model}` is put in front")?,
            Some((stored, model)) => write!(f, "`{stored}` is read as `{model}`")?,
            None => {}
        }
        if !self.wrappers.is_empty() {
            let and = if self.prefix.is_some() { ", " } else { "" };
            let wrappers = self.wrappers.iter().map(|wrapper| format!("`{wrapper}`"));
            let wrappers = wrappers.collect::<Vec<_>>().join(", ");
            write!(f, "{and}{wrappers} within names is left out")?;
        }
        Ok(())
    }
}

/// Most steps of the search, for each weight of the model and each tensor of the file. Every name
/// has few prefixes, so no honest file comes near.
const MAX_STEPS: usize = 16;

/// Gives the tensors of a checkpoint the names that the model has for them, where the file's own do
/// not fit and there is one way. `untied` is the same model with a head of its own, which may stand
/// in for the token table. Tensors that `allowed` fits are not considered.
pub fn settle(
    checkpoint: &mut Checkpoint,
    spec: &ModelSpec,
    untied: Option<&ModelSpec>,
    allowed: &[String],
) -> Result<Option<Naming>, CheckpointError> {
    let wanted = Wanted::new(spec, untied);
    let has = |name: &str| checkpoint.position(name).is_some();
    let has = &mut |name: &str| wanted.with_or_without_base(name, has);
    let fits = wanted.is_there(has);
    let lacking = wanted.optional_lacking(has);
    if fits && lacking == 0 {
        return Ok(None);
    }
    let found = if fits {
        // Only an optional part is not there: it may be what is wrapped.
        unwrapped(checkpoint, &wanted, allowed, lacking)
    } else {
        find(checkpoint, &wanted, allowed)
    };
    match found {
        Ok(Some((names, naming))) => {
            checkpoint.rename(names);
            Ok(Some(naming))
        }
        Ok(None) => Ok(None),
        Err(problem) => Err(CheckpointError::Naming {
            place: checkpoint.place(),
            problem,
        }),
    }
}

/// The new name of every tensor.
type Names = Vec<Box<str>>;

/// Names of a checkpoint that lacks this many optional weights, if there are fewer without wrappers.
fn unwrapped(
    checkpoint: &Checkpoint,
    wanted: &Wanted<'_>,
    allowed: &[String],
    lacking: usize,
) -> Result<Option<(Names, Naming)>, NamingProblem> {
    let names = without_wrappers(checkpoint, &wanted.words(), allowed);
    if names.dropped().is_empty() {
        return Ok(None);
    }
    let prefix = Prefix::default();
    let has = |name: &str| names.has(name, &prefix);
    let has = &mut |name: &str| wanted.with_or_without_base(name, has);
    if !wanted.is_there(has) || wanted.optional_lacking(has) >= lacking {
        return Ok(None);
    }
    named(checkpoint, &names, prefix).map(Some)
}

fn find(
    checkpoint: &Checkpoint,
    wanted: &Wanted<'_>,
    allowed: &[String],
) -> Result<Option<(Names, Naming)>, NamingProblem> {
    let words = wanted.words();
    let mut names = without_wrappers(checkpoint, &words, allowed);
    let mut prefix = wanted.prefix_for(&names)?;
    // Perhaps every layer has one unknown part between its number and its weights.
    if prefix.is_none() && names.drop_layer_wrapper(&wanted.layer_word(), &words) {
        prefix = wanted.prefix_for(&names)?;
    }
    // What is missing is said in the model's names, where most of it is there under one prefix.
    let prefix = prefix.or_else(|| wanted.nearest(&names));
    let named = |prefix| named(checkpoint, &names, prefix);
    prefix.map(named).transpose()
}

fn without_wrappers<'c>(
    checkpoint: &'c Checkpoint,
    words: &BTreeSet<&str>,
    allowed: &[String],
) -> StoredNames<'c> {
    let considered = |name: &str| !allowed.iter().any(|pattern| matches(pattern, name));
    StoredNames::new(checkpoint, considered, |name| wrappers::unwrap(name, words))
}

/// The names that the tensors get, and how.
fn named(
    checkpoint: &Checkpoint,
    names: &StoredNames<'_>,
    prefix: Prefix,
) -> Result<(Names, Naming), NamingProblem> {
    let all = names.renamed(checkpoint, &prefix)?;
    let pairs = checkpoint.tensors().zip(&all);
    let renamed = pairs.filter(|(tensor, name)| tensor.name != **name).count();
    let naming = Naming {
        prefix: (!prefix.is_nothing()).then_some((prefix.stored, prefix.model)),
        wrappers: names.dropped(),
        renamed,
    };
    Ok((all, naming))
}

/// What a model needs of names.
struct Wanted<'s> {
    base_prefix: &'s str,
    spec: &'s ModelSpec,
    /// Weights that may be there in place of the embedding's.
    stand_ins: Vec<&'s Leaf>,
}

impl<'s> Wanted<'s> {
    fn new(spec: &'s ModelSpec, untied: Option<&'s ModelSpec>) -> Self {
        let own: BTreeSet<Vec<&str>> = spec.leaves().map(|leaf| leaf.source.names()).collect();
        let others = untied.into_iter().flat_map(ModelSpec::leaves);
        Self {
            base_prefix: spec.base_prefix,
            spec,
            stand_ins: others
                .filter(|leaf| !own.contains(&leaf.source.names()))
                .collect(),
        }
    }

    /// Looks a name up as the evaluation of sources does.
    fn with_or_without_base(&self, name: &str, has: impl Fn(&str) -> bool) -> bool {
        let bare = || {
            name.strip_prefix(self.base_prefix)
                .filter(|_| !self.base_prefix.is_empty())
        };
        has(name) || bare().is_some_and(has)
    }

    /// Whether every weight that the model cannot do without has its tensors.
    fn is_there(&self, has: &mut dyn FnMut(&str) -> bool) -> bool {
        self.spec.stacks.iter().all(|stack| {
            let layers = stack.layers.iter().flat_map(|layer| &layer.leaves);
            let others = layers.chain(&stack.head.leaves);
            let needed = |leaf: &&Leaf| leaf.optional.is_none();
            let mut embedding = stack.input.leaves().iter().filter(needed);
            let stand_in = |has: &mut dyn FnMut(&str) -> bool| {
                self.stand_ins.iter().any(|leaf| present(&leaf.source, has))
            };
            embedding.all(|leaf| present(&leaf.source, has) || stand_in(has))
                && others.filter(needed).all(|leaf| present(&leaf.source, has))
        })
    }

    /// The change of the beginnings after which the fewest weights lack their tensors, if it is one
    /// and gives most of them theirs.
    fn nearest(&self, names: &StoredNames<'_>) -> Option<Prefix> {
        let needed = || self.spec.leaves().filter(|leaf| leaf.optional.is_none());
        let most = needed().count() / 4;
        let mut nearest: Option<(usize, Prefix)> = None;
        let mut several = false;
        let plain = std::iter::once(Prefix::default());
        let prefixes = plain.chain(names.prefixes(&self.anchors()));
        for prefix in prefixes.take(MAX_STEPS) {
            let mut has =
                |name: &str| self.with_or_without_base(name, |name| names.has(name, &prefix));
            let lacking = needed().filter(|leaf| !present(&leaf.source, &mut has));
            let lacking = lacking.take(most + 1).count();
            match &nearest {
                _ if lacking > most => {}
                Some((least, _)) if lacking > *least => {}
                Some((least, _)) if lacking == *least => several = true,
                _ => (nearest, several) = (Some((lacking, prefix)), false),
            }
        }
        nearest.filter(|_| !several).map(|(_, prefix)| prefix)
    }

    /// How many weights of optional parts have no tensor.
    fn optional_lacking(&self, has: &mut dyn FnMut(&str) -> bool) -> usize {
        let optional = self.spec.leaves().filter(|leaf| leaf.optional.is_some());
        optional.filter(|leaf| !present(&leaf.source, has)).count()
    }

    /// Every part between dots of the model's names.
    fn words(&self) -> BTreeSet<&'s str> {
        let names = self.spec.leaves().flat_map(|leaf| leaf.source.names());
        names.flat_map(|name| name.split('.')).collect()
    }

    /// Names by whose ends prefixes are found, and how many bytes of the end have to be there.
    fn anchors(&self) -> Vec<(&'s str, usize)> {
        let first = |leaves: &'s [Leaf]| leaves.iter().find(|leaf| leaf.optional.is_none());
        let of_stack = self.spec.stacks.iter().take(1).flat_map(|stack| {
            let layer = stack.layers.first().map(|layer| &layer.leaves[..]);
            [first(stack.input.leaves()), layer.and_then(first)]
        });
        let names = of_stack.flatten().flat_map(|leaf| leaf.source.names());
        let names = names.filter(|name| !name.contains("{}"));
        names
            .map(|name| {
                let least = name.strip_prefix(self.base_prefix).unwrap_or(name);
                (name, least.len())
            })
            .collect()
    }

    /// The part in front of a layer's number.
    fn layer_word(&self) -> String {
        let layer = self
            .spec
            .stacks
            .first()
            .and_then(|stack| stack.layers.first());
        let prefix = layer.map_or("", |layer| layer.prefix.as_str());
        let parts: Vec<&str> = prefix.split('.').collect();
        let number = parts.iter().rposition(|part| wrappers::is_number(part));
        let word = number.and_then(|number| parts.get(number.checked_sub(1)?));
        word.map_or_else(String::new, |word| (*word).to_owned())
    }

    /// The one change of the beginnings that gives every weight a tensor.
    fn prefix_for(&self, names: &StoredNames<'_>) -> Result<Option<Prefix>, NamingProblem> {
        let leaves = self.spec.leaves().count();
        let mut steps = MAX_STEPS.saturating_mul(names.len() + leaves);
        let mut found: Option<Prefix> = None;
        let plain = std::iter::once(Prefix::default());
        for prefix in plain.chain(names.prefixes(&self.anchors())) {
            let fits = self.is_there(&mut |name| {
                steps = steps.saturating_sub(1);
                steps > 0 && self.with_or_without_base(name, |name| names.has(name, &prefix))
            });
            if fits && prefix.is_nothing() {
                return Ok(Some(prefix));
            }
            match (&found, fits) {
                (_, false) => {}
                (None, true) => found = Some(prefix),
                (Some(first), true) => {
                    return Err(NamingProblem::Prefixes {
                        first: first.stored.clone(),
                        second: prefix.stored,
                    });
                }
            }
        }
        Ok(found.filter(|_| steps > 0))
    }
}

/// Whether the tensors of an expression are there; of stacked ones the first and the last.
fn present(source: &Source, has: &mut dyn FnMut(&str) -> bool) -> bool {
    match source {
        Source::Tensor(name) => has(name),
        Source::OneOf(all) | Source::Tied { own: _, all } => {
            all.iter().any(|one| present(one, has))
        }
        Source::ConcatRows(all) | Source::ConcatColumns(all) => {
            all.iter().all(|one| present(one, has))
        }
        Source::Each { of, count } => [0, count.saturating_sub(1)].iter().all(|slot| {
            let slot = slot.to_string();
            present(of, &mut |name| has(&name.replace("{}", &slot)))
        }),
        Source::Part { of, .. }
        | Source::Transpose(of)
        | Source::Index { of, .. }
        | Source::Elementwise { of, .. }
        | Source::RopePermute { of, .. }
        | Source::BlockDiagonal { of, .. }
        | Source::Reshape(of) => present(of, has),
    }
}
