//! The whole within numbers of tokens, large pictures in tiles first; patches up to a number, with masks (LFM2-VL).

use super::ratio::{MOST_TILES, nearest_ratio};
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{area_of, patches_by_pixel};
use crate::normalise::Normalise;
use crate::picture::Picture;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, checked};
use crate::tensor::Tensor;

/// Tiles and the whole.
#[derive(Debug)]
struct Tokens {
    patch: u32,
    /// Side of the square of patches that becomes a token.
    merge: u32,
    /// Pixels of the whole at least and at most.
    within: (f64, f64),
    /// How many times the most of them a picture has that is divided.
    tolerance: f64,
    /// Tiles at least and at most, and the side of one; without, pictures are not divided.
    divides: Option<((u32, u32), u32)>,
    /// The whole stands behind its tiles.
    shows_whole: bool,
    /// Patches of a view at most.
    most: u32,
    filter: Filter,
    normalise: Normalise,
}

/// LFM2-VL's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    if !settings.switch("do_pad")? {
        return Err(settings.refused("do_pad", "the model reads masks, which it makes"));
    }
    let (patch, merge) = (
        settings.few("encoder_patch_size")?,
        settings.few("downsample_factor")?,
    );
    let (least, most) = (
        settings.count("min_image_tokens")?,
        settings.count("max_image_tokens")?,
    );
    let tile = settings.count("tile_size")?;
    let tiles = (settings.few("min_tiles")?, settings.few("max_tiles")?);
    if tiles.0 > tiles.1 || tiles.1 > MOST_TILES {
        let problem = format!(
            "{} to {} tiles are not possible, at most {MOST_TILES}",
            tiles.0, tiles.1
        );
        return Err(settings.refused("max_tiles", problem));
    }
    let splits = settings.switch("do_image_splitting")?;
    let divides = splits && tiles != (1, 1);
    if divides && !tile.is_multiple_of(patch) {
        return Err(settings.refused("tile_size", "it is no whole number of patches"));
    }
    let square = |side: u32| side.checked_mul(side);
    let of_tile = if splits {
        square(tile / patch)
    } else {
        Some(0)
    };
    let of_whole = square(merge).and_then(|square| most.checked_mul(square));
    let patches = of_tile.zip(of_whole).map(|(tile, whole)| tile.max(whole));
    let large = || settings.refused("max_image_tokens", "a view would have too many patches");
    let pixels =
        |tokens: u32| f64::from(tokens) * f64::from(patch).powi(2) * f64::from(merge).powi(2);
    Ok(Box::new(Tokens {
        patch,
        merge,
        within: (pixels(least), pixels(most)),
        tolerance: settings.number("max_pixels_tolerance")?.unwrap_or(1.0),
        divides: divides.then_some((tiles, tile)),
        shows_whole: settings.switch("use_thumbnail")?,
        most: patches.ok_or_else(large)?,
        filter: settings.filter("resample")?,
        normalise: Normalise::read(settings)?,
    }))
}

impl Tokens {
    /// Pixels of the side that becomes a token.
    fn factor(&self) -> f64 {
        f64::from(self.patch) * f64::from(self.merge)
    }

    /// The size of the whole.
    fn whole(&self, from: Area) -> Result<Area, PictureError> {
        let ((height, width), factor) = (from.sides(), self.factor());
        let nearest = |side: f64| factor.max((side / factor).round_ties_even() * factor);
        let (mut rows, mut columns) = (nearest(height), nearest(width));
        let (least, most) = self.within;
        if rows * columns > most {
            let beta = (height * width / most).sqrt();
            let down = |side: f64| factor.max((side / beta / factor).floor() * factor);
            (rows, columns) = (down(height), down(width));
        } else if rows * columns < least {
            let beta = (least / (height * width)).sqrt();
            let up = |side: f64| (side * beta / factor).ceil() * factor;
            (rows, columns) = (up(height), up(width));
        }
        let area = Area {
            height: rows as u32,
            width: columns as u32,
        };
        checked(area, from)
    }

    fn is_large(&self, from: Area) -> bool {
        let ((height, width), factor) = (from.sides(), self.factor());
        let nearest =
            |side: f64| f64::from(self.patch).max((side / factor).round_ties_even() * factor);
        nearest(height) * nearest(width) > self.within.1 * self.tolerance
    }
}

impl Way for Tokens {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let whole = self.whole(from)?;
        let to = |area: Area| Canvas::new(vec![Step::Resize(area, self.filter)]);
        let mut canvases = Vec::new();
        let mut grid = (1, 1);
        if let Some((tiles, side)) = self.divides.filter(|_| self.is_large(from)) {
            let tile = Area::square(side);
            let (columns, rows) = nearest_ratio(from, tile, tiles);
            let size = Area {
                height: side.saturating_mul(rows),
                width: side.saturating_mul(columns),
            };
            grid = (rows, columns);
            canvases.push(to(size).tiled(rows, columns));
        }
        if canvases.is_empty() || self.shows_whole && grid != (1, 1) {
            let patches = whole.pixels() / u64::from(self.patch).pow(2);
            if patches > u64::from(self.most) {
                let problem = format!("it has more than {} patches", self.most);
                return Err(PictureError::Size(problem));
            }
            canvases.push(to(whole));
        }
        Ok(Cut { canvases, grid })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let views = Drawn::all(pictures);
        let width = Picture::CHANNELS * (self.patch as usize * self.patch as usize);
        let (count, most) = (views.len(), self.most as usize);
        let shape = [count, most, width];
        let numbers = budget.hold_numbers(&shape)?;
        let masks = budget.hold_numbers(&[count, most, 2])? / 2;
        let (mut values, mut mask) = (Vec::with_capacity(numbers), Vec::with_capacity(masks));
        let mut shapes = Vec::new();
        for (at, view) in views.iter().enumerate() {
            patches_by_pixel(view, self.patch, &self.normalise, &mut values);
            mask.resize(values.len() / width, 1);
            values.resize((at + 1) * most * width, 0.0);
            mask.resize((at + 1) * most, 0);
            let Area { height, width } = area_of(view);
            shapes.extend([height, width].map(|side| i64::from(side / self.patch)));
        }
        Ok(vec![
            Tensor::floats("pixel_values", &shape, values),
            Tensor::integers("pixel_attention_mask", &[count, most], mask),
            Tensor::integers("spatial_shapes", &[count, 2], shapes),
        ])
    }
}
