//! What follows the transformer: the modules of a folder as a [`Recipe`].

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;
use sli_kernels::Activation;
use sli_spec::PooledEnd;

use super::activation::DenseActivation;
use super::kind::{Kind, is_causal, kind};
use super::recipe::{Dense, Mode, Recipe, Residual, Step};
use super::transformer::truthy;
use super::weights::ModuleWeights;
use crate::error::EngineError;
use crate::model::Model;
use crate::sentence_folder::{
    MODULES, Module, SETTINGS, TRANSFORMER_ALONE, modules, read_object, unusable,
};
use crate::take::Pooling;

/// The modes by their older switches, in the order in which their results stand.
const SWITCHES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];
/// Other keys of a pooling.
const POOLING_KEYS: [&str; 4] = [
    "word_embedding_dimension",
    "embedding_dimension",
    "pooling_mode",
    "include_prompt",
];
/// The settings of a module.
const CONFIG: &str = "config.json";
/// What comes before the poolings, and what they make.
const TOKENS: &str = "token_embeddings";
const SENTENCE: &str = "sentence_embedding";

/// The recipe for `--take embedding[:POOLING]`: as asked, else as the model's files say, else as the reference
/// does where they say nothing: the last token of what its configuration calls a `...ForCausalLM`, the mean of
/// any other.
pub(crate) fn recipe(model: &Model, asked: Option<Pooling>) -> Result<Recipe, EngineError> {
    if pooled_stack(model, asked)? != model.spec.pooled_stack() {
        // Of a record with several pictures the mean of theirs.
        return Ok(Recipe::only(Mode::Mean));
    }
    if let Some(pooling) = asked {
        return Ok(Recipe::only(pooling.into()));
    }
    match kind(&model.home)? {
        Kind::Plain | Kind::Other(_) if is_causal(model) => Ok(Recipe::only(Mode::Last)),
        Kind::Plain | Kind::Other(_) => Ok(Recipe::only(Mode::Mean)),
        Kind::Modules => {
            let mut recipe = Follower::new(&model.home, columns(model, None)?).follow()?;
            recipe.truncate = truncation(&model.home)?;
            Ok(recipe)
        }
    }
}

/// The stack whose end becomes embeddings: that of what the model itself makes of a record where its pooler is asked for,
/// or where its class is for such and no module of the folder says otherwise.
pub(crate) fn pooled_stack(model: &Model, asked: Option<Pooling>) -> Result<usize, EngineError> {
    let spec = &model.spec;
    let is_own = match (spec.pooled_end, asked) {
        (PooledEnd::No, _)
        | (PooledEnd::Pooler, None)
        | (_, Some(Pooling::Mean | Pooling::Cls | Pooling::Last)) => false,
        (PooledEnd::Pooler | PooledEnd::Embeddings, Some(Pooling::Pooler)) => true,
        (PooledEnd::Embeddings, None) => match kind(&model.home)? {
            Kind::Modules if spec.is_pair() => {
                let problem = "modules around a model of texts and pictures are not followed";
                let path = model.home.join(MODULES);
                return Err(unusable(path, problem.into(), TRANSFORMER_ALONE));
            }
            Kind::Modules => false,
            Kind::Plain | Kind::Other(_) => true,
        },
    };
    Ok(if is_own {
        spec.stacks.len() - 1
    } else {
        spec.pooled_stack()
    })
}

/// Columns of the rows that are pooled.
pub(crate) fn columns(model: &Model, asked: Option<Pooling>) -> Result<usize, EngineError> {
    let output = &model.spec.stacks[pooled_stack(model, asked)?];
    let projected = output
        .head
        .output
        .as_ref()
        .map(|linear| linear.out_features);
    Ok(projected.unwrap_or(output.hidden_size))
}

/// Numbers of an embedding.
pub(crate) fn embedding_width(model: &Model, asked: Option<Pooling>) -> Result<usize, EngineError> {
    let pooled = &model.spec.stacks[pooled_stack(model, asked)?];
    let pooler = pooled.head.pooler.as_ref();
    let pooler = pooler.map(|pooler| pooler.dense.out_features);
    Ok(recipe(model, asked)?.width(columns(model, asked)?, pooler))
}

/// How many numbers of every embedding are kept.
fn truncation(home: &ModelFolder) -> Result<Option<usize>, EngineError> {
    let path = home.join(SETTINGS);
    let settings = read_object(home, SETTINGS)?.unwrap_or_default();
    match settings.get("truncate_dim") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|most| usize::try_from(most).ok()) {
            Some(most) if most > 0 => Ok(Some(most)),
            _ => {
                let problem = format!("`truncate_dim` is {value}, not a number of dimensions");
                Err(unusable(path, problem, TRANSFORMER_ALONE))
            }
        },
    }
}

/// Goes through the modules in their order.
struct Follower<'a> {
    home: &'a ModelFolder,
    /// Numbers of a row here.
    columns: usize,
    /// Numbers of a pooled vector here.
    width: usize,
    recipe: Recipe,
}

impl<'a> Follower<'a> {
    fn new(home: &'a ModelFolder, columns: usize) -> Self {
        let recipe = Recipe {
            modes: Vec::new(),
            ..Recipe::only(Mode::Mean)
        };
        Self {
            home,
            columns,
            width: 0,
            recipe,
        }
    }

    fn refuse(&self, problem: String) -> EngineError {
        unusable(self.home.join(MODULES), problem, TRANSFORMER_ALONE)
    }

    fn follow(mut self) -> Result<Recipe, EngineError> {
        let modules = modules(self.home)?.unwrap_or_default();
        let Some((first, rest)) = modules.split_first() else {
            return Err(self.refuse("it lists no module".into()));
        };
        self.known(first)?;
        if !first.is_transformer() {
            return Err(self.refuse(format!(
                "the first module, `{}`, is no transformer",
                first.class
            )));
        }
        for module in rest {
            self.add(module)?;
        }
        if self.recipe.modes.is_empty() {
            return Err(self.refuse("no module pools the tokens of a text".into()));
        }
        Ok(self.recipe)
    }

    /// The kind of a module, if it is of the package itself.
    fn known<'m>(&self, module: &'m Module) -> Result<&'m str, EngineError> {
        module.kind().ok_or_else(|| {
            self.refuse(format!(
                "the module `{}` is code of its own, which is never run",
                module.class
            ))
        })
    }

    /// The settings of a module, and where they are.
    fn config(&self, module: &Module) -> Result<(PathBuf, Map<String, Value>), EngineError> {
        let name = module.file(CONFIG);
        match read_object(self.home, &name)? {
            Some(config) => Ok((self.home.join(name), config)),
            None => Err(self.refuse(format!("`{name}` is missing"))),
        }
    }

    fn add(&mut self, module: &Module) -> Result<(), EngineError> {
        match self.known(module)? {
            "Pooling" => self.pooling(module),
            "Dropout" => Ok(()),
            "Normalize" => self.normalize(module),
            "LayerNorm" => self.layer_norm(module),
            "Dense" => self.dense(module),
            other => Err(self.refuse(format!("the module `{other}` is not known"))),
        }
    }

    fn pooling(&mut self, module: &Module) -> Result<(), EngineError> {
        let (path, config) = self.config(module)?;
        let refuse = |problem: String| unusable(path.clone(), problem, TRANSFORMER_ALONE);
        let known =
            |key: &str| POOLING_KEYS.contains(&key) || SWITCHES.iter().any(|row| row.0 == key);
        if let Some(key) = config.keys().find(|key| !known(key)) {
            return Err(refuse(format!("the key `{key}` is not known")));
        }
        self.recipe.modes = modes(&config).map_err(refuse)?;
        self.recipe.include_prompt = config.get("include_prompt").is_none_or(truthy);
        // A later pooling starts from the tokens again.
        self.recipe.steps.clear();
        self.width = self.columns * self.recipe.modes.len();
        Ok(())
    }

    fn normalize(&mut self, module: &Module) -> Result<(), EngineError> {
        let config = read_object(self.home, &module.file(CONFIG))?.unwrap_or_default();
        match self.target(module, &config)? {
            Target::Rows => self.recipe.rows.push(Step::Normalize),
            Target::Pooled => self.recipe.steps.push(Step::Normalize),
            // There is no such vector yet, and the reference goes on.
            Target::TooEarly | Target::TooLate => {}
        }
        Ok(())
    }

    fn layer_norm(&mut self, module: &Module) -> Result<(), EngineError> {
        if self.recipe.modes.is_empty() {
            return Err(self.refuse(format!("`{}` stands before the pooling", module.class)));
        }
        let mut weights = ModuleWeights::open(self.home, module)?;
        let weight = weights.take("norm.weight", &[self.width])?;
        let bias = weights.take("norm.bias", &[self.width])?;
        weights.finish()?;
        self.recipe.steps.push(Step::LayerNorm { weight, bias });
        Ok(())
    }

    fn dense(&mut self, module: &Module) -> Result<(), EngineError> {
        let (path, config) = self.config(module)?;
        let read = |width| {
            let weights = ModuleWeights::open(self.home, module)?;
            dense(&path, &config, weights, width)
        };
        match self.target(module, &config)? {
            Target::Rows => {
                let dense = read(self.columns)?;
                if dense.activation.depends_on_batch() {
                    let problem = "in front of the pooling, the reference takes this activation over the texts that run together";
                    return Err(unusable(path, problem.into(), TRANSFORMER_ALONE));
                }
                self.columns = dense.out_features;
                self.recipe.rows.push(Step::Dense(dense));
            }
            Target::Pooled => {
                let dense = read(self.width)?;
                self.width = dense.out_features;
                self.recipe.steps.push(Step::Dense(dense));
            }
            Target::TooEarly => {
                return Err(self.refuse(format!("`{}` stands before the pooling", module.class)));
            }
            // What it makes of the tokens is not pooled again.
            Target::TooLate => {}
        }
        Ok(())
    }

    /// What a module reads and writes.
    fn target(&self, module: &Module, config: &Map<String, Value>) -> Result<Target, EngineError> {
        let name = |key: &str| config.get(key).and_then(Value::as_str);
        let input = name("module_input_name").unwrap_or(SENTENCE);
        let output = name("module_output_name").unwrap_or(input);
        let pooled = !self.recipe.modes.is_empty();
        match (input, output) {
            (TOKENS, TOKENS) if pooled => Ok(Target::TooLate),
            (TOKENS, TOKENS) => Ok(Target::Rows),
            (SENTENCE, SENTENCE) if pooled => Ok(Target::Pooled),
            (SENTENCE, SENTENCE) => Ok(Target::TooEarly),
            _ => Err(self.refuse(format!(
                "`{}` makes `{output}` of `{input}`, which is not followed",
                module.class
            ))),
        }
    }
}

/// What a module works on.
enum Target {
    Rows,
    Pooled,
    /// The pooled vector, before there is one.
    TooEarly,
    /// The rows, after they were pooled.
    TooLate,
}

/// The modes that a pooling switches on, in the order in which their results stand; the mean if none.
fn modes(config: &Map<String, Value>) -> Result<Vec<Mode>, String> {
    let names: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) if !names.is_empty() => {
            let names = names.iter().map(|name| name.as_str().unwrap_or_default());
            names.collect()
        }
        Some(other) => return Err(format!("`pooling_mode` is {other}")),
        None => {
            let on = SWITCHES
                .iter()
                .filter(|(key, _)| config.get(*key).is_some_and(truthy));
            on.map(|(_, name)| *name).collect()
        }
    };
    if names.is_empty() {
        return Ok(vec![Mode::Mean]);
    }
    let mode = |name: &&str| match *name {
        "cls" => Ok(Mode::Cls),
        "max" => Ok(Mode::Max),
        "mean" => Ok(Mode::Mean),
        "mean_sqrt_len_tokens" => Ok(Mode::MeanSqrtLength),
        "weightedmean" => Ok(Mode::WeightedMean),
        "lasttoken" => Ok(Mode::Last),
        other => Err(format!("`{other}` is not a pooling that is known")),
    };
    names.iter().map(mode).collect()
}

/// A dense module on vectors of `width` numbers.
fn dense(
    path: &Path,
    config: &Map<String, Value>,
    mut weights: ModuleWeights,
    width: usize,
) -> Result<Dense, EngineError> {
    let refuse = |problem: String| unusable(path.to_path_buf(), problem, TRANSFORMER_ALONE);
    let size = |key: &str| {
        let value = config.get(key).and_then(Value::as_u64);
        let size = value
            .and_then(|size| usize::try_from(size).ok())
            .filter(|&size| size > 0);
        size.ok_or_else(|| refuse(format!("`{key}` is not a size")))
    };
    let (in_features, out_features) = (size("in_features")?, size("out_features")?);
    if in_features != width {
        return Err(refuse(format!(
            "`in_features` is {in_features}, but {width} numbers come in"
        )));
    }
    let activation = match config.get("activation_function") {
        None => DenseActivation::OfLayers(Activation::Tanh),
        Some(name) => DenseActivation::of_class(name.as_str().unwrap_or_default())
            .ok_or_else(|| refuse(format!("the activation {name} is not known")))?,
    };
    let flag = |key: &str, usual: bool| config.get(key).map_or(usual, truthy);
    let weight = weights.take("linear.weight", &[out_features, in_features])?;
    let bias = flag("bias", true)
        .then(|| weights.take("linear.bias", &[out_features]))
        .transpose()?;
    let residual = match flag("use_residual", false) {
        false => None,
        true if in_features == out_features => Some(Residual::Input),
        true => Some(Residual::Projected(
            weights.take("residual.weight", &[out_features, in_features])?,
        )),
    };
    weights.finish()?;
    Ok(Dense {
        in_features,
        out_features,
        weight,
        bias,
        activation,
        residual,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Mode, modes};

    #[test]
    fn poolings_of_all_versions() {
        let of = |value: Value| modes(value.as_object().unwrap());
        for value in [
            json!({"word_embedding_dimension": 16}),
            json!({"pooling_mode": "mean"}),
            json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}),
            json!({"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": false}),
            // The newer key counts.
            json!({"pooling_mode": ["mean"], "pooling_mode_cls_token": true}),
        ] {
            assert_eq!(of(value.clone()), Ok(vec![Mode::Mean]), "{value}");
        }
        let switches = json!({
            "pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": true,
            "pooling_mode_cls_token": true, "pooling_mode_weightedmean_tokens": true
        });
        let order = vec![Mode::Cls, Mode::Mean, Mode::WeightedMean, Mode::Last];
        assert_eq!(of(switches), Ok(order));
        let named = json!({"pooling_mode": ["lasttoken", "max", "mean_sqrt_len_tokens"]});
        assert_eq!(
            of(named),
            Ok(vec![Mode::Last, Mode::Max, Mode::MeanSqrtLength])
        );
        for value in [
            json!({"pooling_mode": "median"}),
            json!({"pooling_mode": []}),
            json!({"pooling_mode": 3}),
        ] {
            assert!(of(value.clone()).is_err(), "{value}");
        }
    }
}
