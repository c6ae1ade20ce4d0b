//! Prints how fast weights in blocks are read and decoded on one thread, from memory.
//!
//! `cargo bench -p sli-checkpoint --bench blocks`

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]

use std::sync::Arc;
use std::time::Instant;

use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{BoundLeaf, Checkpoint, Codes, FileIndex, Index, TensorInfo, WeightFile};
use sli_spec::{Leaf, Source};

const ROWS: usize = 2048;
const COLUMNS: usize = 4096;

/// The bytes of every type's matrix in the file of the tests.
fn samples() -> Vec<(TensorInfo, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gguf/blocks.gguf");
    let file = fs_err::read(path).expect("a file of the project");
    let source = MemorySource::new().with("blocks.gguf", file);
    let checkpoint = Checkpoint::open_with(Box::new(source)).expect("a sound file");
    let blocks = checkpoint
        .tensors()
        .filter(|tensor| tensor.dtype.is_block());
    blocks
        .map(|tensor| {
            let mut bytes = vec![0; tensor.bytes as usize];
            let read = checkpoint.read_at(tensor.file, tensor.offset, &mut bytes);
            read.expect("in memory");
            (tensor.clone(), bytes)
        })
        .collect()
}

/// A large matrix of the same blocks.
fn matrix(sample: &TensorInfo, bytes: &[u8]) -> BoundLeaf {
    let size = sample
        .dtype
        .bytes_of((ROWS * COLUMNS) as u64)
        .expect("whole blocks");
    let content: Vec<u8> = bytes.iter().copied().cycle().take(size as usize).collect();
    let index = Index {
        files: vec![WeightFile {
            name: "weights".to_owned(),
            size,
            header_digest: String::new(),
        }],
        tensors: vec![TensorInfo {
            name: "w".into(),
            file: FileIndex(0),
            shape: [ROWS, COLUMNS].into(),
            offset: 0,
            bytes: size,
            ..sample.clone()
        }],
        ..Index::default()
    };
    let source = MemorySource::new().with("weights", content);
    let mut checkpoint = Checkpoint::of(Box::new(source), index);
    checkpoint.declare(&Codes::default()).expect("known codes");
    let leaf = Leaf::new(Source::tensor("w"), [ROWS, COLUMNS]);
    BoundLeaf::bind(&Arc::new(checkpoint), "", &leaf).expect("bound")
}

fn main() {
    println!("type      numbers/s   as bf16");
    for (sample, bytes) in samples() {
        let leaf = matrix(&sample, &bytes);
        // As much as a panel, again and again.
        let rows = 64;
        let mut out = vec![0; rows * leaf.row_bytes()];
        let mut best = f64::INFINITY;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < 0.3 {
            for first in (0..ROWS).step_by(rows).take(8) {
                let start = Instant::now();
                leaf.read_rows(0, first..first + rows, &mut out)
                    .expect("in memory");
                best = best.min(start.elapsed().as_secs_f64());
            }
        }
        let rate = (rows * COLUMNS) as f64 / best / 1e9;
        println!(
            "{:8} {:7.2} G {:8.2} GB/s",
            sample.dtype.name(),
            rate,
            2.0 * rate
        );
    }
}
