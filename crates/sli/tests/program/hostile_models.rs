//! Models that are damaged, lie or want too much: one clear error, exit code 3, and nothing is built or
//! spread.

use serde_json::{Value, json};

use crate::place::{Place, llama};

/// A place whose weights are taken apart into header and data.
struct Hostile {
    place: Place,
    header: Value,
    data: Vec<u8>,
}

const UP: &str = "model.layers.1.mlp.up_proj.weight";

impl Hostile {
    fn new() -> Self {
        let place = Place::with_llama();
        place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n");
        let file = fs_err::read(place.path("model/model.safetensors")).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&file[8..8 + length]).unwrap(),
            data: file[8 + length..].to_vec(),
            place,
        }
    }

    /// Runs the model, which must fail with 3 and leave nothing.
    #[track_caller]
    fn refused(&self, says: &[&str]) {
        // What fails in the middle of a run leaves what it has done, which belongs to other weights.
        let run = [
            "run", "model", "--input", "in.jsonl", "--out", "out", "--fresh",
        ];
        let outcome = self.place.sli(&run).failure(3, says);
        assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{outcome:?}");
        assert!(!self.place.path("out/run.json").exists());
    }

    #[track_caller]
    fn refused_config(&self, key: &str, value: Value, says: &[&str]) {
        let mut config = llama();
        config[key] = value;
        self.place.write("model/config.json", config.to_string());
        self.refused(&[&["config.json", key], says].concat());
    }

    /// A file of this header and data.
    fn weights(header: &[u8], data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
    }

    #[track_caller]
    fn refused_weights(&self, file: &[u8], says: &[&str]) {
        self.place.write("model/model.safetensors", file);
        self.refused(&[&["model"], says].concat());
    }

    /// With something changed in the header.
    #[track_caller]
    fn refused_header(&self, change: impl FnOnce(&mut Value), says: &[&str]) {
        let mut header = self.header.clone();
        change(&mut header);
        let file = Hostile::weights(header.to_string().as_bytes(), &self.data);
        self.refused_weights(&file, says);
    }
}

#[test]
fn weights_that_lie() {
    let hostile = Hostile::new();
    let whole = Hostile::weights(hostile.header.to_string().as_bytes(), &hostile.data);
    let header = whole.len() - hostile.data.len();
    for (length, says) in [
        (0, "model.safetensors"),
        (7, "model.safetensors"),
        (8, "model.safetensors"),
        (header / 2, "incomplete"),
        (header, "incomplete"),
        (whole.len() - 1, "incomplete"),
    ] {
        hostile.refused_weights(&whole[..length], &[says]);
    }
    for length in [0, 1, header as u64, 1 << 40, u64::MAX] {
        let mut lying = whole.clone();
        lying[..8].copy_from_slice(&length.to_le_bytes());
        hostile.refused_weights(&lying, &["not a sound safetensors file"]);
    }
    hostile.refused_weights(&[&whole[..], b"more"].concat(), &["4 bytes too many"]);
    hostile.refused_weights(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        &["Git LFS"],
    );
    let offsets: Vec<u64> =
        serde_json::from_value(hostile.header[UP]["data_offsets"].clone()).unwrap();
    let (start, end) = (offsets[0], offsets[1]);
    let size = hostile.data.len() as u64;
    for (lie, says) in [
        ([start - 4, end - 4], "inside another"),
        ([0, end - start], "inside another"),
        ([start + size, end + size], "nobody's"),
        ([u64::MAX - 1536, u64::MAX], "nobody's"),
        ([end, start], "backwards"),
        ([start, end + 4], "its offsets span"),
    ] {
        hostile.refused_header(|header| header[UP]["data_offsets"] = json!(lie), &[says]);
    }
    for (key, value, says) in [
        ("dtype", json!("I32"), "is I32; the model wants"),
        ("dtype", json!("F64"), "its offsets span"),
        ("dtype", json!("Q4_K"), "unknown dtype `Q4_K`"),
        (
            "shape",
            json!([16, 24]),
            "has shape [16, 24]; the model wants [24, 16]",
        ),
        (
            "shape",
            json!([1_u64 << 40, 1_u64 << 40]),
            "too large to count",
        ),
        ("shape", json!([-24, -16]), "header cannot be read"),
        ("shape", Value::Null, "header cannot be read"),
    ] {
        hostile.refused_header(|header| header[UP][key] = value, &[says]);
    }
    let rename = |header: &mut Value| {
        let entry = header.as_object_mut().unwrap().remove(UP).unwrap();
        header["model.layers.1.mlp.upward.weight"] = entry;
    };
    hostile.refused_header(
        rename,
        &[
            "missing: ",
            UP,
            "unexpected: model.layers.1.mlp.upward.weight",
        ],
    );
    let twice = format!(
        "{{\"{UP}\":{},{}",
        hostile.header[UP],
        &hostile.header.to_string()[1..]
    );
    hostile.refused_weights(
        &Hostile::weights(twice.as_bytes(), &hostile.data),
        &["occurs twice"],
    );
    let deep = "{\"a\":".to_owned() + &"[".repeat(100_000);
    hostile.refused_weights(
        &Hostile::weights(deep.as_bytes(), &hostile.data),
        &["header"],
    );
}

#[test]
fn weights_that_are_no_numbers() {
    let hostile = Hostile::new();
    let header = hostile.header.to_string();
    for (tensor, layer) in [
        (UP, "decoder layer 1"),
        ("model.layers.0.input_layernorm.weight", "decoder layer 0"),
        ("model.norm.weight", "decoder head"),
        ("lm_head.weight", "decoder head"),
        ("model.embed_tokens.weight", "decoder embedding"),
    ] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let start = hostile.header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
            // The second element of the row of token 3 where it is the table of embeddings.
            let at = start + if tensor.contains("embed") { 4 * 49 } else { 4 };
            let mut data = hostile.data.clone();
            data[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let file = Hostile::weights(header.as_bytes(), &data);
            hostile.refused_weights(&file, &["is not finite", tensor, layer, "hint: "]);
        }
    }
}

#[test]
fn weights_whose_products_are_no_numbers() {
    let hostile = Hostile::new();
    let header = hostile.header.to_string();
    for (tensor, place) in [
        ("model.layers.0.mlp.up_proj.weight", "decoder layer 0"),
        (UP, "decoder layer 1"),
        ("model.layers.1.self_attn.v_proj.weight", "decoder layer 1"),
        ("lm_head.weight", "decoder head (logits)"),
    ] {
        let offsets: Vec<usize> =
            serde_json::from_value(hostile.header[tensor]["data_offsets"].clone()).unwrap();
        let mut data = hostile.data.clone();
        for element in data[offsets[0]..offsets[1]].as_chunks_mut::<4>().0 {
            *element = 3e38_f32.to_le_bytes();
        }
        let file = Hostile::weights(header.as_bytes(), &data);
        hostile.place.write("model/model.safetensors", file);
        for compute in ["f32", "bf16"] {
            let run = [
                "run",
                "model",
                "--input",
                "in.jsonl",
                "--out",
                "out",
                "--fresh",
                "--compute",
                compute,
            ];
            let says = ["not finite", place, "hint: the weights are too large"];
            hostile.place.sli(&run).failure(3, &says);
        }
    }
}

#[test]
fn shards_that_are_missing_or_elsewhere() {
    let hostile = Hostile::new();
    let place = &hostile.place;
    let from = place.path("model/model.safetensors");
    fs_err::copy(&from, place.path("outside.safetensors")).unwrap();
    fs_err::rename(from, place.path("model/a.safetensors")).unwrap();
    let index = |shard: Value| {
        let names = hostile.header.as_object().unwrap().keys();
        let mut map: serde_json::Map<String, Value> = names
            .map(|name| (name.clone(), json!("a.safetensors")))
            .collect();
        map.insert(UP.into(), shard);
        place.write(
            "model/model.safetensors.index.json",
            json!({"weight_map": map}).to_string(),
        );
    };
    let run = ["run", "model", "--input", "in.jsonl", "--out", "well"];
    index(json!("a.safetensors"));
    place.sli(&run).success();
    let absolute = place.path("outside.safetensors").display().to_string();
    for (shard, says) in [
        ("b.safetensors", "which is not there"),
        ("../outside.safetensors", "outside the folder"),
        (&absolute, "outside the folder"),
        ("x/../../outside.safetensors", "outside the folder"),
        ("", "outside the folder"),
        (".", "outside the folder"),
        ("a\0b", "outside the folder"),
        (&"x".repeat(5000), "which is not there"),
    ] {
        index(json!(shard));
        hostile.refused(&["model.safetensors.index.json", UP, says]);
    }
    for shard in [json!(3), json!(null), json!(["a.safetensors"])] {
        index(shard);
        hostile.refused(&["model.safetensors.index.json", "cannot be read"]);
    }
    fs_err::create_dir(place.path("model/folder")).unwrap();
    index(json!("folder"));
    hostile.refused(&["`folder` is not a regular file"]);
    std::os::unix::fs::symlink("/dev/zero", place.path("model/zero")).unwrap();
    index(json!("zero"));
    hostile.refused(&["`zero` is not a regular file"]);
    let deep = "{\"weight_map\":".repeat(50_000);
    for text in ["", "{", "[]", "{}", "{\"weight_map\": {}}", "\u{0}", &deep] {
        place.write("model/model.safetensors.index.json", text);
        hostile.refused(&["model.safetensors.index.json"]);
    }
}

#[test]
fn configurations_that_want_too_much() {
    let hostile = Hostile::new();
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ] {
        for number in [
            "0",
            "-1",
            "1.5",
            "1e30",
            "9223372036854775807",
            "18446744073709551616",
            "1e999",
        ] {
            // As text: not all of these are numbers to a parser.
            let mut config = llama();
            config[key] = json!("NUMBER");
            let text = config.to_string().replace("\"NUMBER\"", number);
            hostile.place.write("model/config.json", text);
            hostile.refused(&["config.json"]);
        }
        for wrong in [json!("7"), json!([]), json!({}), json!(true)] {
            hostile.refused_config(key, wrong, &["expected a whole number"]);
        }
    }
    hostile.refused_config(
        "num_hidden_layers",
        json!(1_000_000_000),
        &["expected a whole number"],
    );
    // What passes for a number is compared with the tensors before anything of its size is made.
    for (key, number) in [
        ("num_hidden_layers", 10_000),
        ("num_attention_heads", 65_536),
        ("vocab_size", 268_435_456),
        ("intermediate_size", 268_435_456),
    ] {
        let mut config = llama();
        config[key] = json!(number);
        hostile.place.write("model/config.json", config.to_string());
        hostile.refused(&["model"]);
    }
}

#[test]
fn configurations_that_cannot_be_read() {
    let hostile = Hostile::new();
    let place = &hostile.place;
    let good = llama().to_string();
    let deep = "{\"a\":".repeat(100_000);
    for (text, says) in [
        (&b""[..], "config.json"),
        (b"{", "config.json"),
        (b"[]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b"\xff\xfe{", "not UTF-8"),
        (deep.as_bytes(), "recursion limit"),
        (&good.as_bytes()[..good.len() / 2], "config.json"),
        (&[good.as_bytes(), b"}"].concat(), "trailing"),
    ] {
        place.write("model/config.json", text);
        hostile.refused(&[says]);
    }
    let rope = |kind: &str| json!({"rope_type": kind, "rope_theta": 1e4, "factor": 2.0});
    hostile.refused_config(
        "rope_scaling",
        rope("spiral"),
        &["\"spiral\" is not supported", "hint: "],
    );
    hostile.refused_config(
        "rope_parameters",
        rope("spiral"),
        &["\"spiral\" is not supported"],
    );
    hostile.refused_config(
        "rope_scaling",
        json!({"type": "linear", "factor": 0}),
        &["factor"],
    );
    hostile.refused_config(
        "rope_scaling",
        json!({"type": "linear"}),
        &["factor", "is missing"],
    );
    hostile.refused_config(
        "hidden_act",
        json!("swoosh"),
        &["\"swoosh\" is not supported"],
    );
    hostile.refused_config(
        "model_type",
        json!("x".repeat(100_000)),
        &["is not supported"],
    );
    hostile.refused_config("model_type", json!(3), &["expected a string"]);
    let mut without = llama();
    without.as_object_mut().unwrap().remove("model_type");
    place.write("model/config.json", without.to_string());
    hostile.refused(&["`model_type` is missing"]);
    place.write("model/config.json", vec![b' '; 70 << 20]);
    hostile.refused(&["larger than 64 MiB"]);
    fs_err::remove_file(place.path("model/config.json")).unwrap();
    hostile.refused(&["there is no config.json", "hint: "]);
    fs_err::create_dir(place.path("model/config.json")).unwrap();
    hostile.refused(&["not a regular file"]);
    for (model, says) in [
        ("nowhere", "there is no such folder here"),
        ("in.jsonl/below", "there is no such folder here"),
        ("./nowhere", "there is no such model"),
        ("in.jsonl", "there is no config.json"),
    ] {
        let run = ["run", model, "--input", "in.jsonl", "--out", "out"];
        place.sli(&run).failure(3, &[says, "hint: "]);
        place.sli(&["inspect", model]).failure(3, &[says]);
    }
}

#[test]
fn names_do_not_command_the_terminal() {
    let hostile = Hostile::new();
    let rename = |header: &mut Value| {
        let header = header.as_object_mut().unwrap();
        let entry = header.remove(UP).unwrap();
        header.insert("\u{1b}[2J\u{9b}0m\r".into(), entry);
    };
    hostile.refused_header(rename, &["\\u{1b}[2J\\u{9b}0m\\r"]);
    let outcome = hostile.place.sli(&["inspect", "model"]);
    for text in [&outcome.stdout, &outcome.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\r']), "{outcome:?}");
    }
}

#[test]
fn a_pooling_that_is_not_known_is_3_until_one_is_chosen() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4]}\n");
    let modules = json!([
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.LSTM", "path": "2_LSTM"},
        {"type": "sentence_transformers.models.Normalize", "path": "3_Normalize"},
    ]);
    place.write("model/modules.json", modules.to_string());
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    let run = |take| place.sli(&[&run[..], &["--take", take]].concat());
    run("embedding").failure(3, &["modules.json", "`LSTM`", "--take embedding:mean"]);
    assert!(!place.path("out").exists());
    let plan = [
        "plan",
        "model",
        "--input",
        "in.jsonl",
        "--take",
        "embedding",
    ];
    place.sli(&plan).failure(3, &["modules.json"]);
    run("embedding:mean").success();
    place.write("model/modules.json", "{}");
    place.sli(&plan).failure(3, &["modules.json", "not a list"]);
}

/// A pattern that looks at the rest of the text again at each of its characters: no match has many steps.
#[test]
fn a_pattern_that_takes_ever_longer_is_stopped() {
    let place = Place::with_llama();
    let path = place.path("model/tokenizer.json");
    let text = fs_err::read_to_string(&path).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    tokenizer["truncation"] = Value::Null;
    tokenizer["padding"] = Value::Null;
    tokenizer["pre_tokenizer"] = json!({
        "type": "Split", "pattern": {"Regex": "a(?=a*b)|a"}, "behavior": "Isolated", "invert": false
    });
    place.write("model/tokenizer.json", tokenizer.to_string());
    place.write("in.jsonl", json!({"text": "a".repeat(80_000)}).to_string());
    let run = ["run", "model", "--input", "in.jsonl", "--out", "out"];
    let says = [
        "more than 4 seconds",
        "its pattern is `a(?=a*b)|a`",
        "hint:",
    ];
    place.sli(&run).failure(3, &says);
    place.write("in.jsonl", json!({"text": "a".repeat(9)}).to_string());
    place.sli(&run).success();
}
