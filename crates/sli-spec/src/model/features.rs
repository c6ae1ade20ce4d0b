//! Rows that come of numbers which a record brings along: frames or samples of sound, patches of pictures.

use serde::Serialize;

use super::PositionTable;
use super::stem::StemStep;
use crate::parts::Norm;
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
    /// What becomes of the frames, one after the other.
    pub stem: Vec<StemStep>,
    /// Factor on the rows that come out.
    pub scale: f64,
    /// Added to them.
    pub positions: Option<PositionTable>,
    /// Of the sum.
    pub norm: Option<Norm>,
}

/// The axes of a record's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Layout {
    /// `[channels, frames]`.
    Channels,
    /// `[frames, channels]`.
    Frames,
    /// `[frames * channels]`.
    Samples,
}

impl Features {
    /// Rows of so many numbers as the first layer reads them.
    pub fn given(name: &'static str, channels: usize) -> Self {
        Self {
            leaves: Vec::new(),
            name,
            layout: Layout::Frames,
            channels,
            frames: None,
            stem: Vec::new(),
            scale: 1.0,
            positions: None,
            norm: None,
        }
    }

    /// Rows that the stack gets of a record of so many frames.
    pub fn rows(&self, frames: usize) -> usize {
        let stem = self.stem.iter();
        stem.fold(frames, |rows, step| step.rows(rows))
    }

    /// Frames that so many rows may come of, at most.
    pub fn frames_of(&self, rows: usize) -> usize {
        self.frames.unwrap_or_else(|| {
            let stem = self.stem.iter().rev();
            stem.fold(rows, |rows, step| step.rows_in_front(rows))
        })
    }

    /// The shape of a record's tensor with so many frames.
    pub fn shape(&self, frames: usize) -> Vec<usize> {
        match self.layout {
            Layout::Channels => vec![self.channels, frames],
            Layout::Frames => vec![frames, self.channels],
            Layout::Samples => vec![frames.saturating_mul(self.channels)],
        }
    }

    /// The frames of a tensor of this shape; `None`: it is no tensor of these features, or no row comes of it.
    pub fn frames_in(&self, shape: &[usize]) -> Option<usize> {
        let frames = match self.layout {
            Layout::Channels => *shape.get(1)?,
            Layout::Frames => *shape.first()?,
            Layout::Samples => shape.first()?.checked_div(self.channels)?,
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
            Layout::Samples if channels == 1 => format!("[{frames}]"),
            Layout::Samples => format!("[{frames} * {channels}]"),
        };
        match self.frames {
            Some(_) => shape,
            None => format!("{shape} with enough frames for a row"),
        }
    }

    /// Features of the rows that the stack gets.
    pub fn width(&self) -> usize {
        let stem = self.stem.iter();
        stem.fold(self.channels, |width, step| step.width(width))
    }

    /// Frames that are none, behind all others, where a processor fills records up with zeros and says so in a mask
    /// that follows from them.
    pub fn padding(&self, values: &[f32]) -> usize {
        let Some(StemStep::Places(_)) = self.stem.first() else {
            return 0;
        };
        let frames = values.rchunks_exact(self.channels.max(1));
        frames
            .take_while(|frame| frame.iter().all(|&value| value == 0.0))
            .count()
    }

    /// What is wrong with the numbers of a record, frame by frame.
    pub fn wrong(&self, values: &[f32]) -> Option<String> {
        let Some(StemStep::Places(places)) = self.stem.first() else {
            return None;
        };
        let frames = values.chunks_exact(self.channels.max(1)).enumerate();
        frames
            .filter_map(|(number, frame)| Some((number, places.wrong(frame)?)))
            .map(|(number, problem)| format!("frame {number} {problem}"))
            .next()
    }
}

#[cfg(test)]
mod tests {
    use super::{Features, Layout};
    use crate::model::StemStep;
    use crate::parts::{Activation, DenseConvolution, Linear};
    use crate::source::WeightIndex;

    fn convolution(kernel: usize, stride: usize, padding: usize) -> StemStep {
        StemStep::Convolution(DenseConvolution {
            projection: Linear::plain(WeightIndex(0), None, [1, kernel]),
            kernel,
            stride,
            padding: [padding; 2],
            gated: false,
            activation: Activation::Gelu,
        })
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
            norm: None,
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
