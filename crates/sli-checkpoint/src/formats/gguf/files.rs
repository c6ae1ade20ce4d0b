//! A GGUF file as a folder of the files that a model is otherwise published in.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::tokenizer::{Described, File};
use super::{Metadata, numbers, texts};
use crate::error::CheckpointError;
use crate::source::{ByteSource, SourceError};

const CONFIG: &str = "config.json";
/// What the tokenizer may be made of.
const OTHERS: [&str; 4] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.txt",
];

/// The files that a GGUF file stands for: the configuration, and the tokenizer. One that is asked for is made, and kept
/// until its end was read.
#[derive(Debug)]
pub struct GgufFiles {
    source: Arc<dyn ByteSource>,
    file: String,
    metadata: Metadata,
    config: String,
    kept: Mutex<Option<(String, Arc<Vec<u8>>)>>,
}

impl GgufFiles {
    /// Those of a file of a source, with the text of its configuration.
    pub fn new(
        source: Arc<dyn ByteSource>,
        file: &str,
        metadata: Metadata,
        config: String,
    ) -> Self {
        Self {
            source,
            file: file.to_owned(),
            metadata,
            config,
            kept: Mutex::new(None),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, CheckpointError> {
        let list = self.metadata.lists.get(&format!("tokenizer.ggml.{key}"));
        list.map_or(Ok(Vec::new()), |list| {
            texts(&*self.source, &self.file, list)
        })
    }

    fn numbers(&self, key: &str) -> Result<Vec<f64>, CheckpointError> {
        let key = format!("tokenizer.ggml.{key}");
        if let Some(short) = self.metadata.values.get(&key).and_then(Value::as_array) {
            return Ok(short.iter().filter_map(Value::as_f64).collect());
        }
        let list = self.metadata.lists.get(&key);
        list.map_or(Ok(Vec::new()), |list| {
            numbers(&*self.source, &self.file, list)
        })
    }

    fn tokenizer(&self) -> Result<Vec<File>, CheckpointError> {
        let described = Described {
            metadata: &self.metadata,
            tokens: self.texts("tokens")?,
            scores: self.numbers("scores")?,
            kinds: self.numbers("token_type")?,
            merges: self.texts("merges")?,
            characters: self.numbers("precompiled_charsmap")?,
        };
        described.files().map_err(|problem| CheckpointError::Gguf {
            place: self.source.describe(),
            file: self.file.clone(),
            problem: problem.into(),
        })
    }

    fn content(&self, name: &str) -> Result<Arc<Vec<u8>>, SourceError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, content)) = &*kept
            && known == name
        {
            return Ok(Arc::clone(content));
        }
        // Not two of them at a time.
        *kept = None;
        let content = if name == CONFIG {
            Some(self.config.clone().into_bytes())
        } else if OTHERS.contains(&name) {
            let files = self.tokenizer().map_err(|error| self.unmade(name, error))?;
            let mut files = files.into_iter();
            files
                .find(|(file, _)| *file == name)
                .map(|(_, content)| content)
        } else {
            None
        };
        let content = content.ok_or_else(|| SourceError::NotFound {
            file: name.to_owned(),
            place: self.describe(),
        })?;
        let content = Arc::new(content);
        *kept = Some((name.to_owned(), Arc::clone(&content)));
        Ok(content)
    }

    fn unmade(&self, name: &str, error: CheckpointError) -> SourceError {
        match error {
            CheckpointError::Source(error) => error,
            error => SourceError::Unmade {
                file: name.to_owned(),
                place: self.describe(),
                problem: error.to_string(),
            },
        }
    }
}

impl ByteSource for GgufFiles {
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
        if folder.is_empty() {
            return Ok(vec![CONFIG.to_owned()]);
        }
        Err(SourceError::NotFound {
            file: folder.to_owned(),
            place: self.describe(),
        })
    }

    fn len(&self, file: &str) -> Result<u64, SourceError> {
        Ok(self.content(file)?.len() as u64)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let content = self.content(file)?;
        let end = offset.saturating_add(out.len() as u64);
        let range = offset as usize..end as usize;
        let Some(bytes) = content.get(range) else {
            return Err(SourceError::PastEnd {
                file: file.to_owned(),
                place: self.describe(),
                offset,
                wanted: out.len() as u64,
                size: content.len() as u64,
            });
        };
        out.copy_from_slice(bytes);
        if end == content.len() as u64 {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("{}/{}", self.source.describe(), self.file)
    }
}
