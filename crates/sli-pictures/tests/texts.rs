//! Texts with placeholders of pictures against what transformers' processors make of them (`tools/pictures/processors.py`).

mod support;

use serde_json::Value;
use sli_pictures::{Files, PlaceholderError, Processor};
use support::{drawn, png};

/// The processor of a case.
fn processor(case: &Value) -> Processor {
    let mut keys = case["keys"].as_object().expect("keys").clone();
    keys.insert("processor_class".into(), case["class"].clone());
    let (preprocessor, keys) = (case["images"].to_string(), Value::Object(keys).to_string());
    let named = |name: &str| {
        // Those that every tokenizer of the cases has.
        let usual = match name {
            "bos_token" => Some("<bos>"),
            "sep_token" => Some("<sep>"),
            _ => None,
        };
        case["named"][name]
            .as_str()
            .or(usual)
            .map(ToOwned::to_owned)
    };
    let files = Files {
        preprocessor: Some(&preprocessor),
        processor: Some(&keys),
        ..Files::default()
    };
    Processor::read(files, &named).unwrap_or_else(|error| panic!("{case}: {error}"))
}

#[test]
fn every_class_as_in_transformers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("texts.json")).unwrap();
    let mut classes = Vec::new();
    for case in &cases {
        let processor = processor(case);
        let placeholders = processor.placeholders.as_ref().expect("placeholders");
        let side = |size: &Value, at: usize| {
            u32::try_from(size[at].as_u64().expect("a side")).expect("a side")
        };
        let sizes = case["record"].as_array().unwrap().iter();
        let files: Vec<Vec<u8>> = sizes
            .map(|size| png(&drawn(side(size, 0), side(size, 1))))
            .collect();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let prepared = processor.images.prepare(&files, 1 << 30);
        let prepared = prepared.unwrap_or_else(|(_, error)| panic!("{case}: {error}"));
        let text = case["text"].as_str().unwrap();
        let expanded = placeholders.expand(text, &prepared.pictures, 1 << 20);
        assert_eq!(
            expanded.as_deref(),
            Ok(case["expanded"].as_str().unwrap()),
            "{} {} {}",
            case["class"],
            case["images"],
            case["record"]
        );
        if let Some(count) = case["pictures"].as_u64() {
            let kinds = placeholders.kinds().expect("kinds");
            let marked = kinds
                .tokens
                .iter()
                .map(|token| case["expanded"].as_str().unwrap().matches(token).count());
            assert_eq!(marked.sum::<usize>() as u64, count, "{}", case["class"]);
        }
        let short = placeholders.expand(text, &prepared.pictures, 10);
        assert_eq!(short, Err(PlaceholderError::Long(10)));
        let more = format!("{text}{}", placeholders.token());
        let refused = placeholders.expand(&more, &prepared.pictures, 1 << 20);
        assert!(matches!(refused, Err(PlaceholderError::Count { .. })));
        classes.push(case["class"].as_str().unwrap());
    }
    classes.dedup();
    assert!(classes.len() >= 20, "{classes:?}");
}

#[test]
fn what_files_do_not_say() {
    let read = |processor: &str, preprocessor: &str| {
        let files = Files {
            preprocessor: Some(preprocessor),
            processor: Some(processor),
            ..Files::default()
        };
        Processor::read(files, &|_| None)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let clip = r#"{"image_processor_type": "CLIPImageProcessor"}"#;
    for (processor, says) in [
        (r#"{"processor_class": "NoProcessor"}"#, "`NoProcessor`"),
        (
            r#"{"processor_class": "LlavaProcessor"}"#,
            "`patch_size` of LlavaProcessor",
        ),
        (
            r#"{"processor_class": "LlavaProcessor", "patch_size": -1}"#,
            "a whole number",
        ),
        (r#"{"processor_class": "Gemma3Processor"}"#, "key"),
        (r#"{"processor_class": "InternVLProcessor"}"#, "key"),
    ] {
        let error = read(processor, clip).expect_err(processor);
        assert!(
            error.contains(says) || says == "key" && error.contains('`'),
            "{error}"
        );
    }
    assert_eq!(
        read(r#"{"processor_class": "CLIPProcessor"}"#, clip),
        Ok(())
    );
    // A switch that the class puts over the file.
    let gemma = r#"{"image_processor_type": "Gemma3ImageProcessor", "do_pan_and_scan": true}"#;
    assert!(
        read(r#"{"processor_class": "Gemma3Processor"}"#, gemma)
            .is_err_and(|error| error.contains("boi_token"))
    );
}
