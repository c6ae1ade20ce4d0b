//! `sli diff`: what may be said.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use sli_engine::take::Take;

use super::job::{JobArgs, UseArg, column};
use super::means::{ComputeArg, MeansArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  sli diff models/llama llama.Q4_K_M.gguf --input corpus.jsonl --out drift
  sli diff models/llama models/llama-gptq --input corpus.jsonl --out drift --memory 8GiB --json

A is the reference: it runs first, and what it has between its layers stays in DIR/.sli until B has run, 4 bytes for each value
(`[layers + 1, hidden size]` and the vocabulary for each token). B then runs every record twice, on its own and from
A's layers, so that its weights are read once for both errors:
  own           layer i of B gets what layer i of A got
  accumulated   it gets what the layers of B before it made
DIR holds drift.parquet (for each boundary and error: relative error, cosine, root mean squares), divergence.parquet (for each
record: the Kullback-Leibler divergence at every token, the most probable tokens, log-probabilities) and run.json with totals.
Both models must have the same stacks, layers, widths and vocabulary, and make the same tokens of the data.

An interrupted comparison goes on where it stopped when the same command is run again.";

/// `sli diff`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct DiffArgs {
    /// The reference, as the model in `sli run`
    #[arg(value_name = "A", value_hint = ValueHint::AnyPath)]
    pub reference: PathBuf,
    /// The checkpoint that is compared with it, of any format: the same model with other weights
    #[arg(value_name = "B", value_hint = ValueHint::AnyPath)]
    pub model: PathBuf,
    /// Dataset, as in `sli run`; repeatable
    #[arg(long = "input", value_name = "FILE", value_hint = ValueHint::AnyPath, required = true)]
    pub input: Vec<PathBuf>,
    /// Folder for the results; created if absent
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Run both over the tokens that the tokenizer of A gives, and do not look at that of B
    #[arg(long)]
    pub reference_tokens: bool,
    /// Discard what an earlier, different or damaged comparison left in the folder and start over
    #[arg(long)]
    pub fresh: bool,
    /// Write report.html beside the results, a page for a browser (as `sli report` does)
    #[arg(long)]
    pub report: bool,
    /// Print run.json on stdout
    #[arg(long)]
    pub json: bool,
    /// The column that stands for a key of records, as in `sli run`; repeatable
    #[arg(long = "column", value_name = "KEY=NAME", value_parser = column)]
    pub columns: Vec<(String, String)>,
    /// What of a record becomes its tokens, as in `sli run`
    #[arg(long = "use", value_name = "KEY", value_enum)]
    pub use_: Option<UseArg>,
    /// Leave out records whose text, ids or messages are null or empty, and count them
    #[arg(long)]
    pub skip_empty: bool,
    /// With which means; `--compute auto` is f32 here.
    #[command(flatten)]
    pub means: MeansArgs,
}

impl DiffArgs {
    /// The run of one of the two models. Products are in f32 unless something else is asked for: what is measured are the
    /// weights.
    pub fn job(&self, model: &Path, take: Take) -> JobArgs {
        let mut means = self.means.clone();
        if means.compute == ComputeArg::Auto {
            means.compute = ComputeArg::F32;
        }
        JobArgs {
            input: self.input.clone(),
            columns: self.columns.clone(),
            use_: self.use_,
            skip_empty: self.skip_empty,
            ..JobArgs::of(model.to_owned(), PathBuf::new(), vec![take], means)
        }
    }
}
