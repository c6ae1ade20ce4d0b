//! Row-major `f32` matrices: the owned [`Mat`] and its views.
//!
//! Views are pointer, shape and row stride, so that a range of columns (one part of a fused
//! projection, say) is a view like any other. A [`MatMut`] owns its elements exclusively for its
//! lifetime; the only ways to get two of them are the splitting functions, which keep them disjoint.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

/// One cache line; the unit of allocation that gives [`Mat`] its alignment.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; 16]);

const LINE: usize = 16;

/// A row-major `[rows, cols]` matrix of `f32` in 64-byte aligned storage.
#[derive(Clone, Default)]
pub struct Mat {
    lines: Vec<Line>,
    rows: usize,
    cols: usize,
}

impl std::fmt::Debug for Mat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mat[{}, {}]", self.rows, self.cols)
    }
}

impl Mat {
    /// A matrix of zeros.
    pub fn new(rows: usize, cols: usize) -> Self {
        let lines = bytemuck::zeroed_vec((rows * cols).div_ceil(LINE));
        Self { lines, rows, cols }
    }

    /// A matrix with the given elements, row after row.
    ///
    /// `values.len()` must be `rows * cols`.
    pub fn from_vec(rows: usize, cols: usize, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] matrix");
        let mut mat = Self::new(rows, cols);
        mat.as_mut_slice().copy_from_slice(&values);
        mat
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory held, including spare capacity.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    /// Gives the matrix a new shape. The allocation is reused if it is large enough; the contents
    /// are unspecified afterwards.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        let lines = (rows * cols).div_ceil(LINE);
        if lines > self.lines.capacity() {
            self.lines = Vec::new();
            self.lines = bytemuck::zeroed_vec(lines);
        } else {
            self.lines.resize(lines, Line::zeroed());
        }
        self.rows = rows;
        self.cols = cols;
    }

    /// Changes the number of rows. Those that remain keep their contents; the contents of new ones are
    /// unspecified.
    pub fn resize_rows(&mut self, rows: usize) {
        let lines = (rows * self.cols).div_ceil(LINE);
        self.lines
            .reserve_exact(lines.saturating_sub(self.lines.len()));
        self.lines.resize(lines, Line::zeroed());
        self.rows = rows;
    }

    /// All elements, row after row.
    pub fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.rows * self.cols]
    }

    /// All elements, row after row.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.rows * self.cols]
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.as_slice()[index * self.cols..(index + 1) * self.cols]
    }

    /// Row `index`.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        let cols = self.cols;
        &mut self.as_mut_slice()[index * cols..(index + 1) * cols]
    }

    /// The whole matrix.
    pub fn view(&self) -> MatRef<'_> {
        MatRef::from_slice(self.as_slice(), self.rows, self.cols)
    }

    /// The whole matrix.
    pub fn view_mut(&mut self) -> MatMut<'_> {
        let (rows, cols) = (self.rows, self.cols);
        MatMut::from_slice(self.as_mut_slice(), rows, cols)
    }

    /// Some consecutive rows.
    pub fn rows_view(&self, rows: Range<usize>) -> MatRef<'_> {
        self.view().rows_range(rows)
    }

    /// Some consecutive rows.
    pub fn rows_view_mut(&mut self, rows: Range<usize>) -> MatMut<'_> {
        self.view_mut().rows_range(rows)
    }
}

/// A read-only view of a row-major matrix, possibly with a row stride larger than its columns.
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    data: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a [f32]>,
}

// SAFETY: a `MatRef` is a shared borrow of `f32`s, which are `Sync`.
unsafe impl Send for MatRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MatRef<'_> {}

impl<'a> MatRef<'a> {
    /// A view of `rows * cols` consecutive elements.
    pub fn from_slice(values: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] matrix");
        Self {
            data: values.as_ptr(),
            rows,
            cols,
            stride: cols,
            lifetime: PhantomData,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of consecutive rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        // SAFETY: the view covers `rows` rows of `cols` elements at distance `stride`, borrowed for `'a`.
        unsafe { std::slice::from_raw_parts(self.data.add(index * self.stride), self.cols) }
    }

    /// Some consecutive rows.
    #[must_use]
    pub fn rows_range(&self, rows: Range<usize>) -> Self {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        // `wrapping_add`: an empty range at the end may point past the allocation; it is never read.
        let data = self.data.wrapping_add(rows.start * self.stride);
        Self {
            data,
            rows: rows.len(),
            ..*self
        }
    }

    /// Some consecutive columns.
    #[must_use]
    pub fn cols_range(&self, cols: Range<usize>) -> Self {
        assert!(
            cols.start <= cols.end && cols.end <= self.cols,
            "columns {cols:?} of {}",
            self.cols
        );
        Self {
            data: self.data.wrapping_add(cols.start),
            cols: cols.len(),
            ..*self
        }
    }
}

/// A mutable view of a row-major matrix, possibly with a row stride larger than its columns.
pub struct MatMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatMut` is an exclusive borrow of `f32`s, which are `Send`.
unsafe impl Send for MatMut<'_> {}
// SAFETY: a shared `MatMut` only gives shared access.
unsafe impl Sync for MatMut<'_> {}

impl<'a> MatMut<'a> {
    /// A view of `rows * cols` consecutive elements.
    pub fn from_slice(values: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "a [{rows}, {cols}] matrix");
        Self {
            data: values.as_mut_ptr(),
            rows,
            cols,
            stride: cols,
            lifetime: PhantomData,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of consecutive rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        self.as_ref().row(index)
    }

    /// Row `index`.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        // SAFETY: the view covers `rows` rows of `cols` elements at distance `stride`, borrowed
        // exclusively; the result borrows the view itself.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(index * self.stride), self.cols) }
    }

    /// The same elements, read-only.
    pub fn as_ref(&self) -> MatRef<'_> {
        MatRef {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
            lifetime: PhantomData,
        }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut {
            data: self.data,
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
            lifetime: PhantomData,
        }
    }

    /// Some consecutive rows.
    #[must_use]
    pub fn rows_range(self, rows: Range<usize>) -> Self {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        let data = self.data.wrapping_add(rows.start * self.stride);
        Self {
            data,
            rows: rows.len(),
            ..self
        }
    }

    /// Some consecutive columns.
    #[must_use]
    pub fn cols_range(self, cols: Range<usize>) -> Self {
        assert!(
            cols.start <= cols.end && cols.end <= self.cols,
            "columns {cols:?} of {}",
            self.cols
        );
        Self {
            data: self.data.wrapping_add(cols.start),
            cols: cols.len(),
            ..self
        }
    }

    /// The rows before `at` and the rows from `at` on.
    #[must_use]
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "split at row {at} of {}", self.rows);
        let data = self.data.wrapping_add(at * self.stride);
        (
            Self { rows: at, ..self },
            Self {
                data,
                rows: self.rows - at,
                ..self
            },
        )
    }

    /// The columns before `at` and the columns from `at` on.
    #[must_use]
    pub fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "split at column {at} of {}", self.cols);
        let data = self.data.wrapping_add(at);
        (
            Self { cols: at, ..self },
            Self {
                data,
                cols: self.cols - at,
                ..self
            },
        )
    }

    /// Row `index`, through a shared view.
    ///
    /// # Safety
    ///
    /// While the result lives nobody else may access that row's columns of this view.
    #[expect(
        clippy::mut_from_ref,
        reason = "threads write disjoint rows of one view"
    )]
    pub(crate) unsafe fn shared_row(&self, index: usize) -> &mut [f32] {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        // SAFETY: in bounds as for `row_mut`; exclusivity is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(index * self.stride), self.cols) }
    }

    /// Elements `cols` of row `index`, through a shared view.
    ///
    /// # Safety
    ///
    /// While the result lives nobody else may access those elements.
    #[expect(
        clippy::mut_from_ref,
        reason = "threads write disjoint blocks of one view"
    )]
    pub(crate) unsafe fn shared_part(&self, index: usize, cols: Range<usize>) -> &mut [f32] {
        assert!(index < self.rows && cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: in bounds by the assertion; exclusivity is the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.data.add(index * self.stride + cols.start),
                cols.len(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_address_the_same_elements() {
        let mut mat = Mat::from_vec(3, 4, (0..12).map(|i| i as f32).collect());
        assert_eq!(mat.as_slice().as_ptr() as usize % 64, 0);
        assert_eq!(
            mat.view().rows_range(1..3).cols_range(1..3).row(1),
            &[9.0, 10.0]
        );
        let (mut top, bottom) = mat.view_mut().split_rows(1);
        top.row_mut(0)[0] = 20.0;
        let (_, mut right) = bottom.split_cols(3);
        right.row_mut(1)[0] = 30.0;
        assert_eq!(mat.row(0)[0], 20.0);
        assert_eq!(mat.row(2)[3], 30.0);
    }

    #[test]
    fn empty_matrices_have_views() {
        let mut mat = Mat::new(0, 7);
        assert_eq!(mat.view().rows_range(0..0).rows(), 0);
        assert_eq!(mat.view_mut().cols_range(3..5).cols(), 2);
        mat.reset(5, 0);
        assert!(mat.row(4).is_empty());
    }

    #[test]
    fn reset_keeps_the_allocation() {
        let mut mat = Mat::new(100, 100);
        let bytes = mat.bytes();
        mat.reset(10, 10);
        mat.reset(99, 100);
        assert_eq!(mat.bytes(), bytes);
        mat.reset(100, 101);
        assert!(mat.bytes() > bytes);
        assert_eq!(mat.as_slice().len(), 10_100);
    }
}
