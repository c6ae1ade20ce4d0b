//! What is run on what: what the subcommands share that run a model over a dataset.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use sli_engine::take::{Take, TakeError};

use super::means::MeansArgs;
use crate::input::Use;
use crate::shard::ShardArg;

/// What `sli run` and `sli plan` share.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Folder of the model, a single weights file beside its config.json, a GGUF file, an id of the hub
    /// (ORG/NAME, perhaps @REVISION), or an https://, s3://, gs:// or az:// address of a folder or file
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: PathBuf,
    /// Dataset: .jsonl, .txt (perhaps with .gz or .zst) or .parquet, a folder of such files, a pattern
    /// ('data/*.jsonl'), or one that is elsewhere (https://..., hf://datasets/ORG/NAME/..., s3://...); repeatable: the files are read
    /// one after another, as one
    #[arg(long = "input", value_name = "FILE", value_hint = ValueHint::AnyPath, required = true)]
    pub input: Vec<PathBuf>,
    /// The column that stands for a key of records; repeatable: --column text=content
    #[arg(long = "column", value_name = "KEY=NAME", value_parser = column)]
    pub columns: Vec<(String, String)>,
    /// A result to produce; repeatable [default: profile and scores]
    ///
    /// profile                  statistics of every layer
    /// scores                   log-probability of every token, perplexity
    /// hidden[:LAYERS]          hidden states; LAYERS is a list of N, A-B, last, norm, each
    ///                          perhaps after a stack: hidden:0,8-12,norm or hidden:encoder.4
    /// logits                   logits of every token
    /// topk:K                   the K most probable next tokens
    /// embedding[:mean|cls|last|pooler]
    ///                          one vector a record, as sentence-transformers' encode() makes it
    ///                          of the model's folder; a named pooling is the transformer's part
    ///                          alone, without the modules of the folder, never normalised
    /// router                   the experts of every token
    /// classes                  of which class a record, or every token, is: logits and probabilities
    /// sparse                   weights of the vocabulary's tokens, of models that predict masked ones (SPLADE)
    ///                          or have a sparse_linear.pt (BGE-M3)
    /// lens[:K[:LAYERS]]        what the head says of the states between layers: log-probability of every token, entropy,
    ///                          divergence from the end, the K most probable tokens
    /// imatrix                  squares of what enters every matrix, for llama.cpp's quantiser
    /// hessian[:LAYERS]         products of what enters every matrix with itself (X^T X), for GPTQ and its kin; LAYERS
    ///                          from 1: hessian:1-4,last
    #[arg(long = "take", value_name = "T", value_parser = take, verbatim_doc_comment)]
    pub takes: Vec<Take>,
    /// What of a record becomes its tokens; every record must have it [default: the first of input_ids,
    /// prompt, messages and text that it has]
    #[arg(long = "use", value_name = "KEY", value_enum)]
    pub use_: Option<UseArg>,
    /// Leave out records whose text, ids or messages are null or empty, and count them; the others keep
    /// their numbers
    #[arg(long)]
    pub skip_empty: bool,
    /// What of a conversation the columns completion_* of the scores are about
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = ScoreArg::All)]
    pub score: ScoreArg,
    /// Run over one of N parts of the dataset, from 1/N to N/N: on as many machines, or one after the other; `sli merge`
    /// makes of their folders what one run over all of it gives
    #[arg(long, value_name = "I/N")]
    pub shard: Option<ShardArg>,
    /// Element type of stored hidden states
    #[arg(long, value_enum, default_value_t = HiddenDtypeArg::F32)]
    pub hidden_dtype: HiddenDtypeArg,
    /// With which means.
    #[command(flatten)]
    pub means: MeansArgs,
}

impl JobArgs {
    /// These results of a dataset.
    pub fn of(model: PathBuf, input: PathBuf, takes: Vec<Take>, means: MeansArgs) -> Self {
        Self {
            model,
            input: vec![input],
            columns: Vec::new(),
            takes,
            use_: None,
            skip_empty: false,
            score: ScoreArg::All,
            shard: None,
            hidden_dtype: HiddenDtypeArg::F32,
            means,
        }
    }
}

/// `--use`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UseArg {
    /// The text, with the special tokens of the tokenizer
    Text,
    /// The tokens as they are
    #[value(name = "input_ids")]
    InputIds,
    /// The conversation, by the chat template
    Messages,
    /// The prompt with its completion
    Prompt,
}

/// `--score`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScoreArg {
    /// None, but where the record says which: labels, or a prompt with its completion
    All,
    /// What the assistant says
    Assistant,
}

impl UseArg {
    /// What it names.
    pub fn content(self) -> Use {
        match self {
            Self::Text => Use::Text,
            Self::InputIds => Use::InputIds,
            Self::Messages => Use::Messages,
            Self::Prompt => Use::Prompt,
        }
    }
}

/// `--hidden-dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HiddenDtypeArg {
    /// As computed
    F32,
    /// Rounded to bfloat16
    Bf16,
    /// Rounded to half precision
    F16,
}

pub(super) fn take(text: &str) -> Result<Take, String> {
    text.parse()
        .map_err(|error: TakeError| format!("{error}; {}", error.hint()))
}

pub(super) fn column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, name)) if !key.is_empty() && !name.is_empty() => {
            Ok((key.to_owned(), name.to_owned()))
        }
        _ => Err("expected KEY=NAME".into()),
    }
}
