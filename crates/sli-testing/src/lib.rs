//! Goldens: tiny models whose weights follow from a formula, and what the reference computes with
//! them. The format is described in `tools/goldens/README.md`.
//!
//! Only tests use this crate; it panics on anything unexpected.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its data has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

/// How a golden's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As the formula says.
    F32,
    /// Rounded to nearest even.
    Bf16,
    /// Rounded to bf16 and stored as f32: the same numbers as [`Stored::Bf16`].
    F32OfBf16,
}

/// One golden.
pub struct Golden {
    /// Its folder's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    tensors: Vec<TensorEntry>,
    /// Files that the weights are divided into.
    num_shards: Option<usize>,
    /// Whether the formula's values are exact in bf16.
    pub rounded: bool,
    expected: Vec<u8>,
}

#[derive(Deserialize)]
struct TensorFile {
    tensors: Vec<TensorEntry>,
    #[serde(default)]
    round_to: Option<String>,
    num_shards: Option<usize>,
}

#[derive(Clone, Deserialize)]
struct TensorEntry {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    scale: Option<f64>,
    offset: Option<f64>,
    values: Option<Vec<f64>>,
    same_as: Option<String>,
    /// Axis along which Meta's files divide it; without one each has a copy.
    shard_dim: Option<usize>,
    /// Rows and columns of a block of a coded tensor; none: it is one block.
    block: Option<[usize; 2]>,
    /// Type of the scales of a coded tensor.
    scales: Option<String>,
    /// Its bytes follow from the formula, each with the bits of one of `and` and then of one of `or`.
    raw: Option<Raw>,
    /// It is stored as its type says, however the others are.
    #[serde(default)]
    kept: bool,
}

#[derive(Clone, Deserialize)]
struct Raw {
    and: Vec<u8>,
    or: Vec<u8>,
}

/// One record of a golden.
pub struct GoldenRecord {
    /// `0`, `1`, ...
    pub id: String,
    /// As fed; none where the encoder gets features.
    pub input_ids: Vec<u32>,
    /// As fed: `[channels, frames]`.
    pub input_features: Option<Vec<f32>>,
    /// Pictures as fed.
    pub pictures: Option<GoldenPictures>,
    /// As fed.
    pub token_type_ids: Option<Vec<u32>>,
    /// As fed to the decoder behind an encoder.
    pub decoder_input_ids: Option<Vec<u32>>,
    /// As fed beside the tokens, by name.
    pub beside: BTreeMap<String, Beside>,
}

/// Pictures as a processor has prepared them.
#[derive(Clone)]
pub struct GoldenPictures {
    /// Axes of the numbers.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
    /// Times, rows and columns of patches of each; none where the model reads no such.
    pub grids: Vec<[u32; 3]>,
    /// Height and width of each before it was cut to tiles; none where the model reads no such.
    pub sizes: Vec<[u32; 2]>,
    /// How many pictures stand together, where the model reads it.
    pub counts: Vec<u32>,
    /// Numbers of the shapes of each; none where the model reads no such.
    pub shapes: Vec<u32>,
    /// Of the patches of every view, or of the tiles of every picture, 1 for those that are none of padding; none where the
    /// model reads no such.
    pub shown: Vec<u32>,
    /// Rows and columns of blocks of each that become one row; none where the model reads no such.
    pub merges: Vec<u32>,
    /// Column and row of every patch, of padding -1; none where the model reads no such.
    pub places: Vec<[i64; 2]>,
    /// Of every point of all views 1 where it is of a picture; none where the record says no such.
    pub points: Vec<u32>,
    /// 1 where a token sees a part of them, where the model reads such.
    pub seen: Option<Vec<u32>>,
    /// Tokens of what is asked of all views, one after the other, where the model reads such.
    pub asked: Option<Vec<u32>>,
    /// 1 for tokens at which they stand, where the model reads such.
    pub marks: Option<Vec<u32>>,
}

/// Numbers beside the tokens of a record, `[tokens, columns]`.
pub struct Beside {
    /// Numbers of a token.
    pub columns: usize,
    /// Whole numbers, or bits of f32.
    pub numbers: Vec<u32>,
    /// They are bits of f32.
    pub is_real: bool,
}

/// What a record may have in the place of tokens.
const FEATURES: [&str; 4] = [
    "input_features",
    "input_values",
    "flattened_patches",
    "encoder_hidden_states",
];

/// What a record's pictures may be called.
const PICTURES: [&str; 2] = ["pixel_values", "pixel_values_images"];

/// What may stand beside the tokens.
const BESIDE: [&str; 6] = [
    "bbox",
    "global_attention_mask",
    "input_pronunciation_ids",
    "input_shape_ids",
    "xpath_subs_seq",
    "xpath_tags_seq",
];

impl Beside {
    fn of(expected: &SafeTensors<'_>, name: &str) -> Option<Self> {
        let tensor = expected.tensor(name).ok()?;
        let is_real = tensor.dtype() == Dtype::F32;
        let numbers = if is_real {
            let values = floats(expected, name)?.into_iter();
            values.map(f32::to_bits).collect()
        } else {
            integers(expected, name)?
        };
        Some(Self {
            columns: tensor.shape().get(1).copied().unwrap_or(1),
            numbers,
            is_real,
        })
    }

    fn json(&self) -> serde_json::Value {
        let number = |&number: &u32| {
            if self.is_real {
                serde_json::json!(f32::from_bits(number))
            } else {
                serde_json::json!(number)
            }
        };
        let rows = self.numbers.chunks(self.columns);
        let rows = rows.map(|row| row.iter().map(number).collect::<Vec<_>>());
        serde_json::json!(rows.collect::<Vec<_>>())
    }
}

/// A matrix that the reference computed.
pub struct Expected {
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// Row-major.
    pub values: Vec<f32>,
}

/// The folder of the committed goldens.
pub fn goldens_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

/// All committed goldens, by name.
pub fn golden_names() -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(goldens_folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("tensors.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

impl Golden {
    /// Opens a committed golden.
    pub fn open(name: &str) -> Self {
        let folder = goldens_folder().join(name);
        let text = fs_err::read_to_string(folder.join("tensors.json")).unwrap();
        let file: TensorFile = serde_json::from_str(&text).unwrap();
        Self {
            name: name.to_owned(),
            tensors: file.tensors,
            num_shards: file.num_shards,
            rounded: file.round_to.as_deref() == Some("bf16"),
            expected: fs_err::read(folder.join("expected.safetensors")).unwrap(),
            folder,
        }
    }

    /// Writes `config.json` and `model.safetensors` into a folder.
    pub fn write(&self, folder: &Path, stored: Stored) {
        fs_err::create_dir_all(folder).unwrap();
        for name in ["config.json", "params.json"] {
            if self.folder.join(name).exists() {
                fs_err::copy(self.folder.join(name), folder.join(name)).unwrap();
            }
        }
        let Some(shards) = self.num_shards else {
            return self.write_file(&folder.join("model.safetensors"), stored, None);
        };
        for shard in 0..shards {
            let file = folder.join(format!("consolidated.{shard:02}.safetensors"));
            self.write_file(&file, stored, Some((shard, shards)));
        }
    }

    /// Writes one file: all tensors, or their parts `shard` of `shards`.
    fn write_file(&self, path: &Path, stored: Stored, shard: Option<(usize, usize)>) {
        let mut tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = Vec::new();
        for entry in &self.tensors {
            if entry.dtype == "F8_E4M3" && entry.scales.is_some() {
                tensors.extend(self.fp8(entry));
                continue;
            }
            let (dtype, bytes) = self.bytes(entry, stored);
            let (shape, bytes) = match (shard, entry.shard_dim) {
                (Some(shard), Some(axis)) => part(&entry.shape, &bytes, axis, shard),
                _ => (entry.shape.clone(), bytes),
            };
            tensors.push((entry.name.clone(), shape, dtype, bytes));
        }
        let views = tensors.iter().map(|(name, shape, dtype, bytes)| {
            (
                name.clone(),
                TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
            )
        });
        let data = safetensors::serialize(views, None).unwrap();
        fs_err::write(path, data).unwrap();
    }

    fn bytes(&self, entry: &TensorEntry, stored: Stored) -> (Dtype, Vec<u8>) {
        if let Some(raw) = &entry.raw {
            let dtype = dtype_of(&entry.dtype);
            let count = entry.shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let bytes =
                bits_of(&entry.name, count).zip(raw.and.iter().cycle().zip(raw.or.iter().cycle()));
            let bytes = bytes.map(|(bits, (and, or))| (bits >> 40) as u8 & and | or);
            return (dtype, bytes.collect());
        }
        let values = self.values(entry);
        if entry.kept {
            return kept(&entry.dtype, &values);
        }
        match entry.dtype.as_str() {
            "F32" => match stored {
                Stored::F32 => (
                    Dtype::F32,
                    values
                        .iter()
                        .flat_map(|v| (*v as f32).to_le_bytes())
                        .collect(),
                ),
                Stored::Bf16 => (
                    Dtype::BF16,
                    values
                        .iter()
                        .flat_map(|v| bf16::from_f32(*v as f32).to_le_bytes())
                        .collect(),
                ),
                Stored::F32OfBf16 => (
                    Dtype::F32,
                    values
                        .iter()
                        .flat_map(|v| bf16::from_f32(*v as f32).to_f32().to_le_bytes())
                        .collect(),
                ),
            },
            "I64" => (
                Dtype::I64,
                values
                    .iter()
                    .flat_map(|v| (*v as i64).to_le_bytes())
                    .collect(),
            ),
            "I32" => (
                Dtype::I32,
                values
                    .iter()
                    .flat_map(|v| (*v as i32).to_le_bytes())
                    .collect(),
            ),
            "U8" => (Dtype::U8, values.iter().map(|v| *v as u8).collect()),
            "BOOL" => (Dtype::BOOL, values.iter().map(|v| *v as u8).collect()),
            other => panic!("{}: dtype {other}", entry.name),
        }
    }

    /// The codes of a tensor and its scales: the largest number of a block becomes about 448.
    fn fp8(&self, entry: &TensorEntry) -> [(String, Vec<usize>, Dtype, Vec<u8>); 2] {
        let values = self.values(entry);
        let [rows, columns] = entry.shape[..] else {
            panic!("{}: a matrix", entry.name);
        };
        let [high, wide] = entry.block.unwrap_or([rows, columns]);
        let grid = [rows.div_ceil(high), columns.div_ceil(wide)];
        let mut codes = vec![0; rows * columns];
        let (mut scales, mut of_scales) = (Vec::new(), Dtype::F32);
        for block in 0..grid[0] * grid[1] {
            let [top, left] = [block / grid[1] * high, block % grid[1] * wide];
            let below = top..(top + high).min(rows);
            let places = || {
                below.clone().flat_map(|row| {
                    (left..(left + wide).min(columns)).map(move |column| row * columns + column)
                })
            };
            let value = |at: usize| values[at] as f32;
            let scale = places().map(|at| value(at).abs()).fold(0.0, f32::max) / LARGEST_FP8;
            let (scale, dtype, bytes) = match entry.scales.as_deref() {
                Some("F32") => (scale, Dtype::F32, scale.to_le_bytes().to_vec()),
                Some("BF16") => {
                    let scale = bf16::from_f32(scale);
                    (scale.to_f32(), Dtype::BF16, scale.to_le_bytes().to_vec())
                }
                Some("F8_E8M0") => {
                    // The next power of two.
                    let bits = scale.to_bits();
                    let exponent = (bits >> 23) + u32::from(bits << 9 != 0);
                    let scale = f32::from_bits(exponent << 23);
                    (scale, Dtype::F8_E8M0, vec![exponent as u8])
                }
                other => panic!("{}: scales {other:?}", entry.name),
            };
            places().for_each(|at| codes[at] = fp8_of(value(at) / scale));
            of_scales = dtype;
            scales.extend(bytes);
        }
        let shape = entry.block.map_or_else(Vec::new, |_| grid.to_vec());
        let name = format!("{}_scale_inv", entry.name);
        [
            (
                entry.name.clone(),
                entry.shape.clone(),
                Dtype::F8_E4M3,
                codes,
            ),
            (name, shape, of_scales, scales),
        ]
    }

    /// The values of a tensor: the formula of the format, or the list.
    fn values(&self, entry: &TensorEntry) -> Vec<f64> {
        if let Some(values) = &entry.values {
            return values.clone();
        }
        if let Some(other) = &entry.same_as {
            let original = self
                .tensors
                .iter()
                .find(|entry| &entry.name == other)
                .unwrap();
            return self.values(original);
        }
        let (scale, offset) = (entry.scale.unwrap(), entry.offset.unwrap());
        let count: usize = entry.shape.iter().product();
        bits_of(&entry.name, count)
            .map(|x| {
                let u = (x >> 40) as f64 / 16_777_216.0;
                let value = (offset + scale * (2.0 * u - 1.0)) as f32;
                f64::from(if self.rounded {
                    bf16::from_f32(value).to_f32()
                } else {
                    value
                })
            })
            .collect()
    }

    fn expected(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.expected).unwrap()
    }

    /// The records, in order.
    pub fn records(&self) -> Vec<GoldenRecord> {
        let expected = self.expected();
        let ids: BTreeSet<String> = expected
            .names()
            .iter()
            .filter_map(|name| {
                let mut own = ["input_ids"].into_iter().chain(PICTURES).chain(FEATURES);
                own.find_map(|own| name.strip_suffix(own)?.strip_suffix('.'))
            })
            .map(str::to_owned)
            .collect();
        ids.into_iter()
            .map(|id| GoldenRecord {
                input_ids: integers(&expected, &format!("{id}.input_ids")).unwrap_or_default(),
                input_features: FEATURES
                    .iter()
                    .find_map(|name| floats(&expected, &format!("{id}.{name}"))),
                pictures: pictures(&expected, &id),
                token_type_ids: integers(&expected, &format!("{id}.token_type_ids")),
                decoder_input_ids: integers(&expected, &format!("{id}.decoder_input_ids")),
                beside: BESIDE
                    .iter()
                    .filter_map(|&name| {
                        let found = Beside::of(&expected, &format!("{id}.{name}"))?;
                        Some((name.to_owned(), found))
                    })
                    .collect(),
                id,
            })
            .collect()
    }

    /// Everything that is expected of a record, by the name behind the record's: `logits`,
    /// `hidden.decoder.003`, ...
    pub fn expectations(&self, record: &str) -> BTreeMap<String, Expected> {
        let expected = self.expected();
        let prefix = format!("{record}.");
        expected
            .names()
            .into_iter()
            .filter_map(|name| Some((name, name.strip_prefix(&prefix)?)))
            .filter_map(|(name, short)| {
                let tensor = expected.tensor(name).unwrap();
                if tensor.dtype() != Dtype::F32 {
                    return None;
                }
                let values = tensor
                    .data()
                    .chunks_exact(4)
                    .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                    .collect();
                let columns = tensor.shape().last().copied().unwrap_or(1);
                let rows = tensor.shape().iter().product::<usize>() / columns.max(1);
                Some((
                    short.to_owned(),
                    Expected {
                        shape: [rows, columns],
                        values,
                    },
                ))
            })
            .collect()
    }

    /// The records as lines of a JSONL input.
    pub fn jsonl(&self) -> String {
        let mut lines = String::new();
        for record in self.records() {
            let mut line = serde_json::json!({ "id": record.id, "input_ids": record.input_ids });
            if let Some(types) = &record.token_type_ids {
                line["token_type_ids"] = serde_json::json!(types);
            }
            if let Some(ids) = &record.decoder_input_ids {
                line["decoder_input_ids"] = serde_json::json!(ids);
            }
            for (name, beside) in &record.beside {
                line[name] = beside.json();
            }
            lines += &line.to_string();
            lines.push('\n');
        }
        lines
    }
}

fn pictures(expected: &SafeTensors<'_>, id: &str) -> Option<GoldenPictures> {
    let mut names = PICTURES.iter().map(|name| format!("{id}.{name}"));
    let name = names.find(|name| expected.tensor(name).is_ok())?;
    let shape = expected.tensor(&name).ok()?.shape().to_vec();
    let grids = integers(expected, &format!("{id}.image_grid_thw")).unwrap_or_default();
    let sizes = ["image_sizes", "spatial_shapes"].iter();
    let sizes = sizes.filter_map(|name| integers(expected, &format!("{id}.{name}")));
    let sizes = sizes.flatten().collect::<Vec<u32>>();
    let merges = integers(expected, &format!("{id}.image_merge_sizes")).unwrap_or_default();
    let whole = |names: &[&str]| {
        let mut all = names.iter();
        all.find_map(|name| integers(expected, &format!("{id}.{name}")))
    };
    let shown = whole(&["pixel_attention_mask", "aspect_ratio_mask"]).unwrap_or_default();
    Some(GoldenPictures {
        shape,
        sizes: sizes.as_chunks().0.to_vec(),
        counts: whole(&["batch_num_images"]).unwrap_or_default(),
        shown,
        merges,
        places: signed(expected, &format!("{id}.image_position_ids"))
            .unwrap_or_default()
            .as_chunks()
            .0
            .to_vec(),
        shapes: whole(&["aspect_ratio_ids"]).unwrap_or_default(),
        points: whole(&["pixel_attention_mask", "pixel_mask"]).unwrap_or_default(),
        asked: whole(&["qformer_input_ids"]),
        marks: whole(&["image_embeds_position_mask"]),
        seen: whole(&["cross_attention_mask", "image_attention_mask"]),
        values: floats(expected, &name)?,
        grids: grids.as_chunks().0.to_vec(),
    })
}

/// The formula's bits of a tensor.
fn bits_of(name: &str, count: usize) -> impl Iterator<Item = u64> {
    let hash = fnv1a(name);
    (0..count as u64).map(move |index| splitmix64(hash.wrapping_add(index)))
}

fn dtype_of(name: &str) -> Dtype {
    serde_json::from_value(serde_json::json!(name)).unwrap()
}

/// Values as a type stores them.
fn kept(dtype: &str, values: &[f64]) -> (Dtype, Vec<u8>) {
    let each = |bytes: &dyn Fn(f64) -> Vec<u8>| values.iter().flat_map(|v| bytes(*v)).collect();
    let bytes = match dtype {
        "F32" => each(&|v| (v as f32).to_le_bytes().into()),
        "F16" => each(&|v| half::f16::from_f32(v as f32).to_le_bytes().into()),
        "BF16" => each(&|v| bf16::from_f32(v as f32).to_le_bytes().into()),
        "F8_E4M3" => each(&|v| vec![fp8_of(v as f32)]),
        "I64" => each(&|v| (v as i64).to_le_bytes().into()),
        "I32" => each(&|v| (v as i32).to_le_bytes().into()),
        "I8" => each(&|v| (v as i8).to_le_bytes().into()),
        "U8" => each(&|v| vec![v as u8]),
        other => panic!("dtype {other}"),
    };
    (dtype_of(dtype), bytes)
}

/// The largest number of E4M3.
const LARGEST_FP8: f32 = 448.0;

/// The E4M3 float (4 bits of exponent, 3 of mantissa) that is nearest, ties to even.
fn fp8_of(value: f32) -> u8 {
    let number = |code: u8| match code >> 3 {
        0 => f64::from(code) / 512.0,
        exponent => f64::from(8 + (code & 7)) * 2.0_f64.powi(i32::from(exponent) - 10),
    };
    let magnitude = f64::from(value.abs());
    let above = (0..=0x7e).find(|code| number(*code) >= magnitude);
    let code = match above {
        None => 0x7e,
        Some(0) => 0,
        Some(above) => {
            let (down, up) = (magnitude - number(above - 1), number(above) - magnitude);
            let is_up = up < down || (up == down && above % 2 == 0);
            above - u8::from(!is_up)
        }
    };
    code | u8::from(value.is_sign_negative()) << 7
}

/// Part `shard` of `shards` of a tensor along an axis.
fn part(
    shape: &[usize],
    bytes: &[u8],
    axis: usize,
    (shard, shards): (usize, usize),
) -> (Vec<usize>, Vec<u8>) {
    let outer: usize = shape[..axis].iter().product();
    let run = bytes.len() / outer / shards;
    let runs = (0..outer).flat_map(|index| &bytes[(index * shards + shard) * run..][..run]);
    let bytes = runs.copied().collect();
    let mut shape = shape.to_vec();
    shape[axis] /= shards;
    (shape, bytes)
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let tensor = file.tensor(name).ok()?;
    let values = tensor.data().chunks_exact(4);
    Some(
        values
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect(),
    )
}

fn integers(tensors: &SafeTensors<'_>, name: &str) -> Option<Vec<u32>> {
    let numbers = signed(tensors, name)?.into_iter();
    Some(
        numbers
            .map(|number| u32::try_from(number).unwrap())
            .collect(),
    )
}

fn signed(tensors: &SafeTensors<'_>, name: &str) -> Option<Vec<i64>> {
    let tensor = tensors.tensor(name).ok()?;
    let numbers = tensor.data().chunks_exact(8);
    Some(
        numbers
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
            .collect(),
    )
}

/// Stores tensors of a safetensors file once more under other names, with bits of their first byte turned over.
pub fn store_again(path: &Path, copies: &[(&str, &str, u8)]) {
    let data = fs_err::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&data).unwrap();
    let owned = tensors.iter().map(|(name, tensor)| {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        (name.to_owned(), dtype, shape, tensor.data().to_vec())
    });
    let mut all: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = owned.collect();
    for (from, to, bits) in copies {
        let tensor = tensors.tensor(from).unwrap();
        let mut bytes = tensor.data().to_vec();
        bytes[0] ^= bits;
        let shape = tensor.shape().to_vec();
        all.push(((*to).to_owned(), tensor.dtype(), shape, bytes));
    }
    let views = all.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    fs_err::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Reads every tensor of a safetensors file as f32 rows.
pub fn read_tensors(path: &Path) -> BTreeMap<String, Expected> {
    let data = fs_err::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&data).unwrap();
    tensors
        .iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> = match tensor.dtype() {
                Dtype::F32 => tensor
                    .data()
                    .chunks_exact(4)
                    .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                    .collect(),
                Dtype::BF16 => tensor
                    .data()
                    .chunks_exact(2)
                    .map(|bytes| bf16::from_le_bytes(bytes.try_into().unwrap()).to_f32())
                    .collect(),
                other => panic!("{name}: {other:?}"),
            };
            let columns = tensor.shape().last().copied().unwrap_or(1);
            let rows = values.len() / columns.max(1);
            (
                name.to_owned(),
                Expected {
                    shape: [rows, columns],
                    values,
                },
            )
        })
        .collect()
}

/// Compares element by element: `|a - b| <= tolerance * (|b| + rms(b))`. Returns the largest
/// deviation in units of the tolerance, or what is wrong.
pub fn compare(found: &Expected, expected: &Expected, tolerance: f64) -> Result<f64, String> {
    if found.shape != expected.shape {
        return Err(format!(
            "shape {:?}, expected {:?}",
            found.shape, expected.shape
        ));
    }
    let count = expected.values.len().max(1) as f64;
    let square: f64 = expected
        .values
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum();
    let rms = (square / count).sqrt();
    let mut worst = 0.0_f64;
    for (index, (&a, &b)) in found.values.iter().zip(&expected.values).enumerate() {
        let allowed = tolerance * (f64::from(b).abs() + rms);
        let deviation = (f64::from(a) - f64::from(b)).abs() / allowed;
        if deviation.is_nan() || deviation > 1.0 {
            let (row, column) = (index / found.shape[1], index % found.shape[1]);
            return Err(format!(
                "row {row}, column {column}: {a}, expected {b} ({deviation:.1} times the tolerance)"
            ));
        }
        worst = worst.max(deviation);
    }
    Ok(worst)
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn splitmix64(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{fnv1a, fp8_of, splitmix64};

    #[test]
    fn floats_of_eight_bits_are_the_nearest() {
        assert_eq!(fp8_of(423.5), 0x7d);
        let codes = [
            448.0, -1.0, 0.0, 1.0625, 1.1875, 1.07, 0.001, 1e-9, 460.0, 0.015_625,
        ];
        let codes = codes.map(fp8_of);
        assert_eq!(
            codes,
            [0x7e, 0xb8, 0, 0x38, 0x3a, 0x39, 0x01, 0, 0x7e, 0x08]
        );
    }

    #[test]
    fn the_formula_is_the_published_one() {
        let hash = fnv1a("model.embed_tokens.weight");
        assert_eq!(hash, 0xa88f_d795_d5c6_d156);
        assert_eq!(splitmix64(hash), 0x5f0c_e479_8904_7d81);
    }
}
