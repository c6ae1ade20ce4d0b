//! `sli verify`: our numbers beside those of a reference.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sli_testing::{Golden, Stored};

use crate::place::{Outcome, Place};
use crate::seeing::recorded;

/// What transformers computes of the embedded model, by `tools/verify/expected.py`.
const EXPECTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/verify/embedded.safetensors"
);
const EMBEDDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/embedded");

/// A safetensors file, taken apart.
struct File {
    header: Value,
    data: Vec<u8>,
}

impl File {
    fn read() -> Self {
        Self::open(EXPECTED)
    }

    fn open(path: &str) -> Self {
        let file = fs_err::read(path).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&file[8..8 + length]).unwrap(),
            data: file[8 + length..].to_vec(),
        }
    }

    fn facts(&self) -> Value {
        let facts = self.header["__metadata__"]["sli.verify"].as_str().unwrap();
        serde_json::from_str(facts).unwrap()
    }

    fn set_facts(&mut self, facts: &Value) {
        self.header["__metadata__"]["sli.verify"] = facts.to_string().into();
    }

    /// The place in the data of a value of a tensor.
    fn place(&self, name: &str, value: usize) -> usize {
        self.header[name]["data_offsets"][0].as_u64().unwrap() as usize + 4 * value
    }

    fn set(&mut self, name: &str, value: usize, number: f32) {
        let place = self.place(name, value);
        self.data[place..place + 4].copy_from_slice(&number.to_le_bytes());
    }

    fn write(&self, place: &Place) {
        let mut header = self.header.to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(&self.data);
        place.write("expected.safetensors", file);
    }
}

fn verify(place: &Place, model: &str, against: &str, more: &[&str]) -> Outcome {
    let verify = ["verify", model, "--against", against];
    place.sli(&[&verify[..], more].concat())
}

fn receipt(place: &Place) -> Value {
    serde_json::from_slice(&fs_err::read(place.path("receipt.json")).unwrap()).unwrap()
}

#[test]
fn the_embedded_model_gives_what_the_reference_gave() {
    let place = Place::new();
    let outcome = verify(&place, EMBEDDED, EXPECTED, &["--json"]).success();
    let receipt = receipt(&place);
    assert_eq!(
        serde_json::from_str::<Value>(&outcome.stdout).unwrap(),
        receipt
    );
    assert_eq!(receipt["passed"], true);
    assert_eq!(receipt["model_type"], "llama");
    assert_eq!(receipt["reference"]["by"], "LlamaForCausalLM");
    assert_eq!(receipt["reference"]["versions"]["transformers"], "5.23.0");
    assert_eq!(receipt["ours"]["dtype"], "f32");
    assert_eq!(receipt["tolerance"]["relative_error"], 1e-4);
    assert_eq!(receipt["files"][0]["name"], "model.safetensors");
    assert_eq!(receipt["files"][0]["is_expected"], true);
    assert_eq!(receipt["records"], 2);
    let places = receipt["places"].as_array().unwrap();
    let names: Vec<&str> = places
        .iter()
        .map(|at| at["place"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "decoder layer 0",
            "decoder layer 3",
            "decoder end",
            "logits"
        ]
    );
    // Not by chance.
    let worst = receipt["worst"]["relative_error"].as_f64().unwrap();
    assert!(0.0 < worst && worst < 2e-5, "{worst}");
    assert!(outcome.stderr.contains("passed"), "{outcome:?}");
    // Half of what is there is not enough for nothing.
    verify(&place, EMBEDDED, EXPECTED, &["--tolerance", "0"]).failure(1, &["0e0 is allowed"]);
}

#[test]
fn a_wrong_number_fails_and_is_named() {
    let place = Place::new();
    let mut file = File::read();
    let rows = &file.facts()["rows"]["1.hidden.003"];
    assert_eq!(*rows, json!([0, 4]));
    // The last row, feature 7 of 192.
    let before = file.place("1.hidden.003", 192 + 7);
    let before = f32::from_le_bytes(file.data[before..before + 4].try_into().unwrap());
    file.set("1.hidden.003", 192 + 7, before + 0.5);
    file.write(&place);
    let says = [
        "not those of the reference",
        "decoder layer 3, record `1`, token 4",
        "1e-4 is allowed",
    ];
    verify(&place, EMBEDDED, "expected.safetensors", &[]).failure(1, &says);
    let receipt = receipt(&place);
    assert_eq!(receipt["passed"], false);
    let worst = &receipt["worst"];
    assert_eq!(worst["place"], "decoder layer 3");
    assert_eq!(
        (&worst["record"], &worst["token"], &worst["feature"]),
        (&json!("1"), &json!(4), &json!(7))
    );
    let off = worst["expected"].as_f64().unwrap() - worst["ours"].as_f64().unwrap();
    assert!((off - 0.5).abs() < 1e-3, "{off}");
    // What is off by so much may be allowed.
    verify(
        &place,
        EMBEDDED,
        "expected.safetensors",
        &["--tolerance", "0.9"],
    )
    .success();
}

#[test]
fn what_a_model_sees_is_in_the_file_of_what_is_expected() {
    let place = recorded("llava");
    let verify = |against: &str| {
        fs_err::remove_file(place.path("receipt.json")).ok();
        verify(&place, "model", against, &["--other-weights"])
    };
    let expected = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/verify/llava.safetensors"
    );
    verify(expected).success();
    let whole = receipt(&place);
    assert_eq!(
        (&whole["passed"], &whole["records"]),
        (&json!(true), &json!(3))
    );
    let places = whole["places"].as_array().unwrap();
    assert!(
        places.len() >= 4 && places[0]["place"] == "decoder layer 0",
        "{whole}"
    );
    // Other pictures are other numbers, from where they enter on.
    let mut file = File::open(expected);
    for value in 0..32 * 32 {
        file.set("0.tensors.pixel_values", value, 0.5);
    }
    file.write(&place);
    verify("expected.safetensors").failure(1, &["record `0`"]);
    let other = receipt(&place);
    assert!(
        other["places"][0]["relative_error"].as_f64() > Some(0.1),
        "{other}"
    );
    // Of a record that is not there, and of another shape.
    let mut other = File::open(expected);
    let pixels = other.header["0.tensors.pixel_values"].take();
    other
        .header
        .as_object_mut()
        .unwrap()
        .remove("0.tensors.pixel_values");
    other.header["9.tensors.pixel_values"] = pixels.clone();
    other.write(&place);
    verify("expected.safetensors").failure(3, &["of the record `9`, which it does not have"]);
    other.header["0.tensors.pixel_values"] = pixels;
    other
        .header
        .as_object_mut()
        .unwrap()
        .remove("9.tensors.pixel_values");
    other.header["0.tensors.pixel_values"]["shape"] = json!([1, 3, 16, 64]);
    other.write(&place);
    verify("expected.safetensors").failure(3, &["expected.safetensors", "pixel_values"]);
}

/// What a golden has of the reference, as JSON.
fn plain(golden: &Golden, name: &str, class: &str) -> Value {
    let mut tensors = serde_json::Map::new();
    let mut records = Vec::new();
    for record in golden.records() {
        let mut facts = json!({"id": record.id, "input_ids": record.input_ids});
        if let Some(types) = &record.token_type_ids {
            facts["token_type_ids"] = json!(types);
        }
        if let Some(ids) = &record.decoder_input_ids {
            facts["decoder_input_ids"] = json!(ids);
        }
        records.push(facts);
        for (place, expected) in golden.expectations(&record.id) {
            let place = place.replace(".norm", ".end");
            let is_state = place.starts_with("hidden.") || place == "logits";
            if let ([rows, columns], true) = (&expected.shape[..], is_state) {
                let tensor = json!({"shape": [rows, columns], "values": expected.values});
                tensors.insert(format!("{}.{place}", record.id), tensor);
            }
        }
    }
    assert!(tensors.len() > 4);
    let facts = json!({
        "format": 1,
        "model_type": name,
        "class": class,
        "dtype": "float32",
        "versions": {},
        "files": {},
        "records": records,
    });
    json!({"facts": facts, "tensors": tensors})
}

#[test]
fn goldens_as_json_pass() {
    for name in ["llama", "t5", "mixtral", "bert"] {
        let place = Place::new();
        let golden = Golden::open(name);
        golden.write(&place.path("model"), Stored::F32);
        place.write(
            "expected.json",
            plain(&golden, name, "of a golden").to_string(),
        );
        verify(&place, "model", "expected.json", &["--other-weights"]).success();
        assert_eq!(receipt(&place)["files"][0]["is_expected"], Value::Null);
        verify(&place, "model", "expected.json", &[])
            .failure(3, &["another checkpoint", "--other-weights"]);
    }
}

#[test]
fn other_models_and_other_weights_are_refused() {
    let place = Place::new();
    let mut file = File::read();
    let facts = file.facts();
    let attack = |file: &mut File, facts: &Value, says: &[&str]| {
        file.set_facts(facts);
        file.write(&place);
        verify(&place, EMBEDDED, "expected.safetensors", &[]).failure(3, says);
        assert!(!place.path("receipt.json").exists());
    };
    let mut changed = facts.clone();
    changed["model_type"] = "mistral".into();
    attack(
        &mut file,
        &changed,
        &["another checkpoint", "`mistral`", "`llama`"],
    );
    let mut changed = facts.clone();
    changed["files"]["model.safetensors"]["sha256"] = "00".repeat(32).into();
    attack(
        &mut file,
        &changed,
        &["another checkpoint", "sha256", "0000"],
    );
    let mut changed = facts;
    changed["files"] = json!({"pytorch_model.bin": {"bytes": 1, "sha256": "00"}});
    attack(
        &mut file,
        &changed,
        &["the reference read no `model.safetensors`"],
    );
}

/// A change of the facts, and what is said of it.
type Attack = (fn(&mut Value), &'static str);

#[test]
fn files_that_lie_are_refused() {
    let place = Place::new();
    let refused = |file: &File, says: &str| {
        file.write(&place);
        verify(&place, EMBEDDED, "expected.safetensors", &[])
            .failure(3, &[says, "expected.safetensors"]);
    };
    let mut file = File::read();
    let facts = file.facts();
    let attacks: [Attack; 13] = [
        (|facts| facts["format"] = 2.into(), "its format is 2"),
        (|facts| facts["more"] = 1.into(), "unknown field `more`"),
        (
            |facts| facts["dtype"] = "int8".into(),
            "unknown variant `int8`",
        ),
        (|facts| facts["records"] = json!([]), "it has no records"),
        (|facts| facts["records"][1]["id"] = "0".into(), "repeated"),
        (
            |facts| facts["records"][0]["input_ids"] = json!([]),
            "has no tokens",
        ),
        (
            |facts| facts["records"][0]["input_ids"] = json!([-1]),
            "invalid value",
        ),
        (
            |facts| facts["records"][0]["input_ids"] = json!([9_999_999]),
            "9999999",
        ),
        (
            |facts| facts["rows"]["1.logits"] = json!([0]),
            "has 2 rows, and 1 are named",
        ),
        (
            |facts| facts["rows"]["1.logits"] = json!([0, 5]),
            "is of token 5, of 5",
        ),
        (
            |facts| facts["rows"]["1.logits"] = json!([0, u64::MAX]),
            "is of token 18446744073709551615",
        ),
        (
            |facts| facts["rows"]["2.logits"] = json!([0]),
            "rows of `2.logits`",
        ),
        (
            |facts| drop(facts["rows"].as_object_mut().unwrap().remove("1.logits")),
            "it has 2 rows, the model's has 5",
        ),
    ];
    for (change, says) in attacks {
        let mut changed = facts.clone();
        change(&mut changed);
        file.set_facts(&changed);
        refused(&file, says);
    }
    // Values that are none.
    for (number, says) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut file = File::read();
        file.set("0.logits", 5, number);
        refused(&file, says);
    }
    // Names, shapes and lengths.
    let renamed = |to: &str, says: &str| {
        let mut file = File::read();
        let mut facts = file.facts();
        let tensor = file
            .header
            .as_object_mut()
            .unwrap()
            .remove("0.logits")
            .unwrap();
        file.header[to] = tensor;
        let rows = facts["rows"]
            .as_object_mut()
            .unwrap()
            .remove("0.logits")
            .unwrap();
        facts["rows"][to] = rows;
        file.set_facts(&facts);
        refused(&file, says);
    };
    renamed("7.logits", "a record that it does not have");
    renamed("0.weights", "is not the name of a tensor");
    renamed("0.hidden.+3", "is not the name of a tensor");
    renamed("0.hidden.007", "the decoder has 6 layers");
    renamed("0.hidden.encoder.001", "no stack `encoder`");
    renamed("0.hidden.001", "it is 4096 wide, the model's is 192");
    let mut file = File::read();
    file.header["0.logits"]["shape"] = json!([8192]);
    refused(&file, "has not two dimensions");
    let mut file = File::read();
    file.header["0.logits"]["shape"] = json!([2, 4_000_000_000_000_u64]);
    refused(&file, "0.logits");
    let mut file = File::read();
    file.data.truncate(100);
    refused(&file, "");
    let mut file = File::read();
    file.header.as_object_mut().unwrap().remove("__metadata__");
    refused(&file, "has no `sli.verify`");
    let mut bytes = fs_err::read(EXPECTED).unwrap();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    place.write("expected.safetensors", bytes);
    verify(&place, EMBEDDED, "expected.safetensors", &[]).failure(3, &["expected.safetensors"]);
}

#[test]
fn files_of_json_that_lie_are_refused() {
    let place = Place::new();
    let golden = Golden::open("llama");
    golden.write(&place.path("model"), Stored::F32);
    let whole = plain(&golden, "llama", "of a golden");
    let refused = |text: String, says: &str| {
        place.write("expected.json", text);
        let outcome = verify(&place, "model", "expected.json", &["--other-weights"]);
        outcome.failure(3, &[says, "expected.json"]);
    };
    let mut changed = whole.clone();
    changed["tensors"]["0.logits"]["shape"] = json!([3, u64::MAX]);
    refused(changed.to_string(), "values, not 3 x");
    let mut changed = whole.clone();
    changed["tensors"]["0.logits"]["values"][0] = Value::Null;
    refused(changed.to_string(), "invalid type: null");
    let mut changed = whole.clone();
    changed["tensors"] = json!({});
    refused(changed.to_string(), "no tensors");
    let text = whole.to_string();
    refused(
        text.replacen("\"values\":[", "\"values\":[1e999,", 1),
        "out of range",
    );
    refused(
        text.replacen("\"values\":[", "\"values\":[NaN,", 1),
        "expected value",
    );
    refused(text[..text.len() / 2].to_owned(), "EOF");
    refused(String::new(), "EOF");
    refused("[".repeat(100_000), "");
    let mut changed = whole.clone();
    changed["tensors"] = json!({"0.logits": {"shape": [0, 160], "values": []}});
    changed["facts"]["rows"] = json!({"0.logits": []});
    refused(changed.to_string(), "`0.logits` is empty");
    let outcome = verify(&place, "model", "absent.json", &[]);
    outcome.failure(3, &["absent.json"]);
}

/// The receipt goes where it is told to.
#[test]
fn the_receipt_goes_where_it_is_told_to() {
    let place = Place::new();
    let path: PathBuf = place.path("folder/other.json");
    let told = ["--receipt", "folder/other.json"];
    verify(&place, EMBEDDED, EXPECTED, &told).failure(5, &["folder/other.json"]);
    fs_err::create_dir(path.parent().unwrap_or(Path::new(""))).unwrap();
    verify(&place, EMBEDDED, EXPECTED, &told).success();
    assert!(path.exists() && !place.path("receipt.json").exists());
    // Over one of before, but over nothing else.
    verify(&place, EMBEDDED, EXPECTED, &told).success();
    place.write("mine.json", "{}");
    let told = ["--receipt", "mine.json"];
    verify(&place, EMBEDDED, EXPECTED, &told).failure(2, &["is no receipt"]);
    verify(&place, EMBEDDED, EXPECTED, &["--max-length", "2"]).failure(2, &["would cut"]);
}

/// What a kill leaves is gone on with; a whole run whose receipt was not written yet is not done again.
#[test]
fn an_interrupted_one_goes_on() {
    let place = Place::new();
    verify(&place, EMBEDDED, EXPECTED, &[]).success();
    let whole = receipt(&place);
    assert!(!place.path("receipt.json.work").exists());
    fs_err::remove_file(place.path("receipt.json")).unwrap();
    // The folder of a run that was finished, and no receipt.
    let mut file = File::read();
    file.set("0.logits", 5, f32::NAN);
    file.write(&place);
    verify(&place, EMBEDDED, "expected.safetensors", &[]).failure(3, &["NaN"]);
    assert!(place.path("receipt.json.work/run/run.json").exists());
    verify(&place, EMBEDDED, EXPECTED, &[]).success();
    assert_eq!(receipt(&place), whole);
    // Of other records: nothing is mixed.
    verify(&place, EMBEDDED, "expected.safetensors", &[]).failure(3, &["NaN"]);
    let mut facts = file.facts();
    facts["records"][1]["input_ids"][0] = 7.into();
    let mut file = File::read();
    file.set_facts(&facts);
    file.write(&place);
    let outcome = verify(&place, EMBEDDED, "expected.safetensors", &[]);
    outcome.failure(3, &["--fresh"]);
    verify(&place, EMBEDDED, "expected.safetensors", &["--fresh"]).failure(1, &["record `1`"]);
}
