//! Files that appear when they are complete, and over nothing but their like.

use std::fs::Permissions;
use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fs_err::File;

/// Writes a file in one step: it is as it was before, or has all of the content.
pub fn appear(path: &Path, content: &[u8]) -> Result<()> {
    let beside = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(beside)?;
    file.write_all(content)?;
    // Temporary files are for their owner alone.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Whether something is there that does not begin like this: a result, or a file of somebody else.
pub fn is_taken(path: &Path, begin: &str) -> bool {
    let mut found = vec![0; begin.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut found));
    match read {
        Ok(()) => found != begin.as_bytes(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}
