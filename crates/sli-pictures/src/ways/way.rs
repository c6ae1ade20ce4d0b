//! What a way of preparing pictures is.

use std::fmt::Debug;

use crate::budget::Budget;
use crate::cut::{Canvas, Step, size_after};
use crate::error::PictureError;
use crate::picture::Picture;
use crate::size::Area;
use crate::tensor::Tensor;

/// How a class prepares pictures.
pub trait Way: Debug + Send + Sync {
    /// What becomes of a picture of this size, one of `of` of its record.
    fn cut(&self, from: Area, of: usize) -> Result<Cut, PictureError>;

    /// The tensors of a record.
    fn arrange(&self, pictures: &[Drawn], budget: &mut Budget)
    -> Result<Vec<Tensor>, PictureError>;
}

/// What becomes of a picture, before it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Its parts.
    pub canvases: Vec<Canvas>,
    /// Rows and columns of tiles that it is divided into; 0 and 0 where it is not.
    pub grid: (u32, u32),
}

impl Drawn {
    /// The views of all pictures.
    pub fn all(pictures: &[Self]) -> Vec<&Picture> {
        pictures.iter().flat_map(|picture| &picture.views).collect()
    }
}

impl Cut {
    /// One view of the whole.
    pub fn whole(canvas: Canvas) -> Self {
        Self {
            canvases: vec![canvas],
            grid: (0, 0),
        }
    }
}

/// What became of a picture.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Its size in the file, upright.
    pub from: Area,
    /// As in [`Cut`].
    pub grid: (u32, u32),
    /// Its views: tiles, and the whole.
    pub views: Vec<Picture>,
}

impl Cut {
    /// One canvas of whole patches, `most` at most.
    pub fn of_patches(
        steps: Vec<Step>,
        from: Area,
        patch: u32,
        most: u32,
    ) -> Result<Self, PictureError> {
        let Area { height, width } = size_after(&steps, from);
        if !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
            return Err(PictureError::Size(format!(
                "{width} x {height} pixels are no whole number of patches"
            )));
        }
        let grid = (height / patch, width / patch);
        if u64::from(grid.0) * u64::from(grid.1) > u64::from(most) {
            let problem = format!("it has more than {most} patches");
            return Err(PictureError::Size(problem));
        }
        Ok(Self {
            canvases: vec![Canvas::new(steps)],
            grid,
        })
    }
}
