//! Pictures in parts, and masks of what in their tensor is picture (Idefics2, Idefics3, SmolVLM).

use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{largest, numbers, one_size, room, write};
use crate::normalise::Normalise;
use crate::picture::Rect;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, checked};
use crate::tensor::Tensor;

/// Longest side of Idefics3's pictures, pixels.
const LONGEST: u32 = 4096;

/// Pictures in parts.
#[derive(Debug)]
struct Parts {
    resize: Option<Resize>,
    filter: Filter,
    split: Split,
    /// Smaller pictures get zeros, and a mask says so.
    pads: bool,
    normalise: Normalise,
}

/// How a size becomes another.
#[derive(Clone, Copy, Debug)]
enum Resize {
    /// The longer side at most, the shorter one at least.
    Between { least: u32, most: u32 },
    /// The longer side, and even numbers.
    Longest(u32),
    /// Always the same.
    To(Area),
}

/// What becomes of a picture besides.
#[derive(Clone, Copy, Debug)]
enum Split {
    /// Nothing.
    No,
    /// Its quarters before it.
    Quarters,
    /// Tiles of this side before it.
    Tiles(u32),
    /// A square of this side.
    Square(u32),
}

/// Idefics2's.
pub fn read_quarters(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = settings.size("size", false)?.unwrap_or_default();
    let resize = match (size.shortest_edge.zip(size.longest_edge), size.area()) {
        (Some((least, most)), _) => Resize::Between { least, most },
        (None, Some(area)) => Resize::To(area),
        (None, None) => {
            let problem = "`shortest_edge` and `longest_edge` are wanted, or `height` and `width`";
            return Err(settings.refused("size", problem));
        }
    };
    let split = if settings.switch("do_image_splitting")? {
        Split::Quarters
    } else {
        Split::No
    };
    described(settings, resize, split)
}

/// Idefics3's.
pub fn read_tiles(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = settings.size("size", true)?.unwrap_or_default();
    let resize = match (size.longest_edge, size.area()) {
        (Some(longest), _) => Resize::Longest(longest),
        (None, Some(area)) => Resize::To(area),
        (None, None) => {
            return Err(
                settings.refused("size", "`longest_edge` is wanted, or `height` and `width`")
            );
        }
    };
    let tile = settings
        .size("max_image_size", true)?
        .and_then(|size| size.longest_edge);
    let tile = tile.filter(|&tile| tile <= LONGEST);
    let tile = tile.ok_or_else(|| {
        settings.refused(
            "max_image_size",
            format!("`longest_edge` is wanted, {LONGEST} at most"),
        )
    })?;
    let split = if settings.switch("do_image_splitting")? {
        Split::Tiles(tile)
    } else {
        Split::Square(tile)
    };
    described(settings, resize, split)
}

fn described(
    settings: &Settings,
    resize: Resize,
    split: Split,
) -> Result<Box<dyn Way>, DescriptionError> {
    Ok(Box::new(Parts {
        resize: settings.switch("do_resize")?.then_some(resize),
        filter: settings.filter("resample")?,
        split,
        pads: settings.switch("do_pad")?,
        normalise: Normalise::read(settings)?,
    }))
}

/// A side that goes with another in proportion, cut to a whole number.
fn share(side: u32, by: f64) -> u32 {
    (f64::from(side) * by) as u32
}

impl Resize {
    fn of(self, from: Area) -> Result<Area, PictureError> {
        let (height, width) = from.sides();
        let ratio = width / height;
        let area = match self {
            Self::To(area) => area,
            Self::Between { least, most } => {
                let mut area = from;
                if from.width >= from.height && from.width > most {
                    area.width = most;
                    area.height = (f64::from(most) / ratio) as u32;
                } else if from.height > from.width && from.height > most {
                    area.height = most;
                    area.width = share(most, ratio);
                }
                Area {
                    height: area.height.max(least),
                    width: area.width.max(least),
                }
            }
            Self::Longest(longest) => {
                let even = |side: u32| side + side % 2;
                let mut area = if from.width >= from.height {
                    Area {
                        height: even((f64::from(longest) / ratio) as u32).max(1),
                        width: longest,
                    }
                } else {
                    Area {
                        height: longest,
                        width: even(share(longest, ratio)).max(1),
                    }
                };
                let ratio = f64::from(area.width) / f64::from(area.height);
                if area.width >= area.height && area.width > LONGEST {
                    area.width = LONGEST;
                    area.height = (f64::from(LONGEST) / ratio) as u32;
                } else if area.height > area.width && area.height > LONGEST {
                    area.height = LONGEST;
                    area.width = share(LONGEST, ratio);
                }
                Area {
                    height: area.height.max(1),
                    width: area.width.max(1),
                }
            }
        };
        checked(area, from)
    }
}

/// Whole numbers of tiles, as large as the picture at least.
fn whole_tiles(from: Area, tile: u32) -> Area {
    let ratio = f64::from(from.width) / f64::from(from.height);
    if from.width >= from.height {
        let width = from.width.next_multiple_of(tile);
        let height = ((f64::from(width) / ratio) as u32).next_multiple_of(tile);
        Area { height, width }
    } else {
        let height = from.height.next_multiple_of(tile);
        let width = share(height, ratio).next_multiple_of(tile);
        Area { height, width }
    }
}

impl Way for Parts {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let to = |area: Area| Step::Resize(area, self.filter);
        let first = |from: Area| {
            let area = self.resize.map(|resize| resize.of(from)).transpose()?;
            Ok::<Vec<Step>, PictureError>(area.map(to).into_iter().collect())
        };
        let mut steps = first(from)?;
        match self.split {
            Split::No => Ok(Cut::whole(Canvas::new(steps))),
            Split::Quarters => {
                let (left, top) = (from.width / 2, from.height / 2);
                let columns = [(0, left), (left, from.width - left)];
                let rows = [(0, top), (top, from.height - top)];
                let mut canvases = Vec::new();
                for (top, height) in rows {
                    for (left, width) in columns {
                        let rect = Rect {
                            left,
                            top,
                            width,
                            height,
                        };
                        let quarter = checked(Area { height, width }, from)?;
                        let mut steps = vec![Step::Crop(rect)];
                        steps.extend(first(quarter)?);
                        canvases.push(Canvas::new(steps));
                    }
                }
                canvases.push(Canvas::new(steps));
                Ok(Cut {
                    canvases,
                    grid: (2, 2),
                })
            }
            Split::Square(side) => {
                let square = Area::square(side);
                steps.push(to(square));
                Ok(Cut::whole(Canvas::new(steps)))
            }
            Split::Tiles(tile) => {
                let own = crate::cut::size_after(&steps, from);
                let size = checked(whole_tiles(own, tile), from)?;
                steps.push(to(size));
                if size.height <= tile && size.width <= tile {
                    return Ok(Cut::whole(Canvas::new(steps)));
                }
                let grid = (size.height / tile, size.width / tile);
                let tiles = Canvas::new(steps.clone()).tiled(grid.0, grid.1);
                steps.push(to(Area::square(tile)));
                Ok(Cut {
                    canvases: vec![tiles, Canvas::new(steps)],
                    grid,
                })
            }
        }
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
        let (shape, mut values) = room(&[1, views.len()], size, budget)?;
        for (view, out) in views
            .iter()
            .zip(values.chunks_exact_mut(numbers(size).max(1)))
        {
            write(view, &self.normalise, size, out);
        }
        let mut tensors = vec![Tensor::floats("pixel_values", &shape, values)];
        if self.pads {
            let shape = [1, views.len(), size.height as usize, size.width as usize];
            let count = budget.hold_numbers(&[2, shape.iter().product()])?;
            let mut mask = Vec::with_capacity(count / 2);
            for view in views {
                for row in 0..size.height {
                    let columns = 0..size.width;
                    let is_inside = row < view.height();
                    mask.extend(
                        columns.map(|column| i64::from(is_inside && column < view.width())),
                    );
                }
            }
            tensors.push(Tensor::integers("pixel_attention_mask", &shape, mask));
        }
        Ok(tensors)
    }
}
