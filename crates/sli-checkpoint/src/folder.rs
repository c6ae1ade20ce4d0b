//! The place where the small files of a model are read, and the record of what was read.
//!
//! Whatever decides a result beside the weights (configuration, tokenizer, templates, pooling) is read
//! through a [`ModelFolder`]. It remembers every name that anybody asked for with a hash of what it held,
//! or that it was not there: from this record the key of a run is made, so that no file can be forgotten.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::is_inside;

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

/// The folder of a model. Copies share the record.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// What stands in front of its names in the record: where it lies in the folder that the record is of.
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
    /// A folder of which nothing has been read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            prefix: String::new(),
            record: Arc::default(),
        }
    }

    /// A folder inside this one, with the same record; `""` is this one.
    pub fn inner(&self, folder: &str) -> Result<Self, FolderError> {
        let mut inner = self.clone();
        if !folder.is_empty() {
            inner.path = self.path_of(folder)?;
            inner.prefix = format!("{}{folder}/", self.prefix);
        }
        Ok(inner)
    }

    /// The folder itself. Read its files through this type, not by their paths.
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
        let Some((path, file)) = self.regular(name, limit)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| failed(&path, source))?;
        if bytes.len() as u64 > limit {
            return Err(too_large(&path, limit));
        }
        self.note(name, Some(short(&blake3::hash(&bytes))))?;
        Ok(Some(bytes))
    }

    /// A regular file of at most `limit` bytes to read as a stream, `None` if there is none.
    pub fn open(&self, name: &str, limit: u64) -> Result<Option<fs_err::File>, FolderError> {
        let Some((path, file)) = self.regular(name, limit)? else {
            return Ok(None);
        };
        self.note(name, Some(hash_of(&path, &file)?))?;
        Ok(Some(file))
    }

    /// Whether there is a regular file of this name; what it holds is not looked at.
    pub fn has(&self, name: &str) -> Result<bool, FolderError> {
        let path = self.path_of(name)?;
        if path.is_file() {
            return Ok(true);
        }
        self.note(name, None)?;
        Ok(false)
    }

    /// The names in a folder of it (`""` for itself), sorted; empty where there is none.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, FolderError> {
        let path = if folder.is_empty() {
            self.path.clone()
        } else {
            self.path_of(folder)?
        };
        let names = names_in(&path)?;
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
                path: self.path.join(&name[self.prefix.len()..]),
                problem: "it changed while it was in use".into(),
            }),
            Some(_) => Ok(()),
            None => {
                record.insert(name, found);
                Ok(())
            }
        }
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        if is_inside(name) {
            return Ok(path);
        }
        Err(FolderError::Unusable {
            path,
            problem: "it is outside the folder of the model".into(),
        })
    }

    /// Opens a regular file; that there is none goes into the record.
    fn regular(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<(PathBuf, fs_err::File)>, FolderError> {
        let path = self.path_of(name)?;
        // Opening a pipe would wait for its other end.
        match fs_err::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Err(FolderError::Unusable {
                path,
                problem: "it is not a regular file".into(),
            }),
            Ok(metadata) if metadata.len() > limit => Err(too_large(&path, limit)),
            Ok(_) => {
                let file = fs_err::File::open(&path).map_err(|source| failed(&path, source))?;
                Ok(Some((path, file)))
            }
            Err(error) if is_absence(&error) => {
                self.note(name, None)?;
                Ok(None)
            }
            Err(source) => Err(failed(&path, source)),
        }
    }
}

/// Whether the error says that there is nothing at the path.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

fn failed(path: &Path, source: io::Error) -> FolderError {
    FolderError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn too_large(path: &Path, limit: u64) -> FolderError {
    FolderError::Unusable {
        path: path.to_path_buf(),
        problem: format!("it is larger than {} MiB", limit >> 20),
    }
}

/// A hash of all of a file, which is then at its beginning again.
fn hash_of(path: &Path, mut file: &fs_err::File) -> Result<String, FolderError> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(file)
        .and_then(|_| io::Seek::rewind(&mut file))
        .map_err(|source| failed(path, source))?;
    Ok(short(&hasher.finalize()))
}

fn names_in(path: &Path) -> Result<Vec<String>, FolderError> {
    let entries = match fs_err::read_dir(path) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        other => other.map_err(|source| failed(path, source))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| failed(path, source))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
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
        assert_eq!(copy.list("").unwrap(), ["1_Pooling", "config.json"]);
        let record = folder.record();
        let names: Vec<&str> = record.keys().map(String::as_str).collect();
        let all = [
            "/",
            "1_Pooling/config.json",
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
