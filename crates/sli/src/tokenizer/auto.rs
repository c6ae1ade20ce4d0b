//! Which of the reference's classes makes a folder's tokenizer.
//!
//! `classes.json` is written from transformers by `tools/tokenizers/classes.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use super::error::TokenizerError;
use super::files::{FILE_LIMIT, read_object};

/// The class that takes `tokenizer.json` as it is.
pub const GENERIC: &str = "TokenizersBackend";

/// What transformers says of its tokenizer classes.
#[derive(Debug, Deserialize)]
pub struct Classes {
    /// Model types whose files name a wrong class.
    incorrect: BTreeSet<String>,
    #[serde(rename = "model_types")]
    of_model_type: BTreeMap<String, ModelType>,
    /// Names to the classes that they stand for.
    #[serde(rename = "classes")]
    names: BTreeMap<String, String>,
    /// How a class comes to its tokens: `file`, `builds`, `python`, or the class whose constructor it has.
    pub kinds: BTreeMap<String, String>,
    /// Classes that give token types to the model, if the files do not say otherwise.
    pub types: BTreeSet<String>,
    /// Codes of languages that are tokens, by family.
    pub languages: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct ModelType {
    /// The class in the reference's list.
    registered: Option<String>,
    /// The class that is taken where no file names one.
    default: Option<String>,
    /// Whether the reference has a tokenizer of its own for the type.
    #[serde(default)]
    local: bool,
}

/// The table.
#[expect(
    clippy::expect_used,
    reason = "part of the program, read by every test of a tokenizer"
)]
pub static CLASSES: LazyLock<Classes> =
    LazyLock::new(|| serde_json::from_str(include_str!("classes.json")).expect("a table"));

/// A chosen class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name in the reference.
    pub class: String,
    /// The name in the files and the file that has it, if one does.
    pub named: Option<(String, &'static str)>,
}

impl Choice {
    fn new(class: &str, named: Option<(&str, &'static str)>) -> Self {
        Self {
            class: class.to_owned(),
            named: named.map(|(name, file)| (name.to_owned(), file)),
        }
    }
}

/// The class for a folder, from `tokenizer_config.json` and `config.json`.
pub fn choose(
    folder: &ModelFolder,
    tokenizer_config: &Map<String, Value>,
    tokenizer_file: Option<&str>,
) -> Result<Choice, TokenizerError> {
    let config = read_object(folder, "config.json")?.unwrap_or_default();
    let name_in = |object: &Map<String, Value>, key: &str| {
        let value = object.get(key).and_then(Value::as_str);
        value.map(str::to_owned)
    };
    let model_type = name_in(&config, "model_type").unwrap_or_default();
    let own = name_in(tokenizer_config, "tokenizer_class").filter(|name| !name.is_empty());
    let own_is_empty = tokenizer_config
        .get("tokenizer_class")
        .is_some_and(|name| name == "");
    let other = name_in(&config, "tokenizer_class").filter(|name| !name.is_empty());
    let named = match (&own, &other) {
        (Some(name), _) => Some((name.as_str(), "tokenizer_config.json")),
        (None, Some(name)) => Some((name.as_str(), "config.json")),
        (None, None) => None,
    };
    let incorrect = CLASSES.incorrect.contains(&model_type)
        || name_in(&config, "model_name").is_some_and(|name| CLASSES.incorrect.contains(&name));
    let known = CLASSES.of_model_type.get(&model_type);
    let registered = known
        .and_then(|known| known.registered.as_deref())
        .map(bare);
    let mut remote = has_remote_code(tokenizer_config);
    if !remote {
        let declared = named.map(|(name, _)| bare(name));
        if declared == Some("LlamaTokenizer") && !incorrect && byte_level(folder, tokenizer_file)? {
            return Ok(Choice::new(GENERIC, named));
        }
        if let (Some(registered), Some((name, _))) = (registered, named)
            && registered != bare(name)
        {
            let name = if incorrect { registered } else { name };
            let class = match registered {
                GENERIC => GENERIC,
                _ => CLASSES.names.get(name).map_or(GENERIC, String::as_str),
            };
            let class = if class == "PythonBackend" {
                GENERIC
            } else {
                class
            };
            return Ok(Choice::new(class, named));
        }
    }
    let stripped = own.as_deref().map(bare);
    let found = |name: &str| {
        let class = CLASSES.names.get(name).map(String::as_str);
        class.map(|class| {
            if class == "PythonBackend" {
                GENERIC
            } else {
                class
            }
        })
    };
    if remote && CLASSES.incorrect.contains(&model_type) {
        remote = false;
    }
    let has_local = known.is_some_and(|known| known.local) || stripped.and_then(found).is_some();
    if remote && !has_local {
        return Err(TokenizerError::Class {
            folder: folder.path().to_path_buf(),
            class: named.map_or("of its own".into(), |(name, _)| format!("`{name}`")),
            problem:
                "its code comes with the model (`auto_map` in tokenizer_config.json) and is not run"
                    .into(),
        });
    }
    if let Some(name) = stripped {
        return Ok(Choice::new(found(name).unwrap_or(GENERIC), named));
    }
    if own_is_empty {
        return Ok(Choice::new(GENERIC, None));
    }
    if let Some(name) = &other {
        let name = if name.contains("PreTrainedTokenizerFast") {
            name
        } else {
            bare(name)
        };
        let Some(class) = CLASSES.names.get(name) else {
            return Err(TokenizerError::Class {
                folder: folder.path().to_path_buf(),
                class: format!("`{name}`"),
                problem: "`tokenizer_class` in config.json names no class of transformers 5.23, which fails here too".into(),
            });
        };
        return Ok(Choice::new(class, named));
    }
    let default = known.and_then(|known| known.default.as_deref());
    Ok(Choice::new(default.unwrap_or(GENERIC), None))
}

/// A class's name without the mark of the fast ones.
fn bare(name: &str) -> &str {
    name.strip_suffix("Fast").unwrap_or(name)
}

fn has_remote_code(tokenizer_config: &Map<String, Value>) -> bool {
    match tokenizer_config.get("auto_map") {
        Some(Value::Array(_)) => true,
        Some(Value::Object(map)) => map.get("AutoTokenizer").is_some_and(|map| !map.is_null()),
        _ => false,
    }
}

/// Whether the file speaks of bytes anywhere: the reference looks for the word, quoted.
fn byte_level(folder: &ModelFolder, tokenizer_file: Option<&str>) -> Result<bool, TokenizerError> {
    const WORD: &[u8] = b"\"ByteLevel\"";
    let Some(name) = tokenizer_file else {
        return Ok(false);
    };
    let Some(mut file) = folder.open(name, FILE_LIMIT)? else {
        return Ok(false);
    };
    let failed = |source| TokenizerError::Read {
        path: folder.join(name),
        source,
    };
    let mut block = vec![0; 64 << 10];
    let mut kept = 0;
    loop {
        let read = file.read(&mut block[kept..]).map_err(failed)?;
        if read == 0 {
            return Ok(false);
        }
        let filled = kept + read;
        if block[..filled]
            .windows(WORD.len())
            .any(|window| window == WORD)
        {
            return Ok(true);
        }
        kept = filled.min(WORD.len() - 1);
        block.copy_within(filled - kept..filled, 0);
    }
}
