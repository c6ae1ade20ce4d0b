//! GGUF: a model in one file, or in parts that are named `NAME-00001-of-00003.gguf`. Everything that the model consists
//! of is in it: see [`Metadata`].

mod cursor;
mod files;
mod header;
mod metadata;
mod pre;
mod problem;
mod tokenizer;

pub use files::GgufFiles;
pub use metadata::{List, Metadata};
pub use problem::GgufError;
use problem::Problem;

use cursor::Cursor;

use crate::error::CheckpointError;
use crate::formats::format::{Format, Listing, Way};
use crate::formats::opening::{Contents, Opening};
use crate::source::ByteSource;
use crate::tensors::Index;

const ENDING: &str = ".gguf";
/// Most parts of a model.
const MAX_PARTS: u64 = 99_999;

/// Whether a file is of this format, by its name.
pub(crate) fn is_gguf(name: &str) -> bool {
    name.strip_suffix(ENDING).is_some()
}

/// The format.
#[derive(Debug)]
pub(crate) struct Gguf;

/// A problem as the crate's users see it.
fn refused(problem: Problem, source: &dyn ByteSource, file: &str) -> CheckpointError {
    match problem {
        Problem::Read(error) => error.into(),
        Problem::Rule(problem) => CheckpointError::Gguf {
            place: source.describe(),
            file: file.to_owned(),
            problem: problem.into(),
        },
    }
}

impl Format for Gguf {
    fn name(&self) -> &'static str {
        "GGUF"
    }

    /// A folder with one model of this format; of several none is taken.
    fn ways(&self, listing: &Listing<'_>) -> Result<Vec<Way>, CheckpointError> {
        let files = listing.names.iter().filter(|name| is_gguf(name));
        // Towers that belong to another model's file.
        let files = files.filter(|name| !name.starts_with("mmproj"));
        let mut models: Vec<&String> = files
            .filter(|name| Part::of(name).is_none_or(|part| part.number == 1))
            .collect();
        match (models.pop(), models.pop()) {
            (Some(one), None) => Ok(vec![Way::one(one, "the one GGUF file of the folder")]),
            _ => Ok(Vec::new()),
        }
    }

    fn index(&self, source: &dyn ByteSource, way: &Way) -> Result<Index, CheckpointError> {
        self.index_of_file(source, &way.name)
    }

    fn looked_for(&self) -> &'static [&'static str] {
        &["*.gguf"]
    }

    fn claims_file(&self, file: &str) -> bool {
        is_gguf(file)
    }

    fn index_of_file(&self, source: &dyn ByteSource, file: &str) -> Result<Index, CheckpointError> {
        let files = match Part::of(file) {
            Some(part) => part.all(),
            None => vec![file.to_owned()],
        };
        let mut opening = Opening::new(source, contents);
        for file in &files {
            opening.add_file(file)?;
        }
        let index = opening.finish()?;
        let first = files.first().map_or(file, String::as_str);
        if let Some(metadata) = &index.metadata {
            check_parts(metadata, files.len(), index.tensors.len())
                .map_err(|problem| refused(problem, source, first))?;
        }
        Ok(index)
    }
}

fn contents(source: &dyn ByteSource, file: &str) -> Result<Contents, CheckpointError> {
    header::read(source, file).map_err(|problem| refused(problem, source, file))
}

/// Whether the first file says that there are as many parts as were read.
fn check_parts(metadata: &Metadata, files: usize, tensors: usize) -> Result<(), Problem> {
    let said = metadata.number("split.count").filter(|count| *count > 0);
    let files = files as u64;
    if said.unwrap_or(1) != files {
        let rule = match said {
            Some(said) => format!("its name says {files} and the file says {said}"),
            None => format!("its name says {files} and the file says nothing of it"),
        };
        return Err(GgufError::Split { rule }.into());
    }
    match metadata.number("split.tensors.count") {
        Some(said) if said != tensors as u64 => {
            let rule = format!("all together have {tensors} tensors, not {said}");
            Err(GgufError::Split { rule }.into())
        }
        _ => Ok(()),
    }
}

/// The texts of a list of the first file.
pub(crate) fn texts(
    source: &dyn ByteSource,
    file: &str,
    list: &List,
) -> Result<Vec<String>, CheckpointError> {
    Cursor::from(source, file, list.start)
        .and_then(|mut cursor| list.texts(&mut cursor))
        .map_err(|problem| refused(problem, source, file))
}

/// The numbers of a list of the first file.
pub(crate) fn numbers(
    source: &dyn ByteSource,
    file: &str,
    list: &List,
) -> Result<Vec<f64>, CheckpointError> {
    Cursor::from(source, file, list.start)
        .and_then(|mut cursor| list.numbers(&mut cursor))
        .map_err(|problem| refused(problem, source, file))
}

/// The name of a part: `NAME-00001-of-00003.gguf`.
struct Part<'n> {
    name: &'n str,
    number: u64,
    count: u64,
}

impl<'n> Part<'n> {
    fn of(file: &'n str) -> Option<Self> {
        let (rest, count) = file.strip_suffix(ENDING)?.rsplit_once("-of-")?;
        let (name, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            let plain = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (number, count) = (digits(number)?, digits(count)?);
        let is = (1..=MAX_PARTS).contains(&count) && (1..=count).contains(&number);
        is.then_some(Self {
            name,
            number,
            count,
        })
    }

    /// The names of all parts.
    fn all(&self) -> Vec<String> {
        let Self { name, count, .. } = self;
        let names = (1..=*count).map(|number| format!("{name}-{number:05}-of-{count:05}{ENDING}"));
        names.collect()
    }
}
