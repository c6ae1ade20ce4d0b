//! Pictures that are changed again and again: whatever a file holds, it becomes a picture or an error, and no more is held than
//! is allowed.
//!
//! `FUZZ_EXECUTIONS` is how often (a few thousand by default), `FUZZ_SEED` where the numbers begin.

mod support;

use std::panic::catch_unwind;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use serde_json::json;
use sli_pictures::{ImageProcessor, decode};
use support::{drawn, encoded, png};

/// What decoding may hold.
const ROOM: u64 = 8 << 20;

/// Numbers by xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Changes a file at a few places.
    fn change(&mut self, file: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(file.len());
            match self.below(6) {
                0 if !file.is_empty() => file[at] ^= 1 << self.below(8),
                1 if !file.is_empty() => file[at] = self.next() as u8,
                2 => file.truncate(at),
                3 => file.insert(at, self.next() as u8),
                4 if !file.is_empty() => {
                    file.remove(at);
                }
                _ => {
                    let end = (at + self.below(24)).min(file.len());
                    let part = file[at.min(end)..end].to_vec();
                    let place = self.below(file.len());
                    file.splice(place..place, part);
                }
            }
        }
        // The sums of PNG would hide everything behind them.
        if self.below(2) == 0 {
            mend(file);
        }
    }
}

/// Makes the sums of a PNG right again.
fn mend(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(end) = at
            .checked_add(8)
            .and_then(|start| start.checked_add(length))
        else {
            return;
        };
        let Some(chunk) = file.get(at + 4..end) else {
            return;
        };
        let sum = support::crc32(chunk).to_be_bytes();
        let Some(place) = file.get_mut(end..end + 4) else {
            return;
        };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
}

fn number(key: &str, usual: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(usual, |text| text.parse().expect(key))
}

fn seeds() -> Vec<Vec<u8>> {
    let picture = drawn(21, 34);
    let mut jpeg = Vec::new();
    JpegEncoder::new(&mut jpeg)
        .encode(picture.data(), 34, 21, ExtendedColorType::Rgb8)
        .expect("a JPEG");
    let mut webp = Vec::new();
    WebPEncoder::new_lossless(&mut webp)
        .encode(picture.data(), 34, 21, ExtendedColorType::Rgb8)
        .expect("a WebP");
    let grey: Vec<u8> = picture.data().iter().copied().step_by(3).collect();
    vec![
        png(&picture),
        encoded(&grey, 34, 21, ExtendedColorType::L8),
        jpeg,
        webp,
    ]
}

#[test]
fn whatever_a_file_holds_is_a_picture_or_refused() {
    let executions = number("FUZZ_EXECUTIONS", 4_000);
    let mut random = Random(number("FUZZ_SEED", 1) * 2 + 0x9e37_79b9_7f4a_7c15);
    let mut kept = seeds();
    let whole = kept.len();
    let mut read = 0;
    for _ in 0..executions {
        let mut file = kept[random.below(kept.len())].clone();
        random.change(&mut file);
        let outcome =
            catch_unwind(|| decode(&file, ROOM)).unwrap_or_else(|_| panic!("{file:02x?}"));
        if let Ok(picture) = outcome {
            read += 1;
            assert!(picture.data().len() as u64 <= ROOM);
            if kept.len() < whole + 500 && random.below(4) == 0 {
                kept.push(file);
            }
        }
    }
    assert!(
        read > executions / 50,
        "{read} of {executions} are pictures"
    );
}

#[test]
fn whatever_a_description_says_is_a_processor_or_refused() {
    let small = png(&drawn(13, 29));
    let mut random = Random(number("FUZZ_SEED", 1) * 2 + 0x1234_5678_9abc_def1);
    let values = [
        json!(0),
        json!(1),
        json!(2),
        json!(7),
        json!(64),
        json!(1_000_000_000),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(true),
        json!(false),
        json!(null),
        json!("a"),
        json!([]),
        json!([3, 5]),
        json!([0.5, 0.5, 0.5]),
        json!([[28, 28], [28, 56]]),
        json!({}),
        json!({"height": 28, "width": 14}),
        json!({"shortest_edge": 9, "longest_edge": 40}),
        json!({"longest_edge": 30}),
        json!({"max_height": 40, "max_width": 40}),
    ];
    let keys = [
        "size",
        "crop_size",
        "pad_size",
        "patch_size",
        "merge_size",
        "temporal_patch_size",
        "max_patches",
        "min_patches",
        "max_pixels",
        "min_pixels",
        "do_resize",
        "do_pad",
        "do_center_crop",
        "do_rescale",
        "do_normalize",
        "image_mean",
        "image_std",
        "rescale_factor",
        "resample",
        "max_image_tiles",
        "max_image_size",
        "image_grid_pinpoints",
        "do_image_splitting",
        "crop_to_patches",
        "min_size",
        "do_pan_and_scan",
        "pan_and_scan_min_crop_size",
        "pan_and_scan_max_num_crops",
        "max_num_patches",
        "max_soft_tokens",
        "pooling_kernel_size",
        "crop_pct",
        "resize_to_max_canvas",
        "do_align_long_axis",
        "do_thumbnail",
        "default_to_square",
    ];
    let classes: Vec<&str> = sli_pictures::classes().collect();
    let mut prepared = 0;
    for _ in 0..number("FUZZ_EXECUTIONS", 4_000) {
        let mut settings = serde_json::Map::new();
        for _ in 0..=random.below(3) {
            let value = values[random.below(values.len())].clone();
            settings.insert(keys[random.below(keys.len())].to_owned(), value);
        }
        settings.insert(
            "image_processor_type".into(),
            classes[random.below(classes.len())].into(),
        );
        let said = format!("{settings:?}");
        let outcome = catch_unwind(|| {
            ImageProcessor::new(settings, None)
                .map(|processor| processor.prepare(&[&small], ROOM).is_ok())
        });
        prepared += u64::from(outcome.unwrap_or_else(|_| panic!("{said}")) == Ok(true));
    }
    assert!(prepared > 20, "{prepared} are prepared");
}
