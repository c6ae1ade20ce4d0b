//! What sentence-transformers does to a text before the model sees it.

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use super::kind::{Kind, kind};
use super::modules::recipe;
use super::sparse::is_sparse;
use super::transformer::{self, Message, NO_LIMIT, Output, TransformerSettings, limit};
use crate::error::{AGAIN, EngineError};
use crate::model::Model;
use crate::sentence_folder::{MODULES, SETTINGS, read_object, unusable};

/// What happens to a text before it becomes tokens, and where its tokens are cut.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextRules {
    /// Longer texts are cut to this many tokens.
    pub limit: Option<usize>,
    /// Who says so, for people.
    pub limit_from: String,
    /// Texts become lower case.
    pub lower_case: bool,
    /// Texts are cut at their beginning, or not; `None`: as the tokenizer says.
    pub truncate_left: Option<bool>,
    /// What is put in front of every text.
    pub prompt: Option<Prompt>,
    /// Texts become messages of a user, which the chat template renders.
    pub as_message: Option<Message>,
    /// A folder without modules has a chat template, by which sentence-transformers 6 would render the texts.
    pub has_template: bool,
    /// What the user should know of the folder.
    pub notes: Vec<String>,
}

/// What is put in front of every text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its name in the files.
    pub name: String,
    /// The prompt.
    pub text: String,
    /// Its tokens are not pooled.
    pub left_out: bool,
}

/// What `--take embedding` (or `sparse`) does to the texts of this model; `prompt` is the name of the prompt that was
/// asked for.
pub fn text_rules(
    model: &Model,
    prompt: Option<&str>,
    sparse: bool,
) -> Result<TextRules, EngineError> {
    let home = &model.home;
    // Its modules are followed for what they are for.
    let (kind, output) = match kind(home)? {
        Kind::Plain => (Kind::Plain, Output::Hidden),
        _ if sparse && is_sparse(home)? => (Kind::Modules, Output::Logits),
        kind => (kind, Output::Hidden),
    };
    let (settings, prompts) = match kind {
        Kind::Modules => (
            transformer::settings(&model.folder, output)?,
            read_object(home, SETTINGS)?.unwrap_or_default(),
        ),
        Kind::Plain | Kind::Other(_) => (TransformerSettings::default(), Map::new()),
    };
    let mut rules = TextRules {
        lower_case: settings.lower_case,
        truncate_left: settings.truncate_left,
        as_message: settings.as_message,
        prompt: choose_prompt(home, &prompts, prompt)?,
        ..TextRules::default()
    };
    if !sparse {
        let recipe = recipe(model, None)?;
        if let Some(prompt) = &mut rules.prompt {
            prompt.left_out = !recipe.include_prompt;
        }
    }
    rules.has_template = matches!(kind, Kind::Plain) && has_chat_template(&model.folder)?;
    if let Kind::Other(class) = kind {
        rules.notes.push(format!(
            "{} is of a {class}: its modules are not followed, as sentence-transformers does where it is asked for embeddings",
            home.join(MODULES).display()
        ));
    }
    (rules.limit, rules.limit_from) = length(model, &settings)?;
    Ok(rules)
}

/// Whether the folder of a tokenizer has a chat template.
fn has_chat_template(folder: &ModelFolder) -> Result<bool, EngineError> {
    let settings = read_object(folder, "tokenizer_config.json")?.unwrap_or_default();
    let inside = settings
        .get("chat_template")
        .is_some_and(|template| !template.is_null());
    Ok(inside || folder.has("chat_template.jinja")?)
}

/// The prompt by the name that was asked for, or the one that the files put in front of every text.
fn choose_prompt(
    home: &ModelFolder,
    settings: &Map<String, Value>,
    asked: Option<&str>,
) -> Result<Option<Prompt>, EngineError> {
    let path = || home.join(SETTINGS);
    let default = match settings.get("default_prompt_name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.as_str()),
        Some(other) => {
            let problem = format!("`default_prompt_name` is {other}, not a name");
            return Err(unusable(path(), problem, AGAIN));
        }
    };
    // An empty name is no prompt.
    let Some(name) = asked.or(default).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let known = settings.get("prompts").and_then(Value::as_object);
    let text = match known.and_then(|known| known.get(name)) {
        Some(Value::String(text)) => text.as_str(),
        // The class has these two, empty.
        None | Some(Value::Null) if matches!(name, "query" | "document") => "",
        Some(other) => {
            let problem = format!("the prompt `{name}` is {other}, not a text");
            return Err(unusable(path(), problem, AGAIN));
        }
        None => {
            let names = known.into_iter().flat_map(Map::keys);
            let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
            let problem = match &names[..] {
                [] => format!("there is no prompt `{name}`: the model has none"),
                _ => format!(
                    "there is no prompt `{name}`; there are {}",
                    names.join(", ")
                ),
            };
            let hint = "give --prompt one of its names, or --prompt '' for none";
            return Err(unusable(path(), problem, hint));
        }
    };
    Ok((!text.is_empty()).then(|| Prompt {
        name: name.to_owned(),
        text: text.to_owned(),
        left_out: false,
    }))
}

/// To how many tokens a text is cut, and who says so.
fn length(
    model: &Model,
    settings: &TransformerSettings,
) -> Result<(Option<usize>, String), EngineError> {
    let (tokens, from) = match (&settings.length, &settings.path) {
        (Some(length), Some(path)) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            (length.tokens, format!("`{}` of {file}", length.key))
        }
        _ => {
            let positions = "`max_position_embeddings` of config.json".to_owned();
            let positions = positions_of(model).map(|tokens| (tokens, positions));
            let least = tokenizer_length(model)?.into_iter().chain(positions);
            let least = least.min_by_key(|(tokens, _)| *tokens);
            least.unwrap_or((NO_LIMIT, String::new()))
        }
    };
    Ok((Some(tokens).filter(|&tokens| tokens != NO_LIMIT), from))
}

/// The length that the tokenizer's settings say, and which key of them.
fn tokenizer_length(model: &Model) -> Result<Option<(usize, String)>, EngineError> {
    const FILE: &str = "tokenizer_config.json";
    let path = model.folder.join(FILE);
    let settings = read_object(&model.folder, FILE)?.unwrap_or_default();
    let keys = ["model_max_length", "max_len"].into_iter();
    let named = keys.filter_map(|key| settings.get(key).map(|value| (key, value)));
    match named.take(1).find(|(_, value)| !value.is_null()) {
        None => Ok(None),
        Some((key, value)) => match limit(value) {
            Some(tokens) => Ok(Some((tokens, format!("`{key}` of tokenizer_config.json")))),
            None => {
                let problem = format!("`{key}` is {value}, not a number of tokens");
                Err(unusable(path, problem, AGAIN))
            }
        },
    }
}

/// `max_position_embeddings` of the configuration, or of its class.
fn positions_of(model: &Model) -> Option<usize> {
    let value = model.beside.get("max_position_embeddings")?.as_u64()?;
    usize::try_from(value).ok().filter(|&value| value > 0)
}
