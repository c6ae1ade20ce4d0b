//! What a report says of the log-probabilities.

use std::path::Path;

use arrow::datatypes::{Float64Type, UInt32Type};

use super::error::ReportError;
use super::markup::{Cell, cut};
use super::page::Section;
use super::positions::Positions;
use super::scale::Kind;
use super::tables::read;
use super::worst::{Histogram, Worst};

/// A record in few words.
struct Scored {
    id: String,
    tokens: u32,
    bits_per_byte: Option<f64>,
}

/// What is added up over the records.
struct Scores {
    records: u64,
    scored: u64,
    sum: f64,
    /// By their loss: the mean negative log-probability of a scored token, nats.
    worst: Worst<Scored>,
    losses: Histogram,
    /// Losses by position from the first scored one on.
    positions: Positions,
}

/// Nats that no loss comes near.
const LARGEST: f64 = 1e6;

impl Scores {
    fn read(path: &Path) -> Result<Self, ReportError> {
        let mut scores = Self {
            records: 0,
            scored: 0,
            sum: 0.0,
            worst: Worst::default(),
            losses: Histogram::new(100.0),
            positions: Positions::default(),
        };
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
        self.losses.add(loss);
        self.worst.add(
            loss,
            Scored {
                id: cut(id, 80),
                tokens,
                bits_per_byte: bits,
            },
        );
    }
}

/// The part of the report about `scores.parquet`.
pub fn section(path: &Path) -> Result<Section, ReportError> {
    let scores = Scores::read(path)?;
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
    let histogram = (scores.losses).lines("perplexity of the record", f64::exp);
    section.chart(
        "Perplexity of records",
        "How many records have which perplexity.",
        histogram
            .and_then(|lines| lines.svg(Kind::Linear, "Histogram of the perplexity of records")),
    );
    let names = ["record", "tokens", "perplexity", "loss", "bits per byte"];
    let row = |loss: f64, record: &Scored| {
        vec![
            Cell::Text(record.id.clone()),
            Cell::count(u64::from(record.tokens)),
            Cell::short(loss.exp()),
            Cell::short(loss),
            record.bits_per_byte.map_or_else(Cell::none, Cell::short),
        ]
    };
    let more = |listed: &str, is_all| {
        if is_all {
            format!("All {listed} scored records")
        } else {
            format!("The worst {listed} scored records; scores.parquet has all")
        }
    };
    let table = ("Worst records", &names[..]);
    scores.worst.write(&mut section, table, row, more);
    Ok(section)
}
