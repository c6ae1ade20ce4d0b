//! `quant_method: fp8`: floats of 8 bits (E4M3) with a scale a block, as DeepSeek-V3, Qwen3 and others are published.
//!
//! `NAME` is a matrix `[rows, columns]` of E4M3, `NAME_scale_inv` its scales: one a block of `weight_block_size`, the
//! last ones of narrower blocks, or one in all where that is `null`. A number is the product of the two, in f32 (the
//! scale's name says inverse, it multiplies). Where a block begins follows from `weight_block_size`, never from the
//! shapes: 576 rows in blocks of 128 have five rows of scales, the last for 64 rows. A scale is a float, or a power of
//! two (E8M0, or the same bits as a `U8`). `modules_to_not_convert` and its like are not needed: what has a scale is
//! coded, what has none is plain. Scales of activations are approximations of a kernel and are left out.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use half::{bf16, f16};
use serde_json::{Map, Value};

use super::code::{Code, Coded, Keys, Stored, UnknownCode};
use crate::dtype::Dtype;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// Blocks where the configuration does not name them.
const BLOCK: [usize; 2] = [128, 128];

/// Behind the name of a tensor: its scales.
pub(super) const SCALES: &str = "_scale_inv";

/// Keys of the configuration that are known; what is not checked says nothing of the numbers.
const KEYS: &[&str] = &[
    "activation_scheme",
    "dequantize",
    "expert_dtype",
    "fmt",
    "ignored_layers",
    "modules_to_convert",
    "modules_to_not_convert",
    "quant_method",
    "scale_fmt",
    "weight_block_size",
];

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declared {
    /// Rows and columns of a block; `None`: a matrix is one.
    block: Option<[usize; 2]>,
}

impl Declared {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let keys = Keys(config);
        keys.only(KEYS)?;
        keys.one_of("fmt", &["e4m3"], "`e4m3` is read")?;
        keys.one_of("expert_dtype", &["fp8"], "`fp8` is read")?;
        keys.one_of(
            "activation_scheme",
            &["dynamic", "static"],
            "`dynamic` and `static` are known",
        )?;
        keys.one_of(
            "scale_fmt",
            &["float", "ue8m0"],
            "`float` and `ue8m0` are known",
        )?;
        for list in [
            "modules_to_not_convert",
            "modules_to_convert",
            "ignored_layers",
        ] {
            keys.names(list)?;
        }
        let block = match config.get("weight_block_size") {
            None => Some(BLOCK),
            Some(Value::Null) => None,
            Some(size) => Some(block_of(size)?),
        };
        Ok(Self { block })
    }

    pub fn of<'t>(
        self,
        tensor: &TensorInfo,
        place: &dyn Fn(&str) -> Option<(u32, &'t TensorInfo)>,
    ) -> Option<Result<Coded, LeafProblem>> {
        (tensor.dtype == Dtype::F8E4M3).then(|| self.coded(tensor, place))
    }

    fn coded<'t>(
        self,
        tensor: &TensorInfo,
        place: &dyn Fn(&str) -> Option<(u32, &'t TensorInfo)>,
    ) -> Result<Coded, LeafProblem> {
        let name = format!("{}{SCALES}", tensor.name);
        let (Some((at, _)), Some((scales_at, scales))) = (place(&tensor.name), place(&name)) else {
            let (names, partly) = (vec![name], true);
            return Err(LeafProblem::Missing { names, partly });
        };
        let Some((leading, &[rows, columns])) = tensor.shape.split_last_chunk() else {
            return Err(structure(tensor, "a coded weight is a matrix".to_owned()));
        };
        let scale = Scale::of(scales.dtype).ok_or_else(|| LeafProblem::Dtype {
            name: name.clone(),
            found: scales.dtype,
            wanted: "F32, F16, BF16, F8_E8M0 or U8".to_owned(),
        })?;
        let [high, wide] = self.block.unwrap_or([rows.max(1), columns.max(1)]);
        let grid = [rows.div_ceil(high), columns.div_ceil(wide)];
        let fits = match self.block {
            None if leading.is_empty() => scales.elements() == 1,
            _ => *scales.shape == *[leading, &grid].concat(),
        };
        if !fits {
            let reason = match self.block {
                Some([high, wide]) => format!(
                    "the {rows} x {columns} numbers of `{}` in blocks of {high} x {wide} have {} x {} scales",
                    tensor.name, grid[0], grid[1]
                ),
                None => format!(
                    "`{}` has one scale where `weight_block_size` is null",
                    tensor.name
                ),
            };
            return Err(structure(scales, reason));
        }
        Ok(Coded {
            parts: [at, scales_at].into(),
            code: Arc::new(Fp8 {
                block: [high, wide],
                scale,
            }),
        })
    }
}

fn structure(tensor: &TensorInfo, reason: String) -> LeafProblem {
    LeafProblem::Structure {
        name: tensor.name.to_string(),
        shape: tensor.shape.to_vec(),
        reason,
    }
}

fn block_of(size: &Value) -> Result<[usize; 2], UnknownCode> {
    let side = |value: &Value| {
        usize::try_from(value.as_u64()?)
            .ok()
            .filter(|&side| side > 0)
    };
    let sides: Option<Vec<usize>> = size
        .as_array()
        .and_then(|sides| sides.iter().map(side).collect());
    match sides.as_deref() {
        Some(&[high, wide]) => Ok([high, wide]),
        _ => Err(Keys::unknown(
            "weight_block_size",
            size,
            "two numbers of at least 1 are wanted",
        )),
    }
}

/// The type of the scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    F32,
    F16,
    Bf16,
    /// `2^(bits - 127)`; 255 is NaN (OCP MX).
    PowerOfTwo,
}

impl Scale {
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::Bf16 => Some(Self::Bf16),
            Dtype::F8E8M0 | Dtype::U8 => Some(Self::PowerOfTwo),
            _ => None,
        }
    }

    /// The scale at a place of a row of them.
    fn at(self, row: &[u8], at: usize) -> f32 {
        match self {
            Self::F32 => f32::from_le_bytes(element(row, at)),
            Self::F16 => f16::from_le_bytes(element(row, at)).to_f32(),
            Self::Bf16 => bf16::from_le_bytes(element(row, at)).to_f32(),
            Self::PowerOfTwo => match element(row, at) {
                [255] => f32::NAN,
                // 2^-127 is subnormal.
                [0] => f32::from_bits(1 << 22),
                [bits] => f32::from_bits(u32::from(bits) << 23),
            },
        }
    }
}

fn element<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    row.as_chunks().0[at]
}

#[derive(Debug)]
struct Fp8 {
    block: [usize; 2],
    scale: Scale,
}

impl Code for Fp8 {
    fn block_rows(&self) -> usize {
        self.block[0]
    }

    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        if part == 0 {
            return [rows.clone(), columns.clone()];
        }
        let [high, wide] = self.block;
        [
            rows.start / high..rows.end.div_ceil(high),
            columns.start / wide..columns.end.div_ceil(wide),
        ]
    }

    fn decode(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        parts: &[Stored<'_>],
        out: &mut [f32],
    ) {
        let &[codes, scales] = parts else { return };
        let [high, wide] = self.block;
        let first = [rows.start / high, columns.start / wide];
        for (line, row) in out.chunks_exact_mut(columns.len()).zip(rows.clone()) {
            let (codes, scales) = (
                codes.row(row - rows.start),
                scales.row(row / high - first[0]),
            );
            let mut column = columns.start;
            while column < columns.end {
                let block = column / wide;
                let end = ((block + 1) * wide).min(columns.end);
                let scale = self.scale.at(scales, block - first[1]);
                let within = column - columns.start..end - columns.start;
                let pairs = line[within.clone()].iter_mut().zip(&codes[within]);
                pairs.for_each(|(out, &code)| *out = E4M3[usize::from(code)] * scale);
                column = end;
            }
        }
    }
}

/// Every E4M3 number by its bits.
static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|bits| e4m3(bits as u8)));

/// A float of 4 exponent and 3 mantissa bits without infinities (Micikevicius et al. 2022, `float8_e4m3fn`).
fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2.0_f32.powi(-9),
        _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
    };
    if bits & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_their_published_extremes() {
        let found = [0x7e, 0x08, 0x01, 0xfe, 0x38, 0x80].map(e4m3);
        assert_eq!(found, [448.0, 0.015_625, 0.001_953_125, -448.0, 1.0, 0.0]);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        assert!((0..=255_u8).filter(|bits| e4m3(*bits).is_nan()).count() == 2);
    }

    #[test]
    fn scales_are_widened_first() {
        let one = 1.5_f32.to_le_bytes();
        assert_eq!(Scale::F32.at(&[[0; 4], one].concat(), 1), 1.5);
        assert_eq!(Scale::Bf16.at(&one[2..], 0), 1.5);
        let powers: Vec<f32> = (0..3)
            .map(|at| Scale::PowerOfTwo.at(&[127, 130, 0], at))
            .collect();
        assert_eq!(powers, [1.0, 8.0, 2.0_f32.powi(-127)]);
        assert!(Scale::PowerOfTwo.at(&[255], 0).is_nan());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let read = |text: &str| {
            let config: Value = serde_json::from_str(text).unwrap();
            Declared::read(config.as_object().unwrap()).map(|declared| declared.block)
        };
        assert_eq!(read("{}").unwrap(), Some([128, 128]));
        assert_eq!(read(r#"{"weight_block_size": null}"#).unwrap(), None);
        assert_eq!(
            read(r#"{"weight_block_size": [1, 64], "fmt": "e4m3"}"#).unwrap(),
            Some([1, 64])
        );
        for (text, key) in [
            (r#"{"weight_block_size": [0, 64]}"#, "weight_block_size"),
            (r#"{"weight_block_size": [64]}"#, "weight_block_size"),
            (r#"{"fmt": "e5m2"}"#, "fmt"),
            (r#"{"expert_dtype": "fp4"}"#, "expert_dtype"),
            (
                r#"{"modules_to_not_convert": "lm_head"}"#,
                "modules_to_not_convert",
            ),
            (r#"{"bits": 8}"#, "bits"),
        ] {
            assert_eq!(read(text).unwrap_err().key, key);
        }
    }
}
