//! The same bytes with another shape.

use sli_spec::Source;

use super::{At, Evaluated, Evaluator, description, elements, elementwise, first_stored};
use crate::problem::LeafProblem;
use crate::view::{Core, Tile, View};

impl Evaluator<'_> {
    /// The expression with the wanted shape; reshaping goes inwards to the tensors.
    pub(super) fn reshape(&self, source: &Source, of: &Source, at: At<'_>) -> Evaluated {
        let Some(want) = at.want else {
            return Err(description(source, "`Reshape` where no shape is known"));
        };
        match of {
            Source::Tensor(name) => self.tensor(name, at, true),
            Source::Reshape(inner) => self.reshape(of, inner, at),
            Source::OneOf(all) => self.one_of(all, at.want, |one| self.reshape(source, one, at)),
            Source::Tied { own, all } => {
                let copies = std::iter::once(&**own).chain(all);
                first_stored(copies, |one| self.reshape(source, one, at))
            }
            Source::Elementwise { of: inner, by } => {
                elementwise(self.reshape(source, inner, at)?, *by, of)
            }
            Source::Each { of: inner, count } if want.first() == Some(count) => {
                self.each(source, *count, at, |at| self.reshape(source, inner, at))
            }
            // All elements of one tensor after those of another.
            Source::ConcatRows(all) if want.len() == 1 && all.iter().all(is_tensor) => {
                self.concat(of, all, at, true, |one, at| self.flat(one, at))
            }
            _ => self.reshape_dense(of, want, at),
        }
    }

    /// All elements of a tensor, in whatever spelling, as a vector.
    fn flat(&self, source: &Source, at: At<'_>) -> Evaluated {
        let name = match source {
            Source::Tensor(name) => name,
            Source::OneOf(all) => return self.one_of(all, None, |one| self.flat(one, at)),
            _ => return Err(description(source, "no tensor to see as a vector")),
        };
        let position = self.lookup(name);
        let found = position.and_then(|position| self.checkpoint.tensor_at(position));
        let elements = found.map_or(0, |info| info.elements() as usize);
        let want = Some(&[elements][..]);
        self.tensor(name, At { want, ..at }, true)
    }

    /// A reshaped expression that is neither a tensor nor a choice of tensors: possible where its
    /// elements happen to lie side by side.
    fn reshape_dense(&self, of: &Source, want: &[usize], at: At<'_>) -> Evaluated {
        let inner = At {
            slice: 0,
            want: None,
            ..at
        };
        let mut view = self
            .evaluate(
                of,
                At {
                    core: Core::Matrix,
                    ..inner
                },
            )
            .or_else(|_| {
                self.evaluate(
                    of,
                    At {
                        core: Core::Vector,
                        ..inner
                    },
                )
            })?;
        let structure = |view: &View, reason: String| LeafProblem::Structure {
            name: self.view_name(view, of),
            shape: view.shape.clone(),
            reason,
        };
        if elements(&view.shape) != elements(want) || elements(want).is_none() {
            return Err(structure(
                &view,
                format!("it has not as many elements as {want:?}"),
            ));
        }
        if view.coded {
            return Err(structure(
                &view,
                "it is coded, and its code holds for its own shape alone".to_owned(),
            ));
        }
        if let [_] = want
            && let Some(vector) = as_vector(&view)
        {
            return Ok(vector);
        }
        let dense = view.dense();
        let empty = elements(want) == Some(0);
        view.core = at.core;
        if at.core == Core::Matrix && want.len() < 2 {
            return Err(structure(&view, "a matrix is wanted".to_owned()));
        }
        let whole = std::mem::replace(&mut view.shape, want.to_vec());
        if empty {
            return Ok(view);
        }
        let single = view.tiles.first().is_some_and(|tile| {
            tile.rows.checked_mul(tile.columns).map(|n| n as u64) == elements(&whole)
        });
        let (Some((tensor, offset)), true, true) = (dense, single, at.slice < view.slices()) else {
            view.shape = whole;
            return Err(structure(
                &view,
                "its elements do not lie side by side".to_owned(),
            ));
        };
        let (rows, columns, element) = (view.rows(), view.columns(), view.element as u64);
        let row_stride = columns as u64 * element;
        let offset = offset + at.slice as u64 * rows as u64 * row_stride;
        view.tiles = vec![Tile {
            row: 0,
            rows,
            column: 0,
            columns,
            tensor,
            offset,
            row_stride,
            column_stride: element,
            slice_stride: rows as u64 * row_stride,
        }];
        Ok(view)
    }
}

/// The numbers of whole rows one after the other; `None`: of some only a part.
fn as_vector(view: &View) -> Option<View> {
    if view.core == Core::Vector {
        return (view.shape.len() == 1).then(|| view.clone());
    }
    let (columns, element) = (view.columns(), view.element as u64);
    let row = columns as u64 * element;
    let flat = |tile: &Tile| {
        let is_whole = tile.columns == columns && tile.column_stride == element;
        (is_whole && (tile.row_stride == row || tile.rows == 1)).then(|| Tile {
            row: tile.row * columns,
            rows: tile.rows * columns,
            column: 0,
            columns: 1,
            row_stride: element,
            ..*tile
        })
    };
    let tiles = view.tiles.iter().map(flat).collect::<Option<_>>()?;
    (view.shape.len() == 2).then(|| View {
        shape: vec![view.rows() * columns],
        core: Core::Vector,
        tiles,
        ..view.clone()
    })
}

fn is_tensor(source: &Source) -> bool {
    match source {
        Source::Tensor(_) => true,
        Source::OneOf(all) => all.iter().all(is_tensor),
        _ => false,
    }
}
