//! Tensors whose elements do not lie one behind the other: their strides are data of the index.

mod support;

use std::sync::Arc;

use sli_checkpoint::source::{ByteSource, MemorySource, SourceError};
use sli_checkpoint::{
    Checkpoint, CheckpointError, Dtype, FileIndex, Index, TensorInfo, WeightFile,
};
use sli_spec::{Source, Split};
use support::{bind, leaf};

const NUMBERS: usize = 4000;

/// A file of the numbers 0, 1, ... in f32, seen as one tensor.
fn checkpoint(shape: &[usize], offset: usize, strides: &[u64]) -> Arc<Checkpoint> {
    let bytes: Vec<u8> = (0..NUMBERS)
        .flat_map(|at| (at as f32).to_le_bytes())
        .collect();
    let last: u64 = shape
        .iter()
        .zip(strides)
        .map(|(&side, stride)| (side as u64 - 1) * stride)
        .sum();
    let size = bytes.len() as u64;
    let source = MemorySource::new().with("weights", bytes);
    let index = Index {
        files: vec![WeightFile {
            name: "weights".to_owned(),
            size,
            header_digest: String::new(),
        }],
        tensors: vec![TensorInfo {
            name: "w".into(),
            file: FileIndex(0),
            dtype: Dtype::F32,
            shape: shape.into(),
            offset: 4 * offset as u64,
            strides: Some(strides.iter().map(|stride| 4 * stride).collect()),
            bytes: 4 * (last + 1),
        }],
        ..Index::default()
    };
    Arc::new(Checkpoint::of(Box::new(source), index))
}

#[test]
fn elements_are_where_the_strides_say() {
    for (shape, offset, strides) in [
        (vec![5, 7], 3, vec![7, 1]),
        // Transposed, and with gaps.
        (vec![7, 5], 3, vec![1, 7]),
        (vec![6, 10], 11, vec![40, 3]),
        // Rows and columns that repeat.
        (vec![9, 12], 5, vec![0, 1]),
        (vec![9, 12], 5, vec![2, 0]),
        (vec![3, 4, 6], 0, vec![1, 3, 12]),
        (vec![3, 4, 6], 7, vec![100, 1, 4]),
        (vec![2, 3, 4, 6], 0, vec![72, 24, 6, 1]),
        (vec![50], 2, vec![3]),
    ] {
        let checkpoint = checkpoint(&shape, offset, &strides);
        let bound = bind(&checkpoint, &leaf(Source::tensor("w"), &shape)).expect("there");
        let mut expected = vec![offset as f32];
        for (&side, &stride) in shape.iter().zip(&strides) {
            let from = |value: &f32| {
                let value = *value;
                (0..side).map(move |at| value + (at as u64 * stride) as f32)
            };
            expected = expected.iter().flat_map(from).collect();
        }
        assert_eq!(
            bound.read_all_f32().expect("read"),
            expected,
            "{shape:?} {strides:?}"
        );
        let (rows, columns) = (bound.rows(), bound.columns());
        if rows > 2 {
            let some = bound.read_f32(0, 1..rows - 1).expect("read");
            assert_eq!(some, expected[columns..(rows - 1) * columns]);
        }
    }
    let turned = Source::tensor("w")
        .transpose()
        .part(Split::Strided { parts: 2 }, 1);
    let checkpoint = checkpoint(&[3, 8], 1, &[20, 2]);
    let bound = bind(&checkpoint, &leaf(turned, &[4, 3])).expect("there");
    let expected = [3, 23, 43, 7, 27, 47, 11, 31, 51].map(|value| value as f32);
    assert_eq!(bound.read_f32(0, 0..3).expect("read"), expected);
}

#[test]
fn another_shape_of_scattered_elements_is_refused() {
    let scattered = checkpoint(&[4, 6], 0, &[1, 4]);
    let reshaped = Source::Reshape(Box::new(Source::tensor("w")));
    let uneven = checkpoint(&[2, 3, 4, 6], 0, &[100, 24, 6, 1]);
    for (checkpoint, source, shape) in [
        (scattered, reshaped, vec![6, 4]),
        (uneven, Source::tensor("w"), vec![2, 3, 4, 6]),
    ] {
        let error = bind(&checkpoint, &leaf(source, &shape)).expect_err("scattered");
        assert!(matches!(error, CheckpointError::Leaf { .. }), "{error}");
    }
}

/// A source that reads around every gap.
#[derive(Debug)]
struct Exact(MemorySource);

impl ByteSource for Exact {
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
        self.0.list(folder)
    }
    fn len(&self, file: &str) -> Result<u64, SourceError> {
        self.0.len(file)
    }
    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.0.read_at(file, offset, out)
    }
    fn gap(&self) -> u64 {
        0
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[test]
fn a_source_says_which_gaps_are_read_through() {
    let file = support::safetensors(&[support::Tensor::counting("w", &[100, 50])]);
    let half = leaf(
        Source::tensor("w").part(Split::Strided { parts: 2 }, 0),
        &[50, 50],
    );
    let source = MemorySource::new().with("model.safetensors", file);
    let sources: [Box<dyn ByteSource>; 2] = [Box::new(source.clone()), Box::new(Exact(source))];
    let read = sources.map(|source| {
        let checkpoint = Arc::new(Checkpoint::open_with(source).expect("sound"));
        let half = bind(&checkpoint, &half).expect("there");
        let before = checkpoint.bytes_read();
        let values = half.read_all_f32().expect("read");
        assert_eq!(checkpoint.bytes_read() - before, half.stored_bytes(0..50));
        (checkpoint.bytes_read() - before, values)
    });
    assert_eq!(read[0].1, read[1].1);
    assert_eq!([read[0].0, read[1].0], [99 * 200, 50 * 200]);
}
