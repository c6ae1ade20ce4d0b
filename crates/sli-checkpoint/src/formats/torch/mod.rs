//! Torch's own files (`torch.save`): an archive or, before version 1.6, pickles and the storages behind them.
//!
//! Nothing in a file is executed: [`pickle`] follows instructions that make plain data and refuses all others. Reference:
//! `torch.load` with `weights_only=True`.

mod archive;
mod legacy;
mod pickle;
mod problem;
mod tensors;

pub use problem::TorchError;

use archive::{Archive, Problem};
use pickle::Pickle;
use tensors::Storages;

use crate::error::CheckpointError;
use crate::formats::format::{Format, Listing, Way};
use crate::formats::lookalike;
use crate::formats::opening::{Contents, Opening};
use crate::source::ByteSource;
use crate::tensors::Index;

const SINGLE_FILE: &str = "pytorch_model.bin";
const INDEX_FILE: &str = "pytorch_model.bin.index.json";
const CONSOLIDATED: &str = "consolidated.*.pth";
/// The names of a whole model in one file, where there is none of the above.
const OTHERS: [&str; 4] = [
    "pytorch_model.pt",
    "pytorch_model.pth",
    "model.pt",
    "model.pth",
];
/// How the files of a training run begin that are no weights.
const TRAINING: [&str; 5] = [
    "optimizer",
    "scheduler",
    "rng_state",
    "training_args",
    "scaler",
];

/// Whether a file may hold weights in this format, by its name.
pub(crate) fn is_weights(name: &str) -> bool {
    let ends = [".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"];
    ends.iter().any(|end| name.ends_with(end))
        && !TRAINING.iter().any(|begins| name.starts_with(begins))
}

/// The format.
#[derive(Debug)]
pub(crate) struct Torch;

impl Format for Torch {
    fn name(&self) -> &'static str {
        "torch"
    }

    fn ways(&self, listing: &Listing<'_>) -> Result<Vec<Way>, CheckpointError> {
        let Listing { source, names } = listing;
        let mut ways = Vec::new();
        if source.exists(SINGLE_FILE)? {
            ways.push(Way::one(SINGLE_FILE, "one torch file"));
        }
        if source.exists(INDEX_FILE)? {
            ways.push(Way::one(INDEX_FILE, "the torch files that the index names"));
        }
        for name in OTHERS {
            if source.exists(name)? {
                ways.push(Way::one(name, "one torch file"));
            }
        }
        let is_part = |name: &&String| {
            let number = name.strip_prefix("consolidated.");
            number.is_some_and(|number| number.strip_suffix(".pth").is_some())
        };
        let files: Vec<String> = names.iter().filter(is_part).cloned().collect();
        let rule = "Meta's own layout";
        match &files[..] {
            [] => {}
            [one] => ways.push(Way::one(one, rule)),
            _ => ways.push(Way {
                name: CONSOLIDATED.to_owned(),
                rule,
                files,
            }),
        }
        Ok(ways)
    }

    fn index(&self, source: &dyn ByteSource, way: &Way) -> Result<Index, CheckpointError> {
        let mut opening = Opening::new(source, contents);
        match way.name.as_str() {
            INDEX_FILE => opening.add_shards(INDEX_FILE)?,
            _ => opening.add_parts(&way.files)?,
        }
        opening.finish()
    }

    fn looked_for(&self) -> &'static [&'static str] {
        &[
            SINGLE_FILE,
            INDEX_FILE,
            "model.pt",
            "model.pth",
            CONSOLIDATED,
        ]
    }

    fn claims_file(&self, file: &str) -> bool {
        let ends = [".bin", ".pt", ".pth", ".ckpt"];
        ends.iter().any(|end| file.ends_with(end))
    }

    fn index_of_file(&self, source: &dyn ByteSource, file: &str) -> Result<Index, CheckpointError> {
        let mut opening = Opening::new(source, contents);
        opening.add_file(file)?;
        opening.finish()
    }
}

fn contents(source: &dyn ByteSource, file: &str) -> Result<Contents, CheckpointError> {
    let size = source.len(file)?;
    let mut beginning = vec![0; size.min(lookalike::BEGINNING as u64) as usize];
    source.read_at(file, 0, &mut beginning)?;
    let contents = if beginning.starts_with(b"PK\x03\x04") {
        of_archive(source, file, size)
    } else if beginning.starts_with(legacy::BEGINNING) {
        legacy::read(source, file, size)
    } else {
        let unknown = || "nothing that torch writes".to_owned();
        let what = lookalike::identify(&beginning).unwrap_or_else(unknown);
        Err(TorchError::Other { what }.into())
    };
    contents.map_err(|problem| match problem {
        Problem::Read(error) => error.into(),
        Problem::Rule(problem) => CheckpointError::Torch {
            place: source.describe(),
            file: file.to_owned(),
            problem: problem.into(),
        },
    })
}

/// An archive: `NAME/data.pkl`, the storages `NAME/data/KEY`, perhaps `NAME/byteorder`; `NAME` is any.
fn of_archive(source: &dyn ByteSource, file: &str, size: u64) -> Result<Contents, Problem> {
    const PICKLE: &str = "data.pkl";
    let mut archive = Archive::read(source, file, size)?;
    let names = archive.members.keys();
    let mut folders = names.filter_map(|name| name.strip_suffix(PICKLE)?.strip_suffix('/'));
    let folder = match (folders.next(), folders.next()) {
        (Some(folder), None) => folder.to_owned(),
        (None, _) => {
            let member = PICKLE.to_owned();
            return Err(TorchError::NoMember { member }.into());
        }
        (Some(_), Some(_)) => {
            let rule = "it has two pickles";
            return Err(TorchError::Archive { rule }.into());
        }
    };
    let order = format!("{folder}/byteorder");
    if archive.members.contains_key(&order) {
        let bytes = archive.content(source, file, &order)?;
        if bytes != b"little" {
            let bytes = bytes.get(..16).unwrap_or(&bytes);
            let order = String::from_utf8_lossy(bytes).into_owned();
            return Err(TorchError::ByteOrder { order }.into());
        }
    }
    let bytes = archive.content(source, file, &format!("{folder}/{PICKLE}"))?;
    archive.read += bytes.len() as u64;
    let pickle = Pickle::read(&bytes)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes);
    drop(bytes);
    let find = |key: &str| archive.member(&format!("{folder}/data/{key}")).cloned();
    let tensors = Storages { find: &find }.tensors(&pickle)?;
    Ok(Contents {
        size,
        digest: tensors::digest(hasher, &tensors),
        read: archive.read,
        tensors,
        metadata: None,
    })
}
