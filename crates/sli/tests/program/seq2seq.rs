//! Models of an encoder and a decoder: what records have for the second, budgets, and kills in either stack.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::budgets::within_every_budget;
use crate::end_to_end::{ALL, results, start};
use crate::exactness::read_parquet;
use crate::place::{Place, safetensors, with};
use crate::random::Random;

fn t5() -> Value {
    json!({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 20, "d_model": 64,
           "d_kv": 24, "d_ff": 96, "num_heads": 3, "num_layers": 3, "num_decoder_layers": 2, "decoder_start_token_id": 0,
           "feed_forward_proj": "gated-gelu"})
}

fn bart() -> Value {
    json!({"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "vocab_size": 20, "d_model": 64,
           "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_position_embeddings": 64})
}

fn mbart() -> Value {
    let named = json!({"model_type": "mbart", "architectures": ["MBartForConditionalGeneration"]});
    with(bart(), &named)
}

fn fsmt() -> Value {
    json!({"model_type": "fsmt", "architectures": ["FSMTForConditionalGeneration"], "src_vocab_size": 20,
           "tgt_vocab_size": 20, "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
           "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_position_embeddings": 64})
}

/// Records of all kinds: with as many tokens on both sides, few on one of them, none, and nothing for the decoder.
fn records(count: usize) -> String {
    let mut random = Random::new(3);
    let line = |number: usize| {
        let mut ids = |most: usize| -> Vec<usize> {
            (0..random.below(most)).map(|_| random.below(20)).collect()
        };
        let own = ids(if number.is_multiple_of(5) { 2 } else { 60 });
        let record = match number % 4 {
            0 => json!({"input_ids": own}),
            1 => json!({"input_ids": own, "decoder_input_ids": ids(3)}),
            _ => json!({"input_ids": own, "decoder_input_ids": ids(60)}),
        };
        record.to_string() + "\n"
    };
    (0..count).map(line).collect()
}

#[test]
fn any_budget_gives_the_same_bytes() {
    for config in [t5(), bart()] {
        let place = Place::new();
        place.write_model("model", &config);
        place.write("in.jsonl", records(60));
        let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL].concat();
        let summary = within_every_budget(&place, &run);
        let plan = &summary["plan"];
        assert_eq!(plan["not_shared"], "the model has several stacks");
        assert_eq!(plan["stacks"][0]["name"], "encoder");
        assert_eq!(plan["stacks"][1]["name"], "decoder");
    }
}

#[test]
fn a_run_goes_on_in_the_stack_where_it_was_killed() {
    let place = Place::new();
    place.write_model("model", &t5());
    place.write("in.jsonl", records(40));
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--checkpoint-interval",
        "0",
    ];
    let run = [&run[..], &ALL, &["--spill", "never", "--out"]].concat();
    place.sli(&[&run[..], &["undisturbed"]].concat()).success();
    let out = place.path("out");
    let run = [&run[..], &["out"]].concat();
    // Five layer passes in all: killed after each of them.
    for passes in 1..=5 {
        let begun = || fs_err::metadata(out.join(".sli/passes")).map_or(0, |file| file.len());
        let mut child = start(&place, &run);
        while begun() < passes && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.sli(&run).success();
    assert!(results(&out) == results(&place.path("undisturbed")));
}

#[test]
fn what_the_decoder_says_is_scored() {
    let place = Place::new();
    place.write_model("model", &bart());
    place.write_tokenizer("model");
    let lines = [
        json!({"id": "said", "text": "hello", "decoder_text": "world hello"}),
        json!({"id": "given", "input_ids": [5, 6], "decoder_input_ids": [2, 7, 8]}),
        json!({"id": "own", "input_ids": [5, 6, 7]}),
    ];
    place.write(
        "in.jsonl",
        lines.map(|line| line.to_string() + "\n").concat(),
    );
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
    ];
    place.sli(&run).success();
    let scores = read_parquet(&place.path("out/scores.parquet"));
    let shown = format!("{:?}", scores.column_by_name("token_ids").unwrap());
    // Input as it is; the record's own tokens where it has nothing for the decoder.
    assert!(shown.contains("2,\n  7,\n  8,"), "{shown}");
    assert!(shown.contains("5,\n  6,\n  7,"), "{shown}");
    let nulls: Vec<usize> = {
        use arrow::array::{Array, AsArray};
        let lists = scores.column_by_name("logprobs").unwrap();
        let lists = lists.as_list::<i32>();
        (0..lists.len())
            .map(|row| lists.value(row).null_count())
            .collect()
    };
    // Every label is scored; of input as it is the first token is not.
    assert_eq!(nulls, [0, 1, 0]);
}

#[test]
fn what_a_decoder_cannot_get_is_refused() {
    let place = Place::with_llama();
    place.write_model("bart", &bart());
    place.write_model("t5", &{
        let mut config = t5();
        config
            .as_object_mut()
            .unwrap()
            .remove("decoder_start_token_id");
        config
    });
    place.write_model("mbart", &mbart());
    place.write_model("fsmt", &fsmt());
    place.write_tokenizer("bart");
    place.write_tokenizer("t5");
    let long: Vec<usize> = vec![5; 65];
    for (model, line, says) in [
        (
            "model",
            json!({"text": "hello", "decoder_text": "world"}),
            "takes no `decoder_text`",
        ),
        (
            "model",
            json!({"input_ids": [5], "decoder_input_ids": [5]}),
            "takes no `decoder_input_ids`",
        ),
        (
            "bart",
            json!({"input_ids": [5], "decoder_input_ids": long}),
            "65 tokens, the model has positions for 64",
        ),
        (
            "bart",
            json!({"input_ids": [5], "decoder_input_ids": [20]}),
            "beyond the vocabulary of 20",
        ),
        (
            "bart",
            json!({"input_ids": [5], "labels": [5.5]}),
            "`labels` holds 5.5 at position 0",
        ),
        (
            "bart",
            json!({"input_ids": [5], "labels": [20]}),
            "beyond the vocabulary of 20",
        ),
        (
            "bart",
            json!({"input_ids": [5], "labels": [-3]}),
            "`labels` is -3 at position 0",
        ),
        (
            "bart",
            json!({"input_ids": [5], "labels": [5], "decoder_text": "hello"}),
            "both `labels` and a text",
        ),
        (
            "bart",
            json!({"input_ids": [5], "labels": [5], "decoder_input_ids": [2, 5]}),
            "1 `labels` for 2 `decoder_input_ids`",
        ),
        (
            "bart",
            json!({"input_ids": [5], "completion_mask": [1]}),
            "`completion_mask` is of the encoder's tokens",
        ),
        (
            "bart",
            json!({"prompt": "hello", "completion": " world", "decoder_text": "hello"}),
            "more for the decoder beside them",
        ),
        (
            "t5",
            json!({"input_ids": [5], "decoder_text": "hello"}),
            "no `decoder_start_token_id`",
        ),
        (
            "mbart",
            json!({"input_ids": [5], "labels": [-100, -100]}),
            "none of its labels counts",
        ),
        (
            "fsmt",
            json!({"input_ids": [5], "labels": [5, -100, 6]}),
            "label 1 is -100: the decoder would read padding (token 1)",
        ),
    ] {
        place.write("in.jsonl", line.to_string() + "\n");
        let run = [
            "run",
            model,
            "--input",
            "in.jsonl",
            "--out",
            "out",
            "--fresh",
            "--tokenizer-file",
        ];
        place.sli(&run).failure(3, &[says, "hint: "]);
    }
}

#[test]
fn labels_and_completions_are_what_the_decoder_is_to_say() {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, UInt32Type};
    let place = Place::new();
    place.write_model("model", &bart());
    place.write_tokenizer("model");
    let lines = [
        // What follows has the same labels as the first three; one of the last two does not count.
        json!({"id": "text", "text": "hello", "decoder_text": "world hello"}),
        json!({"id": "prompted", "prompt": "hello", "completion": "world hello"}),
        json!({"id": "labelled", "input_ids": [5, 6, 7], "labels": [8, 9, 10]}),
        json!({"id": "beside", "input_ids": [5, 6, 7], "labels": [8, 9, 10], "decoder_input_ids": [2, 8, 9]}),
        json!({"id": "masked", "input_ids": [5, 6, 7], "labels": [8, -100, 10], "decoder_input_ids": [2, 8, 9],
               "attention_mask": [1, 1, 1]}),
        json!({"id": "padded", "input_ids": [5, 6, 7, 1], "labels": [8, 9, -100, -100], "attention_mask": [1, 1, 1, 0]}),
    ];
    place.write(
        "in.jsonl",
        lines.map(|line| line.to_string() + "\n").concat(),
    );
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--take", "scores",
    ];
    place.sli(&run).success();
    let scores = read_parquet(&place.path("out/scores.parquet"));
    let column = |name: &str| scores.column_by_name(name).unwrap();
    let sums = column("sum_logprob").as_primitive::<Float64Type>().values();
    let own = column("completion_sum_logprob").as_primitive::<Float64Type>();
    let counts = column("completion_tokens").as_primitive::<UInt32Type>();
    assert_eq!(sums[0].to_bits(), sums[1].to_bits());
    assert_eq!(sums[2].to_bits(), sums[3].to_bits());
    assert!(own.is_null(0) && own.is_null(1));
    assert_eq!(own.value(2).to_bits(), sums[2].to_bits());
    assert_eq!([2, 3, 4, 5].map(|row| counts.value(row)), [3, 3, 2, 2]);
    let logprobs = column("logprobs").as_list::<i32>();
    let of = |row: usize| {
        let values = logprobs.value(row);
        values
            .as_primitive::<arrow::datatypes::Float32Type>()
            .values()
            .to_vec()
    };
    let [whole, masked, padded] = [of(3), of(4), of(5)];
    assert_eq!(own.value(4), f64::from(whole[0]) + f64::from(whole[2]));
    assert_eq!([masked[0], masked[2]], [whole[0], whole[2]]);
    // The padding behind the labels is not there for the tokens in front of it.
    assert_eq!(padded[..2], of(2)[..2]);
    assert_eq!(own.value(5), f64::from(padded[0]) + f64::from(padded[1]));
}

fn whisper() -> Value {
    json!({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "vocab_size": 20, "d_model": 64,
           "num_mel_bins": 8, "max_source_positions": 30, "max_target_positions": 64, "encoder_layers": 2,
           "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
           "decoder_ffn_dim": 80, "decoder_start_token_id": 1, "pad_token_id": 0})
}

#[test]
fn an_encoder_of_sound_reads_tensors_that_records_name() {
    let place = Place::new();
    place.write_model("model", &whisper());
    let features =
        |prefix: &str, count: usize, shape: [usize; 2]| -> BTreeMap<String, Vec<usize>> {
            let name = |number| format!("{prefix}{number}.input_features");
            (0..count)
                .map(|number| (name(number), shape.to_vec()))
                .collect()
        };
    place.write(
        "data/mel.safetensors",
        safetensors(&features("", 12, [8, 60])),
    );
    place.write(
        "data/short.safetensors",
        safetensors(&features("", 1, [8, 59])),
    );
    let line = |number: usize| {
        let ids: Vec<usize> = (0..number * 5 % 17).map(|id| 3 + id).collect();
        let record = json!({"tensors": "mel.safetensors", "tensor_prefix": format!("{number}."), "labels": ids});
        record.to_string() + "\n"
    };
    place.write("data/in.jsonl", (0..12).map(line).collect::<String>());
    let run = [&["run", "model", "--input", "data/in.jsonl"][..], &ALL].concat();
    let summary = within_every_budget(&place, &run);
    assert_eq!(summary["records"], 12);
    let wrong = ["--input", "data/wrong.jsonl", "--out", "wrong"];
    let run = [&["run", "model"][..], &wrong].concat();
    for (line, says) in [
        (
            json!({"tensors": "none.safetensors"}),
            "cannot read (data/none.safetensors)",
        ),
        (
            json!({"tensors": "mel.safetensors"}),
            "has no tensor `input_features`",
        ),
        (
            json!({"tensors": "short.safetensors", "tensor_prefix": "0."}),
            "has shape [8, 59], the model wants [8, 60]",
        ),
        (json!({"input_ids": [5]}), "the record has no `tensors`"),
        (
            json!({"tensors": "mel.safetensors", "tensor_prefix": "0.", "input_ids": [5]}),
            "its encoder reads `tensors`, not `input_ids`",
        ),
    ] {
        place.write("data/wrong.jsonl", line.to_string() + "\n");
        let code = if says.starts_with("cannot read") {
            5
        } else {
            3
        };
        place.sli(&run).failure(code, &[says, "hint: "]);
    }
    place.write("data/wrong.jsonl", "{\"tensors\": \"/dev/zero\"}\n");
    place
        .sli(&run)
        .failure(5, &["not a regular file", "hint: "]);
    place.write_model("t5", &t5());
    place.write("data/t5.jsonl", line(1));
    let run = ["run", "t5", "--input", "data/t5.jsonl", "--out", "wrong"];
    place
        .sli(&run)
        .failure(3, &["the model takes no `tensors`", "hint: "]);
}
