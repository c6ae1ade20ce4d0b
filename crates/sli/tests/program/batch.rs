//! `sli batch`: files of requests.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, UInt32Type};
use serde_json::{Value, json};

use crate::end_to_end::start;
use crate::exactness::read_parquet;
use crate::place::{Place, bert};
use crate::random::Random;

fn request(id: &str, url: &str, body: &Value) -> String {
    let mut body = body.clone();
    body["model"] = json!("m");
    json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string() + "\n"
}

fn embedding(id: &str, input: &Value) -> String {
    request(id, "/v1/embeddings", &json!({"input": input}))
}

fn scored(prompt: &Value, logprobs: usize) -> Value {
    json!({"prompt": prompt, "echo": true, "max_tokens": 0, "logprobs": logprobs})
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The requests of `requests.jsonl`, answered in a file.
fn batch<'a>(answers: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let batch = ["batch", "model", "-i", "requests.jsonl", "-o", answers];
    [&batch[..], more].concat()
}

/// Answers a file; the bodies by the names of the requests.
fn answered(place: &Place, requests: &str) -> BTreeMap<String, Value> {
    place.write("requests.jsonl", requests);
    place.sli(&batch("answers.jsonl", &["--fresh"])).success();
    assert!(!place.path("answers.jsonl.work").exists());
    let answers = lines(&place.path("answers.jsonl"));
    let named = answers.into_iter().map(|line| {
        assert_eq!(line["response"]["status_code"], 200, "{line}");
        assert_eq!(line["error"], Value::Null);
        let name = line["custom_id"].as_str().unwrap().to_owned();
        (name, line["response"]["body"].clone())
    });
    named.collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap() as f32).collect()
}

#[test]
fn vectors_are_those_of_a_run() {
    let place = Place::new();
    place.write_model("model", &bert());
    place.write_tokenizer("model");
    let texts = ["the cat sat", "a dog", "ran on a mat"];
    let records = texts.map(|text| json!({"text": text}).to_string() + "\n");
    place.write("in.jsonl", records.concat());
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--out",
        "out",
        "--take",
        "embedding",
    ];
    place.sli(&run).success();
    let batches = read_parquet(&place.path("out/embeddings.parquet"));
    let vectors = batches
        .column_by_name("embedding")
        .unwrap()
        .as_fixed_size_list()
        .clone();
    let expected: Vec<Vec<f32>> = (0..3)
        .map(|row| {
            vectors
                .value(row)
                .as_primitive::<Float32Type>()
                .values()
                .to_vec()
        })
        .collect();

    let short = json!({"input": texts[2], "dimensions": 3});
    let coded = json!({"input": texts[0], "encoding_format": "base64"});
    let requests = [
        embedding("list", &json!([texts[0], texts[1]])),
        request("short", "/v1/embeddings", &short),
        request("coded", "/v1/embeddings", &coded),
        embedding("ids", &json!([[3, 4], [5]])),
    ];
    let found = answered(&place, &requests.concat());
    let list = &found["list"];
    assert_eq!([&list["object"], &list["model"]], ["list", "m"]);
    for (index, expected) in expected[..2].iter().enumerate() {
        let own = &list["data"][index];
        assert_eq!(own["index"], index);
        assert_eq!(floats(&own["embedding"]), *expected);
    }
    let tokens = &list["usage"]["prompt_tokens"];
    assert!(
        tokens.as_u64() > Some(4) && list["usage"]["total_tokens"] == *tokens,
        "{list}"
    );
    assert_eq!(found["ids"]["usage"]["prompt_tokens"], 3);
    assert_eq!(found["ids"]["data"].as_array().unwrap().len(), 2);
    let vector = floats(&found["short"]["data"][0]["embedding"]);
    let length = expected[2][..3]
        .iter()
        .map(|value| value * value)
        .sum::<f32>()
        .sqrt();
    for (value, expected) in vector.iter().zip(&expected[2]) {
        assert!((value - expected / length).abs() < 1e-6);
    }
    assert_eq!(vector.len(), 3);
    let text = found["coded"]["data"][0]["embedding"].as_str().unwrap();
    assert_eq!(of_base64(text), expected[0]);
}

/// Numbers of a vector in base64.
fn of_base64(text: &str) -> Vec<f32> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let digits = four.iter().filter(|byte| **byte != b'=');
        let bits = digits
            .clone()
            .fold(0_u32, |bits, byte| bits << 6 | u32::from(digit(*byte)));
        let count = digits.count();
        let bits = bits << (6 * (4 - count));
        bytes.extend(&bits.to_be_bytes()[1..count]);
    }
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

#[test]
fn log_probabilities_are_those_of_a_run() {
    let place = Place::with_llama();
    let messages = json!([{"role": "user", "content": "the dog"}]);
    let records = [
        json!({"text": "the cat sat on a mat"}),
        json!({"input_ids": [3, 7, 5, 4]}),
        json!({"messages": messages}),
    ];
    let records = records.map(|record| record.to_string() + "\n");
    place.write("in.jsonl", records.concat());
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores", "--take",
        "topk:3",
    ];
    place.sli(&run).success();
    let scores = read_parquet(&place.path("out/scores.parquet"));
    let top = read_parquet(&place.path("out/topk.parquet"));
    let ids = |row: usize| {
        let list = scores
            .column_by_name("token_ids")
            .unwrap()
            .as_list::<i32>()
            .value(row);
        list.as_primitive::<UInt32Type>().values().to_vec()
    };
    let logprobs = |row: usize| {
        let list = scores
            .column_by_name("logprobs")
            .unwrap()
            .as_list::<i32>()
            .value(row);
        list.as_primitive::<Float32Type>().values()[1..].to_vec()
    };
    let best = |row: usize, place: usize| {
        let of = |name: &str| {
            top.column_by_name(name)
                .unwrap()
                .as_list::<i32>()
                .value(row)
        };
        let ids = of("top_ids").as_list::<i32>().value(place);
        let values = of("top_logprobs").as_list::<i32>().value(place);
        let ids = ids.as_primitive::<UInt32Type>().values().to_vec();
        let values = values.as_primitive::<Float32Type>().values().to_vec();
        ids.into_iter().zip(values).collect::<Vec<_>>()
    };

    let plain = json!({"prompt": [3, 7], "echo": true, "max_tokens": 0});
    let chat = json!({"messages": messages, "prompt_logprobs": 2, "max_tokens": 0});
    let requests = [
        request(
            "text",
            "/v1/completions",
            &scored(&json!("the cat sat on a mat"), 3),
        ),
        request(
            "ids",
            "/v1/completions",
            &scored(&json!([[3, 7, 5, 4], [3]]), 0),
        ),
        request("plain", "/v1/completions", &plain),
        request("chat", "/v1/chat/completions", &chat),
        embedding("vector", &json!("a dog")),
    ];
    let found = answered(&place, &requests.concat());
    let text = &found["text"];
    assert_eq!(text["object"], "text_completion");
    let choice = &text["choices"][0];
    assert_eq!(choice["text"], "the cat sat on a mat");
    let own = &choice["logprobs"];
    assert_eq!(own["token_logprobs"][0], Value::Null);
    assert_eq!(own["top_logprobs"][0], Value::Null);
    let tokens = own["token_logprobs"].as_array().unwrap()[1..].to_vec();
    assert_eq!(floats(&json!(tokens)), logprobs(0));
    assert_eq!(own["tokens"].as_array().unwrap().len(), ids(0).len());
    assert_eq!(own["tokens"][1], "the");
    assert_eq!(text["usage"]["prompt_tokens"], ids(0).len());
    // What stands beside a token are the best of the position before, and itself.
    let beside = own["top_logprobs"][1].as_object().unwrap();
    let most = best(0, 0);
    let highest = beside
        .values()
        .map(|value| value.as_f64().unwrap() as f32)
        .fold(f32::MIN, f32::max);
    assert_eq!(highest, most[0].1);
    assert!((3..=4).contains(&beside.len()), "{beside:?}");
    assert!(beside.contains_key("the"));

    let choices = &found["ids"]["choices"];
    let tokens = choices[0]["logprobs"]["token_logprobs"].as_array().unwrap()[1..].to_vec();
    assert_eq!(floats(&json!(tokens)), logprobs(1));
    assert_eq!(choices[1]["logprobs"]["token_logprobs"], json!([null]));
    assert_eq!(found["plain"]["choices"][0]["logprobs"], Value::Null);

    let chat = &found["chat"];
    let positions = chat["prompt_logprobs"].as_array().unwrap();
    assert_eq!(positions.len(), ids(2).len());
    assert_eq!(positions[0], Value::Null);
    for (index, position) in positions.iter().enumerate().skip(1) {
        let own = &position[ids(2)[index].to_string()];
        assert_eq!(
            own["logprob"].as_f64().unwrap() as f32,
            logprobs(2)[index - 1]
        );
        for (rank, (token, value)) in best(2, index - 1).into_iter().take(2).enumerate() {
            let beside = &position[token.to_string()];
            assert_eq!(beside["rank"], rank + 1);
            assert_eq!(beside["logprob"].as_f64().unwrap() as f32, value);
            assert!(beside["decoded_token"].is_string());
        }
    }
    assert_eq!(floats(&found["vector"]["data"][0]["embedding"]).len(), 16);
}

#[test]
fn what_cannot_be_answered_stops_nothing() {
    let place = Place::with_llama();
    let long = vec![3; 400];
    let mut requests = String::from("\u{feff}") + &embedding("first", &json!("a dog"));
    requests += "{broken\n\n";
    requests += &request(
        "talk",
        "/v1/completions",
        &json!({"prompt": "a", "max_tokens": 5}),
    );
    requests += &embedding("long", &json!([[3], long]));
    let cut = "a cat ".repeat(40);
    requests += &request("cut", "/v1/completions", &scored(&json!(cut), 1));
    requests += &embedding("beyond", &json!([999_999]));
    requests += &embedding("first", &json!("twice"));
    requests += &request("where", "/v1/images", &json!({}));
    requests += &request(
        "wide",
        "/v1/embeddings",
        &json!({"input": "a", "dimensions": 9999}),
    );
    let bad = json!({"messages": [{"role": "user", "content": 3}], "prompt_logprobs": 1, "max_tokens": 0});
    requests += &request("chat", "/v1/chat/completions", &bad);
    requests += &embedding("talk", &json!("twice"));
    let asks = json!({"messages": [{"role": "user", "content": "a"}], "prompt_logprobs": 1, "max_tokens": 0, "add_generation_prompt": "no"});
    requests += &request("asks", "/v1/chat/completions", &asks);
    requests += &embedding("last", &json!("a dog"));
    place.write("requests.jsonl", requests);
    let plain = batch("answers.jsonl", &[]);
    let said = place.sli(&plain).success().stderr;
    assert!(
        said.contains("warning: 11 of them are no requests"),
        "{said}"
    );
    let found = lines(&place.path("answers.jsonl"));
    for (line, (id, says)) in found.iter().zip([
        (json!("first"), ""),
        (Value::Null, "no JSON"),
        (json!("talk"), "scores and embeds only"),
        (json!("long"), "400 tokens"),
        (json!("cut"), "more tokens than the model has positions for"),
        (json!("beyond"), "beyond the vocabulary"),
        (json!("first"), "same `custom_id`"),
        (json!("where"), "is none of"),
        (json!("wide"), "`dimensions` is 9999"),
        (json!("chat"), "each with `role`"),
        (json!("talk"), "same `custom_id`"),
        (json!("asks"), "neither true nor false"),
        (json!("last"), ""),
    ]) {
        assert_eq!(line["custom_id"], id, "{line}");
        let response = &line["response"];
        if says.is_empty() {
            assert_eq!(response["status_code"], 200, "{line}");
            continue;
        }
        assert_eq!(response["status_code"], 400, "{line}");
        assert_eq!(line["error"]["code"], 400);
        let said = response["body"]["error"]["message"].as_str().unwrap();
        assert!(
            said.contains(says) && !said.contains("records.jsonl"),
            "{said}"
        );
    }
    assert_eq!(found.len(), 13);
    let vector = |line: &Value| line["response"]["body"]["data"][0]["embedding"].clone();
    assert_eq!(vector(&found[0]), vector(&found[12]));
    place
        .sli(&plain)
        .failure(2, &["answers.jsonl is there already", "hint: --fresh"]);
    // Not over the requests, by whatever path.
    let requests = fs_err::read(place.path("requests.jsonl")).unwrap();
    fs_err::os::unix::fs::symlink("requests.jsonl", place.path("link.jsonl")).unwrap();
    for answers in ["requests.jsonl", "./requests.jsonl", "link.jsonl"] {
        place.sli(&batch(answers, &["--fresh"])).failure(
            2,
            &["is the file of the requests", "hint: give another file"],
        );
        assert!(fs_err::read(place.path("requests.jsonl")).unwrap() == requests);
    }
    // A folder of somebody else does not go with the batch.
    place.write("own.jsonl.work/notes.txt", "mine");
    place
        .sli(&batch("own.jsonl", &[]))
        .failure(2, &["`notes.txt`, which is of no batch", "hint: move"]);
    assert!(place.path("own.jsonl.work/notes.txt").exists());
    // No request at all is no reason to open a model.
    place.write("requests.jsonl", "nothing\n");
    let none = [
        "batch",
        "absent",
        "-i",
        "requests.jsonl",
        "-o",
        "none.jsonl",
    ];
    place.sli(&none).success();
    assert_eq!(lines(&place.path("none.jsonl")).len(), 1);
    place
        .sli(&["batch", "model", "-i", "absent.jsonl", "-o", "none"])
        .failure(5, &["absent.jsonl"]);
}

/// Contents of messages as clients write them: texts, and lists of parts, whichever of them a template takes.
#[test]
fn templates_get_the_contents_that_they_take() {
    const TEXTS: &str = "{% for m in messages %}{{ m.role + ': ' + m.content }} {% endfor %}";
    const WRITTEN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}";
    const PARTS: &str = "{% for m in messages %}{{ m.role }}: \
        {% for part in m.content %}{{ part.text }}{% endfor %} {% endfor %}";
    const BOTH: &str = "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}\
        {% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %} {% endfor %}";
    let chat = |id: &str, content: &Value| {
        let messages = json!([{"role": "user", "content": content}]);
        let body = json!({"messages": messages, "prompt_logprobs": 0, "max_tokens": 0});
        request(id, "/v1/chat/completions", &body)
    };
    let place = Place::with_llama();
    let text = chat("text", &json!("the dog"));
    let parts = json!([{"type": "text", "text": "the dog"}]);
    let parts = chat("parts", &parts);
    let mut known = None;
    for template in [TEXTS, WRITTEN, PARTS, BOTH] {
        let config = json!({"bos_token": "<s>", "chat_template": template});
        place.write("model/tokenizer_config.json", config.to_string());
        let found = answered(&place, &format!("{text}{parts}"));
        let scores = &found["text"]["prompt_logprobs"];
        assert!(scores.as_array().unwrap().len() > 2, "{template}: {scores}");
        assert_eq!(found["parts"]["prompt_logprobs"], *scores, "{template}");
        assert_eq!(
            known.get_or_insert_with(|| scores.clone()),
            scores,
            "{template}"
        );
    }
    let config = json!({"bos_token": "<s>", "chat_template": TEXTS});
    place.write("model/tokenizer_config.json", config.to_string());
    let list = json!([{"type": "text", "text": "the"}, {"type": "refusal", "refusal": "dog"}]);
    let lines_of = chat("lines", &json!("the\ndog")) + &chat("list", &list);
    let found = answered(&place, &lines_of);
    assert_eq!(
        found["list"]["prompt_logprobs"],
        found["lines"]["prompt_logprobs"]
    );

    let picture = json!([{"type": "image_url", "image_url": {"url": "a.png"}}]);
    let sound = json!([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]);
    for (template, content, says) in [
        (
            TEXTS,
            &sound,
            "message 0 has a `input_audio`, and the chat template takes texts only",
        ),
        (TEXTS, &picture, "the model reads texts only"),
        (PARTS, &picture, "the model reads texts only"),
    ] {
        let config = json!({"bos_token": "<s>", "chat_template": template});
        place.write("model/tokenizer_config.json", config.to_string());
        place.write("requests.jsonl", chat("other", content) + &text);
        let said = place
            .sli(&batch("answers.jsonl", &["--fresh"]))
            .success()
            .stderr;
        assert!(said.contains("1 of them"), "{said}");
        let found = lines(&place.path("answers.jsonl"));
        let response = &found[0]["response"];
        assert_eq!(response["status_code"], 400);
        let said = response["body"]["error"]["message"].as_str().unwrap();
        assert!(said.contains(says), "{said}");
        assert_eq!(found[1]["response"]["status_code"], 200);
    }
}

/// A batch has its folder of work alone, and says how to leave what is damaged there.
#[test]
fn the_work_of_a_batch_is_its_own() {
    let place = Place::with_llama();
    place.write("requests.jsonl", embedding("a", &json!("a dog")));
    let plain = batch("answers.jsonl", &[]);
    fs_err::create_dir_all(place.path("answers.jsonl.work")).unwrap();
    let held = fs_err::File::create(place.path("answers.jsonl.work/lock")).unwrap();
    held.file().try_lock().unwrap();
    place.sli(&plain).failure(
        5,
        &["another run is writing to", "answers.jsonl", "hint: wait"],
    );
    assert!(!place.path("answers.jsonl.work/records.jsonl").exists());
    drop(held);
    for (option, says) in [("-i", "--input is `-`"), ("-o", "--output is `-`")] {
        let mut all = plain.clone();
        let at = all.iter().position(|word| *word == option).unwrap();
        all[at + 1] = "-";
        place.sli(&all).failure(2, &[says, "hint: give files"]);
    }
    place.sli(&plain).success();
    assert!(!place.path("answers.jsonl.work").exists());
}

#[test]
fn a_killed_batch_goes_on() {
    let place = Place::with_llama();
    let mut random = Random::new(9);
    let requests = (0..300).map(|number| {
        let tokens = json!(
            (0..=random.below(12))
                .map(|_| random.below(20))
                .collect::<Vec<_>>()
        );
        match number % 3 {
            0 => embedding(&number.to_string(), &tokens),
            1 => request(&number.to_string(), "/v1/completions", &scored(&tokens, 2)),
            _ => embedding(&number.to_string(), &json!([999_999])),
        }
    });
    place.write("requests.jsonl", requests.collect::<String>());
    let to = |out| batch(out, &["--checkpoint-interval", "0", "--memory", "64MiB"]);
    place.sli(&to("undisturbed.jsonl")).success();
    for _ in 0..8 {
        let mut child = start(&place, &to("answers.jsonl"));
        (0..random.below(30_000_000)).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
        if place.path("answers.jsonl").exists() {
            break;
        }
    }
    if !place.path("answers.jsonl").exists() {
        place.sli(&to("answers.jsonl")).success();
    }
    let [expected, found] =
        ["undisturbed.jsonl", "answers.jsonl"].map(|name| fs_err::read(place.path(name)).unwrap());
    assert!(expected == found);
}
