//! A GGUF file's own description of its model: the configuration that its metadata stand for, and its tensors under
//! the names of the reference.
//!
//! llama.cpp's converter makes a file of a published model; what it did is undone here. Its keys become those of a
//! `config.json` (`Architecture::config`), which is described like any other, and every tensor of the description is
//! then looked for under the converter's name for it ([`describe`]), with what the converter did to its elements: rows in
//! another order, one added to norms, a transpose. A key of the architecture that nothing reads is refused.

mod architecture;
mod architectures;
mod beside_weights;
mod deltas;
mod encoders;
mod experts;
mod gemma;
mod gpt;
mod heads;
mod latents;
mod layer_inputs;
mod limited;
mod llama;
mod matrices;
mod mixtures;
mod names;
mod published;
mod reader;
mod relatives;
mod rotation;
mod rwkv;
mod states;
mod stored;
mod turns;
mod undo;
mod usual;

use serde_json::{Map, Value};

pub use architecture::Architecture;
pub use architectures::{ARCHITECTURES, REFUSED};
pub use matrices::{Matrices, matrices};
use reader::Reader;
pub use stored::{FACTORS, Stored};

use crate::{Config, SpecError};

/// The key of the architecture.
const ARCHITECTURE: &str = "general.architecture";

/// The reference's class of tokenizer of a file whose tokens are pieces with scores.
pub fn tokenizer_of_pieces(architecture: &str) -> &'static str {
    known(architecture).map_or(architectures::USUAL, |known| known.of_pieces)
}

fn known(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|known| known.name == name)
}

/// The configuration of a file as text, and how its tensors are named.
pub fn configuration(stored: &Stored) -> Result<(String, &'static Architecture), SpecError> {
    let name = stored.values.get(ARCHITECTURE).and_then(Value::as_str);
    let name = name.ok_or_else(|| SpecError::Missing {
        key: ARCHITECTURE.to_owned(),
    })?;
    let known = known(name).ok_or_else(|| {
        let refused = REFUSED.iter().find(|(names, _)| names.contains(&name));
        let unknown =
            "files of this architecture are not read; `docs/formats.md` lists those that are";
        SpecError::Unsupported {
            key: ARCHITECTURE.to_owned(),
            found: Value::from(name).to_string(),
            reason: refused.map_or(unknown, |(_, reason)| reason).to_owned(),
        }
    })?;
    let mut reader = Reader::new(stored, name);
    (known.config)(&mut reader)?;
    let object: Map<String, Value> = reader.finish()?;
    Ok((Value::Object(object).to_string(), known))
}

/// The description of the model of a configuration that [`configuration`] made, over the names of a file's tensors.
pub fn describe(
    text: &str,
    architecture: &Architecture,
    stored: &Stored,
    options: &crate::Options,
) -> Result<crate::Built, SpecError> {
    let mut built = crate::describe(&Config::parse(text)?, options)?;
    names::rename(&mut built, architecture, stored);
    Ok(built)
}
