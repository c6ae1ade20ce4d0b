//! Whole descriptions of small models, one of each arrangement.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use sli_spec::{Config, Facts, Options, describe, registry::MODEL_TYPES};

fn check(name: &str, config: &serde_json::Value) {
    let config = Config::parse(&config.to_string()).unwrap();
    let spec = describe(&config, &Options::default()).unwrap().spec;
    insta::assert_debug_snapshot!(name, spec);
}

#[test]
fn llama() {
    check(
        "llama",
        &json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
                "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1,
                "intermediate_size": 96, "vocab_size": 100}),
    );
}

#[test]
fn gemma2() {
    check(
        "gemma2",
        &json!({"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "hidden_size": 64,
                "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
                "intermediate_size": 96, "head_dim": 16, "vocab_size": 100}),
    );
}

#[test]
fn gpt2() {
    check(
        "gpt2",
        &json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64,
                "n_head": 4, "n_layer": 1, "n_positions": 32, "vocab_size": 100}),
    );
}

#[test]
fn roberta() {
    check(
        "roberta",
        &json!({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"],
                "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1,
                "intermediate_size": 96, "max_position_embeddings": 34, "vocab_size": 100}),
    );
}

#[test]
fn facts() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/facts");
    settings.set_prepend_module_to_snapshot(false);
    let _bound = settings.bind_to_scope();
    for row in MODEL_TYPES.iter() {
        let facts = serde_json::to_string_pretty(&Facts::of(row).unwrap()).unwrap();
        insta::assert_snapshot!(row.model_type, facts);
    }
}
