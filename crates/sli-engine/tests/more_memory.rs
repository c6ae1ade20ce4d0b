//! A larger budget never plans more: neither bytes to read nor passes over the weights.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::take::Take;
use sli_engine::{Compute, EngineError, Grain, Model, OpenOptions, Plan, Settings, Spill, plan};
use sli_spec::{Config, Options, Source};

/// A model of zeros that take no room on the disk.
fn write_model(folder: &Path, config: &Value) {
    let text = config.to_string();
    let built = sli_spec::describe(&Config::parse(&text).unwrap(), &Options::default()).unwrap();
    let mut tensors = BTreeMap::new();
    for leaf in built.spec.leaves() {
        match &leaf.source {
            Source::Each { of, count } => {
                let names = (0..*count).map(|item| name(of).replace("{}", &item.to_string()));
                tensors.extend(names.map(|name| (name, leaf.shape[1..].to_vec())));
            }
            plain => _ = tensors.insert(name(plain), leaf.shape.clone()),
        }
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    let mut front = (header.len() as u64).to_le_bytes().to_vec();
    front.extend(header.as_bytes());
    let path = folder.join("model.safetensors");
    fs_err::write(&path, &front).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((front.len() + end) as u64).unwrap();
    fs_err::write(folder.join("config.json"), text).unwrap();
}

fn name(source: &Source) -> String {
    match source {
        Source::Tensor(name) => name.clone(),
        Source::OneOf(spellings) => name(&spellings[0]),
        other => panic!("these models hold no {other:?}"),
    }
}

/// Records of these lengths; each shares half of its tokens with the one before it.
fn spool(folder: &Path, lengths: &[usize]) -> RecordSpool {
    let mut writer = RecordSpoolWriter::create(folder).unwrap();
    for (record, &length) in lengths.iter().enumerate() {
        let token = |place| {
            if place < length / 2 {
                5
            } else {
                record as u32 % 50
            }
        };
        writer
            .push(&Record {
                id: record.to_string(),
                tokens: (0..length).map(token).collect(),
                ..Record::default()
            })
            .unwrap();
    }
    writer.finish().unwrap()
}

fn settings(memory: u64, spill: Spill, compute: Compute, share_prefixes: bool) -> Settings {
    Settings {
        takes: vec![Take::Profile, Take::Scores, Take::TopK(5)],
        memory,
        threads: 2,
        compute,
        spill,
        share_prefixes,
        ..Settings::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn never_costs_more(
        hidden in prop::sample::select(vec![128_usize, 512, 2048, 4096]),
        inner in prop::sample::select(vec![256_usize, 4096, 12_288]),
        layers in 1_usize..5,
        vocabulary in prop::sample::select(vec![64_usize, 2000, 120_000]),
        experts in prop::sample::select(vec![0_usize, 0, 8]),
        lengths in prop::collection::vec(1_usize..300, 1..40),
        spill in prop::sample::select(vec![Spill::Never, Spill::Auto]),
        compute in prop::sample::select(vec![Compute::F32, Compute::Bf16]),
        share in any::<bool>(),
    ) {
        let place = tempfile::tempdir().unwrap();
        let mut config = json!({
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden / 64,
            "num_key_value_heads": hidden / 128,
            "vocab_size": vocabulary,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "tie_word_embeddings": false
        });
        if experts > 0 {
            config["model_type"] = json!("mixtral");
            config["architectures"] = json!(["MixtralForCausalLM"]);
            config["num_local_experts"] = json!(experts);
            config["num_experts_per_tok"] = json!(2);
        }
        write_model(place.path(), &config);
        let model = Model::open(place.path(), &OpenOptions::default()).unwrap();
        let records = spool(&place.path().join("records"), &lengths);
        let plan_with = |memory| plan(&model, &records, &settings(memory, spill, compute, share));
        let Err(EngineError::Budget { needed: least, .. }) = plan_with(1) else {
            panic!("a byte is enough")
        };
        prop_assert!(plan_with(least - 1).is_err());
        let mut before: Option<Plan> = None;
        let mut memory = least;
        while memory < 64 * least {
            let now = plan_with(memory).unwrap();
            prop_assert!(now.memory_bound <= memory);
            if let Some(before) = &before {
                let say = format!("{memory} bytes:\n{before:?}\n{now:?}");
                // What passes read of the tables depends on where they end.
                let tables = (before.super_batches * 40 * 300 * hidden * 2) as u64;
                let cost = |plan: &Plan| plan.bytes_read_at_most + plan.bytes_spilled;
                prop_assert!(cost(&now) <= cost(before) + tables, "{say}");
                // Unless they read nothing again, or save what moved to disk and back.
                let other_means = now.grain == Grain::Model || before.spill;
                let passes = (before.super_batches, now.super_batches);
                prop_assert!(passes.1 <= passes.0 || other_means, "{say}");
            }
            before = Some(now);
            memory += memory / 24;
        }
    }
}
