//! The result: of every layer a safetensors file, and beside the results of a part of a dataset what it is made of.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::json;

use super::saved::Loading;
use super::sums::LayerSums;
use crate::durable::DiskError;
use crate::fingerprint;
use crate::journal::{OutputFolder, ResultWriter};
use crate::results::{ResultsError, Stored};

/// The folder of the results.
const FOLDER: &str = "hessian/";
const RESULT: &str = ".safetensors";
const ACCUMULATORS: &str = ".accumulators";

/// Bytes of rows that are made at a time.
pub(super) const ROWS_BYTES: usize = 64 << 20;

/// The file of a layer of a stack, from 1.
pub(super) fn result(stack: &str, layer: usize) -> String {
    format!("{FOLDER}{stack}.{layer:03}{RESULT}")
}

/// What a file of sums makes, if it is one.
pub(crate) fn result_of(accumulators: &str) -> Option<String> {
    let name = accumulators.strip_suffix(ACCUMULATORS)?;
    name.starts_with(FOLDER).then(|| format!("{name}{RESULT}"))
}

/// Whether a file is one of these results.
pub(crate) fn is_result(name: &str) -> bool {
    name.starts_with(FOLDER) && name.ends_with(RESULT)
}

/// Publishes the sums themselves, so that those of other records can be added.
pub(super) fn write_part(
    folder: &mut OutputFolder,
    result: &str,
    sums: &LayerSums,
) -> Result<(), ResultsError> {
    let name = format!("{}{ACCUMULATORS}", result.trim_end_matches(RESULT));
    folder.publish_new(&name, |mut writer| {
        let saved = sums.save(&mut |piece| writer.write_all(piece));
        saved.map_err(DiskError::from)?;
        Ok(writer)
    })
}

/// Publishes the file of a layer: of every matrix `NAME.xtx` `[inputs, inputs]` f32, `NAME.tokens` and `NAME.sequences` `[1]` i64. Its
/// metadata say under `shared` which matrices have the tensors of another one.
pub(super) fn write(
    folder: &mut OutputFolder,
    name: &str,
    sums: &LayerSums,
) -> Result<(), ResultsError> {
    let mut places: Vec<usize> = (0..sums.matrices().len()).collect();
    places.sort_by_key(|&place| &sums.matrices()[place].names[0]);
    let header = header(sums, &places);
    folder.publish_new(name, |mut writer| {
        write_all(&mut writer, &header)?;
        for &place in &places {
            let matrix = &sums.matrices()[place];
            for count in [matrix.tokens, matrix.sequences] {
                write_all(&mut writer, &count.to_le_bytes())?;
            }
        }
        for &place in &places {
            let inputs = sums.matrices()[place].inputs;
            let step = (ROWS_BYTES / (4 * inputs.max(1))).max(1);
            for first in (0..inputs).step_by(step) {
                let values = sums.values(place, first..inputs.min(first + step))?;
                for value in values {
                    write_all(&mut writer, &value.to_le_bytes())?;
                }
            }
        }
        Ok(writer)
    })
}

/// Publishes the file of a layer, of what the parts of a dataset were made of.
pub(crate) fn join(
    folder: &mut OutputFolder,
    result: &str,
    parts: &[Stored],
) -> Result<(), ResultsError> {
    if folder.publish_again(result)? {
        return Ok(());
    }
    let mut sums = LayerSums::scratch(folder, "")?;
    for part in parts {
        let refused = || ResultsError::Damaged {
            path: part.path.clone(),
            problem: "these are no sums of this model".into(),
        };
        part.check()?;
        let mut loading = Loading::new(LayerSums::scratch(folder, "-part")?);
        let mut outcome = Ok(true);
        fingerprint::each_piece(&part.path, |_, piece| {
            if let Ok(true) = outcome {
                outcome = loading.push(piece);
            }
        })?;
        let next = outcome?.then(|| loading.end()).flatten();
        let next = next.ok_or_else(refused)?;
        if !sums.follow(&next)? {
            return Err(refused());
        }
    }
    write(folder, result, &sums)
}

fn write_all(writer: &mut ResultWriter, bytes: &[u8]) -> Result<(), ResultsError> {
    Ok(writer.write_all(bytes).map_err(DiskError::from)?)
}

fn header(sums: &LayerSums, places: &[usize]) -> Vec<u8> {
    let matrices = || places.iter().map(|&place| &sums.matrices()[place]);
    let mut shared = BTreeMap::new();
    for matrix in matrices() {
        let (own, others) = (&matrix.names[0], &matrix.names[1..]);
        shared.extend(others.iter().map(|other| (other, own)));
    }
    let mut entries = serde_json::Map::new();
    let shared = json!(shared).to_string();
    entries.insert("__metadata__".into(), json!({"shared": shared}));
    let mut offset = 0_u64;
    let mut enter = |name: String, dtype: &str, shape: &[usize], bytes: u64| {
        let end = offset + bytes * shape.iter().product::<usize>() as u64;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]});
        entries.insert(name, entry);
        offset = end;
    };
    for matrix in matrices() {
        for count in ["tokens", "sequences"] {
            enter(format!("{}.{count}", matrix.names[0]), "I64", &[1], 8);
        }
    }
    for matrix in matrices() {
        let inputs = matrix.inputs;
        enter(format!("{}.xtx", matrix.names[0]), "F32", &[inputs; 2], 4);
    }
    let mut json = serde_json::Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}
