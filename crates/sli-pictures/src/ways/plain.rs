//! Resize, crop, normalise: a view a picture.

use super::way::{Cut, Drawn, Way};
use crate::budget::Budget;
use crate::cut::{Canvas, Step, center_crop, size_after, square};
use crate::error::{DescriptionError, PictureError};
use crate::layout::{largest, padded, stack};
use crate::normalise::Normalise;
use crate::picture::Margins;
use crate::resample::Filter;
use crate::settings::Settings;
use crate::size::{Area, Size, by_shortest, checked};
use crate::tensor::Tensor;

/// A view a picture.
#[derive(Debug)]
struct Plain {
    /// Margins to a square before anything else.
    first_square: Option<[u8; 3]>,
    resize: Option<(Resize, Filter)>,
    /// Margins to a square behind the resize.
    then_square: Option<[u8; 3]>,
    crop: Option<Area>,
    pad: Pad,
    normalise: Normalise,
}

/// How a size becomes another.
#[derive(Debug)]
enum Resize {
    /// By `size`, as most classes read it.
    Size(Size),
    /// The longer side becomes `side`, none less than `least`.
    Longest { side: u32, least: u32 },
    /// Below 384 the shorter side becomes `side / share`, and the middle of `side` is left; else it becomes a square.
    Share { side: u32, share: f64 },
    /// A page: no larger than an area, in its middle.
    Page(Page),
}

/// How a page is made as large as wanted.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the class's own switches")]
struct Page {
    size: Area,
    turns: bool,
    resizes: bool,
    shrinks: bool,
    pads: bool,
}

/// Zeros behind pictures of a record that differ in size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pad {
    /// They may not.
    Never,
    /// To the largest sides.
    ToLargest,
    /// To a size.
    To(Area),
}

/// Those of the base class, which most have.
pub fn read(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    Ok(Box::new(plain(settings)?))
}

/// The same without padding.
pub fn read_unpadded(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let mut plain = plain(settings)?;
    plain.pad = Pad::Never;
    Ok(Box::new(plain))
}

/// IDEFICS': `image_size` goes before `size`.
pub fn read_side(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let mut plain = plain(settings)?;
    if let (Some(side), Some((resize, _))) = (settings.count_if("image_size")?, &mut plain.resize) {
        let side = Some(side);
        *resize = Resize::Size(Size {
            height: side,
            width: side,
            ..Size::default()
        });
    }
    Ok(Box::new(plain))
}

/// LLaVA's: `do_pad` makes a square of the mean's colour first.
pub fn read_square(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let mut plain = plain(settings)?;
    if plain.pad != Pad::Never {
        plain.first_square = Some(background(settings, "image_mean")?);
    }
    plain.pad = Pad::Never;
    Ok(Box::new(plain))
}

/// Janus' and DeepSeek-VL's: the longer side decides, and the rest is of the mean's colour.
pub fn read_longest(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let size = sides(settings)?;
    if size.height != size.width {
        return Err(settings.refused("size", "height and width must be the same"));
    }
    let least = settings.count("min_size")?;
    let resize = Resize::Longest {
        side: size.height,
        least,
    };
    let colour = background(settings, "image_mean")?;
    Ok(Box::new(Plain {
        first_square: None,
        resize: resizing(settings, || Ok(resize))?,
        then_square: settings.switch("do_pad")?.then_some(colour),
        crop: None,
        pad: Pad::Never,
        normalise: Normalise::read(settings)?,
    }))
}

/// ConvNeXT's: `crop_pct`.
pub fn read_share(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let resize = resizing(settings, || {
        let size = settings.size("size", false)?.unwrap_or_default();
        let side = size.shortest_edge;
        let side = side.ok_or_else(|| settings.refused("size", "`shortest_edge` is not there"))?;
        let share = settings.number("crop_pct")?.filter(|&share| share > 0.0);
        let share =
            share.ok_or_else(|| settings.refused("crop_pct", "a number above 0 is wanted"))?;
        Ok(Resize::Share { side, share })
    })?;
    Ok(Box::new(Plain {
        first_square: None,
        resize,
        then_square: None,
        crop: crop(settings)?,
        pad: Pad::Never,
        normalise: Normalise::read(settings)?,
    }))
}

/// Donut's: pages.
pub fn read_page(settings: &Settings) -> Result<Box<dyn Way>, DescriptionError> {
    let mut size = sides(settings)?;
    if settings
        .get("size")
        .is_some_and(serde_json::Value::is_array)
    {
        // A list is width and height here.
        (size.height, size.width) = (size.width, size.height);
    }
    let page = Page {
        size,
        turns: settings.switch("do_align_long_axis")?,
        resizes: settings.switch("do_resize")?,
        shrinks: settings.switch("do_thumbnail")?,
        pads: settings.switch("do_pad")?,
    };
    Ok(Box::new(Plain {
        first_square: None,
        resize: Some((Resize::Page(page), settings.filter("resample")?)),
        then_square: None,
        crop: crop(settings)?,
        pad: Pad::Never,
        normalise: Normalise::read(settings)?,
    }))
}

fn plain(settings: &Settings) -> Result<Plain, DescriptionError> {
    let square = settings.switch("default_to_square")?;
    let resize = resizing(settings, || {
        let size = settings.size("size", square)?.unwrap_or_default();
        if !size.is_target() {
            return Err(settings.refused(
                "size",
                "it has neither height and width nor a shortest edge",
            ));
        }
        Ok(Resize::Size(size))
    })?;
    let pad = match (settings.switch("do_pad")?, settings.size("pad_size", true)?) {
        (false, _) => Pad::Never,
        (true, None) => Pad::ToLargest,
        (true, Some(size)) => {
            let area = size.area();
            Pad::To(
                area.ok_or_else(|| settings.refused("pad_size", "height and width are wanted"))?,
            )
        }
    };
    Ok(Plain {
        first_square: None,
        resize,
        then_square: None,
        crop: crop(settings)?,
        pad,
        normalise: Normalise::read(settings)?,
    })
}

fn resizing(
    settings: &Settings,
    resize: impl FnOnce() -> Result<Resize, DescriptionError>,
) -> Result<Option<(Resize, Filter)>, DescriptionError> {
    if !settings.switch("do_resize")? {
        return Ok(None);
    }
    Ok(Some((resize()?, settings.filter("resample")?)))
}

fn crop(settings: &Settings) -> Result<Option<Area>, DescriptionError> {
    if !settings.switch("do_center_crop")? {
        return Ok(None);
    }
    let size = settings
        .size("crop_size", true)?
        .and_then(|size| size.area());
    let size = size.ok_or_else(|| settings.refused("crop_size", "height and width are wanted"))?;
    Ok(Some(size))
}

/// `size` with height and width.
pub fn sides(settings: &Settings) -> Result<Area, DescriptionError> {
    let size = settings.size("size", true)?.and_then(|size| size.area());
    size.ok_or_else(|| settings.refused("size", "height and width are wanted"))
}

/// The colour of a mean.
pub fn background(settings: &Settings, mean: &str) -> Result<[u8; 3], DescriptionError> {
    let colour = settings
        .channels(mean)?
        .map(|mean| mean.map(|share| (share * 255.0) as u8));
    Ok(colour.unwrap_or([127; 3]))
}

impl Resize {
    fn steps(&self, from: Area, filter: Filter) -> Result<Vec<Step>, PictureError> {
        let to = |area: Area| Ok::<_, PictureError>(Step::Resize(checked(area, from)?, filter));
        Ok(match self {
            Self::Size(size) => vec![to(size.of(from)?)?],
            Self::Longest { side, least } => {
                let share = f64::from(*side) / f64::from(from.height.max(from.width));
                let of =
                    |side: u32| ((f64::from(side) * share).round_ties_even() as u32).max(*least);
                vec![to(Area {
                    height: of(from.height),
                    width: of(from.width),
                })?]
            }
            Self::Share { side, share } if *side < 384 => {
                let larger = by_shortest(from, (f64::from(*side) / share) as u32);
                let middle = Area {
                    height: *side,
                    width: *side,
                };
                let mut steps = vec![to(larger)?];
                steps.extend(center_crop(larger, middle));
                steps
            }
            Self::Share { side, .. } => vec![to(Area {
                height: *side,
                width: *side,
            })?],
            Self::Page(page) => page.steps(from, filter)?,
        })
    }
}

impl Page {
    fn steps(&self, from: Area, filter: Filter) -> Result<Vec<Step>, PictureError> {
        let to = self.size;
        let mut steps = Vec::new();
        let lies = |area: Area| area.width.cmp(&area.height);
        let crosses =
            lies(to).is_lt() && lies(from).is_gt() || lies(to).is_gt() && lies(from).is_lt();
        if self.turns && crosses {
            steps.push(Step::Turn);
        }
        if self.resizes {
            let own = size_after(&steps, from);
            let area = checked(by_shortest(own, to.height.min(to.width)), from)?;
            steps.push(Step::Resize(area, filter));
        }
        if self.shrinks {
            let own = size_after(&steps, from);
            let mut area = Area {
                height: own.height.min(to.height),
                width: own.width.min(to.width),
            };
            if area != own {
                let share = |side: u32, of: u32, by: u32| {
                    ((u64::from(side) * u64::from(of)) as f64 / f64::from(by)) as u32
                };
                if own.height > own.width {
                    area.width = share(own.width, area.height, own.height);
                } else if own.width > own.height {
                    area.height = share(own.height, area.width, own.width);
                }
                steps.push(Step::Resize(checked(area, from)?, filter));
            }
        }
        if self.pads {
            let own = size_after(&steps, from);
            let (Some(height), Some(width)) = (
                to.height.checked_sub(own.height),
                to.width.checked_sub(own.width),
            ) else {
                return Err(PictureError::Size(format!(
                    "it becomes {} x {} pixels, more than {} x {}",
                    own.width, own.height, to.width, to.height
                )));
            };
            let margins = Margins {
                left: width / 2,
                top: height / 2,
                right: width.div_ceil(2),
                bottom: height.div_ceil(2),
            };
            steps.push(Step::Pad(margins, [0; 3]));
        }
        Ok(steps)
    }
}

impl Way for Plain {
    fn cut(&self, from: Area, _: usize) -> Result<Cut, PictureError> {
        let mut steps: Vec<Step> = Vec::new();
        steps.extend(self.first_square.and_then(|colour| square(from, colour)));
        if let Some((resize, filter)) = &self.resize {
            steps.extend(resize.steps(size_after(&steps, from), *filter)?);
        }
        let own = size_after(&steps, from);
        steps.extend(self.then_square.and_then(|colour| square(own, colour)));
        if let Some(crop) = self.crop {
            steps.extend(center_crop(size_after(&steps, from), crop));
        }
        Ok(Cut::whole(Canvas::new(steps)))
    }

    fn arrange(
        &self,
        pictures: &[Drawn],
        budget: &mut Budget,
    ) -> Result<Vec<Tensor>, PictureError> {
        let views = Drawn::all(pictures);
        let size = match self.pad {
            Pad::Never => return Ok(vec![stack(&views, &self.normalise, budget)?]),
            Pad::ToLargest => largest(views.iter().copied()),
            Pad::To(size) => size,
        };
        let most = largest(views.iter().copied());
        if most.height > size.height || most.width > size.width {
            return Err(PictureError::Size(format!(
                "it becomes {} x {} pixels, more than `pad_size`",
                most.width, most.height
            )));
        }
        Ok(vec![padded(&views, size, &self.normalise, budget)?])
    }
}
