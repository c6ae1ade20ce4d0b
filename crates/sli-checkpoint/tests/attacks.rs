//! Files that were made to mislead, and the one error that each must end in.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use sli_checkpoint::source::{CountingSource, MemorySource};
use sli_checkpoint::{Checkpoint, CheckpointError, Dtype, HeaderError, IndexError, LeafProblem};
use sli_spec::{Source, Split};
use support::{Tensor, bind, leaf, safetensors, with_header};

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn open(file: impl Into<Vec<u8>>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open_with(Box::new(MemorySource::new().with(FILE, file)))
}

fn header_error(file: impl Into<Vec<u8>>) -> HeaderError {
    match open(file) {
        Err(error @ CheckpointError::Header { .. }) => {
            assert!(error.to_string().contains(FILE), "{error} names the file");
            assert!(
                !error.hint().is_empty() && !error.is_io(),
                "{error} has a hint"
            );
            let CheckpointError::Header { problem, .. } = error else {
                unreachable!()
            };
            problem
        }
        other => panic!("{other:?}"),
    }
}

/// A header and this many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = with_header(header);
    file.resize(file.len() + data, 0);
    file
}

macro_rules! refused {
    ($($name:ident: $file:expr => $expected:pat,)*) => {
        $(
            #[test]
            fn $name() {
                let problem = header_error($file);
                assert!(matches!(problem, $expected), "{problem:?}");
            }
        )*
    };
}

refused! {
    empty_file: Vec::new() => HeaderError::Other { .. },
    seven_bytes: vec![0; 7] => HeaderError::TooSmall { size: 7 },
    largest_length: u64::MAX.to_le_bytes() => HeaderError::HeaderTooLarge { claimed: u64::MAX },
    length_over_the_limit: 100_000_001_u64.to_le_bytes() => HeaderError::HeaderTooLarge { .. },
    length_at_the_limit_of_a_short_file: 100_000_000_u64.to_le_bytes()
        => HeaderError::HeaderPastEnd { claimed: 100_000_000, size: 8 },
    length_one_too_long: {
        let mut file = with_header("{}");
        file[0] += 1;
        file
    } => HeaderError::HeaderPastEnd { claimed: 3, size: 10 },
    no_header: file("", 0) => HeaderError::NotAnObject,
    git_lfs_pointer: "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
        => HeaderError::Other { .. },
    header_not_utf8: {
        let mut file = with_header("{\"a\":1}");
        file[10] = 0xff;
        file
    } => HeaderError::NotUtf8,
    header_is_an_array: file("[]", 0) => HeaderError::NotAnObject,
    header_starts_with_a_space: file(" {}", 0) => HeaderError::NotAnObject,
    header_cut_off: file(r#"{"a":{"dtype":"F32""#, 0) => HeaderError::Json(_),
    header_goes_on: file("{}{}", 0) => HeaderError::Json(_),
    tensor_is_a_number: file(r#"{"a":1}"#, 0) => HeaderError::Json(_),
    negative_offset: file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}"#, 1)
        => HeaderError::Json(_),
    negative_shape: file(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, 1)
        => HeaderError::Json(_),
    fractional_shape: file(r#"{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}"#, 1)
        => HeaderError::Json(_),
    shape_beyond_64_bits:
        file(r#"{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}}"#, 1)
        => HeaderError::Json(_),
    three_offsets: file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}"#, 1)
        => HeaderError::Json(_),
    dtype_twice:
        file(r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#, 1)
        => HeaderError::Json(_),
    metadata_of_numbers: file(r#"{"__metadata__":{"a":1}}"#, 0) => HeaderError::Json(_),
    metadata_twice: file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0) => HeaderError::Json(_),
    deep_nesting: file(&format!("{{\"a\":{}", "[".repeat(1_000_000)), 0) => HeaderError::Json(_),
    deep_nesting_in_an_unknown_field:
        file(&format!("{{\"a\":{{\"x\":{}", "[".repeat(1_000_000)), 0) => HeaderError::Json(_),
    name_twice: file(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        2,
    ) => HeaderError::Duplicate { .. },
    name_twice_by_escape: file(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        2,
    ) => HeaderError::Duplicate { .. },
    unknown_dtype: file(r#"{"a":{"dtype":"F128","shape":[1],"data_offsets":[0,16]}}"#, 16)
        => HeaderError::UnknownDtype { .. },
    shape_overflow: file(
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        0,
    ) => HeaderError::ShapeOverflow { .. },
    byte_count_overflow:
        file(r#"{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}"#, 0)
        => HeaderError::ShapeOverflow { .. },
    shape_larger_than_range: file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4)
        => HeaderError::SizeMismatch { needed: 8, spanned: 4, .. },
    shape_smaller_than_range: file(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,8]}}"#, 8)
        => HeaderError::SizeMismatch { needed: 4, spanned: 8, .. },
    half_a_byte: file(r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, 2)
        => HeaderError::SplitByte { .. },
    backwards: file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, 1)
        => HeaderError::Backwards { start: 1, end: 0, .. },
    overlap: file(
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
        3,
    ) => HeaderError::Overlap { start: 1, previous_end: 2, .. },
    same_bytes_twice: file(
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
        2,
    ) => HeaderError::Overlap { .. },
    hole_in_front: file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2)
        => HeaderError::Hole { start: 1, previous_end: 0, .. },
    hole_between: file(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#,
        3,
    ) => HeaderError::Hole { start: 2, previous_end: 1, .. },
    truncated_shard: file(r#"{"a":{"dtype":"U8","shape":[10],"data_offsets":[0,10]}}"#, 9)
        => HeaderError::Truncated { .. },
    range_far_past_the_end: file(
        r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
        1,
    ) => HeaderError::ShapeOverflow { .. },
    range_past_the_end_of_all_files: file(
        r#"{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}"#,
        1,
    ) => HeaderError::Truncated { .. },
    bytes_after_the_last_tensor: file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 2)
        => HeaderError::TrailingBytes { .. },
    bytes_without_tensors: file("{}", 1) => HeaderError::TrailingBytes { .. },
}

#[test]
fn a_misleading_length_reads_few_bytes_and_allocates_nothing_like_it() {
    let source = MemorySource::new().with(FILE, 99_999_999_u64.to_le_bytes());
    let counting = Arc::new(CountingSource::new(source));
    assert!(Checkpoint::open_with(Box::new(Arc::clone(&counting))).is_err());
    assert_eq!(counting.bytes(), 16, "the length, and how the file begins");
}

#[test]
fn what_is_odd_and_allowed() {
    // An empty file of no tensors, trailing spaces, an unaligned header, unknown fields, empty and
    // scalar tensors, a name of escapes, the order of bytes other than the order of names.
    assert_eq!(open(file("{}", 0)).expect("sound").tensors().len(), 0);
    assert_eq!(open(file("{} \n ", 0)).expect("sound").tensors().len(), 0);
    let header = r#"{"z":{"dtype":"F32","shape":[],"data_offsets":[0,4],"more":[{}]},
        "empty":{"dtype":"F64","shape":[0,7],"data_offsets":[4,4]},
        "a\"\u00e9/\n":{"shape":[3],"dtype":"U8","data_offsets":[4,7]}}"#;
    let checkpoint = open(file(header, 7)).expect("sound");
    let names: Vec<&str> = checkpoint.tensors().map(|tensor| &*tensor.name).collect();
    assert_eq!(names, ["a\"é/\n", "empty", "z"]);
    assert_eq!(
        checkpoint
            .tensor("z")
            .map(sli_checkpoint::TensorInfo::elements),
        Some(1)
    );
    assert_eq!(
        checkpoint.tensor("empty").map(|tensor| tensor.bytes),
        Some(0)
    );
}

fn index_error(index: impl Into<Vec<u8>>, files: &[(&str, Vec<u8>)]) -> IndexError {
    let source = files
        .iter()
        .fold(MemorySource::new().with(INDEX, index), |source, file| {
            source.with(file.0, file.1.clone())
        });
    match Checkpoint::open_with(Box::new(source)) {
        Err(error @ CheckpointError::Index { .. }) => {
            assert!(error.to_string().contains(INDEX), "{error}");
            assert!(!error.hint().is_empty() && !error.is_io(), "{error}");
            let CheckpointError::Index { problem, .. } = error else {
                unreachable!()
            };
            problem
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_that_is_none() {
    for index in [
        "",
        "[]",
        "null",
        "{}",
        "{\"weight_map\":[]}",
        "{\"weight_map\":{\"a\":1}}",
    ] {
        let problem = index_error(index, &[]);
        assert!(
            matches!(problem, IndexError::Json(_)),
            "{index}: {problem:?}"
        );
    }
    assert!(matches!(
        index_error([0xff, 0xfe], &[]),
        IndexError::NotUtf8
    ));
    assert!(matches!(
        index_error("{\"weight_map\":{}}", &[]),
        IndexError::Empty
    ));
    let twice = "{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}";
    assert!(matches!(
        index_error(twice, &[]),
        IndexError::Duplicate { .. }
    ));
}

#[test]
fn a_shard_outside_the_folder() {
    for shard in [
        "/etc/passwd",
        "../other/model.safetensors",
        "a/../../b",
        "",
        ".",
        "..",
        "a\\u0000b",
    ] {
        let index = format!("{{\"weight_map\":{{\"a\":\"{shard}\"}}}}");
        let problem = index_error(index, &[]);
        assert!(
            matches!(problem, IndexError::OutsideFolder { .. }),
            "{shard}: {problem:?}"
        );
    }
}

#[test]
fn a_shard_that_is_not_there_or_lacks_a_tensor() {
    let index = "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    let shard = |name: &str| safetensors(&[Tensor::counting(name, &[2])]);
    let problem = index_error(index, &[("1.safetensors", shard("a"))]);
    let IndexError::MissingShard {
        tensor,
        shard: missing,
    } = problem
    else {
        panic!("{problem:?}")
    };
    assert_eq!((&*tensor, &*missing), ("b", "2.safetensors"));
    let files = [("1.safetensors", shard("a")), ("2.safetensors", shard("c"))];
    let problem = index_error(index, &files);
    let IndexError::NotInShard { tensor, shard } = problem else {
        panic!("{problem:?}")
    };
    assert_eq!((&*tensor, &*shard), ("b", "2.safetensors"));
}

/// Numbers of a configuration that do not fit the tensors, however absurd.
#[test]
fn absurd_descriptions_are_errors() {
    let checkpoint = Arc::new(
        open(safetensors(&[
            Tensor::counting("m", &[6, 4]),
            Tensor::counting("v", &[6]),
            Tensor::counting("e", &[2, 3, 4]),
            Tensor::new("none", Dtype::F32, &[0, 1 << 40, 1 << 20], Vec::new()),
        ]))
        .expect("sound"),
    );
    let m = || Source::tensor("m");
    let huge = usize::MAX;
    let per_head = |heads, parts| m().part(Split::PerHead { heads, parts }, 0);
    let grouped = |groups, queries| m().part(Split::Grouped { groups, queries }, 0);
    let unequal = |groups, rows| m().part(Split::Groups { groups, rows }, 0);
    let permuted = |head_dim| Source::RopePermute {
        of: Box::new(m()),
        head_dim,
    };
    let index = |index| Source::Index {
        of: Box::new(Source::tensor("e")),
        index,
    };
    let each = |count| Source::Each {
        of: Box::new(m()),
        count,
    };
    let cases: Vec<(Source, Vec<usize>)> = vec![
        (m(), vec![6]),
        (m(), vec![4, 6]),
        (m(), vec![huge, huge]),
        (m(), vec![]),
        (m(), vec![1, 1, 1, 6, 4]),
        (m().part(Split::Rows(vec![huge, huge]), 0), vec![huge, 4]),
        (m().part(Split::Rows(vec![6]), 1), vec![6, 4]),
        (m().part(Split::Rows(vec![]), 0), vec![6, 4]),
        (per_head(0, 3), vec![2, 4]),
        (per_head(huge, huge), vec![2, 4]),
        (per_head(4, 2), vec![3, 4]),
        (grouped(huge, huge), vec![2, 4]),
        (grouped(0, 1), vec![2, 4]),
        (grouped(2, huge), vec![2, 4]),
        (
            m().part(
                Split::Grouped {
                    groups: 2,
                    queries: 1,
                },
                3,
            ),
            vec![2, 4],
        ),
        (unequal(huge, vec![1, 2]), vec![2, 4]),
        (unequal(0, vec![1, 2]), vec![2, 4]),
        (unequal(2, vec![huge, huge]), vec![2, 4]),
        (unequal(2, vec![]), vec![2, 4]),
        (unequal(2, vec![1, 1]), vec![2, 4]),
        (m().part(Split::Strided { parts: 0 }, 0), vec![6, 4]),
        (m().part(Split::Strided { parts: 2 }, 2), vec![3, 4]),
        (permuted(0), vec![6, 4]),
        (permuted(3), vec![6, 4]),
        (permuted(huge), vec![6, 4]),
        (index(2), vec![3, 4]),
        (index(huge), vec![3, 4]),
        (
            Source::Index {
                of: Box::new(m()),
                index: 0,
            },
            vec![6, 4],
        ),
        (each(0), vec![0, 6, 4]),
        (each(huge), vec![3, 6, 4]),
        (
            Source::Each {
                of: Box::new(each(2)),
                count: 2,
            },
            vec![2, 2, 6, 4],
        ),
        (
            Source::Each {
                of: Box::new(Source::tensor("e")),
                count: 2,
            },
            vec![2, 2, 3, 4],
        ),
        (Source::tensor("v").transpose(), vec![6]),
        (Source::tensor("v"), vec![6, 1]),
        (Source::Reshape(Box::new(m())), vec![5, 5]),
        (Source::Reshape(Box::new(m())), vec![huge, huge]),
        (
            Source::Reshape(Box::new(m().part(Split::Strided { parts: 2 }, 0))),
            vec![12],
        ),
        (Source::OneOf(vec![]), vec![6, 4]),
        (Source::OneOf(vec![m(), Source::tensor("v")]), vec![1]),
        (Source::ConcatRows(vec![]), vec![6, 4]),
        (
            Source::ConcatRows(vec![m(), Source::tensor("v")]),
            vec![7, 4],
        ),
        (
            Source::ConcatRows(vec![m(), Source::tensor("none")]),
            vec![7, 4],
        ),
        (
            Source::ConcatColumns(vec![Source::tensor("v"), Source::tensor("v")]),
            vec![12],
        ),
        (m().plus_one().plus_one(), vec![6, 4]),
        (Source::tensor("none"), vec![0, 1 << 40, 1]),
    ];
    for (source, shape) in cases {
        let resolved = bind(&checkpoint, &leaf(source.clone(), &shape));
        let error = resolved.expect_err(&format!("{source:?} as {shape:?}"));
        assert!(matches!(error, CheckpointError::Leaf { .. }), "{error}");
    }
    let none = Source::tensor("none").transpose();
    let empty = bind(&checkpoint, &leaf(none, &[0, 1 << 20, 1 << 40]));
    let empty = empty.expect("a tensor of nothing");
    assert!(
        empty.read_rows(0, 0..1, &mut []).is_err(),
        "it has no slice"
    );
    assert_eq!(empty.read_all_f32().expect("nothing"), Vec::<f32>::new());
}

#[test]
fn callers_mistakes_are_errors() {
    let checkpoint = support::checkpoint(&[Tensor::counting("e", &[2, 3, 4])]);
    let leaf = bind(&checkpoint, &leaf(Source::tensor("e"), &[2, 3, 4])).expect("there");
    let mut out = vec![0; 3 * 4 * 4];
    leaf.read_rows(1, 0..3, &mut out).expect("read");
    #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
    for (slice, rows) in [
        (2, 0..3),
        (0, 0..4),
        (0, 2..1),
        (usize::MAX, 0..1),
        (0, 0..usize::MAX),
    ] {
        let error = leaf
            .read_rows(slice, rows.clone(), &mut out)
            .expect_err("no such rows");
        assert!(
            matches!(error, CheckpointError::OutOfRange { .. }),
            "{error}"
        );
        assert!(leaf.byte_ranges(slice, rows.clone()).is_err());
        assert!(leaf.read_f32(slice, rows).is_err());
    }
    assert!(leaf.gather_rows(0, &[0, 3], &mut out[..32]).is_err());
    assert!(leaf.gather_rows(0, &[usize::MAX], &mut out[..16]).is_err());
    assert!(leaf.position(2).is_err());
    let error = leaf
        .read_rows(0, 0..2, &mut out)
        .expect_err("too large a buffer");
    assert!(
        matches!(
            error,
            CheckpointError::BufferSize {
                wanted: 32,
                got: 48,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn leaf_problems_name_the_tensor() {
    let checkpoint = support::checkpoint(&[Tensor::counting("m", &[6, 4])]);
    let error = bind(&checkpoint, &leaf(Source::tensor("m"), &[4, 6]));
    let CheckpointError::Leaf { problem, .. } = error.expect_err("shape") else {
        panic!()
    };
    let (name, found, wanted) = ("m".to_owned(), vec![6, 4], vec![4, 6]);
    assert_eq!(
        problem,
        LeafProblem::Shape {
            name,
            found,
            wanted
        }
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn mutated_files_never_panic(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..6),
    ) {
        let mut file = safetensors(&[
            Tensor::counting("model.a.weight", &[3, 4]),
            Tensor::counting("model.b", &[2, 3, 2]),
            Tensor::counting("c", &[5]),
        ]);
        for (at, byte, kind) in mutations {
            let at = at.index(file.len());
            match kind {
                0 => file[at] = byte,
                1 => file[at] ^= 1 << (byte % 8),
                2 => file.truncate(at + 1),
                _ => file.insert(at, byte),
            }
        }
        read_everything(file);
    }

    #[test]
    fn digits_of_the_header_may_say_anything(digits in prop::collection::vec("[0-9]{1,20}", 12)) {
        let mut digits = digits.into_iter();
        let mut next = || digits.next().unwrap_or_default().parse::<u64>().unwrap_or(0);
        let header = format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{},{}],\"data_offsets\":[{},{}]}},\
             \"b\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{},{}]}}}}",
            next(), next(), next(), next(), next(), next(), next(),
        );
        read_everything(with_header(&header));
    }

    #[test]
    fn mutated_indices_never_panic(at: prop::sample::Index, byte: u8, cut: bool) {
        let mut index = br#"{"metadata":{},"weight_map":{"a":"1.safetensors"}}"#.to_vec();
        let at = at.index(index.len());
        if cut {
            index.truncate(at);
        } else {
            index[at] = byte;
        }
        let shard = safetensors(&[Tensor::counting("a", &[2])]);
        let source = MemorySource::new().with(INDEX, index).with("1.safetensors", shard);
        if let Err(error) = Checkpoint::open_with(Box::new(source)) {
            let _ = (error.to_string(), error.hint());
        }
    }
}

/// Opens a file, and reads all of it if it is sound.
fn read_everything(file: Vec<u8>) {
    let size = file.len() as u64;
    match open(file) {
        Err(error) => {
            let _ = (error.to_string(), error.hint());
        }
        Ok(checkpoint) => {
            assert!(checkpoint.stored_bytes() <= size);
            let checkpoint = Arc::new(checkpoint);
            for tensor in checkpoint.tensors() {
                let leaf = leaf(Source::tensor(&*tensor.name), &tensor.shape);
                let leaf = bind(&checkpoint, &leaf);
                let _ = leaf.and_then(|leaf| leaf.read_all_f32());
            }
        }
    }
}
