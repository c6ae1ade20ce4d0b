//! Lines of a file, one at a time, however long the file is.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use fs_err::File;

use sli_engine::bytes::human;

use super::error::InputError;
use super::place::{Place, Position};
use crate::memory::Allowance;

/// Longest line, bytes: what a record may occupy in memory before it is checked.
pub const LINE_LIMIT: u64 = 64 << 20;

/// Bytes that a byte of a line takes at most: the line, the text or the ids in it, the record's tokens.
const LINE_COST: u64 = 8;

/// Reads the lines of a UTF-8 file without their ends; a byte order mark is skipped, and so are
/// lines of white space.
pub struct Lines {
    allowance: Allowance,
    reader: BufReader<File>,
    path: Arc<PathBuf>,
    number: u64,
    limit: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Opens a file whose lines may hold what the allowance says.
    pub fn open(path: Arc<PathBuf>, allowance: &Allowance) -> Result<Self, InputError> {
        let at = |source| InputError::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path.as_path()).map_err(at)?;
        let reader = BufReader::with_capacity(1 << 18, file);
        Ok(Self {
            allowance: allowance.clone(),
            reader,
            path,
            number: 0,
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

    /// Bytes of the rest of the line, up to `most`; none of them is kept.
    fn skip(&mut self, most: u64) -> Result<u64, InputError> {
        let mut skipped = 0;
        while skipped <= most {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) => return Err(self.failed(error)),
            };
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let (bytes, ended) = (
                end.unwrap_or(buffer.len()),
                end.is_some() || buffer.is_empty(),
            );
            self.reader.consume(bytes);
            skipped += bytes as u64;
            if ended {
                break;
            }
        }
        Ok(skipped)
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
        let most = self.allowance.most() / LINE_COST;
        let read = (&mut self.reader)
            .take(self.limit.min(most) + 2)
            .read_until(b'\n', &mut self.line)
            .map_err(|source| self.failed(source))?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        let ended = self.line.last() == Some(&b'\n');
        if ended {
            self.line.pop();
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
        }
        let mut length = self.line.len() as u64;
        if length > self.limit.min(most) {
            if !ended {
                length += self.skip(self.limit)?;
            }
            return Err(self.too_long(length));
        }
        // It fits, which the allowance remembers for the smallest budget.
        self.allowance
            .check(LINE_COST * length)
            .map_err(|_| self.too_long(length))?;
        if self.number == 1 && self.line.starts_with("\u{feff}".as_bytes()) {
            self.line.drain(..3);
        }
        Ok(true)
    }
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
        let mut lines = Lines::open(Arc::new(path), &Allowance::unlimited()).unwrap();
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
            lines(b"a\r\n\n b \nc\rd", 9),
            expected(&[(1, "a"), (3, " b "), (4, "c\rd")])
        );
        assert_eq!(
            lines("\u{feff}a\nb".as_bytes(), 9),
            expected(&[(1, "a"), (2, "b")])
        );
        assert_eq!(lines("\u{feff}\nb".as_bytes(), 9), expected(&[(2, "b")]));
    }

    #[test]
    fn long_lines_and_bad_bytes() {
        assert!(lines(b"123456789\r\n123456789", 9).is_ok());
        assert!(lines(b"a\n1234567890\n", 9).unwrap_err().contains("line 2"));
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
