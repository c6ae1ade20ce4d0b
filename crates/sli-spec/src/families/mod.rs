//! The families: functions from a [`crate::Config`] to a [`crate::Described`] model. The only place, with
//! the [`crate::registry`], where a model type's name appears.
//!
//! A further type of a known shape is one row of its family's `TYPES`, its class's
//! defaults (`tools/defaults/generate.py`), a golden, and published configurations in
//! `tests/corpus`. A variation of the plain [`blocks::Blocks`] is a function of a few lines that
//! sets what differs. Every key that the type's code reads must be read here, because one that is
//! not refuses the file.

pub mod bart;
pub mod bert;
pub mod blocks;
pub mod chatglm;
pub mod cohere;
pub mod composite;
pub mod conformer;
pub mod coordinates;
pub mod cpmant;
pub mod deepseek;
pub mod doge;
pub mod experts;
pub mod gemma;
pub mod gemma4;
pub mod gpt;
pub mod granite;
pub mod hrm;
pub mod hybrid;
pub mod inkling;
pub mod latent;
pub mod layer_norm;
pub mod llama;
pub mod llama_remote;
pub mod mamba;
pub mod mamba_ssm;
pub mod mixture;
pub mod moonshine;
pub mod mpt;
pub mod muse;
pub mod nemotron_nas;
pub mod openelm;
pub mod original;
pub mod perceiver;
pub mod phi_remote;
pub mod pictures;
pub mod pix2struct;
pub mod pooled;
pub mod remote_experts;
pub mod rwkv;
pub mod speech;
pub mod speecht5;
pub mod step;
pub mod t5;
pub mod t5gemma;
pub mod udop;
pub mod vision;
pub mod xlstm;
pub mod zaya;
