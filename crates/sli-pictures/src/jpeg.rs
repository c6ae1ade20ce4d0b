//! JPEG, to the bits of libjpeg-turbo, which is what Pillow and torchvision decode with.

use image::metadata::Orientation;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

/// A file whose header is read.
pub struct Jpeg<'a>(Decoder<'a>);

impl<'a> Jpeg<'a> {
    /// Reads the header; decoding may take `allowed` bytes.
    pub fn new(file: &'a [u8], allowed: u64) -> Result<Self, JpegError> {
        let limits = DecodeLimits {
            max_memory: Some(allowed),
            ..DecodeLimits::default()
        };
        Decoder::new_with_limits(file, limits).map(Self)
    }

    /// Columns and rows, as they are stored.
    pub fn dimensions(&self) -> (u32, u32) {
        let header = self.0.header();
        (u32::from(header.width), u32::from(header.height))
    }

    /// Numbers of a pixel, as they are stored.
    fn channels(&self) -> u64 {
        self.0.header().components.len() as u64
    }

    /// What decoding holds for a pixel at most, bytes: coefficients of 16 bits, planes, the picture.
    pub fn pixel_bytes(&self) -> u64 {
        self.channels() * (2 + 1 + 1)
    }

    /// How the picture is to be turned.
    pub fn orientation(&self) -> Orientation {
        let said = self.0.exif_orientation().and_then(Orientation::from_exif);
        said.unwrap_or(Orientation::NoTransforms)
    }

    /// Red, green and blue, row by row. A file that is cut off is an error; what libjpeg only warns of is not.
    pub fn read(mut self) -> Result<Vec<u8>, JpegError> {
        let format = match self.channels() {
            1 => PixelFormat::Grayscale,
            4 => PixelFormat::Cmyk,
            _ => PixelFormat::Rgb,
        };
        self.0.set_output_format(format);
        let data = self.0.decode_image()?.data;
        Ok(match format {
            PixelFormat::Grayscale => data.iter().flat_map(|&grey| [grey; 3]).collect(),
            PixelFormat::Cmyk => data.chunks_exact(4).flat_map(from_inks).collect(),
            _ => data,
        })
    }
}

/// Red, green and blue of cyan, magenta, yellow and black; files hold how much of the paper is left of each.
fn from_inks(inks: &[u8]) -> [u8; 3] {
    let left = u32::from(inks[3]);
    [0, 1, 2].map(|ink| {
        // The division by 255, to the nearest.
        let product = (255 - u32::from(inks[ink])) * left + 128;
        left.saturating_sub((product + (product >> 8)) >> 8) as u8
    })
}
