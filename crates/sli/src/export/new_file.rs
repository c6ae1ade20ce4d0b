//! Files that appear when they are complete, and stay as they are.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sli_engine::durable::Disk;

use super::error::ExportError;

/// Writes a file that appears when it is complete; `false`: it is there.
pub fn write_new(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<bool, ExportError> {
    if path.exists() {
        return Ok(false);
    }
    let disk = Disk::real();
    if let Some(parent) = path.parent() {
        disk.create_dir_all(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".incomplete");
    let temporary = PathBuf::from(temporary);
    let mut writer = BufWriter::with_capacity(1 << 16, disk.create(&temporary)?);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(|error| ExportError::from(error.into_error()))?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    Ok(true)
}
