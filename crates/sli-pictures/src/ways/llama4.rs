//! Tiles of the resolution that a picture fits best, and a view of the whole, in numbers of bfloat16 (Llama 4).

use super::plain::sides;
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, pad_to};
use crate::error::{DescriptionError, PictureError};
use crate::layout::stack;
use crate::normalise::{Normalise, rescale_factor};
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::Area;
use crate::tensor::Tensor;

/// Tiles of the best resolution.
#[derive(Debug)]
struct Best {
    tile: u32,
    resolutions: Vec<Area>,
    /// Pictures are magnified to their resolution.
    magnifies: bool,
    filter: Filter,
    normalise: Normalise,
}

/// Llama 4's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = sides(settings)?;
    if size.height != size.width {
        return Err(settings.refused("size", "height and width must be the same"));
    }
    if !settings.switch("do_resize")? {
        return Err(settings.refused("do_resize", "it cannot be off"));
    }
    let most = settings.few("max_patches")?;
    Ok(Box::new(Best {
        tile: size.height,
        resolutions: resolutions(most, size.height),
        magnifies: settings.switch("resize_to_max_canvas")?,
        filter: settings.filter("resample")?,
        normalise: normalise(settings)?,
    }))
}

/// The nearest number of bfloat16.
fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    let half = 0x7fff + (bits >> 16 & 1);
    f32::from_bits(bits.wrapping_add(half) & 0xffff_0000)
}

fn normalise(settings: &Settings) -> Result<Normalise, DescriptionError> {
    let factor = rescale_factor(settings)?;
    let (Some(factor), true) = (factor, settings.switch("do_normalize")?) else {
        return Normalise::read(settings);
    };
    let there = |key| {
        let numbers = settings.channels(key)?;
        numbers.ok_or_else(|| settings.refused(key, "`do_normalize` needs it"))
    };
    let (means, deviations) = (there("image_mean")?, there("image_std")?);
    Ok(Normalise::of(|value, channel| {
        let scaled = rounded(value * factor as f32);
        let moved = rounded(scaled - rounded(means[channel] as f32));
        rounded(moved / rounded(deviations[channel] as f32))
    }))
}

/// All resolutions of up to `most` tiles, those of the same ratio behind each other.
fn resolutions(most: u32, tile: u32) -> Vec<Area> {
    let mut ratios: Vec<(f64, Vec<Area>)> = Vec::new();
    for tiles in (1..=most).rev() {
        for rows in (1..=tiles).filter(|rows| tiles % rows == 0) {
            let columns = tiles / rows;
            let ratio = f64::from(rows) / f64::from(columns);
            let area = Area {
                height: rows.saturating_mul(tile),
                width: columns.saturating_mul(tile),
            };
            match ratios.iter_mut().find(|(other, _)| *other == ratio) {
                Some((_, areas)) => areas.push(area),
                None => ratios.push((ratio, vec![area])),
            }
        }
    }
    ratios.into_iter().flat_map(|(_, areas)| areas).collect()
}

/// A side that a picture is to have: in the reference a tensor, whose quotients are of single precision, or a number.
#[derive(Clone, Copy)]
struct Side {
    pixels: u32,
    is_tensor: bool,
}

impl Side {
    /// It by a side of the picture.
    fn scale(self, by: u32) -> f64 {
        if self.is_tensor {
            f64::from(self.pixels as f32 / by as f32)
        } else {
            f64::from(self.pixels) / f64::from(by)
        }
    }

    /// A side in its scale, cut to a whole number.
    fn scaled(self, by: u32, side: u32) -> u32 {
        if self.is_tensor {
            (side as f32 * self.scale(by) as f32) as u32
        } else {
            (f64::from(side) * self.scale(by)) as u32
        }
    }
}

impl Best {
    fn resolution(&self, from: Area) -> Area {
        let scale = |area: &Area| {
            let width = area.width as f32 / from.width as f32;
            width.min(area.height as f32 / from.height as f32)
        };
        let scales = self.resolutions.iter().map(scale);
        let magnified = scales.clone().filter(|&scale| scale >= 1.0);
        let chosen = magnified.reduce(if self.magnifies { f32::max } else { f32::min });
        let chosen = chosen.or_else(|| scales.reduce(f32::max)).unwrap_or(1.0);
        let equal = self.resolutions.iter().filter(|area| scale(area) == chosen);
        equal
            .min_by_key(|area| area.pixels())
            .copied()
            .unwrap_or(from)
    }

    /// The size of a picture in its resolution.
    fn size(&self, from: Area, to: Area) -> Area {
        let side = |own: u32, to: u32| {
            let wanted = own.max(self.tile);
            let is_tensor = self.magnifies || to < wanted;
            let pixels = if is_tensor { to } else { wanted };
            Side { pixels, is_tensor }
        };
        let (height, width) = (side(from.height, to.height), side(from.width, to.width));
        let (scale_height, scale_width) = (height.scale(from.height), width.scale(from.width));
        let is_narrower = if height.is_tensor || width.is_tensor {
            (scale_width as f32) < scale_height as f32
        } else {
            scale_width < scale_height
        };
        if is_narrower {
            Area {
                height: width
                    .scaled(from.width, from.height)
                    .min(height.pixels)
                    .max(1),
                width: width.pixels.max(1),
            }
        } else {
            Area {
                height: height.pixels.max(1),
                width: height
                    .scaled(from.height, from.width)
                    .min(width.pixels)
                    .max(1),
            }
        }
    }
}

impl Way for Best {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let to = self.resolution(from);
        let size = self.size(from, to);
        let (rows, columns) = (to.height / self.tile, to.width / self.tile);
        let resize = Step::Resize(size, self.filter);
        let steps = std::iter::once(resize).chain(pad_to(size, to)).collect();
        let mut canvases = vec![Canvas::new(steps).tiled(rows, columns)];
        if rows * columns > 1 {
            let tile = Area {
                height: self.tile,
                width: self.tile,
            };
            canvases.push(Canvas::new(vec![Step::Resize(tile, self.filter)]));
        }
        Ok(Cut {
            canvases,
            grid: (rows, columns),
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let views = Drawn::all(pictures);
        Ok(vec![stack(&views, &self.normalise, budget)?])
    }
}
