//! Llama and Mistral as their makers publish them: `params.json` and `consolidated` weights, several
//! of which are the parts of a model that ran on several devices.

use std::rc::Rc;

use serde_json::Value;

use crate::build::NormStyle;
use crate::config::whole;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::mixture::mix;
use crate::model_type::{ModelType, limited, row};
use crate::rope::{PositionAxis, Rope, RopeScaling};
use crate::{Config, Described, LengthLimit, Mask, RouterScore, Source, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[limited(
    row("original", original),
    "experts in several consolidated files are refused",
)];

/// The `model_type` that [`Config::of_params`] gives such a file, which has none itself.
pub const MODEL_TYPE: &str = "original";

/// What only the weights tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Files that hold a part of every matrix.
    pub shards: usize,
    /// Rows and columns of one file's `tok_embeddings.weight`.
    pub embedding: [usize; 2],
}

impl Stored {
    /// The keys that a configuration is completed by: `(key, value)`.
    fn keys(self, vocab_size: Option<i64>, dim: Option<usize>) -> [(&'static str, usize); 3] {
        let by_columns = dim.is_some_and(|dim| self.embedding[1] < dim);
        let rows = if by_columns { 1 } else { self.shards };
        let vocab_size = vocab_size.and_then(|size| usize::try_from(size).ok());
        [
            ("vocab_size", vocab_size.unwrap_or(self.embedding[0] * rows)),
            ("shards", self.shards),
            ("embedding_columns", self.embedding[1]),
        ]
    }
}

impl Config {
    /// Reads the text of a `params.json`, completed by what the weights tell.
    pub fn of_params(text: &str, stored: Stored) -> Result<Self, SpecError> {
        let mut object = Self::parse(text)?.into_object();
        let number = |key: &str| object.get(key).and_then(whole);
        let dim = number("dim").and_then(|dim| usize::try_from(dim).ok());
        for (key, value) in stored.keys(number("vocab_size"), dim) {
            object.insert(key.to_owned(), Value::from(value));
        }
        object.insert("model_type".to_owned(), MODEL_TYPE.into());
        Ok(Self::of_object(object))
    }
}

/// Llama and Mistral.
pub fn original(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("norm_eps")?);
    let hidden_size = config.size("hidden_size")?;
    let mut model = Blocks::with_width(config, norm, width(config, hidden_size)?)?;
    let theta = config.positive("rope_theta")?;
    // Llama 3.1, whose code has these numbers in it.
    let scaling = if config.flag("use_scaled_rope")? {
        RopeScaling::Llama3 {
            factor: 8.0,
            low: 1.0,
            high: 4.0,
            original: 8192.0,
        }
    } else {
        RopeScaling::Default
    };
    let (dims, axis) = (model.head_dim, PositionAxis::Token);
    model.ropes.fill(Some(Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: true,
        reversed: false,
        theta,
        scaling,
        axis,
    }));
    if let Some(window) = config.optional_size("sliding_window")? {
        model.masks.fill(Mask::CausalWindow(window));
    }
    let limit = config
        .optional_size("max_seq_len")?
        .filter(|_| config.in_file("max_seq_len"));
    let shards = config.size("shards")?;
    if let Some(moe) = config.nested("moe")? {
        if shards > 1 {
            return Err(config.unsupported("moe", "experts of several files"));
        }
        let names = ["num_experts", "num_experts_per_tok"];
        let mut experts = Experts::new(&moe, names, model.intermediate_size, model.activation)?;
        experts.score = RouterScore::SoftmaxOfTopK;
        experts.router = "feed_forward.gate";
        experts.tensors = ExpertTensors::Each([
            "feed_forward.experts.{}.w1.weight",
            "feed_forward.experts.{}.w3.weight",
            "feed_forward.experts.{}.w2.weight",
        ]);
        mix(&mut model, experts, |_| true);
    }
    model.family = "original";
    model.length_limit = Some(limit.map_or(LengthLimit::None, LengthLimit::Trained));
    model.names = NAMES;
    model.arrangement = Arrangement::pre("attention_norm", "ffn_norm");
    model.ignored.push("rope.freqs*");
    let by_columns = config.size("embedding_columns")? < hidden_size;
    if shards > 1 {
        // Every file has the norms.
        model.ignored.push("*norm.weight#*");
        model.stored = Some(Rc::new(move |name| merged(name, shards, by_columns)));
    }
    model.build()
}

/// Two thirds of four times the hidden size, times a factor, rounded up.
fn width(config: &Config, hidden_size: usize) -> Result<usize, SpecError> {
    let (factor, multiple) = (
        config.optional_positive("ffn_dim_multiplier")?,
        config.optional_size("multiple_of")?,
    );
    if let Some(width) = config.optional_size("intermediate_size")? {
        return Ok(width);
    }
    let width = 8 * hidden_size / 3;
    let width = factor.map_or(width, |factor| (factor * width as f64) as usize);
    Ok(width.next_multiple_of(multiple.unwrap_or(256)))
}

const NAMES: Names = Names {
    tokens: "tok_embeddings",
    projections: Projections::Separate(["attention.wq", "attention.wk", "attention.wv"]),
    output: "attention.wo",
    gate: "feed_forward.w1",
    down: "feed_forward.w2",
    up: "feed_forward.w3",
    head: "output",
    ..Names::USUAL
};

/// One weight of all files.
fn merged(name: &str, shards: usize, embedding_by_columns: bool) -> Source {
    let parts = || {
        (0..shards)
            .map(|shard| Source::tensor(format!("{name}#{shard}")))
            .collect()
    };
    let module = name.strip_suffix(".weight").unwrap_or(name);
    if module.ends_with("norm") {
        Source::tensor(format!("{name}#0"))
    } else if module.ends_with("attention.wo")
        || module.ends_with("feed_forward.w2")
        || (module == "tok_embeddings" && embedding_by_columns)
    {
        Source::ConcatColumns(parts())
    } else {
        Source::ConcatRows(parts())
    }
}
