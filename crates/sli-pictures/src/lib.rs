//! Pictures as the image processors of transformers prepare them for a model.
//!
//! A file becomes a [`Picture`] (`decode.rs`); an [`ImageProcessor`] is described by a model's `preprocessor_config.json` over
//! the defaults of its class (`settings.rs`, `classes.json`). Its way (`ways/`) says as data what becomes of a picture of some
//! size (`cut.rs`: steps and tiles), and arranges the results to the tensors that the model reads. A
//! [`Processor`] is that and the [`Placeholders`] of a model's texts. Nothing is read or
//! allocated that the caller's limit has no room for (`budget.rs`). What was drawn last may be kept (`kept.rs`).

mod budget;
mod cut;
mod decode;
mod error;
mod floats;
mod jpeg;
mod kept;
mod layout;
mod normalise;
mod picture;
mod placeholders;
mod processor;
mod resample;
mod settings;
mod size;
mod tensor;
mod ways;

pub use decode::{Header, decode, header};
pub use error::{DescriptionError, PictureError};
pub use kept::Kept;
pub use picture::{Margins, Picture, Rect};
pub use placeholders::{Files, Kinds, PlaceholderError, Placeholders, Processor};
pub use processor::{Facts, ImageProcessor, Prepared, Refused};
pub use resample::{Filter, resize};
pub use settings::models_of;
pub use size::Area;
pub use tensor::{Tensor, Values};

/// The classes of transformers whose records are prepared, with the text that stands for pictures.
pub fn processors() -> impl Iterator<Item = &'static str> {
    placeholders::classes()
}

/// The classes of transformers whose pictures are prepared.
pub fn classes() -> impl Iterator<Item = &'static str> {
    ways::WAYS.iter().map(|(class, _)| *class)
}
