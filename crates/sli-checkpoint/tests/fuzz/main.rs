//! Files that are changed again and again, byte by byte and by their structure: whatever the readers of torch and GGUF
//! files are given ends in tensors inside the file or in an error.
//!
//! A change that leads to an outcome not seen before is kept and changed further. `FUZZ_EXECUTIONS` is how often
//! (a few thousand by default), `FUZZ_SEED` where the numbers begin, `FUZZ_ONLY` a part of the names of
//! kinds; `--nocapture` shows what was done.

#[path = "../support/mod.rs"]
mod support;

mod change;
mod kinds;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::panic::catch_unwind;

use change::Random;
use kinds::{KINDS, Kind};

/// Most files of a kind that are kept.
const MOST_KEPT: usize = 4096;
/// Longest file that is kept.
const LONGEST: usize = 8192;

/// Files of a kind, and what they led to.
struct Corpus {
    kind: &'static Kind,
    /// Those that are read, and those that are refused.
    files: [Vec<Vec<u8>>; 2],
    outcomes: BTreeSet<u64>,
    executions: u64,
    read: u64,
}

impl Corpus {
    fn of(kind: &'static Kind) -> Self {
        let mut corpus = Self {
            kind,
            files: [Vec::new(), Vec::new()],
            outcomes: BTreeSet::new(),
            executions: 0,
            read: 0,
        };
        for file in (kind.seeds)() {
            corpus.try_out(file);
        }
        assert!(
            !corpus.files[0].is_empty(),
            "{}: a seed is sound",
            kind.name
        );
        corpus
    }

    /// Reads a file; it is kept where that ended in a new way.
    fn try_out(&mut self, file: Vec<u8>) {
        let outcome = catch_unwind(|| (self.kind.read)(&file));
        let outcome = outcome.unwrap_or_else(|_| panic!("{}: {}", self.kind.name, spelled(&file)));
        self.executions += 1;
        self.read += u64::from(outcome.is_ok());
        let files = &mut self.files[usize::from(outcome.is_err())];
        let signature = match outcome {
            Ok(shape) => hash(shape.bytes()),
            Err(said) => words(&said),
        };
        if self.outcomes.insert(signature) && files.len() < MOST_KEPT && file.len() <= LONGEST {
            files.push(file);
        }
    }

    /// One that is kept, more often one that is read.
    fn any(&self, random: &mut Random) -> &[u8] {
        let [read, refused] = &self.files;
        let files = if refused.is_empty() || random.below(4) > 0 {
            read
        } else {
            refused
        };
        &files[random.below(files.len())]
    }

    fn step(&mut self, random: &mut Random) {
        let mut file = self.any(random).to_vec();
        let other = self.any(random);
        random.change(&mut file, other);
        self.try_out(file);
    }
}

/// The bytes of a file for a message.
fn spelled(file: &[u8]) -> String {
    file.iter().fold(String::new(), |mut text, byte| {
        // A text cannot fail to be written to.
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What an error says, whatever it is about: its words without numbers and names.
fn words(said: &str) -> u64 {
    let mut inside = false;
    hash(said.bytes().filter(|byte| {
        inside ^= *byte == b'`';
        !inside && byte.is_ascii_alphabetic()
    }))
}

fn number(key: &str, usual: u64) -> u64 {
    let text = std::env::var(key).ok();
    text.map_or(usual, |text| text.parse().expect(key))
}

#[test]
fn whatever_a_file_holds_is_read_or_refused() {
    let executions = number("FUZZ_EXECUTIONS", 10_000);
    let mut random = Random(number("FUZZ_SEED", 0));
    let only = std::env::var("FUZZ_ONLY").unwrap_or_default();
    let kinds = KINDS.iter().filter(|kind| kind.name.contains(&only));
    let mut corpora: Vec<Corpus> = kinds.map(Corpus::of).collect();
    let turns = corpora.iter().enumerate();
    let turns = turns.flat_map(|(which, corpus)| std::iter::repeat_n(which, corpus.kind.turns));
    let turns: Vec<usize> = turns.collect();
    for at in 0..executions {
        let which = turns[at as usize % turns.len()];
        corpora[which].step(&mut random);
        if at.is_power_of_two() || at + 1 == executions || (at + 1).is_multiple_of(10_000_000) {
            eprintln!("after {}", at + 1);
            for corpus in &corpora {
                eprintln!(
                    "  {:14} {:>11} executions, {:>10} read, {:>4} outcomes",
                    corpus.kind.name,
                    corpus.executions,
                    corpus.read,
                    corpus.outcomes.len()
                );
            }
        }
    }
}
