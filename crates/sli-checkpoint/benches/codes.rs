//! Prints how fast rows of coded weights become numbers, in one thread, from files that are in memory.
//!
//! `cargo bench -p sli-checkpoint --bench codes [-- NAME]`
//!
//! A rate counts two bytes a number, what a checkpoint in bf16 has of it.

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{BoundLeaf, Checkpoint, Codes, Dtype};
use sli_spec::Source;
use support::{Tensor, bind, leaf, safetensors};

const ROWS: usize = 4096;
const COLUMNS: usize = 4096;
/// Rows that are read at a time.
const STEP: usize = 256;

/// A tensor of bytes that look like chance, some bits of them cleared and set.
fn raw(name: &str, dtype: Dtype, shape: &[usize], and: u8, or: u8) -> Tensor {
    let count = shape.iter().product::<usize>() * dtype.size_bytes().unwrap_or(1);
    let mut state = 1_u32;
    let bytes = (0..count).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & and | or
    });
    Tensor::new(name, dtype, shape, bytes.collect())
}

fn scales(name: &str, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let bytes = (0..count).flat_map(|at| (1.0 + (at % 100) as f32).to_le_bytes());
    Tensor::new(name, Dtype::F32, shape, bytes.collect())
}

fn codes() -> Vec<(&'static str, Value, Vec<Tensor>)> {
    let groups = COLUMNS / 128;
    let compressed = |bits: usize| {
        let weights = json!({"num_bits": bits, "strategy": "group", "group_size": 128});
        json!({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": weights}}})
    };
    let shape = [ROWS, COLUMNS]
        .into_iter()
        .flat_map(|side| (side as i64).to_le_bytes());
    let state = json!({
        "blocksize": 64, "shape": [ROWS, COLUMNS], "nested_blocksize": 256, "nested_offset": 0.1,
    });
    let state = state.to_string().into_bytes();
    let blocks = ROWS * COLUMNS / 64;
    vec![
        (
            "fp8 in blocks",
            json!({"quant_method": "fp8"}),
            vec![
                raw("m.weight", Dtype::F8E4M3, &[ROWS, COLUMNS], 0xbf, 0),
                scales("m.weight_scale_inv", &[ROWS / 128, COLUMNS / 128]),
            ],
        ),
        (
            "int8 by rows",
            compressed(8),
            vec![
                raw("m.weight", Dtype::I8, &[ROWS, COLUMNS], 255, 0),
                scales("m.weight_scale", &[ROWS, 1]),
            ],
        ),
        (
            "nf4, double",
            json!({"quant_method": "bitsandbytes"}),
            vec![
                raw("m.weight", Dtype::U8, &[ROWS * COLUMNS / 2, 1], 255, 0),
                raw("m.weight.absmax", Dtype::U8, &[blocks], 255, 0),
                scales("m.weight.nested_absmax", &[blocks / 256]),
                scales("m.weight.nested_quant_map", &[256]),
                scales("m.weight.quant_map", &[16]),
                Tensor::new(
                    "m.weight.quant_state.bitsandbytes__nf4",
                    Dtype::U8,
                    &[state.len()],
                    state,
                ),
            ],
        ),
        (
            "nvfp4",
            json!({"quant_method": "modelopt"}),
            vec![
                raw("m.weight", Dtype::U8, &[ROWS, COLUMNS / 2], 255, 0),
                raw(
                    "m.weight_scale",
                    Dtype::F8E4M3,
                    &[ROWS, COLUMNS / 16],
                    63,
                    32,
                ),
                scales("m.weight_scale_2", &[]),
            ],
        ),
        (
            "mxfp4",
            json!({"quant_method": "compressed-tensors"}),
            vec![
                raw("m.weight_packed", Dtype::U8, &[ROWS, COLUMNS / 2], 255, 0),
                raw("m.weight_scale", Dtype::U8, &[ROWS, COLUMNS / 32], 7, 120),
            ],
        ),
        (
            "packed, 4 bits",
            compressed(4),
            vec![
                raw("m.weight_packed", Dtype::I32, &[ROWS, COLUMNS / 8], 255, 0),
                scales("m.weight_scale", &[ROWS, groups]),
                Tensor::new("m.weight_shape", Dtype::I64, &[2], shape.collect()),
            ],
        ),
        (
            "mlx, 4 bits",
            json!({"bits": 4, "group_size": 64}),
            vec![
                raw("m.weight", Dtype::U32, &[ROWS, COLUMNS / 8], 255, 0),
                scales("m.scales", &[ROWS, COLUMNS / 64]),
                scales("m.biases", &[ROWS, COLUMNS / 64]),
            ],
        ),
        (
            "gptq, 4 bits",
            json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
            vec![
                raw("m.qweight", Dtype::I32, &[COLUMNS / 8, ROWS], 255, 0),
                raw("m.qzeros", Dtype::I32, &[groups, ROWS / 8], 255, 0),
                scales("m.scales", &[groups, ROWS]),
            ],
        ),
        (
            "awq",
            json!({"quant_method": "awq", "bits": 4, "group_size": 128}),
            vec![
                raw("m.qweight", Dtype::I32, &[COLUMNS, ROWS / 8], 255, 0),
                raw("m.qzeros", Dtype::I32, &[groups, ROWS / 8], 255, 0),
                scales("m.scales", &[groups, ROWS]),
            ],
        ),
    ]
}

fn bound(config: &Value, tensors: &[Tensor]) -> BoundLeaf {
    let source = MemorySource::new().with("model.safetensors", safetensors(tensors));
    let mut checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    let codes = Codes::declared(config).expect("known");
    checkpoint.declare(&codes).expect("readable");
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    bind(&Arc::new(checkpoint), &wanted).expect("it fits")
}

fn main() {
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    for (name, config, tensors) in codes() {
        if only
            .as_ref()
            .is_some_and(|only| !name.contains(only.as_str()))
        {
            continue;
        }
        let weight = bound(&config, &tensors);
        let mut out = vec![0; STEP * weight.row_bytes()];
        let mut shortest = Duration::MAX;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < 1.0 {
            for first in (0..ROWS).step_by(STEP) {
                let start = Instant::now();
                weight
                    .read_rows(0, first..first + STEP, &mut out)
                    .expect("read");
                // Every step is as much work.
                shortest = shortest.min(start.elapsed());
            }
        }
        let rate = (2 * STEP * COLUMNS) as f64 / shortest.as_secs_f64() / 1e9;
        println!("{name:16} {rate:6.2} GB/s");
    }
}
