//! The program as its users run it, and its readers against what the reference makes of the same files.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

mod batch;
mod bench;
mod buckets;
mod budgets;
mod chat_templates;
mod classes;
mod coded;
mod command_line;
mod completions;
mod contract;
mod datasets;
mod diff;
mod disks;
mod embedded;
mod end_to_end;
mod exactness;
mod experts;
mod exports;
mod far_sight;
mod folders;
mod gguf;
mod hessian;
mod hostile_models;
mod hostile_templates;
mod hub;
mod imatrix;
mod inputs;
mod kills;
mod large_texts;
mod memory;
mod models;
mod mutations;
mod odd_files;
mod offsets;
mod parquet;
mod pictures;
mod pieces;
mod place;
mod planner;
mod precision;
mod random;
mod real_models;
mod report;
mod reports;
mod seeing;
mod selection;
mod sentences;
mod seq2seq;
mod shards;
mod sharing;
mod sizes;
mod sparse;
mod tensor_names;
mod token_inputs;
mod tokenizers;
mod troubleshooting;
mod verify;
mod weights;
