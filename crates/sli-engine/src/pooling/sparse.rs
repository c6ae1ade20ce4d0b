//! How logits of masked tokens become the weights of a sparse embedding: `SpladePooling` of sentence-transformers.

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use super::kind::{Kind, kind};
use crate::error::EngineError;
use crate::model::Model;
use crate::sentence_folder::{MODULES, Module, modules, read_object, unusable};

/// The class of model that gives sparse embeddings.
pub(super) const SPARSE: &str = "SparseEncoder";
/// The module that folds logits.
const POOLING: &str = "SpladePooling";
/// What helps where the modules cannot be followed.
const HINT: &str = "without its modules.json the folder is taken as a plain SPLADE model";

/// How the logits of a record become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SparseRecipe {
    /// Over its tokens.
    pub fold: Fold,
    /// `ln(1 + ln(1 + relu(logit)))` instead of `ln(1 + relu(logit))`.
    pub is_twice: bool,
}

/// How the tokens of a record come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Max,
    Sum,
}

impl SparseRecipe {
    /// What the folders mean that say nothing.
    const USUAL: Self = Self {
        fold: Fold::Max,
        is_twice: false,
    };

    /// Of a logit. It grows with the logit, so the largest weight is that of the largest logit.
    pub fn weight(self, logit: f32) -> f32 {
        let once = logit.max(0.0).ln_1p();
        if self.is_twice { once.ln_1p() } else { once }
    }
}

/// Whether the folder of a model is one of sparse embeddings.
pub(super) fn is_sparse(home: &ModelFolder) -> Result<bool, EngineError> {
    if matches!(kind(home)?, Kind::Other(class) if class == SPARSE) {
        return Ok(true);
    }
    let modules = modules(home)?.unwrap_or_default();
    Ok(modules.iter().any(|module| module.kind() == Some(POOLING)))
}

/// The recipe for `--take sparse`.
pub(crate) fn sparse_recipe(model: &Model) -> Result<SparseRecipe, EngineError> {
    let home = &model.home;
    if !is_sparse(home)? {
        return Ok(SparseRecipe::USUAL);
    }
    let modules = modules(home)?.unwrap_or_default();
    match &modules[..] {
        [first, pooling] if first.is_transformer() && pooling.kind() == Some(POOLING) => {
            of_module(home, pooling)
        }
        _ => {
            let names: Vec<&str> = modules.iter().map(|module| module.class.as_str()).collect();
            let problem = format!(
                "sparse embeddings are those of a transformer and a {POOLING}; it lists {}",
                names.join(", ")
            );
            Err(unusable(home.join(MODULES), problem, HINT))
        }
    }
}

fn of_module(home: &ModelFolder, module: &Module) -> Result<SparseRecipe, EngineError> {
    let name = module.file("config.json");
    let config = read_object(home, &name)?.unwrap_or_default();
    of_config(&config).map_err(|problem| unusable(home.join(&name), problem, HINT))
}

fn of_config(config: &Map<String, Value>) -> Result<SparseRecipe, String> {
    const KEYS: [&str; 5] = [
        "pooling_strategy",
        "activation_function",
        "embedding_dimension",
        "word_embedding_dimension",
        // How many tokens are folded at a time.
        "chunk_size",
    ];
    if let Some(key) = config.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("the key `{key}` is not known"));
    }
    let text = |key: &str, usual: &'static str| match config.get(key) {
        None => Ok(usual.to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("`{key}` is {other}, not a name")),
    };
    let fold = match text("pooling_strategy", "max")?.as_str() {
        "max" => Fold::Max,
        "sum" => Fold::Sum,
        other => return Err(format!("`{other}` is not a pooling that is known")),
    };
    let is_twice = match text("activation_function", "relu")?.as_str() {
        "relu" => false,
        "log1p_relu" => true,
        other => return Err(format!("the activation `{other}` is not known")),
    };
    Ok(SparseRecipe { fold, is_twice })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Fold, SparseRecipe, of_config};

    #[test]
    fn recipes_of_files() {
        let of = |value: serde_json::Value| of_config(value.as_object().unwrap());
        assert_eq!(of(json!({})), Ok(SparseRecipe::USUAL));
        let other = json!({"pooling_strategy": "sum", "activation_function": "log1p_relu", "chunk_size": 3});
        let (fold, is_twice) = (Fold::Sum, true);
        assert_eq!(of(other), Ok(SparseRecipe { fold, is_twice }));
        for wrong in [
            json!({"pooling_strategy": "mean"}),
            json!({"activation_function": 3}),
            json!({"top": 1}),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn weights_grow_with_logits() {
        let (once, twice) = (
            SparseRecipe::USUAL,
            SparseRecipe {
                is_twice: true,
                ..SparseRecipe::USUAL
            },
        );
        assert_eq!([once.weight(-3.0), twice.weight(0.0)], [0.0, 0.0]);
        assert!((once.weight(1.0) - 2.0_f32.ln()).abs() < 1e-7);
        assert!(twice.weight(1.0) < once.weight(1.0));
    }
}
