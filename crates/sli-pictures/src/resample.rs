//! Pictures in other sizes, to the bit as torch's `interpolate(antialias=True)` does it for pictures of 8 bits.
//!
//! Columns first, then rows, each a sum over neighbours with weights in 16-bit fixed point; what is between the two passes is
//! rounded to 8 bits. How many bits of a weight are behind the point depends on the largest weight of the pass.

use crate::picture::Picture;

/// How pixels between pixels are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel, without averaging.
    Nearest,
    /// A triangle of two pixels.
    Bilinear,
    /// Keys' cubic of four pixels, with -1/2.
    Bicubic,
    /// A sinc of six pixels.
    Lanczos,
}

impl Filter {
    /// Pixels that it looks at where the size stays.
    fn width(self) -> f64 {
        match self {
            Self::Nearest => 1.0,
            Self::Bilinear => 2.0,
            Self::Bicubic => 4.0,
            Self::Lanczos => 6.0,
        }
    }

    /// Its value at a distance, pixels.
    fn at(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Nearest => f64::from(u8::from(x <= 0.5)),
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic => {
                const A: f64 = -0.5;
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&distance) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The picture with `width` columns and `height` rows.
#[must_use]
pub fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Picture {
    let (from_width, from_height) = (picture.width() as usize, picture.height() as usize);
    let (width, height) = (width as usize, height as usize);
    let data = if filter == Filter::Nearest {
        nearest(picture, width, height)
    } else {
        let columns = pass_columns(picture.data(), from_width, width, filter);
        let columns = columns.as_deref().unwrap_or(picture.data());
        let rows = pass_rows(columns, width, from_height, height, filter);
        rows.unwrap_or_else(|| columns.to_vec())
    };
    let resized = Picture::new(width as u32, height as u32, data);
    resized.unwrap_or_else(|| picture.clone())
}

/// The pixel at `(place + 1/2) * from / to` in single precision, as torch's `nearest-exact`.
fn nearest(picture: &Picture, width: usize, height: usize) -> Vec<u8> {
    let source = |place: usize, from: u32, to: usize| {
        let scale = from as f32 / to as f32;
        (((place as f32 + 0.5) * scale).floor() as u32).min(from - 1)
    };
    let rows = (0..height).map(|row| source(row, picture.height(), height));
    rows.flat_map(|row| {
        (0..width).flat_map(move |column| {
            let column = source(column, picture.width(), width);
            let pixel = picture.row(row, column..column + 1);
            [pixel[0], pixel[1], pixel[2]]
        })
    })
    .collect()
}

/// The weights of one place: the first pixel that it looks at, and where its weights are.
struct Window {
    first: usize,
    weights: Vec<i16>,
}

/// The windows of all places of a pass, and the bits behind the point of their weights.
struct Windows {
    places: Vec<Window>,
    precision: u32,
}

impl Windows {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.width() * 0.5 * stretch;
        let mut largest: f64 = 0.0;
        let exact: Vec<(usize, Vec<f64>)> = (0..to)
            .map(|place| {
                let center = scale * (place as f64 + 0.5);
                // Conversions cut towards zero.
                let first = (center - support + 0.5) as usize;
                let end = ((center + support + 0.5) as usize).min(from);
                let at = |pixel: usize| filter.at((pixel as f64 - center + 0.5) * (1.0 / stretch));
                let weights: Vec<f64> = (first..end).map(at).collect();
                let total: f64 = weights.iter().sum();
                let weights = weights.iter().map(|weight| weight / total);
                let weights: Vec<f64> = weights.collect();
                largest = weights.iter().copied().fold(largest, f64::max);
                (first, weights)
            })
            .collect();
        let fits = |bits: &u32| ((0.5 + largest * f64::from(1_u32 << (bits + 1))) as i64) < 1 << 15;
        let precision = (0..22).take_while(fits).count() as u32;
        let one = f64::from(1_u32 << precision);
        let fixed = |weight: &f64| (weight * one + 0.5_f64.copysign(*weight)) as i16;
        let places = exact.iter().map(|(first, weights)| Window {
            first: *first,
            weights: weights.iter().map(fixed).collect(),
        });
        Self {
            places: places.collect(),
            precision,
        }
    }

    fn round(&self, sum: i32) -> u8 {
        (sum >> self.precision).clamp(0, 255) as u8
    }

    fn half(&self) -> i32 {
        (1 << self.precision) >> 1
    }
}

/// Other columns; `None` where there are as many as before.
fn pass_columns(data: &[u8], from: usize, to: usize, filter: Filter) -> Option<Vec<u8>> {
    if from == to {
        return None;
    }
    let windows = Windows::new(from, to, filter);
    let mut out = Vec::with_capacity(data.len() / from * to);
    for row in data.chunks_exact(from * Picture::CHANNELS) {
        for window in &windows.places {
            let mut sums = [windows.half(); 3];
            let pixels = row[window.first * Picture::CHANNELS..].chunks_exact(Picture::CHANNELS);
            for (pixel, &weight) in pixels.zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * i32::from(weight);
                }
            }
            out.extend(sums.map(|sum| windows.round(sum)));
        }
    }
    Some(out)
}

/// Other rows; `None` where there are as many as before.
fn pass_rows(data: &[u8], width: usize, from: usize, to: usize, filter: Filter) -> Option<Vec<u8>> {
    if from == to {
        return None;
    }
    let windows = Windows::new(from, to, filter);
    let bytes = width * Picture::CHANNELS;
    let mut out = Vec::with_capacity(bytes * to);
    let mut sums = vec![0_i32; bytes];
    for window in &windows.places {
        sums.fill(windows.half());
        let rows = data[window.first * bytes..].chunks_exact(bytes);
        for (row, &weight) in rows.zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * i32::from(weight);
            }
        }
        out.extend(sums.iter().map(|&sum| windows.round(sum)));
    }
    Some(out)
}
