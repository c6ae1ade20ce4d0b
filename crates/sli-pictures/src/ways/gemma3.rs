//! A view of the whole, and of parts where a picture is long (Gemma 3's pan and scan).

use super::plain::sides;
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step};
use crate::error::{DescriptionError, PictureError};
use crate::layout::stack;
use crate::normalise::Normalise;
use crate::picture::Rect;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::Area;
use crate::tensor::Tensor;

/// Views of the whole and of parts.
#[derive(Debug)]
struct PanAndScan {
    size: Area,
    filter: Filter,
    resizes: bool,
    scan: Option<Scan>,
    normalise: Normalise,
}

/// When a picture has parts.
#[derive(Clone, Copy, Debug)]
struct Scan {
    /// Shortest side of a part, pixels.
    least_side: u32,
    /// Parts at most.
    most: u32,
    /// Least ratio of the sides.
    ratio: f64,
}

/// Gemma 3's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let scan = if settings.switch("do_pan_and_scan")? {
        const RATIO: &str = "pan_and_scan_min_ratio_to_activate";
        let ratio = settings.number(RATIO)?;
        Some(Scan {
            least_side: settings.count("pan_and_scan_min_crop_size")?,
            most: settings.few("pan_and_scan_max_num_crops")?,
            ratio: ratio.ok_or_else(|| settings.refused(RATIO, "it is not there"))?,
        })
    } else {
        None
    };
    Ok(Box::new(PanAndScan {
        size: sides(settings)?,
        filter: settings.filter("resample")?,
        resizes: settings.switch("do_resize")?,
        scan,
        normalise: Normalise::read(settings)?,
    }))
}

impl Scan {
    /// Rows and columns of parts; none and none where there are no parts.
    fn grid(self, from: Area) -> (u32, u32) {
        let (long, short) = (from.width.max(from.height), from.width.min(from.height));
        let ratio = f64::from(long) / f64::from(short);
        if ratio < self.ratio {
            return (0, 0);
        }
        let parts = ((ratio + 0.5).floor() as u32).min(long / self.least_side);
        let parts = parts.max(2).min(self.most);
        if long.div_ceil(parts).min(short) < self.least_side {
            return (0, 0);
        }
        if from.width >= from.height {
            (1, parts)
        } else {
            (parts, 1)
        }
    }
}

impl Way for PanAndScan {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let to = Step::Resize(self.size, self.filter);
        let Some(scan) = self.scan else {
            let steps = if self.resizes { vec![to] } else { Vec::new() };
            return Ok(Cut::whole(Canvas::new(steps)));
        };
        let grid = scan.grid(from);
        let mut canvases = vec![Canvas::new(vec![to])];
        for row in 0..grid.0 {
            for column in 0..grid.1 {
                let (height, width) = (from.height.div_ceil(grid.0), from.width.div_ceil(grid.1));
                let (top, left) = (row * height, column * width);
                let rect = Rect {
                    left,
                    top,
                    width: width.min(from.width.saturating_sub(left)),
                    height: height.min(from.height.saturating_sub(top)),
                };
                if rect.width == 0 || rect.height == 0 {
                    let problem = "a part of it has no pixels".to_owned();
                    return Err(PictureError::Size(problem));
                }
                canvases.push(Canvas::new(vec![Step::Crop(rect), to]));
            }
        }
        Ok(Cut { canvases, grid })
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
