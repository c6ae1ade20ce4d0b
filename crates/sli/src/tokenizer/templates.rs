//! Where a model keeps its chat templates, and which of them are meant.
//!
//! As in transformers 5.23: `chat_template.jinja` and `additional_chat_templates/*.jinja` go before the templates
//! of `tokenizer_config.json`, which is one template, or several by name. `chat_template.json`, which only processors read,
//! counts where there is nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use sli_checkpoint::ModelFolder;

use super::chat::{Source, Sources};
use super::contents::Contents;
use super::error::TokenizerError;
use super::files::{SETTINGS_LIMIT as FILE_LIMIT, read_object};

/// Where further templates are.
const FURTHER: &str = "additional_chat_templates";
/// The template that is meant where none is named.
const DEFAULT: &str = "default";
/// The template for records with tools.
const TOOL_USE: &str = "tool_use";

/// What the command line says of chat templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatOptions {
    /// The template of a name, or that of a file.
    pub template: Option<Choice>,
    /// Variables of templates, as JSON texts.
    pub arguments: Vec<(String, String)>,
    /// What templates are given as contents of messages.
    pub contents: Contents,
}

/// The template that is to be used for all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One of the model's, by name.
    Name(String),
    /// The one of a file.
    File(Source),
}

impl ChatOptions {
    /// From `--chat-template NAME|FILE` and `--chat-arg KEY=VALUE`; what is a file is read at once.
    pub fn new(
        template: Option<&str>,
        arguments: &[(String, String)],
    ) -> Result<Self, TokenizerError> {
        let template = template.map(choice).transpose()?;
        Ok(Self {
            template,
            arguments: arguments.to_vec(),
            contents: Contents::default(),
        })
    }
}

fn choice(text: &str) -> Result<Choice, TokenizerError> {
    let path = PathBuf::from(text);
    let metadata = fs_err::metadata(&path);
    let is_file = metadata.as_ref().is_ok_and(std::fs::Metadata::is_file);
    if !is_file {
        // What looks like a path is meant as one.
        if text.contains('/')
            || path
                .extension()
                .is_some_and(|extension| extension == "jinja")
        {
            let source = metadata
                .err()
                .unwrap_or_else(|| std::io::ErrorKind::InvalidInput.into());
            return Err(TokenizerError::Read { path, source });
        }
        return Ok(Choice::Name(text.to_owned()));
    }
    let broken = |path: PathBuf, problem: String| TokenizerError::Broken { path, problem };
    if metadata.is_ok_and(|metadata| metadata.len() > FILE_LIMIT) {
        let problem = format!("larger than {} MiB", FILE_LIMIT >> 20);
        return Err(broken(path, problem));
    }
    let bytes = fs_err::read(&path).map_err(|source| TokenizerError::Read {
        path: path.clone(),
        source,
    })?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Choice::File(Source { path, text })),
        Err(error) => Err(broken(path, error.to_string())),
    }
}

/// The templates of a model by name; one alone is the default.
pub(super) fn sources(
    folder: &ModelFolder,
    configured: Option<&Value>,
    choice: Option<&Choice>,
) -> Result<Sources, TokenizerError> {
    let name = match choice {
        Some(Choice::File(source)) => {
            return Ok(Sources {
                default: Some(source.clone()),
                ..Sources::default()
            });
        }
        Some(Choice::Name(name)) => Some(name),
        None => None,
    };
    let mut named = of_files(folder)?;
    if named.is_empty()
        && let Some(configured) = configured
    {
        named = of_value(configured, folder.join("tokenizer_config.json"))?;
    }
    if named.is_empty()
        && let Some(mut object) = read_object(folder, "chat_template.json")?
        && let Some(template) = object.remove("chat_template")
    {
        named = of_value(&template, folder.join("chat_template.json"))?;
    }
    if named.is_empty() {
        return Err(TokenizerError::NoTemplate {
            folder: folder.path().to_path_buf(),
        });
    }
    let names: Vec<String> = named.keys().cloned().collect();
    if let Some(name) = name {
        let Some(source) = named.remove(name) else {
            return Err(TokenizerError::UnknownTemplate {
                folder: folder.path().to_path_buf(),
                name: name.clone(),
                names,
            });
        };
        return Ok(Sources {
            default: Some(source),
            ..Sources::default()
        });
    }
    Ok(Sources {
        default: named.remove(DEFAULT),
        tool_use: named.remove(TOOL_USE),
        names,
    })
}

fn of_files(folder: &ModelFolder) -> Result<BTreeMap<String, Source>, TokenizerError> {
    let mut named = BTreeMap::new();
    let mut add = |name: &str, file: &str| {
        let Some(bytes) = folder.read(file, FILE_LIMIT)? else {
            return Ok(());
        };
        let path = folder.join(file);
        let text = String::from_utf8(bytes).map_err(|error| TokenizerError::Broken {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        named.insert(name.to_owned(), Source { path, text });
        Ok::<_, TokenizerError>(())
    };
    add(DEFAULT, "chat_template.jinja")?;
    for file in folder.list(FURTHER)? {
        if let Some(name) = file.strip_suffix(".jinja") {
            add(name, &format!("{FURTHER}/{file}"))?;
        }
    }
    Ok(named)
}

/// One template, or several by name as an object or as a list of `{name, template}`.
fn of_value(value: &Value, path: PathBuf) -> Result<BTreeMap<String, Source>, TokenizerError> {
    let text_of = |entry: &Value, key: &str| entry.get(key)?.as_str().map(str::to_owned);
    let pairs: Option<Vec<(String, String)>> = match value {
        Value::String(template) => Some(vec![(DEFAULT.to_owned(), template.clone())]),
        Value::Object(named) => named
            .iter()
            .map(|(name, template)| Some((name.clone(), template.as_str()?.to_owned())))
            .collect(),
        Value::Array(named) => named
            .iter()
            .map(|entry| Some((text_of(entry, "name")?, text_of(entry, "template")?)))
            .collect(),
        _ => None,
    };
    let Some(pairs) = pairs else {
        let problem = "`chat_template` is neither a template nor templates by name".into();
        return Err(TokenizerError::Broken { path, problem });
    };
    Ok(pairs
        .into_iter()
        .map(|(name, text)| {
            let path = path.clone();
            (name, Source { path, text })
        })
        .collect())
}
