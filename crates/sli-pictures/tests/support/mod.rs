//! Pictures for tests, drawn by a formula.
#![allow(dead_code, clippy::allow_attributes, reason = "each test uses a part")]

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use sli_pictures::Picture;

/// A picture; `tools/pictures/goldens.py` draws the same.
pub fn drawn(height: u32, width: u32) -> Picture {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let numbers = pixels.flat_map(|(y, x)| {
        (0..3).map(move |c| {
            let wave = u32::midpoint(x * (5 + 3 * c), y * (11 - 2 * c));
            ((wave + (((x / 9) ^ (y / 7)) * 37 % 64) * (c + 1)) % 256) as u8
        })
    });
    Picture::new(width, height, numbers.collect()).expect("as many as it has")
}

/// Its file.
pub fn png(picture: &Picture) -> Vec<u8> {
    encoded(
        picture.data(),
        picture.width(),
        picture.height(),
        ExtendedColorType::Rgb8,
    )
}

/// A PNG file of these numbers.
pub fn encoded(data: &[u8], width: u32, height: u32, kind: ExtendedColorType) -> Vec<u8> {
    let mut file = Vec::new();
    PngEncoder::new(&mut file)
        .write_image(data, width, height, kind)
        .expect("a PNG");
    file
}

/// The sum of a PNG's chunk.
pub fn crc32(bytes: &[u8]) -> u32 {
    let turn = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(u32::MAX, turn)
}
