//! Pictures as tensors: channels outermost, or patches one after the other.

use crate::budget::Budget;
use crate::error::PictureError;
use crate::normalise::Normalise;
use crate::picture::Picture;
use crate::size::Area;
use crate::tensor::Tensor;

/// The size that all pictures have; a tensor holds no others beside them.
pub fn one_size<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> Result<Area, PictureError> {
    let mut size: Option<Area> = None;
    for picture in pictures {
        let own = area_of(picture);
        if let Some(size) = size.filter(|&size| size != own) {
            return Err(PictureError::Size(format!(
                "the pictures of the record become {} x {} and {} x {} pixels, which one tensor does not hold",
                size.width, size.height, own.width, own.height
            )));
        }
        size = Some(own);
    }
    size.ok_or_else(|| PictureError::Size("the record has no pictures".into()))
}

/// The largest height and the largest width.
pub fn largest<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> Area {
    let sides = |all: Area, picture: &Picture| Area {
        height: all.height.max(picture.height()),
        width: all.width.max(picture.width()),
    };
    let none = Area {
        height: 0,
        width: 0,
    };
    pictures.into_iter().fold(none, sides)
}

/// The size of a picture.
pub fn area_of(picture: &Picture) -> Area {
    Area {
        height: picture.height(),
        width: picture.width(),
    }
}

/// Room for pictures behind `axes` further ones, zeros: `[axes.., 3, height, width]`.
pub fn room(
    axes: &[usize],
    size: Area,
    budget: &mut Budget,
) -> Result<(Vec<usize>, Vec<f32>), PictureError> {
    let mut shape = axes.to_vec();
    shape.extend([Picture::CHANNELS, size.height as usize, size.width as usize]);
    let numbers = budget.hold_numbers(&shape)?;
    Ok((shape, vec![0.0; numbers]))
}

/// Numbers of a picture of this size.
pub fn numbers(size: Area) -> usize {
    size.pixels() as usize * Picture::CHANNELS
}

/// Writes a picture to `[3, height, width]` numbers of `size`, in its upper left corner.
pub fn write(picture: &Picture, normalise: &Normalise, size: Area, out: &mut [f32]) {
    let plane = size.pixels() as usize;
    for row in 0..picture.height() {
        let pixels = picture.row(row, 0..picture.width());
        let start = row as usize * size.width as usize;
        for (column, pixel) in pixels.chunks_exact(Picture::CHANNELS).enumerate() {
            for (channel, &number) in pixel.iter().enumerate() {
                out[channel * plane + start + column] = normalise.at(number, channel);
            }
        }
    }
}

/// Pictures of one size behind each other: `[pictures, 3, height, width]`.
pub fn stack(
    pictures: &[&Picture],
    normalise: &Normalise,
    budget: &mut Budget,
) -> Result<Tensor, PictureError> {
    let size = one_size(pictures.iter().copied())?;
    padded(pictures, size, normalise, budget)
}

/// Pictures behind each other, with zeros on the right and below: `[pictures, 3, height, width]`.
pub fn padded(
    pictures: &[&Picture],
    size: Area,
    normalise: &Normalise,
    budget: &mut Budget,
) -> Result<Tensor, PictureError> {
    let (shape, mut values) = room(&[pictures.len()], size, budget)?;
    for (picture, out) in pictures
        .iter()
        .zip(values.chunks_exact_mut(numbers(size).max(1)))
    {
        write(picture, normalise, size, out);
    }
    Ok(Tensor::floats("pixel_values", &shape, values))
}

/// Appends the patches of a picture, squares of `side` pixels: in each its rows, in them its pixels, in them the channels.
pub fn patches_by_pixel(picture: &Picture, side: u32, normalise: &Normalise, out: &mut Vec<f32>) {
    let (rows, columns) = (picture.height() / side, picture.width() / side);
    for row in 0..rows {
        for column in 0..columns {
            for line in row * side..(row + 1) * side {
                let pixels = picture.row(line, column * side..(column + 1) * side);
                let numbers = pixels.iter().enumerate();
                out.extend(
                    numbers.map(|(at, &number)| normalise.at(number, at % Picture::CHANNELS)),
                );
            }
        }
    }
}

/// Appends the patches of a picture, squares of `side` pixels: in each the channels, in them `times` times its rows.
///
/// Patches come in squares of `merged` by `merged`, these row by row.
pub fn patches_by_channel(
    picture: &Picture,
    (side, merged, times): (u32, u32, u32),
    normalise: &Normalise,
    out: &mut Vec<f32>,
) {
    let (rows, columns) = (picture.height() / side, picture.width() / side);
    let squares =
        (0..rows / merged).flat_map(|row| (0..columns / merged).map(move |column| (row, column)));
    for (row, column) in squares {
        let inner = (0..merged).flat_map(|y| (0..merged).map(move |x| (y, x)));
        for (y, x) in inner {
            let (top, left) = ((row * merged + y) * side, (column * merged + x) * side);
            for channel in 0..Picture::CHANNELS {
                for _ in 0..times {
                    for line in top..top + side {
                        let pixels = picture.row(line, left..left + side);
                        let own = pixels.iter().skip(channel).step_by(Picture::CHANNELS);
                        out.extend(own.map(|&number| normalise.at(number, channel)));
                    }
                }
            }
        }
    }
}
