//! Reading a header from its beginning to its end, without knowing where that is.

use super::problem::{GgufError, Problem};
use crate::source::ByteSource;

/// Bytes read at a time.
const PIECE: u64 = 256 << 10;

/// A place in a file that moves on as it is read; what it passed is hashed.
pub(super) struct Cursor<'s> {
    source: &'s dyn ByteSource,
    file: &'s str,
    pub size: u64,
    /// Where the next byte is.
    pub at: u64,
    /// Bytes that were read, from `start` on.
    buffer: Vec<u8>,
    start: u64,
    hasher: blake3::Hasher,
    pub read: u64,
    /// What is being read, for messages.
    pub what: &'static str,
}

impl<'s> Cursor<'s> {
    pub fn new(source: &'s dyn ByteSource, file: &'s str) -> Result<Self, Problem> {
        Self::from(source, file, 0)
    }

    /// From a byte on.
    pub fn from(source: &'s dyn ByteSource, file: &'s str, at: u64) -> Result<Self, Problem> {
        Ok(Self {
            size: source.len(file)?,
            source,
            file,
            at,
            buffer: Vec::new(),
            start: at,
            hasher: blake3::Hasher::new(),
            read: 0,
            what: "its header",
        })
    }

    /// Bytes from here to the end of the file.
    pub fn rest(&self) -> u64 {
        self.size.saturating_sub(self.at)
    }

    fn cut_off(&self) -> Problem {
        let (size, what) = (self.size, self.what);
        GgufError::CutOff { size, what }.into()
    }

    /// The next bytes.
    pub fn bytes(&mut self, count: u64) -> Result<&[u8], Problem> {
        if count > self.rest() {
            return Err(self.cut_off());
        }
        if self.at + count > self.start + self.buffer.len() as u64 {
            self.refill(count)?;
        }
        let from = (self.at - self.start) as usize;
        self.at += count;
        let bytes = self.buffer.get(from..from + count as usize);
        Ok(bytes.unwrap_or_default())
    }

    /// Passes bytes by.
    pub fn skip(&mut self, mut count: u64) -> Result<(), Problem> {
        if count > self.rest() {
            return Err(self.cut_off());
        }
        while count > 0 {
            let some = count.min(PIECE);
            self.bytes(some)?;
            count -= some;
        }
        Ok(())
    }

    fn refill(&mut self, count: u64) -> Result<(), Problem> {
        let passed = (self.at - self.start) as usize;
        self.hasher
            .update(self.buffer.get(..passed).unwrap_or_default());
        self.start = self.at;
        let count = count.max(PIECE).min(self.rest());
        self.buffer.clear();
        self.buffer.resize(count as usize, 0);
        self.source.read_at(self.file, self.at, &mut self.buffer)?;
        self.read += count;
        Ok(())
    }

    /// A hash of all that was passed.
    pub fn digest(mut self) -> String {
        let passed = (self.at - self.start) as usize;
        self.hasher
            .update(self.buffer.get(..passed).unwrap_or_default());
        self.hasher.finalize().to_hex().to_string()
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N as u64)?);
        Ok(array)
    }

    pub fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Problem> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text of at most so many bytes, behind its length.
    pub fn text(&mut self, most: u64) -> Result<String, Problem> {
        let claimed = self.u64()?;
        if claimed > self.rest() {
            return Err(self.cut_off());
        }
        if claimed > most {
            let what = "bytes of a text";
            return Err(GgufError::TooMany {
                what,
                claimed,
                most,
            }
            .into());
        }
        let (at, what) = (self.at, self.what);
        let bytes = self.bytes(claimed)?.to_vec();
        String::from_utf8(bytes).map_err(|_| GgufError::NotUtf8 { what, at }.into())
    }
}
