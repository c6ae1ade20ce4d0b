//! A view of the whole, and tiles of it in the best of some resolutions (LLaVA-NeXT, LLaVA-OneVision).

use super::plain::background;
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, center_crop, size_after, square};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{numbers, one_size, room, write};
use crate::normalise::Normalise;
use crate::picture::{Margins, Rect};
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, Size, checked};
use crate::tensor::Tensor;

/// Tiles in the best resolution.
#[derive(Debug)]
struct AnyResolution {
    resolutions: Vec<Area>,
    /// The view of the whole.
    whole: Area,
    /// Side of a tile.
    tile: u32,
    resize: Option<Size>,
    crop: Option<Area>,
    filter: Filter,
    /// Several pictures of a record are not divided, but padded to squares of this colour.
    alone: Option<[u8; 3]>,
    /// Pictures of fewer tiles get tiles of zeros.
    pads: bool,
    normalise: Normalise,
}

/// LLaVA-NeXT's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    Ok(Box::new(described(settings)?))
}

/// LLaVA-OneVision's: a record's only picture is divided.
pub fn read_alone(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let mut way = described(settings)?;
    way.alone = Some(background(settings, "image_mean")?);
    Ok(Box::new(way))
}

/// `image_grid_pinpoints`.
pub fn resolutions(settings: &Settings) -> Result<Vec<Area>, DescriptionError> {
    pairs(settings, "image_grid_pinpoints")
}

/// Pairs of height and width.
pub fn pairs(settings: &Settings, key: &str) -> Result<Vec<Area>, DescriptionError> {
    let pairs = settings.get(key).and_then(serde_json::Value::as_array);
    let pair = |value: &serde_json::Value| {
        let [height, width] = &value.as_array()?[..] else {
            return None;
        };
        let side = |value: &serde_json::Value| {
            let side = u32::try_from(value.as_u64()?).ok()?;
            (1..=1 << 16).contains(&side).then_some(side)
        };
        Some(Area {
            height: side(height)?,
            width: side(width)?,
        })
    };
    let resolutions = pairs.and_then(|pairs| pairs.iter().map(pair).collect::<Option<Vec<Area>>>());
    let resolutions = resolutions.filter(|all| !all.is_empty() && all.len() <= 4096);
    resolutions.ok_or_else(|| settings.refused(key, "pairs of height and width are wanted"))
}

fn described(settings: &Settings) -> Result<AnyResolution, DescriptionError> {
    let square = settings.switch("default_to_square")?;
    let size = settings.size("size", square)?.unwrap_or_default();
    let whole = size.area_or_square();
    let whole = whole.ok_or_else(|| {
        settings.refused(
            "size",
            "it has neither height and width nor a shortest edge",
        )
    })?;
    let crop = settings
        .size("crop_size", true)?
        .and_then(|size| size.area());
    let tile = crop.map_or(whole.height, |crop| crop.height);
    let resolutions = resolutions(settings)?;
    Ok(AnyResolution {
        resolutions,
        whole,
        tile,
        resize: settings.switch("do_resize")?.then_some(size),
        crop: crop.filter(|_| settings.switch("do_center_crop").unwrap_or_default()),
        filter: settings.filter("resample")?,
        alone: None,
        pads: settings.switch("do_pad")?,
        normalise: Normalise::read(settings)?,
    })
}

/// Of some resolutions the one that shows most of a picture, and of those the one that wastes least.
pub fn best_resolution(from: Area, resolutions: &[Area]) -> Area {
    let mut best = (resolutions[0], 0, i64::MAX);
    for &area in resolutions {
        let ((height, width), (to_height, to_width)) = (from.sides(), area.sides());
        let scale = (to_width / width).min(to_height / height);
        let shown = Area {
            height: (height * scale) as u32,
            width: (width * scale) as u32,
        };
        let shown = shown.pixels().min(from.pixels()) as i64;
        let wasted = area.pixels() as i64 - shown;
        if shown > best.1 || shown == best.1 && wasted < best.2 {
            best = (area, shown, wasted);
        }
    }
    best.0
}

/// The size in which a picture fits a resolution.
pub fn fitted(from: Area, to: Area) -> Area {
    let ((height, width), (to_height, to_width)) = (from.sides(), to.sides());
    let (scale_width, scale_height) = (to_width / width, to_height / height);
    if scale_width < scale_height {
        Area {
            height: ((height * scale_width).ceil() as u32).min(to.height),
            width: to.width,
        }
    } else {
        Area {
            height: to.height,
            width: ((width * scale_height).ceil() as u32).min(to.width),
        }
    }
}

/// Black margins around a picture up to a resolution that it fits.
pub fn in_the_middle(size: Area, best: Area) -> Step {
    let (height, width) = (best.height - size.height, best.width - size.width);
    let margins = Margins {
        left: width / 2,
        top: height / 2,
        right: width.div_ceil(2),
        bottom: height.div_ceil(2),
    };
    Step::Pad(margins, [0; 3])
}

impl AnyResolution {
    /// What every view passes through at last.
    fn after(&self, from: Area) -> Result<Vec<Step>, PictureError> {
        let mut steps = Vec::new();
        if let Some(size) = &self.resize {
            let to = size.of(from)?;
            if to != from {
                steps.push(Step::Resize(to, self.filter));
            }
        }
        if let Some(crop) = self.crop {
            steps.extend(center_crop(size_after(&steps, from), crop));
        }
        Ok(steps)
    }

    /// The tiles of what comes of `steps`; the last of a row or column may be smaller.
    fn tiles(&self, whole: Area, steps: Vec<Step>) -> Result<Vec<Canvas>, PictureError> {
        let (rows, columns) = (
            whole.height.div_ceil(self.tile),
            whole.width.div_ceil(self.tile),
        );
        if whole.height.is_multiple_of(self.tile) && whole.width.is_multiple_of(self.tile) {
            let tile = Area {
                height: self.tile,
                width: self.tile,
            };
            let mut tiles = Canvas::new(steps).tiled(rows, columns);
            tiles.after = self.after(tile)?;
            return Ok(vec![tiles]);
        }
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let tiles = places.map(|(row, column)| {
            let (top, left) = (row * self.tile, column * self.tile);
            let tile = Area {
                height: self.tile.min(whole.height - top),
                width: self.tile.min(whole.width - left),
            };
            let mut steps = steps.clone();
            steps.push(Step::Crop(Rect {
                left,
                top,
                width: tile.width,
                height: tile.height,
            }));
            steps.extend(self.after(tile)?);
            Ok(Canvas::new(steps))
        });
        tiles.collect()
    }
}

impl Way for AnyResolution {
    fn cut(&self, from: Area, of: usize) -> Result<Cut, PictureError> {
        if let Some(colour) = self.alone.filter(|_| of > 1) {
            let mut steps: Vec<Step> = square(from, colour).into_iter().collect();
            steps.extend(self.after(size_after(&steps, from))?);
            return Ok(Cut::whole(Canvas::new(steps)));
        }
        let best = best_resolution(from, &self.resolutions);
        let size = checked(fitted(from, best), from)?;
        let (rows, columns) = (
            best.height.div_ceil(self.tile),
            best.width.div_ceil(self.tile),
        );
        let steps = vec![Step::Resize(size, self.filter), in_the_middle(size, best)];
        let tiles = self.tiles(best, steps)?;
        let mut whole = vec![Step::Resize(self.whole, self.filter)];
        whole.extend(self.after(self.whole)?);
        Ok(Cut {
            canvases: std::iter::once(Canvas::new(whole)).chain(tiles).collect(),
            grid: (rows, columns),
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let size = one_size(pictures.iter().flat_map(|picture| &picture.views))?;
        let counts = pictures.iter().map(|picture| picture.views.len());
        let most = counts.clone().max().unwrap_or(0);
        if !self.pads && counts.clone().any(|count| count != most) {
            return Err(PictureError::Size(
                "the pictures of the record have different numbers of tiles, and `do_pad` is off"
                    .into(),
            ));
        }
        let (shape, mut values) = room(&[pictures.len(), most], size, budget)?;
        let own = numbers(size);
        for (picture, out) in pictures.iter().zip(values.chunks_exact_mut(own * most)) {
            for (view, out) in picture.views.iter().zip(out.chunks_exact_mut(own)) {
                write(view, &self.normalise, size, out);
            }
        }
        let mut tensors = vec![
            Tensor::floats("pixel_values", &shape, values),
            sizes(pictures),
        ];
        if self.alone.is_some() {
            let count = pictures.len() as i64;
            tensors.push(Tensor::integers("batch_num_images", &[1], vec![count]));
        }
        Ok(tensors)
    }
}

/// The sizes of pictures in their files: `[pictures, 2]`, height and width.
pub fn sizes(pictures: &[Drawn]) -> Tensor {
    let sides = pictures.iter().flat_map(|picture| {
        [
            i64::from(picture.from.height),
            i64::from(picture.from.width),
        ]
    });
    Tensor::integers("image_sizes", &[pictures.len(), 2], sides.collect())
}
