//! Patches of a picture that is normalised by its own mean and deviation before its size changes (Pix2Struct).

use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::Canvas;
use crate::error::{DescriptionError, PictureError};
use crate::floats::{Floats, resize_bilinear};
use crate::picture::Picture;
use crate::settings::Settings;
use crate::size::Area;
use crate::tensor::Tensor;

/// Patches with their places.
#[derive(Debug)]
struct Flattened {
    patch: Area,
    most: u32,
    normalises: bool,
}

/// Pix2Struct's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    if settings.switch("is_vqa")? {
        let problem = "a question is drawn above the picture with a font, which is not done here";
        return Err(settings.refused("is_vqa", problem));
    }
    let patch = settings
        .size("patch_size", true)?
        .and_then(|size| size.area());
    let patch = patch.filter(|patch| patch.height.max(patch.width) <= 4096);
    Ok(Box::new(Flattened {
        patch: patch
            .ok_or_else(|| settings.refused("patch_size", "height and width are wanted"))?,
        most: settings.count("max_patches")?,
        normalises: settings.switch("do_normalize")?,
    }))
}

impl Flattened {
    /// Rows and columns of patches.
    fn grid(&self, from: Area) -> (u32, u32) {
        let ((height, width), (patch_height, patch_width)) = (from.sides(), self.patch.sides());
        let most = f64::from(self.most);
        let scale = (most * (patch_height / height) * (patch_width / width)).sqrt();
        let count = |side: f64, patch: f64| ((scale * side / patch) as u32).min(self.most).max(1);
        (count(height, patch_height), count(width, patch_width))
    }
}

impl Way for Flattened {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        Ok(Cut {
            canvases: vec![Canvas::default()],
            grid: self.grid(from),
        })
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let width = 2 + Picture::CHANNELS * self.patch.pixels() as usize;
        let most = self.most as usize;
        let shape = [pictures.len(), most, width];
        let numbers = budget.hold_numbers(&shape)?;
        let mut values = Vec::with_capacity(numbers);
        let mut mask = Vec::new();
        for (at, picture) in pictures.iter().enumerate() {
            let before = *budget;
            let (rows, columns) = picture.grid;
            let size = Area {
                height: rows.saturating_mul(self.patch.height),
                width: columns.saturating_mul(self.patch.width),
            };
            for view in &picture.views {
                let mut floats = Floats::of(view, budget)?;
                if self.normalises {
                    floats.normalise();
                }
                let floats = resize_bilinear(floats, size, budget)?;
                for row in 0..rows {
                    for column in 0..columns {
                        values.extend([(row + 1) as f32, (column + 1) as f32]);
                        for line in row * self.patch.height..(row + 1) * self.patch.height {
                            let left = column * self.patch.width;
                            values
                                .extend_from_slice(floats.row(line, left..left + self.patch.width));
                        }
                    }
                }
            }
            budget.back_to(before);
            values.resize((at + 1) * most * width, 0.0);
        }
        for patch in values.chunks_exact(width) {
            mask.push(f32::from(u8::from(patch.iter().sum::<f32>() != 0.0)));
        }
        Ok(vec![
            Tensor::floats("flattened_patches", &shape, values),
            Tensor::floats("attention_mask", &[pictures.len(), most], mask),
        ])
    }
}
