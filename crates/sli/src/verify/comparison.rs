//! Our results beside what is expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::Checkpoint;
use sli_spec::ModelSpec;

use super::error::VerifyError;
use super::expected::{Expected, Place, Values};
use super::receipt::{Compared, Worst};

/// What was found of all tensors.
#[derive(Default)]
pub struct Found {
    /// Numbers that were compared.
    pub values: u64,
    /// The row that is farthest off.
    pub worst: Worst,
    /// By place, in the order of the names.
    pub places: Vec<Compared>,
}

/// Our files of results, opened once.
#[derive(Default)]
struct Ours(BTreeMap<PathBuf, Arc<Checkpoint>>);

/// Rows of both, side by side.
struct Pair<'a> {
    ours: Values<'a>,
    theirs: Values<'a>,
    /// The token of each of their rows.
    tokens: Vec<usize>,
    width: usize,
}

/// Compares the results in a folder with what is expected of them; records are named there by their numbers.
pub fn compare(spec: &ModelSpec, expected: &Expected, out: &Path) -> Result<Found, VerifyError> {
    let mut files = Ours::default();
    let mut places: BTreeMap<Place, Compared> = BTreeMap::new();
    let mut found = Found::default();
    for name in expected.names() {
        let bad = |problem: String| VerifyError::Expected {
            path: expected.path.clone(),
            problem: format!("`{name}`: {problem}"),
        };
        let (record, place) = expected.place(name).map_err(bad)?;
        let (file, said) = located(spec, &place).map_err(bad)?;
        let ours = files.open(&out.join(file)).map_err(bad)?;
        let pair = pair(expected, (name, record), ours).map_err(bad)?;
        let compared = places.entry(place).or_insert_with(|| Compared {
            place: said.clone(),
            rows: 0,
            relative_error: 0.0,
        });
        for (row, &token) in pair.tokens.iter().enumerate() {
            let theirs = pair.theirs.row(row, pair.width).map_err(bad)?;
            if let Some(value) = theirs.iter().find(|value| !value.is_finite()) {
                return Err(bad(format!("a value of row {row} is {value}")));
            }
            let ours = pair.ours.row(token, pair.width).map_err(bad)?;
            let error = relative_error(&ours, &theirs);
            compared.rows += 1;
            compared.relative_error = compared.relative_error.max(error);
            if error > found.worst.relative_error || found.worst.place.is_empty() {
                let records = &expected.facts.records;
                found.worst = Worst {
                    record: records
                        .get(record)
                        .map_or_else(String::new, |it| it.id.clone()),
                    place: said.clone(),
                    token,
                    ..worst(&ours, &theirs, error)
                };
            }
            found.values += theirs.len() as u64;
        }
    }
    found.places = places.into_values().collect();
    Ok(found)
}

impl Ours {
    fn open(&mut self, path: &Path) -> Result<&Arc<Checkpoint>, String> {
        if !self.0.contains_key(path) {
            let file = Checkpoint::open(path).map_err(|error| error.to_string())?;
            self.0.insert(path.to_owned(), Arc::new(file));
        }
        self.0
            .get(path)
            .ok_or_else(|| format!("{} was not opened", path.display()))
    }
}

/// What is expected by that name of that record, and what we have of it in a file.
fn pair<'a>(
    expected: &'a Expected,
    (name, record): (&str, usize),
    file: &Arc<Checkpoint>,
) -> Result<Pair<'a>, String> {
    let key = record.to_string();
    let shape = file.tensor(&key).map(|tensor| &tensor.shape[..]);
    let Some(&[rows, width]) = shape else {
        return Err("the model gives nothing of that record there".into());
    };
    let [count, expected_width] = expected.shape(name);
    if expected_width != width {
        return Err(format!(
            "it is {expected_width} wide, the model's is {width}"
        ));
    }
    let tokens = match expected.rows(name)? {
        Some(tokens) => tokens.to_vec(),
        None if count == rows => (0..rows).collect(),
        None => return Err(format!("it has {count} rows, the model's has {rows}")),
    };
    if let Some(token) = tokens.iter().find(|token| **token >= rows) {
        return Err(format!("a row is of token {token}, of {rows}"));
    }
    Ok(Pair {
        ours: Values::stored(file, &key, [rows, width])?,
        theirs: expected.values(name)?,
        tokens,
        width,
    })
}

/// The length of the difference by that of what is expected; of what is expected to be zero, the length itself. Infinite where our
/// numbers are none.
fn relative_error(own: &[f32], expected: &[f32]) -> f64 {
    let pairs = || {
        own.iter()
            .zip(expected)
            .map(|(&a, &b)| (f64::from(a), f64::from(b)))
    };
    let difference: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let length: f64 = pairs().map(|(_, b)| b * b).sum();
    let error = if length > 0.0 {
        (difference / length).sqrt()
    } else {
        difference.sqrt()
    };
    // No comparison with it holds, so it would pass.
    if error.is_nan() { f64::INFINITY } else { error }
}

/// The feature of a row that is farthest off.
fn worst(own: &[f32], expected: &[f32], relative_error: f64) -> Worst {
    let pairs = own.iter().zip(expected).enumerate();
    let farthest =
        pairs.max_by(|(_, (a, b)), (_, (c, d))| (*a - *b).abs().total_cmp(&(*c - *d).abs()));
    let (feature, (ours, expected)) = farthest.unwrap_or((0, (&0.0, &0.0)));
    Worst {
        relative_error,
        feature,
        ours: *ours,
        expected: *expected,
        ..Worst::default()
    }
}

/// The file of our results that has a place, and the place in words.
pub fn located(spec: &ModelSpec, place: &Place) -> Result<(String, String), String> {
    let find = |name: &Option<String>| match (name, &spec.stacks[..]) {
        (None, [stack]) => Ok(stack),
        (None, _) => Err("the model has several stacks: name one of them".to_owned()),
        (Some(name), stacks) => {
            let stack = stacks.iter().find(|stack| stack.name == name);
            stack.ok_or_else(|| format!("the model has no stack `{name}`"))
        }
    };
    Ok(match place {
        Place::Logits => ("logits.safetensors".into(), "logits".into()),
        Place::Hidden(name, boundary) => {
            let stack = find(name)?;
            if *boundary > stack.layers.len() {
                return Err(format!(
                    "the {} has {} layers",
                    stack.name,
                    stack.layers.len()
                ));
            }
            let file = format!("hidden/{}.{boundary:03}.safetensors", stack.name);
            (file, format!("{} layer {boundary}", stack.name))
        }
        Place::End(name) => {
            let stack = find(name)?;
            let last = format!("{:03}", stack.layers.len());
            let part = if stack.head.norm.is_some() {
                "norm"
            } else {
                &last
            };
            let file = format!("hidden/{}.{part}.safetensors", stack.name);
            (file, format!("{} end", stack.name))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_rows() {
        assert_eq!(relative_error(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert_eq!(relative_error(&[0.0, 10.0], &[6.0, 8.0]), 0.4_f64.sqrt());
        assert_eq!(relative_error(&[3.0, 4.0], &[0.0, 0.0]), 5.0);
        assert_eq!(relative_error(&[3.0, f32::NAN], &[3.0, 4.0]), f64::INFINITY);
        let found = worst(&[3.0, f32::NAN, 9.0], &[3.0, 4.0, 5.0], f64::INFINITY);
        assert_eq!(found.feature, 1);
    }
}
