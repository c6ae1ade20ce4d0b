//! Files in memory, for tests and for checkpoints that are made rather than read.

use std::collections::BTreeMap;

use super::{ByteSource, SourceError, check_name};

/// Files held in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    files: BTreeMap<String, Vec<u8>>,
}

impl MemorySource {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a file.
    #[must_use]
    pub fn with(mut self, file: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(file.into(), content.into());
        self
    }

    fn content(&self, file: &str) -> Result<&[u8], SourceError> {
        check_name(file, || self.describe())?;
        self.files
            .get(file)
            .map(Vec::as_slice)
            .ok_or_else(|| SourceError::NotFound {
                file: file.to_owned(),
                place: self.describe(),
            })
    }
}

impl ByteSource for MemorySource {
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
        let inside = |name: &&str| !name.contains('/');
        if folder.is_empty() {
            let names = self.files.keys().map(String::as_str).filter(inside);
            return Ok(names.map(str::to_owned).collect());
        }
        check_name(folder, || self.describe())?;
        let within = self.files.keys().filter_map(|name| {
            let rest = name.strip_prefix(folder)?;
            rest.strip_prefix('/')
        });
        let all: Vec<&str> = within.collect();
        if all.is_empty() {
            return Err(SourceError::NotFound {
                file: folder.to_owned(),
                place: self.describe(),
            });
        }
        let names = all.into_iter().filter(inside);
        Ok(names.map(str::to_owned).collect())
    }

    fn len(&self, file: &str) -> Result<u64, SourceError> {
        Ok(self.content(file)?.len() as u64)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let content = self.content(file)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(out.len())?))
            .and_then(|range| content.get(range));
        let Some(bytes) = range else {
            return Err(SourceError::PastEnd {
                file: file.to_owned(),
                place: self.describe(),
                offset,
                wanted: out.len() as u64,
                size: content.len() as u64,
            });
        };
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
