//! Heads that the configuration ties to the token table while the weights say otherwise, after the
//! reference: a stored head that differs is used, one that is equal or stands for the table is tied.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};
use sli_checkpoint::HeadOrigin;
use sli_engine::journal::{Opened, OutputFolder, RunKey};
use sli_engine::records::{Record, RecordSpoolWriter};
use sli_engine::take::Take;
use sli_engine::{Model, OpenOptions, Quiet, Settings, run};
use sli_testing::{Golden, Stored, compare, read_tensors};

const TABLE: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The logits of a folder are those of the golden.
fn check(golden: &Golden, folder: &Path, head: HeadOrigin) {
    let model = Model::open(folder, &OpenOptions::default()).unwrap();
    assert_eq!(model.binding.head(), head, "{}", golden.name);
    let work = tempfile::tempdir().unwrap();
    let mut writer = RecordSpoolWriter::create(&work.path().join("spool")).unwrap();
    for record in golden.records() {
        let (id, tokens, token_types) = (record.id, record.input_ids, record.token_type_ids);
        let record = Record {
            id,
            tokens,
            token_types,
            ..Record::default()
        };
        writer.push(&record).unwrap();
    }
    let settings = Settings {
        takes: vec![Take::Logits],
        memory: 1 << 30,
        ..Settings::default()
    };
    let out = work.path().join("out");
    let Opened::New(output) = OutputFolder::open(&out, RunKey::new(), false).unwrap() else {
        panic!("the output folder is new");
    };
    let records = writer.finish().unwrap();
    run(&model, &records, &settings, output, &Quiet).unwrap();
    let found = read_tensors(&out.join("logits.safetensors"));
    for record in golden.records() {
        let expected = &golden.expectations(&record.id)["logits"];
        compare(&found[&record.id], expected, 1e-4).unwrap();
    }
}

/// Writes the tensors of a golden's file again under the names that `names` gives each.
fn rewrite(folder: &Path, mut names: impl FnMut(&str) -> Vec<String>) {
    let path = folder.join("model.safetensors");
    let bytes = fs_err::read(&path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let views: Vec<(String, TensorView<'_>)> = stored
        .tensors()
        .into_iter()
        .flat_map(|(name, view)| {
            let copies = names(&name).into_iter();
            copies.map(move |name| (name, view.clone()))
        })
        .collect();
    fs_err::remove_file(&path).unwrap();
    serialize_to_file(views, None, &path).unwrap();
}

#[test]
fn a_head_that_differs_from_the_table_is_used() {
    let golden = Golden::open("llama");
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    assert_eq!(config["tie_word_embeddings"], json!(false));
    config["tie_word_embeddings"] = json!(true);
    fs_err::write(&path, config.to_string()).unwrap();
    check(&golden, folder.path(), HeadOrigin::Stored);
}

/// DeepSeek-V4's files are published under other names than those of its class, which the reference reads as well.
#[test]
fn a_head_may_have_the_name_that_its_class_gives_it() {
    let golden = Golden::open("deepseek_v4");
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    let mut found = false;
    rewrite(folder.path(), |name| {
        found |= name == "head.weight";
        vec![name.replace("head.weight", HEAD)]
    });
    assert!(found);
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    check(&golden, folder.path(), HeadOrigin::Configured);
    config["tie_word_embeddings"] = json!(true);
    fs_err::write(&path, config.to_string()).unwrap();
    check(&golden, folder.path(), HeadOrigin::Stored);
}

#[test]
fn a_head_that_equals_the_table_is_the_table() {
    let golden = Golden::open("llama-biases-tied");
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    rewrite(folder.path(), |name| {
        let copy = (name == TABLE).then(|| HEAD.to_owned());
        std::iter::once(name.to_owned()).chain(copy).collect()
    });
    check(&golden, folder.path(), HeadOrigin::Configured);
}

#[test]
fn a_head_stands_for_a_table_that_is_not_stored() {
    let golden = Golden::open("llama-biases-tied");
    let folder = tempfile::tempdir().unwrap();
    golden.write(folder.path(), Stored::F32);
    rewrite(folder.path(), |name| {
        vec![if name == TABLE { HEAD } else { name }.to_owned()]
    });
    check(&golden, folder.path(), HeadOrigin::Configured);
}

#[test]
fn addends_are_tied_apart_from_the_head() {
    const WEIGHT: &str = "cls.predictions.decoder.weight";
    const OWN: &str = "cls.predictions.decoder.bias";
    const SHARED: &str = "cls.predictions.bias";
    for (golden, stored, addends, head) in [
        // A head of its own that shares the addend is stored without one.
        ("bert", WEIGHT, [SHARED, SHARED], HeadOrigin::Configured),
        ("bert", OWN, [SHARED, OWN], HeadOrigin::Configured),
        ("bert", OWN, [OWN, OWN], HeadOrigin::Configured),
    ] {
        let golden = Golden::open(golden);
        let folder = tempfile::tempdir().unwrap();
        golden.write(folder.path(), Stored::F32);
        rewrite(folder.path(), |name| match name {
            SHARED => {
                let mut names: Vec<String> = addends.map(str::to_owned).to_vec();
                names.dedup();
                names
            }
            "bert.embeddings.word_embeddings.weight" if stored == WEIGHT => {
                vec![name.to_owned(), WEIGHT.to_owned()]
            }
            name => vec![name.to_owned()],
        });
        check(&golden, folder.path(), head);
    }
}
