//! The files of a dataset: those that are named, those of a folder, those that a pattern fits.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::compressed::Compression;
use super::error::{InputError, wrong_file};
use super::jsonl::JsonlReader;
use super::numbering::Numbering;
use super::parquet::ParquetReader;
use super::raw::{RawRecord, Selection};
use super::renames::Renames;
use super::signature::{self, Format};
use super::text::TextReader;
use crate::memory::Allowance;

/// The records of a dataset.
pub type Records = Box<dyn Iterator<Item = Result<RawRecord, InputError>>>;

/// What a folder's files are taken by, the first that it has any of: `.json` may be a description beside records.
const IN_FOLDERS: [&[&str]; 4] = [&["parquet"], &["jsonl", "ndjson"], &["json"], &["txt"]];

/// The files of a dataset in the order of their records, and what their columns stand for.
#[derive(Clone, Debug)]
pub struct Dataset {
    files: Vec<PathBuf>,
    /// What columns stand for.
    pub renames: Arc<Renames>,
}

impl Dataset {
    /// One file.
    pub fn file(path: &Path) -> Result<Self, InputError> {
        Self::find(&[path.to_path_buf()], Renames::default())
    }

    /// The files that are named: a folder stands for its files, a pattern with `*`, `?` or `[` for those that it fits,
    /// both in the order of their names.
    pub fn find(named: &[PathBuf], renames: Renames) -> Result<Self, InputError> {
        let mut files = Vec::new();
        for path in named {
            if path.is_dir() {
                files.extend(of_folder(path)?);
            } else if let Some(pattern) = pattern(path) {
                files.extend(matches(path, pattern)?);
            } else {
                files.push(path.clone());
            }
        }
        for file in &files {
            format(file)?;
        }
        Ok(Self {
            files,
            renames: Arc::new(renames),
        })
    }

    /// Its files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// For messages about all of it: its first file.
    pub fn first(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The extensions that tell the formats of its files, one after another where they are not all the same.
    pub fn extensions(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        for file in &self.files {
            let (plain, compression) = extension(file);
            let compressed =
                compression.map_or_else(String::new, |_| format!(".{}", lower(file.extension())));
            let whole = format!("{plain}{compressed}");
            if all.last() != Some(&whole) {
                all.push(whole);
            }
        }
        all.join(" ")
    }

    /// Its records, which may hold what the allowance says.
    pub fn open(&self, allowance: &Allowance, selection: Selection) -> Result<Records, InputError> {
        let mut reading = OneByOne {
            files: self.files.clone().into_iter(),
            current: None,
            numbering: Rc::default(),
            renames: Arc::clone(&self.renames),
            allowance: allowance.clone(),
            selection,
        };
        // What is wrong with the first one is said at once.
        reading.current = reading.next_file().transpose()?;
        Ok(Box::new(reading))
    }
}

/// Files one after another.
struct OneByOne {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<Records>,
    numbering: Rc<RefCell<Numbering>>,
    renames: Arc<Renames>,
    allowance: Allowance,
    selection: Selection,
}

impl OneByOne {
    fn next_file(&mut self) -> Option<Result<Records, InputError>> {
        let path = Arc::new(self.files.next()?);
        Some(self.open(path))
    }

    fn open(&self, path: Arc<PathBuf>) -> Result<Records, InputError> {
        let (format, compression) = format(&path)?;
        let numbering = Rc::clone(&self.numbering);
        let (allowance, selection) = (&self.allowance, self.selection);
        Ok(match format {
            Format::JsonLines => Box::new(JsonlReader::open(
                path,
                compression,
                allowance,
                selection,
                (numbering, Arc::clone(&self.renames)),
            )?),
            Format::Text => Box::new(TextReader::open(path, compression, allowance, numbering)?),
            Format::Parquet => Box::new(ParquetReader::open(
                path,
                allowance,
                selection,
                (numbering, Arc::clone(&self.renames)),
            )?),
        })
    }
}

impl Iterator for OneByOne {
    type Item = Result<RawRecord, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(record) = current.next()
            {
                return Some(record);
            }
            match self.next_file()? {
                Ok(records) => self.current = Some(records),
                Err(error) => {
                    self.files = Vec::new().into_iter();
                    self.current = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The format of a file by its name, which its first bytes do not contradict.
fn format(path: &Path) -> Result<(Format, Option<Compression>), InputError> {
    let metadata = fs_err::metadata(path).map_err(|source| InputError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(wrong_file(
            path,
            "the input is read more than once",
            "give a regular file",
        ));
    }
    let (extension, compression) = extension(path);
    let found = signature::format(&extension).map_err(|(problem, hint)| {
        wrong_file(
            path,
            problem,
            &format!("formats are .jsonl, .txt and .parquet, the first two perhaps with .gz or .zst{hint}"),
        )
    })?;
    match &compression {
        Some(_) if found == Format::Parquet => {
            return Err(wrong_file(
                path,
                "a compressed Parquet file cannot be read by places",
                "unpack it: Parquet is compressed inside",
            ));
        }
        Some(compression) => compression.check(path)?,
        None => signature::check(path, found)?,
    }
    Ok((found, compression))
}

/// The files of a folder that can be read, of one kind.
fn of_folder(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let failed = |source| InputError::Read {
        path: folder.to_path_buf(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']));
        if !is_hidden && path.is_file() {
            names.push(path);
        }
    }
    names.sort();
    let chosen = pick(&names, PathBuf::as_path);
    if chosen.is_empty() {
        return Err(wrong_file(
            folder,
            "the folder has no file of records",
            "give a folder with .parquet, .jsonl or .txt files",
        ));
    }
    Ok(chosen)
}

/// Those of the first kind of files of which there are any.
pub fn pick<T: Clone>(all: &[T], path: impl Fn(&T) -> &Path) -> Vec<T> {
    let of = |kinds: &[&str]| -> Vec<T> {
        let is_one = |item: &&T| kinds.contains(&extension(path(item)).0.as_str());
        all.iter().filter(is_one).cloned().collect()
    };
    let mut found = IN_FOLDERS.iter().map(|kinds| of(kinds));
    found.find(|found| !found.is_empty()).unwrap_or_default()
}

/// The extension of a file without that of its compression.
fn extension(path: &Path) -> (String, Option<Compression>) {
    let whole = lower(path.extension());
    match Compression::of_extension(&whole) {
        None => (whole, None),
        some => (
            lower(path.file_stem().map(Path::new).and_then(Path::extension)),
            some,
        ),
    }
}

fn lower(part: Option<&OsStr>) -> String {
    let part = part.unwrap_or_default().to_ascii_lowercase();
    part.to_string_lossy().into_owned()
}

/// A path that is a pattern, unless there is a file of this name.
fn pattern(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    (text.contains(['*', '?', '[']) && !path.exists()).then_some(text)
}

fn matches(path: &Path, pattern: &str) -> Result<Vec<PathBuf>, InputError> {
    let wrong = |problem: &dyn std::fmt::Display| {
        wrong_file(
            path,
            &format!("the pattern makes no sense: {problem}"),
            "`*` and `?` stand for characters of a name",
        )
    };
    let found = glob::glob(pattern).map_err(|error| wrong(&error))?;
    let mut files = Vec::new();
    for file in found {
        let file = file.map_err(|error| wrong(&error))?;
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(wrong_file(
            path,
            "no file fits the pattern",
            "check the path",
        ));
    }
    Ok(files)
}
