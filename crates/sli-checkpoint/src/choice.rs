//! Which files of a folder are its weights.
//!
//! Every format knows the names under which its weights are published, and [`FORMATS`] which format goes first:
//! safetensors, then torch's own files, as the reference. Files of other names are not looked at.

use crate::error::{CheckpointError, UNFINISHED};
use crate::formats::format::{Format, Listing, Way};
use crate::formats::safetensors::{INDEX_FILE, SINGLE_FILE, Safetensors};
use crate::formats::{FORMATS, gguf, torch};
use crate::tensors::Choice;

/// A format, what it takes of a folder, and how.
type Chosen = (&'static dyn Format, Choice, Way);

/// The weights of a folder; `None` where there are none.
pub(crate) fn choose(listing: &Listing<'_>) -> Result<Option<Chosen>, CheckpointError> {
    let mut chosen: Option<Chosen> = None;
    for format in FORMATS {
        for way in format.ways(listing)? {
            match &mut chosen {
                Some((_, choice, _)) => choice.left.push(way.name),
                None => {
                    let choice = Choice {
                        taken: way.name.clone(),
                        rule: way.rule,
                        left: Vec::new(),
                    };
                    chosen = Some((*format, choice, way));
                }
            }
        }
    }
    Ok(chosen)
}

/// Every format that is read with the names by which a folder's weights are found, in order of preference.
pub fn formats() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FORMATS
        .iter()
        .map(|format| (format.name(), format.looked_for()))
}

/// The format of a file that is named by itself.
pub(crate) fn of_file(file: &str) -> &'static dyn Format {
    // The first takes any file, to say what is wrong with it.
    let mut formats = FORMATS.iter().rev();
    let format = formats.find(|format| format.claims_file(file));
    format.map_or(&Safetensors as &dyn Format, |format| *format)
}

/// There are no weights; names what there is instead.
pub(crate) fn none(listing: &Listing<'_>) -> CheckpointError {
    let names = &listing.names;
    let of = |kind: &dyn Fn(&str) -> bool| names.iter().find(|name| kind(name)).cloned();
    let clauses = [
        (
            of(&|name| [SINGLE_FILE, INDEX_FILE].contains(&name)),
            "a link to a file that is not there",
        ),
        (of(&is_unfinished), UNFINISHED),
        (
            of(&is_adapter),
            "the weights of an adapter, which has to be merged into its model first",
        ),
        (
            of(&gguf::is_gguf),
            "one of several GGUF files: give the one itself",
        ),
        (of(&is_other_format), "another format, which is not read"),
        (
            of(&is_other_weights),
            "not a name that is looked for: a variant or a part without its index; give the file itself",
        ),
    ];
    let clause = |(name, what): (Option<String>, &str)| Some(format!("`{}` is {what}", name?));
    let looked_for = FORMATS.iter().flat_map(|format| format.looked_for());
    CheckpointError::NoWeights {
        place: listing.source.describe(),
        looked_for: looked_for.copied().collect(),
        others: clauses.into_iter().filter_map(clause).collect(),
    }
}

fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

fn is_unfinished(name: &str) -> bool {
    ends(
        name,
        &[".incomplete", ".part", ".crdownload", ".aria2", ".download"],
    )
}

fn is_adapter(name: &str) -> bool {
    name.starts_with("adapter_model") || name.starts_with("adapter.")
}

/// Whether a file of this name holds weights in a format that is read.
pub fn is_weights(name: &str) -> bool {
    ends(name, &[".safetensors"]) || torch::is_weights(name) || gguf::is_gguf(name)
}

/// Whether a file of this name holds weights in a format that is not.
pub fn is_other_format(name: &str) -> bool {
    let others = [
        ".h5", ".msgpack", ".onnx", ".mlmodel", ".npz", ".ot", ".tflite",
    ];
    ends(name, &others)
}

fn is_other_weights(name: &str) -> bool {
    let is_weights = ends(name, &[".safetensors"]) || torch::is_weights(name);
    is_weights && name != SINGLE_FILE && !is_adapter(name)
}
