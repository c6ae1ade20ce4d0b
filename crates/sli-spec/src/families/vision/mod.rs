//! Models of pictures: towers, and decoders that get what a tower sees in the place of a token.

mod compose;
mod llava;
mod qwen;
mod towers;

use crate::model_type::{ModelType, row};
use crate::{Config, Described, SpecError};

pub use self::llava::llava;
pub use self::qwen::qwen2_vl;

/// The registered types that stand alone.
pub const TYPES: &[ModelType] = &[
    row("clip_vision_model", towers::clip),
    row("qwen2_vl_vision", qwen::qwen2_tower),
    row("siglip_vision_model", towers::siglip),
    row("vit", towers::vit),
];

/// Describes a part of a model by its own type.
pub type DescribePart = fn(&Config) -> Result<Described, SpecError>;
