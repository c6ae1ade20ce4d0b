//! Tiles, or the whole, in squares whose rest is black, with masks of what is shown (Aria).

use super::anyres::{best_resolution, fitted, in_the_middle, pairs};
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, pad_to};
use crate::error::{DescriptionError, PictureError};
use crate::layout::stack;
use crate::normalise::Normalise;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, checked};
use crate::tensor::Tensor;

/// Sides of squares that the class takes, pixels.
const SIDES: [u32; 2] = [490, 980];
/// Rows and columns of the resolutions where a file says none, squares of the first of [`SIDES`].
const USUAL: [(u32, u32); 19] = [
    (1, 2),
    (1, 3),
    (1, 4),
    (1, 5),
    (1, 6),
    (1, 7),
    (1, 8),
    (2, 4),
    (2, 3),
    (2, 2),
    (2, 1),
    (3, 1),
    (3, 2),
    (4, 1),
    (4, 2),
    (5, 1),
    (6, 1),
    (7, 1),
    (8, 1),
];

/// Squares.
#[derive(Debug)]
struct Squares {
    side: u32,
    /// Least of the shorter side.
    least: u32,
    /// Resolutions to divide in.
    divides: Option<Vec<Area>>,
    filter: Filter,
    normalise: Normalise,
}

/// Aria's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    const RESOLUTIONS: &str = "split_resolutions";
    let side = settings.count("max_image_size")?;
    if !SIDES.contains(&side) {
        return Err(settings.refused("max_image_size", format!("one of {SIDES:?} is wanted")));
    }
    let least = settings.count("min_image_size")?;
    if least > side {
        return Err(settings.refused("min_image_size", "it is more than `max_image_size`"));
    }
    let divides = settings.switch("split_image")?;
    let resolutions = match settings.get(RESOLUTIONS) {
        Some(_) => pairs(settings, RESOLUTIONS)?,
        None => {
            let area = |(rows, columns)| Area {
                height: rows * SIDES[0],
                width: columns * SIDES[0],
            };
            USUAL.map(area).to_vec()
        }
    };
    Ok(Box::new(Squares {
        side,
        least,
        divides: divides.then_some(resolutions),
        filter: settings.filter("resample")?,
        normalise: Normalise::read(settings)?,
    }))
}

impl Squares {
    /// The size in which a picture is shown in its square.
    fn shown(&self, from: Area) -> Area {
        let (height, width) = from.sides();
        let scale = f64::from(self.side) / height.max(width);
        let shorter = |side: f64| ((side * scale) as u32).max(self.least);
        if from.width >= from.height {
            Area {
                height: shorter(height),
                width: self.side,
            }
        } else {
            Area {
                height: self.side,
                width: shorter(width),
            }
        }
    }

    /// Steps of a picture to its square.
    fn square(&self, from: Area) -> impl Iterator<Item = Step> {
        let shown = self.shown(from);
        let whole = Area::square(self.side);
        let resize = Step::Resize(shown, self.filter);
        std::iter::once(resize).chain(pad_to(shown, whole))
    }
}

impl Way for Squares {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let Some(resolutions) = &self.divides else {
            return Ok(Cut::whole(Canvas::new(self.square(from).collect())));
        };
        let best = best_resolution(from, resolutions);
        if !best.height.is_multiple_of(self.side) || !best.width.is_multiple_of(self.side) {
            return Err(PictureError::Size(format!(
                "its resolution of {} x {} pixels is no whole number of squares of {}",
                best.width, best.height, self.side
            )));
        }
        let size = checked(fitted(from, best), from)?;
        let grid = (best.height / self.side, best.width / self.side);
        let steps = vec![Step::Resize(size, self.filter), in_the_middle(size, best)];
        Ok(Cut {
            canvases: vec![Canvas::new(steps).tiled(grid.0, grid.1)],
            grid,
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let views = Drawn::all(pictures);
        let pixels = stack(&views, &self.normalise, budget)?;
        let side = self.side as usize;
        let shape = [views.len(), side, side];
        let numbers = budget.hold_numbers(&[views.len(), side, side, 2])? / 2;
        let mut mask = Vec::with_capacity(numbers);
        for picture in pictures {
            // A tile is full.
            let whole = Area::square(self.side);
            let shown = match self.divides {
                Some(_) => whole,
                None => self.shown(picture.from),
            };
            for _ in &picture.views {
                for row in 0..side {
                    let is_shown =
                        |column| row < shown.height as usize && column < shown.width as usize;
                    mask.extend((0..side).map(|column| i64::from(is_shown(column))));
                }
            }
        }
        Ok(vec![pixels, Tensor::integers("pixel_mask", &shape, mask)])
    }
}
