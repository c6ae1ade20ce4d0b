//! Pictures of single-precision numbers, for the classes that change a picture's size after its numbers.

use crate::budget::Budget;
use crate::error::PictureError;
use crate::picture::Picture;
use crate::size::Area;

/// A picture: rows, in them pixels, in them the channels.
#[derive(Clone, Debug)]
pub struct Floats {
    size: Area,
    values: Vec<f32>,
}

impl Floats {
    /// The numbers of a picture.
    pub fn of(picture: &Picture, budget: &mut Budget) -> Result<Self, PictureError> {
        Self::by(picture, f32::from, budget)
    }

    /// What a function makes of the numbers of a picture.
    pub fn by(
        picture: &Picture,
        function: impl Fn(u8) -> f32,
        budget: &mut Budget,
    ) -> Result<Self, PictureError> {
        let size = crate::layout::area_of(picture);
        budget.hold_numbers(&[picture.data().len()])?;
        Ok(Self {
            size,
            values: picture
                .data()
                .iter()
                .map(|&number| function(number))
                .collect(),
        })
    }

    /// Its numbers less their mean, by their deviation.
    pub fn normalise(&mut self) {
        let count = self.values.len() as f64;
        let mean = self.values.iter().copied().map(f64::from).sum::<f64>() / count;
        let squares = self
            .values
            .iter()
            .map(|&value| (f64::from(value) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / (count - 1.0).max(1.0)).sqrt() as f32;
        let least = (1.0 / count.sqrt()) as f32;
        let deviation = deviation.max(least);
        let mean = mean as f32;
        self.values
            .iter_mut()
            .for_each(|value| *value = (*value - mean) / deviation);
    }

    /// The pixels `columns` of a row.
    pub fn row(&self, row: u32, columns: std::ops::Range<u32>) -> &[f32] {
        let start = row as usize * self.size.width as usize;
        let place = |column: u32| (start + column as usize) * Picture::CHANNELS;
        &self.values[place(columns.start)..place(columns.end)]
    }
}

/// It in another size, bilinear with antialiasing.
pub fn resize_bilinear(
    picture: Floats,
    to: Area,
    budget: &mut Budget,
) -> Result<Floats, PictureError> {
    let from = picture.size;
    if from == to {
        return Ok(picture);
    }
    let (height, width) = (from.height as usize, from.width as usize);
    let columns = Windows::new(width, to.width as usize);
    budget.hold_numbers(&[height, to.width as usize, Picture::CHANNELS])?;
    let row = to.width as usize * Picture::CHANNELS;
    let mut between = Vec::with_capacity(height * row);
    for line in picture.values.chunks_exact(width * Picture::CHANNELS) {
        for (first, weights) in &columns.0 {
            let mut sums = [0.0; Picture::CHANNELS];
            let pixels = line[first * Picture::CHANNELS..].chunks_exact(Picture::CHANNELS);
            for (pixel, weight) in pixels.zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += value * weight;
                }
            }
            between.extend(sums);
        }
    }
    budget.hold_numbers(&[to.height as usize, row])?;
    let mut values = Vec::with_capacity(to.height as usize * row);
    for (first, weights) in &Windows::new(height, to.height as usize).0 {
        let mut sums = vec![0.0; row];
        for (line, weight) in between[first * row..].chunks_exact(row).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += value * weight;
            }
        }
        values.extend(sums);
    }
    Ok(Floats { size: to, values })
}

/// For each place the first pixel that it looks at, and the weights.
struct Windows(Vec<(usize, Vec<f32>)>);

impl Windows {
    /// In single precision, as torch computes them for such pictures.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        let stretch = scale.max(1.0);
        let places = (0..to).map(|place| {
            let center = scale * (place as f32 + 0.5);
            let first = (center - stretch + 0.5) as usize;
            let end = ((center + stretch + 0.5) as usize).min(from);
            let at = |pixel: usize| {
                let distance = (pixel as f32 - center + 0.5) * (1.0 / stretch);
                (1.0 - distance.abs()).max(0.0)
            };
            let weights: Vec<f32> = (first..end).map(at).collect();
            let total: f32 = weights.iter().sum();
            (first, weights.iter().map(|weight| weight / total).collect())
        });
        Self(places.collect())
    }
}
