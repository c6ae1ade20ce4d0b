//! How files are changed.

/// Numbers that look random, the same ones every time.
pub struct Random(pub u64);

/// Numbers at the edges of what fits somewhere.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    1 << 20,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 60,
    i64::MAX as u64,
    u64::MAX,
];

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another; 0 below none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Changes a file in one to four places; `other` is one to copy from.
    pub fn change(&mut self, file: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(4) {
            self.change_once(file, other);
        }
    }

    fn change_once(&mut self, file: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(file.len());
        let way = self.below(16);
        let length = 1 + self.below(16);
        let end = (at + length).min(file.len());
        if file.is_empty() {
            file.extend(other);
            return;
        }
        match way {
            0..4 => file[at] ^= 1 << self.below(8),
            4..6 => file[at] = self.next() as u8,
            6 | 7 => file[at] = file[at].wrapping_add(self.below(9) as u8).wrapping_sub(4),
            8..11 => {
                let bytes = EDGES[self.below(EDGES.len())].to_le_bytes();
                let width = [2, 4, 8][self.below(3)].min(file.len() - at);
                file[at..at + width].copy_from_slice(&bytes[..width]);
            }
            11 => drop(file.drain(at..end)),
            12 => {
                let piece = file[at..end].to_vec();
                let to = self.below(file.len());
                file.splice(to..to, piece);
            }
            13 | 14 => {
                let from = self.below(other.len());
                let piece = &other[from..(from + length).min(other.len())];
                if way == 13 {
                    file.splice(at..at, piece.iter().copied());
                } else {
                    let room = piece.len().min(file.len() - at);
                    file[at..at + room].copy_from_slice(&piece[..room]);
                }
            }
            // Rarely: what is cut off says little.
            _ if self.below(8) == 0 => file.truncate(at),
            _ => file[at] = b"\x00\x80(.)]}RtNQKh"[self.below(13)],
        }
    }
}
