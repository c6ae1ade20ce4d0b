//! Pictures in memory.

/// A picture of 8 bits a channel: rows from the top, in them pixels from the left, in them red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

/// A rectangle of a picture, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Of its left column.
    pub left: u32,
    /// Of its top row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Picture {
    /// Channels of a pixel.
    pub const CHANNELS: usize = 3;

    /// From its numbers, `[height, width, 3]`; `None` where there are more or fewer.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Option<Self> {
        let fits = data.len() == width as usize * height as usize * Self::CHANNELS;
        fits.then_some(Self {
            width,
            height,
            data,
        })
    }

    /// One of a single colour.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Self {
        let pixels = width as usize * height as usize;
        Self {
            width,
            height,
            data: colour.repeat(pixels),
        }
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Its numbers, `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The pixels `columns` of a row.
    pub fn row(&self, row: u32, columns: std::ops::Range<u32>) -> &[u8] {
        let start = row as usize * self.width as usize;
        let place = |column: u32| (start + column as usize) * Self::CHANNELS;
        &self.data[place(columns.start)..place(columns.end)]
    }

    /// A part of it that lies within it.
    #[must_use]
    pub fn crop(&self, rect: Rect) -> Self {
        let columns = rect.left..rect.left + rect.width;
        let rows = rect.top..rect.top + rect.height;
        Self {
            width: rect.width,
            height: rect.height,
            data: rows
                .flat_map(|row| self.row(row, columns.clone()))
                .copied()
                .collect(),
        }
    }

    /// It a quarter turn clockwise.
    #[must_use]
    pub fn turned(&self) -> Self {
        let pixels =
            (0..self.width).flat_map(|row| (0..self.height).rev().map(move |from| (from, row)));
        Self {
            width: self.height,
            height: self.width,
            data: pixels
                .flat_map(|(row, column)| self.row(row, column..column + 1))
                .copied()
                .collect(),
        }
    }

    /// It with margins of a colour.
    #[must_use]
    pub fn pad(&self, margins: Margins, colour: [u8; 3]) -> Self {
        let width = self.width + margins.left + margins.right;
        let height = self.height + margins.top + margins.bottom;
        let mut padded = Self::filled(width, height, colour);
        for row in 0..self.height {
            let start = ((row + margins.top) as usize * width as usize + margins.left as usize)
                * Self::CHANNELS;
            let pixels = self.row(row, 0..self.width);
            padded.data[start..start + pixels.len()].copy_from_slice(pixels);
        }
        padded
    }
}

/// Columns and rows around a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// Columns before it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Columns behind it.
    pub right: u32,
    /// Rows below it.
    pub bottom: u32,
}
