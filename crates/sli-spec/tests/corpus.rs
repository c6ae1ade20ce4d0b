//! Published configurations: each is read without an unread key, and its parameters are as many as
//! the reference counts (`tests/corpus/README.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sli_spec::{Config, Options, describe};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

#[test]
fn published_configurations_are_described() {
    let counts = fs_err::read_to_string(folder().join("parameters.json")).unwrap();
    let counts: BTreeMap<String, u64> = serde_json::from_str(&counts).unwrap();
    assert!(counts.len() >= 40);
    let mut failures = Vec::new();
    for (name, expected) in counts {
        let text = fs_err::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let config = Config::parse(&text).unwrap();
        match describe(&config, &Options::default()) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(built) => {
                let found = built.parameters();
                if found != expected {
                    failures.push(format!("{name}: {found} parameters, not {expected}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_file_has_a_count_and_a_source() {
    let counts = fs_err::read_to_string(folder().join("parameters.json")).unwrap();
    let readme = fs_err::read_to_string(folder().join("README.md")).unwrap();
    for entry in fs_err::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some((organisation, model)) = name
            .strip_suffix(".json")
            .and_then(|stem| stem.split_once("__"))
        else {
            continue;
        };
        assert!(
            counts.contains(&format!("\"{organisation}__{model}\"")),
            "{name}"
        );
        assert!(
            readme.contains(&format!("| {organisation}/{model} |")),
            "{name}"
        );
    }
}

/// Rows of the index that end with a number say the total that others publish.
#[test]
fn published_totals_are_met() {
    let counts = fs_err::read_to_string(folder().join("parameters.json")).unwrap();
    let counts: BTreeMap<String, u64> = serde_json::from_str(&counts).unwrap();
    let readme = fs_err::read_to_string(folder().join("README.md")).unwrap();
    let mut met = 0;
    for row in readme.lines() {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [model, _, total] = cells[..] else {
            continue;
        };
        if let Ok(total) = total.replace(',', "").parse::<u64>() {
            assert_eq!(counts[&model.replace('/', "__")], total, "{model}");
            met += 1;
        }
    }
    assert!(met >= 20);
}
