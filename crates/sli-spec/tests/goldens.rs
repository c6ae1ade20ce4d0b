//! Every golden of a registered type: its configuration is described, and the description accounts
//! for exactly the tensors that the reference saved, each with its shape.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sli_spec::{Config, ModelSpec, Options, Source, Split, describe};

type Shapes = BTreeMap<String, Vec<usize>>;

#[test]
fn descriptions_cover_the_saved_tensors() {
    let (mut checked, mut coded) = (0, 0);
    let mut failures = Vec::new();
    for folder in golden_folders() {
        let text = fs_err::read_to_string(folder.join("config.json")).unwrap();
        checked += 1;
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let built = Config::parse(&text).and_then(|config| describe(&config, &Options::default()));
        match built {
            Err(error) => failures.push(format!("{name}: {error}")),
            // Coded tensors have other names and shapes, which those who decode them know.
            Ok(built) if !built.storage.is_empty() => coded += 1,
            Ok(built) => {
                failures.extend(
                    difference(&built.spec, &shapes(&folder)).map(|line| format!("{name}: {line}")),
                );
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        checked - coded >= 400 && coded < 60,
        "{checked} goldens were found, {coded} of them coded"
    );
}

fn golden_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let mut folders: Vec<_> = fs_err::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("tensors.json").exists() && path.join("config.json").exists())
        .collect();
    folders.sort();
    folders
}

fn shapes(folder: &Path) -> Shapes {
    let text = fs_err::read_to_string(folder.join("tensors.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let shape = |tensor: &Value| {
        let axes = tensor["shape"].as_array().unwrap().iter();
        axes.map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let tensors = value["tensors"].as_array().unwrap().iter();
    tensors
        .map(|tensor| (tensor["name"].as_str().unwrap().to_owned(), shape(tensor)))
        .collect()
}

/// What the description and the file do not agree about, one line each.
fn difference(spec: &ModelSpec, stored: &Shapes) -> impl Iterator<Item = String> + use<> {
    // A checkpoint of the bare base model lacks the prefix.
    let prefixed = stored.keys().any(|name| name.starts_with(spec.base_prefix));
    let file_name = |name: &str| match name.strip_prefix(spec.base_prefix) {
        Some(bare) if !prefixed => bare.to_owned(),
        _ => name.to_owned(),
    };
    let mut lines = Vec::new();
    let mut used = BTreeSet::new();
    for leaf in spec.leaves() {
        let lookup = |name: &str| stored.get(&file_name(name)).cloned();
        // Addends of experts are vectors, one an expert.
        let vector =
            leaf.shape.len() == 1 || leaf.shape.len() == 2 && leaf.shard == sli_spec::Shard::Expert;
        match shape_of(&leaf.source, vector, &lookup) {
            None if leaf.optional.is_some() => {}
            None => lines.push(format!("{:?} is missing", leaf.source)),
            // The stored shape of a reshaped tensor is its own business.
            Some(shape) if is_reshaped(&leaf.source) => {
                if shape.iter().product::<usize>() != leaf.shape.iter().product::<usize>() {
                    lines.push(format!(
                        "{:?}: {shape:?} holds no {:?}",
                        leaf.source, leaf.shape
                    ));
                }
            }
            Some(shape) if shape != leaf.shape => {
                lines.push(format!(
                    "{:?} is {shape:?}, not {:?}",
                    leaf.source, leaf.shape
                ));
            }
            Some(_) => {}
        }
        for name in leaf.source.names() {
            if name.contains("{}") {
                used.extend(
                    (0..leaf.shape[0]).map(|at| file_name(&name.replace("{}", &at.to_string()))),
                );
            } else {
                used.insert(file_name(name));
            }
        }
    }
    for name in stored.keys().filter(|name| !used.contains(*name)) {
        if !spec
            .ignored
            .iter()
            .any(|pattern| matches(&file_name(pattern), name))
        {
            lines.push(format!("nothing uses `{name}`"));
        }
    }
    lines.into_iter()
}

/// Whether the shape of the stored tensor is lost on the way.
fn is_reshaped(source: &Source) -> bool {
    match source {
        Source::Reshape(_) | Source::BlockDiagonal { .. } => true,
        Source::Transpose(of) | Source::Elementwise { of, .. } | Source::Part { of, .. } => {
            is_reshaped(of)
        }
        _ => false,
    }
}

/// The shape that the expression evaluates to; `None`: a tensor is not there.
fn shape_of(
    source: &Source,
    vector: bool,
    lookup: &dyn Fn(&str) -> Option<Vec<usize>>,
) -> Option<Vec<usize>> {
    match source {
        Source::Tensor(name) => lookup(name),
        Source::OneOf(all) | Source::Tied { own: _, all } => all
            .iter()
            .find_map(|source| shape_of(source, vector, lookup)),
        // So many of all numbers.
        Source::Part {
            of,
            split: Split::Rows(sizes),
            part,
        } if is_reshaped(of) => {
            let all: usize = shape_of(of, vector, lookup)?.iter().product();
            Some(vec![all / sizes.iter().sum::<usize>() * sizes[*part]])
        }
        Source::Part { of, split, part } => {
            let mut shape = shape_of(of, vector, lookup)?;
            let rows = shape.len() - if vector { 1 } else { 2 };
            shape[rows] = match split {
                Split::Rows(sizes) => sizes[*part],
                Split::Groups { groups, rows } => groups * rows[*part],
                Split::PerHead { parts, .. } | Split::Strided { parts } => shape[rows] / parts,
                Split::Grouped { groups, queries } => {
                    let head = shape[rows] / (groups * (queries + 2));
                    groups * head * if *part == 0 { *queries } else { 1 }
                }
            };
            Some(shape)
        }
        Source::Transpose(of) => {
            let mut shape = shape_of(of, vector, lookup)?;
            let last = shape.len() - 1;
            shape.swap(last, last - 1);
            Some(shape)
        }
        Source::ConcatRows(all) => {
            let shapes: Option<Vec<_>> = all
                .iter()
                .map(|part| shape_of(part, vector, lookup))
                .collect();
            let shapes = shapes?;
            let mut shape = shapes.first()?.clone();
            // Of matrices that are stacked the rows of every one; kernels of convolutions have one.
            let is_stacked = shape.len() > 2 && shape[shape.len() - 2] > 1;
            let rows = if is_stacked { shape.len() - 2 } else { 0 };
            shape[rows] = shapes.iter().map(|part| part[rows]).sum();
            Some(shape)
        }
        // All experts are stored alike: the first tells the shape.
        Source::Each { of, count } => {
            let first = |name: &str| lookup(&name.replace("{}", "0"));
            let mut shape = shape_of(of, vector, &first)?;
            shape.insert(0, *count);
            Some(shape)
        }
        Source::Elementwise { of, .. } | Source::RopePermute { of, .. } | Source::Reshape(of) => {
            shape_of(of, vector, lookup)
        }
        Source::Index { of, index: _ } => {
            let mut shape = shape_of(of, vector, lookup)?;
            shape.remove(0);
            Some(shape)
        }
        Source::ConcatColumns(all) => {
            let shapes = all.iter().map(|part| shape_of(part, vector, lookup));
            let shapes: Vec<_> = shapes.collect::<Option<_>>()?;
            let mut shape = shapes.first()?.clone();
            shape[1] = shapes.iter().map(|part| part[1]).sum();
            Some(shape)
        }
        // As many numbers as with the zeros around them.
        Source::BlockDiagonal { of, groups } => {
            let mut shape = shape_of(of, vector, lookup)?;
            shape.push(*groups);
            Some(shape)
        }
    }
}

/// `*` matches any run.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).any(|i| tail.is_char_boundary(i) && matches(rest, &tail[i..]))
        }),
    }
}
