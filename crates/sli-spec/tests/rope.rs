//! Rotary frequencies against those that the reference computes (`tools/defaults/rope_fixture.py`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde::Deserialize;
use serde_json::{Value, json};
use sli_spec::rope::{Rope, RopeOptions};
use sli_spec::{Config, LengthLimit, SpecError};

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Value,
    options: CaseOptions,
    results: Vec<Expected>,
}

#[derive(Deserialize)]
struct CaseOptions {
    head_dim: usize,
    layer_type: Option<String>,
    #[serde(default)]
    partial: bool,
    scaled: Option<bool>,
    theta_keys: Option<Vec<String>>,
    partial_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Expected {
    length: usize,
    inverse: Vec<f32>,
    attention_factor: f64,
}

fn rope_of(config: &Value, options: &RopeOptions<'_>) -> Result<Option<Rope>, SpecError> {
    Rope::from_config(&Config::parse(&config.to_string())?, options)
}

fn llama(keys: &Value) -> Result<Option<Rope>, SpecError> {
    let mut config = json!({"model_type": "llama", "max_position_embeddings": 128});
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    rope_of(&config, &RopeOptions::new(16))
}

#[test]
fn frequencies_are_those_of_the_reference() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("rope.json")).unwrap();
    assert!(cases.len() >= 40);
    for Case {
        name,
        config,
        options,
        results,
    } in cases
    {
        let keys = |keys: &Option<Vec<String>>| {
            keys.as_ref().map(|keys| {
                keys.iter()
                    .map(|key| &*key.clone().leak())
                    .collect::<Vec<_>>()
            })
        };
        let (theta_keys, partial_keys) = (keys(&options.theta_keys), keys(&options.partial_keys));
        let mut rope_options = RopeOptions {
            layer_type: options.layer_type.as_deref(),
            partial: options.partial,
            scaled: options.scaled.unwrap_or(true),
            ..RopeOptions::new(options.head_dim)
        };
        if let Some(keys) = &theta_keys {
            rope_options.theta_keys = keys;
        }
        if let Some(keys) = &partial_keys {
            rope_options.partial_keys = keys;
        }
        let rope = rope_of(&config, &rope_options).unwrap().unwrap();
        for Expected {
            length,
            inverse,
            attention_factor,
        } in results
        {
            let found = rope.frequencies(length);
            assert_eq!(
                found.inverse.len(),
                inverse.len(),
                "{name}, {length} tokens"
            );
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 4.0 * f32::EPSILON * b.abs();
            assert!(
                found.inverse.iter().zip(&inverse).all(close),
                "{name}, {length} tokens:\n{:?}\n{inverse:?}",
                found.inverse
            );
            let difference = (f64::from(found.attention_factor) - attention_factor).abs();
            assert!(
                difference < 1e-6,
                "{name}: {} {attention_factor}",
                found.attention_factor
            );
        }
    }
}

#[test]
fn records_of_one_length_class_share_their_frequencies() {
    let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}});
    let dynamic = llama(&dynamic).unwrap().unwrap();
    assert!(dynamic.depends_on_length());
    assert_eq!(dynamic.length_class(1), dynamic.length_class(128));
    assert_ne!(dynamic.length_class(128), dynamic.length_class(129));
    assert_ne!(dynamic.length_class(129), dynamic.length_class(130));
    assert_eq!(dynamic.frequencies(1), dynamic.frequencies(128));
    let plain = llama(&json!({})).unwrap().unwrap();
    assert!(!plain.depends_on_length());
    assert_eq!(plain.length_class(1), plain.length_class(10_000));
}

#[test]
fn scaling_extends_the_trained_length() {
    let limit = |keys: Value| llama(&keys).unwrap().unwrap().length_limit(128);
    assert_eq!(limit(json!({})), LengthLimit::Trained(128));
    assert_eq!(
        limit(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})),
        LengthLimit::Trained(256)
    );
    assert_eq!(
        limit(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}})),
        LengthLimit::None
    );
    let yarn = |original: usize| {
        json!({"rope_scaling": {"type": "yarn", "factor": 4.0,
               "original_max_position_embeddings": original}})
    };
    assert_eq!(limit(yarn(128)), LengthLimit::Trained(512));
    assert_eq!(limit(yarn(32)), LengthLimit::Trained(128));
}

#[test]
fn what_is_not_known_is_refused() {
    let error = |keys: Value| llama(&keys).unwrap_err().to_string();
    assert_eq!(
        error(json!({"rope_scaling": {"type": "su", "factor": 2.0}})),
        "config.json: `rope_scaling.type` = \"su\" is not supported: unknown rope type"
    );
    assert_eq!(
        error(json!({"rope_parameters": {"rope_type": "mrope"}})),
        "config.json: `rope_parameters.rope_type` = \"mrope\" is not supported: unknown rope type"
    );
    assert_eq!(
        error(json!({"rope_theta": 0})),
        "config.json: `rope_theta` is 0, expected a finite number above 0"
    );
    assert_eq!(
        error(json!({"rope_scaling": {"type": "linear"}})),
        "config.json: `rope_scaling.factor` is missing"
    );
    assert_eq!(
        error(
            json!({"rope_scaling": {"type": "linear", "factor": 2}, "partial_rotary_factor": 0.5})
        ),
        "config.json: `partial_rotary_factor` = 0.5 is not supported: this type rotates whole heads"
    );
    let long =
        json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": []}});
    assert_eq!(
        error(long),
        "config.json: `rope_scaling.short_factor` is [1.0], expected 8 numbers above 0"
    );
}

#[test]
fn a_kind_of_layer_without_object_does_not_rotate() {
    let config = json!({"model_type": "llama", "max_position_embeddings": 128, "rope_parameters":
        {"full_attention": null, "sliding_attention": {"rope_type": "default"}}});
    let options = |layer_type| RopeOptions {
        layer_type: Some(layer_type),
        ..RopeOptions::new(16)
    };
    assert_eq!(rope_of(&config, &options("full_attention")), Ok(None));
    assert!(
        rope_of(&config, &options("sliding_attention"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn an_original_length_without_scaling_is_read_and_has_no_effect() {
    let plain = llama(&json!({"rope_theta": 300.0})).unwrap();
    let keys =
        json!({"rope_theta": 300.0, "rope_scaling": {}, "original_max_position_embeddings": 64});
    assert_eq!(llama(&keys).unwrap(), plain);
}

/// Three of twelve features, as the reference's `_compute_yarn_parameters` turns them.
#[test]
fn yarn_turns_three_features_as_two_pairs() {
    let config = json!({
        "model_type": "llama",
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 300.0,
            "partial_rotary_factor": 0.25,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "truncate": false
        }
    });
    let options = RopeOptions {
        partial: true,
        ..RopeOptions::new(12)
    };
    let rope = rope_of(&config, &options).unwrap().unwrap();
    assert_eq!((rope.dims, rope.span), (4, 3));
    let found = rope.frequencies(8).inverse;
    let expected = [1.0_f32, 0.022_314_43];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    }
}
