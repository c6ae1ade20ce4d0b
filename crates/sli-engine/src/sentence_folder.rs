//! Where the files of a model are: in a folder, or in that of a sentence-transformers model, as its versions 0 to 6
//! write them.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};
use sli_checkpoint::{ModelFolder, ModelPlace};
use sli_spec::{ModelSpec, Probabilities};

use crate::error::{AGAIN, EngineError};

/// What helps where the modules of a folder cannot be followed.
pub(crate) const TRANSFORMER_ALONE: &str =
    "to have the transformer's part alone, choose a pooling: `--take embedding:mean`";
/// Largest file of settings that is read, bytes.
const FILE_LIMIT: u64 = 64 << 20;

/// The list of the modules.
pub(crate) const MODULES: &str = "modules.json";
/// Settings of the whole model.
pub(crate) const SETTINGS: &str = "config_sentence_transformers.json";
/// Where the transformer module keeps its settings, by the version and type that wrote it; the first one counts.
pub(crate) const TRANSFORMER_SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Names that the transformer module has had.
const TRANSFORMERS: [&str; 9] = [
    "Transformer",
    "BERT",
    "RoBERTa",
    "DistilBERT",
    "ALBERT",
    "CamemBERT",
    "XLMRoBERTa",
    "XLNet",
    "MLMTransformer",
];
/// The class of model that scores pairs of texts.
const CROSS_ENCODER: &str = "CrossEncoder";
/// The package whose modules are known.
const PACKAGE: &str = "sentence_transformers.";

/// An entry of `modules.json`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Module {
    /// Its class with the package.
    pub class: String,
    /// Where its own files are in the folder of the model; `""` for that itself.
    pub folder: String,
}

impl Module {
    /// The class without its package; `None` for code that is not sentence-transformers' own.
    pub fn kind(&self) -> Option<&str> {
        let inside = self.class.strip_prefix(PACKAGE)?;
        inside.rsplit('.').next()
    }

    /// Whether it is the transformer.
    pub fn is_transformer(&self) -> bool {
        self.kind().is_some_and(|kind| TRANSFORMERS.contains(&kind))
    }

    /// A file of it, by its path in the folder of the model.
    pub fn file(&self, name: &str) -> String {
        match self.folder.as_str() {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        }
    }
}

/// The modules of a folder; `None` if it has no list of them.
pub(crate) fn modules(home: &ModelFolder) -> Result<Option<Vec<Module>>, EngineError> {
    let Some(list) = read_json(home, MODULES)? else {
        return Ok(None);
    };
    let wrong = |problem: String| unusable(home.join(MODULES), problem, AGAIN);
    let Value::Array(list) = list else {
        return Err(wrong("it is not a list".into()));
    };
    let module = |entry: Value| {
        let text = |key: &str| {
            let text = entry.get(key).and_then(Value::as_str);
            text.ok_or_else(|| wrong(format!("an entry has no `{key}`")))
        };
        let (class, inner) = (text("type")?.to_owned(), text("path")?);
        let folder =
            inside(inner).ok_or_else(|| wrong(format!("`{inner}` points outside the folder")))?;
        Ok(Module { class, folder })
    };
    let modules: Result<_, _> = list.into_iter().map(module).collect();
    modules.map(Some)
}

/// A relative path as it is written, without what leads nowhere.
fn inside(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// The folder that a place names (or the one of the single weights file that it names), and the one in it with the
/// configuration, weights and tokenizer: itself, or the first that its list of modules names.
pub fn model_folder(place: &ModelPlace) -> Result<(ModelFolder, ModelFolder), EngineError> {
    let home = place.folder();
    let folder = match place.file() {
        Some(_) => home.clone(),
        None => home.inner(&transformer_folder(&home)?)?,
    };
    Ok((home, folder))
}

/// Where the transformer of a model is in its folder.
fn transformer_folder(home: &ModelFolder) -> Result<String, EngineError> {
    let has_config = home.has("config.json")? || home.has("params.json")?;
    let modules = match modules(home) {
        Ok(modules) => modules.unwrap_or_default(),
        // Who asks for an embedding is told.
        Err(_) if has_config => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    match modules.into_iter().next() {
        Some(first) if first.is_transformer() => Ok(first.folder),
        Some(first) if !has_config => {
            let problem = format!(
                "the first module of this sentence-transformers model is `{}`, no transformer",
                first.class
            );
            let hint = "give the folder of a transformer: it has a config.json";
            Err(unusable(home.join(MODULES), problem, hint))
        }
        _ => Ok(String::new()),
    }
}

/// What the folder of a cross-encoder says of its scores goes before what its configuration says.
pub(crate) fn follow_scores(home: &ModelFolder, spec: &mut ModelSpec) -> Result<(), EngineError> {
    const KEY: &str = "activation_fn";
    let stack = spec.stacks.last_mut();
    let Some(classes) = stack.and_then(|stack| stack.head.classes.as_mut()) else {
        return Ok(());
    };
    // Without a list of modules these settings are not read.
    if !home.has(MODULES)? {
        return Ok(());
    }
    let settings = read_object(home, SETTINGS)?.unwrap_or_default();
    if settings.get("model_type") != Some(&CROSS_ENCODER.into()) {
        return Ok(());
    }
    let wrong = |problem: String| {
        let hint = "take `logits` of `classes` from a copy of the folder without this key";
        unusable(home.join(SETTINGS), problem, hint)
    };
    match settings.get(KEY) {
        None | Some(Value::Null) => {}
        Some(Value::String(path)) => {
            classes.probabilities = Probabilities::of_activation(path, classes.labels.len())
                .map_err(|known| wrong(format!("`{KEY}` is `{path}`; {known}")))?;
        }
        Some(other) => return Err(wrong(format!("`{KEY}` is {other}, not a name"))),
    }
    Ok(())
}

/// A file that is an object; `None` if it is not there.
pub(crate) fn read_object(
    folder: &ModelFolder,
    name: &str,
) -> Result<Option<Map<String, Value>>, EngineError> {
    match read_json(folder, name)? {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(unusable(
            folder.join(name),
            "it is not an object".into(),
            AGAIN,
        )),
    }
}

fn read_json(folder: &ModelFolder, name: &str) -> Result<Option<Value>, EngineError> {
    let Some(bytes) = folder.read(name, FILE_LIMIT)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(unusable(folder.join(name), error.to_string(), AGAIN)),
    }
}

/// A file of the model that cannot be followed.
pub(crate) fn unusable(path: PathBuf, problem: String, hint: &'static str) -> EngineError {
    EngineError::Unusable {
        path,
        problem,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::{Module, inside};

    #[test]
    fn paths_stay_inside() {
        for path in ["1_Pooling", "./1_Pooling/", "1_Pooling/", "././1_Pooling//"] {
            assert_eq!(inside(path).as_deref(), Some("1_Pooling"), "{path}");
        }
        assert_eq!(inside("").as_deref(), Some(""));
        assert_eq!(inside(".").as_deref(), Some(""));
        assert_eq!(inside("a//b").as_deref(), Some("a/b"));
        for path in ["../elsewhere", "a/../..", "/etc"] {
            assert_eq!(inside(path), None, "{path}");
        }
    }

    #[test]
    fn classes_of_all_versions() {
        let kind = |class: &str| {
            let (class, folder) = (class.to_owned(), "x".into());
            Module { class, folder }.kind().map(str::to_owned)
        };
        for class in [
            "sentence_transformers.models.Pooling",
            "sentence_transformers.models.Pooling.Pooling",
            "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        ] {
            assert_eq!(kind(class).as_deref(), Some("Pooling"), "{class}");
        }
        assert_eq!(kind("custom_code.Pooling"), None);
    }
}
