//! Whole patches of the picture's own ratio, zeros behind the smaller of several (Pixtral).

use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, center_crop, size_after};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{area_of, largest, one_size, padded};
use crate::normalise::Normalise;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, checked};
use crate::tensor::Tensor;

/// Whole patches.
#[derive(Debug)]
struct Ragged {
    /// Height and width at most.
    most: Area,
    patch: Area,
    filter: Filter,
    resizes: bool,
    crop: Option<Area>,
    pads: bool,
    normalise: Normalise,
}

/// Pixtral's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = settings.size("size", true)?.unwrap_or_default();
    let longest = size.longest_edge.map(Area::square);
    let most = longest.or_else(|| size.area());
    let most = most.ok_or_else(|| {
        settings.refused("size", "`longest_edge` is wanted, or `height` and `width`")
    })?;
    let patch = settings
        .size("patch_size", true)?
        .and_then(|size| size.area());
    let patch = patch.filter(|patch| patch.height.max(patch.width) <= 4096);
    let crop = settings
        .size("crop_size", true)?
        .and_then(|size| size.area());
    Ok(Box::new(Ragged {
        most,
        patch: patch
            .ok_or_else(|| settings.refused("patch_size", "height and width are wanted"))?,
        filter: settings.filter("resample")?,
        resizes: settings.switch("do_resize")?,
        crop: crop.filter(|_| settings.switch("do_center_crop").unwrap_or_default()),
        pads: settings.switch("do_pad")?,
        normalise: Normalise::read(settings)?,
    }))
}

impl Way for Ragged {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let mut steps = Vec::new();
        if self.resizes {
            let ((height, width), (most_height, most_width)) = (from.sides(), self.most.sides());
            let ratio = (height / most_height).max(width / most_width);
            let shrunk = |side: f64| {
                if ratio > 1.0 {
                    (side / ratio).floor()
                } else {
                    side
                }
            };
            let area = Area {
                height: (shrunk(height) as u32).next_multiple_of(self.patch.height),
                width: (shrunk(width) as u32).next_multiple_of(self.patch.width),
            };
            steps.push(Step::Resize(checked(area, from)?, self.filter));
        }
        let size = size_after(&steps, from);
        if let Some(crop) = self.crop {
            steps.extend(center_crop(size, crop));
        }
        Ok(Cut {
            canvases: vec![Canvas::new(steps)],
            grid: (
                size.height.div_ceil(self.patch.height),
                size.width.div_ceil(self.patch.width),
            ),
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let views = Drawn::all(pictures);
        let all = || views.iter().copied();
        let size = if self.pads {
            largest(all())
        } else {
            one_size(all())?
        };
        let sizes = all()
            .map(area_of)
            .flat_map(|size| [i64::from(size.height), i64::from(size.width)]);
        let sizes = Tensor::integers("image_sizes", &[pictures.len(), 2], sizes.collect());
        Ok(vec![padded(&views, size, &self.normalise, budget)?, sizes])
    }
}
