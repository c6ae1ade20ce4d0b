//! Pictures that were drawn last, for records that show them again.

use std::collections::VecDeque;

use crate::layout::{area_of, numbers};
use crate::ways::Drawn;

/// A file's hash, and how many pictures its record has: what becomes of a picture is a matter of both.
pub(crate) type Key = ([u8; 32], usize);

/// The last pictures within a number of bytes; a question behind the same picture does not decode it again.
#[derive(Debug, Default)]
pub struct Kept {
    most: u64,
    held: u64,
    pictures: VecDeque<(Key, Drawn)>,
}

impl Kept {
    /// None yet, at most so many bytes.
    pub fn new(most: u64) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// What it holds, bytes.
    pub fn bytes(&self) -> u64 {
        self.held
    }

    /// Holds nothing any more.
    pub fn clear(&mut self) {
        self.pictures.clear();
        self.held = 0;
    }

    pub(crate) fn key(file: &[u8], of: usize) -> Key {
        (*blake3::hash(file).as_bytes(), of)
    }

    pub(crate) fn find(&self, key: &Key) -> Option<&Drawn> {
        let mut all = self.pictures.iter().rev();
        all.find_map(|(own, drawn)| (own == key).then_some(drawn))
    }

    /// Keeps a picture in the place of the oldest ones, if it is not larger than all of them may be.
    pub(crate) fn keep(&mut self, key: Key, drawn: &Drawn) {
        let bytes = bytes(drawn);
        if bytes > self.most {
            return;
        }
        while self.held + bytes > self.most {
            let Some((_, oldest)) = self.pictures.pop_front() else {
                break;
            };
            self.held -= self::bytes(&oldest);
        }
        self.held += bytes;
        self.pictures.push_back((key, drawn.clone()));
    }
}

fn bytes(drawn: &Drawn) -> u64 {
    let views = drawn.views.iter().map(|view| numbers(area_of(view)) as u64);
    views.sum::<u64>() + size_of::<(Key, Drawn)>() as u64
}
