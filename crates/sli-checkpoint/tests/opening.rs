//! Which files a folder's weights are, and what makes two folders the same model.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sli_checkpoint::source::{FailingSource, MemorySource};
use sli_checkpoint::{
    ByteSource, Checkpoint, CheckpointError, CoverageReport, Dtype, LocalSource, ModelIdentity,
    ReadMode,
};
use sli_spec::Source;
use support::{Tensor, bind, leaf, safetensors};

fn one(name: &str) -> Vec<u8> {
    safetensors(&[Tensor::counting(name, &[2, 3])])
}

fn write(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, content) in files {
        fs_err::write(folder.join(name), content).expect("written");
    }
}

fn index(pairs: &[(&str, &str)]) -> Vec<u8> {
    let map: serde_json::Map<_, _> = pairs
        .iter()
        .map(|(tensor, shard)| ((*tensor).to_owned(), (*shard).into()))
        .collect();
    serde_json::json!({ "metadata": { "total_size": 0 }, "weight_map": map })
        .to_string()
        .into()
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint.tensors().map(|tensor| &*tensor.name).collect()
}

#[test]
fn single_file_then_index_then_consolidated_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Checkpoint::open(folder.path());
    write(
        folder.path(),
        &[
            ("other.safetensors", one("other")),
            ("config.json", b"{}".to_vec()),
        ],
    );
    let error = open().expect_err("no weights");
    assert!(
        matches!(error, CheckpointError::NoWeights { .. }),
        "{error}"
    );
    assert!(!error.hint().is_empty() && !error.is_io());

    write(
        folder.path(),
        &[
            ("consolidated.01.safetensors", one("second")),
            ("consolidated.00.safetensors", one("first")),
        ],
    );
    assert_eq!(names(&open().expect("sound")), ["first", "second"]);
    write(folder.path(), &[("consolidated.safetensors", one("all"))]);
    assert_eq!(names(&open().expect("sound")), ["all"]);
    assert!(
        open()
            .expect("sound")
            .choice()
            .expect("one")
            .left
            .is_empty()
    );
    let shards = index(&[("a", "x.safetensors"), ("b", "sub/y z.safetensors")]);
    write(folder.path(), &[("model.safetensors.index.json", shards)]);
    let left = |taken: &str, left: &[&str]| {
        let choice = open().expect("sound").choice().cloned().expect("a choice");
        assert_eq!(choice.taken, taken);
        assert_eq!(choice.left, left);
    };
    // Its shards are gone.
    assert_eq!(names(&open().expect("sound")), ["all"]);
    left(
        "consolidated.safetensors",
        &["model.safetensors.index.json"],
    );
    write(folder.path(), &[("x.safetensors", one("a"))]);
    let error = open().expect_err("half an index");
    assert!(error.to_string().contains("sub/y z.safetensors"), "{error}");
    fs_err::create_dir(folder.path().join("sub")).expect("folder");
    write(folder.path(), &[("elsewhere", one("b"))]);
    std::os::unix::fs::symlink("../elsewhere", folder.path().join("sub/y z.safetensors"))
        .expect("a link");
    let checkpoint = open().expect("sound");
    assert_eq!(names(&checkpoint), ["a", "b"]);
    assert_eq!(checkpoint.files().len(), 2);
    left(
        "model.safetensors.index.json",
        &["consolidated.safetensors"],
    );
    write(folder.path(), &[("model.safetensors", one("single"))]);
    assert_eq!(names(&open().expect("sound")), ["single"]);
    left(
        "model.safetensors",
        &["model.safetensors.index.json", "consolidated.safetensors"],
    );

    let single = Checkpoint::open(&folder.path().join("other.safetensors")).expect("sound");
    assert_eq!(names(&single), ["other"]);

    let error = Checkpoint::open(&folder.path().join("nothing")).expect_err("nothing");
    assert!(matches!(error, CheckpointError::NotThere { .. }), "{error}");
}

/// As the reference: all tensors of all shards, the last one counts.
#[test]
fn an_index_says_which_files_not_where() {
    let valued =
        |name: &str, value: u8| safetensors(&[Tensor::new(name, Dtype::U8, &[1], vec![value])]);
    let source = MemorySource::new()
        .with(
            "model.safetensors.index.json",
            index(&[
                ("a", "1.safetensors"),
                ("b", "1.safetensors"),
                ("c", "2.safetensors"),
            ]),
        )
        .with("1.safetensors", valued("a", 1))
        .with(
            "2.safetensors",
            safetensors(&[
                Tensor::new("a", Dtype::U8, &[1], vec![2]),
                Tensor::new("b", Dtype::U8, &[1], vec![3]),
                Tensor::new("c", Dtype::U8, &[1], vec![4]),
            ]),
        );
    let checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    assert_eq!(names(&checkpoint), ["a", "b", "c"]);
    let mut byte = [0];
    let a = checkpoint.tensor("a").expect("there");
    checkpoint
        .read_at(a.file, a.offset, &mut byte)
        .expect("read");
    assert_eq!(byte, [2]);
}

#[test]
fn other_weights_are_named() {
    for (file, says) in [
        (
            "pytorch_model-00001-of-00002.bin",
            "a part without its index",
        ),
        ("adapter_model.safetensors", "adapter"),
        ("model.fp16.safetensors", "variant"),
        ("model.safetensors.incomplete", "unfinished"),
        ("tf_model.h5", "another format"),
    ] {
        let source = MemorySource::new().with(file, *b"x");
        let error = Checkpoint::open_with(Box::new(source)).expect_err("no weights");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(file), "{text}");
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    for (content, says) in [
        (&pointer[..], "Git LFS"),
        (b"PK\x03\x04", "zip"),
        (b"", "empty"),
    ] {
        let source = MemorySource::new().with("model.safetensors", content);
        let error = Checkpoint::open_with(Box::new(source)).expect_err("no weights");
        assert!(error.to_string().contains(says), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("model.safetensors");
    std::os::unix::fs::symlink("../blobs/gone", link).expect("a link");
    let error = Checkpoint::open(folder.path()).expect_err("no weights");
    assert!(
        error
            .to_string()
            .contains("a link to a file that is not there"),
        "{error}"
    );
}

#[test]
fn tensor_parallel_files_are_numbered_and_joined() {
    let shard = |n: u8| {
        let bytes = (n..n + 4).flat_map(|n| [n, 0]).collect();
        let rows = Tensor::new("wq", Dtype::F16, &[2, 2], bytes);
        let columns = Tensor {
            name: "wo".to_owned(),
            ..rows.clone()
        };
        let norm = Tensor::new("norm", Dtype::F16, &[2], vec![1, 0, 2, 0]);
        safetensors(&[rows, columns, norm])
    };
    let source = MemorySource::new()
        .with("consolidated.01.safetensors", shard(20))
        .with("consolidated.00.safetensors", shard(10));
    let checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    assert_eq!(
        names(&checkpoint),
        ["norm#0", "norm#1", "wo#0", "wo#1", "wq#0", "wq#1"]
    );
    let pair = |name: &str| {
        vec![
            Source::tensor(format!("{name}#0")),
            Source::tensor(format!("{name}#1")),
        ]
    };
    let leaves = [
        leaf(Source::ConcatRows(pair("wq")), &[4, 2]),
        leaf(Source::ConcatColumns(pair("wo")), &[2, 4]),
        leaf(Source::tensor("norm#0"), &[2]),
    ];
    let checkpoint = Arc::new(checkpoint);
    let report = CoverageReport::of(&checkpoint, "", &leaves, &["norm#*"]);
    assert_eq!(report.ignored[0].name, "norm#1");
    let read = |i: usize| {
        let mut out = vec![0; 16];
        bind(&checkpoint, &leaves[i])
            .expect("there")
            .read_rows(0, 0..[4, 2][i], &mut out)
            .expect("read");
        out.into_iter().step_by(2).collect::<Vec<u8>>()
    };
    assert_eq!(read(0), [10, 11, 12, 13, 20, 21, 22, 23]);
    assert_eq!(read(1), [10, 11, 20, 21, 12, 13, 22, 23]);
}

#[test]
fn a_copied_or_touched_folder_is_the_same_model() {
    let files = [
        (
            "model.safetensors.index.json",
            index(&[("a", "x.safetensors")]),
        ),
        ("x.safetensors", one("a")),
    ];
    let (here, there) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    write(here.path(), &files);
    write(there.path(), &files);
    let touched = fs_err::OpenOptions::new()
        .write(true)
        .open(there.path().join("x.safetensors"));
    let yesterday = SystemTime::now() - Duration::from_hours(24);
    touched
        .expect("opened")
        .into_file()
        .set_modified(yesterday)
        .expect("touched");
    let identity = |folder: &Path| Checkpoint::open(folder).expect("sound").identity().clone();
    let before = identity(here.path());
    assert_eq!(before, identity(there.path()));
    assert_eq!(
        before.differences(&identity(there.path())),
        Vec::<String>::new()
    );

    let text = serde_json::to_string(&before).expect("JSON");
    assert_eq!(
        serde_json::from_str::<ModelIdentity>(&text).expect("JSON"),
        before
    );

    let wider = safetensors(&[Tensor::counting("a", &[2, 4])]);
    let turned = safetensors(&[Tensor::counting("a", &[3, 2])]);
    for (name, content, sentence) in [
        (
            "model.safetensors.index.json",
            [index(&[("a", "x.safetensors")]), b"\n".to_vec()].concat(),
            "`model.safetensors.index.json` has other content".to_owned(),
        ),
        (
            "x.safetensors",
            wider.clone(),
            format!(
                "`x.safetensors` had {} bytes and has {}",
                files[1].1.len(),
                wider.len()
            ),
        ),
        (
            "x.safetensors",
            turned,
            "the header of `x.safetensors` has other content".to_owned(),
        ),
    ] {
        write(there.path(), &files);
        write(there.path(), &[(name, content)]);
        assert_eq!(before.differences(&identity(there.path())), [sentence]);
    }
    write(there.path(), &files);
    fs_err::rename(
        there.path().join("x.safetensors"),
        there.path().join("y.safetensors"),
    )
    .expect("renamed");
    let other = index(&[("a", "y.safetensors")]);
    write(there.path(), &[("model.safetensors.index.json", other)]);
    assert_eq!(
        before.differences(&identity(there.path())),
        [
            "`model.safetensors.index.json` has other content",
            "`x.safetensors` is gone",
            "`y.safetensors` is new"
        ]
    );
}

#[test]
fn every_mode_reads_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &[(
            "model.safetensors",
            safetensors(&[Tensor::counting("a", &[1500, 1000])]),
        )],
    );
    for mode in [
        ReadMode::Buffered,
        ReadMode::BufferedDropBehind,
        ReadMode::Direct,
    ] {
        let checkpoint = Checkpoint::open_with_mode(folder.path(), mode).expect("sound");
        let checkpoint = Arc::new(checkpoint);
        for source in [
            Source::tensor("a"),
            Source::Reshape(Box::new(Source::tensor("a"))),
        ] {
            let leaf = bind(&checkpoint, &leaf(source, &[1500, 1000])).expect("there");
            let values = leaf.read_all_f32().expect("read");
            assert!(
                values.iter().zip(0..).all(|(value, i)| *value == i as f32),
                "{mode:?}"
            );
            leaf.advise_done(0);
        }
        let turned = leaf(Source::tensor("a").transpose(), &[1000, 1500]);
        let turned = bind(&checkpoint, &turned);
        let values = turned.expect("there").read_f32(0, 3..5).expect("read");
        assert!(
            values[..1500]
                .iter()
                .zip(0..)
                .all(|(value, i)| *value == (i * 1000 + 3) as f32)
        );
    }
}

#[test]
fn a_lost_disk_is_an_io_error_at_any_read() {
    let sound = || {
        MemorySource::new()
            .with("config.json", *b"{}")
            .with(
                "model.safetensors.index.json",
                index(&[("a", "x.safetensors")]),
            )
            .with("x.safetensors", one("a"))
    };
    let mut reads = 0;
    loop {
        let failing = FailingSource::new(sound(), reads, std::io::ErrorKind::Other);
        let result = Checkpoint::open_with(Box::new(failing)).and_then(|checkpoint| {
            bind(&checkpoint.into(), &leaf(Source::tensor("a"), &[2, 3]))?.read_all_f32()
        });
        match result {
            Ok(_) => break,
            Err(error) => assert!(error.is_io(), "{error}"),
        }
        reads += 1;
    }
    assert_eq!(reads, 4, "index, length, header, weight");
}

#[test]
fn names_are_relative_to_the_folder() {
    let source = LocalSource::new("/");
    assert!(source.len("etc/../etc/hostname").is_err());
}

/// The index of 100,000 tensors takes at most 20 MB, which is 200 bytes a tensor.
#[test]
fn an_index_of_many_tensors_is_small() {
    let tensors: Vec<Tensor> = (0..100_000)
        .map(|i| {
            let name = format!(
                "model.layers.{}.mlp.experts.{}.gate_proj.weight",
                i / 384,
                i % 384
            );
            Tensor::new(&name, Dtype::U8, &[0, 7168], Vec::new())
        })
        .collect();
    let file = safetensors(&tensors);
    let source = MemorySource::new().with("model.safetensors", file);
    let checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    // An allocation costs at most 16 bytes more than it holds, rounded up to 16.
    let heap = |bytes: usize| bytes.next_multiple_of(16) + 16;
    let bytes: usize = checkpoint
        .tensors()
        .map(|tensor| {
            size_of_val(tensor) + heap(tensor.name.len()) + heap(size_of_val(&*tensor.shape))
        })
        .sum();
    assert!(bytes <= 20_000_000, "{bytes} bytes");
}
