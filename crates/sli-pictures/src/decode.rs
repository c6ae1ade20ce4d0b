//! Files to pictures: PNG, JPEG, WebP; upright, red, green and blue, 8 bits each.
//!
//! What a file has beyond that is treated as `torchvision.io.decode_image(mode=RGB, apply_exif_orientation=True)` does, which is
//! what the processors read paths with: alpha is left away, grey becomes three equal channels, of 16 bits the upper 8 count.

use std::io::Cursor;

use image::codecs::{png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, Limits};

use crate::error::PictureError;
use crate::jpeg::Jpeg;
use crate::picture::Picture;

/// Longest side of a picture, pixels: what a JPEG can have.
const LONGEST_SIDE: u32 = 65_535;
/// What decoders hold beside their output at most, bytes a pixel: the planes of a WebP.
const BESIDE: u64 = 8;

/// What a file says of its picture before any pixel is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Columns, as the picture is shown.
    pub width: u32,
    /// Rows, as the picture is shown.
    pub height: u32,
    /// Bytes that decoding takes at most, the picture included.
    pub cost: u64,
}

/// Reads what a file says of its picture.
pub fn header(file: &[u8]) -> Result<Header, PictureError> {
    Opened::new(file, u64::MAX).map(|mut opened| opened.header())?
}

/// The picture of a file, of which decoding may take `allowed` bytes.
pub fn decode(file: &[u8], allowed: u64) -> Result<Picture, PictureError> {
    let mut opened = Opened::new(file, allowed)?;
    let header = opened.header()?;
    if header.cost > allowed {
        return Err(PictureError::Memory {
            what: format!("a picture of {} x {} pixels", header.width, header.height),
            needed: header.cost,
            allowed,
        });
    }
    opened.read()
}

/// A file whose header is read.
struct Opened<'a> {
    format: &'static str,
    decoder: Decoder<'a>,
    orientation: Orientation,
}

/// What decodes a file.
enum Decoder<'a> {
    Jpeg(Box<Jpeg<'a>>),
    Other(Box<dyn ImageDecoder + 'a>),
}

impl Decoder<'_> {
    /// Columns and rows, as they are stored.
    fn dimensions(&self) -> (u32, u32) {
        match self {
            Self::Jpeg(jpeg) => jpeg.dimensions(),
            Self::Other(decoder) => decoder.dimensions(),
        }
    }
}

impl<'a> Opened<'a> {
    fn new(file: &'a [u8], allowed: u64) -> Result<Self, PictureError> {
        let format = format_of(file)?;
        let reader = Cursor::new(file);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(allowed);
        if format == "JPEG" {
            let jpeg = Jpeg::new(file, allowed).map_err(|error| broken(format, &error))?;
            return Ok(Self {
                format,
                orientation: jpeg.orientation(),
                decoder: Decoder::Jpeg(Box::new(jpeg)),
            });
        }
        let opened = match format {
            "PNG" => PngDecoder::with_limits(reader, limits)
                .map(|it| Box::new(it) as Box<dyn ImageDecoder>),
            _ => WebPDecoder::new(reader).map(|it| Box::new(it) as Box<dyn ImageDecoder>),
        };
        let mut decoder = opened.map_err(|error| broken(format, &error))?;
        // What is wrong with the notes in a file does not make its picture another.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        Ok(Self {
            format,
            decoder: Decoder::Other(decoder),
            orientation,
        })
    }

    fn header(&mut self) -> Result<Header, PictureError> {
        let (width, height) = self.decoder.dimensions();
        if width == 0 || height == 0 || width.max(height) > LONGEST_SIDE {
            return Err(PictureError::Size(format!(
                "a picture of {width} x {height} pixels; sides are 1 to {LONGEST_SIDE}"
            )));
        }
        let pixels = u64::from(width) * u64::from(height);
        let turned = turns(self.orientation);
        let (width, height) = if turned {
            (height, width)
        } else {
            (width, height)
        };
        Ok(Header {
            width,
            height,
            cost: pixels * (2 * Picture::CHANNELS as u64)
                + match &self.decoder {
                    Decoder::Jpeg(jpeg) => pixels * jpeg.pixel_bytes(),
                    Decoder::Other(decoder) => decoder.total_bytes() + pixels * BESIDE,
                },
        })
    }

    fn read(self) -> Result<Picture, PictureError> {
        let Self {
            format,
            decoder,
            orientation,
        } = self;
        let refused = |problem: &str| PictureError::Broken {
            format,
            problem: problem.to_owned(),
        };
        let (width, height) = decoder.dimensions();
        let data = match decoder {
            Decoder::Jpeg(jpeg) => jpeg.read().map_err(|error| broken(format, &error))?,
            Decoder::Other(decoder) => {
                let kind = decoder.color_type();
                let length = usize::try_from(decoder.total_bytes());
                let mut raw = vec![0; length.map_err(|_| refused("it is too large"))?];
                decoder
                    .read_image_boxed(&mut raw)
                    .map_err(|error| broken(format, &error))?;
                to_rgb(raw, kind).ok_or_else(|| refused("its channels are unknown"))?
            }
        };
        let picture = Picture::new(width, height, data);
        let picture = picture.ok_or_else(|| refused("it has not as many pixels as it says"))?;
        Ok(upright(picture, orientation))
    }
}

/// The format by the first bytes of a file.
fn format_of(file: &[u8]) -> Result<&'static str, PictureError> {
    let known: [(&[u8], &str); 6] = [
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"version https://git-lfs", "a Git LFS pointer"),
        (b"<", "a web page or SVG"),
    ];
    if file.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok("PNG");
    }
    if file.starts_with(&[0xff, 0xd8, 0xff]) {
        return Ok("JPEG");
    }
    if file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP") {
        return Ok("WebP");
    }
    let found = known.iter().find(|(start, _)| file.starts_with(start));
    Err(PictureError::Format(match found {
        _ if file.is_empty() => "it is empty".to_owned(),
        Some((_, name)) => format!("it is {name}, not PNG, JPEG or WebP"),
        None => "it is neither PNG nor JPEG nor WebP".to_owned(),
    }))
}

fn broken(format: &'static str, error: &dyn std::error::Error) -> PictureError {
    let problem = error.to_string();
    PictureError::Broken { format, problem }
}

/// Red, green and blue of 8 bits.
fn to_rgb(raw: Vec<u8>, kind: ColorType) -> Option<Vec<u8>> {
    // 16 bits are in the order of the processor; the upper 8 count.
    let upper = |bytes: &[u8]| (u16::from_ne_bytes([bytes[0], bytes[1]]) >> 8) as u8;
    Some(match kind {
        ColorType::Rgb8 => raw,
        ColorType::Rgba8 => raw
            .chunks_exact(4)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
        ColorType::L8 => raw.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::La8 => raw
            .chunks_exact(2)
            .flat_map(|pixel| [pixel[0]; 3])
            .collect(),
        ColorType::L16 => raw
            .chunks_exact(2)
            .flat_map(|grey| [upper(grey); 3])
            .collect(),
        ColorType::La16 => raw
            .chunks_exact(4)
            .flat_map(|pixel| [upper(pixel); 3])
            .collect(),
        ColorType::Rgb16 => raw.chunks_exact(2).map(upper).collect(),
        ColorType::Rgba16 => raw
            .chunks_exact(8)
            .flat_map(|pixel| [upper(pixel), upper(&pixel[2..]), upper(&pixel[4..])])
            .collect(),
        _ => return None,
    })
}

/// Whether an orientation swaps rows and columns.
fn turns(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// The picture as it is to be shown.
fn upright(picture: Picture, orientation: Orientation) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    // The pixel of the file that stands at a column and row of the picture.
    let from: fn(u32, u32, u32, u32) -> (u32, u32) = match orientation {
        Orientation::NoTransforms => return picture,
        Orientation::FlipHorizontal => |x, y, w, _| (w - 1 - x, y),
        Orientation::Rotate180 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        Orientation::FlipVertical => |x, y, _, h| (x, h - 1 - y),
        Orientation::Rotate90FlipH => |x, y, _, _| (y, x),
        Orientation::Rotate90 => |x, y, _, h| (y, h - 1 - x),
        Orientation::Rotate270FlipH => |x, y, w, h| (w - 1 - y, h - 1 - x),
        Orientation::Rotate270 => |x, y, w, _| (w - 1 - y, x),
    };
    let (columns, rows) = if turns(orientation) {
        (height, width)
    } else {
        (width, height)
    };
    let pixels = (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y)));
    let data = pixels.flat_map(|(x, y)| {
        let (column, row) = from(x, y, width, height);
        let pixel = picture.row(row, column..column + 1);
        [pixel[0], pixel[1], pixel[2]]
    });
    let data = data.collect();
    Picture::new(columns, rows, data).unwrap_or(picture)
}
