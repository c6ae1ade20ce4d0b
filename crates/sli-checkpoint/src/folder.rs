//! The place where the small files of a model are read, and the record of what was read.
//!
//! Whatever decides a result beside the weights (configuration, tokenizer, templates, pooling) is read
//! through a [`ModelFolder`]. It remembers every name that anybody asked for with a hash of what it held,
//! or that it was not there: from this record the key of a run is made, so that no file can be forgotten.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::{ByteSource, LocalSource, SourceError, Within, is_inside};

/// A file of a model that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refused or failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is elsewhere and cannot be had from there.
    #[error(transparent)]
    Elsewhere(SourceError),
    /// The file is not what it should be.
    #[error("{}: {problem}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// What was found under a name: a hash of the content, or `None` where there is no such file.
pub type Found = Option<String>;

/// The folder of a model, wherever its files are. Copies share the record.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    source: Arc<dyn ByteSource>,
    /// For messages.
    path: PathBuf,
    /// What stands in front of its names in the record and for the source: where it lies in the folder that
    /// these are of.
    prefix: String,
    record: Arc<Mutex<BTreeMap<String, Found>>>,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for ModelFolder {
    fn from(path: &P) -> Self {
        Self::new(path.as_ref())
    }
}

impl From<&ModelFolder> for ModelFolder {
    fn from(folder: &ModelFolder) -> Self {
        folder.clone()
    }
}

impl From<PathBuf> for ModelFolder {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

impl ModelFolder {
    /// A folder of this machine, of which nothing has been read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::at(Arc::new(LocalSource::new(&path)), path)
    }

    /// The folder that a source is of; `path` stands for it in messages.
    pub fn at(source: Arc<dyn ByteSource>, path: impl Into<PathBuf>) -> Self {
        Self {
            source,
            path: path.into(),
            prefix: String::new(),
            record: Arc::default(),
        }
    }

    /// A folder inside this one, with the same record; `""` is this one.
    pub fn inner(&self, folder: &str) -> Result<Self, FolderError> {
        let mut inner = self.clone();
        if !folder.is_empty() {
            self.place(folder)?;
            inner.path = self.path.join(folder);
            inner.prefix = format!("{}{folder}/", self.prefix);
        }
        Ok(inner)
    }

    /// What its weights are read from. Other files are read through this type.
    pub fn source(&self) -> Arc<dyn ByteSource> {
        if self.prefix.is_empty() {
            Arc::clone(&self.source)
        } else {
            Arc::new(Within::new(Arc::clone(&self.source), &self.prefix))
        }
    }

    /// The folder itself, for messages and for what is beside the model. Read its files through this type.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file, for messages.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// The content of a regular file of at most `limit` bytes, `None` if there is none. `name` is relative
    /// to the folder and uses `/`.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, FolderError> {
        let Some(mut reader) = self.regular(name, limit)? else {
            return Ok(None);
        };
        let mut bytes = vec![0; reader.length as usize];
        reader
            .read_exact(&mut bytes)
            .map_err(|source| self.failed(name, source))?;
        self.note(name, Some(short(&blake3::hash(&bytes))))?;
        Ok(Some(bytes))
    }

    /// A regular file of at most `limit` bytes to read as a stream, `None` if there is none.
    pub fn open(&self, name: &str, limit: u64) -> Result<Option<FileReader>, FolderError> {
        let Some(mut reader) = self.regular(name, limit)? else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(&mut reader)
            .map_err(|source| self.failed(name, source))?;
        self.note(name, Some(short(&hasher.finalize())))?;
        reader.rewind();
        Ok(Some(reader))
    }

    /// Whether there is a regular file of this name; what it holds is not looked at.
    pub fn has(&self, name: &str) -> Result<bool, FolderError> {
        let place = self.place(name)?;
        match self.source.len(&place) {
            Ok(_) => return Ok(true),
            Err(SourceError::NotFound { .. } | SourceError::NotAFile { .. }) => {}
            Err(error) => return Err(self.unreadable(name, error)),
        }
        self.note(name, None)?;
        Ok(false)
    }

    /// The names of the files in a folder of it (`""` for itself), sorted; empty where there is none.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, FolderError> {
        let place = if folder.is_empty() {
            self.prefix.trim_end_matches('/').to_owned()
        } else {
            self.place(folder)?
        };
        let mut names = match self.source.list(&place) {
            Err(SourceError::NotFound { .. }) => Vec::new(),
            other => other.map_err(|error| self.unreadable(folder, error))?,
        };
        names.sort_unstable();
        self.note(&format!("{folder}/"), Some(hash_of_names(&names)))?;
        Ok(names)
    }

    /// Takes a file into the record as if it had been read; a name that ends in `/` is the list of a folder.
    pub fn look(&self, name: &str) -> Result<(), FolderError> {
        if let Some(folder) = name.strip_suffix('/') {
            return self.list(folder).map(drop);
        }
        self.open(name, u64::MAX).map(drop)
    }

    /// Everything that was asked for so far, by name.
    pub fn record(&self) -> BTreeMap<String, Found> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters what was found; a file that another reader found otherwise has changed in between.
    fn note(&self, name: &str, found: Found) -> Result<(), FolderError> {
        let name = format!("{}{name}", self.prefix);
        let mut record = self.lock();
        match record.get(&name) {
            Some(before) if *before != found => Err(FolderError::Unusable {
                path: self
                    .path
                    .join(name.strip_prefix(&self.prefix).unwrap_or(&name)),
                problem: "it changed while it was in use".into(),
            }),
            Some(_) => Ok(()),
            None => {
                record.insert(name, found);
                Ok(())
            }
        }
    }

    /// The name of a file for the source.
    fn place(&self, name: &str) -> Result<String, FolderError> {
        if is_inside(name) {
            return Ok(format!("{}{name}", self.prefix));
        }
        Err(self.unusable(name, "it is outside the folder of the model".into()))
    }

    /// A regular file, from its beginning; that there is none goes into the record.
    fn regular(&self, name: &str, limit: u64) -> Result<Option<FileReader>, FolderError> {
        let file = self.place(name)?;
        match self.source.len(&file) {
            Ok(length) if length > limit => {
                let problem = format!("it is larger than {} MiB", limit >> 20);
                Err(self.unusable(name, problem))
            }
            Ok(length) => Ok(Some(FileReader {
                source: Arc::clone(&self.source),
                file,
                at: 0,
                length,
            })),
            Err(SourceError::NotFound { .. }) => {
                self.note(name, None)?;
                Ok(None)
            }
            Err(error) => Err(self.unreadable(name, error)),
        }
    }

    fn unreadable(&self, name: &str, error: SourceError) -> FolderError {
        match error {
            SourceError::NotAFile { .. } => self.unusable(name, "it is not a regular file".into()),
            SourceError::Io { error, .. } => self.failed(name, error),
            SourceError::Unmade { problem, .. } => self.unusable(name, problem),
            error @ SourceError::Elsewhere { .. } => FolderError::Elsewhere(error),
            other => self.failed(name, io::Error::other(other)),
        }
    }

    fn failed(&self, name: &str, source: io::Error) -> FolderError {
        let source = match source.downcast() {
            Ok(error @ SourceError::Elsewhere { .. }) => return FolderError::Elsewhere(error),
            Ok(other) => io::Error::other(other),
            Err(source) => source,
        };
        FolderError::Io {
            path: self.path.join(name),
            source,
        }
    }

    fn unusable(&self, name: &str, problem: String) -> FolderError {
        FolderError::Unusable {
            path: self.path.join(name),
            problem,
        }
    }
}

/// Reads a file of a model from its beginning to its end.
#[derive(Debug)]
pub struct FileReader {
    source: Arc<dyn ByteSource>,
    file: String,
    at: u64,
    length: u64,
}

impl FileReader {
    /// Goes back to the beginning.
    pub fn rewind(&mut self) {
        self.at = 0;
    }
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = (self.length - self.at).min(out.len() as u64) as usize;
        let (out, _) = out.split_at_mut(count);
        if count > 0 {
            let read = self.source.read_at(&self.file, self.at, out);
            read.map_err(|error| match error {
                SourceError::Io { error, .. } => error,
                other => io::Error::other(other),
            })?;
        }
        self.at += count as u64;
        Ok(count)
    }
}

fn hash_of_names(names: &[String]) -> String {
    short(&blake3::hash(names.join("\0").as_bytes()))
}

/// 128 bits of a hash are enough to tell contents apart.
pub(crate) fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn what_is_asked_for_is_on_record() {
        let place = tempfile::tempdir().unwrap();
        fs_err::create_dir(place.path().join("1_Pooling")).unwrap();
        fs_err::write(place.path().join("config.json"), "{}").unwrap();
        fs_err::write(place.path().join("1_Pooling/config.json"), "[]").unwrap();
        let folder = ModelFolder::from(place.path());
        let copy = folder.clone();
        assert_eq!(folder.read("config.json", 9).unwrap().unwrap(), b"{}");
        assert_eq!(copy.read("absent.json", 9).unwrap(), None);
        assert_eq!(copy.read("config.json/x", 9).unwrap(), None);
        let mut text = String::new();
        let mut file = copy.open("1_Pooling/config.json", 9).unwrap().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[]");
        assert_eq!(copy.list("").unwrap(), ["config.json"]);
        assert_eq!(copy.list("1_Pooling").unwrap(), ["config.json"]);
        assert_eq!(copy.list("2_Dense").unwrap(), [""; 0]);
        let record = folder.record();
        let names: Vec<&str> = record.keys().map(String::as_str).collect();
        let all = [
            "/",
            "1_Pooling/",
            "1_Pooling/config.json",
            "2_Dense/",
            "absent.json",
            "config.json",
            "config.json/x",
        ];
        assert_eq!(names, all);
        assert_eq!(record["absent.json"], None);
        let again = ModelFolder::from(place.path());
        for name in all {
            again.look(name).unwrap();
        }
        assert_eq!(again.record(), record);
    }

    #[test]
    fn a_folder_inside_shares_the_record() {
        let place = tempfile::tempdir().unwrap();
        fs_err::create_dir(place.path().join("0_Transformer")).unwrap();
        fs_err::write(place.path().join("0_Transformer/config.json"), "{}").unwrap();
        let home = ModelFolder::from(place.path());
        let inner = home.inner("0_Transformer").unwrap();
        assert!(inner.read("config.json", 9).unwrap().is_some());
        assert!(!home.inner("").unwrap().has("config.json").unwrap());
        let record = home.record();
        let names: Vec<&str> = record.keys().map(String::as_str).collect();
        assert_eq!(names, ["0_Transformer/config.json", "config.json"]);
        assert!(home.inner("../elsewhere").is_err());
    }

    #[test]
    fn a_folder_is_wherever_its_source_is() {
        let source = MemorySource::new()
            .with("config.json", *b"{}")
            .with("0_Transformer/config.json", *b"[]")
            .with("0_Transformer/model.safetensors", *b"weights");
        let home = ModelFolder::at(Arc::new(source), "memory");
        assert_eq!(home.read("config.json", 9).unwrap().unwrap(), b"{}");
        let inner = home.inner("0_Transformer").unwrap();
        assert_eq!(inner.read("config.json", 9).unwrap().unwrap(), b"[]");
        assert_eq!(
            inner.list("").unwrap(),
            ["config.json", "model.safetensors"]
        );
        assert_eq!(inner.source().len("model.safetensors").unwrap(), 7);
        let error = inner.read("model.safetensors", 3).unwrap_err();
        assert!(
            error.to_string().starts_with("memory/0_Transformer/"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let folder = ModelFolder::from(place.path());
        fs_err::write(place.path().join("config.json"), "{  }").unwrap();
        fs_err::create_dir(place.path().join("tokenizer.json")).unwrap();
        for (name, limit, says) in [
            ("config.json", 3, "larger"),
            ("tokenizer.json", 9, "regular"),
            ("../config.json", 9, "outside"),
            ("/etc/passwd", 9, "outside"),
        ] {
            let error = folder.read(name, limit).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        folder.read("config.json", 9).unwrap();
        fs_err::write(place.path().join("config.json"), "{ 1}").unwrap();
        let error = folder.read("config.json", 9).unwrap_err().to_string();
        assert!(error.contains("changed while"), "{error}");
    }
}
