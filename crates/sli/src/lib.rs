//! Run any Hugging Face transformer over a dataset, one layer at a time.
#![deny(unsafe_code)]

pub mod cli;
pub mod guard;
pub mod input;
pub mod tokenizer;
