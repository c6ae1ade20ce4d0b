//! How a record's tensors of pictures are laid out.

use std::borrow::Cow;

use serde::Serialize;

use crate::model::joined_tiles::JoinedTiles;
use crate::model::tiling::Tiling;
use crate::model::transform::is_default;

/// The axes of a record's pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PictureLayout {
    /// `[views, channels, height, width]`, or several such axes in front.
    Planes {
        /// What the tensor is called.
        name: &'static str,
        /// Height and width of every view, where the model takes no other.
        size: Option<[usize; 2]>,
        /// What comes beside it.
        beside: BesidePlanes,
    },
    /// `[patches, numbers]` of all pictures, each in blocks of `side` rows and columns, one block after the other.
    Packed {
        /// What the tensor is called.
        name: &'static str,
        /// The tensor `[pictures, 3]` of times, rows and columns of patches.
        grids: &'static str,
        /// Rows and columns of a block.
        side: usize,
        /// Rows and columns of blocks in a window, where rows are in windows.
        window: Option<usize>,
        /// What else holds of every picture.
        limits: PackedLimits,
    },
    /// `[views, patches, numbers]`: of every view its own patches, row by row, then padding, as their places tell.
    Placed {
        /// What the tensor is called.
        name: &'static str,
        /// The tensor `[views, patches, 2]` of columns and rows, of padding -1.
        places: &'static str,
        /// Rows and columns are multiples of it.
        whole: usize,
    },
    /// `[.., patches, numbers]` without places.
    Rows {
        /// What the tensor is called.
        name: &'static str,
    },
    /// `[views, patches, numbers]`: of every view its own patches, row by row, then padding.
    Padded {
        /// What the tensor is called.
        name: &'static str,
        /// The tensor `[views, 2]` of rows and columns of patches.
        shapes: &'static str,
        /// The tensor `[views, patches]` of ones for patches that are none of padding.
        mask: &'static str,
        /// Rows and columns are multiples of it.
        #[serde(skip_serializing_if = "is_one")]
        whole: usize,
    },
}

/// What holds of pictures whose patches are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PackedLimits {
    /// Rows and columns are multiples of it.
    pub whole: usize,
    /// Pictures of several times are not known.
    #[serde(skip_serializing_if = "is_default")]
    pub one_time: bool,
    /// The tensor `[pictures]` of rows and columns of blocks that become one row: 1 is what is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merges: Option<&'static str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_one(number: &usize) -> bool {
    *number == 1
}

/// What comes beside views that are planes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum BesidePlanes {
    /// Nothing: every view is a picture.
    None,
    /// Height and width of every picture, of which follows how many tiles it was cut to: a view of the whole picture, then
    /// the tiles of a grid, row by row.
    Sizes {
        /// The tensor `[pictures, 2]`.
        name: &'static str,
        /// The tensor of how many pictures stand together, of which only one that stands alone is cut; records may lack it,
        /// and all are cut.
        #[serde(skip_serializing_if = "Option::is_none")]
        counts: Option<&'static str>,
        /// How pictures are cut.
        tiling: Tiling,
    },
    /// Height and width of every picture in the upper left of its view; records may lack them, and pictures are whole views.
    Within {
        /// The tensor `[pictures, 2]`.
        name: &'static str,
    },
    /// Tiles that are one view.
    Joined(JoinedTiles),
    /// Which points are of a picture: so many rows and columns in the upper left of its view; records may lack it, and
    /// pictures are whole views. Views of zeros are none.
    Points {
        /// The tensor of ones, as large as a view's plane.
        name: &'static str,
        /// Patches of which a part is of the picture are seen too.
        partly: bool,
    },
    /// Which points are of a picture: all of them. Views of zeros are none.
    Mask {
        /// The tensor of ones, as large as a view's plane; records may lack it.
        name: &'static str,
    },
}

/// A record's pictures as a processor has prepared them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedPictures<'a> {
    /// Shape and numbers of the pictures.
    pub pixels: (Vec<usize>, Cow<'a, [f32]>),
    /// Times, rows and columns of patches of each, where the model reads such.
    pub grids: Vec<[u32; 3]>,
    /// Height and width of each before it was cut to tiles, where the model reads such.
    pub sizes: Vec<[u32; 2]>,
    /// How many pictures stand together, where the model reads such and the record has them.
    pub counts: Vec<u32>,
    /// Numbers of the shapes of each, where the model reads such.
    pub shapes: Vec<u32>,
    /// Of the patches of every view, or of the tiles of every picture, 1 for those that are none of padding, where the model
    /// reads such.
    pub shown: Vec<u32>,
    /// Rows and columns of blocks of each that become one row, where the model reads such.
    pub merges: Vec<u32>,
    /// Column and row of every patch of every view, of padding -1, where the model reads such.
    pub places: Vec<[i64; 2]>,
    /// Of every point of all views 1 where it is of a picture, where the model reads such and the record has them.
    pub points: Vec<u32>,
    /// Some points are of no picture.
    pub has_padding: bool,
}

impl PackedLimits {
    /// Rows and columns are multiples of a number, and nothing else.
    pub fn whole(side: usize) -> Self {
        Self {
            whole: side,
            one_time: false,
            merges: None,
        }
    }
}

impl PictureLayout {
    /// Packed patches by the names that processors have for them.
    pub fn packed(side: usize, window: Option<usize>, limits: PackedLimits) -> Self {
        Self::Packed {
            name: "pixel_values",
            grids: "image_grid_thw",
            side,
            window,
            limits,
        }
    }

    /// What the tensor of the pictures is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Planes { name, .. }
            | Self::Packed { name, .. }
            | Self::Padded { name, .. }
            | Self::Placed { name, .. }
            | Self::Rows { name } => name,
        }
    }

    /// What the tensor of times, rows and columns is called, where there is one.
    pub fn grids(&self) -> Option<&'static str> {
        match self {
            Self::Packed { grids, .. } => Some(grids),
            _ => None,
        }
    }

    /// What the tensor of columns and rows is called, where there is one.
    pub fn places(&self) -> Option<&'static str> {
        match self {
            Self::Placed { places, .. } => Some(places),
            _ => None,
        }
    }

    /// What the tensor of blocks that become one row is called, where there is one.
    pub fn merges(&self) -> Option<&'static str> {
        match self {
            Self::Packed { limits, .. } => limits.merges,
            _ => None,
        }
    }

    /// What the tensor of heights and widths is called, where there is one.
    pub fn sizes(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Sizes { name, .. } | BesidePlanes::Within { name },
                ..
            } => Some(name),
            Self::Padded { shapes, .. } => Some(shapes),
            _ => None,
        }
    }

    /// What the tensor of pictures that stand together is called, where there may be one.
    pub fn counts(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Sizes { counts, .. },
                ..
            } => *counts,
            _ => None,
        }
    }

    /// What the tensor of numbers of shapes is called, where there is one.
    pub fn shapes(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Joined(JoinedTiles { shapes, .. }),
                ..
            } => Some(shapes),
            _ => None,
        }
    }

    /// What the tensor that says which patches, or which tiles, are none of padding is called, where there is one.
    pub fn shown(&self) -> Option<&'static str> {
        match self {
            Self::Padded { mask, .. }
            | Self::Planes {
                beside: BesidePlanes::Joined(JoinedTiles { mask, .. }),
                ..
            } => Some(mask),
            _ => None,
        }
    }

    /// Whether records must have heights and widths.
    pub fn needs_sizes(&self) -> bool {
        matches!(
            self,
            Self::Planes {
                beside: BesidePlanes::Sizes { .. },
                ..
            }
        )
    }

    /// What the tensor that says which points of a view are of a picture is called, where there may be one.
    pub fn points(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Points { name, .. },
                ..
            } => Some(name),
            _ => None,
        }
    }

    /// What the tensor that says which points are of a picture, where all must be, is called, where there may be one.
    pub fn mask(&self) -> Option<&'static str> {
        match self {
            Self::Planes {
                beside: BesidePlanes::Mask { name },
                ..
            } => Some(name),
            _ => None,
        }
    }
}
