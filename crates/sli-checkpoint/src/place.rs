//! Where a model is: a folder or a single file, on this machine or elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::folder::ModelFolder;
use crate::source::{ByteSource, LocalSource, SourceError, Within};

/// A folder with a model, or one weights file that holds it or lies beside its description.
#[derive(Clone, Debug)]
pub struct ModelPlace {
    source: Arc<dyn ByteSource>,
    /// The folder, for messages.
    folder: PathBuf,
    /// In front of the names of its files in the source that it is inside of.
    inner: String,
    file: Option<String>,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for ModelPlace {
    fn from(path: &P) -> Self {
        Self::local(path.as_ref())
    }
}

impl From<&ModelPlace> for ModelPlace {
    fn from(place: &ModelPlace) -> Self {
        place.clone()
    }
}

impl ModelPlace {
    /// A folder or file of this machine.
    pub fn local(path: &Path) -> Self {
        let parent = path.parent().filter(|_| path.is_file());
        let name = path.file_name().and_then(|name| name.to_str());
        let (folder, file) = match (parent, name) {
            (Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
                (Path::new("."), Some(name))
            }
            (Some(parent), Some(name)) => (parent, Some(name)),
            _ => (path, None),
        };
        Self {
            source: Arc::new(LocalSource::new(folder)),
            folder: folder.to_owned(),
            inner: String::new(),
            file: file.map(str::to_owned),
        }
    }

    /// A folder or file inside a source, `""` for all of it; messages call the source `shown`.
    pub fn elsewhere(
        source: Arc<dyn ByteSource>,
        shown: impl Into<PathBuf>,
        inner: &str,
    ) -> Result<Self, SourceError> {
        let shown = shown.into();
        let inner = inner.trim_matches('/');
        let (folder, file) = if inner.is_empty() {
            ("", None)
        } else if source.exists(inner)? {
            match inner.rsplit_once('/') {
                Some((folder, file)) => (folder, Some(file.to_owned())),
                None => ("", Some(inner.to_owned())),
            }
        } else {
            (inner, None)
        };
        let place = if folder.is_empty() {
            Self {
                source,
                folder: shown,
                inner: String::new(),
                file,
            }
        } else {
            Self {
                folder: shown.join(folder),
                source: Arc::new(Within::new(source, folder)),
                inner: format!("{folder}/"),
                file,
            }
        };
        Ok(place)
    }

    /// The folder.
    pub fn folder(&self) -> ModelFolder {
        ModelFolder::at(Arc::clone(&self.source), &self.folder)
    }

    /// What its files are read from.
    pub fn source(&self) -> &Arc<dyn ByteSource> {
        &self.source
    }

    /// What stands in front of the names of its files in the source that it is inside of.
    pub fn inner(&self) -> &str {
        &self.inner
    }

    /// The single file that was named.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// What was named, for messages.
    pub fn path(&self) -> PathBuf {
        match &self.file {
            Some(file) => self.folder.join(file),
            None => self.folder.clone(),
        }
    }
}
