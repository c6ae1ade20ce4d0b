//! Weights of every code: what is read of them in pieces is what all of them hold, whatever the pieces, and what the code
//! cannot mean is refused. That they hold the right numbers is the goldens' business.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{
    BoundLeaf, Checkpoint, CheckpointError, Codes, CoverageReport, Dtype, LeafProblem,
};
use sli_spec::{Source, Split};
use support::{Tensor, bind, leaf, safetensors};

/// Bytes that look like chance, with bits cleared and set.
fn bytes(name: &str, count: usize, and: u8, or: u8) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let dice = |at: usize| (seed % (1 << 40) + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (0..count).map(|at| dice(at) as u8 & and | or).collect()
}

/// Tensors of a module.
#[derive(Clone)]
struct Stored {
    config: Value,
    tensors: Vec<Tensor>,
}

impl Stored {
    fn new(config: Value) -> Self {
        Self {
            config,
            tensors: Vec::new(),
        }
    }

    fn raw(self, name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        self.masked(name, dtype, shape, 255, 0)
    }

    fn masked(mut self, name: &str, dtype: Dtype, shape: &[usize], and: u8, or: u8) -> Self {
        let count = shape.iter().product::<usize>() * dtype.size_bytes().unwrap_or(1);
        let data = bytes(name, count, and, or);
        self.tensors.push(Tensor::new(name, dtype, shape, data));
        self
    }

    /// F32 between 1 and 2.
    fn scales(mut self, name: &str, shape: &[usize]) -> Self {
        let data = bytes(name, shape.iter().product(), 127, 0);
        let data = data
            .into_iter()
            .flat_map(|byte| (1.0 + f32::from(byte) / 128.0).to_le_bytes());
        self.tensors
            .push(Tensor::new(name, Dtype::F32, shape, data.collect()));
        self
    }

    fn listed(mut self, name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Self {
        self.tensors.push(Tensor::new(name, dtype, shape, data));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        let mut tensors = self.tensors.iter_mut();
        tensors.find(|tensor| tensor.name == name).expect("there")
    }

    fn codes(&self) -> Codes {
        let weight = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        let codes = Codes::declared(&self.config).expect("known");
        codes.of_leaves([&weight], "")
    }

    fn open(&self) -> Arc<Checkpoint> {
        let source = MemorySource::new().with("model.safetensors", safetensors(&self.tensors));
        let mut checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
        checkpoint.declare(&self.codes()).expect("readable");
        Arc::new(checkpoint)
    }

    fn problem(&self, shape: &[usize]) -> String {
        let wanted = leaf(Source::tensor("m.weight"), shape);
        match bind(&self.open(), &wanted).expect_err("it does not fit") {
            CheckpointError::Leaf { problem, .. } => problem.to_string(),
            other => panic!("{other}"),
        }
    }

    fn fault(&self, shape: &[usize]) -> String {
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

const ROWS: usize = 96;
const COLUMNS: usize = 160;

fn numbers(numbers: impl IntoIterator<Item = i32>) -> Vec<u8> {
    numbers.into_iter().flat_map(i32::to_le_bytes).collect()
}

fn fp8() -> Stored {
    Stored::new(json!({"quant_method": "fp8", "weight_block_size": null}))
        .masked("m.weight", Dtype::F8E4M3, &[ROWS, COLUMNS], 0xbf, 0)
        .scales("m.weight_scale_inv", &[])
}

fn gptq(bits: usize) -> Stored {
    let config = json!({"quant_method": "gptq", "bits": bits, "group_size": 32, "desc_act": true});
    // Every group has features everywhere.
    let order = (0..COLUMNS).map(|at| (at % (COLUMNS / 32)) as i32);
    Stored::new(config)
        .raw("m.qweight", Dtype::I32, &[COLUMNS * bits / 32, ROWS])
        .raw("m.qzeros", Dtype::I32, &[COLUMNS / 32, ROWS * bits / 32])
        .scales("m.scales", &[COLUMNS / 32, ROWS])
        .listed("m.g_idx", Dtype::I32, &[COLUMNS], numbers(order))
}

fn awq() -> Stored {
    let config = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"});
    Stored::new(config)
        .raw("m.qweight", Dtype::I32, &[COLUMNS, ROWS / 8])
        .raw("m.qzeros", Dtype::I32, &[COLUMNS / 32, ROWS / 8])
        .scales("m.scales", &[COLUMNS / 32, ROWS])
}

fn gemv() -> Stored {
    let config = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemv"});
    Stored::new(config)
        .raw("m.qweight", Dtype::I32, &[ROWS, COLUMNS / 8])
        .raw("m.qzeros", Dtype::I32, &[ROWS, 4])
        .scales("m.scales", &[ROWS, 32])
}

fn packed(bits: usize, symmetric: bool) -> Stored {
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

fn nvfp4(writer: &str) -> Stored {
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

fn bitsandbytes(double: bool) -> Stored {
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

fn mlx(bits: usize) -> Stored {
    Stored::new(json!({"group_size": 32, "bits": bits}))
        .raw("m.weight", Dtype::U32, &[ROWS, COLUMNS * bits / 32])
        .scales("m.scales", &[ROWS, COLUMNS / 32])
        .scales("m.biases", &[ROWS, COLUMNS / 32])
}

fn hqq(bits: usize, axis: usize) -> Stored {
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

fn bitnet() -> Stored {
    Stored::new(json!({"quant_method": "bitnet", "linear_class": "autobitlinear"}))
        .masked("m.weight", Dtype::U8, &[ROWS / 4, COLUMNS], 0x69, 0)
        .scales("m.weight_scale", &[1])
}

fn torchao() -> Stored {
    Stored::new(json!({"quant_method": "torchao", "quant_type": {"default": {}}}))
        .raw("m._weight_qdata", Dtype::I8, &[ROWS, COLUMNS])
        .scales("m._weight_scale", &[ROWS, COLUMNS / 32])
        .raw("m._weight_zero_point", Dtype::I8, &[ROWS, COLUMNS / 32])
}

/// An `Int4Tensor`.
fn int4() -> Stored {
    Stored::new(json!({"quant_method": "torchao", "quant_type": {"default": {}}}))
        .raw("m._weight_qdata", Dtype::I8, &[ROWS, COLUMNS / 2])
        .scales("m._weight_scale", &[COLUMNS / 32, ROWS])
        .scales("m._weight_zero_point", &[COLUMNS / 32, ROWS])
}

fn quanto(bits: usize) -> Stored {
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

fn aqlm(books: usize, bits: usize) -> Stored {
    let config =
        json!({"quant_method": "aqlm", "num_codebooks": books, "nbits_per_codebook": bits});
    let dtype = if bits > 8 { Dtype::I16 } else { Dtype::I8 };
    Stored::new(config)
        .raw("m.codes", dtype, &[ROWS, COLUMNS / 8, books])
        .scales("m.codebooks", &[books, 1 << bits, 1, 8])
        .scales("m.scales", &[ROWS, 1, 1, 1])
}

/// Integers with a scale and what they count from, for every row.
fn quark() -> Stored {
    Stored::new(json!({"quant_method": "quark", "export": {"weight_format": "real_quantized"}}))
        .raw("m.weight", Dtype::I8, &[ROWS, COLUMNS])
        .scales("m.weight_scale", &[ROWS])
        .raw("m.weight_zero_point", Dtype::I8, &[ROWS])
}

/// Codes of 4 bits with powers of two, as three writers call them.
fn mxfp4(method: &str) -> Stored {
    let (dtype, scales) = match method {
        "quark" => (Dtype::U8, "m.weight_scale"),
        _ => (Dtype::I8, "m.scale"),
    };
    Stored::new(json!({"quant_method": method}))
        .raw("m.weight", dtype, &[ROWS, COLUMNS / 2])
        .masked(scales, Dtype::U8, &[ROWS, COLUMNS / 32], 7, 120)
}

fn mxfp8() -> Stored {
    Stored::new(json!({"quant_method": "modelopt", "quant_algo": "MXFP8", "group_size": 32}))
        .masked("m.weight", Dtype::F8E4M3, &[ROWS, COLUMNS], 0xbf, 0)
        .masked("m.weight_scale", Dtype::U8, &[ROWS, COLUMNS / 32], 7, 120)
}

fn every_code() -> Vec<(&'static str, Stored)> {
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

fn all_of(leaf: &BoundLeaf) -> Vec<f32> {
    leaf.read_all_f32().expect("read")
}

#[test]
fn pieces_are_pieces_of_the_whole() {
    for (name, stored) in every_code() {
        let checkpoint = stored.open();
        let weight = Source::tensor("m.weight");
        let whole = bind(&checkpoint, &leaf(weight.clone(), &[ROWS, COLUMNS])).expect(name);
        let all = all_of(&whole);
        let row = |at: usize| &all[at * COLUMNS..(at + 1) * COLUMNS];
        for rows in [0..1, 1..2, 31..33, 5..ROWS, ROWS - 1..ROWS] {
            let found = whole.read_f32(0, rows.clone()).expect("read");
            assert_eq!(
                found,
                rows.flat_map(row).copied().collect::<Vec<_>>(),
                "{name}"
            );
        }
        let some = [7, 95, 0, 0, 33];
        let mut out = vec![0; some.len() * whole.row_bytes()];
        whole.gather_rows(0, &some, &mut out).expect("read");
        let wanted = some.into_iter().flat_map(row);
        assert_eq!(
            out,
            wanted
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>()
        );
        // Every third row from the second on, of the half, and that transposed within a concatenation.
        let strided = weight.clone().part(Split::Strided { parts: 3 }, 1);
        let strided = bind(&checkpoint, &leaf(strided, &[ROWS / 3, COLUMNS])).expect(name);
        let wanted = (0..ROWS / 3).flat_map(|at| row(3 * at + 1)).copied();
        assert_eq!(all_of(&strided), wanted.collect::<Vec<f32>>(), "{name}");
        let half = weight.clone().part(Split::Rows(vec![40, ROWS - 40]), 1);
        let turned = half.transpose();
        let turned = bind(&checkpoint, &leaf(turned, &[COLUMNS, ROWS - 40])).expect(name);
        let wanted = (0..COLUMNS).flat_map(|column| (40..ROWS).map(move |at| (at, column)));
        let wanted: Vec<f32> = wanted.map(|(at, column)| row(at)[column]).collect();
        assert_eq!(all_of(&turned), wanted, "{name}");
        let found = turned.read_f32(0, 33..35).expect("read");
        assert_eq!(found, wanted[33 * (ROWS - 40)..35 * (ROWS - 40)], "{name}");
    }
}

#[test]
fn every_tensor_of_a_code_is_accounted_for() {
    for (name, stored) in every_code() {
        let checkpoint = stored.open();
        let leaves = [leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS])];
        let report = CoverageReport::of(&checkpoint, "", &leaves, &[]);
        assert!(report.is_complete(), "{name}: {report}");
        assert_eq!(report.used, stored.tensors.len(), "{name}");
        // What nothing needs, nothing needs as a whole.
        let report = CoverageReport::of(&checkpoint, "", &[], &["m.weight"]);
        assert!(report.is_complete(), "{name}: {report}");
    }
}

#[test]
fn codes_and_scales_may_lie_in_different_files() {
    for (name, stored) in every_code() {
        let mut source = MemorySource::new();
        let mut map = BTreeMap::new();
        for (at, tensor) in stored.tensors.iter().enumerate() {
            let file = format!("model-{at}.safetensors");
            source = source.with(&file, safetensors(std::slice::from_ref(tensor)));
            map.insert(tensor.name.clone(), file);
        }
        let index = json!({"weight_map": map}).to_string();
        let source = source.with("model.safetensors.index.json", index.into_bytes());
        let mut sharded = Checkpoint::open_with(Box::new(source)).expect("sound");
        sharded.declare(&stored.codes()).expect("readable");
        let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        let sharded = bind(&Arc::new(sharded), &wanted).expect(name);
        let whole = bind(&stored.open(), &wanted).expect(name);
        assert_eq!(all_of(&sharded), all_of(&whole), "{name}");
    }
}

#[test]
fn lists_of_modules_decide_nothing() {
    let listed = awq().with("modules_to_not_convert", json!(["m"]));
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    let [one, other] = [awq(), listed].map(|stored| bind(&stored.open(), &wanted).expect("there"));
    assert_eq!(all_of(&one), all_of(&other));
}

#[test]
fn what_lacks_a_part_says_so() {
    for (stored, part) in [
        (fp8(), "m.weight_scale_inv"),
        (gptq(4), "m.scales"),
        (gptq(4), "m.qzeros"),
        (awq(), "m.qzeros"),
        (gemv(), "m.scales"),
        (packed(4, false), "m.weight_scale"),
        (packed(4, false), "m.weight_shape"),
        (nvfp4("modelopt"), "m.weight_scale_2"),
        (nvfp4("compressed-tensors"), "m.weight_global_scale"),
        (bitsandbytes(true), "m.weight.nested_absmax"),
        (bitsandbytes(true), "m.weight.nested_quant_map"),
        (mlx(4), "m.biases"),
        (hqq(4, 1), "m.zero"),
        (hqq(4, 1), "m.shape"),
        (hqq(3, 0), "m.nbits"),
        (bitnet(), "m.weight_scale"),
        (torchao(), "m._weight_scale"),
        (int4(), "m._weight_scale"),
        (quanto(8), "m.weight._scale"),
        (quanto(4), "m.weight._shift"),
        (aqlm(2, 8), "m.codebooks"),
        (mxfp4("quark"), "m.weight_scale"),
        (mxfp8(), "m.weight_scale"),
    ] {
        let checkpoint = stored.without(part).open();
        let leaves = [leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS])];
        let report = CoverageReport::of(&checkpoint, "", &leaves, &[]);
        let missing: Vec<&String> = report.missing.iter().flat_map(|one| &one.names).collect();
        assert_eq!(missing, [part]);
        assert!(
            report.unexpected.is_empty() && report.mismatched.is_empty(),
            "{report}"
        );
    }
}

#[test]
fn a_configuration_that_disagrees_is_refused() {
    let shape = [ROWS, COLUMNS];
    for (stored, said) in [
        (gptq(4).with("bits", json!(8)), "`bits` is 8"),
        (gptq(4).with("group_size", json!(64)), "groups of 64"),
        (
            awq().with("group_size", json!(64)),
            "the model wants [3, 96]",
        ),
        (mlx(4).with("bits", json!(8)), "scales"),
        (mlx(4).with("group_size", json!(64)), "scales"),
        (
            packed(4, true).with(
                "config_groups",
                json!({"a": {"weights": {"num_bits": 8, "strategy": "channel"}}}),
            ),
            "no group of `config_groups`",
        ),
        (
            quanto(4).with("m", json!({"weights": "qint2"})),
            "groups of codes of 2 bits",
        ),
        (
            quanto(4).with("m", json!({"weights": "qint8"})),
            "no weights of 2 or 4 bits",
        ),
        (
            quanto(8).with("m", json!({"weights": "none"})),
            "no weights of 8 bits",
        ),
        (
            aqlm(2, 8).with("num_codebooks", json!(1)),
            "has 1 codebooks",
        ),
        (aqlm(2, 8).with("nbits_per_codebook", json!(9)), "I16"),
    ] {
        let text = stored.problem(&shape);
        assert!(text.contains(said), "{text}");
    }
    // So are tensors that disagree with one another.
    let instead = |stored: Stored, name: &str, dtype: Dtype, shape: &[usize]| {
        let count = shape.iter().product::<usize>() * dtype.size_bytes().unwrap_or(1);
        let data = bytes(name, count, 1, 0);
        stored.without(name).listed(name, dtype, shape, data)
    };
    let number = |stored: Stored, name: &str, number: i32| {
        let data = numbers([number]);
        stored.without(name).listed(name, Dtype::I32, &[], data)
    };
    for (stored, said) in [
        (number(hqq(4, 1), "m.nbits", 2), "rows"),
        (number(hqq(4, 1), "m.nbits", 7), "7 bits"),
        (number(hqq(4, 1), "m.axis", 2), "along axis 2"),
        (number(hqq(4, 1), "m.group_size", 0), "do not divide"),
        (number(hqq(4, 1), "m.group_size", -3), "do not divide"),
        (number(hqq(4, 1), "m.group_size", 96), "rows"),
        (number(hqq(4, 1), "m.quant_scale", 1), "coded scales"),
        (instead(hqq(4, 1), "m.shape", Dtype::I64, &[3]), "two sides"),
        (
            instead(hqq(4, 1), "m.scale", Dtype::F32, &[3, 1]),
            "480 groups",
        ),
        (instead(hqq(4, 1), "m.zero", Dtype::F16, &[480, 1]), "F32"),
        (instead(hqq(4, 1), "m.W_q", Dtype::I32, &[240, 32]), "U8"),
        (
            instead(gemv(), "m.scales", Dtype::F32, &[ROWS, 4]),
            "have 5 scales",
        ),
        (
            instead(gemv(), "m.qweight", Dtype::I32, &[ROWS, 8]),
            "the model wants",
        ),
        (
            instead(bitnet(), "m.weight_scale", Dtype::F32, &[2]),
            "one scale",
        ),
        (
            instead(bitnet(), "m.weight", Dtype::U8, &[ROWS, COLUMNS]),
            "the model wants",
        ),
        (
            instead(torchao(), "m._weight_qdata", Dtype::U8, &[ROWS, COLUMNS]),
            "order of a kernel",
        ),
        (
            instead(torchao(), "m._weight_scale", Dtype::U8, &[ROWS, 5]),
            "order of a kernel",
        ),
        (
            instead(int4(), "m._weight_qdata", Dtype::I32, &[ROWS, 20]),
            "`Int4PlainInt32Tensor`",
        ),
        (
            int4().scales("m._weight_scale_and_zero", &[1]),
            "`Int4TilePackedTo4dTensor`",
        ),
        (
            int4().scales("m._weight_group_scale", &[1]),
            "`Int4PreshuffledTensor`",
        ),
        (
            int4().scales("m._weight_act_pre_scale", &[1]),
            "inputs are multiplied",
        ),
        (
            instead(int4(), "m._weight_scale", Dtype::F32, &[3, ROWS]),
            "groups that divide",
        ),
        (
            instead(quanto(4), "m.weight._shift", Dtype::F32, &[3, 1]),
            "480 scales",
        ),
        (
            instead(aqlm(2, 8), "m.scales", Dtype::F32, &[ROWS]),
            "a scale for each of 96",
        ),
        (
            instead(aqlm(2, 8), "m.codebooks", Dtype::F32, &[2, 255, 1, 8]),
            "2 codebooks of 256 vectors",
        ),
        (
            instead(torchao(), "m._weight_scale", Dtype::F32, &[ROWS, 3]),
            "divide",
        ),
        (
            instead(torchao(), "m._weight_zero_point", Dtype::I8, &[ROWS, 1]),
            "scales have shape",
        ),
        (
            instead(mxfp4("quark"), "m.weight_scale", Dtype::U8, &[ROWS, 1]),
            "[96, 1]",
        ),
        (
            instead(mxfp8(), "m.weight_scale", Dtype::U8, &[ROWS, 1]),
            "scales",
        ),
    ] {
        let text = stored.problem(&shape);
        assert!(text.contains(said), "{said}: {text}");
    }
    // What overrides allow is taken from the tensors.
    let wanted = leaf(Source::tensor("m.weight"), &shape);
    let other = gptq(4)
        .with("bits", json!(8))
        .with("dynamic", json!({"m": {"bits": 4}}));
    let [one, other] = [gptq(4), other].map(|stored| bind(&stored.open(), &wanted).expect("there"));
    assert_eq!(all_of(&one), all_of(&other));
}

#[test]
fn both_spellings_at_once_are_refused() {
    let stored = awq().scales("m.weight", &[ROWS, COLUMNS]);
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    let error = bind(&stored.open(), &wanted).expect_err("two");
    let CheckpointError::Leaf { problem, .. } = error else {
        panic!("{error}");
    };
    assert!(
        matches!(problem, LeafProblem::Ambiguous { .. }),
        "{problem}"
    );
}

#[test]
fn what_is_no_number_is_an_error() {
    let shape = [ROWS, COLUMNS];
    let nan = |stored: &mut Stored, name: &str| {
        stored.tensor(name).bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    for (mut stored, name) in [
        (gptq(4), "m.scales"),
        (gemv(), "m.scales"),
        (packed(4, true), "m.weight_scale"),
        (mlx(4), "m.biases"),
        (bitsandbytes(false), "m.weight.absmax"),
        (hqq(4, 1), "m.scale"),
        (hqq(4, 0), "m.zero"),
        (torchao(), "m._weight_scale"),
    ] {
        nan(&mut stored, name);
        assert!(stored.fault(&shape).contains("NaN"));
    }
    let mut broken = fp8();
    broken.tensor("m.weight").bytes[1000] = 0xff;
    assert!(broken.fault(&shape).contains("NaN"));
    // A scale of zero is one where something else than zeros is lost.
    let mut lost = fp8();
    lost.tensor("m.weight_scale_inv").bytes.fill(0);
    assert!(lost.fault(&shape).contains("scale is zero"));
    lost.tensor("m.weight").bytes.fill(0);
    let wanted = leaf(Source::tensor("m.weight"), &shape);
    assert!(
        all_of(&bind(&lost.open(), &wanted).unwrap())
            .iter()
            .all(|&number| number == 0.0)
    );
    for (mut stored, name) in [
        (gptq(4), "m.scales"),
        (awq(), "m.scales"),
        (gemv(), "m.scales"),
        (packed(4, true), "m.weight_scale"),
        (nvfp4("modelopt"), "m.weight_scale_2"),
        (nvfp4("compressed-tensors"), "m.weight_global_scale"),
        (hqq(4, 1), "m.scale"),
        (hqq(4, 0), "m.scale"),
        (torchao(), "m._weight_scale"),
    ] {
        stored.tensor(name).bytes.fill(0);
        let said = stored.fault(&shape);
        assert!(said.contains("zero") && said.contains(name), "{said}");
    }
    // What divides is no zero; a power of two may be no number.
    let mut over = bitnet().with("linear_class", json!("bitlinear"));
    over.tensor("m.weight_scale").bytes.fill(0);
    assert!(over.fault(&shape).contains("zero where it divides"));
    for mut stored in [mxfp4("quark"), mxfp8()] {
        stored.tensor("m.weight_scale").bytes[7] = 255;
        assert!(stored.fault(&shape).contains("NaN"));
    }
    let mut wild = gptq(4);
    wild.tensor("m.g_idx").bytes[..4].copy_from_slice(&99_i32.to_le_bytes());
    assert!(wild.fault(&shape).contains("a group that there is not"));
}

/// Quark's `(code - zero point) * scale`, where no golden says it.
#[test]
fn integers_of_quark_are_their_formula() {
    let in_all = |stored: Stored| {
        let stored = stored.without("m.weight_scale");
        stored.scales("m.weight_quantizer.scale", &[])
    };
    for (stored, scale, zero, step) in [
        (quark(), "m.weight_scale", Some("m.weight_zero_point"), 1),
        (
            quark().without("m.weight_zero_point"),
            "m.weight_scale",
            None,
            1,
        ),
        (
            in_all(quark().without("m.weight_zero_point")),
            "m.weight_quantizer.scale",
            None,
            0,
        ),
    ] {
        let bytes = |name: &str| {
            let tensor = stored.tensors.iter().find(|tensor| tensor.name == name);
            tensor.expect("there").bytes.clone()
        };
        let (codes, scales, zeros) = (bytes("m.weight"), bytes(scale), zero.map(bytes));
        let wanted = codes.iter().enumerate().map(|(at, &code)| {
            let own = at / COLUMNS * step;
            let scale = [0, 1, 2, 3].map(|byte| scales[4 * own + byte]);
            let zero = zeros.as_ref().map_or(0, |zeros| zeros[own] as i8);
            (i32::from(code as i8) - i32::from(zero)) as f32 * f32::from_le_bytes(scale)
        });
        let wanted: Vec<f32> = wanted.collect();
        let whole = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        assert_eq!(all_of(&bind(&stored.open(), &whole).unwrap()), wanted);
    }
    // Neither groups of columns nor integers of fewer bits.
    let grouped = quark().without("m.weight_scale");
    let grouped = grouped.scales("m.weight_scale", &[ROWS, COLUMNS / 32]);
    let said = grouped.problem(&[ROWS, COLUMNS]);
    assert!(said.contains("m.weight_scale"), "{said}");
}

#[test]
fn what_changes_more_than_weights_is_refused() {
    for (config, key) in [
        (
            json!({"quant_method": "awq", "version": "gemv_fast"}),
            "version",
        ),
        (json!({"quant_method": "awq", "bits": 3}), "bits"),
        (
            json!({"quant_method": "gptq", "checkpoint_format": "marlin"}),
            "checkpoint_format",
        ),
        (
            json!({"quant_method": "gptq", "is_marlin_format": true}),
            "is_marlin_format",
        ),
        (
            json!({"quant_method": "gptq", "rotation": "hadamard"}),
            "rotation",
        ),
        (
            json!({"quant_method": "gptq", "group_size": 0}),
            "group_size",
        ),
        (
            json!({"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"a": 1}}}),
            "transform_config",
        ),
        (
            json!({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}),
            "sparsity_config",
        ),
        (
            json!({"quant_method": "compressed-tensors", "format": "marlin-24"}),
            "format",
        ),
        (
            json!({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}),
            "quant_algo",
        ),
        (
            json!({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf5"}),
            "bnb_4bit_quant_type",
        ),
        (
            json!({"group_size": 32, "bits": 4, "mode": "mxfp9"}),
            "mode",
        ),
        (json!({"group_size": 32, "bits": 7}), "bits"),
        (
            json!({"quant_method": "bitnet", "quantization_mode": "online"}),
            "quantization_mode",
        ),
        (
            json!({"quant_method": "bitnet", "use_rms_norm": true}),
            "use_rms_norm",
        ),
        (
            json!({"quant_method": "quark", "algo_config": [{"name": "rotation"}]}),
            "algo_config",
        ),
        (
            json!({"quant_method": "quark", "export": {"weight_format": "fake_quantized"}}),
            "weight_format",
        ),
        (json!({"quant_method": "hqq", "rank": 3}), "rank"),
        (json!({"quant_method": "torchao", "bits": 4}), "bits"),
        (
            json!({"quant_method": "quanto", "weights": "int8"}),
            "weights",
        ),
        (
            json!({"quant_method": "quanto", "m": {"weights": "qint3"}}),
            "m",
        ),
        (
            json!({"quant_method": "aqlm", "nbits_per_codebook": 17}),
            "nbits_per_codebook",
        ),
        (
            json!({"quant_method": "aqlm", "in_group_size": 0}),
            "in_group_size",
        ),
        (json!({"quant_method": "vptq"}), ""),
        (json!({"quant_method": "eetq"}), ""),
    ] {
        assert_eq!(
            Codes::declared(&config).expect_err("it is not known").key,
            key,
            "{config}"
        );
    }
}

#[test]
fn symmetric_files_may_store_the_middle_either_way() {
    let middle = |nibbles: u8, config: &[(&str, Value)]| {
        let mut stored = gptq(4);
        for (key, value) in config {
            stored = stored.with(key, value.clone());
        }
        stored.tensor("m.qzeros").bytes.fill(nibbles);
        let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        all_of(&bind(&stored.open(), &wanted).expect("there"))
    };
    let symmetric = ("sym", json!(true));
    let wanted = middle(0x77, std::slice::from_ref(&symmetric));
    assert_eq!(middle(0x88, &[symmetric]), wanted);
    assert_eq!(
        middle(0x88, &[("checkpoint_format", json!("gptq_v2"))]),
        wanted
    );
    assert_ne!(middle(0x88, &[("sym", json!(false))]), wanted);
    // Less than zero is the largest, within the bits.
    let wrapped = middle(0xff, &[("sym", json!(false))]);
    assert_eq!(
        wrapped,
        middle(0x00, &[("checkpoint_format", json!("gptq_v2"))])
    );
}

#[test]
fn columns_that_are_not_in_the_files_are_those_of_the_model() {
    let stored = quanto(4);
    let source = MemorySource::new().with("model.safetensors", safetensors(&stored.tensors));
    let mut checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    let codes = Codes::declared(&stored.config).expect("known");
    let other = leaf(Source::tensor("m.weight"), &[ROWS, 31]);
    let codes = codes.of_leaves([&other], "");
    checkpoint.declare(&codes).expect("readable");
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    let error = bind(&Arc::new(checkpoint), &wanted).expect_err("they do not fit");
    let text = error.to_string();
    assert!(text.contains("480 groups of 32"), "{text}");
}

#[test]
fn weights_behind_a_scaled_activation_are_divided() {
    for plain in [awq(), gemv()] {
        let renamed = |name: &str| name.replace("m.", "m.c_proj.");
        let mut stored = plain.clone().scales("m.act.scales", &[COLUMNS]);
        for tensor in stored
            .tensors
            .iter_mut()
            .filter(|tensor| tensor.name != "m.act.scales")
        {
            tensor.name = renamed(&tensor.name);
        }
        // The same bytes, under their other names.
        let divisors = bytes("m.act.scales", COLUMNS, 127, 0);
        let divisor = |column: usize| 1.0 + f32::from(divisors[column]) / 128.0;
        let weight = |name: &str| leaf(Source::tensor(name), &[ROWS, COLUMNS]);
        let [found, whole] = [(&stored, "m.c_proj.weight"), (&plain, "m.weight")]
            .map(|(stored, name)| bind(&stored.open(), &weight(name)).expect("there"));
        let wanted = all_of(&whole).into_iter().enumerate();
        let wanted: Vec<f32> = wanted
            .map(|(at, number)| number / divisor(at % COLUMNS))
            .collect();
        assert_eq!(all_of(&found), wanted);
        let rows = found.read_f32(0, 5..41).expect("read");
        assert_eq!(rows, wanted[5 * COLUMNS..41 * COLUMNS]);
        let leaves = [weight("m.c_proj.weight")];
        let report = CoverageReport::of(&stored.open(), "", &leaves, &[]);
        assert!(report.is_complete(), "{report}");
        // Of no scale is anything left.
        let mut lost = stored.clone();
        lost.tensor("m.act.scales").bytes[..4].fill(0);
        let lost = bind(&lost.open(), &weight("m.c_proj.weight")).expect("there");
        assert!(matches!(
            lost.read_all_f32(),
            Err(CheckpointError::Undecodable { .. })
        ));
    }
}
