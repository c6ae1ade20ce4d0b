//! Patches up to a number, with a mask (SigLIP 2).

use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::Step;
use crate::error::{DescriptionError, PictureError};
use crate::layout::patches_by_pixel;
use crate::normalise::Normalise;
use crate::picture::Picture;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::Area;
use crate::tensor::Tensor;

/// Patches up to a number.
#[derive(Debug)]
struct Patches {
    patch: u32,
    most: u32,
    filter: Filter,
    resizes: bool,
    normalise: Normalise,
}

/// SigLIP 2's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    Ok(Box::new(Patches {
        patch: settings.few("patch_size")?,
        most: settings.count("max_num_patches")?,
        filter: settings.filter("resample")?,
        resizes: settings.switch("do_resize")?,
        normalise: Normalise::read(settings)?,
    }))
}

/// The largest size of whole patches whose number is not too large: halving, as the reference does it.
pub fn size_of_patches(from: Area, patch: u32, most: u32) -> Area {
    const NEAR: f64 = 1e-5;
    let patch_side = f64::from(patch);
    let scaled = |scale: f64, side: u32| {
        let whole = (f64::from(side) * scale / patch_side).ceil() * patch_side;
        whole.max(patch_side)
    };
    let (mut low, mut high) = (NEAR / 10.0, 100.0);
    while high - low >= NEAR {
        let scale = f64::midpoint(low, high);
        let (height, width) = (scaled(scale, from.height), scaled(scale, from.width));
        if height / patch_side * (width / patch_side) <= f64::from(most) {
            low = scale;
        } else {
            high = scale;
        }
    }
    Area {
        height: scaled(low, from.height) as u32,
        width: scaled(low, from.width) as u32,
    }
}

impl Way for Patches {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let mut steps = Vec::new();
        if self.resizes {
            steps.push(Step::Resize(
                size_of_patches(from, self.patch, self.most),
                self.filter,
            ));
        }
        Cut::of_patches(steps, from, self.patch, self.most)
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let width = Picture::CHANNELS * (self.patch * self.patch) as usize;
        let (count, most) = (pictures.len(), self.most as usize);
        let shape = [count, most, width];
        let numbers = budget.hold_numbers(&shape)?;
        let masks = budget.hold_numbers(&[count, most, 2])? / 2;
        let mut values = Vec::with_capacity(numbers);
        let mut mask = Vec::with_capacity(masks);
        let mut shapes = Vec::new();
        for (at, picture) in pictures.iter().enumerate() {
            for view in &picture.views {
                patches_by_pixel(view, self.patch, &self.normalise, &mut values);
            }
            mask.resize(values.len() / width, 1);
            values.resize((at + 1) * most * width, 0.0);
            mask.resize((at + 1) * most, 0);
            shapes.extend([i64::from(picture.grid.0), i64::from(picture.grid.1)]);
        }
        Ok(vec![
            Tensor::floats("pixel_values", &shape, values),
            Tensor::integers("pixel_attention_mask", &[count, most], mask),
            Tensor::integers("spatial_shapes", &[count, 2], shapes),
        ])
    }
}
