//! Rows that come of numbers which a record brings along: frames of sound, later patches of pictures.

use serde::Serialize;

use super::PositionTable;
use crate::parts::{Activation, Linear};
use crate::source::Leaf;

/// A tensor of the record, `[channels, frames]`, through a stem to the input of the first layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Features {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// What the tensor is called.
    pub name: &'static str,
    /// Numbers of a frame.
    pub channels: usize,
    /// Frames that every record has.
    pub frames: usize,
    /// Convolutions along the frames.
    pub stem: Vec<StemConvolution>,
    /// Added to the rows that come out.
    pub positions: Option<PositionTable>,
}

/// A convolution along the frames, with zeros around them: row `t` of the output is the projection of the input's rows
/// `stride * t - padding ..` , `kernel` of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StemConvolution {
    /// `[out, in * kernel]`: of an input feature, its rows one after the other.
    pub projection: Linear,
    /// Rows of the input that a row of the output is made of.
    pub kernel: usize,
    /// Rows of the input from one of the output to the next.
    pub stride: usize,
    /// Zeros in front of the input, and behind it.
    pub padding: usize,
    /// After the projection.
    pub activation: Activation,
}

impl StemConvolution {
    /// Rows that come of so many.
    pub fn rows(&self, rows: usize) -> usize {
        let room = (rows + 2 * self.padding).checked_sub(self.kernel);
        room.map_or(0, |room| room / self.stride + 1)
    }
}

impl Features {
    /// Rows that the stack gets of a record.
    pub fn rows(&self) -> usize {
        let stem = self.stem.iter();
        stem.fold(self.frames, |rows, convolution| convolution.rows(rows))
    }

    /// Numbers of a record.
    pub fn values(&self) -> usize {
        self.channels * self.frames
    }

    /// Features of the rows that the stack gets.
    pub fn width(&self) -> usize {
        let last = self.stem.last();
        last.map_or(self.channels, |convolution| {
            convolution.projection.out_features
        })
    }
}
