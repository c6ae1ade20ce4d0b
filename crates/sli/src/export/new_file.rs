//! Files that appear when they are complete, and stay as they are.

use std::io::{self, Write};
use std::path::Path;

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
    // What went wrong with its content is more than an error of the disk.
    let mut problem = None;
    let written = disk.write_atomic(path, |out| {
        write(out).map_err(|error| {
            problem = Some(error);
            io::Error::other("what is to be written cannot be had")
        })
    });
    match problem {
        Some(error) => Err(error),
        None => Ok(written.map(|()| true)?),
    }
}
