//! How a record's hidden states become one vector.
//!
//! `--take embedding` follows the model's own files where it has them: `modules.json` and the
//! pooling configuration that sentence-transformers writes.

use std::path::Path;

use serde_json::Value;
use sli_checkpoint::ModelFolder;
use sli_kernels::MatRef;
use sli_spec::{ModelSpec, Predicts};

use crate::error::{AGAIN, EngineError};
use crate::take::Pooling;

/// Where sentence-transformers writes how it treats a text, by the type of the model.
const TEXT_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Largest file that is read, bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// What to do with the normed end of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub mode: Mode,
    /// Divide by the Euclidean norm.
    pub normalize: bool,
}

/// The pooling modes of sentence-transformers, and the model's own pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Mean,
    MeanSqrtLength,
    WeightedMean,
    Max,
    Cls,
    Last,
    Pooler,
}

impl From<Pooling> for Mode {
    fn from(pooling: Pooling) -> Self {
        match pooling {
            Pooling::Mean => Self::Mean,
            Pooling::Cls => Self::Cls,
            Pooling::Last => Self::Last,
            Pooling::Pooler => Self::Pooler,
        }
    }
}

/// The recipe for `--take embedding[:POOLING]`: as asked, else as the model's files say, else the
/// last token of a causal model and the mean of any other.
pub(crate) fn recipe(
    folder: &ModelFolder,
    spec: &ModelSpec,
    asked: Option<Pooling>,
) -> Result<Recipe, EngineError> {
    let modules = modules(folder)?;
    if let Some(pooling) = asked {
        let normalize = modules
            .iter()
            .flatten()
            .any(|module| kind(module) == "Normalize");
        return Ok(Recipe {
            mode: pooling.into(),
            normalize,
        });
    }
    let written = match modules {
        Some(modules) => from_modules(folder, &modules)?,
        None => None,
    };
    Ok(written.unwrap_or_else(|| {
        let head = &spec.output_stack().head;
        let causal = match &head.logits {
            Some(logits) => logits.predicts == Predicts::Next,
            None => spec.output_stack().is_causal(),
        };
        Recipe {
            mode: if causal { Mode::Last } else { Mode::Mean },
            normalize: false,
        }
    }))
}

/// The modules of a sentence-transformers model.
fn modules(folder: &ModelFolder) -> Result<Option<Vec<Value>>, EngineError> {
    match read_json(folder, "modules.json")? {
        None => Ok(None),
        Some(Value::Array(modules)) => Ok(Some(modules)),
        Some(_) => Err(EngineError::Unusable {
            path: folder.join("modules.json"),
            problem: "it is not a list".into(),
            hint: AGAIN,
        }),
    }
}

/// What a module is, without the package that it comes from.
fn kind(module: &Value) -> &str {
    let full = module["type"].as_str().unwrap_or_default();
    full.rsplit('.').next().unwrap_or_default()
}

fn from_modules(folder: &ModelFolder, modules: &[Value]) -> Result<Option<Recipe>, EngineError> {
    let unusable = |problem: String| EngineError::Unusable {
        path: folder.join("modules.json"),
        problem,
        hint: "to have the transformer's part alone, choose a pooling: `--take embedding:mean`",
    };
    check_texts(folder)?;
    let mut recipe = None;
    let mut normalize = false;
    for module in modules {
        match kind(module) {
            "Transformer" => {}
            "Normalize" => normalize = true,
            "Pooling" => {
                let path = module["path"].as_str().unwrap_or_default();
                let inside = Path::new(path)
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                if !inside {
                    return Err(unusable(format!("`{path}` points outside the folder")));
                }
                let file = Path::new(path).join("config.json").display().to_string();
                let config = read_json(folder, &file)?
                    .ok_or_else(|| unusable(format!("`{file}` is missing")))?;
                recipe =
                    Some(mode(&config).ok_or_else(|| {
                        unusable(format!("`{file}` names no pooling that is known"))
                    })?);
            }
            other => {
                return Err(unusable(format!("the module `{other}` is not known")));
            }
        }
    }
    Ok(recipe.map(|mode| Recipe { mode, normalize }))
}

/// The length to which sentence-transformers cuts the texts of a model, tokens; `None` where its files name
/// none, or are no such files.
pub fn sentence_length(folder: &ModelFolder) -> Option<usize> {
    modules(folder).ok()??;
    let (_, settings) = text_settings(folder).ok()??;
    settings["max_seq_length"].as_u64()?.try_into().ok()
}

fn text_settings(folder: &ModelFolder) -> Result<Option<(&'static str, Value)>, EngineError> {
    for file in TEXT_FILES {
        if let Some(settings) = read_json(folder, file)? {
            return Ok(Some((file, settings)));
        }
    }
    Ok(None)
}

/// Refuses a model whose texts sentence-transformers changes before they become tokens: a record is taken as it
/// is.
fn check_texts(folder: &ModelFolder) -> Result<(), EngineError> {
    let file = "config_sentence_transformers.json";
    if let Some(settings) = read_json(folder, file)?
        && let Some(name) = settings["default_prompt_name"].as_str()
        && let Some(prompt) = settings["prompts"][name].as_str()
        && !prompt.is_empty()
    {
        return Err(EngineError::Unusable {
            path: folder.join(file),
            problem: format!("every text begins with the prompt {prompt:?}"),
            hint: "write it in front of the texts and choose a pooling: `--take embedding:mean`",
        });
    }
    let lowers = |settings: &Value| settings["do_lower_case"].as_bool() == Some(true);
    if let Some((file, settings)) = text_settings(folder)?
        && lowers(&settings)
        // A tokenizer that does the same makes no difference.
        && !read_json(folder, "tokenizer_config.json")?.is_some_and(|file| lowers(&file))
    {
        return Err(EngineError::Unusable {
            path: folder.join(file),
            problem: "`do_lower_case`: the tokenizer does not do it".into(),
            hint: "write the texts in lower case and choose a pooling: `--take embedding:mean`",
        });
    }
    Ok(())
}

/// The one pooling mode that a configuration switches on.
fn mode(config: &Value) -> Option<Mode> {
    if let Some(name) = config["pooling_mode"].as_str() {
        return Some(match name {
            "mean" => Mode::Mean,
            "cls" => Mode::Cls,
            "lasttoken" => Mode::Last,
            "max" => Mode::Max,
            "mean_sqrt_len_tokens" => Mode::MeanSqrtLength,
            "weightedmean" => Mode::WeightedMean,
            _ => return None,
        });
    }
    let known = [
        ("pooling_mode_mean_tokens", Mode::Mean),
        ("pooling_mode_cls_token", Mode::Cls),
        ("pooling_mode_lasttoken", Mode::Last),
        ("pooling_mode_max_tokens", Mode::Max),
        ("pooling_mode_mean_sqrt_len_tokens", Mode::MeanSqrtLength),
        ("pooling_mode_weightedmean_tokens", Mode::WeightedMean),
    ];
    let mut on = known
        .iter()
        .filter(|(key, _)| config[*key].as_bool() == Some(true));
    match (on.next(), on.next()) {
        (Some((_, mode)), None) => Some(*mode),
        _ => None,
    }
}

fn read_json(folder: &ModelFolder, name: &str) -> Result<Option<Value>, EngineError> {
    let Some(bytes) = folder.read(name, FILE_LIMIT)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| EngineError::Unusable {
            path: folder.join(name),
            problem: error.to_string(),
            hint: AGAIN,
        })
}

impl Recipe {
    /// Pools the rows of one record; `None` for a record of no tokens. The model's own pooler is
    /// not a function of the rows alone and is run by the head.
    pub fn pool(self, rows: MatRef<'_>) -> Option<Vec<f32>> {
        let count = rows.rows();
        if count == 0 {
            return None;
        }
        let weighted = |weight: &dyn Fn(usize) -> f64, divisor: f64| {
            let mut sum = vec![0.0_f64; rows.cols()];
            for row in 0..count {
                let factor = weight(row);
                for (sum, &value) in sum.iter_mut().zip(rows.row(row)) {
                    *sum += f64::from(value) * factor;
                }
            }
            sum.into_iter()
                .map(|value| (value / divisor) as f32)
                .collect::<Vec<_>>()
        };
        let pooled = match self.mode {
            Mode::Mean => weighted(&|_| 1.0, count as f64),
            Mode::MeanSqrtLength => weighted(&|_| 1.0, (count as f64).sqrt()),
            Mode::WeightedMean => {
                weighted(&|row| row as f64 + 1.0, (count * (count + 1)) as f64 / 2.0)
            }
            Mode::Max => {
                let mut most = rows.row(0).to_vec();
                for row in 1..count {
                    for (most, &value) in most.iter_mut().zip(rows.row(row)) {
                        *most = most.max(value);
                    }
                }
                most
            }
            Mode::Cls | Mode::Pooler => rows.row(0).to_vec(),
            Mode::Last => rows.row(count - 1).to_vec(),
        };
        Some(self.finish(pooled))
    }

    /// Normalises a pooled vector where the recipe says so.
    pub fn finish(self, mut vector: Vec<f32>) -> Vec<f32> {
        if self.normalize {
            let square: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
            let norm = square.sqrt().max(1e-12) as f32;
            for value in &mut vector {
                *value /= norm;
            }
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, Recipe, from_modules, mode};
    use sli_kernels::MatRef;

    #[test]
    fn pools_and_normalises() {
        let values = [3.0, 0.0, 1.0, 4.0];
        let rows = MatRef::from_slice(&values, 2, 2);
        let pool = |mode, normalize| Recipe { mode, normalize }.pool(rows);
        assert_eq!(pool(Mode::Mean, false), Some(vec![2.0, 2.0]));
        assert_eq!(pool(Mode::Cls, true), Some(vec![1.0, 0.0]));
        assert_eq!(pool(Mode::Last, false), Some(vec![1.0, 4.0]));
        assert_eq!(pool(Mode::Max, false), Some(vec![3.0, 4.0]));
        assert_eq!(
            Recipe {
                mode: Mode::Mean,
                normalize: false
            }
            .pool(rows.rows_range(0..0)),
            None
        );
    }

    #[test]
    fn two_modes_are_none() {
        let both = serde_json::json!({
            "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true
        });
        assert_eq!(mode(&both), None);
        assert_eq!(
            mode(&serde_json::json!({"pooling_mode": "lasttoken"})),
            Some(Mode::Last)
        );
    }

    #[test]
    fn a_path_outside_the_folder_is_refused() {
        let modules = [serde_json::json!({"type": "x.Pooling", "path": "../elsewhere"})];
        assert!(from_modules(&"model".into(), &modules).is_err());
    }
}
