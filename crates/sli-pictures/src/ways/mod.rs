//! The ways in which classes of processors prepare pictures, one file each.

pub mod anyres;

mod aria;
mod gemma3;
mod gemma4;
mod grid;
mod idefics;
mod lfm2;
mod llama4;
mod mllama;
mod pix2struct;
mod pixtral;
mod plain;
mod ratio;
mod siglip2;
mod way;

use crate::error::DescriptionError;
use crate::settings::Settings;

pub use way::{Cut, Drawn, Way};

/// Reads the settings of one way.
type Read = fn(&Settings) -> Result<Box<dyn Way>, DescriptionError>;

/// The classes, with how their settings are read. A class that is not here is refused.
pub const WAYS: [(&str, Read); 41] = [
    ("AriaImageProcessor", aria::read),
    ("BeitImageProcessor", plain::read_unpadded),
    ("BitImageProcessor", plain::read),
    ("BlipImageProcessor", plain::read),
    ("CLIPImageProcessor", plain::read),
    ("ChameleonImageProcessor", plain::read),
    ("Cohere2VisionImageProcessor", ratio::read_scale),
    ("ConvNextImageProcessor", plain::read_share),
    ("DeepseekVLImageProcessor", plain::read_longest),
    ("DeiTImageProcessor", plain::read),
    ("DonutImageProcessor", plain::read_page),
    ("Gemma3ImageProcessor", gemma3::read),
    ("Gemma4ImageProcessor", gemma4::read),
    ("Gemma4UnifiedImageProcessor", gemma4::read_merged),
    ("Glm46VImageProcessor", grid::read_frames),
    ("Glm4vImageProcessor", grid::read_frames),
    ("GotOcr2ImageProcessor", ratio::read),
    ("IdeficsImageProcessor", plain::read_side),
    ("Idefics2ImageProcessor", idefics::read_quarters),
    ("Idefics3ImageProcessor", idefics::read_tiles),
    ("JanusImageProcessor", plain::read_longest),
    ("Kimi_K25ImageProcessor", grid::read_padded),
    ("Lfm2VlImageProcessor", lfm2::read),
    ("Llama4ImageProcessor", llama4::read),
    ("LlavaImageProcessor", plain::read_square),
    ("LlavaNextImageProcessor", anyres::read),
    ("LlavaOnevisionImageProcessor", anyres::read_alone),
    ("MllamaImageProcessor", mllama::read),
    ("MobileNetV1ImageProcessor", plain::read),
    ("Ovis2ImageProcessor", ratio::read_covering),
    ("OwlViTImageProcessor", plain::read),
    ("PaddleOCRVLImageProcessor", grid::read_enlarged),
    ("Pix2StructImageProcessor", pix2struct::read),
    ("PixtralImageProcessor", pixtral::read),
    ("PvtImageProcessor", plain::read),
    ("Qwen2VLImageProcessor", grid::read),
    ("Siglip2ImageProcessor", siglip2::read),
    ("SiglipImageProcessor", plain::read),
    ("SmolVLMImageProcessor", idefics::read_tiles),
    ("VideoLlama3ImageProcessor", grid::read_merging),
    ("ViTImageProcessor", plain::read),
];
