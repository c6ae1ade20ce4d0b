//! Sizes as processors' files give them, and what they make of a picture's.

use crate::error::PictureError;

/// `size` and the like; which sides are there says what is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: Option<u32>,
    /// Columns.
    pub width: Option<u32>,
    /// The shorter side; some classes take it for the least number of pixels.
    pub shortest_edge: Option<u32>,
    /// The longer side at most; some classes take it for the largest number of pixels.
    pub longest_edge: Option<u32>,
    /// Rows at most.
    pub max_height: Option<u32>,
    /// Columns at most.
    pub max_width: Option<u32>,
    /// Pixels at least.
    pub min_pixels: Option<u32>,
    /// Pixels at most.
    pub max_pixels: Option<u32>,
}

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl Area {
    /// A square.
    pub fn square(side: u32) -> Self {
        Self {
            height: side,
            width: side,
        }
    }

    /// Its pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.height) * u64::from(self.width)
    }

    /// Both sides as numbers.
    pub fn sides(self) -> (f64, f64) {
        (f64::from(self.height), f64::from(self.width))
    }
}

impl Size {
    /// The side of this name.
    pub fn side_mut(&mut self, name: &str) -> Option<&mut Option<u32>> {
        Some(match name {
            "height" => &mut self.height,
            "width" => &mut self.width,
            "shortest_edge" => &mut self.shortest_edge,
            "longest_edge" => &mut self.longest_edge,
            "max_height" => &mut self.max_height,
            "max_width" => &mut self.max_width,
            "min_pixels" => &mut self.min_pixels,
            "max_pixels" => &mut self.max_pixels,
            _ => return None,
        })
    }

    /// Height and width, where it is both.
    pub fn area(&self) -> Option<Area> {
        let (height, width) = (self.height?, self.width?);
        Some(Area { height, width })
    }

    /// Height and width, or a square of the shorter side.
    pub fn area_or_square(&self) -> Option<Area> {
        self.area().or_else(|| {
            let side = self.shortest_edge?;
            Some(Area::square(side))
        })
    }

    /// Whether [`Self::of`] can do anything with it.
    pub fn is_target(&self) -> bool {
        self.shortest_edge.is_some()
            || self.max_height.is_some() && self.max_width.is_some()
            || self.area().is_some()
    }

    /// The size of a picture that had another, as the torchvision backend reads `size`.
    pub fn of(&self, from: Area) -> Result<Area, PictureError> {
        let area = match (self.shortest_edge, self.longest_edge) {
            (Some(shortest), Some(longest)) => between(from, shortest, longest),
            (Some(shortest), None) => by_shortest(from, shortest),
            (None, _) => match (self.max_height, self.max_width) {
                (Some(height), Some(width)) => within(from, Area { height, width }),
                _ => self.area().unwrap_or(from),
            },
        };
        checked(area, from)
    }
}

/// A size that has pixels.
pub fn checked(area: Area, from: Area) -> Result<Area, PictureError> {
    if area.height == 0 || area.width == 0 {
        let (height, width) = (from.height, from.width);
        let problem = format!(
            "{width} x {height} pixels (width by height) would become {} x {}",
            area.width, area.height
        );
        return Err(PictureError::Size(problem));
    }
    Ok(area)
}

/// The shorter side as it is wanted, the other in proportion, cut to a whole number.
pub fn by_shortest(from: Area, shortest: u32) -> Area {
    let (short, long) = (from.width.min(from.height), from.width.max(from.height));
    let long = (u64::from(shortest) * u64::from(long)) as f64 / f64::from(short);
    let long = long as u32;
    if from.width <= from.height {
        Area {
            height: long,
            width: shortest,
        }
    } else {
        Area {
            height: shortest,
            width: long,
        }
    }
}

/// The shorter side as it is wanted, unless the longer one would be longer than it may.
fn between(from: Area, shortest: u32, longest: u32) -> Area {
    let (height, width) = from.sides();
    let (least, most) = (height.min(width), height.max(width));
    let mut shortest = f64::from(shortest);
    let mut exact = shortest;
    if most / least * shortest > f64::from(longest) {
        exact = f64::from(longest) * least / most;
        shortest = exact.round_ties_even();
    }
    if height <= width && height == shortest || width <= height && width == shortest {
        return from;
    }
    if width < height {
        Area {
            height: (exact * height / width) as u32,
            width: shortest as u32,
        }
    } else {
        Area {
            height: shortest as u32,
            width: (exact * width / height) as u32,
        }
    }
}

/// As large as it fits into an area, in proportion.
fn within(from: Area, most: Area) -> Area {
    let ((height, width), (most_height, most_width)) = (from.sides(), most.sides());
    let scale = (most_height / height).min(most_width / width);
    Area {
        height: (height * scale) as u32,
        width: (width * scale) as u32,
    }
}
