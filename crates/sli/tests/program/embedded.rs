//! The model that comes with the program, against what transformers makes of it
//! (`tools/train-embedded/evaluate.py`), and what bf16 products change.

use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;

use super::place::Place;

/// How far bf16 products may move the perplexity of the samples from that of f32 products, relative.
const BF16_PERPLEXITY: f64 = 0.005;

/// A record: its id, its tokens and the sum of their log-probabilities.
type Scores = (String, u64, f64);

fn scores(place: &Place, sample: &str, compute: &str) -> Vec<Scores> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/embedded");
    let (model, input) = (models.display().to_string(), models.join(sample));
    let (input, out) = (input.display().to_string(), format!("{sample}-{compute}"));
    let run = ["run", &model, "--input", &input, "--out", &out];
    let how = ["--take", "scores", "--compute", compute];
    place.sli(&[&run[..], &how].concat()).success();
    let file = fs_err::File::open(place.path(&out).join("scores.parquet")).unwrap();
    let reader = SerializedFileReader::new(file.into_file()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    rows.map(|row| {
        let id = row.get_string(0).unwrap().clone();
        let tokens = u64::from(row.get_uint(1).unwrap());
        (id, tokens, row.get_double(2).unwrap())
    })
    .collect()
}

/// Of all tokens that have one before them in their record.
fn perplexity(scores: &[Scores]) -> f64 {
    let sum: f64 = scores.iter().map(|(_, _, sum)| sum).sum();
    let scored: u64 = scores.iter().map(|(_, tokens, _)| tokens - 1).sum();
    (-sum / scored as f64).exp()
}

#[test]
fn the_embedded_model_scores_as_in_the_reference() {
    let expected = include_str!("../../../../models/embedded/expected-scores.json");
    let expected: Value = serde_json::from_str(expected).unwrap();
    let place = Place::new();
    let mut of_samples = Vec::new();
    for sample in ["sample.jsonl", "sample-shuffled.jsonl"] {
        let exact = scores(&place, sample, "f32");
        let records = expected[sample]["records"].as_array().unwrap();
        assert_eq!(exact.len(), records.len());
        for ((id, tokens, sum), expected) in exact.iter().zip(records) {
            assert_eq!(id, expected["id"].as_str().unwrap());
            assert_eq!(*tokens, expected["tokens"].as_u64().unwrap(), "{id}");
            let expected = expected["sum_logprob"].as_f64().unwrap();
            assert!(
                (sum / expected - 1.0).abs() < 1e-5,
                "{id}: {sum}, in the reference {expected}"
            );
        }
        let exact = perplexity(&exact);
        let reference = expected[sample]["perplexity"].as_f64().unwrap();
        assert!(
            (exact / reference - 1.0).abs() < 1e-5,
            "{exact}, {reference}"
        );
        let rounded = perplexity(&scores(&place, sample, "bf16"));
        let change = (rounded / exact - 1.0).abs();
        assert!(change < BF16_PERPLEXITY, "{sample}: {rounded} for {exact}");
        of_samples.push(exact);
    }
    assert!(of_samples[1] > 10.0 * of_samples[0], "{of_samples:?}");
}
