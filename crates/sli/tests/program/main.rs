//! The program as its users run it, and its readers against what the reference makes of the same files.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

mod chat_templates;
mod command_line;
mod end_to_end;
mod experts;
mod inputs;
mod models;
mod parquet;
mod place;
mod real_models;
mod sharing;
mod tokenizers;
