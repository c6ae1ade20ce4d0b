//! What is done to a picture before its numbers: steps, and tiles of what comes of them.

use crate::budget::Budget;
use crate::error::PictureError;
use crate::picture::{Margins, Picture, Rect};
use crate::resample::{Filter, resize};
use crate::size::Area;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To another size.
    Resize(Area, Filter),
    /// A part.
    Crop(Rect),
    /// Margins of a colour.
    Pad(Margins, [u8; 3]),
    /// A quarter turn clockwise.
    Turn,
}

impl Step {
    /// The size that comes of another.
    pub fn size(&self, from: Area) -> Area {
        match self {
            Self::Resize(area, _) => *area,
            Self::Crop(rect) => Area {
                height: rect.height,
                width: rect.width,
            },
            Self::Pad(margins, _) => Area {
                height: from.height + margins.top + margins.bottom,
                width: from.width + margins.left + margins.right,
            },
            Self::Turn => Area {
                height: from.width,
                width: from.height,
            },
        }
    }
}

/// What becomes of a picture: steps, then tiles of the same size in rows, then steps for each tile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canvas {
    /// Steps from the picture.
    pub steps: Vec<Step>,
    /// Rows and columns of tiles; without, it is one.
    pub tiles: Option<(u32, u32)>,
    /// Steps of each tile.
    pub after: Vec<Step>,
}

impl Canvas {
    /// It by these steps.
    pub fn new(steps: Vec<Step>) -> Self {
        Self {
            steps,
            ..Self::default()
        }
    }

    /// It in so many rows and columns.
    #[must_use]
    pub fn tiled(mut self, rows: u32, columns: u32) -> Self {
        self.tiles = Some((rows, columns));
        self
    }

    /// Its tiles of a picture.
    pub fn draw(
        &self,
        picture: &Picture,
        budget: &mut Budget,
    ) -> Result<Vec<Picture>, PictureError> {
        let whole = apply(&self.steps, picture, budget)?;
        let whole = whole.as_ref().unwrap_or(picture);
        let (rows, columns) = self.tiles.unwrap_or((1, 1));
        let (height, width) = (whole.height() / rows, whole.width() / columns);
        budget.hold_pixels(whole.height(), whole.width())?;
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let tiles = places.map(|(row, column)| {
            let tile = whole.crop(Rect {
                left: column * width,
                top: row * height,
                width,
                height,
            });
            let done = apply(&self.after, &tile, budget)?;
            Ok(done.unwrap_or(tile))
        });
        tiles.collect()
    }
}

fn apply(
    steps: &[Step],
    picture: &Picture,
    budget: &mut Budget,
) -> Result<Option<Picture>, PictureError> {
    let mut done: Option<Picture> = None;
    for step in steps {
        let from = done.as_ref().unwrap_or(picture);
        let size = step.size(Area {
            height: from.height(),
            width: from.width(),
        });
        if let Step::Resize(..) = step {
            // What is between the two passes.
            budget.hold_pixels(from.height(), size.width)?;
        }
        budget.hold_pixels(size.height, size.width)?;
        done = Some(match step {
            Step::Resize(area, filter) => resize(from, area.width, area.height, *filter),
            Step::Crop(rect) => from.crop(*rect),
            Step::Pad(margins, colour) => from.pad(*margins, *colour),
            Step::Turn => from.turned(),
        });
    }
    Ok(done)
}

/// Steps to the middle of a picture; where it is smaller, black surrounds it.
pub fn center_crop(from: Area, to: Area) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut size = from;
    if to.width > from.width || to.height > from.height {
        let around = |to: u32, from: u32| {
            let missing = to.saturating_sub(from);
            (missing / 2, missing.div_ceil(2))
        };
        let (left, right) = around(to.width, from.width);
        let (top, bottom) = around(to.height, from.height);
        let margins = Margins {
            left,
            top,
            right,
            bottom,
        };
        steps.push(Step::Pad(margins, [0; 3]));
        size = Step::Pad(margins, [0; 3]).size(from);
    }
    if size != to {
        steps.push(Step::Crop(Rect {
            left: (size.width - to.width) / 2,
            top: (size.height - to.height) / 2,
            width: to.width,
            height: to.height,
        }));
    }
    steps
}

/// Margins that make a picture as high as it is wide, in its middle.
pub fn square(from: Area, colour: [u8; 3]) -> Option<Step> {
    let side = from.height.max(from.width);
    let margins = Margins {
        left: (side - from.width) / 2,
        top: (side - from.height) / 2,
        right: (side - from.width).div_ceil(2),
        bottom: (side - from.height).div_ceil(2),
    };
    (from.height != from.width).then_some(Step::Pad(margins, colour))
}

/// Margins on the right and below up to a size.
pub fn pad_to(from: Area, to: Area) -> Option<Step> {
    let margins = Margins {
        right: to.width.saturating_sub(from.width),
        bottom: to.height.saturating_sub(from.height),
        ..Margins::default()
    };
    (margins != Margins::default()).then_some(Step::Pad(margins, [0; 3]))
}

/// The size after some steps.
pub fn size_after(steps: &[Step], from: Area) -> Area {
    steps.iter().fold(from, |size, step| step.size(size))
}
