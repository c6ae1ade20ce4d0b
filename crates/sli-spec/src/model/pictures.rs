//! Rows that come of the patches of a record's pictures.

use serde::{Deserialize, Serialize};

use crate::parts::{Linear, Norm};
use crate::source::{Leaf, WeightIndex};

/// Patches of a record's pictures to the input of the first layer. Every picture, or tile of one, is a *view*: its rows
/// see each other and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pictures {
    /// Weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// How the record's tensors are laid out.
    pub layout: PictureLayout,
    /// Numbers of a point of a picture.
    pub channels: usize,
    /// Rows and columns of points that a patch has.
    pub patch: usize,
    /// `[hidden, channels * patch * patch]`: of a channel its rows, of a row its columns.
    pub projection: Linear,
    /// Rows in front of the patches of every view, `[hidden]` each: of a class, of registers.
    pub front: Vec<FrontRow>,
    /// Added by place.
    pub positions: Option<PlaceTable>,
    /// Of the sum.
    pub norm: Option<Norm>,
}

/// A row in front of the patches of every view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FrontRow {
    /// A table `[rows, hidden]`.
    pub weight: WeightIndex,
    /// Its row.
    pub row: usize,
    /// The row of the position table that is added to it.
    pub position: Option<usize>,
}

/// The axes of a record's pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PictureLayout {
    /// `[views, channels, height, width]`, or several such axes in front.
    Planes {
        /// What the tensor is called.
        name: &'static str,
        /// Height and width of every view, where the model takes no other.
        size: Option<[usize; 2]>,
    },
}

/// Learned positions of patches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum PlaceTable {
    /// A row for each patch of a view of `grid` rows and columns, from row `first` on.
    Grid {
        /// `[rows, hidden]`.
        weight: WeightIndex,
        /// Rows in front of the patches'.
        first: usize,
        /// Rows and columns of patches.
        grid: [usize; 2],
        /// What becomes of it for views of other sizes.
        otherwise: Interpolation,
    },
}

/// How a grid of positions is stretched to views of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Interpolation {
    /// Such views are refused.
    None,
    /// Cubic convolution with a = -0.75 between the four nearest rows and columns, half a patch aligned.
    Bicubic,
    /// The same where the picture becomes smaller, over as many rows and columns as become one.
    Antialiased,
    /// Between the two nearest.
    Bilinear,
}

/// Where a row of a stack of pictures is. [`Self::COLUMNS`] numbers a row are kept beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the view in the record.
    pub view: u32,
    /// Row of the patch in the view; [`Self::FRONT`]: it stands in front of them.
    pub row: u32,
    /// Column of the patch; of a row in front its number.
    pub column: u32,
    /// Rows and columns of patches of the view.
    pub grid: [u32; 2],
    /// The number of the picture in the record.
    pub picture: u32,
    /// Height and width of the picture before it became views, where that is known; else 0.
    pub size: [u32; 2],
}

impl Place {
    /// Numbers of a row.
    pub const COLUMNS: usize = 8;
    /// The row of what stands in front of the patches.
    pub const FRONT: u32 = u32::MAX;

    /// As numbers.
    pub fn numbers(self) -> [u32; Self::COLUMNS] {
        let ([rows, columns], [height, width]) = (self.grid, self.size);
        let Self {
            view,
            row,
            column,
            picture,
            ..
        } = self;
        [view, row, column, rows, columns, picture, height, width]
    }

    /// Of numbers.
    pub fn of([view, row, column, rows, columns, picture, height, width]: [u32; 8]) -> Self {
        Self {
            view,
            row,
            column,
            grid: [rows, columns],
            picture,
            size: [height, width],
        }
    }

    /// Those of all rows of a record.
    pub fn all(numbers: &[u32]) -> Vec<Self> {
        let (rows, _) = numbers.as_chunks();
        rows.iter().copied().map(Self::of).collect()
    }

    /// Whether it stands in front of the patches.
    pub fn is_front(self) -> bool {
        self.row == Self::FRONT
    }
}

/// A view of a picture: what is known of it before its rows are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Rows and columns of patches.
    pub grid: [usize; 2],
    /// The number of the picture in the record.
    pub picture: u32,
    /// Height and width of the picture before it became views, where that is known; else 0.
    pub size: [u32; 2],
}

impl Pictures {
    /// Numbers of a patch.
    pub fn patch_values(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.projection.out_features
    }

    /// The places of the rows of some views.
    pub fn places(&self, views: &[View]) -> Vec<Place> {
        let mut places = Vec::new();
        for (number, view) in views.iter().enumerate() {
            let [rows, columns] = view.grid.map(|count| count as u32);
            let at = |row, column| Place {
                view: number as u32,
                row,
                column,
                grid: [rows, columns],
                picture: view.picture,
                size: view.size,
            };
            places.extend((0..self.front.len() as u32).map(|front| at(Place::FRONT, front)));
            places
                .extend((0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column))));
        }
        places
    }

    /// The views of a record's tensor of this shape and their patches, `[patches, channels * patch * patch]`, in the order of
    /// [`Self::places`] without the rows in front; an error says what is wrong with it.
    pub fn unfold(&self, shape: &[usize], values: &[f32]) -> Result<(Vec<View>, Vec<f32>), String> {
        let PictureLayout::Planes { size, .. } = &self.layout;
        let wanted = || {
            let size = size.map_or_else(
                || "height, width".to_owned(),
                |[height, width]| format!("{height}, {width}"),
            );
            format!(
                "has shape {shape:?}, the model wants [views, {}, {size}]",
                self.channels
            )
        };
        let [front @ .., channels, height, width] = shape else {
            return Err(wanted());
        };
        let fits = *channels == self.channels
            && size.is_none_or(|size| size == [*height, *width])
            && values.len() == shape.iter().product::<usize>();
        if !fits {
            return Err(wanted());
        }
        // What is left over at the edges is in no patch.
        let grid = [height / self.patch, width / self.patch];
        if grid.contains(&0) {
            return Err(format!("{}, with a patch at least", wanted()));
        }
        if let Some(problem) = self.refused(grid) {
            return Err(problem);
        }
        let views = front.iter().product::<usize>();
        let mut patches = Vec::with_capacity(views * grid[0] * grid[1] * self.patch_values());
        let plane = height * width;
        for view in values.chunks_exact((plane * channels).max(1)) {
            for (row, column) in
                (0..grid[0]).flat_map(|row| (0..grid[1]).map(move |column| (row, column)))
            {
                for channel in view.chunks_exact(plane) {
                    for line in row * self.patch..(row + 1) * self.patch {
                        let first = line * width + column * self.patch;
                        patches.extend(&channel[first..first + self.patch]);
                    }
                }
            }
        }
        let view = |number: usize| View {
            grid,
            picture: number as u32,
            size: [*height as u32, *width as u32],
        };
        Ok(((0..views).map(view).collect(), patches))
    }

    /// Why a view of so many rows and columns of patches is none of the model.
    pub fn refused(&self, grid: [usize; 2]) -> Option<String> {
        let Some(PlaceTable::Grid {
            grid: own,
            otherwise: Interpolation::None,
            ..
        }) = &self.positions
        else {
            return None;
        };
        (grid != *own).then(|| {
            let [rows, columns] = grid;
            format!(
                "{rows} x {columns} patches, and the model has positions for {} x {}",
                own[0], own[1]
            )
        })
    }
}

/// How rows are made of those of the views of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PictureRows {
    /// The rows of every view without so many in front.
    Patches {
        /// Rows that are left out.
        front: usize,
    },
}

impl PictureRows {
    /// Rows that one is made of.
    pub fn parts(self) -> usize {
        match self {
            Self::Patches { .. } => 1,
        }
    }

    /// The rows that each row is made of, one after the other; [`Self::NONE`]: a vector of the model stands there.
    pub fn sources(self, places: &[Place]) -> Vec<u32> {
        match self {
            Self::Patches { front } => {
                let rows = 0_u32..;
                let kept = rows
                    .zip(places)
                    .filter(|(_, place)| !place.is_front() || place.column as usize >= front);
                kept.map(|(row, _)| row).collect()
            }
        }
    }

    /// A vector of the model in the place of a row.
    pub const NONE: u32 = u32::MAX;
}
