//! Inkling and Inkling 2: no rotation but learned profiles over the distance, convolutions of keys, values and of what the
//! sublayers compute.

mod first;
mod rules;
mod second;

use crate::model_type::{ModelType, row};

use self::first::inkling_text;
use self::second::inkling2_text;

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("inkling2_text", inkling2_text),
    row("inkling_text", inkling_text),
];
