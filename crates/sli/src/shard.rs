//! `--shard I/N`: a part of the dataset for one of N machines.
//!
//! A part is a stretch of records. Where the stretches end follows from the dataset and N alone, so machines that know
//! nothing of each other divide it alike: every record has a weight, its content in bytes, and goes to the part in which the
//! middle of its weight lies when the weight of all is cut into N equal pieces. Before anything becomes tokens the
//! dataset is read once more for that, which costs little beside the tokenizer.

use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::Range;
use std::rc::Rc;
use std::str::FromStr;

use sli_engine::Shard;
use sli_engine::records::SeenIds;

use crate::input::{Content, DecoderContent, InputError, Place, RawRecord, Records};

/// What a record weighs beside its content, bytes: it has a first token, and rows in the results.
const RECORD: u64 = 16;
/// What a token that is given weighs, bytes: about what one of a text has.
const TOKEN: u64 = 4;

/// One of the parts of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardArg {
    /// Which one, from 1.
    pub index: u64,
    /// Of how many.
    pub of: u64,
}

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(index, of)| Some((number(index)?, number(of)?)));
        match numbers {
            None => Err("expected I/N, for instance 1/4".into()),
            Some((_, 0)) => Err("there is at least one part".into()),
            Some((_, of)) if of > MOST => Err(format!("at most {MOST} parts")),
            Some((0, of)) => Err(format!("parts are counted from 1: 1/{of} to {of}/{of}")),
            Some((index, of)) if index > of => Err(format!(
                "there is no part {index} of {of}: they are 1/{of} to {of}/{of}"
            )),
            Some((index, of)) => Ok(Self { index, of }),
        }
    }
}

/// Parts of a dataset, at most: more would be a mistake.
const MOST: u64 = 1_000_000;

/// What a whole dataset weighs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weight {
    /// Rows of the input.
    pub rows: u64,
    /// Those that are left out, as nothing is in them.
    pub skipped: u64,
    /// What all records weigh, bytes.
    bytes: u128,
}

/// What is wrong with a dataset as a whole.
#[derive(Debug)]
pub enum Unweighable {
    /// A record cannot be read.
    Input(InputError),
    /// An id occurs twice.
    Twice(String, Place),
}

impl Weight {
    /// Reads a dataset. `skips`: records with nothing in them are left out.
    pub fn of(records: Records, skips: bool) -> Result<Self, Unweighable> {
        let mut all = Self::default();
        let mut ids = SeenIds::default();
        for record in records {
            let record = record.map_err(Unweighable::Input)?;
            all.rows += 1;
            all.bytes += u128::from(weight(&record));
            if skips && record.content.is_empty() {
                all.skipped += 1;
            } else if !ids.insert(&record.id) {
                return Err(Unweighable::Twice(record.id, record.place));
            }
        }
        Ok(all)
    }
}

/// The records of one part.
pub struct Part {
    records: Records,
    shard: ShardArg,
    all: Weight,
    /// Weight of the records so far.
    before: u128,
    rows: Rc<Cell<[u64; 2]>>,
}

/// Where the records of a part are among all, known when they have been read.
pub struct Stretch {
    shard: ShardArg,
    rows: Rc<Cell<[u64; 2]>>,
    /// The whole dataset.
    pub all: Weight,
}

impl Stretch {
    /// What is kept of it.
    pub fn shard(&self) -> Shard {
        Shard {
            index: self.shard.index,
            of: self.shard.of,
            rows: self.rows.get(),
            rows_in_all: self.all.rows,
        }
    }
}

impl Part {
    /// Of all records of a dataset.
    pub fn new(records: Records, shard: ShardArg, all: Weight) -> (Self, Stretch) {
        let rows = Rc::new(Cell::new([0; 2]));
        let part = Self {
            records,
            shard,
            all,
            before: 0,
            rows: Rc::clone(&rows),
        };
        (part, Stretch { shard, rows, all })
    }
}

impl Iterator for Part {
    type Item = Result<RawRecord, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let own = u128::from(weight(&record));
            let place = place(
                self.before..self.before + own,
                self.all.bytes,
                self.shard.of,
            );
            self.before += own;
            let [first, behind] = self.rows.get();
            match place.cmp(&self.shard.index) {
                Ordering::Less => self.rows.set([first + 1, behind + 1]),
                Ordering::Equal => {
                    self.rows.set([first, behind + 1]);
                    return Some(Ok(record));
                }
                Ordering::Greater => {
                    // Those that follow are of later parts too.
                    self.records = Box::new(std::iter::empty());
                    return None;
                }
            }
        }
    }
}

/// Which of the parts, from 1, a record is in that takes this place in the weight of `all`.
fn place(record: Range<u128>, all: u128, of: u64) -> u64 {
    let middle = record.start + record.end;
    let part = middle * u128::from(of) / (2 * all).max(1);
    u64::try_from(part).map_or(of, |part| (part + 1).min(of))
}

/// What a record weighs, bytes.
fn weight(record: &RawRecord) -> u64 {
    let content = match &record.content {
        Content::None => 0,
        Content::Text(text) => text.len() as u64,
        Content::Pair(text, pair) => (text.len() + pair.len()) as u64,
        Content::Ids(ids) => ids.len() as u64 * TOKEN,
        Content::Messages(conversation) => conversation.bytes() as u64,
        Content::Prompted(prompted) => prompted.bytes() as u64,
    };
    let decoder = match &record.decoder {
        None => 0,
        Some(DecoderContent::Text(text)) => text.len() as u64,
        Some(DecoderContent::Ids(ids)) => ids.len() as u64 * TOKEN,
    };
    RECORD + content + decoder
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of every record.
    fn parts(weights: &[u64], of: u64) -> Vec<u64> {
        let all = weights.iter().copied().map(u128::from).sum();
        let mut before = 0;
        let parts = weights.iter().map(|&weight| {
            let record = before..before + u128::from(weight);
            before = record.end;
            place(record, all, of)
        });
        parts.collect()
    }

    #[test]
    fn equal_records_are_dealt_out_equally() {
        assert_eq!(parts(&[20; 6], 1), [1; 6]);
        assert_eq!(parts(&[20; 6], 3), [1, 1, 2, 2, 3, 3]);
        assert_eq!(parts(&[20; 7], 3), [1, 1, 2, 2, 2, 3, 3]);
        assert_eq!(parts(&[20; 2], 5), [2, 4]);
        assert_eq!(parts(&[900, 20, 20, 20], 2), [1, 2, 2, 2]);
    }

    #[test]
    fn what_is_no_part_is_refused() {
        assert_eq!("2/7".parse(), Ok(ShardArg { index: 2, of: 7 }));
        for text in [
            "", "1", "/", "1/", "/2", "0/2", "3/2", "1/0", "-1/2", "+1/2", "1/2/3", "1 /2",
        ] {
            assert!(text.parse::<ShardArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_stretches_and_as_heavy_as_they_can_be() {
        let mut state = 1_u64;
        let mut below = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % end
        };
        for _ in 0..500 {
            let of = 1 + below(70);
            let weights: Vec<u64> = (0..=below(60)).map(|_| 16 + below(5000)).collect();
            let parts = parts(&weights, of);
            assert!(parts.is_sorted());
            assert!(parts.iter().all(|part| (1..=of).contains(part)));
            let all: u64 = weights.iter().sum();
            let heaviest = weights.iter().max().copied().unwrap_or(0);
            for part in 1..=of {
                let own = weights.iter().zip(&parts).filter(|(_, of)| **of == part);
                let own: u64 = own.map(|(weight, _)| weight).sum();
                assert!(
                    own.abs_diff(all / of) <= heaviest + 1,
                    "{own} of {all} in {of} parts"
                );
            }
        }
    }
}
