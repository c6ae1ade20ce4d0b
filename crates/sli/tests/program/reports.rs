//! Inputs as people reported them, each with the result that the reference gives.
//!
//! A folder of `tests/reports` holds files in the form in which people have them (its `README.md` says which), `cmd`,
//! a shell line that runs `$SLI`, and `expect.json`, an object of:
//!
//! - `exit`: the exit code; 0, or 3 where an `error` is expected;
//! - `error`, `says`: regular expressions that stderr matches;
//! - `ids`, `sum_logprob`, `logprobs` (behind the first token), `embedding` (its first numbers): by record, from
//!   the result files; numbers were printed with four digits and agree to 2e-3 of their size and 2e-3;
//! - `width`: numbers in each of the embeddings; `records`: rows of `scores.parquet`;
//! - `or`: an object of the same kind that is as good.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, UInt32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use regex::Regex;
use serde::Deserialize;

use crate::place::{Outcome, Place};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Expected {
    exit: Option<i32>,
    error: Option<String>,
    says: Option<String>,
    ids: BTreeMap<String, Vec<u32>>,
    sum_logprob: BTreeMap<String, f64>,
    logprobs: BTreeMap<String, Vec<f64>>,
    embedding: BTreeMap<String, Vec<f64>>,
    width: Option<usize>,
    records: Option<usize>,
    or: Option<Box<Self>>,
}

/// What a run left: columns of `scores.parquet` and of `embeddings.parquet` by record.
#[derive(Default)]
struct Results {
    ids: BTreeMap<String, Vec<u32>>,
    sums: BTreeMap<String, f64>,
    logprobs: BTreeMap<String, Vec<f64>>,
    embeddings: BTreeMap<String, Vec<f64>>,
}

#[test]
fn what_people_reported_comes_out_as_in_the_reference() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
    let mut names: Vec<String> = fs_err::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 48, "{} reports", names.len());
    let mut wrong = Vec::new();
    for name in names {
        let case = folder.join(&name);
        let expected = fs_err::read(case.join("expect.json")).unwrap();
        let expected: Expected = serde_json::from_slice(&expected).unwrap();
        let place = Place::new();
        place.copy(&case, "case");
        let command = fs_err::read_to_string(case.join("cmd")).unwrap();
        let outcome = place.shell("case", &command);
        let results = Results::read(&place.path("case/out"));
        let first = expected.differs(&outcome, &results);
        let other = expected.or.as_ref();
        if let Some(problem) = first
            && other.is_none_or(|other| other.differs(&outcome, &results).is_some())
        {
            wrong.push(format!("{name}: {problem}\n{}", outcome.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Expected {
    /// What is otherwise than expected, if anything is.
    fn differs(&self, outcome: &Outcome, results: &Results) -> Option<String> {
        let code = self
            .exit
            .unwrap_or(if self.error.is_some() { 3 } else { 0 });
        if outcome.code != code {
            return Some(format!("exit code {} instead of {code}", outcome.code));
        }
        for pattern in self.error.iter().chain(&self.says) {
            if !Regex::new(pattern).unwrap().is_match(&outcome.stderr) {
                return Some(format!("stderr does not match /{pattern}/"));
            }
        }
        for (record, ids) in &self.ids {
            if results.ids.get(record) != Some(ids) {
                return Some(format!("ids of {record}: {:?}", results.ids.get(record)));
            }
        }
        for (record, &sum) in &self.sum_logprob {
            if !results
                .sums
                .get(record)
                .is_some_and(|&found| near(found, sum))
            {
                let found = results.sums.get(record);
                return Some(format!("sum of {record}: {found:?} instead of {sum}"));
            }
        }
        for (record, logprobs) in &self.logprobs {
            let found = results.logprobs.get(record).map_or(&[][..], Vec::as_slice);
            if found.len() != logprobs.len() || !all_near(found, logprobs) {
                return Some(format!("log-probabilities of {record}: {found:?}"));
            }
        }
        for (record, numbers) in &self.embedding {
            let found = results
                .embeddings
                .get(record)
                .map_or(&[][..], Vec::as_slice);
            if found.len() < numbers.len().max(1) || !all_near(found, numbers) {
                return Some(format!("embedding of {record}: {found:?}"));
            }
            if self.width.is_some_and(|width| width != found.len()) {
                return Some(format!("{} numbers in {record}", found.len()));
            }
        }
        match self.records {
            Some(records) if records != results.ids.len() => Some(format!(
                "{} records instead of {records}",
                results.ids.len()
            )),
            _ => None,
        }
    }
}

fn near(found: f64, expected: f64) -> bool {
    found.is_finite() && (found - expected).abs() <= 2e-3 * expected.abs() + 2e-3
}

fn all_near(found: &[f64], expected: &[f64]) -> bool {
    found.iter().zip(expected).all(|(&a, &b)| near(a, b))
}

impl Results {
    fn read(out: &Path) -> Self {
        let mut results = Self::default();
        for batch in batches(&out.join("scores.parquet")) {
            let (names, sums) = (column(&batch, "id"), column(&batch, "sum_logprob"));
            let (ids, logprobs) = (column(&batch, "token_ids"), column(&batch, "logprobs"));
            for row in 0..batch.num_rows() {
                let name = names.as_string::<i32>().value(row).to_owned();
                let tokens = ids.as_list::<i32>().value(row);
                let tokens = tokens.as_primitive::<UInt32Type>().values().to_vec();
                let scored = logprobs.as_list::<i32>().value(row);
                let scored = scored.as_primitive::<Float32Type>().iter().flatten();
                results.ids.insert(name.clone(), tokens);
                results
                    .sums
                    .insert(name.clone(), sums.as_primitive::<Float64Type>().value(row));
                results
                    .logprobs
                    .insert(name, scored.map(f64::from).collect());
            }
        }
        for batch in batches(&out.join("embeddings.parquet")) {
            let (names, vectors) = (column(&batch, "id"), column(&batch, "embedding"));
            for row in 0..batch.num_rows() {
                let vector = vectors.as_fixed_size_list().value(row);
                let vector = vector.as_primitive::<Float32Type>().iter().flatten();
                let name = names.as_string::<i32>().value(row).to_owned();
                results
                    .embeddings
                    .insert(name, vector.map(f64::from).collect());
            }
        }
        results
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a dyn Array {
    batch.column_by_name(name).unwrap().as_ref()
}

/// The batches of a table; none where there is no such file.
fn batches(path: &Path) -> Vec<RecordBatch> {
    let Ok(file) = fs_err::File::open(path) else {
        return Vec::new();
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.into_file()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}
