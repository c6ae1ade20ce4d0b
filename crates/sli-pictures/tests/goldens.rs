//! Prepared pictures against numbers of transformers (`tools/pictures/goldens.py`).

mod support;

use serde_json::Value;
use sli_pictures::{ImageProcessor, Tensor, Values};
use support::{drawn, png};

/// How far a number may be from the reference's, relative to 1: it is the same arithmetic.
const NEAR: f64 = 2e-6;

#[test]
fn every_class_as_in_transformers() {
    let goldens: Vec<Value> = serde_json::from_str(include_str!("goldens.json")).unwrap();
    let mut seen = Vec::new();
    for golden in &goldens {
        let class = golden["class"].as_str().unwrap();
        let what = format!("{class} {} {}", golden["settings"], golden["record"]);
        let mut settings = golden["settings"].as_object().unwrap().clone();
        settings.insert("image_processor_type".into(), class.into());
        let sizes = golden["record"].as_array().unwrap().iter();
        let side = |size: &Value, at: usize| u32::try_from(size[at].as_u64().unwrap()).unwrap();
        let files: Vec<Vec<u8>> = sizes
            .map(|size| png(&drawn(side(size, 0), side(size, 1))))
            .collect();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let prepared = ImageProcessor::new(settings, None)
            .map_err(|error| error.to_string())
            .and_then(|processor| {
                let prepared = processor.prepare(&files, 1 << 30);
                prepared.map_err(|(at, error)| format!("picture {at}: {error}"))
            });
        seen.push(class);
        let Some(expected) = golden["tensors"].as_object() else {
            assert!(prepared.is_err(), "{what} is refused");
            continue;
        };
        let prepared = prepared.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut names: Vec<&str> = prepared.tensors.iter().map(|tensor| tensor.name).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            expected.keys().map(String::as_str).collect::<Vec<_>>(),
            "{what}"
        );
        for tensor in &prepared.tensors {
            compare(&what, tensor, &expected[tensor.name]);
        }
    }
    seen.dedup();
    assert_eq!(seen, sli_pictures::classes().collect::<Vec<_>>());
}

fn compare(what: &str, tensor: &Tensor, expected: &Value) {
    let name = tensor.name;
    let list = |value: &Value| {
        value.as_array().map(|all| {
            all.iter()
                .map(|one| one.as_f64().expect("a number"))
                .collect::<Vec<_>>()
        })
    };
    let shape: Vec<f64> = tensor.shape.iter().map(|&axis| axis as f64).collect();
    assert_eq!(Some(shape), list(&expected["shape"]), "{what}: {name}");
    let values: Vec<f64> = match &tensor.values {
        Values::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Values::I64(values) => values.iter().map(|&value| value as f64).collect(),
    };
    assert_eq!(
        values.len(),
        tensor.shape.iter().product::<usize>(),
        "{what}: {name}"
    );
    if let Some(all) = list(&expected["all"]) {
        assert_eq!(values, all, "{what}: {name}");
        return;
    }
    let near = |one: f64, other: f64, scale: f64| (one - other).abs() <= NEAR * scale.max(1.0);
    let sums = list(&expected["sums"]).expect("numbers");
    let squares: f64 = values.iter().map(|value| value * value).sum();
    let size: f64 = values.iter().map(|value| value.abs()).sum();
    assert!(
        near(values.iter().sum(), sums[0], size),
        "{what}: sum of {name}"
    );
    assert!(near(squares, sums[1], squares), "{what}: squares of {name}");
    let some = list(&expected["some"]).expect("numbers");
    let last = values.len() - 1;
    for (at, &value) in some.iter().enumerate() {
        let place = if some.len() == 1 {
            0
        } else {
            at * last / (some.len() - 1)
        };
        assert!(
            near(values[place], value, value.abs()),
            "{what}: {name} at {place}: {}, not {value}",
            values[place]
        );
    }
}
