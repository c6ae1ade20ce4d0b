//! Sums of files, as the hub names them.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What a place says that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// SHA-256 of its bytes, hexadecimal.
    Sha256(String),
    /// SHA-1 of it as a blob of git, hexadecimal.
    Git(String),
}

/// A sum that grows with its file.
pub(crate) enum Summing {
    Sha256(Sha256),
    Git(Sha1),
}

impl Summing {
    /// The beginning of a sum of this kind, over a file of `size` bytes.
    pub fn begin(sum: &Sum, size: u64) -> Self {
        match sum {
            Sum::Sha256(_) => Self::Sha256(Sha256::new()),
            Sum::Git(_) => {
                let mut sha = Sha1::new();
                sha.update(format!("blob {size}\0").as_bytes());
                Self::Git(sha)
            }
        }
    }

    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sha) => sha.update(bytes),
            Self::Git(sha) => sha.update(bytes),
        }
    }

    /// The sum in hexadecimal.
    pub fn finish(self) -> String {
        match self {
            Self::Sha256(sha) => hex(&sha.finalize()),
            Self::Git(sha) => hex(&sha.finalize()),
        }
    }
}

/// The sum of the first bytes of a file.
pub(crate) struct Growing {
    summing: Summing,
    upto: u64,
}

/// Bytes that are added to a sum at a time.
const BLOCK: u64 = 256 << 10;

impl Growing {
    /// Of no byte yet.
    pub fn begin(sum: &Sum, size: u64) -> Self {
        Self {
            summing: Summing::begin(sum, size),
            upto: 0,
        }
    }

    /// How many bytes it is of.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Adds bytes up to this one, which `read` gives from a place on.
    pub fn add_upto<E>(
        &mut self,
        end: u64,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut block = Vec::new();
        while self.upto < end {
            block.resize(BLOCK.min(end - self.upto) as usize, 0);
            read(self.upto, &mut block)?;
            self.summing.add(&block);
            self.upto += block.len() as u64;
        }
        Ok(())
    }

    /// The sum in hexadecimal.
    pub fn finish(self) -> String {
        self.summing.finish()
    }
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Growing({})", self.upto)
    }
}

impl Sum {
    /// In hexadecimal.
    pub fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::Git(text) => text,
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_the_tools_print() {
        let of = |sum: Sum, bytes: &[u8]| {
            let mut summing = Summing::begin(&sum, bytes.len() as u64);
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            summing.add(first);
            summing.add(rest);
            summing.finish()
        };
        // `printf hello | sha256sum` and `printf hello | git hash-object --stdin`.
        assert_eq!(
            of(Sum::Sha256(String::new()), b"hello"),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(
            of(Sum::Git(String::new()), b"hello"),
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
        );
    }
}
