//! `--take embedding` on folders of sentence-transformers, against what its `encode()` gives
//! (`tools/sentences/goldens.py`), and what is said and refused on the way.

use std::collections::BTreeMap;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

use super::place::Place;

/// Drawn folders with what the reference makes of the texts beside them.
const FOLDERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sentences/folders");
const RUN: [&str; 8] = [
    "run",
    "model",
    "--input",
    "in.jsonl",
    "--out",
    "out",
    "--compute",
    "f32",
];

/// The embeddings of a run by the ids of the records; none where a record has no tokens.
pub fn embeddings(place: &Place) -> BTreeMap<String, Option<Vec<f64>>> {
    let file = fs_err::File::open(place.path("out/embeddings.parquet")).unwrap();
    let reader = SerializedFileReader::new(file.into_file()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| {
        let column = |name: &str| {
            let mut columns = row.get_column_iter();
            columns.find(|(found, _)| *found == name).unwrap().1
        };
        let Field::Str(id) = column("id") else {
            panic!("{row:?}");
        };
        let vector = match column("embedding") {
            Field::Null => None,
            Field::ListInternal(list) => {
                let values = list.elements().iter().map(|value| match value {
                    Field::Float(value) => f64::from(*value),
                    other => panic!("{other:?}"),
                });
                Some(values.collect())
            }
            other => panic!("{other:?}"),
        };
        (id.clone(), vector)
    })
    .collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// How far two vectors are apart, in parts of the largest number.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-3_f64, |most, value| most.max(value.abs()));
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f64::max) / largest
}

#[test]
fn folders_of_all_versions_embed_as_the_reference_does() {
    let texts = read(&Path::new(FOLDERS).join("texts.json"));
    let texts = texts.as_array().unwrap();
    let lines = texts
        .iter()
        .map(|text| format!("{}\n", json!({"text": text})));
    let lines: String = lines.collect();
    let mut compared = 0;
    for entry in fs_err::read_dir(FOLDERS).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let expected = read(&folder.join("expected.json"));
        let place = Place::new();
        place.write("in.jsonl", &lines);
        let model = folder.join("model").display().to_string();
        let mut run = RUN.to_vec();
        run[1] = &model;
        run.extend(["--take", "embedding"]);
        if let Some(prompt) = expected["prompt"].as_str() {
            run.extend(["--prompt", prompt]);
        }
        place.sli(&run).success();
        let found = embeddings(&place);
        for (number, vector) in expected["embeddings"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let found = &found[&number.to_string()];
            let expected = vector.as_array().map(|values| {
                let values = values.iter().map(|value| value.as_f64().unwrap());
                values.collect::<Vec<f64>>()
            });
            assert_eq!(found.is_some(), expected.is_some(), "{model}: {number}");
            if let (Some(found), Some(expected)) = (found, &expected) {
                let apart = distance(found, expected);
                assert!(apart < 5e-5, "{model}: text {number} is off by {apart}");
            }
            compared += 1;
        }
        let manifest = read(&place.path("out/run.json"));
        assert_eq!(manifest["records_cut"], expected["cut"], "{model}");
    }
    assert!(compared >= 8 * texts.len(), "{compared} texts compared");
}

/// A tiny llama whose folder lists a pooling and what is given.
fn with_modules(more: &[(&str, &str)]) -> Place {
    let place = Place::with_llama();
    let of = |class: &str, path: &str| json!({"type": format!("sentence_transformers.models.{class}"), "path": path});
    let mut modules = vec![of("Transformer", ""), of("Pooling", "1_Pooling")];
    modules.extend(more.iter().map(|(class, path)| of(class, path)));
    place.write("model/modules.json", json!(modules).to_string());
    place.write("model/1_Pooling/config.json", r#"{"pooling_mode": "mean"}"#);
    place.write("in.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    place
}

fn take(place: &Place, take: &str, more: &[&str]) -> super::place::Outcome {
    place.sli(&[&RUN[..], &["--fresh", "--take", take], more].concat())
}

#[test]
fn a_named_pooling_is_the_transformers_part_alone() {
    let place = with_modules(&[("Normalize", "2_Normalize")]);
    let length = |vector: &[f64]| vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let of = |named: &str| {
        take(&place, named, &[]).success();
        embeddings(&place).remove("0").unwrap().unwrap()
    };
    let (whole, mean) = (of("embedding"), of("embedding:mean"));
    assert!((length(&whole) - 1.0).abs() < 1e-6);
    let scaled: Vec<f64> = whole.iter().map(|x| x * length(&mean)).collect();
    assert!((length(&mean) - 1.0).abs() > 1e-3 && distance(&scaled, &mean) < 1e-6);
}

#[test]
fn a_plain_folder_is_pooled_by_the_name_of_its_class() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4, 5]}\n");
    let of = |named: &str| {
        take(&place, named, &[]).success();
        embeddings(&place)
    };
    let (last, mean) = (of("embedding:last"), of("embedding:mean"));
    assert_ne!(last, mean);
    let mut config = read(&place.path("model/config.json"));
    config["architectures"] = json!(["LlamaForCausalLM"]);
    place.write("model/config.json", config.to_string());
    assert_eq!(of("embedding"), last);
    config.as_object_mut().unwrap().remove("architectures");
    place.write("model/config.json", config.to_string());
    assert_eq!(of("embedding"), mean);
}

#[test]
fn what_is_cut_is_said_and_the_user_decides() {
    let place = with_modules(&[]);
    place.write(
        "in.jsonl",
        "{\"text\": \"the cat sat\"}\n{\"text\": \"the\"}\n{\"input_ids\": [3, 4, 5]}\n",
    );
    place.write(
        "model/sentence_bert_config.json",
        r#"{"max_seq_length": 2}"#,
    );
    let cut = |outcome: super::place::Outcome| {
        let outcome = outcome.success();
        let manifest = read(&place.path("out/run.json"));
        (outcome.stderr.clone(), manifest["records_cut"].as_u64())
    };
    let (said, count) = cut(take(&place, "embedding", &[]));
    assert_eq!(count, Some(1), "{said}");
    for says in [
        "1 record to 2 tokens (`max_seq_length` of sentence_bert_config.json)",
        "records given as tokens are longer than 2 tokens (`max_seq_length` of sentence_bert_config.json) (1 in all)",
    ] {
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(cut(take(&place, "embedding", &["--allow-long"])).1, Some(0));
    assert_eq!(cut(take(&place, "embedding:mean", &[])).1, Some(0));
    let (said, count) = cut(take(&place, "embedding", &["--max-length", "1"]));
    assert_eq!(count, Some(3), "{said}");
    assert!(
        said.contains("3 records to 1 token (--max-length)"),
        "{said}"
    );
}

#[test]
fn prompts_are_chosen_by_name() {
    let place = with_modules(&[]);
    place.write("in.jsonl", "{\"text\": \"sat\"}\n");
    let settings = |default: Value| {
        let prompts = json!({"letters": "the cat ", "none": ""});
        let settings = json!({"prompts": prompts, "default_prompt_name": default});
        place.write(
            "model/config_sentence_transformers.json",
            settings.to_string(),
        );
    };
    let of = |more: &[&str]| {
        take(&place, "embedding", more).success();
        embeddings(&place)
    };
    settings(Value::Null);
    let bare = of(&[]);
    let prompted = of(&["--prompt", "letters"]);
    assert_ne!(bare, prompted);
    assert_eq!(of(&["--prompt", "none"]), bare);
    assert_eq!(of(&["--prompt", "query"]), bare);
    settings(json!("letters"));
    assert_eq!(of(&[]), prompted);
    assert_eq!(of(&["--prompt", ""]), bare);
    take(&place, "embedding", &["--prompt", "letter"]).failure(3, &["`letters`", "--prompt"]);
    take(&place, "embedding:mean", &["--prompt", "letters"]).failure(2, &["--prompt"]);
    // It is part of what the results depend on.
    let again = [&RUN[..], &["--take", "embedding"]].concat();
    place
        .sli(&again)
        .failure(3, &["belongs to another run", "prompt"]);
    place.write(
        "in.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"sat\"}]}\n",
    );
    take(&place, "embedding", &[]).failure(3, &["`letters`", "`messages`", "--prompt ''"]);
}

#[test]
fn modules_that_cannot_be_followed_are_3() {
    let place = with_modules(&[("Dense", "2_Dense")]);
    let refused = |says: &[&str]| {
        let says = [says, &["--take embedding:mean"]].concat();
        take(&place, "embedding", &[]).failure(3, &says);
    };
    refused(&["`2_Dense/config.json` is missing"]);
    let hidden = read(&place.path("model/config.json"))["hidden_size"]
        .as_u64()
        .unwrap();
    let dense = |width: u64, activation: &str| {
        let dense =
            json!({"in_features": width, "out_features": 2, "activation_function": activation});
        place.write("model/2_Dense/config.json", dense.to_string());
    };
    dense(hidden, "torch.nn.modules.activation.Tanh");
    refused(&["2_Dense/model.safetensors", "missing"]);
    place.write("model/2_Dense/pytorch_model.bin", "x");
    take(&place, "embedding", &[]).failure(3, &["2_Dense", "pytorch_model.bin", "is not read"]);
    fs_err::remove_file(place.path("model/2_Dense/pytorch_model.bin")).unwrap();
    fs_err::copy(
        place.path("model/model.safetensors"),
        place.path("model/2_Dense/model.safetensors"),
    )
    .unwrap();
    take(&place, "embedding", &[]).failure(3, &["2_Dense", "`linear.weight`"]);
    dense(hidden, "mine.Tanh");
    refused(&["\"mine.Tanh\""]);
    dense(hidden + 1, "torch.nn.modules.activation.Tanh");
    refused(&["`in_features`"]);
    for (class, says) in [
        ("custom.Pooling", "code of its own"),
        ("sentence_transformers.models.CNN", "`CNN`"),
    ] {
        let modules = json!([
            {"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": class, "path": "1_Pooling"},
        ]);
        place.write("model/modules.json", modules.to_string());
        refused(&[class.rsplit('.').next().unwrap(), says]);
    }
    take(&place, "embedding:mean", &[]).success();
}

#[test]
fn settings_that_change_numbers_are_3() {
    let place = with_modules(&[]);
    let file = "model/sentence_bert_config.json";
    for (settings, says) in [
        (r#"{"config_args": {"is_causal": false}}"#, "`is_causal`"),
        (r#"{"transformer_task": "fill-mask"}"#, "`transformer_task`"),
        (
            r#"{"tokenizer_args": {"do_lower_case": true}}"#,
            "`do_lower_case`",
        ),
    ] {
        place.write(file, settings);
        take(&place, "embedding", &[]).failure(3, &[file, says, "--take embedding:mean"]);
    }
    place.write(file, "{}");
    let settings = r#"{"model_type": "SparseEncoder"}"#;
    place.write("model/config_sentence_transformers.json", settings);
    let said = take(&place, "embedding", &[]).success().stderr.clone();
    assert!(said.contains("SparseEncoder"), "{said}");
}

#[test]
fn the_transformer_may_be_in_a_folder_of_its_own() {
    let place = with_modules(&[("Normalize", "2_Normalize")]);
    take(&place, "embedding", &[]).success();
    let flat = embeddings(&place);
    fs_err::create_dir(place.path("model/0_Transformer")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let (from, to) = (
            format!("model/{name}"),
            format!("model/0_Transformer/{name}"),
        );
        fs_err::rename(place.path(&from), place.path(&to)).unwrap();
    }
    let modules = fs_err::read_to_string(place.path("model/modules.json")).unwrap();
    let modules = modules.replacen("\"path\":\"\"", "\"path\":\"./0_Transformer/\"", 1);
    place.write("model/modules.json", modules);
    take(&place, "embedding", &[]).success();
    assert_eq!(embeddings(&place), flat);
    place.sli(&["inspect", "model"]).success();
    place
        .sli(&["plan", "model", "--input", "in.jsonl"])
        .success();
    // Every file that was read is part of what the results depend on.
    let key = read(&place.path("out/run.json"))["key"].to_string();
    for name in [
        "0_Transformer/config.json",
        "1_Pooling/config.json",
        "modules.json",
    ] {
        assert!(key.contains(name), "{key}");
    }
    place.write("model/1_Pooling/config.json", r#"{"pooling_mode": "cls"}"#);
    let again = [&RUN[..], &["--take", "embedding"]].concat();
    place
        .sli(&again)
        .failure(3, &["belongs to another run", "1_Pooling/config.json"]);
}
