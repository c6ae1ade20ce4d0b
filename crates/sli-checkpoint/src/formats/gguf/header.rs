//! The header of a GGUF file: keys and values, and the tensors with their places.

use std::collections::BTreeSet;

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::problem::{GgufError, Problem};
use crate::dtype::Dtype;
use crate::formats::lookalike;
use crate::formats::opening::Contents;
use crate::source::ByteSource;
use crate::tensors::{FileIndex, TensorInfo};

const MAGIC: &[u8; 4] = b"GGUF";
/// Most tensors.
const MAX_TENSORS: u64 = 1 << 20;
/// Longest name of a tensor.
const MAX_NAME: u64 = 1 << 10;
/// Most axes of a tensor, as in the format.
const MAX_AXES: u32 = 4;
/// Bytes between tensors where the file does not say.
const ALIGNMENT: u64 = 32;

/// Types of tensors by their numbers in files.
const TYPES: [(u32, Dtype); 31] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (16, Dtype::Iq2Xxs),
    (17, Dtype::Iq2Xs),
    (18, Dtype::Iq3Xxs),
    (19, Dtype::Iq1S),
    (20, Dtype::Iq4Nl),
    (21, Dtype::Iq3S),
    (22, Dtype::Iq2S),
    (23, Dtype::Iq4Xs),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (29, Dtype::Iq1M),
    (30, Dtype::Bf16),
    (34, Dtype::Tq1_0),
    (35, Dtype::Tq2_0),
    (39, Dtype::Mxfp4),
    (40, Dtype::Nvfp4),
];

pub(super) fn read(source: &dyn ByteSource, file: &str) -> Result<Contents, Problem> {
    let mut cursor = Cursor::new(source, file)?;
    begin(&mut cursor)?;
    let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
    let metadata = Metadata::read(&mut cursor, keys)?;
    if tensors > MAX_TENSORS {
        let (what, most, claimed) = ("tensors", MAX_TENSORS, tensors);
        return Err(GgufError::TooMany {
            what,
            claimed,
            most,
        }
        .into());
    }
    cursor.what = "the description of a tensor";
    let mut infos = Vec::new();
    for _ in 0..tensors {
        infos.push(tensor(&mut cursor)?);
    }
    let alignment = alignment(&metadata)?;
    let size = cursor.size;
    let start = cursor.at.checked_next_multiple_of(alignment);
    let start = start.filter(|start| *start <= size || infos.is_empty());
    let start = start.ok_or(GgufError::CutOff {
        size,
        what: "its header",
    })?;
    place(&mut infos, start, alignment, size)?;
    add_lists(&mut infos, &metadata)?;
    Ok(Contents {
        size,
        read: cursor.read,
        digest: cursor.digest(),
        tensors: infos,
        metadata: Some(metadata),
    })
}

/// The magic number and the version.
fn begin(cursor: &mut Cursor<'_>) -> Result<(), Problem> {
    let length = cursor.size.min(lookalike::BEGINNING as u64);
    let beginning = cursor.bytes(length)?.to_vec();
    if !beginning.starts_with(MAGIC) {
        let unknown = || "nothing that llama.cpp writes".to_owned();
        let what = lookalike::identify(&beginning).unwrap_or_else(unknown);
        return Err(GgufError::Other { what }.into());
    }
    cursor.at = MAGIC.len() as u64;
    match cursor.u32()? {
        2 | 3 => Ok(()),
        version if version.trailing_zeros() >= 16 => Err(GgufError::BigEndian.into()),
        version => Err(GgufError::Version { version }.into()),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.values.get(KEY) else {
        return Ok(ALIGNMENT);
    };
    let alignment = value.as_u64().filter(|n| n.is_power_of_two());
    alignment.ok_or_else(|| GgufError::Key {
        key: KEY.to_owned(),
        rule: "it is no power of two",
    })
}

/// The description of a tensor, its place counted from the first one's.
fn tensor(cursor: &mut Cursor<'_>) -> Result<TensorInfo, Problem> {
    let name = cursor.text(MAX_NAME)?;
    let axes = cursor.u32()?;
    let wrong = |rule| GgufError::Tensor {
        tensor: name.clone(),
        rule,
    };
    if axes > MAX_AXES {
        return Err(wrong("it has more than four axes").into());
    }
    let mut shape = Vec::new();
    for _ in 0..axes {
        let side = usize::try_from(cursor.u64()?);
        shape.push(side.map_err(|_| wrong("it is too large to count"))?);
    }
    let found = cursor.u32()?;
    let known = TYPES.iter().find(|(number, _)| *number == found);
    let Some(&(_, dtype)) = known else {
        let tensor = name;
        return Err(GgufError::TensorType { tensor, found }.into());
    };
    let [piece, _] = dtype.piece();
    if shape.first().is_some_and(|row| !row.is_multiple_of(piece))
        || (shape.is_empty() && piece > 1)
    {
        return Err(wrong("its rows do not end with a block").into());
    }
    let mut elements = shape.iter().map(|&side| side as u64);
    let elements = elements.try_fold(1_u64, u64::checked_mul);
    let bytes = elements.and_then(|elements| dtype.bytes_of(elements));
    let bytes = bytes.ok_or_else(|| wrong("it is too large to count"))?;
    let offset = cursor.u64()?;
    // The innermost axis stands first.
    shape.reverse();
    Ok(TensorInfo {
        name: name.into(),
        file: FileIndex(0),
        dtype,
        shape: shape.into(),
        offset,
        strides: None,
        bytes,
    })
}

/// Lists of numbers that are weights are tensors as well.
fn add_lists(infos: &mut Vec<TensorInfo>, metadata: &Metadata) -> Result<(), GgufError> {
    for (key, list) in &metadata.weights {
        if infos.iter().any(|info| *info.name == **key) {
            let tensor = key.clone();
            return Err(GgufError::DuplicateTensor { tensor });
        }
        infos.push(TensorInfo {
            name: key.as_str().into(),
            file: FileIndex(0),
            dtype: Dtype::F32,
            shape: [list.count as usize].into(),
            offset: list.start,
            strides: None,
            bytes: list.count * 4,
        });
    }
    Ok(())
}

/// Gives the tensors their places in the file.
fn place(infos: &mut [TensorInfo], start: u64, alignment: u64, size: u64) -> Result<(), GgufError> {
    infos.sort_by_key(|info| info.offset);
    let mut names = BTreeSet::new();
    let mut end = 0;
    for info in infos {
        let tensor = || info.name.to_string();
        if !names.insert(info.name.clone()) {
            return Err(GgufError::DuplicateTensor { tensor: tensor() });
        }
        let wrong = |rule| GgufError::Tensor {
            tensor: tensor(),
            rule,
        };
        if !info.offset.is_multiple_of(alignment) {
            return Err(wrong("it does not begin where the file's alignment says"));
        }
        if info.offset < end {
            return Err(wrong("it overlaps another"));
        }
        end = info
            .offset
            .checked_add(info.bytes)
            .ok_or_else(|| wrong("it is too large to count"))?;
        let last = start.saturating_add(end);
        if last > size {
            let tensor = tensor();
            return Err(GgufError::Truncated {
                tensor,
                end: last,
                size,
            });
        }
        info.offset += start;
    }
    Ok(())
}
