//! What a report says of how far a checkpoint is from another one.

use std::path::Path;

use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};
use serde_json::Value;

use super::chart::{Lines, Series};
use super::error::ReportError;
use super::markup::{Cell, cut, table};
use super::page::Section;
use super::positions::Positions;
use super::scale::{Kind, short};
use super::tables::read;
use super::worst::{Histogram, Worst};

/// What was compared at a boundary.
struct Boundary {
    layer: u32,
    site: String,
    error: String,
    tokens: u64,
    relative_error: Option<f64>,
    cosine: Option<f64>,
    rms: f64,
    abs_max: f64,
    least_cosine: Option<f64>,
}

/// Boundaries by stack, in their order.
type Stacks = Vec<(String, Vec<Boundary>)>;

fn read_boundaries(path: &Path) -> Result<Stacks, ReportError> {
    let mut stacks = Stacks::new();
    let names = [
        "stack",
        "layer",
        "site",
        "error",
        "tokens",
        "relative_error",
        "cosine",
        "rms",
        "abs_max",
        "least_cosine",
    ];
    read(path, &names, |columns| {
        let (named, sites, errors) = (columns.texts(0)?, columns.texts(2)?, columns.texts(3)?);
        let layers = columns.numbers::<UInt32Type>(1)?;
        let tokens = columns.numbers::<UInt64Type>(4)?;
        let values = |at| columns.numbers::<Float64Type>(at);
        let (relative, cosines) = (values(5)?, values(6)?);
        let (rms, largest, least) = (values(7)?, values(8)?, values(9)?);
        for row in 0..columns.rows() {
            let at = stacks.iter().position(|(stack, _)| stack == named[row]);
            let at = at.unwrap_or_else(|| {
                stacks.push((named[row].to_owned(), Vec::new()));
                stacks.len() - 1
            });
            stacks[at].1.push(Boundary {
                layer: layers[row].unwrap_or(0),
                site: sites[row].to_owned(),
                error: errors[row].to_owned(),
                tokens: tokens[row].unwrap_or(0),
                relative_error: relative[row],
                cosine: cosines[row],
                rms: rms[row].unwrap_or(f64::NAN),
                abs_max: largest[row].unwrap_or(f64::NAN),
                least_cosine: least[row],
            });
        }
        Ok(())
    })?;
    Ok(stacks)
}

/// A value of the hidden states by layer, a line for each error.
fn by_layer(boundaries: &[Boundary], value: impl Fn(&Boundary) -> Option<f64>) -> Lines {
    let series = ["accumulated", "own"].map(|error| {
        let own = boundaries
            .iter()
            .filter(|boundary| boundary.error == error && boundary.site == "hidden");
        let points = own.filter_map(|boundary| Some((f64::from(boundary.layer), value(boundary)?)));
        Series::new(error, points.collect())
    });
    Lines {
        x_name: "layer",
        series: series.into_iter().collect(),
        whole: true,
        ..Lines::default()
    }
}

/// The parts of the report about `drift.parquet`, one a stack.
pub fn sections(path: &Path) -> Result<Vec<Section>, ReportError> {
    let stacks = read_boundaries(path)?;
    let is_single = stacks.len() == 1;
    let section = |(stack, boundaries): (String, Vec<Boundary>)| {
        let title = if is_single {
            "Drift by layer".to_owned()
        } else {
            format!("Drift of the {stack} by layer")
        };
        let mut section = Section::new(&title);
        section.chart(
            "Relative error",
            "Length of the difference from the reference by the length of the reference. Own: what the layer does wrong by itself, given \
             what the reference has before it. Accumulated: what has gone wrong up to there. Layers whose own error stands out want \
             more bits.",
            by_layer(&boundaries, |boundary| boundary.relative_error)
                .svg(Kind::Log, "Relative error by layer"),
        );
        section.chart(
            "Turn",
            "1 - cosine with the reference, mean over tokens.",
            by_layer(&boundaries, |boundary| Some(1.0 - boundary.cosine?))
                .svg(Kind::Log, "1 - cosine by layer"),
        );
        section.chart(
            "The token that is turned most",
            "1 - the least cosine of a token. One that is far above the mean is often the first token, or an outlier that was cut.",
            by_layer(&boundaries, |boundary| Some(1.0 - boundary.least_cosine?))
                .svg(Kind::Log, "1 - least cosine by layer"),
        );
        section.hidden_table("Every boundary", &every(&boundaries));
        section
    };
    Ok(stacks.into_iter().map(section).collect())
}

fn every(boundaries: &[Boundary]) -> String {
    let names = [
        "layer",
        "site",
        "error",
        "tokens",
        "relative error",
        "cosine",
        "root mean square",
        "largest",
        "least cosine",
    ];
    let optional = |value: Option<f64>| value.map_or_else(Cell::none, Cell::short);
    let rows = boundaries.iter().map(|boundary| {
        vec![
            Cell::count(u64::from(boundary.layer)),
            Cell::Text(boundary.site.clone()),
            Cell::Text(boundary.error.clone()),
            Cell::count(boundary.tokens),
            optional(boundary.relative_error),
            boundary.cosine.map_or_else(Cell::none, near_one),
            Cell::short(boundary.rms),
            Cell::short(boundary.abs_max),
            boundary.least_cosine.map_or_else(Cell::none, near_one),
        ]
    });
    table(&names, rows)
}

/// A cosine, of which the last digits count.
fn near_one(value: f64) -> Cell {
    Cell::Number(format!("{value:.6}"), value)
}

/// A record whose distributions were compared.
struct Diverged {
    id: String,
    tokens: u64,
    /// Nats.
    largest: f64,
    /// The part of the positions at which the most probable token is the same.
    alike: f64,
}

/// What is added up over the records.
struct Divergences {
    /// By their mean divergence, nats.
    worst: Worst<Diverged>,
    /// Of the logarithms of that to base 10.
    spread: Histogram,
    kl: Positions,
    /// 1 where the most probable token is the same, by position.
    alike: Positions,
}

impl Divergences {
    fn read(path: &Path) -> Result<Self, ReportError> {
        let mut all = Self {
            worst: Worst::default(),
            spread: Histogram::new(20.0),
            kl: Positions::default(),
            alike: Positions::default(),
        };
        let names = ["id", "kl", "top_ids", "reference_top_ids"];
        read(path, &names, |columns| {
            let ids = columns.texts(0)?;
            for (row, id) in ids.iter().enumerate() {
                let kl = columns.list(1, row)?;
                let own = columns.list_of::<UInt32Type>(2, row)?;
                let reference = columns.list_of::<UInt32Type>(3, row)?;
                let alike = own.iter().zip(&reference).map(|(own, other)| own == other);
                all.add(id, &kl, alike);
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn add(&mut self, id: &str, kl: &[f32], alike: impl Iterator<Item = bool>) {
        let (mut sum, mut largest, mut same) = (0.0, 0.0_f64, 0_u64);
        for ((place, kl), alike) in (1..).zip(kl).zip(alike) {
            let kl = f64::from(*kl);
            self.kl.add(place, kl);
            self.alike.add(place, f64::from(u8::from(alike)));
            sum += kl;
            largest = largest.max(kl);
            same += u64::from(alike);
        }
        // Nothing, or a table that lies.
        if kl.is_empty() || !f64::is_finite(sum) {
            return;
        }
        let mean = sum / kl.len() as f64;
        self.spread.add(mean.max(1e-12).log10());
        self.worst.add(
            mean,
            Diverged {
                id: cut(id, 80),
                tokens: kl.len() as u64,
                largest,
                alike: same as f64 / kl.len() as f64,
            },
        );
    }
}

fn facts(manifest: &Value) -> Vec<(&'static str, String)> {
    let totals = manifest
        .get("drift")
        .and_then(|drift| drift.get("divergence"));
    let number = |path: &[&str]| {
        let found = path
            .iter()
            .try_fold(totals?, |value, name| value.get(*name))?;
        found.as_f64()
    };
    let nats = |path: &[&str]| number(path).map(|value| format!("{} nats", short(value)));
    let facts = [
        ("mean divergence", nats(&["kl", "mean"])),
        ("median", nats(&["kl", "q0.5"])),
        ("99 % below", nats(&["kl", "q0.99"])),
        ("of the head alone", nats(&["kl_of_head", "mean"])),
        (
            "same most probable token",
            number(&["top1_agreement"]).map(|part| format!("{:.2} %", part * 100.0)),
        ),
        ("perplexity", number(&["perplexity"]).map(short)),
        (
            "of the reference",
            number(&["reference_perplexity"]).map(short),
        ),
        (
            "positions",
            number(&["positions"]).map(|count| crate::progress::count(count as u64)),
        ),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The part of the report about `divergence.parquet`.
pub fn divergence(path: &Path, manifest: &Value) -> Result<Section, ReportError> {
    let all = Divergences::read(path)?;
    let mut section = Section::new("Divergence");
    if all.worst.is_empty() {
        section.note("No position of these records was compared.");
        return Ok(section);
    }
    section.facts(&facts(manifest));
    section.chart(
        "Divergence by position",
        "Mean Kullback-Leibler divergence from the reference's distribution of the next token, nats.",
        all.kl.lines("divergence").svg(Kind::Linear, "Divergence by position"),
    );
    section.chart(
        "Agreement by position",
        "The part of the records in which both hold the same token for the most probable one.",
        all.alike
            .lines("agreement")
            .svg(Kind::Linear, "Agreement by position"),
    );
    section.chart(
        "Divergence of records",
        "How many records have which mean divergence.",
        all.spread
            .lines("divergence of the record, nats a token", |log| {
                10_f64.powf(log)
            })
            .and_then(|lines| lines.svg(Kind::Linear, "Histogram of the divergence of records")),
    );
    let names = [
        "record",
        "tokens",
        "mean divergence",
        "largest",
        "same most probable token",
    ];
    let row = |mean: f64, record: &Diverged| {
        vec![
            Cell::Text(record.id.clone()),
            Cell::count(record.tokens),
            Cell::short(mean),
            Cell::short(record.largest),
            Cell::Number(format!("{:.1} %", record.alike * 100.0), record.alike),
        ]
    };
    let more = |listed: &str, is_all| {
        if is_all {
            format!("All {listed} records that were compared")
        } else {
            format!("The {listed} records that diverge most; divergence.parquet has all")
        }
    };
    let table = ("Records that diverge most", &names[..]);
    all.worst.write(&mut section, table, row, more);
    Ok(section)
}
