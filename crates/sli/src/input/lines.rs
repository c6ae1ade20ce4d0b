//! Lines of a file, one at a time, however long the file is.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use fs_err::File;

use sli_engine::bytes::human;

use super::compressed::Compression;
use super::error::InputError;
use super::place::{Place, Position};
use crate::memory::Allowance;

/// Longest line, bytes: what a record may occupy in memory before it is checked.
pub const LINE_LIMIT: u64 = 64 << 20;

/// What some programs of Windows put in front of a text; Python's text files and `datasets` leave it there.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 18;

/// Bytes that a byte of a line takes at most: the line, the text or the ids in it, the record's tokens.
const LINE_COST: u64 = 8;

/// Reads the lines of a UTF-8 file without their ends, which are those of Python's text files: `\n`, `\r\n` and
/// `\r`. Lines of white space are skipped.
pub struct Lines {
    allowance: Allowance,
    reader: BufReader<Box<dyn Read>>,
    path: Arc<PathBuf>,
    number: u64,
    /// The last line ended with `\r`: a `\n` that follows is part of its end.
    after_return: bool,
    limit: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Opens a file whose lines may hold what the allowance says.
    pub fn open(
        path: Arc<PathBuf>,
        compression: Option<Compression>,
        allowance: &Allowance,
    ) -> Result<Self, InputError> {
        let at = |source| InputError::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path.as_path()).map_err(at)?;
        let bytes: Box<dyn Read> = match compression {
            None => Box::new(file),
            Some(compression) => compression.reader(&path, file, allowance)?,
        };
        let reader = BufReader::with_capacity(BUFFER, bytes);
        Ok(Self {
            allowance: allowance.clone(),
            reader,
            path,
            number: 0,
            after_return: false,
            limit: LINE_LIMIT,
            line: Vec::new(),
        })
    }

    /// The next line that is not blank.
    pub fn next_line(&mut self) -> Result<Option<(Place, &str)>, InputError> {
        loop {
            if !self.read()? {
                return Ok(None);
            }
            let blank = self.line.iter().all(u8::is_ascii_whitespace);
            if !blank && !std::str::from_utf8(&self.line).is_ok_and(|line| line.trim().is_empty()) {
                break;
            }
        }
        let place = self.place();
        match std::str::from_utf8(&self.line) {
            Ok(line) => Ok(Some((place, line))),
            Err(error) => {
                let problem = format!("byte {} of the line is not UTF-8", error.valid_up_to() + 1);
                let hint = if self.line.starts_with(&[0xff, 0xfe])
                    || self.line.starts_with(&[0xfe, 0xff])
                {
                    "the file is UTF-16; convert it: iconv -f UTF-16 -t UTF-8"
                } else {
                    "convert the file to UTF-8, for instance with iconv"
                };
                Err(InputError::record(&place, problem).with_hint(hint))
            }
        }
    }

    fn failed(&self, source: io::Error) -> InputError {
        InputError::Read {
            path: self.path.to_path_buf(),
            source,
        }
    }

    /// Passes to the end of the line, or beyond `most` bytes of it: of these, as many as `keep` says are added to
    /// `line`. The result is how many they were; the end is not counted.
    fn pass(&mut self, most: u64, keep: u64) -> Result<Passed, InputError> {
        let mut passed = Passed::default();
        while passed.bytes <= most {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            if buffer.is_empty() {
                passed.ended = true;
                break;
            }
            let skipped = usize::from(self.after_return && buffer.first() == Some(&b'\n'));
            self.after_return = false;
            let buffer = buffer.get(skipped..).unwrap_or_default();
            let end = buffer
                .iter()
                .position(|&byte| matches!(byte, b'\n' | b'\r'));
            let own = buffer
                .get(..end.unwrap_or(buffer.len()))
                .unwrap_or_default();
            let kept = keep.saturating_sub(passed.bytes).min(own.len() as u64) as usize;
            self.line.extend(own.get(..kept).unwrap_or_default());
            passed.bytes += own.len() as u64;
            passed.any |= !buffer.is_empty();
            self.after_return = end.is_some_and(|end| buffer.get(end) == Some(&b'\r'));
            let consumed = skipped + own.len() + usize::from(end.is_some());
            self.reader.consume(consumed);
            if end.is_some() {
                passed.ended = true;
                break;
            }
        }
        Ok(passed)
    }

    fn too_long(&self, length: u64) -> InputError {
        if length > self.limit {
            let problem = format!("the line is longer than {} MiB", self.limit >> 20);
            return InputError::record(&self.place(), problem)
                .with_hint("split the record, or check that the file has line ends");
        }
        InputError::Budget {
            what: format!("a line of {}", human(length)),
            place: self.place(),
            given: self.allowance.given(),
            needed: self.allowance.check(LINE_COST * length).err().unwrap_or(0),
            before_tokenizer: !contains(&self.line, b"\"input_ids\""),
        }
    }

    fn place(&self) -> Place {
        Place {
            file: Arc::clone(&self.path),
            position: Position::Line(self.number),
        }
    }

    /// Reads a line without its end into `line`; `false` at the end of the file.
    fn read(&mut self) -> Result<bool, InputError> {
        self.line.clear();
        self.line.shrink_to(1 << 20);
        let most = self.limit.min(self.allowance.most() / LINE_COST);
        let mut passed = self.pass(most, most)?;
        if !passed.any {
            return Ok(false);
        }
        self.number += 1;
        if passed.bytes > most {
            if !passed.ended {
                passed.bytes += self.pass(self.limit, 0)?.bytes;
            }
            return Err(self.too_long(passed.bytes));
        }
        let length = passed.bytes;
        // It fits, which the allowance remembers for the smallest budget.
        self.allowance
            .check(LINE_COST * length)
            .map_err(|_| self.too_long(length))?;
        Ok(true)
    }
}

/// A part of a line that was read.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// Its bytes, without its end.
    bytes: u64,
    /// The end of the line, or of the file, came.
    ended: bool,
    /// There was a line, perhaps an empty one.
    any: bool,
}

fn contains(line: &[u8], key: &[u8]) -> bool {
    line.windows(key.len()).any(|window| window == key)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Lines;
    use crate::input::Position;
    use crate::memory::Allowance;

    fn lines(content: &[u8], limit: u64) -> Result<Vec<(u64, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        fs_err::write(&path, content).unwrap();
        let mut lines = Lines::open(Arc::new(path), None, &Allowance::unlimited()).unwrap();
        lines.limit = limit;
        let mut all = Vec::new();
        loop {
            match lines.next_line() {
                Ok(Some((place, line))) => {
                    let Position::Line(number) = place.position else {
                        unreachable!()
                    };
                    all.push((number, line.to_owned()));
                }
                Ok(None) => return Ok(all),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn ends_marks_and_blanks() {
        let expected = |pairs: &[(u64, &str)]| {
            Ok(pairs
                .iter()
                .map(|&(number, line)| (number, line.to_owned()))
                .collect())
        };
        assert_eq!(lines(b"", 9), expected(&[]));
        assert_eq!(lines(b"\n\r\n \t\n\xc2\xa0\n", 9), expected(&[]));
        assert_eq!(lines(b"a", 9), expected(&[(1, "a")]));
        assert_eq!(
            lines(b"a\r\n\n b \nc\rd\r\re", 9),
            expected(&[(1, "a"), (3, " b "), (4, "c"), (5, "d"), (7, "e")])
        );
        assert_eq!(lines(b"a\r", 9), expected(&[(1, "a")]));
        assert_eq!(lines(b"\r\r\na\n\r\rb", 9), expected(&[(3, "a"), (6, "b")]));
        // These end no line for Python's text files.
        let others = "a\u{b}b\u{c}c\u{85}d\u{2028}e";
        assert_eq!(lines(others.as_bytes(), 20), expected(&[(1, others)]));
        let marked = [(1, "\u{feff}a"), (2, "b")];
        assert_eq!(lines("\u{feff}a\nb".as_bytes(), 9), expected(&marked));
    }

    #[test]
    fn ends_across_the_buffer() {
        for before in [super::BUFFER - 2, super::BUFFER - 1, super::BUFFER] {
            for end in ["\r", "\n", "\r\n"] {
                let first = "a".repeat(before);
                let found = lines(format!("{first}{end}b{end}").as_bytes(), 1 << 20).unwrap();
                assert_eq!(found, [(1, first), (2, "b".into())], "{before} {end:?}");
            }
        }
    }

    #[test]
    fn long_lines_and_bad_bytes() {
        assert!(lines(b"123456789\r\n123456789", 9).is_ok());
        assert!(lines(b"a\n1234567890\n", 9).unwrap_err().contains("line 2"));
        assert!(lines(b"a\r1234567890\r", 9).unwrap_err().contains("line 2"));
        assert!(
            lines(b"12345678901234567890", 9)
                .unwrap_err()
                .contains("longer")
        );
        assert!(
            lines(b"a\nb\xff\n", 9)
                .unwrap_err()
                .starts_with("byte 2 of the line is not UTF-8")
        );
        assert!(lines(b"\xff\xfea\0\n", 9).unwrap_err().contains("UTF-8"));
    }
}
