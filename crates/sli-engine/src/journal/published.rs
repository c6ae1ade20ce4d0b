//! Results that get their names, and the end of a run.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use serde::Serialize;
use serde_json::Value;

use super::clearing::remove_work;
use super::error::JournalError;
use super::files::MANIFEST;
use super::folder::OutputFolder;
use super::manifest::{Manifest, ResultFile};
use crate::durable::DiskError;
use crate::fingerprint::{self, Fingerprinted};

/// What a result file is written through, from its beginning to its end.
pub type ResultWriter = BufWriter<Fingerprinted>;

impl OutputFolder {
    /// Moves a complete and durable file of the work folder to its name in the output folder.
    ///
    /// A file that an earlier attempt has moved already is only entered in the manifest. `hash`: blake3 of its
    /// content.
    pub fn publish(
        &mut self,
        partial: &Path,
        name: &str,
        hash: String,
    ) -> Result<(), JournalError> {
        self.announce(name)?;
        let target = self.folder.join(name);
        if let Some(parent) = target.parent() {
            self.disk.create_dir_all(parent)?;
        }
        if partial.exists() || !target.exists() {
            self.disk.rename(partial, &target)?;
        }
        let bytes = fs_err::metadata(&target)?.len();
        self.published.push(ResultFile {
            name: name.to_owned(),
            bytes,
            blake3: Some(hash),
        });
        Ok(())
    }

    /// Writes a whole result file, durably, and publishes it.
    pub fn publish_new<E: From<JournalError>>(
        &mut self,
        name: &str,
        write: impl FnOnce(ResultWriter) -> Result<ResultWriter, E>,
    ) -> Result<(), E> {
        self.announce(name)?;
        let partial = partial_path(&self.work, name);
        let create = || {
            Ok(BufWriter::with_capacity(
                1 << 16,
                Fingerprinted::new(self.disk.create(&partial)?),
            ))
        };
        let writer = write(create().map_err(|error: DiskError| JournalError::from(error))?)?;
        let close = || {
            let file = writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            file.finish()
        };
        let hash = close().map_err(JournalError::from)?;
        Ok(self.publish(&partial, name, hash)?)
    }

    /// Enters a result that an earlier process has published into the manifest; whether there is one.
    pub(crate) fn publish_again(&mut self, name: &str) -> Result<bool, JournalError> {
        let shared = self
            .shared
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let target = self.folder.join(name);
        if !shared.durable_results.contains(name) || !target.is_file() {
            return Ok(false);
        }
        let hash = fingerprint::of_file(&target)?;
        let partial = partial_path(&self.work, name);
        self.disk.remove_file(&partial)?;
        self.publish(&partial, name, hash)?;
        Ok(true)
    }

    /// Makes sure that the state lists a name before a file of that name is in the output folder.
    fn announce(&mut self, name: &str) -> Result<(), JournalError> {
        let shared = self
            .shared
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if shared.durable_results.contains(name) {
            return Ok(());
        }
        shared.results.insert(name.to_owned());
        self.checkpoint()
    }

    /// Ends the run: writes `run.json` with the members of `manifest`, the key and the files published, and
    /// removes the work folder.
    pub fn finish(mut self, manifest: Value) -> Result<Manifest, JournalError> {
        self.published.sort_by(|a, b| a.name.cmp(&b.name));
        let mut json = serde_json::Map::new();
        json.insert("sli".into(), env!("CARGO_PKG_VERSION").into());
        json.insert("key".into(), to_value(&self.key));
        json.insert("files".into(), to_value(&self.published));
        if let Value::Object(members) = manifest {
            for (name, value) in members {
                json.entry(name).or_insert(value);
            }
        }
        let json = Value::Object(json);
        let partial = self.work.join(format!("{MANIFEST}.partial"));
        self.disk.write_durable(&partial, |writer| {
            serde_json::to_writer_pretty(&mut *writer, &json)?;
            writer.write_all(b"\n")
        })?;
        self.disk.rename(&partial, &self.folder.join(MANIFEST))?;
        remove_work(&self.disk, &self.folder, &self.work)?;
        Ok(Manifest {
            json,
            key: self.key,
            files: self.published,
        })
    }
}

/// Where the partial file of the result `name` is.
pub(crate) fn partial_path(work: &Path, name: &str) -> PathBuf {
    work.join(format!("{}.partial", name.replace('/', "-")))
}

pub(super) fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
