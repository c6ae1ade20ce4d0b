//! What becomes of a record's frames in front of the first layer: norms, convolutions, places.

use serde::Serialize;

use crate::parts::{Activation, DenseConvolution, Linear, Norm, rows_of};
use crate::source::WeightIndex;

/// One of the things that happen to frames, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StemStep {
    /// A convolution along the frames.
    Convolution(DenseConvolution),
    /// What a convolution says of where a row is, added to it (wav2vec 2.0).
    Surroundings(Surroundings),
    /// A convolution along the frames and along what a frame is a column of.
    Plane(PlaneConvolution),
    /// Columns of `channels` numbers each become numbers of a column for each channel.
    ChannelsFirst {
        /// Numbers of a column.
        channels: usize,
    },
    /// A norm.
    Norm(Norm, NormOf),
    /// A function of every number.
    Activation(Activation),
    /// `asinh(exp(k) * x)` with a learned `k` `[1]` (Moonshine Streaming).
    Compression(WeightIndex),
    /// Rows and columns of patches, and the projection of what they are (Pix2Struct).
    Places(PatchPlaces),
}

/// Which numbers of a record are normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormOf {
    /// Those of a row.
    Rows,
    /// Those of a column.
    Columns,
    /// All of them.
    All,
}

/// `x + activation(convolution(x))` over as many rows on either side, one less behind where their number is even; groups
/// of columns by themselves. The matrix of the convolution is `direction`, of which the numbers of each row of the kernel
/// have the length that `lengths` says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Surroundings {
    /// `[columns * columns / groups * kernel]`: of an output its inputs, of an input its rows.
    pub direction: WeightIndex,
    /// `[kernel]`.
    pub lengths: WeightIndex,
    /// `[columns]`.
    pub bias: WeightIndex,
    /// Columns.
    pub columns: usize,
    /// Groups of columns.
    pub groups: usize,
    /// Rows of the kernel.
    pub kernel: usize,
    /// After the convolution.
    pub activation: Activation,
}

/// A square convolution of a plane whose rows are frames; a row is columns of `channels` numbers each. Zeros stand
/// around it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlaneConvolution {
    /// The weights.
    pub weights: PlaneWeights,
    /// Numbers of a column of the input.
    pub channels: usize,
    /// Columns of the input.
    pub columns: usize,
    /// Rows and columns that a number of the output is made of.
    pub kernel: usize,
    /// Rows and columns from one of the output to the next.
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
    /// After it.
    pub activation: Activation,
}

/// The weights of a convolution of a plane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum PlaneWeights {
    /// `[out, in * kernel * kernel]`: of an input its rows, of a row its columns.
    Dense(Linear),
    /// Of every channel by itself `[channels * kernel * kernel]`, and `[channels]`.
    OfChannels(WeightIndex, WeightIndex),
}

/// `row_table[x0] + column_table[x1] + projection(x2 ..)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchPlaces {
    /// `[rows, hidden]`: of the row, of the column.
    pub tables: [WeightIndex; 2],
    /// Rows of each table.
    pub rows: usize,
    /// Of the numbers behind the first two.
    pub projection: Linear,
}

impl StemStep {
    /// Kernel, stride and all zeros of what makes other rows of rows.
    fn window(&self) -> Option<[usize; 3]> {
        match self {
            Self::Convolution(convolution) => Some(convolution.window()),
            Self::Plane(plane) => Some(plane.window()),
            Self::Surroundings(_)
            | Self::ChannelsFirst { .. }
            | Self::Norm(..)
            | Self::Activation(_)
            | Self::Compression(_)
            | Self::Places(_) => None,
        }
    }

    /// Rows that come of so many.
    pub fn rows(&self, rows: usize) -> usize {
        self.window().map_or(rows, |window| rows_of(rows, window))
    }

    /// Rows that so many may come of, at most.
    pub(super) fn rows_in_front(&self, rows: usize) -> usize {
        self.window().map_or(rows, |[kernel, stride, zeros]| {
            let longest = rows.saturating_mul(stride).saturating_add(kernel);
            longest.saturating_sub(zeros + 1)
        })
    }

    /// Features of a row that comes of one of so many.
    pub fn width(&self, width: usize) -> usize {
        match self {
            Self::Convolution(convolution) => convolution.width(),
            Self::Plane(plane) => plane.out(plane.columns) * plane.out_channels(),
            Self::Places(places) => places.projection.out_features,
            Self::Surroundings(_)
            | Self::ChannelsFirst { .. }
            | Self::Norm(..)
            | Self::Activation(_)
            | Self::Compression(_) => width,
        }
    }

    /// Its weights but for tables of which single rows are read.
    pub fn weights(&self) -> Vec<WeightIndex> {
        let of = |linear: &Linear| {
            let weight = std::iter::once(linear.weight);
            weight.chain(linear.bias).collect()
        };
        match self {
            Self::Convolution(convolution) => of(&convolution.projection),
            Self::Surroundings(own) => vec![own.direction, own.lengths, own.bias],
            Self::Plane(plane) => match &plane.weights {
                PlaneWeights::Dense(projection) => of(projection),
                PlaneWeights::OfChannels(weight, bias) => vec![*weight, *bias],
            },
            Self::Norm(norm, _) => norm.weight.into_iter().chain(norm.bias).collect(),
            Self::Compression(weight) => vec![*weight],
            Self::Places(places) => of(&places.projection),
            Self::ChannelsFirst { .. } | Self::Activation(_) => Vec::new(),
        }
    }
}

impl PlaneConvolution {
    fn window(&self) -> [usize; 3] {
        [self.kernel, self.stride, 2 * self.padding]
    }

    /// Rows, or columns, that come of so many.
    pub fn out(&self, count: usize) -> usize {
        rows_of(count, self.window())
    }

    /// Numbers of a column that comes out.
    pub fn out_channels(&self) -> usize {
        match &self.weights {
            PlaneWeights::Dense(projection) => projection.out_features,
            PlaneWeights::OfChannels(..) => self.channels,
        }
    }
}

impl PatchPlaces {
    /// The row and the column of a patch; `None`: they are not in the tables.
    pub fn places(&self, frame: &[f32]) -> Option<[u32; 2]> {
        let place = |value: f32| {
            let place = value.trunc();
            (place >= 0.0 && place < self.rows as f32).then_some(place as u32)
        };
        let [row, column, ..] = *frame else {
            return None;
        };
        Some([place(row)?, place(column)?])
    }

    pub(super) fn wrong(&self, frame: &[f32]) -> Option<String> {
        if frame.iter().all(|&value| value == 0.0) {
            return Some("is zero, as padding is, and others follow it".into());
        }
        let own = frame.iter().take(2).collect::<Vec<_>>();
        let problem = || {
            format!(
                "is at row and column {own:?}, and the model has tables of {} rows",
                self.rows
            )
        };
        self.places(frame).is_none().then(problem)
    }
}
