//! Writing files so that a power cut, a kill or a full disk leaves either the old file or the new one.
//!
//! Everything the journal and the results change on disk goes through a [`Disk`]. [`Disk::real`] is the
//! machine's; [`Disk::limited`] and [`Disk::crashing_after`] are the same with a fault built in, so that
//! tests meet a full disk or a kill at every single operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err::os::unix::fs::FileExt;
use fs_err::{File, OpenOptions};

use crate::bytes::human;

/// A file could not be written, read or moved.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The device, or the user's quota on it, is full.
    #[error(
        "no space left on the device for {} ({})",
        path.display(),
        needed_text(*.needed)
    )]
    Full {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes that the file was to have at least; 0 if unknown.
        needed: u64,
    },
    /// Anything else; the error names the operation and the path.
    #[error(transparent)]
    Io(io::Error),
}

fn needed_text(bytes: u64) -> String {
    match bytes {
        0 => "of unknown size".to_owned(),
        _ => format!("it needs at least {}", human(bytes)),
    }
}

impl DiskError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Full { .. } => {
                "free some space and run the same command again: it continues where it stopped"
            }
            Self::Io(error) => io_hint(error.kind()),
        }
        .into()
    }

    /// The exit code of the program: 5, input or output failed.
    pub fn exit_code(&self) -> i32 {
        5
    }
}

/// What can be done about an error of the file system in the output folder.
fn io_hint(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind;
    match kind {
        ErrorKind::FileTooLarge => {
            "raise the limit of file sizes (ulimit -f) and run the same command again: it continues where it \
             stopped"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "choose a folder for `--out` where you may write"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::NotFound => {
            "choose for `--out` what is a folder or can become one"
        }
        ErrorKind::InvalidFilename => "choose a shorter name for `--out`",
        _ => {
            "once the file system works, run the same command again: it continues where it stopped"
        }
    }
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        match error.downcast::<NoSpace>() {
            Ok(NoSpace { path, needed }) => Self::Full { path, needed },
            Err(error) if is_full(&error) => Self::Full {
                path: PathBuf::from("(unnamed)"),
                needed: 0,
            },
            Err(error) => Self::Io(error),
        }
    }
}

/// Travels inside an [`io::Error`] through writers that know no other error type.
#[derive(Debug, thiserror::Error)]
#[error("no space left on the device for {}", path.display())]
struct NoSpace {
    path: PathBuf,
    needed: u64,
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Adds path and size to an error that says that the disk is full.
fn name_if_full(error: io::Error, path: &Path, needed: u64) -> io::Error {
    let named = error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<NoSpace>);
    if is_full(&error) && !named {
        io::Error::new(
            error.kind(),
            NoSpace {
                path: path.to_owned(),
                needed,
            },
        )
    } else if error.kind() == io::ErrorKind::FileTooLarge && error.get_ref().is_none() {
        let problem = format!("cannot write {}: {error}", path.display());
        io::Error::new(error.kind(), problem)
    } else {
        error
    }
}

/// The only way to the file system for the journal and the results.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    fault: Option<Arc<Mutex<Fault>>>,
}

/// What a faulty disk still does.
#[derive(Debug)]
struct Fault {
    /// Bytes by which files may still grow.
    room: u64,
    /// Operations until the machine stops.
    operations: u64,
    /// What a loss of power would take with it, if that is what stops the machine.
    volatile: Option<Volatile>,
}

/// Changes that were not made durable.
#[derive(Debug, Default)]
struct Volatile {
    /// Byte ranges of files, by path.
    content: BTreeMap<PathBuf, Vec<Range<u64>>>,
    /// New files whose folder does not know them yet.
    names: BTreeSet<PathBuf>,
}

impl Volatile {
    /// Makes a file that was never made durable what a real disk makes of it: anything.
    fn lose(self) -> io::Result<()> {
        for (path, ranges) in self.content {
            let Ok(file) = OpenOptions::new().write(true).open(path) else {
                continue;
            };
            let length = file.metadata()?.len();
            for range in ranges {
                let end = range.end.min(length);
                let garbage = vec![0xA5; end.saturating_sub(range.start) as usize];
                file.write_all_at(&garbage, range.start)?;
            }
        }
        self.names
            .iter()
            .try_for_each(|path| ignore_missing(fs_err::remove_file(path)))
    }
}

impl Disk {
    /// The file system as it is.
    pub fn real() -> Self {
        Self::default()
    }

    /// A disk on which files may grow by `bytes` in total before it is full.
    pub fn limited(bytes: u64) -> Self {
        Self::faulty(bytes, u64::MAX, None)
    }

    /// A process that is killed after `operations` changes; a write that it is killed in is half done.
    pub fn crashing_after(operations: u64) -> Self {
        Self::faulty(u64::MAX, operations, None)
    }

    /// A machine whose power fails after `operations` changes: what was not made durable by then is garbage,
    /// and new files whose folder was not made durable are gone.
    pub fn losing_power_after(operations: u64) -> Self {
        Self::faulty(u64::MAX, operations, Some(Volatile::default()))
    }

    fn faulty(room: u64, operations: u64, volatile: Option<Volatile>) -> Self {
        let fault = Fault {
            room,
            operations,
            volatile,
        };
        Self {
            fault: Some(Arc::new(Mutex::new(fault))),
        }
    }

    /// Operations that [`Disk::crashing_after`] has left.
    pub fn operations_left(&self) -> u64 {
        self.with_fault(|fault| fault.operations)
            .unwrap_or(u64::MAX)
    }

    fn with_fault<T>(&self, look: impl FnOnce(&mut Fault) -> T) -> Option<T> {
        let fault = self.fault.as_ref()?;
        Some(look(
            &mut fault.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// Counts one change; `Err` once the simulated machine has stopped.
    fn step(&self) -> io::Result<()> {
        self.with_fault(|fault| {
            if let Some(left) = fault.operations.checked_sub(1) {
                fault.operations = left;
                return Ok(());
            }
            fault.volatile.take().map_or(Ok(()), Volatile::lose)?;
            Err(stopped())
        })
        .unwrap_or(Ok(()))
    }

    /// Notes a change that a loss of power would undo, or that it no longer would.
    fn note(&self, change: impl FnOnce(&mut Volatile)) {
        self.with_fault(|fault| fault.volatile.as_mut().map(change));
    }

    /// Takes the room by which a file grows from `old` to `new` bytes, or all there is and fails.
    fn grow(&self, old: u64, new: u64) -> Result<(), u64> {
        self.with_fault(|fault| {
            let wanted = new.saturating_sub(old);
            let granted = wanted.min(fault.room);
            fault.room -= granted;
            if granted < wanted {
                Err(granted)
            } else {
                Ok(())
            }
        })
        .unwrap_or(Ok(()))
    }

    fn give_back(&self, bytes: u64) {
        self.with_fault(|fault| fault.room = fault.room.saturating_add(bytes));
    }

    /// A new empty file for writing and reading; an old one of that name is emptied.
    pub fn create(&self, path: &Path) -> Result<DiskFile, DiskError> {
        self.step()?;
        if !path.exists() {
            self.note(|volatile| volatile.names.extend([path.to_owned()]));
        }
        let old = fs_err::metadata(path).map_or(0, |metadata| metadata.len());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path);
        let file = file.map_err(|error| name_if_full(error, path, 0))?;
        self.give_back(old);
        Ok(DiskFile {
            file,
            disk: self.clone(),
            position: 0,
        })
    }

    /// An existing file for writing and reading, positioned at its start.
    pub fn open(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(DiskFile {
            file,
            disk: self.clone(),
            position: 0,
        })
    }

    /// A folder, with its parents, and durably so.
    pub fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        if path.is_dir() {
            return Ok(());
        }
        self.step()?;
        fs_err::create_dir_all(path).map_err(|error| name_if_full(error, path, 0))?;
        match path.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Moves a file over whatever has the new name, and makes both folders durable.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.step()?;
        let old = fs_err::metadata(to).map_or(0, |metadata| metadata.len());
        fs_err::rename(from, to).map_err(|error| name_if_full(error, to, 0))?;
        self.give_back(old);
        self.note(|volatile| {
            volatile.names.remove(from);
            if let Some(ranges) = volatile.content.remove(from) {
                volatile.content.insert(to.to_owned(), ranges);
            }
        });
        let (source, target) = (folder_of(from), folder_of(to));
        self.sync_dir(target)?;
        if source == target {
            Ok(())
        } else {
            self.sync_dir(source)
        }
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.step()?;
        let old = fs_err::metadata(path).map_or(0, |metadata| metadata.len());
        ignore_missing(fs_err::remove_file(path))?;
        self.give_back(old);
        Ok(())
    }

    /// Removes a folder that is empty; one that is not there, or not empty, is left alone.
    pub fn remove_dir_if_empty(&self, path: &Path) -> Result<(), DiskError> {
        self.step()?;
        match fs_err::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => Ok(ignore_missing(other)?),
        }
    }

    /// Makes the names in a folder durable.
    pub fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.step()?;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        if self.fault.is_some() {
            self.note(|volatile| volatile.names.retain(|name| folder_of(name) != path));
            return Ok(());
        }
        Ok(File::open(path)?.sync_all()?)
    }

    /// Writes a file under a temporary name in the same folder, makes it durable and gives it its name.
    ///
    /// Readers see the old content or the new, never a part. The temporary name is `.<name>.tmp`: one
    /// that a kill left behind is overwritten by the next attempt.
    pub fn write_atomic(
        &self,
        path: &Path,
        write: impl FnOnce(&mut BufWriter<DiskFile>) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let temporary = temporary_name(path);
        let outcome = self.write_durable(&temporary, write);
        if outcome.is_err() {
            // Best effort: the room it takes may be what is missing.
            let _ = self.remove_file(&temporary);
        }
        outcome.map_err(|error| match error {
            DiskError::Full { needed, .. } => DiskError::Full {
                path: path.to_owned(),
                needed,
            },
            other @ DiskError::Io(_) => other,
        })?;
        self.rename(&temporary, path)
    }

    /// Writes a file and makes its content durable, under its own name from the start.
    pub fn write_durable(
        &self,
        path: &Path,
        write: impl FnOnce(&mut BufWriter<DiskFile>) -> io::Result<()>,
    ) -> Result<(), DiskError> {
        let mut writer = BufWriter::with_capacity(1 << 16, self.create(path)?);
        write(&mut writer)?;
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync()
    }
}

/// [`Disk::write_atomic`] on the real disk.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<DiskFile>) -> io::Result<()>,
) -> Result<(), DiskError> {
    Disk::real().write_atomic(path, write)
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// An open file of a [`Disk`]: sequential through [`Write`], anywhere through [`DiskFile::write_all_at`].
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    disk: Disk,
    position: u64,
}

impl DiskFile {
    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Length in bytes.
    pub fn length(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata()?.len())
    }

    /// Moves the position at which [`Write`] continues.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// Reads exactly `buffer.len()` bytes at `offset`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        Ok(self.file.read_exact_at(buffer, offset)?)
    }

    /// Writes all of `bytes` at `offset`; several threads may do so at once.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        Ok(self.write_at_io(bytes, offset)?)
    }

    fn write_at_io(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if self.disk.fault.is_some() {
            self.disk.step()?;
            self.disk.note(|volatile| {
                let ranges = volatile.content.entry(self.path().to_owned()).or_default();
                ranges.push(offset..end);
            });
            if self.disk.operations_left() == 0 {
                self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                return self.disk.step();
            }
            let length = self.file.metadata()?.len();
            if let Err(granted) = self.disk.grow(length, end) {
                let fits = (length + granted)
                    .saturating_sub(offset)
                    .min(bytes.len() as u64);
                self.file.write_all_at(&bytes[..fits as usize], offset)?;
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(name_if_full(full, self.path(), end));
            }
        }
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| name_if_full(error, self.path(), end))
    }

    /// Takes the space of a file of `length` bytes now, so that a full disk shows before the work.
    ///
    /// Where the file system cannot do that, the file only gets its length.
    pub fn reserve(&self, length: u64) -> Result<(), DiskError> {
        self.disk.step()?;
        if self.disk.grow(self.length()?, length).is_err() {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(name_if_full(full, self.path(), length).into());
        }
        if length > 0
            && allocate(&self.file, length)
                .map_err(|error| name_if_full(error, self.path(), length))?
        {
            return Ok(());
        }
        Ok(self.file.set_len(length)?)
    }

    /// Cuts the file off after `length` bytes (or lengthens it with zeros).
    pub fn set_length(&self, length: u64) -> Result<(), DiskError> {
        self.disk.step()?;
        let old = self.length()?;
        self.file
            .set_len(length)
            .map_err(|error| name_if_full(error, self.path(), length))?;
        self.disk.give_back(old.saturating_sub(length));
        Ok(())
    }

    /// Returns once the content and length are on the device.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.disk.step()?;
        if self.disk.fault.is_some() {
            self.disk
                .note(|volatile| drop(volatile.content.remove(self.path())));
            return Ok(());
        }
        let synced = self.file.sync_all();
        Ok(synced.map_err(|error| name_if_full(error, self.path(), 0))?)
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_at_io(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the file system allocated the blocks.
#[cfg(target_os = "linux")]
fn allocate(file: &File, length: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file.file(), FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"half of the n")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs_err::read(&path).unwrap(), b"old");
        assert_eq!(
            fs_err::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
        write_atomic(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_full_disk_names_path_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let disk = Disk::limited(100);
        disk.write_atomic(&path, |w| w.write_all(&[1; 60])).unwrap();
        // The old file goes once the new one is there, so replacing needs room for both.
        let error = disk
            .write_atomic(&path, |w| w.write_all(&[2; 60]))
            .unwrap_err();
        let DiskError::Full {
            path: named,
            needed,
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!((named, *needed), (&path, 60));
        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("no space left"));
        assert!(!error.hint().is_empty());
        assert_eq!(fs_err::read(&path).unwrap(), [1; 60]);
        disk.remove_file(&path).unwrap();
        disk.write_atomic(&path, |w| w.write_all(&[2; 100]))
            .unwrap();
    }

    #[test]
    fn reserving_takes_the_room_once() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::limited(100);
        let file = disk.create(&folder.path().join("a")).unwrap();
        assert!(matches!(
            file.reserve(200),
            Err(DiskError::Full { needed: 200, .. })
        ));
        let disk = Disk::limited(100);
        let file = disk.create(&folder.path().join("b")).unwrap();
        file.reserve(100).unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        assert!(file.write_all_at(&[7; 2], 99).is_err());
    }

    /// `/dev/full` fails every write as a full device does.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_device_itself_is_full() {
        let file = Disk::real().open(Path::new("/dev/full")).unwrap();
        let error = file.write_all_at(&[0; 10], 0).unwrap_err();
        assert!(matches!(&error, DiskError::Full { path, .. } if path == Path::new("/dev/full")));
    }

    #[test]
    fn a_crash_at_any_operation_leaves_old_or_new() {
        for disk in [Disk::crashing_after, Disk::losing_power_after] {
            let mut operations = 0;
            loop {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("a");
                write_atomic(&path, |w| w.write_all(b"old content")).unwrap();
                let disk = disk(operations);
                let outcome = disk.write_atomic(&path, |w| w.write_all(b"new content"));
                let content = fs_err::read(&path).unwrap();
                assert!(content == b"old content" || content == b"new content");
                if outcome.is_ok() {
                    assert_eq!(content, b"new content");
                    break;
                }
                operations += 1;
            }
            assert!(operations >= 4, "create, write, sync, rename, sync folder");
        }
    }

    #[test]
    fn a_loss_of_power_takes_what_was_not_made_durable() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::losing_power_after(5);
        let (kept, lost) = (folder.path().join("kept"), folder.path().join("lost"));
        let file = disk.create(&kept).unwrap();
        file.write_all_at(b"safe", 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(folder.path()).unwrap();
        disk.create(&lost).unwrap();
        assert!(file.write_all_at(b"x", 0).is_err());
        assert_eq!(fs_err::read(&kept).unwrap(), b"safe");
        assert!(!lost.exists());
    }
}
