//! Tiles in rows and columns of about the picture's ratio, and a view of the whole (GOT-OCR2 and InternVL, Cohere2 Vision, Ovis2).

use super::plain::sides;
use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step};
use crate::error::{DescriptionError, PictureError};
use crate::layout::stack;
use crate::normalise::Normalise;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::Area;
use crate::tensor::Tensor;

/// Most tiles that are thought of.
pub const MOST_TILES: u32 = 256;

/// Tiles by ratio.
#[derive(Debug)]
struct Tiles {
    /// Tiles at least and at most; without, pictures are not divided.
    divides: Option<(u32, u32)>,
    rule: Rule,
    /// The view of the whole stands before the tiles.
    whole_first: bool,
    /// A tile.
    tile: Area,
    filter: Filter,
    resizes: bool,
    normalise: Normalise,
}

/// How many columns and rows.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// The nearest ratio; of equal ones the later one for pictures that are large enough.
    NearestRatio,
    /// The least magnification, or the least reduction.
    LeastScale,
    /// The fewest tiles that show most of the picture.
    Covering,
}

/// GOT-OCR2's.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    described(settings, Rule::NearestRatio)
}

/// Cohere2 Vision's.
pub fn read_scale(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    described(settings, Rule::LeastScale)
}

/// Ovis2's.
pub fn read_covering(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let covers = settings.switch("use_covering_area_grid")?;
    described(
        settings,
        if covers {
            Rule::Covering
        } else {
            Rule::NearestRatio
        },
    )
}

fn described(settings: &Settings, rule: Rule) -> Result<Box<dyn Way>, DescriptionError> {
    let (least, most) = (settings.few("min_patches")?, settings.few("max_patches")?);
    if most > MOST_TILES {
        return Err(settings.refused("max_patches", format!("more than {MOST_TILES} tiles")));
    }
    let is_ovis = settings.get("use_covering_area_grid").is_some();
    let mut divides = settings.switch("crop_to_patches")?;
    if is_ovis {
        divides &= most > 1;
        if settings.switch("do_center_crop")? {
            return Err(settings.refused("do_center_crop", "tiles are not cropped here"));
        }
    }
    Ok(Box::new(Tiles {
        divides: divides.then_some((least, most)),
        rule,
        whole_first: is_ovis,
        tile: sides(settings)?,
        filter: settings.filter("resample")?,
        resizes: settings.switch("do_resize")?,
        normalise: Normalise::read(settings)?,
    }))
}

/// All columns and rows of `least` to `most` tiles, by their number.
pub fn arrangements(least: u32, most: u32) -> Vec<(u32, u32)> {
    let all = (1..=most).flat_map(|columns| (1..=most).map(move |rows| (columns, rows)));
    let mut fitting: Vec<(u32, u32)> = all
        .filter(|(columns, rows)| (least..=most).contains(&(columns * rows)))
        .collect();
    fitting.sort_by_key(|(columns, rows)| columns * rows);
    fitting
}

/// Columns and rows of the nearest ratio.
pub fn nearest_ratio(from: Area, tile: Area, (least, most): (u32, u32)) -> (u32, u32) {
    let (height, width) = from.sides();
    let ratio = width / height;
    let mut best = ((1, 1), f64::INFINITY);
    for (columns, rows) in arrangements(least, most) {
        let difference = (ratio - f64::from(columns) / f64::from(rows)).abs();
        let tiles = f64::from(columns) * f64::from(rows);
        let is_large = from.pixels() as f64 > 0.5 * tile.pixels() as f64 * tiles;
        if difference < best.1 || difference == best.1 && is_large {
            best = ((columns, rows), difference);
        }
    }
    best.0
}

/// Columns and rows in which the picture is magnified least, or else reduced least.
fn least_scale(from: Area, tile: Area, most: u32) -> (u32, u32) {
    let (height, width) = from.sides();
    let side = f64::from(tile.height);
    let all = arrangements(1, most);
    let scale = |&(columns, rows): &(u32, u32)| {
        (f64::from(columns) * side / width).min(f64::from(rows) * side / height)
    };
    let magnified = all.iter().filter(|grid| scale(grid) >= 1.0);
    let least = magnified.min_by(|one, other| scale(one).total_cmp(&scale(other)));
    // `max_by` would take the last of equal ones.
    let most = || {
        all.iter()
            .rev()
            .max_by(|one, other| scale(one).total_cmp(&scale(other)))
    };
    least.or_else(most).copied().unwrap_or((1, 1))
}

/// Rows and columns with the fewest tiles whose parts, no larger than a tile, show nine tenths of the picture.
fn covering(from: Area, side: u32, most: u32) -> (u32, u32) {
    const ENOUGH: f64 = 0.9;
    let area = from.pixels() as f64;
    let shown = |rows: u32, columns: u32| {
        let (height, width) = (from.height / rows, from.width / columns);
        let mut sum = 0.0;
        for row in 0..rows {
            for column in 0..columns {
                let own_width = if column + 1 == columns {
                    from.width - column * width
                } else {
                    width
                };
                let own_height = if row + 1 == rows {
                    from.height - row * height
                } else {
                    height
                };
                let (long, short) = (own_width.max(own_height), own_width.min(own_height));
                sum += if long > side {
                    f64::from(short) / f64::from(long) * f64::from(side) * f64::from(side)
                } else {
                    f64::from(long) * f64::from(short)
                };
            }
        }
        sum / area
    };
    let all: Vec<((u32, u32), f64)> = arrangements(1, most)
        .into_iter()
        .map(|grid| (grid, shown(grid.0, grid.1)))
        .collect();
    let tiles = |grid: (u32, u32)| grid.0 * grid.1;
    let enough = all.iter().filter(|(_, shown)| *shown > ENOUGH);
    let fewest = enough.min_by(|(one, first), (other, second)| {
        tiles(*one)
            .cmp(&tiles(*other))
            .then(second.total_cmp(first))
    });
    let most = || {
        all.iter().min_by(|(one, first), (other, second)| {
            second
                .total_cmp(first)
                .then(tiles(*one).cmp(&tiles(*other)))
        })
    };
    fewest.or_else(most).map_or((1, 1), |(grid, _)| *grid)
}

impl Way for Tiles {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let to = |area: Area| Step::Resize(area, self.filter);
        let Some((least, most)) = self.divides else {
            let steps = if self.resizes {
                vec![to(self.tile)]
            } else {
                Vec::new()
            };
            return Ok(Cut {
                canvases: vec![Canvas::new(steps)],
                grid: (1, 1),
            });
        };
        let (columns, rows) = match self.rule {
            Rule::NearestRatio => nearest_ratio(from, self.tile, (least, most)),
            Rule::LeastScale => least_scale(from, self.tile, most),
            Rule::Covering => covering(from, self.tile.height, most),
        };
        let size = Area {
            height: self.tile.height.saturating_mul(rows),
            width: self.tile.width.saturating_mul(columns),
        };
        let mut canvases = vec![Canvas::new(vec![to(size)]).tiled(rows, columns)];
        if rows * columns != 1 {
            let at = usize::from(!self.whole_first);
            canvases.insert(at, Canvas::new(vec![to(self.tile)]));
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
