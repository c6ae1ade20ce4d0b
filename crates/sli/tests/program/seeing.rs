//! Pictures of records: read from files, `data:` URIs and Parquet, prepared, and run.

use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Compression;
use arrow::array::{ArrayRef, AsArray, BinaryArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use serde_json::{Value, json};
use sli_pictures::{Files, Processor, Values};
use sli_testing::{Golden, Stored};

use crate::end_to_end::results;
use crate::exactness::read_parquet;
use crate::parquet::{lists, parquet};
use crate::place::Place;

/// A model that sees patches of 4 by 4 pixels.
fn pix2struct() -> Value {
    json!({"model_type": "pix2struct", "architectures": ["Pix2StructForConditionalGeneration"], "is_encoder_decoder": true,
           "is_vqa": false, "tie_word_embeddings": false,
           "text_config": {"model_type": "pix2struct_text_model", "vocab_size": 20, "hidden_size": 64, "d_ff": 96, "d_kv": 16,
                           "num_heads": 4, "num_layers": 1, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
                           "is_decoder": true, "tie_word_embeddings": false},
           "vision_config": {"model_type": "pix2struct_vision_model", "hidden_size": 64, "d_ff": 48, "d_kv": 16,
                             "num_attention_heads": 4, "num_hidden_layers": 1, "patch_embed_hidden_size": 48, "seq_len": 200}})
}

const PREPROCESSOR: &str = r#"{"image_processor_type": "Pix2StructImageProcessor", "patch_size": {"height": 4, "width": 4}}"#;

fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let numbers = (0..width * height * 3).map(|at| (at * (7 + seed) + at / 5 * 3) as u8);
    let numbers: Vec<u8> = numbers.collect();
    let mut file = Vec::new();
    PngEncoder::new(&mut file)
        .write_image(&numbers, width, height, image::ExtendedColorType::Rgb8)
        .expect("a PNG");
    file
}

/// A picture of one grey: a small file of many pixels.
fn plain(side: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let numbers = vec![7; (side * side) as usize];
    PngEncoder::new(&mut file)
        .write_image(&numbers, side, side, image::ExtendedColorType::L8)
        .expect("a PNG");
    file
}

fn place() -> Place {
    let place = Place::new();
    place.write_model("model", &pix2struct());
    place.write("model/preprocessor_config.json", PREPROCESSOR);
    place.write("data/pictures/a.png", png(30, 22, 0));
    place.write("data/b.png", png(9, 40, 1));
    place
}

fn command<'a>(input: &'a str, out: &'a str, take: &'a str) -> [&'a str; 8] {
    [
        "run", "model", "--input", input, "--out", out, "--take", take,
    ]
}

/// The safetensors file of what becomes of a picture.
fn prepared(file: &[u8]) -> Vec<u8> {
    let files = Files {
        preprocessor: Some(PREPROCESSOR),
        model_type: Some("pix2struct"),
        ..Files::default()
    };
    let processor = Processor::read(files, &|_| None).expect("a processor");
    let made = processor
        .images
        .prepare(&[file], 1 << 30)
        .expect("a picture");
    let tensor = &made.tensors[0];
    let Values::F32(values) = &tensor.values else {
        panic!("floats")
    };
    let header = json!({tensor.name: {"dtype": "F32", "shape": tensor.shape, "data_offsets": [0, 4 * values.len()]}});
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn scores(place: &Place, folder: &str) -> Vec<f64> {
    let table = read_parquet(&place.path(&format!("{folder}/scores.parquet")));
    let column = table.column_by_name("sum_logprob").expect("scores");
    column.as_primitive::<Float64Type>().values().to_vec()
}

#[test]
fn a_picture_is_the_same_however_it_is_given() {
    let place = place();
    let file = png(30, 22, 0);
    place.write("data/a.safetensors", prepared(&file));
    let encoded = STANDARD.encode(&file);
    let uri = format!("data:image/png;base64,{encoded}");
    let records = [
        json!({"id": "path", "images": ["pictures/a.png"], "decoder_input_ids": [2, 3, 4]}),
        json!({"id": "uri", "images": uri, "decoder_input_ids": [2, 3, 4]}),
        json!({"id": "base64", "images": [{"path": encoded}], "decoder_input_ids": [2, 3, 4]}),
        json!({"id": "tensors", "tensors": "a.safetensors", "decoder_input_ids": [2, 3, 4]}),
        json!({"id": "other", "images": ["b.png"], "decoder_input_ids": [2, 3, 4]}),
    ];
    place.write(
        "data/in.jsonl",
        records.map(|record| record.to_string() + "\n").concat(),
    );
    let run = command("data/in.jsonl", "out", "scores");
    place.sli(&run).success();
    let scores = scores(&place, "out");
    assert_eq!(scores.len(), 5);
    for same in &scores[..4] {
        assert_eq!(*same, scores[0]);
    }
    assert_ne!(scores[4], scores[0]);
    let structure = StructArray::from(vec![
        (
            Arc::new(Field::new("bytes", DataType::Binary, true)),
            Arc::new(BinaryArray::from(vec![Some(&file[..]), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("path", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["named.png", "b.png"])) as ArrayRef,
        ),
    ]);
    let columns: [(&str, ArrayRef); 2] = [
        ("images", Arc::new(structure)),
        (
            "decoder_input_ids",
            lists(&[Some(&[2, 3, 4]), Some(&[2, 3, 4])]),
        ),
    ];
    place.write(
        "data/in.parquet",
        parquet(&columns, Compression::SNAPPY, 1000),
    );
    let run = command("data/in.parquet", "table", "scores");
    place.sli(&run).success();
    let table = self::scores(&place, "table");
    assert_eq!(table.len(), 2);
    assert_ne!(table[0], table[1]);
}

#[test]
fn another_picture_is_another_run() {
    let place = place();
    place.write(
        "data/in.jsonl",
        "{\"images\": [\"b.png\"], \"decoder_input_ids\": [2, 3]}\n",
    );
    let run = command("data/in.jsonl", "out", "scores");
    place.sli(&run).success();
    place.sli(&run).success();
    place.write("data/b.png", png(9, 40, 2));
    place.sli(&run).failure(3, &["pictures was", "hint: "]);
}

#[test]
fn pictures_that_cannot_be_prepared() {
    let place = place();
    place.write("data/cut.png", &png(30, 22, 0)[..90]);
    place.write("data/x.gif", b"GIF89a");
    let run = command("data/in.jsonl", "out", "scores");
    for (record, says) in [
        (
            json!({"images": ["none.png"], "decoder_input_ids": [2, 3]}),
            "`none.png` is no file",
        ),
        (
            json!({"images": ["cut.png"], "decoder_input_ids": [2, 3]}),
            "picture 1: it is not a sound PNG file",
        ),
        (
            json!({"images": ["x.gif"], "decoder_input_ids": [2, 3]}),
            "it is GIF",
        ),
        (
            json!({"images": ["https://host/a.png"], "decoder_input_ids": [2, 3]}),
            "pictures are not fetched",
        ),
        (
            json!({"images": ["b.png", "pictures/a.png"], "decoder_input_ids": [2, 3]}),
            "the model wants",
        ),
        (
            json!({"images": ["b.png"], "tensors": "b.png"}),
            "beside pictures",
        ),
        (
            json!({"images": ["/dev/zero"], "decoder_input_ids": [2, 3]}),
            "not a regular file",
        ),
        (json!({"images": [3]}), "`images`: a picture is a path"),
    ] {
        place.write("data/in.jsonl", record.to_string() + "\n");
        let code = if says.starts_with("not a regular") {
            5
        } else {
            3
        };
        place.sli(&run).failure(code, &[says, "hint: "]);
    }
    place.write(
        "data/in.jsonl",
        "{\"images\": [\"b.png\"], \"decoder_input_ids\": [2, 3]}\n",
    );
    place.write(
        "model/preprocessor_config.json",
        PREPROCESSOR.replace("patch_size", "antialias"),
    );
    place.sli(&run).failure(
        3,
        &[
            "`antialias` of Pix2StructImageProcessor is not known here",
            "hint: ",
        ],
    );
    let llama = Place::with_llama();
    llama.write("in.jsonl", "{\"text\": \"the\", \"images\": [\"b.png\"]}\n");
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    llama
        .sli(&run)
        .failure(3, &["the model takes no `images`", "hint: "]);
}

/// The place of a folder of `tests/seeing`, with the model of the golden of its name.
pub fn recorded(name: &str) -> Place {
    let place = Place::new();
    fs_err::create_dir_all(place.path("model")).unwrap();
    Golden::open(name).write(&place.path("model"), Stored::F32);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeing");
    place.copy(&folder.join(name), "data");
    place.copy(&folder.join("pictures"), "pictures");
    for file in [
        "chat_template.jinja",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        place.write(
            &format!("model/{file}"),
            fs_err::read(folder.join(name).join(file)).unwrap(),
        );
    }
    let questions = folder.join(name).join("qformer_tokenizer");
    if questions.exists() {
        place.copy(&questions, "model/qformer_tokenizer");
    }
    place
}

/// The folders of `tests/seeing`, of which each is a case of `tools/pictures/cases.py`.
fn cases() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeing");
    let names = fs_err::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.into_string().unwrap()
    });
    let mut names: Vec<String> = names.filter(|name| name != "pictures").collect();
    names.sort();
    names
}

/// What differs of a case from what transformers gives.
fn unlike_transformers(name: &str) -> Vec<String> {
    let place = recorded(name);
    let run = command("data/in.jsonl", "out", "scores");
    let outcome = place.sli(&[&run[..], &["--allow-long"]].concat());
    if outcome.code != 0 {
        return vec![format!("{name}: {}", outcome.stderr)];
    }
    let expected = fs_err::read(place.path("data/expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let table = read_parquet(&place.path("out/scores.parquet"));
    let ids = table.column_by_name("id").unwrap().as_string::<i32>();
    let all = table.column_by_name("logprobs").unwrap().as_list::<i32>();
    assert_eq!(table.num_rows(), expected.as_object().unwrap().len());
    let mut unlike = Vec::new();
    for (row, id) in ids.iter().enumerate() {
        let id = id.unwrap();
        let found = all.value(row);
        // The first token has none.
        let found: Vec<f64> = found
            .as_primitive::<Float32Type>()
            .iter()
            .flatten()
            .map(f64::from)
            .collect();
        let wanted = expected[id]["logprobs"].as_array().unwrap();
        let wanted: Vec<f64> = wanted.iter().filter_map(Value::as_f64).collect();
        if found.len() != wanted.len() {
            unlike.push(format!(
                "{name}, {id}: {} tokens, not {}",
                found.len() + 1,
                wanted.len() + 1
            ));
            continue;
        }
        let differences = found
            .iter()
            .zip(&wanted)
            .map(|(found, wanted)| (found - wanted).abs());
        let most = differences.fold(0.0, f64::max);
        if most >= 1e-3 {
            unlike.push(format!(
                "{name}, {id}: {most} at most of {} tokens",
                found.len()
            ));
        }
    }
    unlike
}

#[test]
fn texts_with_pictures_as_in_transformers() {
    let unlike: Vec<String> = cases()
        .iter()
        .flat_map(|name| unlike_transformers(name))
        .collect();
    assert!(unlike.is_empty(), "{unlike:#?}");
}

#[test]
fn texts_go_with_one_picture() {
    let refused = |name: &str, record: Value, says: &str| {
        let place = recorded(name);
        place.write("in.jsonl", format!("{record}\n"));
        let run = command("in.jsonl", "out", "scores");
        place.sli(&run).failure(3, &[says, "hint: "]);
    };
    let one = "pictures/0.png";
    let question = json!([{"role": "user", "content": "a cat"}]);
    refused("blip", json!({"text": "a cat"}), "0 pictures, and");
    let two = json!({"text": "a cat", "images": [one, one]});
    refused("blip", two.clone(), "2 pictures, and");
    refused("blip-2", two, "2 pictures, and");
    let asked = json!({"messages": question, "images": [one]});
    refused("instructblip", asked, "what is asked of its picture");
}

/// The tokenizer of what is asked is a file of the model like any other.
#[test]
fn another_tokenizer_of_questions_is_another_run() {
    let place = recorded("instructblip");
    let record = json!({"text": "a cat", "images": ["pictures/0.png"]});
    place.write("in.jsonl", format!("{record}\n"));
    let run = command("in.jsonl", "out", "scores");
    place.sli(&run).success();
    place.sli(&run).success();
    let file = "model/qformer_tokenizer/tokenizer.json";
    let content = fs_err::read_to_string(place.path(file)).unwrap();
    place.write(file, content + " ");
    place
        .sli(&run)
        .failure(3, &["another run", "qformer_tokenizer/tokenizer.json"]);
}

#[test]
fn masks_of_points_are_as_large_as_pictures() {
    let place = recorded("idefics2");
    let records = Golden::open("idefics2").records().into_iter();
    let mut records = records.filter_map(|record| Some((record.input_ids, record.pictures?)));
    let of_one = |shape: &[usize]| shape[..shape.len() - 3].iter().product::<usize>() == 1;
    let (ids, pictures) = records.find(|(_, own)| of_one(&own.shape)).unwrap();
    // As I64 the mask is larger than a million bytes.
    let (side, mut shape) = (364, pictures.shape);
    let axes = shape.len();
    shape[axes - 2..].fill(side);
    let values: Vec<u8> = (0..3 * side * side)
        .flat_map(|at| ((at % 251) as f32 / 251.0 + 0.01).to_le_bytes())
        .collect();
    let one = |of: &[u8]| of.repeat(side * side);
    let masks = [
        ("I64", one(&1_i64.to_le_bytes())),
        ("BOOL", one(&[1])),
        ("", Vec::new()),
    ];
    let mut lines = String::new();
    for (dtype, mask) in masks {
        let name = format!("of{dtype}.safetensors");
        let (end, with_mask) = (values.len(), values.len() + mask.len());
        let pixels = json!({"dtype": "F32", "shape": shape, "data_offsets": [0, end]});
        let mut header = json!({"pixel_values": pixels});
        if !mask.is_empty() {
            header["pixel_attention_mask"] = json!({"dtype": dtype, "shape": [1, 1, side, side], "data_offsets": [end, with_mask]});
        }
        let header = header.to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.into_bytes());
        file.extend(&values);
        file.extend(mask);
        place.write(&name, file);
        lines += &json!({"id": dtype, "input_ids": ids, "tensors": name}).to_string();
        lines += "\n";
    }
    place.write("in.jsonl", lines);
    place.sli(&command("in.jsonl", "out", "scores")).success();
    let scores = scores(&place, "out");
    assert_eq!((scores[0], scores[0]), (scores[1], scores[2]));
}

#[test]
fn a_picture_behind_several_questions_runs_once() {
    for (name, placeholder) in [("llava", "<image>"), ("qwen2_5_vl", "<|image_pad|>")] {
        let place = recorded(name);
        let (mut lines, pictures) = (String::new(), ["0.png", "1.png", "2.jpg"]);
        for question in ["what is this ?", "what is the other one", "a cat"] {
            for (row, picture) in pictures.iter().enumerate() {
                let text = format!("look at {placeholder} {question}");
                let picture = format!("pictures/{picture}");
                let id = format!("{row} {question}");
                lines += &json!({"id": id, "text": text, "images": [picture]}).to_string();
                lines += "\n";
            }
        }
        place.write("in.jsonl", lines);
        let plan = place.sli(&["plan", "model", "--input", "in.jsonl"]);
        let said = plan.success().stdout;
        assert!(
            said.contains("equal pictures and common beginnings: "),
            "{said}"
        );
        let run = |out: &str, more: &[&str]| {
            let run = command("in.jsonl", out, "scores");
            let also = ["--take", "hidden", "--take", "profile", "--json"];
            let outcome = place.sli(&[&run[..], &also, more].concat()).success();
            serde_json::from_str::<Value>(&outcome.stdout).unwrap()
        };
        let (once, alone) = (run("once", &[]), run("alone", &["--no-share"]));
        assert_eq!(once["token_layers_alone"], alone["token_layers"]);
        let layers = |json: &Value| json["token_layers"].as_u64().unwrap();
        assert!(2 * layers(&once) < layers(&alone), "{once} {alone}");
        let files = |out: &str| results(&place.path(out));
        assert!(files("once") == files("alone"), "{name}");
    }
}

#[test]
fn tokens_around_pictures_without_pictures_are_refused() {
    let place = Place::new();
    fs_err::create_dir_all(place.path("model")).unwrap();
    Golden::open("ovis2").write(&place.path("model"), Stored::F32);
    place.write("in.jsonl", "{\"id\": \"x\", \"input_ids\": [9, 1, 12]}\n");
    let run = command("in.jsonl", "out", "scores");
    let says = [
        "record `x`: token 1 stands around pictures",
        "hint: give the record's pictures",
    ];
    place.sli(&run).failure(3, &says);
    place.write("in.jsonl", "{\"input_ids\": [9, 11, 12]}\n");
    place.sli(&run).success();
}

#[test]
fn a_completion_does_not_see_itself() {
    let place = Place::new();
    fs_err::create_dir_all(place.path("model")).unwrap();
    Golden::open("paligemma").write(&place.path("model"), Stored::F32);
    let ids = [5, 9, 12, 7, 30, 31];
    let labels = [-100, -100, -100, 7, 30, 31];
    let given =
        |kinds: [u32; 6]| json!({"input_ids": ids, "labels": labels, "token_type_ids": kinds});
    let records = [
        json!({"input_ids": ids, "labels": labels}),
        given([0, 0, 0, 1, 1, 1]),
        given([0; 6]),
    ];
    let lines = records.map(|record| record.to_string() + "\n");
    place.write("in.jsonl", lines.concat());
    place.sli(&command("in.jsonl", "out", "scores")).success();
    let scores = scores(&place, "out");
    assert_eq!(scores[0], scores[1]);
    assert_ne!(scores[0], scores[2]);
}

#[test]
fn what_is_scored_of_a_record_with_pictures() {
    let place = recorded("idefics3");
    let run = ["run", "model", "--input", "in.jsonl", "--take", "scores"];
    let part = json!({"type": "image", "path": "pictures/0.png"});
    let user =
        json!({"role": "user", "content": [part, {"type": "text", "text": "what is this ?"}]});
    let uri = STANDARD.encode(fs_err::read(place.path("pictures/0.png")).unwrap());
    let uri = json!({"url": format!("data:image/png;base64,{uri}")});
    let uri = json!({"type": "image_url", "image_url": uri});
    let by_uri =
        json!({"role": "user", "content": [uri, {"type": "text", "text": "what is this ?"}]});
    let assistant = json!({"role": "assistant", "content": [{"type": "text", "text": "a cat"}]});
    place.write(
        "in.jsonl",
        [
            json!({"id": "said", "messages": [user, assistant]}),
            json!({"id": "plain", "messages": [{"role": "user", "content": [{"type": "text", "text": "what is this ?"}]}, assistant]}),
        ]
        .map(|record| record.to_string() + "\n")
        .concat(),
    );
    place
        .sli(&[&run[..], &["--score", "assistant", "--out", "said"]].concat())
        .success();
    place.write(
        "in.jsonl",
        json!({"prompt": [by_uri], "completion": [assistant]}).to_string()
            + "\n"
            + &json!({"prompt": "<image> what", "completion": " is this ?", "images": "pictures/0.png"}).to_string()
            + "\n",
    );
    place
        .sli(&[&run[..], &["--out", "prompted"]].concat())
        .success();
    let sums = |folder: &str| {
        let table = read_parquet(&place.path(&format!("{folder}/scores.parquet")));
        let named = |name: &str| table.column_by_name(name).unwrap().clone();
        let tokens = named("completion_tokens");
        let sums = named("completion_sum_logprob");
        let tokens = arrow::compute::cast(&tokens, &DataType::UInt64).unwrap();
        (
            tokens
                .as_primitive::<arrow::datatypes::UInt64Type>()
                .values()
                .to_vec(),
            sums.as_primitive::<Float64Type>().values().to_vec(),
        )
    };
    let (said, prompted) = (sums("said"), sums("prompted"));
    assert_eq!(said.0, [4, 4], "assistant : a cat");
    assert_eq!(prompted.0, [4, 3]);
    assert_eq!(said.1[0], prompted.1[0]);
    for (record, says) in [
        (
            json!({"text": "what", "images": ["pictures/0.png"]}),
            "0 `<image>` for 1 pictures",
        ),
        (json!({"text": "<image> what"}), "its pictures have 0 rows"),
        (
            json!({"prompt": "<image> a", "completion": "<image>", "images": ["pictures/0.png", "pictures/1.png"]}),
            "a picture in `completion`",
        ),
        (
            json!({"text": "<image>", "text_pair": "a", "images": ["pictures/0.png"]}),
            "`text_pair` beside pictures",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "is a picture without",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "video", "path": "v.mp4"}]}]}),
            "`video`, which is not read",
        ),
    ] {
        place.write("in.jsonl", record.to_string() + "\n");
        place
            .sli(&[&run[..], &["--out", "wrong"]].concat())
            .failure(3, &[says, "hint: "]);
    }
}

#[test]
fn a_picture_that_does_not_fit_the_budget() {
    let place = recorded("idefics3");
    // Its pixels are more than the budget leaves.
    place.write("large.png", png(2500, 2500, 0));
    let run = command("in.jsonl", "out", "scores");
    let record = json!({"text": "<image> what", "images": ["large.png"]});
    place.write("in.jsonl", record.to_string() + "\n");
    let says = ["the file of picture 1", "in.jsonl, line 1", "hint: "];
    place
        .sli(&[&run[..], &["--memory", "40MiB"]].concat())
        .failure(4, &says);
    place.write("large.png", plain(6000));
    let dense = ["a picture of 6000 x 6000 pixels", "line 1", "hint: "];
    place
        .sli(&[&run[..], &["--memory", "40MiB"]].concat())
        .failure(4, &dense);
    place.write("large.png", png(2500, 2500, 0));
    place.sli(&run).success();
    let tower = Place::new();
    fs_err::create_dir_all(tower.path("model")).unwrap();
    Golden::open("clip_vision_model").write(&tower.path("model"), Stored::F32);
    let size = r#"{"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 32}"#;
    tower.write("model/preprocessor_config.json", size);
    tower.write("large.png", png(2500, 2500, 0));
    tower.write("in.jsonl", "{\"images\": [\"large.png\"]}\n");
    let run = command("in.jsonl", "out", "hidden:last");
    tower
        .sli(&[&run[..], &["--memory", "40MiB"]].concat())
        .failure(4, &says);
    tower.sli(&run).success();
}
