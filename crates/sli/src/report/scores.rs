//! What a report says of the log-probabilities.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::{Float64Type, UInt32Type};

use super::chart::{Lines, Series};
use super::error::ReportError;
use super::markup::{Cell, cut, table};
use super::page::Section;
use super::positions::Positions;
use super::scale::Kind;
use super::tables::read;

/// Records that are listed, the worst first.
const LISTED: usize = 1000;
/// Of them those that are shown at once.
const SHOWN: usize = 10;
/// Bars of the histogram.
const BARS: usize = 40;

/// A record in few words.
struct Scored {
    id: String,
    tokens: u32,
    /// Mean negative log-probability of a scored token, nats.
    loss: f64,
    bits_per_byte: Option<f64>,
}

/// What is added up over the records.
#[derive(Default)]
struct Scores {
    records: u64,
    scored: u64,
    sum: f64,
    /// The worst, in any order, up to twice as many as are listed.
    worst: Vec<Scored>,
    /// Records by their loss, in hundredths of a nat.
    losses: BTreeMap<i64, u64>,
    /// Losses by position from the first scored one on.
    positions: Positions,
}

/// Nats that no loss comes near.
const LARGEST: f64 = 1e6;

impl Scores {
    fn read(path: &Path) -> Result<Self, ReportError> {
        let mut scores = Self::default();
        let names = ["id", "tokens", "sum_logprob", "bits_per_byte", "logprobs"];
        read(path, &names, |columns| {
            let (ids, tokens) = (columns.texts(0)?, columns.numbers::<UInt32Type>(1)?);
            let sums = columns.numbers::<Float64Type>(2)?;
            let bits = columns.numbers::<Float64Type>(3)?;
            for row in 0..columns.rows() {
                let logprobs = columns.list(4, row)?;
                let tokens = tokens[row].unwrap_or(0);
                scores.add(
                    ids[row],
                    tokens,
                    sums[row].unwrap_or(0.0),
                    bits[row],
                    &logprobs,
                );
            }
            Ok(())
        })?;
        Ok(scores)
    }

    fn add(&mut self, id: &str, tokens: u32, sum: f64, bits: Option<f64>, logprobs: &[f32]) {
        self.records += 1;
        let mut scored = 0_u64;
        let first = usize::from(logprobs.first().is_some_and(|value| value.is_nan()));
        for (place, logprob) in (1..).zip(&logprobs[first..]) {
            self.positions.add(place, -f64::from(*logprob));
            scored += u64::from(!logprob.is_nan());
        }
        // Nothing, or a table that lies.
        if scored == 0 || !sum.is_finite() {
            return;
        }
        self.scored += scored;
        self.sum -= sum;
        let loss = (-sum / scored as f64).clamp(-LARGEST, LARGEST);
        *self
            .losses
            .entry((loss * 100.0).round() as i64)
            .or_default() += 1;
        self.worst.push(Scored {
            id: cut(id, 80),
            tokens,
            loss,
            bits_per_byte: bits,
        });
        if self.worst.len() >= 2 * LISTED {
            self.keep_worst();
        }
    }

    /// The worst first, those that come earlier before others that are as bad.
    fn keep_worst(&mut self) {
        self.worst.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        self.worst.truncate(LISTED);
    }

    fn histogram(&self) -> Option<Lines> {
        let (&low, &high) = (self.losses.keys().next()?, self.losses.keys().next_back()?);
        let step = ((high - low) as usize / BARS + 1) as i64;
        let mut bars = BTreeMap::new();
        for (loss, count) in &self.losses {
            *bars.entry((loss - low) / step).or_insert(0_u64) += count;
        }
        let last = (high - low) / step;
        let points = (0..=last).map(|bar| {
            let middle = low as f64 + (bar as f64 + 0.5) * step as f64 - 0.5;
            let count = bars.get(&bar).copied().unwrap_or(0);
            ((middle / 100.0).exp(), count as f64)
        });
        Some(Lines {
            x_name: "perplexity of the record",
            series: vec![Series::new("records", points.collect())],
            bars: true,
            log_x: true,
            ..Lines::default()
        })
    }
}

/// The part of the report about `scores.parquet`.
pub fn section(path: &Path) -> Result<Section, ReportError> {
    let mut scores = Scores::read(path)?;
    scores.keep_worst();
    let mut section = Section::new("Scores");
    if scores.scored == 0 {
        section.note("No token of these records is scored.");
        return Ok(section);
    }
    let mean = scores.sum / scores.scored as f64;
    section.facts(&[
        ("perplexity of all tokens", super::scale::short(mean.exp())),
        ("loss", format!("{mean:.4} nats a token")),
        ("scored tokens", crate::progress::count(scores.scored)),
        ("records", crate::progress::count(scores.records)),
    ]);
    section.chart(
        "Loss by position",
        "Mean negative log-probability of the tokens at a position, nats. Tokens that are given more are predicted better; a rise at \
         the end is a limit of the model's context.",
        scores.positions.lines("loss").svg(Kind::Linear, "Loss by position"),
    );
    let histogram = scores.histogram();
    section.chart(
        "Perplexity of records",
        "How many records have which perplexity.",
        histogram
            .and_then(|lines| lines.svg(Kind::Linear, "Histogram of the perplexity of records")),
    );
    let names = ["record", "tokens", "perplexity", "loss", "bits per byte"];
    let row = |record: &Scored| {
        vec![
            Cell::Text(record.id.clone()),
            Cell::count(u64::from(record.tokens)),
            Cell::short(record.loss.exp()),
            Cell::short(record.loss),
            record.bits_per_byte.map_or_else(Cell::none, Cell::short),
        ]
    };
    let shown = scores.worst.iter().take(SHOWN).map(row);
    section.table("Worst records", &table(&names, shown));
    if scores.worst.len() > SHOWN {
        let listed = crate::progress::count(scores.worst.len() as u64);
        let title = if (scores.worst.len() as u64) < scores.losses.values().sum() {
            format!("The worst {listed} scored records; scores.parquet has all")
        } else {
            format!("All {listed} scored records")
        };
        section.hidden_table(&title, &table(&names, scores.worst.iter().map(row)));
    }
    Ok(section)
}
