//! Ranks of bytes, as `tiktoken` writes them: a line an entry, base64 and a number.

use std::collections::HashMap;

use super::{MOST_PARTS, Merges};

/// Sequences of bytes with their ranks, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranks {
    entries: Vec<(Vec<u8>, u32)>,
    places: HashMap<Vec<u8>, usize>,
}

impl Ranks {
    /// Reads a file.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut ranks = Self::default();
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let wrong = || format!("line {} is no base64 with a rank", number + 1);
            let text = std::str::from_utf8(line).map_err(|_| wrong())?;
            let mut words = text.split_ascii_whitespace();
            let (Some(token), Some(rank), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong());
            };
            let token = decode(token.as_bytes()).ok_or_else(wrong)?;
            let rank = rank.parse().map_err(|_| wrong())?;
            ranks.insert(token, rank);
        }
        Ok(ranks)
    }

    /// Adds an entry; one that is there gets another rank.
    pub(super) fn insert(&mut self, token: Vec<u8>, rank: u32) {
        match self.places.get(&token) {
            Some(&place) => self.entries[place].1 = rank,
            None => {
                self.places.insert(token.clone(), self.entries.len());
                self.entries.push((token, rank));
            }
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|(token, _)| token.len() as u64)
            .sum()
    }

    /// The entries as texts, each byte a character of its own.
    pub fn texts(&self) -> Vec<(String, u32)> {
        let characters = byte_characters();
        let entries = self.entries.iter();
        entries
            .map(|(token, rank)| (spell(token, &characters), *rank))
            .collect()
    }

    /// How many pairs of entries are an entry together.
    pub fn count_merges(&self) -> Result<u64, String> {
        let parts = self
            .entries
            .iter()
            .map(|(token, _)| (token.len() as u64).pow(2));
        if parts.fold(0, u64::saturating_add) > MOST_PARTS {
            return Err("its entries are too long".into());
        }
        let mut count = 0;
        self.each_merge(|_, _, _| count += 1);
        Ok(count)
    }

    /// The pairs of entries that are an entry together, best first.
    pub fn merges(&self) -> Merges {
        let characters = byte_characters();
        let mut merges = Vec::new();
        self.each_merge(|left, right, rank| {
            merges.push((rank, spell(left, &characters), spell(right, &characters)));
        });
        merges.sort_by_key(|(rank, _, _)| *rank);
        merges
            .into_iter()
            .map(|(_, left, right)| (left, right))
            .collect()
    }

    fn each_merge<'a>(&'a self, mut found: impl FnMut(&'a [u8], &'a [u8], u32)) {
        let ranks: HashMap<&[u8], u32> = self
            .entries
            .iter()
            .map(|(token, rank)| (token.as_slice(), *rank))
            .collect();
        for (token, rank) in &self.entries {
            let mut local: Vec<(u32, u32, usize)> = (1..token.len())
                .filter_map(|at| Some((*ranks.get(&token[..at])?, *ranks.get(&token[at..])?, at)))
                .collect();
            local.sort_by_key(|(left, right, _)| (*left, *right));
            for (_, _, at) in local {
                let (left, right) = token.split_at(at);
                found(left, right, *rank);
            }
        }
    }
}

fn spell(token: &[u8], characters: &[char; 256]) -> String {
    token
        .iter()
        .map(|byte| characters[usize::from(*byte)])
        .collect()
}

/// The character that stands for each byte in vocabularies of bytes.
pub fn byte_characters() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let shown = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if shown {
            byte
        } else {
            next += 1;
            next - 1
        };
        u32::try_from(code)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or('\0')
    })
}

/// The bytes of a base64 text.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let (digits, _) = text.split_at_checked(text.len() - padding)?;
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let value = match group.get(place) {
                Some(letter @ b'A'..=b'Z') => letter - b'A',
                Some(letter @ b'a'..=b'z') => letter - b'a' + 26,
                Some(digit @ b'0'..=b'9') => digit - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
                None => 0,
            };
            bits = bits << 6 | u32::from(value);
        }
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::base64;
    use super::{Ranks, byte_characters, decode};

    #[test]
    fn base64_and_back() {
        for length in 1..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(97)).collect();
            assert_eq!(decode(base64(&bytes).as_bytes()), Some(bytes));
        }
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    }

    #[test]
    fn ranks_and_merges() {
        let file = b"YQ== 0\nYg== 1\nYWI= 3\nYmE= 2\nYWJh 4\n\n";
        let ranks = Ranks::read(file).unwrap();
        let merges = ranks.merges();
        let made: Vec<String> = merges.iter().map(|(a, b)| format!("{a}+{b}")).collect();
        assert_eq!(made, ["b+a", "a+b", "a+ba", "ab+a"]);
        assert_eq!(byte_characters()[0x20], 'Ġ');
        for broken in [
            &b"YQ== x\n"[..],
            b"YQ==\n",
            b"Y!== 1\n",
            b"YQ== 1 2\n",
            b"\xff 1\n",
            b"YQ= 1\n",
        ] {
            assert!(Ranks::read(broken).unwrap_err().contains("line 1"));
        }
    }
}
