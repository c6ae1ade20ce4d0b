//! Pictures that records show again.

mod support;

use serde_json::{Map, Value, json};
use sli_pictures::{ImageProcessor, Kept, PictureError};
use support::{drawn, png};

fn processor(settings: &Value) -> ImageProcessor {
    let settings: Map<String, Value> = settings.as_object().expect("settings").clone();
    ImageProcessor::new(settings, None).expect("a processor")
}

#[test]
fn a_picture_that_comes_again_is_not_decoded_again() {
    let clip = json!({"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 32});
    let clip = processor(&clip);
    let file = png(&drawn(700, 500));
    let mut kept = Kept::new(1 << 20);
    let first = clip.prepare_again(&[&file], 1 << 30, &mut kept);
    let first = first.expect("a picture");
    assert_eq!(clip.prepare(&[&file], 1 << 30), Ok(first.clone()));
    assert!((3072..4096).contains(&kept.bytes()), "{}", kept.bytes());
    // What it would not be decoded in.
    let little = 100_000;
    assert_eq!(clip.prepare_again(&[&file], little, &mut kept), Ok(first));
    let alone = clip.prepare(&[&file], little);
    assert!(matches!(alone, Err((0, PictureError::Memory { .. }))));
    // Another one needs the room, and what is kept goes.
    let other = png(&drawn(500, 700));
    let refused = clip.prepare_again(&[&other], little, &mut kept);
    assert!(matches!(refused, Err((0, PictureError::Memory { .. }))));
    assert_eq!(kept.bytes(), 0);
}

#[test]
fn the_oldest_go_first() {
    let clip = json!({"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 32});
    let clip = processor(&clip);
    let files: Vec<Vec<u8>> = (0..4).map(|at| png(&drawn(300 + at, 300))).collect();
    let mut kept = Kept::new(7000);
    for file in &files {
        clip.prepare_again(&[file], 1 << 30, &mut kept).unwrap();
        assert!(kept.bytes() <= 7000);
    }
    let little = 100_000;
    assert!(clip.prepare_again(&[&files[3]], little, &mut kept).is_ok());
    assert!(clip.prepare_again(&[&files[0]], little, &mut kept).is_err());
    let mut none = Kept::new(100);
    clip.prepare_again(&[&files[0]], 1 << 30, &mut none)
        .unwrap();
    assert_eq!(none.bytes(), 0);
}

#[test]
fn what_becomes_of_a_picture_is_a_matter_of_those_beside_it() {
    let settings = json!({"image_processor_type": "LlavaOnevisionImageProcessor", "size": {"height": 16, "width": 16},
                          "image_grid_pinpoints": [[16, 32], [32, 32]]});
    let processor = processor(&settings);
    let file = png(&drawn(60, 60));
    let mut kept = Kept::new(1 << 20);
    for files in [&[&file[..]][..], &[&file, &file], &[&file], &[&file, &file]] {
        let again = processor.prepare_again(files, 1 << 30, &mut kept);
        assert_eq!(again, processor.prepare(files, 1 << 30));
    }
}
