use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::files::*;
use super::state::State;
use super::*;
use crate::durable::Disk;
use crate::fingerprint;
use crate::portion::Portion;

fn key(parts: &[(&str, &str)]) -> RunKey {
    let mut key = RunKey::new();
    for (name, value) in parts {
        key.set(*name, value);
    }
    key
}

fn one() -> RunKey {
    key(&[("data", "d1"), ("model.config", "m1")])
}

fn open(folder: &Path) -> Result<Opened, JournalError> {
    OutputFolder::open(folder, one(), false)
}

fn new(folder: &Path) -> OutputFolder {
    match open(folder).unwrap() {
        Opened::New(output) => output,
        Opened::Resumed(_) | Opened::Finished(_) => panic!("not new"),
    }
}

fn resumed(folder: &Path) -> OutputFolder {
    match open(folder).unwrap() {
        Opened::Resumed(output) => output,
        Opened::New(_) | Opened::Finished(_) => panic!("not resumed"),
    }
}

fn error(outcome: Result<Opened, JournalError>) -> JournalError {
    outcome.err().expect("an error")
}

/// Names and contents of everything in a folder, except for the work folder's lock.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in names_in(folder).unwrap() {
        let path = folder.join(&name);
        if path.is_dir() {
            let inner = contents(&path);
            all.extend(
                inner
                    .into_iter()
                    .map(|(inner, v)| (format!("{name}/{inner}"), v)),
            );
        } else {
            all.insert(name, fs_err::read(&path).unwrap());
        }
    }
    all
}

fn publish(output: &mut OutputFolder, name: &str, content: &[u8]) {
    output
        .publish_new::<JournalError>(name, |mut writer| {
            writer.write_all(content)?;
            Ok(writer)
        })
        .unwrap();
}

#[test]
fn a_run_from_start_to_end() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    let mut output = new(&folder);
    assert_eq!(output.progress(), &Progress::default());
    output.progress_mut().records_done = 7;
    output.progress_mut().layer_passes = 3;
    output.checkpoint().unwrap();
    drop(output);

    let mut output = resumed(&folder);
    assert_eq!(output.progress().records_done, 7);
    assert_eq!(output.progress().layer_passes, 3);
    publish(&mut output, "hidden/decoder.001.safetensors", b"h");
    publish(&mut output, "scores.parquet", b"s!");
    let manifest = output
        .finish(serde_json::json!({ "seconds": 1.5, "sli": "x" }))
        .unwrap();
    assert_eq!(manifest.json()["seconds"], 1.5);
    assert_eq!(manifest.json()["sli"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        manifest.files()[1],
        ResultFile {
            name: "scores.parquet".into(),
            bytes: 2,
            blake3: Some(blake3::hash(b"s!").to_hex().to_string()),
        }
    );
    let names: Vec<String> = contents(&folder).into_keys().collect();
    assert_eq!(
        names,
        [
            "hidden/decoder.001.safetensors",
            "run.json",
            "scores.parquet"
        ]
    );

    let before = contents(&folder);
    let Opened::Finished(again) = open(&folder).unwrap() else {
        panic!("not finished")
    };
    assert_eq!(again.json(), manifest.json());
    assert_eq!(contents(&folder), before);
}

#[test]
fn a_run_that_wrote_no_entry_starts() {
    let folder = tempfile::tempdir().unwrap();
    let output = new(folder.path());
    fs_err::write(output.work_dir().join("scores.rows"), b"left over").unwrap();
    drop(output);
    let other = key(&[("data", "d2")]);
    let Ok(Opened::New(output)) = OutputFolder::open(folder.path(), other, false) else {
        panic!("not new")
    };
    assert!(!output.work_dir().join("scores.rows").exists());
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    for (name, fresh) in [
        ("thesis.txt", false),
        ("thesis.txt", true),
        ("run.json", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join(name), b"{}").unwrap();
        let before = contents(folder.path());
        let error = error(OutputFolder::open(folder.path(), one(), fresh));
        assert!(matches!(error, JournalError::NotOurs(_)), "{error}");
        assert_eq!(error.exit_code(), 3);
        assert_eq!(contents(folder.path()), before);
    }
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("lost+found")).unwrap();
    fs_err::write(folder.path().join(".gitignore"), b"*").unwrap();
    new(folder.path());
}

#[test]
fn a_second_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = new(folder.path());
    for fresh in [false, true] {
        let error = error(OutputFolder::open(folder.path(), one(), fresh));
        assert!(matches!(error, JournalError::Locked(_)), "{error}");
        assert!(error.hint().contains("another output"));
    }
    drop(first);
    new(folder.path());
}

#[test]
fn another_key_is_named_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = new(folder.path());
    output.checkpoint().unwrap();
    let work = output.work_dir().to_owned();
    drop(output);
    let now = || key(&[("data", "d2"), ("model.config", "m1"), ("takes", "logits")]);
    let state = |folder: &Path| fs_err::read(folder.join(State::FILE)).unwrap();
    let before = state(&work);
    let check = |error: JournalError| {
        let JournalError::Different { differences, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(differences.len(), 2);
        let text = error.to_string();
        assert!(text.contains("data was d1, is d2"), "{text}");
        assert!(text.contains("takes was nothing, is logits"), "{text}");
        assert!(error.hint().contains("--fresh"));
        assert_eq!(error.exit_code(), 3);
    };
    check(error(OutputFolder::open(folder.path(), now(), false)));
    assert_eq!(state(&work), before);

    let mut output = resumed(folder.path());
    publish(&mut output, "hidden/decoder.norm.safetensors", b"old");
    output.finish(Value::Null).unwrap();
    let before = contents(folder.path());
    check(error(OutputFolder::open(folder.path(), now(), false)));
    assert_eq!(contents(folder.path()), before);

    fs_err::write(folder.path().join("notes.txt"), b"mine").unwrap();
    let Ok(Opened::New(_)) = OutputFolder::open(folder.path(), now(), true) else {
        panic!("not new")
    };
    let names: Vec<String> = contents(folder.path()).into_keys().collect();
    assert_eq!(names, [".sli/lock", "notes.txt"], "only our files go");
}

#[test]
fn damage_is_an_error_and_not_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = new(folder.path());
    let buffer = output
        .save_buffer("hidden", 2, 2, &[1.0, 2.0, 3.0, 4.0])
        .unwrap();
    output.save_blob("profile", b"sums").unwrap();
    let current = SuperBatchProgress {
        portions: vec![Portion::whole(0..2)],
        shared: false,
        stack: 0,
        boundary: 1,
        kept: Vec::new(),
        ends: Vec::new(),
        buffers: vec![buffer],
    };
    output.progress_mut().current = Some(current);
    output.checkpoint().unwrap();
    let work = output.work_dir().to_owned();
    drop(output);

    let state = work.join(State::FILE);
    let whole = fs_err::read(&state).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..40], &[], &flipped] {
        fs_err::write(&state, damaged).unwrap();
        let error = error(open(folder.path()));
        assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
        assert_eq!(error.exit_code(), 5);
    }
    fs_err::write(&state, &whole).unwrap();

    let output = resumed(folder.path());
    let buffers = work.join("buffers");
    for name in names_in(&buffers).unwrap() {
        let path = buffers.join(name);
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[1] ^= 1;
        fs_err::write(path, bytes).unwrap();
    }
    let buffer = output.progress().current.as_ref().unwrap().buffers[0].clone();
    let mut values = [0.0; 4];
    let damaged = |error| matches!(error, JournalError::Damaged { .. });
    assert!(damaged(
        output.load_buffer(&buffer, &mut values).unwrap_err()
    ));
    assert!(damaged(
        output.load_buffer(&buffer, &mut [0.0; 3]).unwrap_err()
    ));
    assert!(damaged(output.load_blob("profile").unwrap_err()));
    drop(output);
    fs_err::write(&state, b"").unwrap();
    let fresh = OutputFolder::open(folder.path(), one(), true).unwrap();
    assert!(matches!(fresh, Opened::New(_)));
}

#[test]
fn a_device_in_place_of_a_manifest_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::os::unix::fs::symlink("/dev/zero", folder.path().join(MANIFEST)).unwrap();
    let error = error(open(folder.path()));
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
}

#[test]
fn a_finished_folder_whose_files_are_gone_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = new(folder.path());
    publish(&mut output, "scores.parquet", b"s");
    output.finish(Value::Null).unwrap();
    fs_err::write(folder.path().join("scores.parquet"), b"longer").unwrap();
    assert!(matches!(
        error(open(folder.path())),
        JournalError::Damaged { .. }
    ));
    fs_err::remove_file(folder.path().join("scores.parquet")).unwrap();
    let error = error(open(folder.path()));
    assert!(error.to_string().contains("not there"), "{error}");
}

#[test]
fn a_flipped_bit_in_a_finished_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = new(folder.path());
    let partial = output.work_dir().join("values");
    fs_err::write(&partial, b"written in any order").unwrap();
    let hash = fingerprint::of_file(&partial).unwrap();
    output
        .publish(&partial, "hidden.safetensors", hash)
        .unwrap();
    publish(&mut output, "scores.parquet", b"scores");
    output.finish(Value::Null).unwrap();
    assert!(matches!(open(folder.path()), Ok(Opened::Finished(_))));
    for name in ["hidden.safetensors", "scores.parquet"] {
        let path = folder.path().join(name);
        let before = fs_err::read(&path).unwrap();
        let mut after = before.clone();
        after[3] ^= 4;
        fs_err::write(&path, after).unwrap();
        let error = error(open(folder.path()));
        assert!(error.to_string().contains("its content"), "{error}");
        assert_eq!(error.exit_code(), 5);
        fs_err::write(&path, before).unwrap();
    }
    assert!(matches!(open(folder.path()), Ok(Opened::Finished(_))));
}

#[test]
fn only_the_last_checkpoint_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = new(folder.path());
    for round in 0..3_u8 {
        let values = [f32::from(round), f32::NAN];
        let buffer = output.save_buffer("slot-0", 1, 2, &values).unwrap();
        output.save_blob("profile", &[round]).unwrap();
        let current = SuperBatchProgress {
            portions: vec![Portion::whole(0..1)],
            shared: false,
            stack: 0,
            boundary: 1,
            kept: Vec::new(),
            ends: Vec::new(),
            buffers: vec![buffer],
        };
        output.progress_mut().current = Some(current);
        output.checkpoint().unwrap();
        assert_eq!(
            names_in(&output.work_dir().join("buffers")).unwrap().len(),
            2
        );
    }
    // Saved, but not part of a checkpoint.
    output.save_buffer("slot-0", 1, 2, &[9.0, 9.0]).unwrap();
    output.save_blob("profile", &[9]).unwrap();
    drop(output);
    let output = resumed(folder.path());
    let buffer = output.progress().current.as_ref().unwrap().buffers[0].clone();
    let mut values = [0.0; 2];
    output.load_buffer(&buffer, &mut values).unwrap();
    assert_eq!(values.map(f32::to_bits), [2.0, f32::NAN].map(f32::to_bits));
    assert_eq!(output.load_blob("profile").unwrap(), Some(vec![2]));
    assert_eq!(output.load_blob("other").unwrap(), None);
}

/// A stop at every operation of `--fresh` on a finished folder: whatever the next run finds, it ends with
/// its own files only.
#[test]
fn clearing_is_all_or_nothing() {
    let finished = |folder: &Path| {
        let mut output = new(folder);
        publish(&mut output, "hidden/decoder.000.safetensors", b"h");
        publish(&mut output, "scores.parquet", b"s");
        output.finish(Value::Null).unwrap();
    };
    for operations in 0.. {
        let folder = tempfile::tempdir().unwrap();
        finished(folder.path());
        let disk = Disk::losing_power_after(operations);
        let outcome = OutputFolder::open_on(&disk, folder.path(), one(), true);
        let done = outcome.is_ok();
        drop(outcome);
        match open(folder.path()).unwrap() {
            Opened::Finished(_) => assert!(!done, "nothing was removed yet"),
            Opened::New(_) => {
                assert_eq!(
                    contents(folder.path()).into_keys().collect::<Vec<_>>(),
                    [".sli/lock"]
                );
            }
            Opened::Resumed(_) => panic!("nothing was checkpointed"),
        }
        if done {
            break;
        }
    }
}

#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::limited(4000);
    let opened = OutputFolder::open_on(&disk, folder.path(), one(), false).unwrap();
    let Opened::New(mut output) = opened else {
        panic!("not new")
    };
    output.progress_mut().records_done = 5;
    output.checkpoint().unwrap();
    let error = output
        .save_buffer("slot-0", 1000, 1, &[0.0; 1000])
        .unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(error.hint().contains("continues"));
    drop(output);
    let mut output = resumed(folder.path());
    assert_eq!(output.progress().records_done, 5);
    output.save_buffer("slot-0", 1000, 1, &[0.0; 1000]).unwrap();
    output.checkpoint().unwrap();
    assert_eq!(
        names_in(&output.work_dir().join("buffers")).unwrap(),
        Vec::<String>::new()
    );
}
