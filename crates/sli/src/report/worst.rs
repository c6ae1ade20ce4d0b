//! Records by how bad they are: the worst in a list, all of them in a histogram.

use std::collections::BTreeMap;

use super::chart::{Lines, Series};
use super::markup::{Cell, table};
use super::page::Section;
use crate::progress::count;

/// Records that are listed, the worst first.
const LISTED: usize = 1000;
/// Of them those that are shown at once.
const SHOWN: usize = 10;
/// Bars of a histogram.
const BARS: usize = 40;

/// The worst of some records, with how bad they are.
pub struct Worst<T> {
    seen: u64,
    /// In any order, up to twice as many as are listed.
    records: Vec<(f64, T)>,
}

impl<T> Default for Worst<T> {
    fn default() -> Self {
        Self {
            seen: 0,
            records: Vec::new(),
        }
    }
}

impl<T> Worst<T> {
    /// Adds a record.
    pub fn add(&mut self, badness: f64, record: T) {
        self.seen += 1;
        self.records.push((badness, record));
        if self.records.len() >= 2 * LISTED {
            self.keep();
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The worst first, those that come earlier before others that are as bad.
    fn keep(&mut self) {
        self.records.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        self.records.truncate(LISTED);
    }

    /// Writes a table of a few and, where there are more, one that opens; `more` says what it holds: so many, which are all
    /// or not.
    pub fn write(
        mut self,
        section: &mut Section,
        (title, names): (&str, &[&str]),
        row: impl Fn(f64, &T) -> Vec<Cell>,
        more: impl Fn(&str, bool) -> String,
    ) {
        self.keep();
        let rows = || self.records.iter().map(|(badness, own)| row(*badness, own));
        section.table(title, &table(names, rows().take(SHOWN)));
        let listed = self.records.len() as u64;
        if self.records.len() > SHOWN {
            let title = more(&count(listed), listed == self.seen);
            section.hidden_table(&title, &table(names, rows()));
        }
    }
}

/// How many records have which value.
pub struct Histogram {
    per_unit: f64,
    counts: BTreeMap<i64, u64>,
}

impl Histogram {
    /// None yet; values are told apart in so many steps a unit.
    pub fn new(per_unit: f64) -> Self {
        Self {
            per_unit,
            counts: BTreeMap::new(),
        }
    }

    /// Adds a record of a value.
    pub fn add(&mut self, value: f64) {
        let step = (value * self.per_unit).round() as i64;
        *self.counts.entry(step).or_default() += 1;
    }

    /// As bars over `place` of the values.
    pub fn lines(&self, x_name: &'static str, place: impl Fn(f64) -> f64) -> Option<Lines> {
        let (&low, &high) = (self.counts.keys().next()?, self.counts.keys().next_back()?);
        let step = ((high - low) as usize / BARS + 1) as i64;
        let mut bars = BTreeMap::new();
        for (value, count) in &self.counts {
            *bars.entry((value - low) / step).or_insert(0_u64) += count;
        }
        let points = (0..=(high - low) / step).map(|bar| {
            let middle = low as f64 + (bar as f64 + 0.5) * step as f64 - 0.5;
            let count = bars.get(&bar).copied().unwrap_or(0);
            (place(middle / self.per_unit), count as f64)
        });
        Some(Lines {
            x_name,
            series: vec![Series::new("records", points.collect())],
            bars: true,
            log_x: true,
            ..Lines::default()
        })
    }
}
