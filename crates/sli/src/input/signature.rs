//! What kind of file an input is: by its extension, and by its first bytes where they contradict it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use fs_err::File;

use super::error::{InputError, wrong_file};

/// A format of datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    JsonLines,
    /// A text a line.
    Text,
    /// Apache Parquet.
    Parquet,
}

const ARROW_HINT: &str =
    "datasets.Dataset.from_file(FILE).to_parquet(\"FILE.parquet\") writes it as Parquet";
const TABLE_HINT: &str = "pandas.read_csv(FILE).to_parquet(\"FILE.parquet\") writes it as Parquet";
const ZIP_HINT: &str = "unpack it first: unzip FILE";
const LFS_HINT: &str = "git lfs pull fetches the file itself";
const UTF16_HINT: &str = "convert it: iconv -f UTF-16 -t UTF-8";

/// Extensions that name another kind of file, what it is, and what to do.
const OTHERS: [(&str, &str, &str); 10] = [
    (
        "bz2",
        "the input is compressed",
        "unpack it first: bzip2 -dk FILE",
    ),
    (
        "xz",
        "the input is compressed",
        "unpack it first: xz -dk FILE",
    ),
    (
        "lz4",
        "the input is compressed",
        "unpack it first: lz4 -dk FILE",
    ),
    ("zip", "the input is an archive", ZIP_HINT),
    (
        "tar",
        "the input is an archive",
        "unpack it first: tar -xf FILE",
    ),
    ("arrow", "the input is an Arrow file", ARROW_HINT),
    ("feather", "the input is an Arrow file", ARROW_HINT),
    (
        "csv",
        "the input is a table of comma-separated values",
        TABLE_HINT,
    ),
    (
        "tsv",
        "the input is a table of tab-separated values",
        TABLE_HINT,
    ),
    (
        "pq",
        "the extension tells no known format",
        "Parquet is .parquet here: rename it",
    ),
];

/// The format that an extension names; the error is what is wrong and what to do.
pub fn format(extension: &str) -> Result<Format, (&'static str, String)> {
    match extension {
        "jsonl" | "ndjson" | "json" => Ok(Format::JsonLines),
        "txt" => Ok(Format::Text),
        "parquet" => Ok(Format::Parquet),
        other => Err(OTHERS.iter().find(|(name, ..)| *name == other).map_or(
            ("the extension tells no known format", String::new()),
            |(_, problem, hint)| (*problem, format!("; {hint}")),
        )),
    }
}

/// First bytes of files that are no text, what they are, and what to do.
const SIGNATURES: [(&[u8], &str, &str); 11] = [
    (
        b"\x1f\x8b\x08",
        "compressed with gzip",
        "let its name end in .gz",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "compressed with zstd",
        "let its name end in .zst",
    ),
    (
        b"\x04\x22\x4d\x18",
        "compressed with lz4",
        "unpack it first: lz4 -dc FILE > NEW",
    ),
    (
        b"\xfd7zXZ\0",
        "compressed with xz",
        "unpack it first: xz -dc FILE > NEW",
    ),
    (b"PK\x03\x04", "a zip archive", ZIP_HINT),
    (b"ARROW1\0\0", "an Arrow file", ARROW_HINT),
    // Arrow's stream, in which `datasets` keeps what it has loaded.
    (b"\xff\xff\xff\xff", "an Arrow stream", ARROW_HINT),
    (b"\x89HDF\r\n\x1a\n", "HDF5", "write its records as .jsonl"),
    (
        b"SQLite format 3\0",
        "a database of SQLite",
        "write its records as .jsonl",
    ),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, not the file itself",
        LFS_HINT,
    ),
    (
        b"\0\0\xfe\xff",
        "UTF-32",
        "convert it: iconv -f UTF-32 -t UTF-8",
    ),
];

/// Refuses a file that is plainly of another kind than its extension says.
pub fn check(path: &Path, format: Format) -> Result<(), InputError> {
    let failed = |source| InputError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut first = Vec::new();
    (&mut file)
        .take(64)
        .read_to_end(&mut first)
        .map_err(failed)?;
    let mut last = [0; 4];
    if first.starts_with(b"PAR1") && file.seek(SeekFrom::End(-4)).is_ok() {
        file.read_exact(&mut last).map_err(failed)?;
    }
    let named = SIGNATURES
        .iter()
        .find(|(signature, ..)| first.starts_with(signature))
        .map(|(_, what, hint)| (*what, *hint));
    let found = match format {
        Format::Parquet => named,
        Format::JsonLines | Format::Text if &last == b"PAR1" => {
            Some(("Parquet", "name it .parquet"))
        }
        Format::JsonLines | Format::Text => named
            .or_else(|| {
                is_bzip2(&first).then_some((
                    "compressed with bzip2",
                    "unpack it first: bzip2 -dc FILE > NEW",
                ))
            })
            .or_else(|| is_utf16(&first).then_some(("UTF-16", UTF16_HINT))),
    };
    match found {
        Some((what, hint)) => Err(wrong_file(path, &format!("the input is {what}"), hint)),
        None => Ok(()),
    }
}

/// `BZh`, a digit, and the mark of a block or of the end.
fn is_bzip2(first: &[u8]) -> bool {
    first.starts_with(b"BZh")
        && first
            .get(4..10)
            .is_some_and(|mark| mark == b"1AY&SY" || mark == b"\x17\x72\x45\x38\x50\x90")
}

/// A byte order mark of two bytes, or four characters whose other byte is zero.
fn is_utf16(first: &[u8]) -> bool {
    let zeros = |parity: usize| {
        first.len() >= 8
            && first
                .iter()
                .take(8)
                .enumerate()
                .all(|(at, &byte)| (byte == 0) == (at % 2 == parity))
    };
    first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") || zeros(0) || zeros(1)
}
