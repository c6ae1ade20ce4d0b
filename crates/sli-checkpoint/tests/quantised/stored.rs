//! A module in every form, as its writer stores it, of bytes that look like chance.

use std::sync::Arc;

use serde_json::{Value, json};
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{BoundLeaf, Checkpoint, CheckpointError, Codes, Dtype};
use sli_spec::Source;

use crate::support::{Tensor, bind, leaf, safetensors};

/// Bytes that look like chance, with bits cleared and set.
pub fn bytes(name: &str, count: usize, and: u8, or: u8) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let dice = |at: usize| (seed % (1 << 40) + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (0..count).map(|at| dice(at) as u8 & and | or).collect()
}

/// Tensors of a module.
#[derive(Clone)]
pub struct Stored {
    pub config: Value,
    pub tensors: Vec<Tensor>,
}

impl Stored {
    pub fn new(config: Value) -> Self {
        Self {
            config,
            tensors: Vec::new(),
        }
    }

    pub fn raw(self, name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        self.masked(name, dtype, shape, 255, 0)
    }

    pub fn masked(mut self, name: &str, dtype: Dtype, shape: &[usize], and: u8, or: u8) -> Self {
        let count = shape.iter().product::<usize>() * dtype.size_bytes().unwrap_or(1);
        let data = bytes(name, count, and, or);
        self.tensors.push(Tensor::new(name, dtype, shape, data));
        self
    }

    /// F32 between 1 and 2.
    pub fn scales(mut self, name: &str, shape: &[usize]) -> Self {
        let data = bytes(name, shape.iter().product(), 127, 0);
        let data = data
            .into_iter()
            .flat_map(|byte| (1.0 + f32::from(byte) / 128.0).to_le_bytes());
        self.tensors
            .push(Tensor::new(name, Dtype::F32, shape, data.collect()));
        self
    }

    pub fn listed(mut self, name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Self {
        self.tensors.push(Tensor::new(name, dtype, shape, data));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        let mut tensors = self.tensors.iter_mut();
        tensors.find(|tensor| tensor.name == name).expect("there")
    }

    pub fn codes(&self) -> Codes {
        let weight = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        let codes = Codes::declared(&self.config).expect("known");
        codes.of_leaves([&weight], "")
    }

    pub fn open(&self) -> Arc<Checkpoint> {
        let source = MemorySource::new().with("model.safetensors", safetensors(&self.tensors));
        let mut checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
        checkpoint.declare(&self.codes()).expect("readable");
        Arc::new(checkpoint)
    }

    pub fn problem(&self, shape: &[usize]) -> String {
        let wanted = leaf(Source::tensor("m.weight"), shape);
        match bind(&self.open(), &wanted).expect_err("it does not fit") {
            CheckpointError::Leaf { problem, .. } => problem.to_string(),
            other => panic!("{other}"),
        }
    }

    pub fn fault(&self, shape: &[usize]) -> String {
        let wanted = leaf(Source::tensor("m.weight"), shape);
        let weight = bind(&self.open(), &wanted).expect("there");
        let error = weight.read_all_f32().expect_err("it cannot be decoded");
        assert!(
            matches!(error, CheckpointError::Undecodable { .. }),
            "{error}"
        );
        error.to_string()
    }
}

pub const ROWS: usize = 96;
pub const COLUMNS: usize = 160;

pub fn numbers(numbers: impl IntoIterator<Item = i32>) -> Vec<u8> {
    numbers.into_iter().flat_map(i32::to_le_bytes).collect()
}

pub fn fp8() -> Stored {
    Stored::new(json!({"quant_method": "fp8", "weight_block_size": null}))
        .masked("m.weight", Dtype::F8E4M3, &[ROWS, COLUMNS], 0xbf, 0)
        .scales("m.weight_scale_inv", &[])
}

pub fn gptq(bits: usize) -> Stored {
    let config = json!({"quant_method": "gptq", "bits": bits, "group_size": 32, "desc_act": true});
    // Every group has features everywhere.
    let order = (0..COLUMNS).map(|at| (at % (COLUMNS / 32)) as i32);
    Stored::new(config)
        .raw("m.qweight", Dtype::I32, &[COLUMNS * bits / 32, ROWS])
        .raw("m.qzeros", Dtype::I32, &[COLUMNS / 32, ROWS * bits / 32])
        .scales("m.scales", &[COLUMNS / 32, ROWS])
        .listed("m.g_idx", Dtype::I32, &[COLUMNS], numbers(order))
}

pub fn awq() -> Stored {
    let config = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"});
    Stored::new(config)
        .raw("m.qweight", Dtype::I32, &[COLUMNS, ROWS / 8])
        .raw("m.qzeros", Dtype::I32, &[COLUMNS / 32, ROWS / 8])
        .scales("m.scales", &[COLUMNS / 32, ROWS])
}

pub fn gemv() -> Stored {
    let config = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemv"});
    Stored::new(config)
        .raw("m.qweight", Dtype::I32, &[ROWS, COLUMNS / 8])
        .raw("m.qzeros", Dtype::I32, &[ROWS, 4])
        .scales("m.scales", &[ROWS, 32])
}

pub fn packed(bits: usize, symmetric: bool) -> Stored {
    let weights = json!({"num_bits": bits, "strategy": "group", "group_size": 32});
    let config = json!({
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    });
    let shape = [ROWS as i64, COLUMNS as i64];
    let shape = shape.into_iter().flat_map(i64::to_le_bytes).collect();
    let stored = Stored::new(config)
        .raw("m.weight_packed", Dtype::I32, &[ROWS, COLUMNS * bits / 32])
        .scales("m.weight_scale", &[ROWS, COLUMNS / 32])
        .listed("m.weight_shape", Dtype::I64, &[2], shape);
    if symmetric {
        return stored;
    }
    let down = (ROWS * bits).div_ceil(32);
    stored.raw("m.weight_zero_point", Dtype::I32, &[down, COLUMNS / 32])
}

pub fn nvfp4(writer: &str) -> Stored {
    let (config, codes, whole) = match writer {
        "modelopt" => (
            json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}),
            "m.weight",
            "m.weight_scale_2",
        ),
        _ => (
            json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}),
            "m.weight_packed",
            "m.weight_global_scale",
        ),
    };
    Stored::new(config)
        .raw(codes, Dtype::U8, &[ROWS, COLUMNS / 2])
        .masked(
            "m.weight_scale",
            Dtype::F8E4M3,
            &[ROWS, COLUMNS / 16],
            63,
            32,
        )
        .listed(whole, Dtype::F32, &[1], 4.0_f32.to_le_bytes().to_vec())
}

pub fn bitsandbytes(double: bool) -> Stored {
    let count = ROWS * COLUMNS;
    let state = json!({
        "quant_type": "nf4", "blocksize": 64, "shape": [ROWS, COLUMNS], "dtype": "float16",
        "nested_blocksize": double.then_some(256), "nested_offset": double.then_some(0.25),
    });
    let state = state.to_string().into_bytes();
    let stored = Stored::new(json!({"quant_method": "bitsandbytes", "load_in_4bit": true}))
        .raw("m.weight", Dtype::U8, &[count / 2, 1])
        .scales("m.weight.quant_map", &[16])
        .listed(
            "m.weight.quant_state.bitsandbytes__nf4",
            Dtype::U8,
            &[state.len()],
            state,
        );
    if !double {
        return stored.scales("m.weight.absmax", &[count / 64]);
    }
    stored
        .raw("m.weight.absmax", Dtype::U8, &[count / 64])
        .scales("m.weight.nested_absmax", &[(count / 64).div_ceil(256)])
        .scales("m.weight.nested_quant_map", &[256])
}

pub fn mlx(bits: usize) -> Stored {
    Stored::new(json!({"group_size": 32, "bits": bits}))
        .raw("m.weight", Dtype::U32, &[ROWS, COLUMNS * bits / 32])
        .scales("m.scales", &[ROWS, COLUMNS / 32])
        .scales("m.biases", &[ROWS, COLUMNS / 32])
}

pub fn hqq(bits: usize, axis: usize) -> Stored {
    let group = 32;
    let groups = ROWS * COLUMNS / group;
    let (height, width) = if axis == 1 {
        (groups, group)
    } else {
        (group, groups)
    };
    let (per, dtype) = match bits {
        3 => (10, Dtype::I32),
        _ => (8 / bits, Dtype::U8),
    };
    let shape = [ROWS as i64, COLUMNS as i64];
    let shape = shape.into_iter().flat_map(i64::to_le_bytes).collect();
    let number = |number: usize| numbers([number as i32]);
    Stored::new(json!({"quant_method": "hqq"}))
        .raw("m.W_q", dtype, &[height.div_ceil(per), width])
        .scales("m.scale", &[groups, 1])
        .scales("m.zero", &[groups, 1])
        .listed("m.shape", Dtype::I64, &[2], shape)
        .listed("m.nbits", Dtype::I32, &[], number(bits))
        .listed("m.axis", Dtype::I32, &[], number(axis))
        .listed("m.group_size", Dtype::I32, &[], number(group))
        .listed("m.quant_scale", Dtype::U8, &[], vec![0])
        .listed("m.packing", Dtype::U8, &[7], b"4bit_u8".to_vec())
}

pub fn bitnet() -> Stored {
    Stored::new(json!({"quant_method": "bitnet", "linear_class": "autobitlinear"}))
        .masked("m.weight", Dtype::U8, &[ROWS / 4, COLUMNS], 0x69, 0)
        .scales("m.weight_scale", &[1])
}

pub fn torchao() -> Stored {
    Stored::new(json!({"quant_method": "torchao", "quant_type": {"default": {}}}))
        .raw("m._weight_qdata", Dtype::I8, &[ROWS, COLUMNS])
        .scales("m._weight_scale", &[ROWS, COLUMNS / 32])
        .raw("m._weight_zero_point", Dtype::I8, &[ROWS, COLUMNS / 32])
}

/// An `Int4Tensor`.
pub fn int4() -> Stored {
    Stored::new(json!({"quant_method": "torchao", "quant_type": {"default": {}}}))
        .raw("m._weight_qdata", Dtype::I8, &[ROWS, COLUMNS / 2])
        .scales("m._weight_scale", &[COLUMNS / 32, ROWS])
        .scales("m._weight_zero_point", &[COLUMNS / 32, ROWS])
}

pub fn quanto(bits: usize) -> Stored {
    let config = json!({"quant_method": "quanto", "m": {"weights": format!("qint{bits}"), "activations": "none"}});
    let stored = Stored::new(config);
    if bits == 8 {
        return stored
            .raw("m.weight._data", Dtype::I8, &[ROWS, COLUMNS])
            .scales("m.weight._scale", &[ROWS, 1]);
    }
    let groups = ROWS * COLUMNS / 32;
    stored
        .raw("m.weight._data._data", Dtype::U8, &[groups * bits / 8, 32])
        .scales("m.weight._scale", &[groups, 1])
        .scales("m.weight._shift", &[groups, 1])
}

pub fn aqlm(books: usize, bits: usize) -> Stored {
    let config =
        json!({"quant_method": "aqlm", "num_codebooks": books, "nbits_per_codebook": bits});
    let dtype = if bits > 8 { Dtype::I16 } else { Dtype::I8 };
    Stored::new(config)
        .raw("m.codes", dtype, &[ROWS, COLUMNS / 8, books])
        .scales("m.codebooks", &[books, 1 << bits, 1, 8])
        .scales("m.scales", &[ROWS, 1, 1, 1])
}

/// Integers with a scale and what they count from, for every row.
pub fn quark() -> Stored {
    Stored::new(json!({"quant_method": "quark", "export": {"weight_format": "real_quantized"}}))
        .raw("m.weight", Dtype::I8, &[ROWS, COLUMNS])
        .scales("m.weight_scale", &[ROWS])
        .raw("m.weight_zero_point", Dtype::I8, &[ROWS])
}

/// Codes of 4 bits with powers of two, as three writers call them.
pub fn mxfp4(method: &str) -> Stored {
    let (dtype, scales) = match method {
        "quark" => (Dtype::U8, "m.weight_scale"),
        _ => (Dtype::I8, "m.scale"),
    };
    Stored::new(json!({"quant_method": method}))
        .raw("m.weight", dtype, &[ROWS, COLUMNS / 2])
        .masked(scales, Dtype::U8, &[ROWS, COLUMNS / 32], 7, 120)
}

pub fn mxfp8() -> Stored {
    Stored::new(json!({"quant_method": "modelopt", "quant_algo": "MXFP8", "group_size": 32}))
        .masked("m.weight", Dtype::F8E4M3, &[ROWS, COLUMNS], 0xbf, 0)
        .masked("m.weight_scale", Dtype::U8, &[ROWS, COLUMNS / 32], 7, 120)
}

pub fn every_code() -> Vec<(&'static str, Stored)> {
    let mut all = vec![
        ("awq", awq()),
        ("awq, gemv", gemv()),
        ("nvfp4 of modelopt", nvfp4("modelopt")),
        ("nvfp4 of compressed-tensors", nvfp4("compressed-tensors")),
        ("nf4", bitsandbytes(false)),
        ("nf4, double", bitsandbytes(true)),
        ("packed, symmetric", packed(4, true)),
        ("bitnet", bitnet()),
        ("torchao", torchao()),
        ("torchao, 4 bits", int4()),
        ("quanto, 8 bits", quanto(8)),
        ("quanto, 4 bits", quanto(4)),
        ("quanto, 2 bits", quanto(2)),
        ("aqlm", aqlm(2, 8)),
        // A codebook of more bytes than are read together.
        ("aqlm, 16 bits", aqlm(1, 16)),
        ("int8 of quark", quark()),
        ("mxfp4 of quark", mxfp4("quark")),
        ("mxfp4 beside fp8", mxfp4("fp8")),
        ("mxfp8", mxfp8()),
    ];
    all.extend([1, 2, 3, 4, 8].map(|bits| ("hqq", hqq(bits, 1))));
    all.extend([1, 2, 3, 4, 8].map(|bits| ("hqq across", hqq(bits, 0))));
    all.extend([2, 3, 4, 8].map(|bits| ("gptq", gptq(bits))));
    all.extend([2, 3, 4, 5, 6, 8].map(|bits| ("packed", packed(bits, false))));
    all.extend([2, 3, 4, 5, 6, 8].map(|bits| ("mlx", mlx(bits))));
    all
}

pub fn all_of(leaf: &BoundLeaf) -> Vec<f32> {
    leaf.read_all_f32().expect("read")
}
