//! Run any Hugging Face transformer over a dataset, one layer at a time.
//!
//! The library behind the `sli` program: a [`Session`] opens a model, plans and runs; [`prepare`] turns a dataset into
//! tokens. The engine and the description of models are crates of their own ([`sli_engine`], [`sli_spec`]), which print
//! nothing; this one adds what a command line needs: input formats, tokenizers, chat templates, messages.
#![deny(unsafe_code)]

mod appearing;
mod assistant;
mod batch;
pub mod calls;
pub mod cli;
mod code_pages;
pub mod commands;
mod completion;
mod dataset_key;
mod error;
pub mod export;
pub mod finished_table;
pub mod guard;
mod host;
pub mod input;
pub mod interrupt;
pub mod job;
mod machine;
pub mod memory;
mod pictures;
mod place;
pub mod prepare;
mod prepared;
pub mod program;
mod progress;
pub mod report;
pub mod rules;
mod seeing;
mod seen;
mod sentences;
mod seq2seq;
pub mod shard;
mod tensors;
pub mod terminal;
mod tokenise;
pub mod tokenizer;
pub mod verify;

pub use error::Error;
pub use host::Host;
pub use sli_engine::{
    EngineError, Event, HiddenDtype, Model, Observer, OpenOptions, Plan, Session, SessionOptions,
    Settings, Spill, Summary,
};
