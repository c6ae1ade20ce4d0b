//! Compressed files of lines, which are unpacked as they are read.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use fs_err::File;

use super::error::{InputError, wrong_file};
use super::place::{Place, Position};
use crate::memory::Allowance;

/// The largest window that a file may ask for, as a power of two: what `zstd` itself unpacks without a flag.
const MOST_WINDOW: u32 = 27;
/// What begins a frame of zstd, in their order in the file.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What begins a member of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952; members one after another are one file.
    Gzip,
    /// RFC 8878, likewise.
    Zstd,
}

impl Compression {
    /// What an extension says.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Refuses a file that does not begin so.
    pub fn check(self, path: &Path) -> Result<(), InputError> {
        let first = beginning(path)?;
        let (begins, name) = match self {
            Self::Gzip => (first.starts_with(&GZIP), "gzip"),
            Self::Zstd => (first.starts_with(&ZSTD) || is_skippable(&first), "zstd"),
        };
        // An empty file is an empty dataset of whatever kind.
        if begins || first.is_empty() {
            return Ok(());
        }
        Err(wrong_file(
            path,
            &format!("the input is not compressed with {name}"),
            "name it by what it is",
        ))
    }

    /// The bytes of the file, unpacked; what unpacking holds must be within the allowance.
    pub fn reader(
        self,
        path: &Arc<PathBuf>,
        file: File,
        allowance: &Allowance,
    ) -> Result<Box<dyn Read>, InputError> {
        match self {
            Self::Gzip => Ok(Box::new(MultiGzDecoder::new(file))),
            Self::Zstd => {
                let window = window(&beginning(path)?).unwrap_or(1 << MOST_WINDOW);
                allowance
                    .check(window)
                    .map_err(|needed| InputError::Budget {
                        what: "the window of the compressed file".into(),
                        place: Place {
                            file: Arc::clone(path),
                            position: Position::Line(1),
                        },
                        given: allowance.given(),
                        needed,
                        before_tokenizer: true,
                    })?;
                let failed = |source: io::Error| InputError::Read {
                    path: path.to_path_buf(),
                    source,
                };
                let mut decoder = zstd::Decoder::new(file).map_err(failed)?;
                // A later frame must not ask for more than what was judged.
                let log = window.next_power_of_two().ilog2().clamp(10, MOST_WINDOW);
                decoder.window_log_max(log).map_err(failed)?;
                Ok(Box::new(decoder))
            }
        }
    }
}

fn beginning(path: &Path) -> Result<Vec<u8>, InputError> {
    let failed = |source| InputError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut first = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(32).read_to_end(&mut first).map_err(failed)?;
    Ok(first)
}

/// A frame that holds no data.
fn is_skippable(first: &[u8]) -> bool {
    matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The window of the first frame, bytes (RFC 8878, section 3.1.1.1); `None` where it is not there.
fn window(first: &[u8]) -> Option<u64> {
    let rest = first.strip_prefix(&ZSTD)?;
    let descriptor = *rest.first()?;
    let is_single = descriptor >> 5 & 1 == 1;
    if !is_single {
        let (exponent, mantissa) = (rest.get(1)? >> 3, rest.get(1)? & 7);
        let base = 1_u64 << (10 + u32::from(exponent));
        return Some(base + base / 8 * u64::from(mantissa));
    }
    // The window of a frame of one segment is its content.
    let at = 1 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let count = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let bytes = rest.get(at..at + count)?;
    let size = bytes
        .iter()
        .rev()
        .fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some(if count == 2 { size + 256 } else { size })
}

#[cfg(test)]
mod tests {
    use super::window;

    #[test]
    fn windows_are_those_that_frames_ask_for() {
        let text = vec![b'a'; 3_000_000];
        let whole = zstd::encode_all(&text[..], 3).unwrap();
        assert!(window(&whole).unwrap() >= 1 << 20);
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(23).unwrap();
        std::io::Write::write_all(&mut encoder, &text).unwrap();
        assert_eq!(window(&encoder.finish().unwrap()), Some(1 << 23));
        let small = zstd::bulk::compress(&text[..1000], 1).unwrap();
        assert_eq!(window(&small), Some(1000));
        assert_eq!(window(b"\x28\xb5\x2f\xfd"), None);
    }
}
