//! Run any Hugging Face transformer over a dataset, one layer at a time.
//!
//! The library behind the `sli` program: open a [`Model`], turn a dataset into tokens with
//! [`prepare`], then [`plan`] or [`run`]. The engine and the description of models are crates of their own
//! ([`sli_engine`], [`sli_spec`]); this one adds what a command line needs: input formats, tokenizers, chat
//! templates, messages.
#![deny(unsafe_code)]

pub mod cli;
pub mod commands;
mod completion;
mod error;
pub mod guard;
pub mod input;
pub mod interrupt;
pub mod job;
mod machine;
pub mod memory;
pub mod precision;
pub mod prepare;
mod progress;
mod run_key;
mod sentences;
pub mod system_memory;
pub mod takes;
pub mod terminal;
mod tokenise;
pub mod tokenizer;

pub use error::Error;
pub use sli_engine::{
    EngineError, Event, HiddenDtype, Model, Observer, OpenOptions, Plan, Settings, Spill, Summary,
    plan, run,
};
