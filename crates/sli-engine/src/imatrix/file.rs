//! The file of llama.cpp, and the one of a part of a dataset.
//!
//! llama.cpp's is a GGUF file of version 3 without an architecture: for every matrix `NAME.in_sum2` `[inputs, matrices]`, the
//! sums of squares, and `NAME.counts` `[1, matrices]`, the rows that they are of.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs_err::File;

use super::sums::{LayerSums, number};
use super::{ACCUMULATORS, IMATRIX, Place};
use crate::durable::DiskError;
use crate::exact_sum::ExactSum;
use crate::journal::{OutputFolder, ResultWriter};
use crate::results::ResultsError;

/// How the file of a part begins.
const MAGIC: &[u8] = b"sli imatrix 1\n";

/// Types of values of a GGUF file.
const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// The type of its tensors.
const F32: u32 = 0;
/// What offsets are multiples of.
const ALIGNMENT: u64 = 32;

/// What the sums are of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct About {
    /// Names of the files of the dataset.
    pub datasets: Vec<String>,
    /// Records.
    pub records: u64,
    /// Tokens of the longest one.
    pub longest: u64,
}

/// A tensor of the file.
struct Tensor {
    place: Place,
    inputs: u64,
    matrices: u64,
}

/// Publishes llama.cpp's file of the layers at some places.
pub(crate) fn write(
    folder: &mut OutputFolder,
    about: &About,
    places: &[Place],
    mut load: impl FnMut(Place) -> Result<LayerSums, ResultsError>,
) -> Result<(), ResultsError> {
    let mut tensors = BTreeMap::new();
    for &place in places {
        for (names, sums) in load(place)?.iter() {
            for name in names {
                let tensor = Tensor {
                    place,
                    inputs: sums.inputs as u64,
                    matrices: sums.counts.len() as u64,
                };
                tensors.insert(name.clone(), tensor);
            }
        }
    }
    let header = header(about, &tensors);
    folder.publish_new(IMATRIX, |mut writer| {
        writer.write_all(&header).map_err(DiskError::from)?;
        let mut held: Option<(Place, LayerSums)> = None;
        for (name, tensor) in &tensors {
            if held
                .as_ref()
                .is_none_or(|(place, _)| *place != tensor.place)
            {
                drop(held.take());
                held = Some((tensor.place, load(tensor.place)?));
            }
            let sums = held.as_ref().and_then(|(_, layer)| layer.get(name));
            let Some(sums) = sums else { continue };
            let squares = sums.squares.iter().map(ExactSum::value);
            values(&mut writer, name, squares)?;
            let counts = sums.counts.iter().map(|&count| count as f64);
            values(&mut writer, name, counts)?;
        }
        Ok(writer)
    })
}

/// Writes a tensor.
fn values(
    writer: &mut ResultWriter,
    name: &str,
    values: impl Iterator<Item = f64>,
) -> Result<(), ResultsError> {
    let mut bytes = 0;
    for value in values {
        let value = value as f32;
        if !value.is_finite() {
            return Err(ResultsError::Squares(name.to_owned()));
        }
        writer
            .write_all(&value.to_le_bytes())
            .map_err(DiskError::from)?;
        bytes += 4;
    }
    let padding = padded(bytes) - bytes;
    let zeros = [0; ALIGNMENT as usize];
    writer
        .write_all(&zeros[..padding as usize])
        .map_err(DiskError::from)?;
    Ok(())
}

fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

fn header(about: &About, tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let mut header = b"GGUF".to_vec();
    header.extend(3_u32.to_le_bytes());
    header.extend((2 * tensors.len() as u64).to_le_bytes());
    header.extend(4_u64.to_le_bytes());
    text(&mut header, "general.type");
    header.extend(STRING.to_le_bytes());
    text(&mut header, "imatrix");
    text(&mut header, "imatrix.datasets");
    header.extend(ARRAY.to_le_bytes());
    header.extend(STRING.to_le_bytes());
    header.extend((about.datasets.len() as u64).to_le_bytes());
    for dataset in &about.datasets {
        text(&mut header, dataset);
    }
    for (name, value) in [
        ("imatrix.chunk_count", about.records),
        ("imatrix.chunk_size", about.longest),
    ] {
        text(&mut header, name);
        header.extend(UINT32.to_le_bytes());
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        header.extend(value.to_le_bytes());
    }
    let mut offset = 0_u64;
    for (name, tensor) in tensors {
        for (ending, columns) in [("in_sum2", tensor.inputs), ("counts", 1)] {
            text(&mut header, &format!("{name}.{ending}"));
            // As ggml writes shapes: without ones at their end.
            let is_one = tensor.matrices == 1;
            header.extend(if is_one { 1_u32 } else { 2 }.to_le_bytes());
            header.extend(columns.to_le_bytes());
            if !is_one {
                header.extend(tensor.matrices.to_le_bytes());
            }
            header.extend(F32.to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += padded(4 * columns * tensor.matrices);
        }
    }
    header.resize(padded(header.len() as u64) as usize, 0);
    header
}

fn text(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

/// Publishes the sums themselves, so that those of other records can be added.
pub(crate) fn write_part(
    folder: &mut OutputFolder,
    about: &About,
    places: &[Place],
    mut load: impl FnMut(Place) -> Result<LayerSums, ResultsError>,
) -> Result<(), ResultsError> {
    folder.publish_new(ACCUMULATORS, |mut writer| {
        let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(DiskError::from);
        let datasets = about.datasets.join("\n");
        write(MAGIC)?;
        for number in [about.records, about.longest, datasets.len() as u64] {
            write(&number.to_le_bytes())?;
        }
        write(datasets.as_bytes())?;
        for &(stack, layer) in places {
            let bytes = load((stack, layer))?.to_bytes();
            for number in [stack, layer, bytes.len()] {
                write(&(number as u64).to_le_bytes())?;
            }
            write(&bytes)?;
        }
        Ok(writer)
    })
}

/// The sums of a part of a dataset.
pub(crate) struct Part {
    file: File,
    pub about: About,
    /// Where those of every layer are.
    pub layers: BTreeMap<Place, (u64, usize)>,
}

impl Part {
    /// Opens what [`write_part`] wrote; `None`: it is something else.
    pub fn open(path: &Path) -> Result<Option<Self>, DiskError> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut begin = [0; MAGIC.len() + 24];
        if length < begin.len() as u64 {
            return Ok(None);
        }
        file.read_exact(&mut begin)?;
        let Some(mut rest) = begin.strip_prefix(MAGIC) else {
            return Ok(None);
        };
        let mut next = || number(&mut rest).unwrap_or_default();
        let (records, longest, names) = (next(), next(), next());
        let mut end = begin.len() as u64;
        if names > length - end {
            return Ok(None);
        }
        let mut datasets = vec![0; names as usize];
        file.read_exact(&mut datasets)?;
        end += names;
        let Ok(datasets) = String::from_utf8(datasets) else {
            return Ok(None);
        };
        let mut layers = BTreeMap::new();
        while end < length {
            let mut place = [0; 24];
            if length - end < place.len() as u64 {
                return Ok(None);
            }
            file.seek(SeekFrom::Start(end))?;
            file.read_exact(&mut place)?;
            let mut rest = &place[..];
            let mut next = || number(&mut rest).unwrap_or_default();
            let (place, bytes) = ((next() as usize, next() as usize), next());
            end += 24;
            if bytes > length - end {
                return Ok(None);
            }
            layers.insert(place, (end, bytes as usize));
            end += bytes;
        }
        let about = About {
            datasets: datasets.lines().map(str::to_owned).collect(),
            records,
            longest,
        };
        Ok(Some(Self {
            file,
            about,
            layers,
        }))
    }

    /// The sums of a layer, nothing where the part has none; `None`: they are damaged.
    pub fn layer(&mut self, place: Place) -> Result<Option<LayerSums>, DiskError> {
        let Some(&(offset, length)) = self.layers.get(&place) else {
            return Ok(Some(LayerSums::default()));
        };
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        Ok(LayerSums::from_bytes(&bytes))
    }
}
