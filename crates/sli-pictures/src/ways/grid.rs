//! Patches one after the other, and how many in rows and columns: Qwen2-VL and what came of it, GLM-4V, Kimi K2.5, VideoLLaMA 3,
//! PaddleOCR-VL.

use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, pad_to};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{area_of, patches_by_channel};
use crate::normalise::Normalise;
use crate::picture::Picture;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, checked};
use crate::tensor::Tensor;

/// Largest ratio of the sides.
const LARGEST_RATIO: f64 = 200.0;

/// Patches in a grid.
#[derive(Debug)]
struct Grid {
    rule: Option<Rule>,
    filter: Filter,
    /// Side of a patch, pixels.
    patch: u32,
    /// Side of the square of patches that becomes one token.
    merge: u32,
    /// Frames of a patch.
    frames: u32,
    /// Whether patches come in squares, and flat.
    is_flat: bool,
    /// Whether the model is told the side of the square.
    tells_merge: bool,
    normalise: Normalise,
}

/// How the size of a picture becomes a whole number of patches.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// To the nearest, within a number of pixels.
    Nearest { least: u32, most: u32 },
    /// The same, counted over the frames of a patch, small pictures made larger first.
    Frames { least: u32, most: u32 },
    /// The same for one frame, each side that is too short made as long as a square of patches first.
    Enlarged { least: u32, most: u32 },
    /// Smaller where it has too many patches, then zeros around.
    Padded { patches: u32, side: u32 },
}

/// Qwen2-VL's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let (least, most) = pixels(settings)?;
    Ok(Box::new(grid(settings, Rule::Nearest { least, most })?))
}

/// VideoLLaMA 3's.
pub fn read_merging(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let (least, most) = pixels(settings)?;
    let mut grid = grid(settings, Rule::Nearest { least, most })?;
    grid.tells_merge = true;
    Ok(Box::new(grid))
}

/// PaddleOCR-VL's.
pub fn read_enlarged(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let (least, most) = pixels(settings)?;
    let mut grid = grid(settings, Rule::Enlarged { least, most })?;
    grid.is_flat = false;
    Ok(Box::new(grid))
}

/// GLM-4V's.
pub fn read_frames(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let (least, most) = limits(settings)?;
    let (least, most) = both(settings, least, most)?;
    Ok(Box::new(grid(settings, Rule::Frames { least, most })?))
}

/// Kimi K2.5's.
pub fn read_padded(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = settings.size("size", true)?.unwrap_or_default();
    let side = size
        .max_height
        .filter(|_| size.max_height == size.max_width);
    let side = side.ok_or_else(|| {
        settings.refused(
            "size",
            "`max_height` and `max_width` are wanted, and the same",
        )
    })?;
    let patches = settings.count("max_patches")?;
    let rule = Rule::Padded { patches, side };
    Ok(Box::new(Grid {
        rule: settings.switch("do_resize")?.then_some(rule),
        filter: settings.filter("resample")?,
        patch: settings.few("patch_size")?,
        merge: settings.few("merge_size")?,
        frames: 1,
        is_flat: false,
        tells_merge: false,
        normalise: Normalise::read(settings)?,
    }))
}

fn limits(settings: &Settings) -> Result<(Option<u32>, Option<u32>), DescriptionError> {
    let size = settings.size("size", false)?.unwrap_or_default();
    Ok((size.shortest_edge, size.longest_edge))
}

fn both(
    settings: &Settings,
    least: Option<u32>,
    most: Option<u32>,
) -> Result<(u32, u32), DescriptionError> {
    least.zip(most).ok_or_else(|| {
        settings.refused(
            "size",
            "`shortest_edge` and `longest_edge` are wanted, the pixels at least and at most",
        )
    })
}

/// Pixels at least and at most, where two keys of their own go before `size`.
fn pixels(settings: &Settings) -> Result<(u32, u32), DescriptionError> {
    let (mut least, mut most) = limits(settings)?;
    least = settings.count_if("min_pixels")?.or(least);
    most = settings.count_if("max_pixels")?.or(most);
    both(settings, least, most)
}

fn grid(settings: &Settings, rule: Rule) -> Result<Grid, DescriptionError> {
    Ok(Grid {
        rule: settings.switch("do_resize")?.then_some(rule),
        filter: settings.filter("resample")?,
        patch: settings.few("patch_size")?,
        merge: settings.few("merge_size")?,
        frames: settings.few("temporal_patch_size")?,
        is_flat: true,
        tells_merge: false,
        normalise: Normalise::read(settings)?,
    })
}

/// Whole numbers of `factor`, of about the ratio of the sides, within a number of pixels.
fn nearest(
    from: Area,
    factor: u32,
    (frames, least, most): (u32, u32, u32),
) -> Result<Area, PictureError> {
    let (height, width) = from.sides();
    let ratio = height.max(width) / height.min(width);
    if ratio > LARGEST_RATIO {
        return Err(PictureError::Size(format!(
            "its longer side is {ratio:.1} times the shorter one, at most {LARGEST_RATIO} is possible"
        )));
    }
    let factor = f64::from(factor);
    let frames = f64::from(frames);
    let (least, most) = (f64::from(least), f64::from(most));
    let whole = |side: f64| (side / factor).round_ties_even() * factor;
    let (mut rows, mut columns) = (whole(height), whole(width));
    if frames * rows * columns > most {
        let beta = (frames * height * width / most).sqrt();
        let down = |side: f64| factor.max((side / beta / factor).floor() * factor);
        (rows, columns) = (down(height), down(width));
    } else if frames * rows * columns < least {
        let beta = (least / (frames * height * width)).sqrt();
        let up = |side: f64| (side * beta / factor).ceil() * factor;
        (rows, columns) = (up(height), up(width));
    }
    let area = Area {
        height: rows as u32,
        width: columns as u32,
    };
    checked(area, from)
}

impl Rule {
    fn steps(self, from: Area, grid: &Grid) -> Result<Vec<Step>, PictureError> {
        let factor = grid.patch.saturating_mul(grid.merge);
        let to = |area: Area| Step::Resize(area, grid.filter);
        Ok(match self {
            Self::Nearest { least, most } => vec![to(nearest(from, factor, (1, least, most))?)],
            Self::Frames { least, most } => {
                let mut own = from;
                if from.height < factor || from.width < factor {
                    let ((height, width), factor) = (from.sides(), f64::from(factor));
                    let scale = (factor / height).max(factor / width);
                    own = Area {
                        height: (height * scale) as u32,
                        width: (width * scale) as u32,
                    };
                }
                vec![to(nearest(
                    checked(own, from)?,
                    factor,
                    (grid.frames, least, most),
                )?)]
            }
            Self::Enlarged { least, most } => {
                let mut own = from;
                let longer = |side: u32, other: u32| {
                    let exact = f64::from(side) * f64::from(factor) / f64::from(other);
                    exact.round_ties_even() as u32
                };
                if own.height < factor {
                    own.width = longer(own.width, own.height);
                    own.height = factor;
                }
                if own.width < factor {
                    own.height = longer(own.height, own.width);
                    own.width = factor;
                }
                vec![to(nearest(own, factor, (1, least, most))?)]
            }
            Self::Padded { patches, side } => {
                let (height, width) = from.sides();
                let (patch, most) = (
                    f64::from(grid.patch),
                    f64::from(side) * f64::from(grid.patch),
                );
                let own = |side: u32| f64::from((side / grid.patch).max(1));
                let count = own(from.height) * own(from.width);
                let scale = (f64::from(patches) / count).sqrt().min(1.0);
                let scale = scale
                    .min(f64::from(side) * patch / height)
                    .min(f64::from(side) * patch / width);
                let smaller = |side: f64| (side * scale).trunc().max(1.0).min(most) as u32;
                let size = Area {
                    height: smaller(height),
                    width: smaller(width),
                };
                let whole = Area {
                    height: size.height.next_multiple_of(factor),
                    width: size.width.next_multiple_of(factor),
                };
                std::iter::once(to(size))
                    .chain(pad_to(size, whole))
                    .collect()
            }
        })
    }
}

impl Way for Grid {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let steps = self.rule.map(|rule| rule.steps(from, self)).transpose()?;
        let size = crate::cut::size_after(steps.as_deref().unwrap_or_default(), from);
        let squares = if self.is_flat { self.merge } else { 1 };
        let whole = self.patch.saturating_mul(squares);
        if !size.height.is_multiple_of(whole) || !size.width.is_multiple_of(whole) {
            return Err(PictureError::Size(format!(
                "{} x {} pixels are no whole number of patches of {whole}, and `do_resize` is off",
                size.width, size.height
            )));
        }
        Ok(Cut {
            canvases: vec![Canvas::new(steps.unwrap_or_default())],
            grid: (size.height / self.patch, size.width / self.patch),
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let views = || pictures.iter().flat_map(|picture| &picture.views);
        let side = self.patch as usize;
        let pixels: u64 = views().map(|view| area_of(view).pixels()).sum();
        let patches = pixels as usize / (side * side).max(1);
        let width = Picture::CHANNELS * self.frames as usize * side * side;
        let numbers = budget.hold_numbers(&[patches, width])?;
        let mut values = Vec::with_capacity(numbers);
        let merge = if self.is_flat { self.merge } else { 1 };
        for view in views() {
            patches_by_channel(
                view,
                (self.patch, merge, self.frames),
                &self.normalise,
                &mut values,
            );
        }
        let shape = if self.is_flat {
            vec![patches, width]
        } else {
            let channels = Picture::CHANNELS * self.frames as usize;
            vec![patches, channels, side, side]
        };
        let grids = pictures.iter().flat_map(|picture| {
            let (rows, columns) = picture.grid;
            [1, i64::from(rows), i64::from(columns)]
        });
        let mut tensors = vec![
            Tensor::floats("pixel_values", &shape, values),
            Tensor::integers("image_grid_thw", &[pictures.len(), 3], grids.collect()),
        ];
        if self.tells_merge {
            let sides = vec![i64::from(self.merge); pictures.len()];
            tensors.push(Tensor::integers(
                "image_merge_sizes",
                &[pictures.len()],
                sides,
            ));
        }
        Ok(tensors)
    }
}
