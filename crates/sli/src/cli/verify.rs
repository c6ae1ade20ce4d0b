//! `sli verify`: what may be said.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::means::MeansArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  python tools/verify/expected.py models/llama --out expected.safetensors
  sli verify models/llama --against expected.safetensors

The script runs transformers (it needs that, torch and numpy) and writes what it computed: tokens, logits, hidden states,
versions, the type of its numbers, hashes of the weights. `sli verify` runs the same tokens and compares row by row,
`|ours - expected| / |expected|`; what is allowed follows from the types of both, 1e-4 where both are f32.

The receipt says what was compared with what, and where it is farthest off. Exit code 1: the numbers differ.

What is computed waits in a folder beside the receipt (receipt.json.work) until the receipt is there: interrupted, the same
command goes on where it stopped.";

/// `sli verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The model, as in `sli run`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: PathBuf,
    /// What the reference computed: a .safetensors or .json file of tools/verify/expected.py
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub against: PathBuf,
    /// Where to write the receipt
    #[arg(long, value_name = "FILE", default_value = "receipt.json", value_hint = ValueHint::FilePath)]
    pub receipt: PathBuf,
    /// The largest relative error of a row that is allowed [default: by the types of both]
    #[arg(long, value_name = "ERROR", value_parser = tolerance)]
    pub tolerance: Option<f64>,
    /// The weights may be other files than those of the reference: of another format, or quantised
    #[arg(long)]
    pub other_weights: bool,
    /// Discard what an earlier, different verification left beside the receipt
    #[arg(long)]
    pub fresh: bool,
    /// Print the receipt on stdout
    #[arg(long)]
    pub json: bool,
    /// With which means; `--compute auto` is f32 here.
    #[command(flatten)]
    pub means: MeansArgs,
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number, for instance 1e-4".into()),
    }
}
