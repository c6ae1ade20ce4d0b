//! The command line: what may be said, in one table of structs. Help, man page and completions are
//! derived from it.
#![allow(
    rustdoc::broken_intra_doc_links,
    clippy::allow_attributes,
    reason = "help texts are written for a terminal"
)]

mod byte_size;
mod diff;
mod export;
mod job;
mod means;
mod verify;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Style, Styles};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub use byte_size::parse_byte_size;
pub use diff::DiffArgs;
pub use export::{ExportArgs, FormatArg};
use job::take;
pub use job::{HiddenDtypeArg, JobArgs, ScoreArg, UseArg};
pub use means::{ComputeArg, MeansArgs, OpenArgs, SpillArg};
use means::{at_least_one, thread_count};
use sli_engine::take::Take;
pub use verify::VerifyArgs;

/// Run any Hugging Face transformer over a dataset, one layer at a time.
///
/// SLI reads a model's weights once per pass over the data and holds only a few layers in memory, so a
/// machine can run models far larger than its memory. The memory budget decides how fast a run is,
/// never whether it runs or what comes out.
#[derive(Debug, Parser)]
#[command(name = "sli", version, styles = STYLES, max_term_width = 100, subcommand_required = true)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const HEADING: Style = AnsiColor::Green.on_default().bold();
const LITERAL: Style = AnsiColor::Cyan.on_default().bold();
const STYLES: Styles = Styles::styled()
    .header(HEADING)
    .usage(HEADING)
    .literal(LITERAL)
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the numbers differ (sli verify)
  2    wrong usage
  3    bad model or bad input
  4    does not fit the memory budget
  5    input/output error
  130  interrupted; the same command goes on where it stopped

Results go to stdout, everything else to stderr. NO_COLOR switches colours off.";

const RUN_EXAMPLES: &str = "\
Examples:
  sli run models/llama --input corpus.jsonl --out results
  sli run models/llama --input corpus.txt --out results --take scores --take topk:50 --memory 8GiB
  sli run models/minilm --input sentences.parquet --out vectors --take embedding:mean
  sli run models/llama --input corpus.jsonl --out states --take hidden:0,8-12,norm --hidden-dtype bf16
  sli run models/llama --input corpus.jsonl --out part-1 --shard 1/4

Input, by extension:
  .jsonl    one object a line: {\"id\"?, \"text\" | \"input_ids\" | \"messages\" | \"prompt\" and \"completion\",
            \"token_type_ids\"?, \"labels\"?}
            the first of \"input_ids\", \"prompt\", \"messages\" and \"text\" that a record has is used, unless --use
            names one
            scores are also summed over the completion: what follows the prompt (strings, or lists of messages),
            the tokens that \"labels\" does not hide with -100 (or \"completion_mask\", \"assistant_masks\" with 0),
            and with --score assistant what the assistant says in \"messages\"
            records need no padding: zeros at the end of an \"attention_mask\" take their tokens away
            also .ndjson, and .json with an object a line; NaN and Infinity may stand in keys that are not looked at
            and in what a chat template prints
            beside \"messages\", the chat template gets \"tools\", \"documents\" and the members of
            \"chat_template_kwargs\"
            beside \"text\", \"text_pair\" is the second text of a pair, as for cross-encoders
            for a decoder behind an encoder: \"decoder_text\" or \"labels\" (what it is to say), \"decoder_input_ids\"
            (what it gets); the encoder reads a \"prompt\", and the \"completion\" is what the decoder is to say
            \"global_attention_mask\" marks the tokens of an encoder (LED, Longformer) that see, and are seen by, all others
            models of pages and documents read an entry for every token of \"bbox\", \"xpath_tags_seq\",
            \"xpath_subs_seq\", \"input_shape_ids\", \"input_pronunciation_ids\"
            for an encoder of sound: \"tensors\" (a safetensors file, from the folder of the dataset) and perhaps
            \"tensor_prefix\", in front of the name of the input
  .txt      one text a line; lines end at \\n, \\r\\n and \\r
  .parquet  the columns of .jsonl
  .gz .zst  behind .jsonl and .txt: unpacked as it is read
  A folder stands for its files, '*' and '?' for characters of names; of several files the records follow one another.
  Blank lines are skipped. Ids are strings or integers, by default the number of the record from 0.
  Keys and columns of other names are not looked at.

An interrupted run goes on where it stopped when the same command is run again.";

const MERGE_EXAMPLES: &str = "\
Examples:
  sli run models/llama --input corpus.jsonl --out part-1 --shard 1/2
  sli run models/llama --input corpus.jsonl --out part-2 --shard 2/2
  sli merge part-1 part-2 --out results

The results are byte for byte those of `sli run` without --shard, whose folder it then is; run.json has under
`parts` what the parts took. Parts of another model, dataset, version or setting are refused, and so are missing
ones. An interrupted merge goes on when the same command is run again; the folders of the parts stay as they are.";

const REPORT_EXAMPLES: &str = "\
Examples:
  sli report results
  sli report results --out report.html

The page needs no network and no other file: activations by layer, losses by position, loads of experts, and where the time
went, of what the folder holds. `sli run --report` writes it when it is done.";

const BATCH_EXAMPLES: &str = "\
Examples:
  sli batch models/llama -i requests.jsonl -o answers.jsonl
  sli batch models/minilm -i requests.jsonl -o answers.jsonl --memory 4GiB

A line of the input is {\"custom_id\", \"method\": \"POST\", \"url\", \"body\"}; urls are /v1/embeddings, /v1/completions (with
\"echo\": true, \"max_tokens\": 0 and \"logprobs\") and /v1/chat/completions (with \"prompt_logprobs\" and \"max_tokens\": 0).
Answers are in the order of the requests; one that cannot be answered is a line with an error and stops nothing else.

An interrupted batch goes on where it stopped when the same command is run again.";

const PLAN_EXAMPLES: &str = "\
Examples:
  sli plan models/llama --input corpus.jsonl
  sli plan models/llama --input corpus.jsonl --memory 4GiB --take hidden --json";

const BENCH_EXAMPLES: &str = "\
Examples:
  sli bench
  sli bench models/llama --records 8 --tokens 256 --memory 1GiB
  sli bench models/minilm --input sentences.jsonl

Peak arithmetic, memory bandwidth and the disk are measured in some seconds and remembered below
XDG_CACHE_HOME (or ~/.cache), where `sli plan` and `sli run` look for them. With a model, its weight
file leaves the page cache to be read from the disk, then a pass over records of random tokens, or
over those of a dataset, is timed; its results are thrown away.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  sli inspect models/llama
  sli inspect models/llama --json";

const DOWNLOAD_EXAMPLES: &str = "\
Examples:
  sli download org/name
  sli download org/name@v1.0 --json
  sli download https://host/models/name/

What a run would read is fetched: configuration, tokenizer, and the weights of the format that is chosen. It is
kept where huggingface_hub keeps it (HF_HUB_CACHE, or ~/.cache/huggingface/hub), and an interrupted download from there goes
on where it was. A private or gated model needs HF_TOKEN.";

const CACHE_EXAMPLES: &str = "\
Examples:
  sli cache
  sli cache verify org/name
  sli cache remove org/name
  sli cache remove s3://bucket/models/name";

const ARCHITECTURES_EXAMPLES: &str = "\
Examples:
  sli architectures
  sli architectures --json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  sli completions bash > ~/.local/share/bash-completion/completions/sli
  sli completions fish > ~/.config/fish/completions/sli.fish";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a model over a dataset and write the results into a folder
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Answer a batch file of the OpenAI API: embeddings and log-probabilities
    #[command(after_help = BATCH_EXAMPLES)]
    Batch(BatchArgs),
    /// Measure layer by layer how far a checkpoint drifts from another one of the same model
    #[command(after_help = diff::EXAMPLES)]
    Diff(DiffArgs),
    /// Compare what a model computes with what a reference computed of the same checkpoint, and write a receipt
    #[command(after_help = verify::EXAMPLES)]
    Verify(VerifyArgs),
    /// Make of the results of all parts of a dataset those of one run over all of it
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArgs),
    /// Make a page of a folder of results, report.html, for a browser
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Write hidden states of a folder of results in the files of other tools: speculators, SAELens
    #[command(after_help = export::EXAMPLES)]
    Export(ExportArgs),
    /// Say what a run would read, write, hold and take, without running it
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// Measure what this machine can do, or where the time of a pass goes
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Show what a model is made of and whether its checkpoint is complete
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Fetch a model into the cache, as `sli run` would
    #[command(after_help = DOWNLOAD_EXAMPLES)]
    Download(DownloadArgs),
    /// List, add up or remove what is kept of models and data that are elsewhere
    #[command(after_help = CACHE_EXAMPLES)]
    Cache(CacheArgs),
    /// List the supported model types
    #[command(after_help = ARCHITECTURES_EXAMPLES)]
    Architectures(ArchitecturesArgs),
    /// Write a shell completion script to stdout
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual page to stdout, in roff
    #[command(hide = true)]
    Man,
}

/// `sli run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to run on what.
    #[command(flatten)]
    pub job: JobArgs,
    /// Folder for the results; created if absent
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Discard what an earlier, different or damaged run left in the folder and start over
    #[arg(long)]
    pub fresh: bool,
    /// Write report.html beside the results, a page for a browser (as `sli report` does)
    #[arg(long)]
    pub report: bool,
    /// Print the closing summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// `sli batch`.
#[derive(Debug, Args)]
pub struct BatchArgs {
    /// The model, as in `sli run`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: PathBuf,
    /// File of requests, a line each
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: PathBuf,
    /// File for the answers; it appears when it is complete
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Replace the answers that are there, and discard what an earlier, different batch left
    #[arg(long)]
    pub fresh: bool,
    /// With which means.
    #[command(flatten)]
    pub means: MeansArgs,
}

/// `sli merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Folders of all parts, in any order
    #[arg(required = true, value_name = "PART", value_hint = ValueHint::DirPath)]
    pub parts: Vec<PathBuf>,
    /// Folder for the results; created if absent
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Discard what is in the folder and start over
    #[arg(long)]
    pub fresh: bool,
    /// Print run.json on stdout
    #[arg(long)]
    pub json: bool,
}

/// `sli report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folder of a finished run
    #[arg(value_name = "RESULTS", value_hint = ValueHint::DirPath)]
    pub results: PathBuf,
    /// Where to write the page [default: report.html in that folder]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

/// `sli plan`: takes every flag of `sli run`, so that a command can be planned as it stands.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What to run on what.
    #[command(flatten)]
    pub job: JobArgs,
    /// Folder for the results; nothing is written there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Accepted as in `sli run`; nothing is discarded
    #[arg(long)]
    pub fresh: bool,
    /// Accepted as in `sli run`; nothing is written
    #[arg(long)]
    pub report: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

/// `sli bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Model to time a pass with, as in `sli run`; without one only the machine is measured
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: Option<PathBuf>,
    /// Dataset to run over in place of random tokens: .jsonl, .parquet or .txt, as in `sli run`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "model", conflicts_with_all = ["records", "tokens"])]
    pub input: Option<PathBuf>,
    /// Records of the pass
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub records: usize,
    /// Tokens of each record
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub tokens: usize,
    /// A result to compute in the pass, as in `sli run`; repeatable [default: scores, or embedding]
    #[arg(long = "take", value_name = "T", value_parser = take)]
    pub takes: Vec<Take>,
    /// Memory the pass may hold: 8GiB, 500MB or a number of bytes [default: 80 % of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_byte_size)]
    pub memory: Option<u64>,
    /// Compute threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    pub threads: Option<usize>,
    /// Precision of the matrix products of the pass, as in `sli run`
    #[arg(long, value_enum, default_value_t = ComputeArg::Auto)]
    pub compute: ComputeArg,
    /// What of it may be unknown.
    #[command(flatten)]
    pub open: OpenArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `sli download`.
#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// The model: an id of the hub, perhaps with a revision (ORG/NAME@REVISION), or an address
    #[arg(value_hint = ValueHint::Other)]
    pub model: PathBuf,
    /// What of it may be unknown.
    #[command(flatten)]
    pub open: OpenArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `sli cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do; without it the cache is listed.
    #[command(subcommand)]
    pub command: Option<CacheCommand>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands of `sli cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what is there
    List,
    /// Add up files again and compare them with their names
    Verify {
        /// Repositories [default: all]
        ids: Vec<String>,
    },
    /// Remove repositories
    Remove {
        /// Repositories
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// `sli inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The model as in `sli run`; a config.json alone will do
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: PathBuf,
    /// What of it may be unknown.
    #[command(flatten)]
    pub open: OpenArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `sli architectures`.
#[derive(Debug, Args)]
pub struct ArchitecturesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_table_is_consistent() {
        Cli::command().debug_assert();
    }
}
