//! Tiles of a canvas that the picture fits, as many for each picture (Mllama).

use super::plain::sides;
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, pad_to};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{numbers, room, write};
use crate::normalise::Normalise;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::Area;
use crate::tensor::Tensor;

/// Tiles of a canvas.
#[derive(Debug)]
struct Canvases {
    tile: u32,
    /// Tiles of a picture at most.
    most: u32,
    filter: Filter,
    normalise: Normalise,
}

/// Mllama's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = sides(settings)?;
    if size.height != size.width {
        return Err(settings.refused("size", "height and width must be the same"));
    }
    for key in ["do_resize", "do_pad"] {
        if !settings.switch(key)? {
            return Err(settings.refused(key, "it cannot be off"));
        }
    }
    let most = settings.few("max_image_tiles")?;
    if most > 64 {
        return Err(settings.refused("max_image_tiles", "more than 64"));
    }
    Ok(Box::new(Canvases {
        tile: size.height,
        most,
        filter: settings.filter("resample")?,
        normalise: Normalise::read(settings)?,
    }))
}

impl Canvases {
    /// Rows and columns of tiles, in the order of their numbers.
    fn arrangements(&self) -> Vec<(u32, u32)> {
        let all =
            (1..=self.most).flat_map(|rows| (1..=self.most).map(move |columns| (rows, columns)));
        all.filter(|(rows, columns)| rows * columns <= self.most)
            .collect()
    }

    /// The number of an arrangement from 1.
    fn number(&self, grid: (u32, u32)) -> i64 {
        let place = self.arrangements().iter().position(|&other| other == grid);
        place.map_or(0, |place| place as i64 + 1)
    }

    /// The arrangement that magnifies a picture least, or reduces it least; of equal ones the smallest.
    fn best(&self, from: Area) -> (u32, u32) {
        let (height, width) = from.sides();
        let tile = f64::from(self.tile);
        let all = self.arrangements();
        let scale = |&(rows, columns): &(u32, u32)| {
            (f64::from(columns) * tile / width).min(f64::from(rows) * tile / height)
        };
        let scales = all.iter().map(scale);
        let magnified = scales
            .clone()
            .filter(|&scale| scale >= 1.0)
            .reduce(f64::min);
        let chosen = magnified.or_else(|| scales.reduce(f64::max)).unwrap_or(1.0);
        let equal = all.iter().filter(|grid| scale(grid) == chosen);
        let smallest = equal.min_by_key(|(rows, columns)| rows * columns);
        smallest.copied().unwrap_or((1, 1))
    }
}

impl Way for Canvases {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let (rows, columns) = self.best(from);
        let canvas = Area {
            height: rows * self.tile,
            width: columns * self.tile,
        };
        let (height, width) = from.sides();
        let (to_height, to_width) = (
            from.height.clamp(self.tile, canvas.height),
            from.width.clamp(self.tile, canvas.width),
        );
        let (scale_height, scale_width) =
            (f64::from(to_height) / height, f64::from(to_width) / width);
        let size = if scale_width < scale_height {
            Area {
                height: ((height * scale_width) as u32).max(1).min(to_height),
                width: to_width,
            }
        } else {
            Area {
                height: to_height,
                width: ((width * scale_height) as u32).max(1).min(to_width),
            }
        };
        let resize = Step::Resize(size, self.filter);
        let steps = std::iter::once(resize).chain(pad_to(size, canvas));
        Ok(Cut {
            canvases: vec![Canvas::new(steps.collect()).tiled(rows, columns)],
            grid: (rows, columns),
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let size = Area {
            height: self.tile,
            width: self.tile,
        };
        let (count, most) = (pictures.len(), self.most as usize);
        let (shape, mut values) = room(&[1, count, most], size, budget)?;
        let own = numbers(size);
        let mut mask = vec![0; count * most];
        for (at, picture) in pictures.iter().enumerate() {
            for (tile, view) in picture.views.iter().enumerate() {
                let place = at * most + tile;
                write(
                    view,
                    &self.normalise,
                    size,
                    &mut values[place * own..(place + 1) * own],
                );
                mask[place] = 1;
            }
        }
        let ids = pictures.iter().map(|picture| self.number(picture.grid));
        Ok(vec![
            Tensor::floats("pixel_values", &shape, values),
            Tensor::integers("aspect_ratio_ids", &[1, count], ids.collect()),
            Tensor::integers("aspect_ratio_mask", &[1, count, most], mask),
        ])
    }
}
