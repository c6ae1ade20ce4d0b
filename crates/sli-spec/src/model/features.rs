//! Rows that come of numbers which a record brings along: frames or samples of sound, later patches of pictures.

use serde::Serialize;

use super::PositionTable;
use crate::parts::{Activation, Linear, Norm};
use crate::source::Leaf;

/// A tensor of the record through a stem to the input of the first layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Features {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// What the tensor is called.
    pub name: &'static str,
    /// How it is laid out.
    pub layout: Layout,
    /// Numbers of a frame.
    pub channels: usize,
    /// Frames of every record; `None`: as many as it has.
    pub frames: Option<usize>,
    /// Convolutions along the frames.
    pub stem: Vec<StemConvolution>,
    /// Factor on the rows that come out.
    pub scale: f64,
    /// Added to them.
    pub positions: Option<PositionTable>,
}

/// The axes of a record's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Layout {
    /// `[channels, frames]`.
    Channels,
    /// `[frames, channels]`.
    Frames,
    /// `[frames]`, of one channel.
    Samples,
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
    /// The first half of what comes out is multiplied by the activation of the second.
    pub gated: bool,
    /// After the projection, or of the gate.
    pub activation: Activation,
    /// Of all numbers of a record together, behind the activation.
    pub norm: Option<Norm>,
}

impl StemConvolution {
    /// Rows that come of so many.
    pub fn rows(&self, rows: usize) -> usize {
        let room = (rows + 2 * self.padding).checked_sub(self.kernel);
        room.map_or(0, |room| room / self.stride + 1)
    }

    /// Rows that so many may come of, at most.
    fn rows_in_front(&self, rows: usize) -> usize {
        let longest = rows.saturating_mul(self.stride).saturating_add(self.kernel);
        longest.saturating_sub(2 * self.padding + 1)
    }

    /// Features of a row that comes out.
    pub fn width(&self) -> usize {
        self.projection.out_features / (1 + usize::from(self.gated))
    }
}

impl Features {
    /// Rows that the stack gets of a record of so many frames.
    pub fn rows(&self, frames: usize) -> usize {
        let stem = self.stem.iter();
        stem.fold(frames, |rows, convolution| convolution.rows(rows))
    }

    /// Frames that so many rows may come of, at most.
    pub fn frames_of(&self, rows: usize) -> usize {
        self.frames.unwrap_or_else(|| {
            let stem = self.stem.iter().rev();
            stem.fold(rows, |rows, convolution| convolution.rows_in_front(rows))
        })
    }

    /// The shape of a record's tensor with so many frames.
    pub fn shape(&self, frames: usize) -> Vec<usize> {
        match self.layout {
            Layout::Channels => vec![self.channels, frames],
            Layout::Frames => vec![frames, self.channels],
            Layout::Samples => vec![frames],
        }
    }

    /// The frames of a tensor of this shape; `None`: it is no tensor of these features, or no row comes of it.
    pub fn frames_in(&self, shape: &[usize]) -> Option<usize> {
        let &frames = match self.layout {
            Layout::Channels => shape.get(1)?,
            Layout::Frames | Layout::Samples => shape.first()?,
        };
        let fits = shape == self.shape(frames) && self.frames.is_none_or(|all| all == frames);
        (fits && self.rows(frames) > 0).then_some(frames)
    }

    /// The shape that a record's tensor must have, for people.
    pub fn wanted(&self) -> String {
        let frames = self
            .frames
            .map_or_else(|| "frames".into(), |frames| frames.to_string());
        let channels = self.channels;
        let shape = match self.layout {
            Layout::Channels => format!("[{channels}, {frames}]"),
            Layout::Frames => format!("[{frames}, {channels}]"),
            Layout::Samples => format!("[{frames}]"),
        };
        match self.frames {
            Some(_) => shape,
            None => format!("{shape} with enough frames for a row"),
        }
    }

    /// Features of the rows that the stack gets.
    pub fn width(&self) -> usize {
        let last = self.stem.last();
        last.map_or(self.channels, StemConvolution::width)
    }
}

#[cfg(test)]
mod tests {
    use super::{Features, Layout, StemConvolution};
    use crate::parts::{Activation, Linear};
    use crate::source::WeightIndex;

    fn convolution(kernel: usize, stride: usize, padding: usize) -> StemConvolution {
        StemConvolution {
            projection: Linear {
                weight: WeightIndex(0),
                bias: None,
                in_features: kernel,
                adapter: None,
                out_features: 1,
            },
            kernel,
            stride,
            padding,
            gated: false,
            activation: Activation::Gelu,
            norm: None,
        }
    }

    #[test]
    fn rows_come_of_no_more_frames_than_it_says() {
        let features = Features {
            leaves: Vec::new(),
            name: "input_values",
            layout: Layout::Samples,
            channels: 1,
            frames: None,
            stem: vec![
                convolution(7, 4, 0),
                convolution(5, 2, 2),
                convolution(3, 2, 0),
            ],
            scale: 1.0,
            positions: None,
        };
        for frames in 0..500 {
            let rows = features.rows(frames);
            assert!(rows == 0 || features.frames_of(rows) >= frames);
            assert!(features.rows(features.frames_of(rows.max(1)) + 1) > rows.max(1));
            assert_eq!(features.frames_in(&[frames]).is_some(), rows > 0);
        }
        assert_eq!(features.frames_in(&[1, 500]), None);
    }
}
