//! Which files of a folder are its weights, as the reference chooses.
//!
//! `model.safetensors` goes first, then the shards that `model.safetensors.index.json` names, then
//! `consolidated.safetensors`, then `consolidated*.safetensors`. Files of other names are not looked at.

use crate::error::{CheckpointError, UNFINISHED};
use crate::formats::format::Listing;
use crate::source::SourceError;
use crate::tensors::Choice;

pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
const CONSOLIDATED_FILE: &str = "consolidated.safetensors";
const CONSOLIDATED: &str = "consolidated*.safetensors";

/// The ways in which a folder has weights, in order of preference.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    pub single: bool,
    pub index: bool,
    /// The one file, or the sorted parts.
    pub consolidated: Vec<String>,
    names: Vec<String>,
}

impl Ways {
    /// Looks at the names in the folder.
    pub fn of(listing: &Listing<'_>) -> Result<Self, SourceError> {
        let Listing { source, names } = listing;
        let mut consolidated: Vec<String> = names.clone();
        if source.exists(CONSOLIDATED_FILE)? {
            consolidated = vec![CONSOLIDATED_FILE.to_owned()];
        }
        consolidated.retain(|name| name.starts_with("consolidated") && is_safetensors(name));
        consolidated.sort_unstable();
        Ok(Self {
            single: source.exists(SINGLE_FILE)?,
            index: source.exists(INDEX_FILE)?,
            consolidated,
            names: names.clone(),
        })
    }

    /// The choice of `taken`, where there was one.
    pub fn choice(&self, taken: &str) -> Option<Choice> {
        let consolidated = match &self.consolidated[..] {
            [] => None,
            [one] => Some(one.as_str()),
            _ => Some(CONSOLIDATED),
        };
        let taken = if self.consolidated.iter().any(|name| name == taken) {
            consolidated.unwrap_or(taken)
        } else {
            taken
        };
        let all = [
            self.single.then_some(SINGLE_FILE),
            self.index.then_some(INDEX_FILE),
            consolidated,
        ];
        let left = all.into_iter().flatten().filter(|name| *name != taken);
        let left: Vec<String> = left.map(str::to_owned).collect();
        (!left.is_empty()).then(|| Choice {
            taken: taken.to_owned(),
            left,
        })
    }

    /// There are no weights; names what there is instead.
    pub fn none(&self, place: String) -> CheckpointError {
        let of = |kind: &dyn Fn(&str) -> bool| self.names.iter().find(|name| kind(name)).cloned();
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
            (of(&is_pickle), "PyTorch's own format, which is not read"),
            (of(&is_other_format), "another format, which is not read"),
            (
                of(&|name| name != SINGLE_FILE && is_other_safetensors(name)),
                "not a name that is looked for: a variant or a part without its index; give the file itself",
            ),
        ];
        let clause = |(name, what): (Option<String>, &str)| Some(format!("`{}` is {what}", name?));
        CheckpointError::NoWeights {
            place,
            looked_for: vec![SINGLE_FILE, INDEX_FILE, CONSOLIDATED],
            others: clauses.into_iter().filter_map(clause).collect(),
        }
    }
}

fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

fn is_safetensors(name: &str) -> bool {
    ends(name, &[".safetensors"])
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

fn is_pickle(name: &str) -> bool {
    let training = [
        "optimizer",
        "scheduler",
        "rng_state",
        "training_args",
        "scaler",
    ];
    ends(name, &[".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"])
        && !is_adapter(name)
        && !training.iter().any(|begins| name.starts_with(begins))
}

fn is_other_format(name: &str) -> bool {
    ends(
        name,
        &[
            ".gguf", ".h5", ".msgpack", ".onnx", ".mlmodel", ".npz", ".tflite",
        ],
    )
}

fn is_other_safetensors(name: &str) -> bool {
    is_safetensors(name) && !is_adapter(name)
}
