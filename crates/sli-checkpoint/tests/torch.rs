//! Torch files as torch writes them, and those that were made to mislead.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{Checkpoint, CheckpointError, Dtype, TorchError};
use sli_spec::Source;
use support::made::{archive, pickled, pickled_tensor as tensor};
use support::{bind, leaf};

const FILE: &str = "pytorch_model.bin";

fn stored(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torch/");
    fs_err::read(format!("{folder}{name}")).expect("a file of the project")
}

fn open(bytes: impl Into<Vec<u8>>) -> Result<Arc<Checkpoint>, CheckpointError> {
    let source = MemorySource::new().with(FILE, bytes);
    Checkpoint::open_with(Box::new(source)).map(Arc::new)
}

fn problem(bytes: impl Into<Vec<u8>>) -> TorchError {
    match open(bytes) {
        Err(error @ CheckpointError::Torch { .. }) => {
            assert!(error.to_string().contains(FILE), "{error} names the file");
            assert!(!error.hint().is_empty() && !error.is_io());
            let CheckpointError::Torch { problem, .. } = error else {
                unreachable!()
            };
            *problem
        }
        other => panic!("{other:?}"),
    }
}

fn dtype(name: &str) -> Dtype {
    match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "int64" => Dtype::I64,
        other => panic!("{other}"),
    }
}

#[test]
fn every_tensor_is_what_torch_reads() {
    let expected: Value = serde_json::from_slice(&stored("expected.json")).expect("JSON");
    for file in ["archive.bin", "legacy.bin", "wrapped.pt", "protocol4.pt"] {
        let checkpoint = open(stored(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for (name, expected) in expected.as_object().expect("an object") {
            let tensor = checkpoint.tensor(name).expect(name);
            let numbers = |key: &str| expected[key].as_array().expect("a list").iter();
            let shape: Vec<usize> = numbers("shape")
                .map(|n| n.as_u64().expect("n") as usize)
                .collect();
            assert_eq!(*tensor.shape, *shape, "{file} {name}");
            let of = dtype(expected["dtype"].as_str().expect("a name"));
            assert_eq!(tensor.dtype, of, "{file} {name}");
            if shape.is_empty() || of.float().is_none() {
                continue;
            }
            let bound =
                bind(&checkpoint, &leaf(Source::tensor(name.as_str()), &shape)).expect(name);
            let values: Vec<f32> = numbers("values")
                .map(|n| n.as_f64().expect("n") as f32)
                .collect();
            assert_eq!(bound.read_all_f32().expect("read"), values, "{file} {name}");
        }
    }
    let archive = open(stored("archive.bin")).expect("sound");
    assert_eq!(
        archive.tensor("float8").expect("there").dtype,
        Dtype::F8E4M3
    );
    let [plain, tied] = ["plain", "tied"].map(|name| archive.tensor(name).expect("there"));
    assert_eq!(plain.offset, tied.offset);
}

#[test]
fn safetensors_go_before_torch_files_and_those_by_name() {
    let safetensors = support::safetensors(&[support::Tensor::counting("s", &[2])]);
    let torch = stored("module.pth");
    let open = |files: &[&str]| {
        let mut source = MemorySource::new();
        for file in files {
            let is_safe = file.ends_with(".safetensors");
            source = source.with(
                *file,
                if is_safe {
                    safetensors.clone()
                } else {
                    torch.clone()
                },
            );
        }
        let checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
        checkpoint.choice().cloned().expect("a folder")
    };
    let all = [
        "consolidated.00.pth",
        "model.pth",
        "model.pt",
        "pytorch_model.bin",
        "model.safetensors",
        "training_args.bin",
        "optimizer.pt",
    ];
    let choice = open(&all);
    assert_eq!(choice.taken, "model.safetensors");
    let left = [
        "pytorch_model.bin",
        "model.pt",
        "model.pth",
        "consolidated.00.pth",
    ];
    assert_eq!(choice.left, left);
    assert_eq!(open(&all[..4]).taken, "pytorch_model.bin");
    assert_eq!(open(&all[..3]).taken, "model.pt");
    assert_eq!(open(&all[..2]).taken, "model.pth");
    let only = open(&all[..1]);
    assert_eq!(
        (only.taken.as_str(), only.left.len()),
        ("consolidated.00.pth", 0)
    );
    assert!(!only.rule.is_empty());
}

#[test]
fn shards_and_parts() {
    let index = r#"{"weight_map": {"weight": "a.bin", "bias": "a.bin"}}"#;
    let source = MemorySource::new()
        .with("pytorch_model.bin.index.json", index)
        .with("a.bin", stored("module.pth"));
    let checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    assert_eq!(checkpoint.tensors().len(), 2);
    let source = MemorySource::new()
        .with("consolidated.00.pth", stored("module.pth"))
        .with("consolidated.01.pth", stored("module.pth"));
    let checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    let names: Vec<&str> = checkpoint.tensors().map(|tensor| &*tensor.name).collect();
    assert_eq!(names, ["bias#0", "bias#1", "weight#0", "weight#1"]);
    assert_eq!(
        checkpoint.choice().expect("a folder").taken,
        "consolidated.*.pth"
    );
}

fn float(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    pickled(&tensor("FloatStorage", elements, offset, shape, strides))
}

#[test]
fn the_archives_of_these_tests_are_sound() {
    let checkpoint = open(float(8, 1, &[2, 3], &[3, 1])).expect("sound");
    assert_eq!(*checkpoint.tensor("w").expect("there").shape, [2, 3]);
}

#[test]
fn a_checksum_that_was_left_out_is_none() {
    open(changed(|file| {
        let at = entry(file);
        file[at + 16..at + 20].fill(0);
    }))
    .expect("as torch");
}

macro_rules! refused {
    ($($name:ident: $file:expr => $expected:pat,)*) => {
        $(
            #[test]
            fn $name() {
                let problem = problem($file);
                assert!(matches!(problem, $expected), "{problem:?}");
            }
        )*
    };
}

/// Changes bytes of a sound archive.
fn changed(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut file = float(8, 0, &[8], &[1]);
    change(&mut file);
    file
}

/// Where these bytes are the last time.
fn last(file: &[u8], bytes: &[u8]) -> usize {
    file.windows(bytes.len())
        .rposition(|window| window == bytes)
        .expect("there")
}

/// The first entry of the directory.
fn entry(file: &[u8]) -> usize {
    file.windows(4)
        .position(|window| window == b"PK\x01\x02")
        .expect("there")
}

refused! {
    web_page: "<!DOCTYPE html>" => TorchError::Other { .. },
    git_lfs_pointer: "version https://git-lfs.github.com/spec/v1\noid sha256:00\n" => TorchError::Other { .. },
    nothing_at_all: "" => TorchError::Other { .. },
    a_module_with_its_code: stored("whole_module.pt") => TorchError::Call { .. } | TorchError::Opcode { .. },
    cut_off: { let file = stored("archive.bin"); file[..file.len() / 2].to_vec() } => TorchError::Archive { .. },
    cut_off_by_a_byte: { let file = stored("archive.bin"); file[..file.len() - 1].to_vec() } => TorchError::Archive { .. },
    no_pickle: archive(&[("x/data/0", b"")]) => TorchError::NoMember { .. },
    two_pickles: archive(&[("x/data.pkl", b"N."), ("y/data.pkl", b"N.")]) => TorchError::Archive { .. },
    two_members_of_a_name: archive(&[("x/data.pkl", b"N."), ("x/data.pkl", b"N.")]) => TorchError::Member { .. },
    big_endian: archive(&[("x/byteorder", b"big"), ("x/data.pkl", b"N.")]) => TorchError::ByteOrder { .. },
    compressed: changed(|file| { let at = entry(file); file[at + 10] = 8; }) => TorchError::Member { .. },
    encrypted: changed(|file| { let at = entry(file); file[at + 8] = 1; }) => TorchError::Member { .. },
    two_sizes: changed(|file| { let at = entry(file); file[at + 20] ^= 1; }) => TorchError::Member { .. },
    pickle_of_another_checksum: changed(|file| { let at = entry(file); file[at + 16] ^= 1; }) => TorchError::Member { .. },
    members_overlap: changed(|file| {
        let at = entry(file);
        for size in [20, 24] { file[at + size + 1] = 1; }
    }) => TorchError::Member { .. },
    header_of_another: changed(|file| { let at = entry(file); file[at + 46] = b'y'; }) => TorchError::Member { .. },
    header_far_away: changed(|file| {
        let at = last(file, b"PK\x01\x02");
        file[at + 42..at + 46].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    }) => TorchError::Member { .. },
    more_entries_than_said: changed(|file| {
        let at = last(file, b"PK\x05\x06");
        for count in [8, 10] { file[at + count] = 1; }
    }) => TorchError::Archive { .. },
    large_form_without_one: changed(|file| {
        let at = last(file, b"PK\x05\x06");
        file[at + 16..at + 20].copy_from_slice(&[0xff; 4]);
    }) => TorchError::Archive { .. },
    of_several_disks: changed(|file| { let at = last(file, b"PK\x05\x06"); file[at + 4] = 1; }) => TorchError::Archive { .. },
    runs_a_command: pickled(b"\x80\x02cos\nsystem\n(X\x02\0\0\0lstR.") => TorchError::Call { .. },
    evaluates: pickled(b"\x80\x02cbuiltins\neval\n(X\x01\0\0\x001tR.") => TorchError::Call { .. },
    calls_what_it_got: pickled(b"\x80\x02}X\x01\0\0\0a)R.") => TorchError::Pickle { .. },
    instance: pickled(b"\x80\x02(ios\nsystem\n.") => TorchError::Opcode { opcode: b'i', .. },
    new_object: pickled(b"\x80\x02cos\nsystem\n)\x81.") => TorchError::Opcode { opcode: 0x81, .. },
    extension: pickled(b"\x80\x02\x82\x01.") => TorchError::Opcode { opcode: 0x82, .. },
    state_of_a_name: pickled(b"\x80\x02cos\nsystem\n}b.") => TorchError::Pickle { .. },
    unknown_protocol: pickled(b"\x80\x09N.") => TorchError::Pickle { .. },
    without_an_end: pickled(b"\x80\x02N") => TorchError::Pickle { .. },
    end_of_nothing: pickled(b"\x80\x02.") => TorchError::Pickle { .. },
    long_text: pickled(b"\x80\x02X\xff\xff\xff\xffabc.") => TorchError::Pickle { .. },
    text_of_2_to_the_63: pickled(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.") => TorchError::Pickle { .. },
    long_number: pickled(b"\x80\x02\x8b\xff\xff\xff\x7f\x01.") => TorchError::Pickle { .. },
    recalls_nothing: pickled(b"\x80\x02j\xff\xff\xff\xff.") => TorchError::Pickle { .. },
    no_mark: pickled(b"\x80\x02Nt.") => TorchError::Pickle { .. },
    pops_below_a_mark: pickled(b"\x80\x02N(0.") => TorchError::Pickle { .. },
    odd_items: pickled(b"\x80\x02}(Nu.") => TorchError::Pickle { .. },
    adds_to_a_name: pickled(b"\x80\x02cos\nsystem\nNa.") => TorchError::Pickle { .. },
    marks_without_end: pickled(&[&b"\x80\x02"[..], &b"(".repeat(1 << 20), b"."].concat()) => TorchError::Pickle { .. },
    stack_without_end: pickled(&[&b"\x80\x02N"[..], &b"2".repeat(2 << 20), b"."].concat()) => TorchError::Pickle { .. },
    // A million lists, each in the one before: depth costs nothing.
    nested_without_end: pickled(&[&b"\x80\x02]"[..], &b"]".repeat(1 << 19), &b"a".repeat(1 << 19), b"."].concat())
        => TorchError::NotTensors { .. },
    // Each tuple is the one before, twice.
    doubles_without_end: pickled(&[&b"\x80\x02N"[..], &b"2\x86".repeat(1 << 18), b"."].concat())
        => TorchError::NotTensors { .. },
    a_list: pickled(b"\x80\x02].") => TorchError::NotTensors { .. },
    no_tensors: pickled(b"\x80\x02}.") => TorchError::NotTensors { .. },
    unknown_storage: pickled(&tensor("QInt8Storage", 8, 0, &[8], &[1])) => TorchError::Tensor { .. },
    storage_of_another_module: pickled(&tensor("x\nFloatStorage", 8, 0, &[8], &[1]))
        => TorchError::Opcode { .. } | TorchError::Pickle { .. } | TorchError::Tensor { .. },
    storage_without_bytes: archive(&[("x/data.pkl", &tensor("FloatStorage", 8, 0, &[8], &[1]))])
        => TorchError::NoMember { .. },
    storage_too_short: float(9, 0, &[8], &[1]) => TorchError::ShortStorage { needed: 36, found: 32, .. },
    storage_of_2_to_the_62: float(1 << 62, 0, &[8], &[1]) => TorchError::ShortStorage { .. },
    one_element_too_many: float(8, 1, &[8], &[1]) => TorchError::OutsideStorage { .. },
    one_step_too_wide: float(8, 0, &[2, 2], &[7, 1]) => TorchError::OutsideStorage { .. },
    offset_of_2_to_the_63: float(8, i64::MAX, &[2], &[1]) => TorchError::OutsideStorage { .. },
    stride_overflow: float(8, 0, &[3, 3], &[i64::MAX, 1]) => TorchError::OutsideStorage { .. },
    shape_overflow: float(8, 0, &[1 << 40, 1 << 40], &[0, 0]) => TorchError::OutsideStorage { .. },
    negative_offset: float(8, -1, &[2], &[1]) => TorchError::Tensor { .. },
    negative_stride: float(8, 7, &[2], &[-1]) => TorchError::Tensor { .. },
    negative_side: float(8, 0, &[-2], &[1]) => TorchError::Tensor { .. },
    axes_that_differ: float(8, 0, &[2, 2], &[1]) => TorchError::Tensor { .. },
    axes_without_end: float(8, 0, &[1; 33], &[1; 33]) => TorchError::Tensor { .. },
}

#[test]
fn rows_without_end_that_are_the_same_are_just_a_shape() {
    let checkpoint = open(float(8, 0, &[1 << 36, 8], &[0, 1])).expect("as torch");
    let tensor = checkpoint.tensor("w").expect("there");
    assert_eq!(tensor.bytes, 32);
    let bound = bind(&checkpoint, &leaf(Source::tensor("w"), &[1 << 36, 8])).expect("bound");
    assert_eq!(bound.read_f32(0, 7..9).expect("read"), [0.0; 16]);
}

/// Whatever a file holds ends in tensors inside it or in an error.
fn survives(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let size = bytes.len() as u64;
    if let Ok(checkpoint) = open(bytes) {
        for tensor in checkpoint.tensors() {
            prop_assert!(tensor.offset + tensor.bytes <= size, "{tensor:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn damaged_files(
        which in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut file = stored(["archive.bin", "legacy.bin", "wrapped.pt", "protocol4.pt"][which]);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        survives(file)?;
    }

    #[test]
    fn arbitrary_instructions(pickle in prop::collection::vec(instruction(), 0..60)) {
        survives(pickled(&pickle.concat()))?;
    }
}

/// `FUZZ_CASES` for a long run.
fn cases() -> u32 {
    let cases = std::env::var("FUZZ_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let plain: &[&[u8]] = &[
        b"\x80\x02",
        b"(",
        b"0",
        b"1",
        b"2",
        b"N",
        b"]",
        b")",
        b"}",
        b"t",
        b"l",
        b"d",
        b"\x85",
        b"\x86",
        b"\x87",
        b"a",
        b"e",
        b"s",
        b"u",
        b"R",
        b"b",
        b"Q",
        b"q\0",
        b"h\0",
        b"\x94",
        b"\x93",
        b"K\x01",
        b"K\x08",
        b".",
        b"ccollections\nOrderedDict\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch\nSize\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"X\x01\0\0\x000",
        b"X\x07\0\0\0storage",
    ];
    let plain: Vec<Vec<u8>> = plain.iter().map(|bytes| bytes.to_vec()).collect();
    prop_oneof![
        9 => prop::sample::select(plain),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}
