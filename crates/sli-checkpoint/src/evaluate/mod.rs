//! Evaluation of a `Source` expression: names to tiles.
//!
//! One slice at a time: a stacked weight of many experts is never expanded as a whole. The wanted
//! shape goes down the expression, for the places that cannot know their own (`Reshape`); the stored
//! shape comes up and is compared with the wanted one at the end.

mod reshape;
mod split;

use sli_spec::{Elementwise, Source, Split};

use crate::checkpoint::Checkpoint;
use crate::codes::Part;
use crate::dtype::Dtype;
use crate::problem::LeafProblem;
use crate::view::{Core, RowRun, Tile, View};

use split::{rows_of_part, whole_of_part};

/// Evaluates expressions over the tensors of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evaluator<'a> {
    pub checkpoint: &'a Checkpoint,
    /// Prefix that the checkpoint of a bare base model lacks.
    pub base_prefix: &'a str,
}

/// Which slice of what.
#[derive(Clone, Copy, Debug)]
struct At<'w> {
    core: Core,
    /// Which slice of the leading axes.
    slice: usize,
    /// What `{}` in names stands for.
    slot: Option<usize>,
    /// Shape of the whole, where it is known from above.
    want: Option<&'w [usize]>,
}

type Evaluated = Result<View, LeafProblem>;

impl Evaluator<'_> {
    /// One slice of a weight of this shape. `slice` counts the leading axes: all but the last two of
    /// a matrix, all but the last of a vector.
    ///
    /// A weight of two axes can be a matrix or a stack of vectors; the expression is tried as the
    /// one and then as the other. Splits make the two differ in shape, so at most one fits.
    pub fn leaf(&self, source: &Source, shape: &[usize], slice: usize) -> Evaluated {
        let cores: &[Core] = match shape.len() {
            0 | 1 => &[Core::Vector],
            2 if adds_axis(source) => &[Core::Vector, Core::Matrix],
            2 => &[Core::Matrix, Core::Vector],
            _ => &[Core::Matrix],
        };
        let mut first_problem = None;
        for &core in cores {
            match self.leaf_as(source, shape, core, slice) {
                Ok(view) => return Ok(view),
                Err(problem @ LeafProblem::Missing { .. }) => return Err(problem),
                Err(problem) => first_problem = first_problem.or(Some(problem)),
            }
        }
        Err(first_problem.unwrap_or_else(|| description(source, "it has no shape")))
    }

    /// [`Self::leaf`] when it is known what a slice is.
    pub fn leaf_as(&self, source: &Source, shape: &[usize], core: Core, slice: usize) -> Evaluated {
        let view = self.evaluate(
            source,
            At {
                core,
                slice,
                slot: None,
                want: Some(shape),
            },
        )?;
        if view.shape == shape {
            return Ok(view);
        }
        Err(LeafProblem::Shape {
            name: self.view_name(&view, source),
            found: view.shape,
            wanted: shape.to_vec(),
        })
    }

    /// Place of the tensor of this name, or of this name without the base model's prefix.
    pub fn lookup(&self, name: &str) -> Option<usize> {
        self.checkpoint.position(name).or_else(|| {
            if self.base_prefix.is_empty() {
                return None;
            }
            self.checkpoint
                .position(name.strip_prefix(self.base_prefix)?)
        })
    }

    fn evaluate(&self, source: &Source, at: At<'_>) -> Evaluated {
        match source {
            Source::Tensor(name) => self.tensor(name, at, false),
            Source::OneOf(all) => self.one_of(all, at.want, |one| self.evaluate(one, at)),
            Source::Tied { own, all } => {
                let copies = std::iter::once(&**own).chain(all);
                first_stored(copies, |one| self.evaluate(one, at))
            }
            Source::Part { of, split, part } => self.part(of, split, *part, at),
            Source::Transpose(of) => self.transpose(of, at),
            Source::Each { of, count } => self.each(source, *count, at, |at| self.evaluate(of, at)),
            Source::Index { of, index } => self.index(of, *index, at),
            Source::ConcatRows(all) => {
                self.concat(source, all, at, true, |one, at| self.evaluate(one, at))
            }
            Source::ConcatColumns(all) => {
                self.concat(source, all, at, false, |one, at| self.evaluate(one, at))
            }
            Source::Elementwise { of, by } => elementwise(self.evaluate(of, at)?, *by, source),
            Source::RopePermute { of, head_dim } => self.rope_permute(of, *head_dim, at),
            Source::Reshape(of) => self.reshape(source, of, at),
            Source::BlockDiagonal { of, groups } => self.block_diagonal(of, *groups, at),
        }
    }

    /// A tensor; `reshape`: seen with the wanted shape.
    fn tensor(&self, pattern: &str, at: At<'_>, reshape: bool) -> Evaluated {
        let name = match at.slot {
            Some(slot) if pattern.contains("{}") => &pattern.replace("{}", &slot.to_string()),
            _ => pattern,
        };
        let found = self
            .lookup(name)
            .and_then(|at| Some((at, self.checkpoint.tensor_at(at)?)));
        let Some((position, info)) = found else {
            return Err(LeafProblem::Missing {
                names: vec![name.to_owned()],
                partly: false,
            });
        };
        let coded = match self.checkpoint.coded(position) {
            None => None,
            Some(Ok(coded)) => Some(coded),
            Some(Err(problem)) => return Err(problem.clone()),
        };
        let element = coded.map_or_else(|| info.dtype.size_bytes(), |_| Some(1));
        let Some(element) = element else {
            return Err(LeafProblem::Dtype {
                name: info.name.to_string(),
                found: info.dtype,
                wanted: "elements of whole bytes".to_owned(),
            });
        };
        let own = coded.map_or(&info.shape, |coded| &coded.shape);
        let shape = match at.want {
            Some(want) if reshape => want,
            _ => own,
        };
        let structure = |reason: String| LeafProblem::Structure {
            name: info.name.to_string(),
            shape: own.to_vec(),
            reason,
        };
        if reshape && elements(shape) != elements(own) {
            return Err(structure(format!(
                "it has not as many elements as {shape:?}"
            )));
        }
        if at.core == Core::Matrix && shape.len() < 2 {
            return Err(structure("a matrix is wanted".to_owned()));
        }
        let is_strided = |part: &Part| {
            let part = self.checkpoint.tensor_at(part.tensor as usize);
            part.is_some_and(|part| part.strides.is_some())
        };
        if coded.is_some_and(|coded| coded.parts.iter().any(is_strided)) {
            return Err(structure(
                "it is coded, and its parts do not lie one behind the other".to_owned(),
            ));
        }
        let is_vector = at.core == Core::Vector && own.len() > 1;
        if coded.is_some() && (is_vector || !shape.ends_with(last_two(own))) {
            return Err(structure(
                "it is coded, and its code holds for matrices of its own shape alone".to_owned(),
            ));
        }
        let mut view = View {
            shape: shape.to_vec(),
            core: at.core,
            dtype: coded.map_or(info.dtype, |_| Dtype::F32),
            coded: coded.is_some(),
            element,
            elementwise: None,
            has_holes: false,
            tensors: coded.map_or_else(|| vec![position as u32], |coded| coded.tensors().collect()),
            tiles: Vec::new(),
        };
        if at.slice >= view.slices() && info.bytes > 0 {
            return Err(structure(format!("it has no slice {}", at.slice)));
        }
        let start = if view.coded { 0 } else { info.offset };
        let [slice_stride, row_stride, column_stride] = match &info.strides {
            _ if coded.is_some_and(|coded| coded.turned) => {
                [view.row_major()[0], 1, view.rows() as u64]
            }
            None => view.row_major(),
            Some(strides) if *shape == *info.shape && !view.coded => view
                .strided(strides)
                .ok_or_else(|| structure("its slices are not evenly spaced".to_owned()))?,
            Some(_) => {
                return Err(structure(
                    "its elements do not lie one behind the other".to_owned(),
                ));
            }
        };
        if info.bytes > 0 {
            // All products here are at most the tensor's own bytes.
            view.tiles.push(Tile {
                row: 0,
                rows: view.rows(),
                column: 0,
                columns: view.columns(),
                tensor: position as u32,
                offset: start + at.slice as u64 * slice_stride,
                row_stride,
                column_stride,
                slice_stride,
            });
        }
        Ok(view)
    }

    /// The one alternative that is there and fits.
    fn one_of(
        &self,
        all: &[Source],
        want: Option<&[usize]>,
        evaluate: impl Fn(&Source) -> Evaluated,
    ) -> Evaluated {
        let mut fitting: Vec<View> = Vec::new();
        let mut problem: Option<LeafProblem> = None;
        let mut missing = Vec::new();
        for one in all {
            match evaluate(one) {
                Ok(view) if want.is_none_or(|want| view.shape == want) => {
                    if !fitting.iter().any(|other| other.tiles == view.tiles) {
                        fitting.push(view);
                    }
                }
                Ok(view) => {
                    problem = problem.or_else(|| {
                        Some(LeafProblem::Shape {
                            name: self.view_name(&view, one),
                            wanted: want.unwrap_or_default().to_vec(),
                            found: view.shape,
                        })
                    });
                }
                Err(LeafProblem::Missing {
                    names,
                    partly: false,
                }) => missing.extend(names),
                Err(other) => problem = problem.or(Some(other)),
            }
        }
        if fitting.len() > 1 {
            let names = fitting
                .iter()
                .map(|view| self.view_name(view, &all[0]))
                .collect();
            return Err(LeafProblem::Ambiguous { names });
        }
        match (fitting.pop(), problem) {
            (Some(view), _) => Ok(view),
            (None, Some(problem)) => Err(problem),
            (None, None) => Err(LeafProblem::Missing {
                names: missing,
                partly: false,
            }),
        }
    }

    fn part(&self, of: &Source, split: &Split, part: usize, at: At<'_>) -> Evaluated {
        let want = at
            .want
            .and_then(|want| whole_of_part(want, at.core, split, part));
        let mut view = self.evaluate(
            of,
            At {
                want: want.as_deref(),
                ..at
            },
        )?;
        let Some((runs, rows)) = rows_of_part(split, part, view.rows()) else {
            return Err(LeafProblem::Structure {
                name: self.view_name(&view, of),
                reason: format!("its rows do not divide as part {part} of {split:?}"),
                shape: view.shape,
            });
        };
        view.select_rows(runs, rows);
        Ok(view)
    }

    fn transpose(&self, of: &Source, at: At<'_>) -> Evaluated {
        if at.core == Core::Vector {
            return Err(description(of, "a vector has no transpose"));
        }
        if let Source::Tensor(name) = of
            && self.is_linear(name)
        {
            return self.evaluate(of, at);
        }
        let want = at.want.map(|want| {
            let mut want = want.to_vec();
            let rank = want.len();
            if rank >= 2 {
                want.swap(rank - 2, rank - 1);
            }
            want
        });
        let mut view = self.evaluate(
            of,
            At {
                want: want.as_deref(),
                ..at
            },
        )?;
        view.transpose();
        Ok(view)
    }

    /// Whether a tensor is stored as the weight of a linear module.
    fn is_linear(&self, name: &str) -> bool {
        let coded = self.lookup(name).and_then(|at| self.checkpoint.coded(at));
        coded.is_some_and(|coded| {
            let coded = coded.as_ref();
            coded.is_ok_and(|coded| coded.linear && coded.shape.len() == 2)
        })
    }

    fn each(
        &self,
        source: &Source,
        count: usize,
        at: At<'_>,
        evaluate: impl Fn(At<'_>) -> Evaluated,
    ) -> Evaluated {
        if at.slot.is_some() {
            return Err(description(source, "`Each` within `Each`"));
        }
        if at.slice >= count {
            return Err(description(
                source,
                &format!("there is no slice {} of {count}", at.slice),
            ));
        }
        let want = at.want.and_then(|want| want.get(1..));
        let mut view = evaluate(At {
            core: at.core,
            slice: 0,
            slot: Some(at.slice),
            want,
        })?;
        if !view.leading().is_empty() {
            return Err(LeafProblem::Structure {
                name: self.view_name(&view, source),
                reason: "a stacked tensor cannot be stacked again".to_owned(),
                shape: view.shape,
            });
        }
        view.shape.insert(0, count);
        Ok(view)
    }

    fn index(&self, of: &Source, index: usize, at: At<'_>) -> Evaluated {
        let slice = |slice: usize| {
            self.evaluate(
                of,
                At {
                    slice,
                    want: None,
                    ..at
                },
            )
        };
        let whole = slice(0)?;
        let Some((&count, rest)) = whole.leading().split_first() else {
            return Err(LeafProblem::Structure {
                name: self.view_name(&whole, of),
                reason: "it is not stacked".to_owned(),
                shape: whole.shape,
            });
        };
        if index >= count {
            return Err(LeafProblem::Structure {
                name: self.view_name(&whole, of),
                reason: format!("it has no slice {index}"),
                shape: whole.shape,
            });
        }
        let each = rest
            .iter()
            .fold(1_usize, |product, &n| product.saturating_mul(n));
        if at.slice >= each {
            return Err(description(
                of,
                &format!("there is no slice {} of {each}", at.slice),
            ));
        }
        // At most the number of slices, which was counted above.
        let mut view = slice(index.saturating_mul(each).saturating_add(at.slice))?;
        view.shape.remove(0);
        Ok(view)
    }

    fn concat(
        &self,
        source: &Source,
        all: &[Source],
        at: At<'_>,
        rows: bool,
        evaluate: impl Fn(&Source, At<'_>) -> Evaluated,
    ) -> Evaluated {
        if !rows && at.core == Core::Vector {
            return Err(description(
                source,
                "a vector has no columns to concatenate",
            ));
        }
        let mut joined: Option<View> = None;
        let mut missing = Vec::new();
        let mut present = false;
        for one in all {
            let view = match evaluate(one, At { want: None, ..at }) {
                Err(LeafProblem::Missing { names, partly }) => {
                    missing.extend(names);
                    present |= partly;
                    continue;
                }
                other => other?,
            };
            present = true;
            joined = Some(match joined {
                None => view,
                Some(first) => self.join(first, view, one, rows)?,
            });
        }
        if !missing.is_empty() {
            return Err(LeafProblem::Missing {
                names: missing,
                partly: present,
            });
        }
        joined.ok_or_else(|| description(source, "nothing to concatenate"))
    }

    /// Puts a second view below the first or to the right of it.
    fn join(&self, mut first: View, second: View, of: &Source, rows: bool) -> Evaluated {
        let fits = first.leading() == second.leading()
            && first.elementwise == second.elementwise
            && if rows {
                first.columns() == second.columns()
            } else {
                first.rows() == second.rows()
            };
        let axis = |view: &View| if rows { view.rows() } else { view.columns() };
        let (Some(total), true) = (axis(&first).checked_add(axis(&second)), fits) else {
            return Err(LeafProblem::Structure {
                name: self.view_name(&second, of),
                reason: format!("it does not fit beside shape {:?}", first.shape),
                shape: second.shape,
            });
        };
        if (first.dtype, first.coded) != (second.dtype, second.coded) {
            return Err(LeafProblem::Dtype {
                name: self.view_name(&second, of),
                found: second.dtype,
                wanted: format!("{}, as the tensors beside it", first.dtype),
            });
        }
        if rows {
            let above = first.rows();
            first.place(second, above, 0);
            first.set_rows(total);
        } else {
            let left = first.columns();
            first.place(second, 0, left);
            if let Some(columns) = first.shape.last_mut() {
                *columns = total;
            }
        }
        Ok(first)
    }

    fn rope_permute(&self, of: &Source, head_dim: usize, at: At<'_>) -> Evaluated {
        let mut view = self.evaluate(of, at)?;
        let rows = view.rows();
        if head_dim == 0 || !head_dim.is_multiple_of(2) || !rows.is_multiple_of(head_dim) {
            return Err(LeafProblem::Structure {
                name: self.view_name(&view, of),
                reason: format!("its rows do not divide into heads of {head_dim}"),
                shape: view.shape,
            });
        }
        let halves = (0..rows / head_dim).flat_map(move |head| {
            let start = head * head_dim;
            [start, start + 1].map(|start| RowRun {
                start,
                count: head_dim / 2,
                step: 2,
            })
        });
        view.select_rows(halves, rows);
        Ok(view)
    }

    /// Every group of rows in columns of its own.
    fn block_diagonal(&self, of: &Source, groups: usize, at: At<'_>) -> Evaluated {
        let narrow = at.want.map(|want| {
            let mut want = want.to_vec();
            if let Some(columns) = want.last_mut() {
                *columns /= groups.max(1);
            }
            want
        });
        let inner = At {
            want: narrow.as_deref(),
            ..at
        };
        let mut blocks = self.evaluate(of, inner)?;
        let (rows, width) = (blocks.rows(), blocks.columns());
        let columns = width.checked_mul(groups);
        let (Core::Matrix, Some(columns), true) = (
            at.core,
            columns,
            (1..=rows).contains(&groups) && rows % groups == 0,
        ) else {
            return Err(LeafProblem::Structure {
                name: self.view_name(&blocks, of),
                reason: format!("its rows do not divide into {groups} blocks"),
                shape: blocks.shape,
            });
        };
        let height = rows / groups;
        let mut whole = View {
            tiles: Vec::new(),
            tensors: std::mem::take(&mut blocks.tensors),
            has_holes: true,
            ..blocks.clone()
        };
        if let Some(last) = whole.shape.last_mut() {
            *last = columns;
        }
        // As many blocks as rows at most, which are stored.
        for group in 0..groups {
            let mut block = blocks.clone();
            let run = RowRun {
                start: group * height,
                count: height,
                step: 1,
            };
            block.select_rows(std::iter::once(run), height);
            whole.place(block, group * height, group * width);
        }
        Ok(whole)
    }

    /// A name for messages: the first tensor of the view.
    pub fn view_name(&self, view: &View, source: &Source) -> String {
        let first = view
            .tensors
            .first()
            .and_then(|&at| self.checkpoint.tensor_at(at as usize));
        first.map_or_else(|| first_name(source), |tensor| tensor.name.to_string())
    }
}

/// The first name of an expression, for messages.
pub(crate) fn first_name(source: &Source) -> String {
    source
        .names()
        .first()
        .map_or_else(|| "(no tensor)".to_owned(), |name| (*name).to_owned())
}

/// The first of these that is there.
pub(super) fn first_stored<'s>(
    copies: impl Iterator<Item = &'s Source>,
    evaluate: impl Fn(&Source) -> Evaluated,
) -> Evaluated {
    let mut missing: Vec<String> = Vec::new();
    for copy in copies {
        match evaluate(copy) {
            Err(LeafProblem::Missing {
                names,
                partly: false,
            }) => {
                let further = names.into_iter().filter(|name| !missing.contains(name));
                let further: Vec<String> = further.collect();
                missing.extend(further);
            }
            found => return found,
        }
    }
    Err(LeafProblem::Missing {
        names: missing,
        partly: false,
    })
}

/// Whether the expression stacks tensors.
pub(crate) fn adds_axis(source: &Source) -> bool {
    match source {
        Source::Each { .. } => true,
        Source::Tensor(_) => false,
        Source::OneOf(all)
        | Source::Tied { own: _, all }
        | Source::ConcatRows(all)
        | Source::ConcatColumns(all) => all.iter().any(adds_axis),
        Source::Part { of, .. }
        | Source::Transpose(of)
        | Source::Index { of, .. }
        | Source::Elementwise { of, .. }
        | Source::RopePermute { of, .. }
        | Source::BlockDiagonal { of, .. }
        | Source::Reshape(of) => adds_axis(of),
    }
}

fn description(source: &Source, reason: &str) -> LeafProblem {
    LeafProblem::Description {
        name: first_name(source),
        reason: reason.to_owned(),
    }
}

fn elementwise(mut view: View, by: Elementwise, source: &Source) -> Evaluated {
    if view.elementwise.is_some() {
        return Err(description(source, "a function within a function"));
    }
    view.elementwise = Some(by);
    Ok(view)
}

fn last_two(shape: &[usize]) -> &[usize] {
    &shape[shape.len().saturating_sub(2)..]
}

fn elements(shape: &[usize]) -> Option<u64> {
    shape
        .iter()
        .try_fold(1_u64, |product, &n| product.checked_mul(n as u64))
}
