//! With which means a model is run: what several subcommands share.

use clap::{Args, ValueEnum};
use sli_engine::{Compute, OpenOptions};

use super::byte_size::parse_byte_size;

/// With which means a model is run, and how texts become tokens.
#[derive(Clone, Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct MeansArgs {
    /// Keep nothing of a model that is elsewhere: fetch what is needed each time it is needed
    #[arg(long)]
    pub stream: bool,
    /// Memory the whole process may hold: 8GiB, 500MB or a number of bytes [default: 80 % of what is
    /// free]
    #[arg(long, value_name = "SIZE", value_parser = parse_byte_size)]
    pub memory: Option<u64>,
    /// Compute threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    pub threads: Option<usize>,
    /// Precision of the matrix products; auto is bf16 where the weights are bf16 and this processor was
    /// measured to be faster so, else f32
    #[arg(long, value_enum, default_value_t = ComputeArg::Auto)]
    pub compute: ComputeArg,
    /// The chat template for all `messages`: one of the model's by its name, or that of a file [default: the
    /// model's own; with `tools` in a record, its template `tool_use` if it has one]
    #[arg(long, value_name = "NAME|FILE")]
    pub chat_template: Option<String>,
    /// A variable of the chat template; repeatable. VALUE is JSON, or a text: enable_thinking=false
    #[arg(long = "chat-arg", value_name = "KEY=VALUE", value_parser = chat_argument)]
    pub chat_arguments: Vec<(String, String)>,
    /// Cut longer records to this many tokens; by default `--take embedding` cuts texts where the model's own
    /// files say
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_length: Option<usize>,
    /// Run records that are longer than the model was trained for, or than its files cut texts
    #[arg(long)]
    pub allow_long: bool,
    /// Take tokenizer.json as it is; by default the tokenizer is the one that transformers builds, whose classes put
    /// tokenizer_config.json over it
    #[arg(long)]
    pub tokenizer_file: bool,
    /// A setting of the tokenizer that wins over tokenizer_config.json, as from_pretrained takes them; repeatable. VALUE is
    /// JSON, or a text: tgt_lang=deu_Latn
    #[arg(long = "tokenizer-arg", value_name = "KEY=VALUE", value_parser = tokenizer_argument, conflicts_with = "tokenizer_file")]
    pub tokenizer_arguments: Vec<(String, serde_json::Value)>,
    /// Prompt that `--take embedding` (or `sparse`) puts in front of every text, by its name in
    /// config_sentence_transformers.json; '' is none [default: the one that the file names, if any]
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// Whether activations may go to disk between layers
    #[arg(long, value_enum, default_value_t = SpillArg::Auto)]
    pub spill: SpillArg,
    /// Do not share the work on beginnings and pictures that records have in common
    #[arg(long)]
    pub no_share: bool,
    /// What of it may be unknown.
    #[command(flatten)]
    pub open: OpenArgs,
    /// Work between two checkpoints of a run, in seconds; an interruption costs at most this
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    pub checkpoint_interval: f64,
}

/// `--compute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ComputeArg {
    /// bf16 where the weights are bf16 and it was measured to be faster, else f32
    Auto,
    /// Full f32
    F32,
    /// Inputs of products rounded to bf16, sums in f32
    Bf16,
}

impl ComputeArg {
    /// The precision that is asked for, if one is.
    pub fn asked(self) -> Option<Compute> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Compute::F32),
            Self::Bf16 => Some(Compute::Bf16),
        }
    }
}

/// `--spill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpillArg {
    /// When it is faster than reading the weights again
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What of a model may be unknown.
#[derive(Clone, Debug, Args)]
pub struct OpenArgs {
    /// Accept a configuration key that SLI does not know; repeatable
    #[arg(long, value_name = "KEY")]
    pub allow_unread: Vec<String>,
    /// Leave out tensors of this name, of which SLI does not know what they are for; `*` stands for
    /// any characters; repeatable
    #[arg(long, value_name = "GLOB")]
    pub allow_unused: Vec<String>,
}

impl OpenArgs {
    /// As the engine has them.
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            allow_unread: self.allow_unread.clone(),
            allow_unused: self.allow_unused.clone(),
        }
    }
}

/// A name and a value as JSON text.
fn tokenizer_argument(text: &str) -> Result<(String, serde_json::Value), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("expected KEY=VALUE".into());
    };
    if name.is_empty() {
        return Err("the key is empty".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn chat_argument(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err("expected KEY=VALUE".into());
    };
    if name.is_empty() {
        return Err("the key is empty".into());
    }
    sli_jinja::check_argument(name)?;
    let value = if sli_jinja::is_json(value) {
        value.to_owned()
    } else {
        serde_json::Value::from(value).to_string()
    };
    Ok((name.to_owned(), value))
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".into()),
    }
}

/// More threads than any machine has processors would only wait for one another.
pub(super) fn thread_count(text: &str) -> Result<usize, String> {
    const MOST: usize = 512;
    match at_least_one(text)? {
        threads if threads > MOST => Err(format!("at most {MOST}")),
        threads => Ok(threads),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("expected a number of seconds".into()),
    }
}
