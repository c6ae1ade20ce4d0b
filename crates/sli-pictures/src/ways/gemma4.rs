//! As many patches as a budget of tokens allows, with their places (Gemma 4).

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

/// Tokens of a picture that the class takes.
const TOKENS: [u32; 5] = [70, 140, 280, 560, 1120];

/// Patches up to a number.
#[derive(Debug)]
struct Budgeted {
    patch: u32,
    /// Patches at most.
    most: u32,
    /// Side of the square of patches that becomes a token.
    pooled: u32,
    /// Side of that square, where it comes as one patch; 1 else.
    merged: u32,
    filter: Filter,
    resizes: bool,
    normalise: Normalise,
}

/// Gemma 4's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    Ok(Box::new(budgeted(settings)?))
}

/// The unified Gemma 4's: the patches of a token are one.
pub fn read_merged(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let mut way = budgeted(settings)?;
    way.merged = way.pooled;
    Ok(Box::new(way))
}

fn budgeted(settings: &Settings) -> Result<Budgeted, DescriptionError> {
    let tokens = settings.count("max_soft_tokens")?;
    if !TOKENS.contains(&tokens) {
        return Err(settings.refused("max_soft_tokens", format!("one of {TOKENS:?} is wanted")));
    }
    let pooled = settings.few("pooling_kernel_size")?;
    let most = tokens.checked_mul(pooled * pooled);
    Ok(Budgeted {
        patch: settings.few("patch_size")?,
        most: most.ok_or_else(|| settings.refused("pooling_kernel_size", "it is too large"))?,
        pooled,
        merged: 1,
        filter: settings.filter("resample")?,
        resizes: settings.switch("do_resize")?,
        normalise: Normalise::read(settings)?,
    })
}

impl Budgeted {
    /// Side of what comes as one patch, pixels, and how many of them a picture has at most.
    fn parts(&self) -> (u32, u32) {
        let side = self.patch.saturating_mul(self.merged);
        (side, self.most / (self.merged * self.merged))
    }

    fn size(&self, from: Area) -> Result<Area, PictureError> {
        let (height, width) = from.sides();
        let target = f64::from(self.most) * f64::from(self.patch).powi(2);
        let factor = (target / (height * width)).sqrt();
        let side = f64::from(self.pooled) * f64::from(self.patch);
        let whole = |ideal: f64| (ideal / side).floor() * side;
        let (mut rows, mut columns) = (whole(factor * height), whole(factor * width));
        let longest = f64::from(self.most / (self.pooled * self.pooled)) * side;
        if rows == 0.0 && columns == 0.0 {
            return Err(PictureError::Size("it would become 0 x 0 pixels".into()));
        }
        if rows == 0.0 {
            rows = side;
            columns = ((width / height).floor() * side).min(longest);
        } else if columns == 0.0 {
            columns = side;
            rows = ((height / width).floor() * side).min(longest);
        }
        if rows * columns > target {
            return Err(PictureError::Size(format!(
                "it would become {columns} x {rows} pixels, more than {} patches",
                self.most
            )));
        }
        Ok(Area {
            height: rows as u32,
            width: columns as u32,
        })
    }
}

impl Way for Budgeted {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let mut steps = Vec::new();
        if self.resizes {
            steps.push(Step::Resize(self.size(from)?, self.filter));
        }
        let (side, most) = self.parts();
        Cut::of_patches(steps, from, side, most)
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let (side, most) = self.parts();
        let width = Picture::CHANNELS * (side as usize * side as usize);
        let most = most as usize;
        let shape = [pictures.len(), most, width];
        let numbers = budget.hold_numbers(&shape)?;
        let places = budget.hold_numbers(&[pictures.len(), most, 4])?;
        let mut values = Vec::with_capacity(numbers);
        let mut positions = Vec::with_capacity(places / 2);
        for (at, picture) in pictures.iter().enumerate() {
            for view in &picture.views {
                patches_by_pixel(view, side, &self.normalise, &mut values);
            }
            let (rows, columns) = picture.grid;
            let own = (0..rows).flat_map(|row| (0..columns).map(move |column| [column, row]));
            positions.extend(own.flatten().map(i64::from));
            values.resize((at + 1) * most * width, 0.0);
            positions.resize((at + 1) * most * 2, -1);
        }
        Ok(vec![
            Tensor::floats("pixel_values", &shape, values),
            Tensor::integers("image_position_ids", &[pictures.len(), most, 2], positions),
        ])
    }
}
