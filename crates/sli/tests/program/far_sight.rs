//! Encoders that see a part of a long record and what stands for the rest of it, and those that read frames of any number.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::budgets::within_every_budget;
use crate::end_to_end::ALL;
use crate::place::{Place, safetensors};

fn pegasus_x() -> Value {
    json!({"model_type": "pegasus_x", "architectures": ["PegasusXForConditionalGeneration"], "vocab_size": 40, "d_model": 64,
           "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_position_embeddings": 64, "num_global_tokens": 3,
           "block_size": 8, "decoder_start_token_id": 0, "pad_token_id": 0})
}

fn longt5() -> Value {
    json!({"model_type": "longt5", "architectures": ["LongT5ForConditionalGeneration"], "vocab_size": 40, "d_model": 64,
           "d_kv": 24, "d_ff": 96, "num_heads": 3, "num_layers": 2, "num_decoder_layers": 1, "decoder_start_token_id": 0,
           "encoder_attention_type": "transient-global", "local_radius": 3, "global_block_size": 5})
}

fn led() -> Value {
    json!({"model_type": "led", "architectures": ["LEDForConditionalGeneration"], "vocab_size": 40, "d_model": 64,
           "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_encoder_position_embeddings": 64, "pad_token_id": 1,
           "max_decoder_position_embeddings": 64, "attention_window": [4, 8], "decoder_start_token_id": 2})
}

fn moonshine() -> Value {
    json!({"model_type": "moonshine", "architectures": ["MoonshineForConditionalGeneration"], "vocab_size": 40,
           "hidden_size": 64, "intermediate_size": 96, "encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1,
           "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4, "pad_token_id": 2})
}

fn speech_to_text() -> Value {
    json!({"model_type": "speech_to_text", "architectures": ["Speech2TextForConditionalGeneration"], "vocab_size": 40,
           "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
           "decoder_attention_heads": 2, "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "max_target_positions": 64,
           "input_feat_per_channel": 6, "conv_channels": 20, "conv_kernel_sizes": [5, 3]})
}

/// Records of up to 60 tokens, some of them empty, with marks where they are `marked`.
fn records(marked: bool) -> String {
    let line = |number: usize| {
        let ids: Vec<usize> = (0..number * 17 % 61).map(|id| 3 + id % 37).collect();
        let marks = ids.iter().map(|id| usize::from(id % (2 + number) == 0));
        let mut record = json!({"input_ids": ids, "decoder_input_ids": [2, 5, 9]});
        if marked {
            record["global_attention_mask"] = marks.collect();
        }
        record.to_string() + "\n"
    };
    (0..25).map(line).collect()
}

#[test]
fn any_budget_gives_the_same_bytes() {
    for (config, marked) in [(pegasus_x(), false), (longt5(), false), (led(), true)] {
        let place = Place::new();
        place.write_model("model", &config);
        place.write("in.jsonl", records(marked));
        let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL].concat();
        within_every_budget(&place, &run);
    }
}

#[test]
fn marks_of_global_tokens_are_checked() {
    let place = Place::new();
    place.write_model("model", &led());
    place.write_model("longt5", &longt5());
    for (model, line, says) in [
        (
            "model",
            json!({"input_ids": [5, 6], "global_attention_mask": [1]}),
            "`global_attention_mask` has 1 entries for 2 tokens",
        ),
        (
            "model",
            json!({"input_ids": [5, 6], "global_attention_mask": [1, 2]}),
            "`global_attention_mask` of the token at position 1 has 2, which is no 0 or 1",
        ),
        (
            "model",
            json!({"input_ids": [5, 6], "token_type_ids": [1, 0]}),
            "the model has no token types",
        ),
        (
            "longt5",
            json!({"input_ids": [5, 6], "global_attention_mask": [1, 0]}),
            "the model has no global tokens",
        ),
    ] {
        place.write("wrong.jsonl", line.to_string() + "\n");
        let run = ["run", model, "--input", "wrong.jsonl", "--out", "wrong"];
        place.sli(&run).failure(3, &[says]);
    }
}

#[test]
fn frames_of_any_number_come_as_tensors() {
    let samples = |number: usize| vec![895 + number * 701];
    let frames = |number: usize| vec![1 + number * 13, 6];
    let cases: [(_, _, &dyn Fn(usize) -> Vec<usize>, _, _); 2] = [
        (moonshine(), "input_values", &samples, vec![894], "[frames]"),
        (
            speech_to_text(),
            "input_features",
            &frames,
            vec![9, 5],
            "[frames, 6]",
        ),
    ];
    for (config, name, shape, wrong, wanted) in cases {
        let place = Place::new();
        place.write_model("model", &config);
        let mut tensors: BTreeMap<String, Vec<usize>> = (0..9)
            .map(|number| (format!("{number}.{name}"), shape(number)))
            .collect();
        tensors.insert(format!("wrong.{name}"), wrong);
        place.write("sound.safetensors", safetensors(&tensors));
        let line = |prefix: String| {
            let record = json!({"tensors": "sound.safetensors", "tensor_prefix": prefix, "labels": [5, -100, 7]});
            record.to_string() + "\n"
        };
        let lines = (0..9).map(|number| line(format!("{number}.")));
        place.write("in.jsonl", lines.collect::<String>());
        let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL].concat();
        let summary = within_every_budget(&place, &run);
        assert_eq!(summary["records"], 9);
        place.write("wrong.jsonl", line("wrong.".into()));
        let run = ["run", "model", "--input", "wrong.jsonl", "--out", "wrong"];
        let says = format!("the model wants {wanted} with enough frames for a row");
        place.sli(&run).failure(3, &[&says, "hint: "]);
    }
}
