//! Rectangles of stored bytes that make up a matrix.
//!
//! Every tensor expression that moves elements without changing them — parts, transposes,
//! permutations, concatenations — is a set of [`Tile`]s: rectangles of the logical matrix whose rows
//! and columns are each evenly spaced in a file. The operations here map tiles to tiles.

use std::borrow::Cow;

use sli_spec::Elementwise;

use crate::dtype::Dtype;

/// How many of a shape's last axes one slice has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// Slices are vectors `[n]`, held as `n` rows of one column.
    Vector,
    /// Slices are matrices `[rows, columns]`.
    Matrix,
}

/// A rectangle of a logical matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// First logical row.
    pub row: usize,
    /// Number of rows; at least 1.
    pub rows: usize,
    /// First logical column.
    pub column: usize,
    /// Number of columns; at least 1.
    pub columns: usize,
    /// The tensor, by its place in the checkpoint.
    pub tensor: u32,
    /// Byte in the file of the rectangle's first element.
    pub offset: u64,
    /// Bytes from one row to the next.
    pub row_stride: u64,
    /// Bytes from one column to the next.
    pub column_stride: u64,
    /// Bytes from a slice to the next, where all slices are in one tensor.
    pub slice_stride: u64,
}

/// One slice of a logical weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    /// Shape of the whole weight, all slices.
    pub shape: Vec<usize>,
    /// What a slice is.
    pub core: Core,
    /// Element type.
    pub dtype: Dtype,
    /// The elements are decoded. Then tiles are not in files but in tensors: an element takes one byte, element 0
    /// of the tensor is byte 0.
    pub coded: bool,
    /// Bytes of an element.
    pub element: usize,
    /// What is made of every element.
    pub elementwise: Option<Elementwise>,
    /// The rectangles do not cover everything: zeros are between them.
    pub has_holes: bool,
    /// The tensors of this slice, by place in the checkpoint.
    pub tensors: Vec<u32>,
    /// The rectangles of this slice, sorted by row; none where it has no elements.
    pub tiles: Vec<Tile>,
}

/// All slices of a logical weight.
#[derive(Clone, Debug)]
pub(crate) struct Slices {
    /// The first, which tells what all are like.
    pub first: View,
    /// The rectangles of the others, where every slice has tensors of its own.
    pub others: Vec<Box<[Tile]>>,
}

/// Evenly spaced rows: `start`, `start + step`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRun {
    pub start: usize,
    pub count: usize,
    pub step: usize,
}

impl Slices {
    /// A slice that is there.
    pub fn get(&self, slice: usize) -> Cow<'_, View> {
        if slice == 0 {
            return Cow::Borrowed(&self.first);
        }
        let mut view = self.first.clone();
        match self.others.get(slice - 1) {
            Some(tiles) => view.tiles = tiles.to_vec(),
            None => {
                for tile in &mut view.tiles {
                    tile.offset += slice as u64 * tile.slice_stride;
                }
            }
        }
        Cow::Owned(view)
    }
}

impl View {
    /// Rows of a slice.
    pub fn rows(&self) -> usize {
        match self.core {
            Core::Vector => self.shape.last().copied().unwrap_or(1),
            Core::Matrix => self.shape.iter().rev().nth(1).copied().unwrap_or(1),
        }
    }

    /// Columns of a slice.
    pub fn columns(&self) -> usize {
        match self.core {
            Core::Vector => 1,
            Core::Matrix => self.shape.last().copied().unwrap_or(1),
        }
    }

    /// Bytes from a slice, a row and a column to the next, where elements lie one behind the other.
    pub fn row_major(&self) -> [u64; 3] {
        let element = self.element as u64;
        let row = self.columns() as u64 * element;
        [self.rows() as u64 * row, row, element]
    }

    /// The same of a tensor with these strides; `None`: its slices are not evenly spaced.
    pub fn strided(&self, strides: &[u64]) -> Option<[u64; 3]> {
        let leading = self.leading().len();
        let slices = strides.get(..leading)?;
        let nested = slices.windows(2).zip(self.leading().iter().skip(1));
        for (pair, &inner) in nested {
            if let &[outer, stride] = pair
                && stride.checked_mul(inner as u64) != Some(outer)
            {
                return None;
            }
        }
        let own = strides.get(leading..)?;
        let slice = slices.last().copied().unwrap_or(0);
        match (self.core, own) {
            (Core::Vector, []) => Some([slice, 0, 0]),
            (Core::Vector, &[row]) => Some([slice, row, self.element as u64]),
            (Core::Matrix, &[row, column]) => Some([slice, row, column]),
            _ => None,
        }
    }

    /// The axes in front of a slice's own.
    pub fn leading(&self) -> &[usize] {
        let own = match self.core {
            Core::Vector => 1,
            Core::Matrix => 2,
        };
        self.shape
            .get(..self.shape.len().saturating_sub(own))
            .unwrap_or_default()
    }

    /// Number of slices.
    pub fn slices(&self) -> usize {
        self.leading()
            .iter()
            .fold(1, |product, &n| product.saturating_mul(n))
    }

    /// Sets the number of rows.
    pub fn set_rows(&mut self, rows: usize) {
        let own = match self.core {
            Core::Vector => 1,
            Core::Matrix => 2,
        };
        if let Some(axis) = self
            .shape
            .len()
            .checked_sub(own)
            .and_then(|i| self.shape.get_mut(i))
        {
            *axis = rows;
        }
    }

    /// Keeps these rows, in this order. Every run lies within the rows.
    pub fn select_rows(&mut self, runs: impl Iterator<Item = RowRun>, rows: usize) {
        self.set_rows(rows);
        if self.tiles.is_empty() {
            return;
        }
        let tallest = self.tiles.iter().map(|tile| tile.rows).max().unwrap_or(0);
        let mut selected = Vec::new();
        let mut row = 0;
        for run in runs.filter(|run| run.count > 0) {
            let end = run.start + (run.count - 1) * run.step + 1;
            let first = self
                .tiles
                .partition_point(|tile| tile.row + tallest <= run.start);
            for tile in self
                .tiles
                .iter()
                .skip(first)
                .take_while(|tile| tile.row < end)
            {
                selected.extend(tile.of_run(run, row));
            }
            row += run.count;
        }
        self.tiles = selected;
        self.sort();
    }

    /// Rows become columns.
    pub fn transpose(&mut self) {
        let rank = self.shape.len();
        if rank >= 2 {
            self.shape.swap(rank - 2, rank - 1);
        }
        for tile in &mut self.tiles {
            *tile = Tile {
                row: tile.column,
                rows: tile.columns,
                column: tile.row,
                columns: tile.rows,
                row_stride: tile.column_stride,
                column_stride: tile.row_stride,
                ..*tile
            };
        }
        self.sort();
    }

    /// Adds the tiles and tensors of another slice, moved down and to the right.
    pub fn place(&mut self, other: Self, row: usize, column: usize) {
        self.tensors.extend(other.tensors);
        self.has_holes |= other.has_holes;
        let moved = other.tiles.into_iter();
        self.tiles.extend(moved.map(|tile| Tile {
            row: tile.row + row,
            column: tile.column + column,
            ..tile
        }));
        self.sort();
    }

    /// The tensor and first byte of a slice whose elements lie in the file as they do logically.
    pub fn dense(&self) -> Option<(u32, u64)> {
        let &[tile] = self.tiles.as_slice() else {
            return None;
        };
        let element = self.element as u64;
        let columns_dense = tile.columns == 1 || tile.column_stride == element;
        let rows_dense = tile.rows == 1 || tile.row_stride == element * tile.columns as u64;
        (columns_dense && rows_dense).then_some((tile.tensor, tile.offset))
    }

    fn sort(&mut self) {
        self.tiles
            .sort_unstable_by_key(|tile| (tile.row, tile.column));
    }
}

impl Tile {
    /// The part of this tile that evenly spaced rows meet; the first of them becomes row `row`.
    fn of_run(&self, run: RowRun, row: usize) -> Option<Self> {
        let first = self.row.saturating_sub(run.start).div_ceil(run.step);
        let end = (self.row + self.rows)
            .saturating_sub(run.start)
            .div_ceil(run.step);
        let end = end.min(run.count);
        if first >= end {
            return None;
        }
        let skipped = run.start + first * run.step - self.row;
        Some(Self {
            row: row + first,
            rows: end - first,
            offset: self.offset + skipped as u64 * self.row_stride,
            row_stride: self.row_stride * run.step as u64,
            ..*self
        })
    }
}
