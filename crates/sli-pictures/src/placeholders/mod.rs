//! Placeholders of pictures in a text, expanded as transformers' processors do it: to as many tokens as the model has rows of
//! a picture.

mod expand;
mod given;
mod rules;
mod table;
mod tiled;
mod whole;

use serde_json::{Map, Value};

use crate::error::DescriptionError;
use crate::processor::ImageProcessor;

use given::Given;

pub use expand::{Kinds, PlaceholderError, Placeholders};
pub use table::classes;

/// What prepares the records of a model that sees: its pictures, and its texts where they have placeholders.
#[derive(Debug)]
pub struct Processor {
    /// For pictures.
    pub images: ImageProcessor,
    /// For texts; without, pictures leave no trace in them.
    pub placeholders: Option<Placeholders>,
}

/// The files that describe a processor, as far as they are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `preprocessor_config.json`.
    pub preprocessor: Option<&'a str>,
    /// `processor_config.json`.
    pub processor: Option<&'a str>,
    /// `processor_class` of `tokenizer_config.json`.
    pub tokenizer_class: Option<&'a str>,
    /// `model_type` of `config.json`.
    pub model_type: Option<&'a str>,
}

impl Processor {
    /// That of a model's files; `named` gives the tokens that `tokenizer_config.json` has under a name (`image_token`).
    pub fn read(
        files: Files<'_>,
        named: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DescriptionError> {
        let (keys, settings) = ImageProcessor::objects(files.preprocessor, files.processor)?;
        let said = |keys: &Map<String, Value>| {
            let class = keys.get("processor_class").and_then(Value::as_str);
            class.map(ToOwned::to_owned)
        };
        let of_model = || {
            files
                .model_type
                .and_then(crate::settings::processor_of_model)
        };
        let class = said(&keys).or_else(|| said(&settings));
        let class = class.or_else(|| files.tokenizer_class.map(ToOwned::to_owned));
        let class = class.or_else(|| of_model().map(ToOwned::to_owned));
        let row = class.as_deref().map(|class| (class, table::row(class)));
        let mut settings = settings;
        let row = match row {
            // Pictures by themselves.
            None => None,
            Some((class, None)) => return Err(DescriptionError::Class(class.to_owned())),
            Some((class, Some(row))) => {
                // What the class hands its processor of pictures goes before what the files say.
                for (key, value) in (row.images)(&keys) {
                    settings.insert(key.to_owned(), value);
                }
                Some((class, row))
            }
        };
        let settings = ImageProcessor::settings(settings, files.model_type)?;
        let placeholders = row.map(|(class, row)| {
            let given = Given {
                class,
                keys: &keys,
                images: &settings,
                named,
            };
            (row.placeholders)(&given)
        });
        Ok(Self {
            images: ImageProcessor::of(&settings)?,
            placeholders: placeholders.transpose()?.flatten(),
        })
    }
}
