//! How the folder of a model is taken.

use serde_json::Value;
use sli_checkpoint::ModelFolder;

use super::transformer::truthy;
use crate::error::{AGAIN, EngineError};
use crate::model::Model;
use crate::sentence_folder::{SETTINGS, modules, read_object, unusable};

/// The class of model that embeds texts.
const EMBEDDER: &str = "SentenceTransformer";

/// How the folder of a model is taken.
pub(super) enum Kind {
    /// Its modules are followed.
    Modules,
    /// It lists none.
    Plain,
    /// It lists those of another class, named here.
    Other(String),
}

/// Whether the modules of a folder are those of a model that embeds texts.
pub(super) fn kind(home: &ModelFolder) -> Result<Kind, EngineError> {
    if modules(home)?.is_none() {
        return Ok(Kind::Plain);
    }
    let settings = read_object(home, SETTINGS)?.unwrap_or_default();
    match settings.get("model_type") {
        None => Ok(Kind::Modules),
        Some(Value::String(class)) if class == EMBEDDER => Ok(Kind::Modules),
        Some(Value::String(class)) => Ok(Kind::Other(class.clone())),
        Some(other) => {
            let problem = format!("`model_type` is {other}, not a name");
            Err(unusable(home.join(SETTINGS), problem, AGAIN))
        }
    }
}

/// Whether the configuration is that of a model that writes on, from left to right.
pub(super) fn is_causal(model: &Model) -> bool {
    let named = model
        .beside
        .get("architectures")
        .and_then(|names| names.get(0)?.as_str());
    let causal = model.beside.get("is_causal").is_none_or(truthy);
    causal && named.is_some_and(|name| name.ends_with("ForCausalLM"))
}
