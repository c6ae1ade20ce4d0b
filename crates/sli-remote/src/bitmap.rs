//! Which pieces of a file are there.

use std::ops::Range;

/// Bytes of a piece; the last one of a file may be shorter.
pub(crate) const PIECE: u64 = 256 << 10;

/// A bit for every piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bitmap {
    bytes: Vec<u8>,
    pieces: usize,
    set: usize,
}

impl Bitmap {
    /// No piece of a file of so many bytes.
    pub fn of(size: u64) -> Self {
        let pieces = size.div_ceil(PIECE) as usize;
        Self {
            bytes: vec![0; pieces.div_ceil(8)],
            pieces,
            set: 0,
        }
    }

    /// What a file of bits says; `None` if it is not about a file of so many bytes.
    pub fn read(size: u64, bytes: Vec<u8>) -> Option<Self> {
        let mut map = Self::of(size);
        if bytes.len() != map.bytes.len() {
            return None;
        }
        map.bytes = bytes;
        let beyond = map.pieces..8 * map.bytes.len();
        if beyond.into_iter().any(|piece| map.has(piece)) {
            return None;
        }
        map.set = map
            .bytes
            .iter()
            .map(|byte| byte.count_ones() as usize)
            .sum();
        Some(map)
    }

    /// The bits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether every piece is there.
    pub fn is_full(&self) -> bool {
        self.set == self.pieces
    }

    /// Whether a piece is there.
    pub fn has(&self, piece: usize) -> bool {
        self.bytes[piece / 8] >> (piece % 8) & 1 == 1
    }

    /// A piece is there from now on; the byte of the file of bits that says so, and where it is.
    pub fn set(&mut self, piece: usize) -> (usize, u8) {
        if !self.has(piece) {
            self.set += 1;
            self.bytes[piece / 8] |= 1 << (piece % 8);
        }
        (piece / 8, self.bytes[piece / 8])
    }

    /// A piece is not there any more.
    pub fn unset(&mut self, piece: usize) {
        if self.has(piece) {
            self.set -= 1;
            self.bytes[piece / 8] &= !(1 << (piece % 8));
        }
    }

    /// How many pieces are there.
    pub fn count(&self) -> usize {
        self.set
    }

    /// No piece is.
    pub fn clear(&mut self) {
        self.bytes.fill(0);
        self.set = 0;
    }

    /// How many pieces from the beginning on are there without a gap.
    pub fn prefix(&self) -> usize {
        let full = self.bytes.iter().take_while(|byte| **byte == 0xff).count();
        (8 * full..self.pieces)
            .find(|piece| !self.has(*piece))
            .unwrap_or(self.pieces)
    }

    /// The pieces that a range of bytes touches.
    pub fn touched(range: &Range<u64>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        (range.start / PIECE) as usize..range.end.div_ceil(PIECE) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_that_were_set() {
        let size = 10 * PIECE + 1;
        let mut map = Bitmap::of(size);
        assert_eq!((map.pieces, map.prefix()), (11, 0));
        for piece in [0, 1, 2, 10] {
            map.set(piece);
            map.set(piece);
        }
        assert_eq!(map.prefix(), 3);
        let again = Bitmap::read(size, map.bytes().to_vec()).unwrap();
        assert_eq!(again, map);
        for piece in 3..10 {
            assert!(!map.is_full());
            map.set(piece);
        }
        assert!(map.is_full());
        assert_eq!(map.prefix(), 11);
        map.clear();
        assert_eq!(map, Bitmap::of(size));
        assert_eq!(Bitmap::read(size, vec![0xff, 0xff]), None);
        assert_eq!(Bitmap::read(size, vec![0]), None);
        assert!(Bitmap::of(0).is_full());
    }

    #[test]
    fn ranges_touch_their_pieces() {
        assert_eq!(Bitmap::touched(&(0..1)), 0..1);
        assert_eq!(Bitmap::touched(&(PIECE - 1..PIECE + 1)), 0..2);
        assert_eq!(Bitmap::touched(&(PIECE..2 * PIECE)), 1..2);
        assert_eq!(Bitmap::touched(&(5..5)), 0..0);
    }
}
