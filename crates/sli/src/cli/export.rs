//! `sli export`: what may be said.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

pub(super) const EXAMPLES: &str = "\
Examples:
  sli run models/llama --input corpus.jsonl --out states --take hidden:2,16,29,last --take scores --hidden-dtype bf16
  sli export states --format speculators --out training
  sli export states --format saelens --context-size 256 --out activations

The run must have the hidden states (--take hidden:LAYERS) and the tokens (--take scores). `datasets.load_from_disk` reads
the folders `dataset` of the first and `blocks.N.hook_resid_post` of the second.";

/// `sli export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folder of a finished run
    #[arg(value_name = "RESULTS", value_hint = ValueHint::DirPath)]
    pub results: PathBuf,
    /// In whose files
    #[arg(long, value_enum)]
    pub format: FormatArg,
    /// Folder for the files; created if absent, and gone on with if an export was interrupted
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Tokens of a piece of a record, for saelens [default: as many as every record has]
    #[arg(long, value_name = "N")]
    pub context_size: Option<usize>,
}

/// Whose files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// hidden_states/hs_0.safetensors and so on, and a dataset of token ids whose rows those are
    Speculators,
    /// For each boundary a dataset of pieces of records
    Saelens,
}
