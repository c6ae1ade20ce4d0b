//! Reading configurations: what is accepted, what is refused, and with which words.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::{Value, json};
use sli_spec::registry::MODEL_TYPES;
use sli_spec::{Config, Facts, Mask, Mixer, Options, SpecError, describe};

fn built(config: &Value) -> Result<sli_spec::Built, SpecError> {
    describe(&Config::parse(&config.to_string())?, &Options::default())
}

fn error(config: &Value) -> String {
    built(config).unwrap_err().to_string()
}

fn small(model_type: &str) -> Value {
    json!({"model_type": model_type, "hidden_size": 64, "num_attention_heads": 4,
           "num_key_value_heads": 2, "num_hidden_layers": 2, "intermediate_size": 96,
           "vocab_size": 100})
}

fn with(mut config: Value, keys: Value) -> Value {
    let Value::Object(keys) = keys else {
        unreachable!("keys are an object")
    };
    config.as_object_mut().unwrap().extend(keys);
    config
}

#[test]
fn what_python_writes_for_non_finite_numbers_is_read() {
    let text = r#"{"a": Infinity, "b": [-Infinity, NaN], "c": "NaN \" Infinity \\",
                   "d": {"__float__": "-Infinity"}, "Infinity": 1}"#;
    let config = Config::parse(text).unwrap();
    assert_eq!(config.number("a"), Ok(f64::INFINITY));
    let list = config.numbers("b").unwrap().unwrap();
    assert!(list[0] == f64::NEG_INFINITY && list[1].is_nan());
    assert_eq!(
        config.optional_text("c"),
        Ok(Some("NaN \" Infinity \\".into()))
    );
    assert_eq!(config.number("d"), Ok(f64::NEG_INFINITY));
    assert_eq!(config.number("Infinity"), Ok(1.0));
    let shown = config.positive("a").unwrap_err().to_string();
    assert_eq!(
        shown,
        "config.json: `a` is Infinity, expected a finite number above 0"
    );
}

#[test]
fn of_a_key_that_stands_twice_the_last_one_counts() {
    let config = Config::parse(r#"{"a": 1, "b": {"c": 2, "c": 3}, "a": NaN, "a": 4}"#).unwrap();
    assert_eq!(config.number("a"), Ok(4.0));
    assert_eq!(config.nested("b").unwrap().unwrap().number("c"), Ok(3.0));
}

#[test]
fn a_byte_order_mark_is_refused_as_in_the_reference() {
    let error = Config::parse("\u{feff}{}").unwrap_err();
    assert_eq!(error, SpecError::ByteOrderMark);
    assert!(error.hint().contains("without a byte order mark"));
}

/// `NaN` and `Infinity` matter where they are looked at.
#[test]
fn non_finite_numbers_are_refused_only_where_they_are_read() {
    let text = |keys: &str| {
        let own = small("llama").to_string();
        format!("{}, {keys}}}", own.trim_end_matches('}'))
    };
    let built = |keys: &str| {
        describe(&Config::parse(&text(keys)).unwrap(), &Options::default()).map(|built| built.idle)
    };
    let aside = built(
        r#""initializer_range": NaN, "classifier_dropout": -Infinity, "task_specific_params": {"a": [NaN]},
           "router_aux_loss_coef": Infinity"#,
    );
    assert_eq!(aside, Ok(vec!["router_aux_loss_coef".to_owned()]));
    for (key, value) in [
        ("rms_norm_eps", "NaN"),
        ("hidden_size", "Infinity"),
        ("rope_theta", "NaN"),
        ("num_hidden_layers", "-Infinity"),
    ] {
        let error = built(&format!("\"{key}\": {value}"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("config.json: `{key}` is {value}, expected ")),
            "{error}"
        );
    }
}

/// The keys of published files (SmolLM 2, the first Llama conversions, Phi-4-mini, StarCoder 2).
#[test]
fn keys_that_no_class_of_the_reference_reads_are_set_aside() {
    let idle = |config: Value| built(&config).map(|built| built.idle);
    let llama = with(
        small("llama"),
        json!({"is_llama_config": true, "rope_interleaved": false, "max_sequence_length": 2048}),
    );
    assert_eq!(
        idle(llama).unwrap(),
        ["is_llama_config", "rope_interleaved", "max_sequence_length"]
    );
    let starcoder = with(
        small("starcoder2"),
        json!({"norm_epsilon": 1e-5, "rms_norm_eps": 1e-5}),
    );
    assert_eq!(idle(starcoder).unwrap(), ["rms_norm_eps"]);
    let foreign = json!({"qk_layernorm": true, "alibi": true, "image_size": 224});
    let keys = ["qk_layernorm", "alibi", "image_size"];
    assert_eq!(idle(with(small("llama"), foreign.clone())).unwrap(), keys);

    let turning = json!({"rope_scaling": {"type": "linear", "factor": 2.0, "alpha": 1000.0}});
    assert_eq!(
        idle(with(small("llama"), turning.clone())).unwrap(),
        ["rope_scaling.alpha"]
    );
    assert!(
        idle(with(
            small("phimoe"),
            json!({"rope_scaling": {"type": "linear", "factor": 2.0,
        "long_mscale": 2.0}})
        ))
        .is_err()
    );

    // Code beside the weights may read what the reference does not; what is known of it is known.
    let own = json!({"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}});
    let error = error(&with(with(small("llama"), foreign), own.clone()));
    assert_eq!(
        error,
        "config.json: nothing reads `qk_layernorm`, `alibi`, `image_size`"
    );
    let phi = json!({"full_attn_mod": 1, "interpolate_factor": 1});
    assert_eq!(
        idle(with(with(small("phi3"), own), phi)).unwrap(),
        ["full_attn_mod", "interpolate_factor"]
    );
    let galactica = json!({"model_type": "opt", "hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 96,
                           "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100,
                           "learned_embeddings": true, "scale_embeddings": false});
    assert_eq!(
        idle(galactica).unwrap(),
        ["learned_embeddings", "scale_embeddings"]
    );
    // What training and loading leave, in files of any type.
    let left = json!({"use_flash_attention_2": true, "neftune_noise_alpha": 5.0, "loss_type": "ForCausalLMLoss",
                      "padding_side": "left", "use_liger_kernel": true});
    assert!(idle(with(small("llama"), left)).unwrap().is_empty());
    // No class of the reference knows this type.
    let orion = with(small("orion"), json!({"qk_layernorm": true}));
    assert!(idle(orion).is_err());
}

#[test]
fn slips_of_the_pen_are_refused_with_the_key_that_was_meant() {
    let hint = |keys| built(&with(small("llama"), keys)).unwrap_err().hint();
    assert_eq!(
        hint(json!({"rope_thetaa": 500_000})),
        "did you mean `rope_theta` by `rope_thetaa`? if they do not change the forward pass: \
         --allow-unread rope_thetaa"
    );
    assert!(hint(json!({"rms_norm_ep": 1e-3})).contains("did you mean `rms_norm_eps`"));
    let inner = json!({"rope_scaling": {"type": "linear", "factor": 2.0, "fcator": 3.0}});
    assert!(hint(inner).contains("--allow-unread rope_scaling.fcator"));
    // Beside the key itself the other one is a leftover, and so is one with the class's own value.
    let gptj = |keys| built(&with(json!({"model_type": "gptj"}), keys)).map(|built| built.idle);
    assert!(gptj(json!({"n_layers": 3})).is_err());
    assert_eq!(
        gptj(json!({"n_layers": 3, "n_layer": 3})).unwrap(),
        ["n_layers"]
    );
    assert_eq!(gptj(json!({"n_layers": 28})).unwrap(), ["n_layers"]);
}

#[test]
fn what_is_no_object_is_refused() {
    for text in [
        "",
        "[]",
        "null",
        "{",
        "{\"a\": 1,}",
        "\u{0}",
        "{\"a\": InfinityNaN}",
    ] {
        assert!(
            matches!(Config::parse(text), Err(SpecError::Syntax(_))),
            "{text}"
        );
    }
}

#[test]
fn sizes_have_bounds() {
    let message = |key: &str, value: Value| error(&with(small("llama"), json!({key: value})));
    assert_eq!(
        message("num_hidden_layers", json!(1_000_000_000)),
        "config.json: `num_hidden_layers` is 1000000000, expected a whole number from 1 to 10000"
    );
    assert_eq!(
        message("hidden_size", json!(0)),
        "config.json: `hidden_size` is 0, expected a whole number from 1 to 268435456"
    );
    for (key, value) in [
        ("vocab_size", json!(-1)),
        ("vocab_size", json!(1e300)),
        ("hidden_size", json!("64")),
        ("hidden_size", json!(64.5)),
        ("num_attention_heads", json!([4])),
        ("rms_norm_eps", json!(-1e-5)),
        ("hidden_act", json!(3)),
        ("attention_bias", json!("yes")),
    ] {
        let found = message(key, value);
        assert!(
            found.starts_with(&format!("config.json: `{key}` is ")),
            "{found}"
        );
    }
    assert_eq!(
        message("num_key_value_heads", json!(3)),
        "config.json: `num_key_value_heads` is 3, expected a divisor of 4"
    );
}

#[test]
fn every_activation_without_parameters_is_known() {
    // `ACT2FN` of transformers 5.23 but for `prelu`, `xielu` (learned) and `sqrtsoftplus` (a router's).
    for name in [
        "gelu",
        "gelu_10",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_pytorch_tanh",
        "gelu_python_tanh",
        "gelu_accurate",
        "hardswish",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "sigmoid",
        "silu",
        "swish",
        "tanh",
    ] {
        assert!(sli_spec::Activation::from_name(name).is_some(), "{name}");
    }
    assert!(sli_spec::Activation::from_name("prelu").is_none());
}

#[test]
fn sizes_that_are_in_bounds_one_by_one_do_not_overflow() {
    let config = with(
        small("llama"),
        json!({"hidden_size": 1 << 28, "head_dim": 65_536,
        "intermediate_size": 1 << 28, "num_attention_heads": 65_536,
        "num_key_value_heads": 65_536, "vocab_size": 1 << 28, "num_hidden_layers": 100}),
    );
    assert_eq!(built(&config).unwrap().spec.parameters(|_| true), u64::MAX);
}

#[test]
fn unread_keys_are_refused_unless_allowed() {
    let config = with(
        small("llama"),
        json!({"use_magic": true, "rope_scaling": {"type": "linear", "factor": 2.0, "twist": 1},
               "torch_dtype": "bfloat16", "unused": null, "none": [], "use_cache": true}),
    );
    assert_eq!(
        error(&config),
        "config.json: nothing reads `use_magic`, `rope_scaling.twist`"
    );
    let options = Options {
        allow_unread: vec!["use_magic".into(), "rope_scaling.twist".into()],
    };
    let config = Config::parse(&config.to_string()).unwrap();
    let unread = describe(&config, &options).unwrap().unread;
    assert_eq!(unread, ["use_magic", "rope_scaling.twist"]);
}

#[test]
fn whether_a_key_matters_can_depend_on_its_value() {
    let llama = |keys| built(&with(small("llama"), keys));
    assert!(llama(json!({"is_encoder_decoder": false, "is_decoder": true})).is_ok());
    assert!(llama(json!({"is_encoder_decoder": true})).is_err());
    assert!(llama(json!({"add_cross_attention": false})).is_ok());
    assert!(llama(json!({"add_cross_attention": true})).is_err());
    assert!(llama(json!({"pruned_heads": {}})).is_ok());
    assert!(llama(json!({"pruned_heads": {"0": [1]}})).is_err());
}

#[test]
fn a_decoder_that_is_not_causal_looks_ahead_or_is_refused() {
    let masks = |model_type: &str, keys| {
        let spec = built(&with(small(model_type), keys)).unwrap().spec;
        let steps = &spec.stacks[0].layers[0].steps;
        let Mixer::Attention(attention) = &steps[0].branches[0].mixer else {
            unreachable!("the first step is attention")
        };
        attention.mask
    };
    assert_eq!(masks("llama", json!({"is_causal": true})), Mask::Causal);
    assert_eq!(masks("llama", json!({"is_causal": false})), Mask::Full);
    // The reference asks `not config.is_causal`.
    assert_eq!(masks("llama", json!({"is_causal": null})), Mask::Full);
    let windowed = json!({"is_causal": false, "sliding_window": 8});
    assert_eq!(masks("mistral", windowed), Mask::Window(8));
    // Keys that attention chooses, attentions that disagree, code that is not the reference's.
    for model_type in ["doge", "nemotron", "stablelm", "bert", "gpt2", "internlm"] {
        for value in [json!(false), json!(null)] {
            let config = with(
                json!({"model_type": model_type}),
                json!({"is_causal": value}),
            );
            assert!(error(&config).contains("`is_causal`"), "{model_type}");
        }
    }
}

#[test]
fn a_window_of_which_the_attentions_of_the_reference_differ_is_refused_where_it_matters() {
    let olmoe = |window: usize| built(&with(small("olmoe"), json!({"sliding_window": window})));
    assert!(olmoe(4095).is_err());
    let spec = olmoe(4096).unwrap().spec;
    assert_eq!(spec, built(&small("olmoe")).unwrap().spec);
}

#[test]
fn rotations_by_kind_are_not_taken_from_keys_that_their_class_does_not_look_at() {
    let yarn =
        |key: &str| json!({key: "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    for model_type in ["gemma3_text", "gemma3n_text", "olmo3"] {
        let with = |keys| built(&with(json!({"model_type": model_type}), keys));
        assert!(with(json!({"rope_scaling": yarn("rope_type")})).is_ok());
        let error = with(json!({"rope_scaling": yarn("type")})).unwrap_err();
        assert!(error.to_string().contains("`rope_type` only"), "{error}");
        let error = with(json!({"rope_parameters": yarn("rope_type")})).unwrap_err();
        assert!(error.to_string().contains("each kind of layer"), "{error}");
    }
    let beam = with(json!({"model_type": "beam"}), json!({"rope_theta": 300.0}));
    assert_eq!(error(&beam), "config.json: nothing reads `rope_theta`");
}

#[test]
fn remote_code_under_a_known_type_is_refused() {
    let jina = with(
        json!({"model_type": "bert", "architectures": ["JinaBertForMaskedLM"]}),
        json!({"position_embedding_type": "alibi", "feed_forward_type": "original"}),
    );
    assert!(error(&jina).contains("feed_forward_type"));
    let plain = json!({"position_embedding_type": "absolute", "feed_forward_type": "geglu"});
    let renamed = with(jina, plain);
    assert_eq!(
        error(&renamed),
        "config.json: `architectures` = [\"JinaBertForMaskedLM\"] is not supported: classes of \
         `bert` that are implemented: BertForMaskedLM, BertForPreTraining, \
         BertForSequenceClassification, BertForTokenClassification, BertLMHeadModel, BertModel"
    );
    let anonymous = with(renamed, json!({"architectures": null}));
    assert_eq!(
        error(&anonymous),
        "config.json: nothing reads `feed_forward_type`"
    );
}

#[test]
fn omitted_keys_have_the_default_of_the_class_and_null_stays_null() {
    let masks = |keys| {
        let mut config = small("mistral");
        config = with(config, keys);
        let spec = built(&config).unwrap().spec;
        let steps = &spec.stacks[0].layers[0].steps;
        let Mixer::Attention(attention) = &steps[0].branches[0].mixer else {
            unreachable!("the first step is attention")
        };
        attention.mask
    };
    assert_eq!(masks(json!({})), Mask::CausalWindow(4096));
    assert_eq!(masks(json!({"sliding_window": null})), Mask::Causal);
}

#[test]
fn aliases_of_the_class_are_read() {
    let config = json!({"model_type": "gpt2", "hidden_size": 64, "n_head": 4,
                        "num_hidden_layers": 3, "n_positions": 32});
    let spec = built(&config).unwrap().spec;
    assert_eq!(
        (spec.stacks[0].hidden_size, spec.stacks[0].layers.len()),
        (64, 3)
    );
}

#[test]
fn a_misspelled_type_gets_a_suggestion() {
    let hint = |name: &str| built(&json!({"model_type": name})).unwrap_err().hint();
    assert_eq!(
        hint("lama"),
        "did you mean `llama`? `sli architectures` lists all"
    );
    assert_eq!(
        hint("flux-capacitor"),
        "`sli architectures` lists the supported types"
    );
    assert_eq!(error(&json!({})), "config.json: `model_type` is missing");
}

#[test]
fn the_table_is_sorted_and_every_type_has_facts() {
    assert!(
        MODEL_TYPES
            .windows(2)
            .all(|pair| pair[0].model_type < pair[1].model_type)
    );
    for row in MODEL_TYPES.iter() {
        let facts = Facts::of(row).unwrap_or_else(|error| panic!("{}: {error}", row.model_type));
        assert!(
            !facts.classes.is_empty() && !facts.mixers.is_empty(),
            "{facts:?}"
        );
        assert!(facts.layer_prefix.ends_with("{}."), "{facts:?}");
    }
}

/// Any JSON that resembles a configuration: known keys with odd values.
fn configuration() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..300i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0.0..2.0f64).prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        prop::sample::select(
            &[
                "full_attention",
                "sliding_attention",
                "yarn",
                "longrope",
                "silu"
            ][..]
        )
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(
        &[
            "hidden_size",
            "num_attention_heads",
            "num_key_value_heads",
            "num_hidden_layers",
            "head_dim",
            "vocab_size",
            "rope_parameters",
            "rope_scaling",
            "rope_theta",
            "rope_type",
            "type",
            "factor",
            "original_max_position_embeddings",
            "short_factor",
            "long_factor",
            "layer_types",
            "sliding_window",
            "max_window_layers",
            "no_rope_layers",
            "no_rope_layer_interval",
            "architectures",
            "max_position_embeddings",
            "pad_token_id",
            "partial_rotary_factor",
            "beta_fast",
            "truncate",
            "n_embd",
            "dim",
            "hidden_act",
        ][..],
    );
    let value = leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|keys| keys.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    });
    let names: Vec<_> = MODEL_TYPES.iter().map(|row| row.model_type).collect();
    (prop::sample::select(names), value).prop_map(|(name, value)| match value {
        Value::Object(mut object) => {
            object.insert("model_type".into(), name.into());
            // The class's own number of layers may be large; the description of each is alike.
            object.entry("num_hidden_layers").or_insert(3.into());
            Value::Object(object)
        }
        other => json!({"model_type": name, "num_hidden_layers": other}),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_configuration_panics(config in configuration()) {
        // An error or a description; of a description everything can be asked.
        if let Ok(built) = built(&config) {
            built.spec.parameters(|_| true);
            let _ = serde_json::to_string(&built.spec);
        }
    }

    #[test]
    fn no_text_panics(text in "[{}\\[\\]\",:a-z\\\\0-9NIé -]{0,60}|\\{\"a\": ?-?(Infinity|NaN)[}\"]{0,2}") {
        let _ = Config::parse(&text);
    }
}

#[test]
fn leftovers_that_another_key_switches_off_are_read() {
    let leftovers = json!({
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4,
                            "original_max_position_embeddings": 32, "low_freq_factor": 1.0},
        "use_sliding_window": false, "max_window_layers": 28, "use_mrope": false,
        "keys_to_ignore_at_inference": ["past_key_values"], "model_max_length": 4096
    });
    assert!(built(&with(small("llama"), leftovers)).is_ok());
    let windows = with(small("llama"), json!({"use_sliding_window": true}));
    assert!(error(&windows).contains("use_sliding_window"));
}

/// `rope_theta` and `partial_rotary_factor` beside `rotary_emb_base` and `rotary_pct`, as transformers
/// 4.45 to 4.57 saved them.
#[test]
fn repeated_rotary_keys_must_agree() {
    let both = |theta: f64, part: f64| {
        let keys = json!({
            "rotary_emb_base": 10000, "rotary_pct": 0.25,
            "rope_theta": theta, "partial_rotary_factor": part,
        });
        let mut config = with(small("gpt_neox"), keys);
        config
            .as_object_mut()
            .unwrap()
            .remove("num_key_value_heads");
        config
    };
    built(&both(10000.0, 0.25)).unwrap();
    assert!(error(&both(500.0, 0.25)).contains("`rope_theta`"));
    assert!(error(&both(10000.0, 0.5)).contains("`partial_rotary_factor`"));
}

#[test]
fn qwen2_moe_needs_no_window_where_none_is_used() {
    let config = json!({"model_type": "qwen2_moe", "sliding_window": null, "num_hidden_layers": 2});
    assert_eq!(masks(&config), [Mask::Causal, Mask::Causal]);
}

/// Published DBRX files have the base of the rotations among the attention's keys.
#[test]
fn dbrx_turns_by_the_base_of_its_attention() {
    let thetas = |keys: Value| {
        let own = json!({
            "model_type": "dbrx", "d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64,
            "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2, "uniform_expert_assignment": false},
            "attn_config": {"kv_n_heads": 2, "rope_theta": 500_000, "tie_word_embeddings": true},
        });
        let spec = format!("{:?}", built(&with(own, keys)).unwrap().spec);
        let found = spec.split("theta: ").skip(1);
        let of = |rest: &str| rest.split([',', ' ']).next().unwrap().to_owned();
        found.map(of).collect::<Vec<_>>()
    };
    assert_eq!(thetas(json!({})), ["500000.0", "500000.0"]);
    let newer = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}});
    assert_eq!(thetas(newer), ["300.0", "300.0"]);
    let older = json!({"rope_theta": 700.0});
    assert_eq!(thetas(older), ["700.0", "700.0"]);
    let dealt = json!({"model_type": "dbrx", "ffn_config": {"uniform_expert_assignment": true}});
    assert!(error(&dealt).contains("uniform_expert_assignment"));
}

/// The masks of the layers' first attention.
fn masks(config: &Value) -> Vec<Mask> {
    let spec = built(config).unwrap().spec;
    let mask = |layer: &sli_spec::Layer| {
        let mut branches = layer.steps.iter().flat_map(|step| &step.branches);
        branches.find_map(|branch| match &branch.mixer {
            Mixer::Attention(attention) => Some(attention.mask),
            _ => None,
        })
    };
    spec.stacks[0].layers.iter().filter_map(mask).collect()
}

#[test]
fn a_pattern_of_windows_holds_to_the_last_layer() {
    let keys = json!({"num_hidden_layers": 3, "sliding_window": 5, "sliding_window_pattern": 2,
                      "head_dim": 16});
    let window = Mask::CausalWindow(5);
    let expected = [window, Mask::Causal, window];
    assert_eq!(masks(&with(small("exaone_moe"), keys)), expected);
}

#[test]
fn a_window_of_nothing_both_ways_is_the_token_itself() {
    let keys = json!({"sliding_window": 0, "use_bidirectional_attention": true, "head_dim": 16,
                      "layer_types": ["sliding_attention", "full_attention"]});
    let both = masks(&with(small("gemma3_text"), keys.clone()));
    assert_eq!(both, [Mask::Window(0), Mask::Full]);
    let mut causal = with(small("gemma3_text"), keys);
    causal["use_bidirectional_attention"] = json!(false);
    assert!(error(&causal).contains("sliding_window"));
}

#[test]
fn distances_share_buckets_as_in_the_reference() {
    let rule = sli_spec::RelativeBuckets {
        looks_ahead: true,
        table: sli_spec::WeightIndex(0),
        buckets: 16,
        max_distance: 32,
        types: 1,
    };
    let earlier: Vec<usize> = [0, -1, -3, -4, -6, -8, -12, -31, -32, -1000]
        .map(|distance| rule.bucket(distance))
        .into();
    assert_eq!(earlier, [0, 1, 3, 4, 4, 5, 6, 7, 7, 7]);
    assert_eq!(rule.bucket(1), 9);
    assert_eq!(rule.bucket(40), 15);
}

#[test]
fn windows_that_are_used_have_a_length() {
    let keys = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40,
                      "shared_expert_intermediate_size": 40, "sliding_window": 0});
    let config = with(small("qwen2_moe"), keys);
    assert_eq!(masks(&config), [Mask::Causal; 2]);
    let used = with(config, json!({"use_sliding_window": true}));
    assert!(error(&used).contains("sliding_window"));
}

/// Published files say it in several ways; `num_experts` is the older name, and wins.
#[test]
fn glm_5_takes_what_its_class_takes_of_several_spellings() {
    let glm = |keys: Value| {
        let own = json!({"model_type": "glm_moe_dsa", "num_hidden_layers": 6});
        built(&with(own, keys)).unwrap().spec
    };
    let kinds = json!(["full", "full", "shared", "shared", "full", "shared"]);
    let listed = glm(json!({"indexer_types": kinds}));
    let beside = json!({"indexer_types": kinds, "index_topk_freq": 4, "index_skip_topk_offset": 3,
                        "index_topk_pattern": null, "index_share_for_mtp_iteration": true});
    assert_eq!(glm(beside), listed);
    let pattern = json!({"index_topk_pattern": "FFSSFS", "index_topk_freq": 2});
    assert_eq!(glm(pattern), listed);
    let schedule = glm(json!({"index_topk_freq": 3, "index_skip_topk_offset": 2}));
    assert_eq!(schedule, listed);
    assert_eq!(
        glm(json!({"num_experts": 64, "n_routed_experts": 128})),
        glm(json!({"n_routed_experts": 64}))
    );
}

/// The class of MiMo-V2-Flash reads few of the keys that its published file has: they must say what it does.
#[test]
fn mimo_v2_flash_is_read_as_published_where_that_says_what_the_class_does() {
    let text = include_str!("corpus/XiaomiMiMo__MiMo-V2-Flash.json");
    let published: Value = serde_json::from_str(text).unwrap();
    assert!(built(&published).unwrap().idle.is_empty());
    for (key, value) in [
        ("rope_theta", json!(1e6)),
        ("swa_rope_theta", json!(1e5)),
        ("swa_num_key_value_heads", json!(4)),
        ("layernorm_epsilon", json!(1e-6)),
        ("add_full_attention_sink_bias", json!(true)),
        ("hybrid_layer_pattern", json!(vec![0; 48])),
    ] {
        let message = error(&with(published.clone(), json!({key: value})));
        assert!(message.contains(&format!("`{key}`")), "{message}");
    }
}

#[test]
fn internlm3_of_its_own_class_has_one_switch_for_the_output_and_the_network() {
    let config = with(
        small("internlm3"),
        json!({"architectures": ["InternLM3ForCausalLM"], "bias": true, "qkv_bias": false,
               "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"}}),
    );
    let spec = built(&config).unwrap().spec;
    let names: Vec<&str> = spec.leaves().flat_map(|leaf| leaf.source.names()).collect();
    let has = |name: &str| names.contains(&format!("model.layers.0.{name}.bias").as_str());
    assert!(has("self_attn.o_proj") && has("mlp.up_proj") && has("mlp.down_proj"));
    assert!(!has("self_attn.q_proj") && !has("self_attn.v_proj"));
    let llama = with(config, json!({"architectures": ["LlamaForCausalLM"]}));
    assert!(error(&llama).contains("qkv_bias"));
}

#[test]
fn an_odd_head_is_blamed_on_the_key_that_says_so() {
    let odd = with(small("llama"), json!({"head_dim": 15}));
    assert!(error(&odd).contains("`head_dim` is 15"), "{}", error(&odd));
    let divided = with(small("llama"), json!({"hidden_size": 60}));
    assert!(
        error(&divided).contains("`num_attention_heads` is 4"),
        "{}",
        error(&divided)
    );
}

/// Sizes as the classes of Mamba and Mamba-2 reckon them, and what they cannot be told or would do to the weights.
#[test]
fn scans_are_sized_as_by_their_classes() {
    let sizes = |keys: Value| {
        let base = json!({"model_type": "mamba", "hidden_size": 40, "num_hidden_layers": 1, "vocab_size": 9});
        let spec = built(&with(base, keys)).unwrap().spec;
        let steps = &spec.stacks[0].layers[0].steps;
        let Mixer::SelectiveScan(scan) = &steps[0].branches[0].mixer else {
            panic!("a Mamba layer scans");
        };
        (scan.channels, scan.time_step_rank)
    };
    assert_eq!(sizes(json!({})), (80, 3));
    assert_eq!(
        sizes(json!({"expand": 3, "time_step_rank": "auto"})),
        (120, 3)
    );
    let given = json!({"expand": 3, "intermediate_size": 100, "time_step_rank": 7});
    assert_eq!(sizes(given), (100, 7));

    let mamba2 = |keys: Value| {
        let base = json!({"model_type": "mamba2", "hidden_size": 64, "num_heads": 8, "head_dim": 16,
                          "num_hidden_layers": 1, "vocab_size": 9});
        built(&with(base, keys)).map(|built| built.idle)
    };
    let published = json!({"norm_before_gate": true, "rms_norm": true, "intermediate_size": 128,
                           "chunk_size": 8, "time_step_limit": [0.0, 0.5]});
    assert_eq!(mamba2(published).unwrap(), ["norm_before_gate"]);
    for (keys, says) in [
        (
            json!({"num_heads": 4}),
            "`num_heads` is 4, expected 128 / head_dim",
        ),
        (
            json!({"n_groups": 3}),
            "`n_groups` is 3, expected a divisor of 8",
        ),
        (
            json!({"time_step_limit": [0.1]}),
            "`time_step_limit` is [0.1], expected two numbers",
        ),
        (
            json!({"intermediate_size": 64}),
            "the class takes hidden_size * expand instead",
        ),
        (json!({"chunk_size": 0}), "`chunk_size` is 0, expected"),
        (
            json!({"rescale_prenorm_residual": true}),
            "divides the stored `out_proj`",
        ),
    ] {
        let error = mamba2(keys).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn classes_of_t5gemma_are_the_decoders_unless_the_file_has_an_encoder_only() {
    let part = small("t5_gemma_module");
    let config = json!({"model_type": "t5gemma", "encoder": part, "decoder": part,
                        "architectures": ["T5GemmaForSequenceClassification"]});
    let stacks = |keys: Value| {
        let built = built(&with(config.clone(), keys)).unwrap();
        built.spec.stacks.len()
    };
    assert_eq!(stacks(json!({})), 2);
    assert_eq!(stacks(json!({"is_encoder_decoder": true})), 2);
    assert_eq!(stacks(json!({"is_encoder_decoder": false})), 1);
}
