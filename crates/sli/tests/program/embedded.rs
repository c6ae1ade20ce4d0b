//! The model that comes with the program, against what transformers makes of it
//! (`tools/train-embedded/evaluate.py`), and what bf16 products change.

use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;

use super::place::Place;

/// How far bf16 products may move the perplexity of the samples from that of f32 products, relative.
const BF16_PERPLEXITY: f64 = 0.005;

/// A record: its id, its tokens and the sum of their log-probabilities.
type Scores = (String, u64, f64);

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/embedded")
}

fn scores(place: &Place, input: &Path, compute: &str) -> Vec<Scores> {
    let sample = input.file_name().unwrap().to_str().unwrap();
    let (model, out) = (
        models().display().to_string(),
        format!("{sample}-{compute}"),
    );
    let input = input.display().to_string();
    let run = ["run", &model, "--input", &input, "--out", &out];
    let how = ["--take", "scores", "--compute", compute];
    place.sli(&[&run[..], &how].concat()).success();
    let file = fs_err::File::open(place.path(&out).join("scores.parquet")).unwrap();
    let reader = SerializedFileReader::new(file.into_file()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| {
        let id = row.get_string(1).unwrap().clone();
        let tokens = u64::from(row.get_uint(2).unwrap());
        (id, tokens, row.get_double(3).unwrap())
    })
    .collect()
}

/// Of all tokens that have one before them in their record.
fn perplexity(scores: &[Scores]) -> f64 {
    let sum: f64 = scores.iter().map(|(_, _, sum)| sum).sum();
    let scored: u64 = scores.iter().map(|(_, tokens, _)| tokens - 1).sum();
    (-sum / scored as f64).exp()
}

/// Each record as the reference scores it.
fn compare(scores: &[Scores], expected: &Value) {
    let records = expected["records"].as_array().unwrap();
    for ((id, tokens, sum), expected) in scores.iter().zip(records) {
        assert_eq!(id, expected["id"].as_str().unwrap());
        assert_eq!(*tokens, expected["tokens"].as_u64().unwrap(), "{id}");
        let expected = expected["sum_logprob"].as_f64().unwrap();
        assert!(
            (sum / expected - 1.0).abs() < 1e-5,
            "{id}: {sum}, in the reference {expected}"
        );
    }
}

/// Short enough for a processor that is emulated.
#[test]
fn first_passages_score_as_in_the_reference() {
    let expected = include_str!("../../../../models/embedded/expected-scores.json");
    let expected: Value = serde_json::from_str(expected).unwrap();
    let place = Place::new();
    let sample = fs_err::read_to_string(models().join("sample.jsonl")).unwrap();
    let first: Vec<&str> = sample.lines().take(2).collect();
    let input = place.write("first.jsonl", first.join("\n"));
    let scores = scores(&place, &input, "f32");
    assert_eq!(scores.len(), 2);
    compare(&scores, &expected["sample.jsonl"]);
}

#[test]
fn the_embedded_model_scores_as_in_the_reference() {
    let expected = include_str!("../../../../models/embedded/expected-scores.json");
    let expected: Value = serde_json::from_str(expected).unwrap();
    let place = Place::new();
    let mut of_samples = Vec::new();
    for sample in ["sample.jsonl", "sample-shuffled.jsonl"] {
        let exact = scores(&place, &models().join(sample), "f32");
        assert_eq!(
            exact.len(),
            expected[sample]["records"].as_array().unwrap().len()
        );
        compare(&exact, &expected[sample]);
        let exact = perplexity(&exact);
        let reference = expected[sample]["perplexity"].as_f64().unwrap();
        assert!(
            (exact / reference - 1.0).abs() < 1e-5,
            "{exact}, {reference}"
        );
        let rounded = perplexity(&scores(&place, &models().join(sample), "bf16"));
        let change = (rounded / exact - 1.0).abs();
        assert!(change < BF16_PERPLEXITY, "{sample}: {rounded} for {exact}");
        of_samples.push(exact);
    }
    assert!(of_samples[1] > 10.0 * of_samples[0], "{of_samples:?}");
}
