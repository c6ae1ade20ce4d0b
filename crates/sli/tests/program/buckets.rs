//! Models and data in buckets of object stores.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;
use sli_loopback::{Fault, Hub, Repo};

use crate::end_to_end::results;
use crate::place::Place;

const SECRET: &str = "s3cretKey0fTheB0x";
/// Weights of the model in the bucket.
const WEIGHTS: &str = "models/a llama/model.safetensors";

/// A model and a run over its data, and the same in a bucket.
fn place() -> (Place, Hub) {
    let place = Place::with_llama();
    let lines = ["{\"input_ids\": [3, 4, 5]}\n", "{\"input_ids\": [7, 1]}\n"];
    place.write("whole.jsonl", lines.concat());
    let whole = ["run", "model", "--input", "whole.jsonl", "--out", "whole"];
    place.sli(&whole).success();
    let hub = Hub::start();
    hub.put("objects/box", bucket(&place, &lines));
    (place, hub)
}

fn bucket(place: &Place, lines: &[&str]) -> Repo {
    let mut files = BTreeMap::new();
    for name in ["config.json", "model.safetensors"] {
        let content = fs_err::read(place.path(&format!("model/{name}"))).unwrap();
        files.insert(format!("models/a llama/{name}"), content);
    }
    // More than a page of a list, and what stands for folders.
    for number in 0..7 {
        files.insert(format!("models/another/{number}.txt"), vec![b'x']);
    }
    files.insert("models/a llama/".into(), Vec::new());
    for (number, line) in lines.iter().enumerate() {
        let content = line.as_bytes().to_vec();
        files.insert(format!("data/part-{number}.jsonl"), content);
    }
    files.insert("data/old/part-0.jsonl".into(), b"{}".to_vec());
    Repo {
        token: Some("key0fTheB0x"),
        ..Repo::of(files)
    }
}

/// The program as somebody who may read the bucket, by the variables of each store.
fn command(place: &Place, hub: &Hub, arguments: &[&str]) -> Command {
    let account = json!({
        "gcs_base_url": hub.objects(), "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": "",
    });
    let account = place.write("account.json", account.to_string());
    let mut command = place.command(arguments);
    command
        .env_remove("HF_HUB_OFFLINE")
        .env("AWS_ENDPOINT_URL", hub.objects())
        .env("AWS_ACCESS_KEY_ID", "key0fTheB0x")
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("GOOGLE_SERVICE_ACCOUNT", account)
        .env("AZURE_STORAGE_USE_EMULATOR", "true")
        .env("AZURITE_BLOB_STORAGE_URL", hub.objects());
    command
}

fn run(place: &Place, hub: &Hub, model: &str, inputs: &[&str], more: &[&str]) {
    let mut arguments = vec!["run", model, "--fresh", "--out", "out"];
    for input in inputs {
        arguments.extend(["--input", input]);
    }
    arguments.extend(more);
    Place::outcome(&mut command(place, hub, &arguments)).success();
    let (found, whole) = (place.path("out"), place.path("whole"));
    assert_eq!(results(&found), results(&whole), "{arguments:?}");
    for (name, content) in crate::hub::files_of(&found) {
        let is_secret = content
            .windows(SECRET.len())
            .any(|part| part == SECRET.as_bytes());
        assert!(!is_secret, "{name}");
    }
}

#[test]
fn a_bucket_is_read_as_a_folder_is() {
    let (place, hub) = place();
    let model = "s3://box/models/a llama";
    run(&place, &hub, model, &["whole.jsonl"], &[]);
    let listed = || place.sli(&["cache", "--json"]).success().stdout;
    assert!(
        listed().contains("\"s3://box/models/a llama\""),
        "{}",
        listed()
    );
    let fetched = hub.served();
    run(&place, &hub, model, &["s3://box/data/part-*.jsonl"], &[]);
    assert!(hub.served() < fetched + 200, "the model was fetched again");
    let parts = ["s3://box/data/part-0.jsonl", "s3://box/data/part-1.jsonl"];
    run(&place, &hub, "model", &parts, &[]);
    for model in [
        "s3a://box/models/a llama/",
        "s3://box/models/a llama/model.safetensors",
    ] {
        run(&place, &hub, model, &["whole.jsonl"], &["--stream"]);
    }
    place
        .sli(&["cache", "remove", "s3://box/models/a llama"])
        .success();
    assert!(!listed().contains("a llama"), "{}", listed());
    place.sli(&["cache", "remove", "s3://box/data"]).success();
    assert_eq!(listed().trim(), "[]");
}

#[test]
fn google_and_azure_answer_as_s3_does() {
    let (place, hub) = place();
    // Neither says here by a key who asks.
    let open = Repo {
        token: None,
        ..bucket(
            &place,
            &["{\"input_ids\": [3, 4, 5]}\n{\"input_ids\": [7, 1]}\n"],
        )
    };
    hub.put("objects/open", open);
    let inspect = ["inspect", "gs://open/models/a llama"];
    for (scheme, key) in [("s3", "AWS"), ("gs", "GOOGLE")] {
        // Nobody, without anything that says who.
        let place_of_it = format!("{scheme}://open/models/a llama");
        let mut nobody = command(&place, &hub, &["inspect", &place_of_it]);
        nobody
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("GOOGLE_SERVICE_ACCOUNT")
            .env("GOOGLE_BASE_URL", hub.objects())
            .env(format!("{key}_SKIP_SIGNATURE"), "true");
        Place::outcome(&mut nobody).success();
    }
    let mut open = command(&place, &hub, &inspect);
    open.env_remove("GOOGLE_SERVICE_ACCOUNT")
        .env("GOOGLE_BASE_URL", "http://store.example")
        .env("GOOGLE_SKIP_SIGNATURE", "true");
    Place::outcome(&mut open).failure(3, &["not protected", "GOOGLE_ALLOW_HTTP"]);
    for scheme in ["gs", "az"] {
        let data = format!("{scheme}://open/data/part-?.jsonl");
        let model = format!("{scheme}://open/models/a llama");
        run(&place, &hub, &model, &[&data], &[]);
        run(&place, &hub, &model, &[&data], &["--stream"]);
    }
}

#[test]
fn what_a_line_does_is_survived() {
    let (place, hub) = place();
    let busy = Fault::Status(503, vec![("retry-after", "0".into())]);
    hub.spoil(WEIGHTS, [busy.clone(), Fault::Reset(1000), busy.clone()]);
    run(
        &place,
        &hub,
        "s3://box/models/a llama",
        &["whole.jsonl"],
        &[],
    );
    hub.spoil(WEIGHTS, [Fault::Reset(10), busy]);
    let stream = &["--stream"];
    run(
        &place,
        &hub,
        "s3://box/models/a llama",
        &["whole.jsonl"],
        stream,
    );
    hub.spoil(WEIGHTS, [Fault::Replaced]);
    let model = "s3://box/models/a llama";
    let run_it = [
        "run",
        model,
        "--input",
        "whole.jsonl",
        "--out",
        "gone",
        "--stream",
    ];
    Place::outcome(&mut command(&place, &hub, &run_it))
        .failure(5, &["it was replaced", "model.safetensors"]);
    // The bucket is in another region than is asked for.
    let lines = ["{\"input_ids\": [3, 4, 5]}\n{\"input_ids\": [7, 1]}\n"];
    let far = Repo {
        region: Some("eu-central-1"),
        ..bucket(&place, &lines)
    };
    hub.put("objects/far", far);
    run(
        &place,
        &hub,
        "s3://far/models/a llama",
        &["whole.jsonl"],
        &[],
    );
}

#[test]
fn what_is_not_there_or_not_ours_is_3() {
    let (place, hub) = place();
    let files = BTreeMap::from([("models//x".to_owned(), vec![b'x'])]);
    hub.put("objects/odd", Repo::of(files));
    let inspect = |place: &str| ["inspect", place].map(str::to_owned);
    for (named, says) in [
        ("s3://box/models/nothing", "no such file or folder"),
        ("s3://box/models/a llama/config", "no such file or folder"),
        ("s3://nothing/models", "NoSuchBucket"),
        ("s3://box/models/../x", "check the path"),
        ("s3://odd/models", "a key that cannot be a path"),
    ] {
        let arguments = inspect(named);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = command(&place, &hub, &arguments);
        Place::outcome(&mut command).failure(3, &[named, says]);
    }
    let arguments = ["inspect", "s3://box/models/a llama"];
    let mut other = command(&place, &hub, &arguments);
    other.env("AWS_ACCESS_KEY_ID", "somebody");
    let refused = Place::outcome(&mut other).failure(3, &["AccessDenied", "AWS_ACCESS_KEY_ID"]);
    assert!(!refused.stderr.contains(SECRET), "{refused:?}");
    let mut open = command(&place, &hub, &arguments);
    open.env("AWS_ENDPOINT_URL", "http://store.example");
    Place::outcome(&mut open).failure(3, &["not protected", "AWS_ALLOW_HTTP"]);
    for text in ["nonsense", "ftp://store.example", "http://"] {
        let mut nowhere = command(&place, &hub, &arguments);
        nowhere.env("AWS_ENDPOINT_URL", text);
        Place::outcome(&mut nowhere).failure(3, &["endpoint", "AWS_ENDPOINT_URL"]);
    }
    let mut offline = command(&place, &hub, &arguments);
    offline.env("HF_HUB_OFFLINE", "1");
    Place::outcome(&mut offline).failure(3, &["HF_HUB_OFFLINE"]);
    let mut silent = command(&place, &hub, &arguments);
    silent.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    Place::outcome(&mut silent).failure(5, &["s3://box", "tried 2 times"]);
}
