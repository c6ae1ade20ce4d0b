//! `docs/architectures.md`, `docs/weight-naming.md` and `docs/supported_architectures.json` are what the registry says.
//!
//! `UPDATE_DOCS=1 cargo test -p sli-spec --test docs` writes them anew.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot read or write its files has failed"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sli_spec::registry::{MODEL_TYPES, REFUSED_TYPES};
use sli_spec::{Config, Facts, weight_names};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Goldens of every type.
fn goldens() -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(root().join("goldens")).unwrap() {
        let path = entry.unwrap().path().join("config.json");
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        let name = Config::parse(&text).and_then(|config| config.model_type());
        if let Ok(name) = name {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

fn architectures() -> String {
    let goldens = goldens();
    let mut text = String::from(
        "# Supported architectures\n\n\
         Generated from the registry (`UPDATE_DOCS=1 cargo test -p sli-spec --test docs`); `sli architectures --json` prints\n\
         the same. *Goldens*: tiny models of the type whose hidden states and logits are compared with the reference in every\n\
         test run, with F32 and BF16 weights, with ample and with the least memory. What a type's defaults do not show (windows,\n\
         scalings, biases) is in its goldens.\n\n",
    );
    let _ = writeln!(text, "{} model types.\n", MODEL_TYPES.len());
    text.push_str("| type | family | goldens | positions | mixers | experts | layers | head |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    let mut rows: Vec<Facts> = MODEL_TYPES
        .iter()
        .map(|row| Facts::of(row).unwrap())
        .collect();
    rows.sort_by(|a, b| a.model_type.cmp(&b.model_type));
    for facts in rows {
        let joined = |items: Vec<String>| {
            if items.is_empty() {
                "none".to_owned()
            } else {
                items.join("; ")
            }
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} | `{}` | {} |",
            facts.model_type,
            facts.family,
            goldens.get(&facts.model_type).copied().unwrap_or(0),
            joined(facts.positions.iter().map(ToString::to_string).collect()),
            joined(facts.mixers.iter().cloned().collect()),
            facts.mixture_of_experts.unwrap_or("none"),
            facts.layer_prefix,
            facts
                .head
                .map_or_else(|| "none".to_owned(), |name| format!("`{name}`")),
        );
    }
    text.push_str("\n## Not supported\n\n| type | because |\n| --- | --- |\n");
    for refused in REFUSED_TYPES {
        let _ = writeln!(text, "| `{}` | {} |", refused.model_type, refused.reason);
    }
    text
}

fn weight_naming() -> String {
    let mut text = String::from(
        "# Weight naming\n\n\
         Generated from the registry (`UPDATE_DOCS=1 cargo test -p sli-spec --test docs`). The tensors that a checkpoint of each\n\
         type's default configuration holds, in the order of use. `{}` is the number of a layer or an expert; `|` separates\n\
         spellings of the same weight, of which a file has one. The prefix of the base model may be missing from all names.\n\
         Types with the same names are listed together.\n",
    );
    let mut groups: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for row in MODEL_TYPES.iter() {
        let names = weight_names(row).unwrap();
        match groups.iter_mut().find(|(other, _)| *other == names) {
            Some((_, types)) => types.push(row.model_type),
            None => groups.push((names, vec![row.model_type])),
        }
    }
    for (names, types) in groups {
        let _ = writeln!(text, "\n## {}\n\n```", types.join(", "));
        for name in names {
            let _ = writeln!(text, "{name}");
        }
        text.push_str("```\n");
    }
    text
}

/// For other programs: a type a line, in the order of the registry.
fn supported() -> String {
    let rows = MODEL_TYPES
        .iter()
        .map(|row| serde_json::to_string(&Facts::of(row).unwrap()).unwrap());
    format!("[\n{}\n]\n", rows.collect::<Vec<_>>().join(",\n"))
}

fn check(file: &str, text: &str) {
    let path = root().join("docs").join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/{file} is stale: UPDATE_DOCS=1 cargo test -p sli-spec --test docs"
    );
}

#[test]
fn the_table_of_architectures_is_current() {
    check("architectures.md", &architectures());
}

#[test]
fn the_names_of_weights_are_current() {
    check("weight-naming.md", &weight_naming());
}

#[test]
fn the_list_for_programs_is_current() {
    check("supported_architectures.json", &supported());
}
