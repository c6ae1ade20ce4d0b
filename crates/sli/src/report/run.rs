//! What a report says of the run itself.

use serde_json::Value;
use sli_engine::bytes::human;
use std::time::Duration;

use super::chart::{Lines, Series};
use super::markup::{Cell, table};
use super::page::Section;
use super::scale::{Kind, short};
use crate::progress::{count, duration};

/// What was run, and how fast, from `run.json`.
pub fn summary(manifest: &Value) -> Section {
    let mut section = Section::new("The run");
    section.facts(&facts(manifest));
    section
}

/// Where its time went, and what it left.
pub fn details(manifest: &Value) -> Section {
    let mut section = Section::new("Time and files");
    let (names, layers) = layer_seconds(manifest);
    if !layers.is_empty() {
        let lines = Lines {
            x_name: "layer",
            series: names
                .iter()
                .zip(layers)
                .map(|(name, points)| Series::new(name.as_str(), points))
                .collect(),
            bars: names.len() == 1,
            whole: true,
            ..Lines::default()
        };
        section.chart(
            "Time by layer",
            "Seconds of each layer over all super-batches, its waiting for weights included.",
            lines.svg(Kind::Linear, "Time by layer"),
        );
    }
    if let Some(stages) = stages(manifest) {
        section.table("Where the time went", &stages);
    }
    section.hidden_table("Files", &files(manifest));
    section
}

fn number(manifest: &Value, name: &str) -> Option<f64> {
    manifest.get(name)?.as_f64()
}

fn whole(manifest: &Value, name: &str) -> Option<u64> {
    manifest.get(name)?.as_u64()
}

fn text<'a>(manifest: &'a Value, name: &str) -> Option<&'a str> {
    manifest.get(name)?.as_str()
}

fn facts(manifest: &Value) -> Vec<(&'static str, String)> {
    let seconds = number(manifest, "seconds_in_all").filter(|seconds| *seconds > 0.0);
    let tokens = whole(manifest, "tokens");
    let time = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let rate = tokens
        .zip(seconds)
        .map(|(tokens, seconds)| short(tokens as f64 / seconds));
    let facts = [
        ("tokens", tokens.map(count)),
        ("records", whole(manifest, "records").map(count)),
        ("time", seconds.map(time)),
        ("tokens a second", rate),
        (
            "weights read",
            whole(manifest, "bytes_read_in_all").map(human),
        ),
        (
            "of the roofline",
            number(manifest, "roofline_fraction").map(|part| format!("{:.0} %", part * 100.0)),
        ),
        (
            "peak memory",
            whole(manifest, "peak_memory")
                .filter(|bytes| *bytes > 0)
                .map(human),
        ),
        ("memory budget", whole(manifest, "memory_budget").map(human)),
        ("precision", text(manifest, "compute").map(str::to_owned)),
        ("kernels", text(manifest, "isa").map(str::to_owned)),
        ("threads", whole(manifest, "threads").map(count)),
        (
            "processes",
            whole(manifest, "processes")
                .filter(|count| *count > 1)
                .map(count),
        ),
        (
            "parts",
            manifest
                .get("parts")
                .and_then(Value::as_array)
                .map(|parts| count(parts.len() as u64)),
        ),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The seconds of each layer by stack; of parts of a dataset those of all parts together.
fn layer_seconds(manifest: &Value) -> (Vec<String>, Vec<Vec<(f64, f64)>>) {
    let parts = manifest.get("parts").and_then(Value::as_array);
    let all = parts.into_iter().flatten().chain(std::iter::once(manifest));
    let mut names: Vec<String> = Vec::new();
    let mut layers: Vec<Vec<(f64, f64)>> = Vec::new();
    for stacks in all.filter_map(|part| part.get("layer_seconds")?.as_object()) {
        for (name, seconds) in stacks {
            let at = names
                .iter()
                .position(|other| other == name)
                .unwrap_or_else(|| {
                    names.push(name.clone());
                    layers.push(Vec::new());
                    names.len() - 1
                });
            for (index, seconds) in seconds.as_array().into_iter().flatten().enumerate() {
                let seconds = seconds.as_f64().unwrap_or(0.0);
                match layers[at].get_mut(index) {
                    Some(point) => point.1 += seconds,
                    None => layers[at].push(((index + 1) as f64, seconds)),
                }
            }
        }
    }
    (names, layers)
}

fn stages(manifest: &Value) -> Option<String> {
    let stages = manifest.get("stages")?.as_object()?;
    let total = stages.get("total")?.as_f64()?.max(1e-9);
    let beside = |name: &str| matches!(name, "prepare" | "read" | "pack");
    let names = |name: &str| match name {
        "prepare" => "reading records",
        "read" => "reading weights",
        "pack" => "packing weights",
        "wait" => "waiting for weights",
        "gemm" => "matrix products",
        "attention" => "attention",
        "norm" => "norms",
        "scan" => "scans and convolutions",
        "rotary" => "rotary positions",
        "activation" => "activations",
        "vocabulary" => "softmax over the vocabulary",
        "elementwise" => "sums and scales",
        _ => "tables, routing, statistics, writing",
    };
    let row = |(name, seconds): (&String, &Value)| {
        let seconds = seconds.as_f64()?;
        let part = if beside(name) {
            Cell::none()
        } else {
            Cell::Number(format!("{:.1} %", seconds / total * 100.0), seconds / total)
        };
        let kind = if beside(name) {
            "before or beside the computation"
        } else {
            ""
        };
        let shown = name != "total" && seconds > 0.0;
        shown.then(|| {
            vec![
                Cell::Text(names(name).to_owned()),
                Cell::short(seconds),
                part,
                Cell::Text(kind.into()),
            ]
        })
    };
    Some(table(
        &["stage", "seconds", "of the computation", ""],
        stages.iter().filter_map(row),
    ))
}

fn files(manifest: &Value) -> String {
    let files = manifest.get("files").and_then(Value::as_array);
    let rows = files.into_iter().flatten().map(|file| {
        let bytes = whole(file, "bytes").unwrap_or(0);
        vec![
            Cell::Text(text(file, "name").unwrap_or_default().to_owned()),
            Cell::Number(human(bytes), bytes as f64),
            Cell::Text(text(file, "blake3").unwrap_or_default().to_owned()),
        ]
    });
    table(&["file", "size", "blake3"], rows)
}

/// What was run, for the foot of the page.
pub fn foot(manifest: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "sli {}",
        text(manifest, "sli").unwrap_or("of an unknown version")
    )];
    let key = manifest.get("key").and_then(Value::as_object);
    let settings = key
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.as_str() != Some("not there"));
    lines.extend(settings.map(|(name, value)| match value.as_str() {
        Some(value) => format!("{name}: {value}"),
        None => format!("{name}: {value}"),
    }));
    lines
}
