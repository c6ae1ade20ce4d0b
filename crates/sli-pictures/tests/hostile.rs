//! Files that were made to mislead, and descriptions that nobody should believe: each ends in one error, and nothing is allocated
//! that the caller has no room for.

mod support;

use image::ExtendedColorType;
use serde_json::{Map, Value, json};
use sli_pictures::{
    DescriptionError, Files, ImageProcessor, PictureError, Processor, decode, header,
};
use support::{crc32, drawn, encoded, png};

const ROOM: u64 = 1 << 26;

fn problem(file: &[u8]) -> PictureError {
    let error = decode(file, ROOM).expect_err("it is refused");
    assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    error
}

fn processor(settings: Value) -> Result<ImageProcessor, DescriptionError> {
    let Value::Object(settings) = settings else {
        panic!("an object")
    };
    ImageProcessor::new(settings, None)
}

/// The PNG file of a header that says this.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut file = png(&drawn(2, 2));
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&file[12..29]);
    file[29..33].copy_from_slice(&sum.to_be_bytes());
    file
}

#[test]
fn what_is_no_picture() {
    let said = |file: &[u8]| problem(file).to_string();
    assert!(said(b"").contains("empty"));
    assert!(said(b"GIF89a").contains("GIF"));
    assert!(said(b"<svg/>").contains("SVG"));
    assert!(said(b"version https://git-lfs.github.com/spec/v1").contains("Git LFS"));
    assert!(said(b"\x89PNG\r\n\x1a\n").contains("PNG"));
    assert!(said(b"RIFF\x04\0\0\0WEBP").contains("WebP"));
    assert!(said(&[0xff, 0xd8, 0xff, 0xe0]).contains("JPEG"));
}

#[test]
fn every_beginning_of_a_file_is_refused() {
    let whole = png(&drawn(30, 40));
    for length in 0..whole.len() - 16 {
        problem(&whole[..length]);
    }
    let mut jpeg = Vec::new();
    let picture = drawn(30, 40);
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode(picture.data(), 40, 30, ExtendedColorType::Rgb8)
        .unwrap();
    decode(&jpeg, ROOM).unwrap();
    for length in 0..jpeg.len() - 2 {
        problem(&jpeg[..length]);
    }
    let mut webp = Vec::new();
    image::codecs::webp::WebPEncoder::new_lossless(&mut webp)
        .encode(picture.data(), 40, 30, ExtendedColorType::Rgb8)
        .unwrap();
    assert_eq!(decode(&webp, ROOM).unwrap(), picture);
    for length in 0..webp.len() - 2 {
        problem(&webp[..length]);
    }
}

#[test]
fn sizes_are_judged_before_pixels() {
    for (width, height) in [(60_000, 60_000), (65_535, 65_535), (1, 65_535), (65_535, 1)] {
        let file = claiming(width, height);
        let said = header(&file).unwrap();
        assert_eq!((said.width, said.height), (width, height));
        if u64::from(width) * u64::from(height) > ROOM {
            assert!(matches!(problem(&file), PictureError::Memory { .. }));
        } else {
            assert!(matches!(problem(&file), PictureError::Broken { .. }));
        }
    }
    for (width, height) in [(65_536, 1), (1, 65_536), (u32::MAX >> 1, u32::MAX >> 1)] {
        let error = problem(&claiming(width, height));
        assert!(!matches!(error, PictureError::Memory { .. }), "{error}");
    }
    for (width, height) in [(0, 1), (1, 0)] {
        problem(&claiming(width, height));
    }
}

#[test]
fn a_budget_holds_all_of_a_record() {
    let large = png(&drawn(700, 900));
    let clip = processor(json!({"image_processor_type": "CLIPImageProcessor"})).unwrap();
    let files = [&large[..]; 4];
    clip.prepare(&files, 40 << 20).unwrap();
    let (_, error) = clip.prepare(&files, 2 << 20).unwrap_err();
    assert!(matches!(error, PictureError::Memory { .. }), "{error}");
}

#[test]
fn descriptions_ask_for_no_more_than_there_is() {
    let small = png(&drawn(20, 30));
    for settings in [
        json!({"image_processor_type": "CLIPImageProcessor", "size": 1_000_000}),
        json!({"image_processor_type": "CLIPImageProcessor", "crop_size": 1_000_000}),
        json!({"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 1_000_000_000}),
        json!({"image_processor_type": "Gemma4ImageProcessor", "pooling_kernel_size": 900}),
        json!({"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 1_000_000_000, "max_pixels": 1_000_000_000}),
        json!({"image_processor_type": "Pix2StructImageProcessor", "max_patches": 1_000_000_000}),
        json!({"image_processor_type": "GotOcr2ImageProcessor", "size": 1_000_000_000, "crop_to_patches": true, "min_patches": 12}),
        json!({"image_processor_type": "MllamaImageProcessor", "size": 1_000_000}),
        json!({"image_processor_type": "LlavaNextImageProcessor", "size": 1_000_000}),
        json!({"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 4096}, "max_image_size": {"longest_edge": 4096}}),
        json!({"image_processor_type": "PixtralImageProcessor", "patch_size": 4096}),
        json!({"image_processor_type": "Kimi_K25ImageProcessor", "patch_size": 4096, "merge_size": 4096}),
        json!({"image_processor_type": "DonutImageProcessor", "size": 1_000_000}),
        json!({"image_processor_type": "Llama4ImageProcessor", "size": 1_000_000, "max_patches": 4096}),
    ] {
        let way = processor(settings.clone()).unwrap_or_else(|error| panic!("{settings}: {error}"));
        let (_, error) = way.prepare(&[&small], ROOM).expect_err("no room");
        let is_said = matches!(error, PictureError::Memory { .. } | PictureError::Size(_));
        assert!(is_said, "{settings}: {error}");
    }
}

#[test]
fn what_a_description_cannot_say() {
    let refused = |settings: Value| processor(settings.clone()).expect_err(&settings.to_string());
    // Code of the reference has the first name, nothing has the second.
    let key = refused(json!({"image_processor_type": "CLIPImageProcessor", "antialias": true}));
    assert_eq!(
        key.to_string(),
        "`antialias` of CLIPImageProcessor is not known here"
    );
    let stray = json!({"image_processor_type": "CLIPImageProcessor", "do_magic": true});
    processor(stray).expect("what it would be without the key");
    assert!(matches!(
        refused(json!({"image_processor_type": "NoImageProcessor"})),
        DescriptionError::Class(_)
    ));
    assert!(matches!(
        refused(json!({"size": 3})),
        DescriptionError::NoClass
    ));
    for (class, key, value) in [
        ("CLIP", "size", json!({"edge": 3})),
        ("CLIP", "size", json!({"height": 3})),
        ("CLIP", "size", json!(0)),
        ("CLIP", "size", json!(-4)),
        ("CLIP", "size", json!("224")),
        ("CLIP", "size", json!([1, 2, 3])),
        ("CLIP", "resample", json!(4)),
        ("CLIP", "resample", json!("bicubic")),
        ("CLIP", "image_mean", json!([0.1, 0.2])),
        ("CLIP", "image_std", json!([0.1, 0.2, 0.0])),
        ("CLIP", "rescale_factor", json!(0)),
        ("CLIP", "do_resize", json!("yes")),
        ("Qwen2VL", "patch_size", json!(1_000_000)),
        ("Qwen2VL", "size", json!({"height": 3, "width": 3})),
        ("Pix2Struct", "is_vqa", json!(true)),
        ("Mllama", "do_pad", json!(false)),
        ("Gemma4", "max_soft_tokens", json!(3)),
        ("LlavaNext", "image_grid_pinpoints", json!([[1]])),
        ("LlavaNext", "image_grid_pinpoints", json!([])),
    ] {
        let mut settings = Map::new();
        settings.insert(
            "image_processor_type".into(),
            format!("{class}ImageProcessor").into(),
        );
        settings.insert(key.into(), value.clone());
        let error =
            processor(Value::Object(settings)).expect_err(&format!("{class} {key} {value}"));
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
    }
    for (preprocessor, processor) in [
        (Some("[]"), None),
        (Some("{"), None),
        (None, Some("{}")),
        (None, None),
        (None, Some("{\"image_processor\": 3}")),
    ] {
        let files = Files {
            preprocessor,
            processor,
            model_type: Some("clip"),
            tokenizer_class: None,
        };
        let error = Processor::read(files, &|_| None);
        assert!(matches!(error, Err(DescriptionError::Json(_))));
    }
}

#[test]
fn kinds_of_pixels() {
    let grey: Vec<u8> = (0..12).map(|at| at * 20).collect();
    let file = encoded(&grey, 4, 3, ExtendedColorType::L8);
    let picture = decode(&file, ROOM).unwrap();
    assert_eq!(picture.row(0, 1..3), [20, 20, 20, 40, 40, 40]);
    let deep: Vec<u8> = (0..12_u16)
        .flat_map(|at| (at * 5000 + 77).to_ne_bytes())
        .collect();
    let picture = decode(&encoded(&deep, 4, 3, ExtendedColorType::L16), ROOM).unwrap();
    assert_eq!(picture.row(0, 1..3), [19, 19, 19, 39, 39, 39]);
    let alpha = [9, 8, 7, 0, 1, 2, 3, 255];
    let picture = decode(&encoded(&alpha, 2, 1, ExtendedColorType::Rgba8), ROOM).unwrap();
    assert_eq!(picture.data(), [9, 8, 7, 1, 2, 3]);
}

/// A PNG with an EXIF chunk that says an orientation.
fn oriented(orientation: u8) -> Vec<u8> {
    let mut file = png(&drawn(3, 5));
    let note = [
        b'M',
        b'M',
        0,
        42,
        0,
        0,
        0,
        8,
        0,
        1,
        1,
        18,
        0,
        3,
        0,
        0,
        0,
        1,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let mut chunk = b"eXIf".to_vec();
    chunk.extend(note);
    let sum = crc32(&chunk);
    let mut framed = (note.len() as u32).to_be_bytes().to_vec();
    framed.extend(chunk);
    framed.extend(sum.to_be_bytes());
    file.splice(33..33, framed);
    file
}

#[test]
fn pictures_are_upright() {
    let plain = drawn(3, 5);
    let pixel = |x: u32, y: u32| plain.row(y, x..x + 1).to_vec();
    // Which pixel of the file is in the upper left corner, and whether the sides are swapped.
    let corners = [
        (0, 0),
        (4, 0),
        (4, 2),
        (0, 2),
        (0, 0),
        (0, 2),
        (4, 2),
        (4, 0),
    ];
    for (orientation, (x, y)) in (1..=8).zip(corners) {
        let file = oriented(orientation);
        let picture = decode(&file, ROOM).unwrap();
        assert_eq!(picture.row(0, 0..1), pixel(x, y), "{orientation}");
        let size = if orientation > 4 { (3, 5) } else { (5, 3) };
        assert_eq!((picture.width(), picture.height()), size, "{orientation}");
        let said = header(&file).unwrap();
        assert_eq!((said.width, said.height), size, "{orientation}");
    }
    for broken in [0, 9, 255] {
        assert_eq!(decode(&oriented(broken), ROOM).unwrap(), plain);
    }
}
