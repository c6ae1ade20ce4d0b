//! Heads that say of which class a record or a token is.

use serde_json::Value;

use super::Blocks;
use crate::build::{Leaves, NormStyle};
use crate::{
    Activation, CLASSIFIER, ClassesHead, Classified, Config, Head, HeadTransform, Probabilities,
    Shard, Source, SpecError, Task,
};

/// A head for classes of a type.
#[derive(Clone, Copy, Debug)]
pub struct Classifier {
    /// What is classified.
    pub judged: Judged,
    /// What stands in front of the projection.
    pub front: InFront,
    /// Names of the projection, of which a file has one.
    pub names: &'static [&'static str],
    /// The projection has an addend.
    pub bias: bool,
    /// Behind the projection.
    pub activation: Activation,
}

/// What is classified: [`Classified`] without the ids of tokens, which come from the configuration.
#[derive(Clone, Copy, Debug)]
pub enum Judged {
    /// Every token by itself.
    Tokens,
    /// The first token.
    First,
    /// The mean of the tokens.
    Mean,
    /// Every token; the logits of the record are the mean of theirs.
    Each,
    /// The last token, whichever it is.
    Last,
    /// The last token that is no padding.
    LastShown,
    /// Where the decoder is to say the end of the record.
    Label,
}

/// What stands in front of a projection to classes.
#[derive(Clone, Copy, Debug)]
pub enum InFront {
    /// Nothing.
    Nothing,
    /// The pooler of the model.
    Pooler,
    /// A layer of the head's own.
    Dense {
        /// Its name.
        name: &'static str,
        /// It has an addend.
        bias: bool,
        /// Behind it.
        activation: Activation,
        /// Norm behind the activation.
        norm: Option<(&'static str, NormStyle)>,
    },
}

impl InFront {
    /// A layer with an addend and no norm.
    pub const fn dense(name: &'static str, activation: Activation) -> Self {
        Self::Dense {
            name,
            bias: true,
            activation,
            norm: None,
        }
    }
}

impl Classifier {
    /// Of decoders: the last token.
    pub const LAST_TOKEN: Self = Self {
        judged: Judged::LastShown,
        front: InFront::Nothing,
        names: &["score", "classifier"],
        bias: false,
        activation: Activation::Linear,
    };

    /// Of all: every token.
    pub const TOKENS: Self = Self {
        judged: Judged::Tokens,
        front: InFront::Nothing,
        names: &["score", "classifier"],
        bias: true,
        activation: Activation::Linear,
    };

    /// Behind an encoder: where the decoder is to say the end of the record.
    pub const LAST_LABEL: Self = Self {
        judged: Judged::Label,
        front: InFront::dense("classification_head.dense", Activation::Tanh),
        names: &["classification_head.out_proj"],
        bias: true,
        activation: Activation::Linear,
    };

    /// Of encoders: the first token.
    pub const fn first_token(front: InFront, names: &'static [&'static str]) -> Self {
        Self::with_bias(Judged::First, front, names)
    }

    /// Whose projection has an addend.
    pub const fn with_bias(judged: Judged, front: InFront, names: &'static [&'static str]) -> Self {
        Self {
            judged,
            front,
            names,
            bias: true,
            activation: Activation::Linear,
        }
    }

    /// Of encoders: the first token through the pooler of the model.
    pub const POOLED: Self = Self::first_token(InFront::Pooler, &["classifier"]);
}

impl Blocks<'_> {
    /// The head for classes of the class that the file names, where that has one.
    pub(super) fn classes(
        &self,
        leaves: &mut Leaves,
        head: &Head,
        task: Task,
    ) -> Result<Option<ClassesHead>, SpecError> {
        let config = self.whole.unwrap_or(self.config);
        let (classifier, labels, probabilities) = match task {
            Task::SequenceClassification => {
                let Some(classifier) = self.sequence_classifier else {
                    return Ok(None);
                };
                let labels = labels(config)?;
                let probabilities = probabilities(config, labels.len())?;
                (classifier, labels, probabilities)
            }
            Task::TokenClassification => {
                let each = Some(Probabilities::Softmax);
                (self.token_classifier, labels(config)?, each)
            }
            Task::Base | Task::Encoder | Task::CausalLm | Task::MaskedLm | Task::Seq2SeqLm => {
                return Ok(None);
            }
        };
        let projected = head.output.as_ref();
        let width = projected.map_or(self.hidden_size, |output| output.out_features);
        leaves.optional(Some(CLASSIFIER));
        let transform = match classifier.front {
            InFront::Nothing => None,
            InFront::Pooler => head
                .pooler
                .as_ref()
                .map(|pooler| HeadTransform::plain(pooler.dense.clone(), pooler.activation)),
            InFront::Dense {
                name,
                bias,
                activation,
                norm,
            } => {
                let dense = leaves.linear(name, [width; 2], bias, Shard::Replicate);
                Some(HeadTransform {
                    norm: norm.map(|(name, style)| leaves.norm(name, width, style)),
                    ..HeadTransform::plain(dense, activation)
                })
            }
        };
        let spelled = |part: &str| {
            let names = classifier.names.iter();
            let names = names.map(|name| leaves.tensor(&format!("{name}.{part}")));
            Source::one_of(names.collect())
        };
        let (weight, bias) = (spelled("weight"), classifier.bias.then(|| spelled("bias")));
        let shape = [labels.len(), width];
        let projection = leaves.linear_of(weight, bias, shape, Shard::Column);
        leaves.optional(None);
        Ok(Some(ClassesHead {
            classified: classifier.judged.classified(config)?,
            transform,
            projection,
            activation: classifier.activation,
            labels,
            probabilities,
        }))
    }
}

impl Judged {
    fn classified(self, config: &Config) -> Result<Classified, SpecError> {
        Ok(match self {
            Self::Tokens => Classified::Tokens,
            Self::First => Classified::First,
            Self::Mean => Classified::Mean,
            Self::Each => Classified::Each,
            Self::Last => Classified::Last { padding: None },
            Self::LastShown => Classified::Last {
                padding: config.token_id("pad_token_id")?,
            },
            Self::Label => Classified::Label {
                token: config
                    .token_id("eos_token_id")?
                    .ok_or_else(|| config.missing("eos_token_id"))?,
            },
        })
    }
}

/// The names of the classes, as the reference's configuration reads and counts them.
fn labels(config: &Config) -> Result<Vec<String>, SpecError> {
    const KEY: &str = "id2label";
    let count = config.optional_size("num_labels")?;
    let Some(names) = config.value(KEY) else {
        let count = count.unwrap_or(2);
        return Ok((0..count).map(|id| format!("LABEL_{id}")).collect());
    };
    let expected = || config.invalid(KEY, "names of the numbers from 0 on");
    let names = names.as_object().filter(|names| !names.is_empty());
    let names = names.ok_or_else(expected)?;
    let name = |id: usize| match names.get(&id.to_string()) {
        Some(Value::String(name)) => Some(name.clone()),
        Some(other) => Some(other.to_string()),
        None => None,
    };
    let labels = (0..names.len()).map(name).collect::<Option<_>>();
    labels.ok_or_else(expected)
}

/// What makes probabilities of the logits of a record: what sentence-transformers wrote of its cross-encoder, else
/// what the kind of problem says, else as the reference's pipeline.
fn probabilities(config: &Config, labels: usize) -> Result<Option<Probabilities>, SpecError> {
    const OLDER: &str = "sbert_ce_default_activation_function";
    const NEWER: &str = "activation_fn";
    let older = config.optional_text(OLDER)?;
    let settings = config.nested("sentence_transformers")?;
    let newer = settings
        .as_ref()
        .map(|settings| {
            // Who wrote the file.
            settings.ignore(&["version"]);
            settings.optional_text(NEWER)
        })
        .transpose()?
        .flatten();
    let said = match (&newer, &settings, &older) {
        (Some(name), Some(settings), _) => Some((name, settings, NEWER)),
        (.., Some(name)) => Some((name, config, OLDER)),
        _ => None,
    };
    if let Some((name, place, key)) = said {
        let named = Probabilities::of_activation(name, labels);
        return named.map_err(|known| place.unsupported(key, known));
    }
    match config.optional_text("problem_type")?.as_deref() {
        None => Ok(Some(Probabilities::usual(labels))),
        Some("regression") => Ok(None),
        Some("single_label_classification") if labels > 1 => Ok(Some(Probabilities::Softmax)),
        Some("multi_label_classification") => Ok(Some(Probabilities::Sigmoid)),
        Some(_) => Err(config.invalid(
            "problem_type",
            "regression, multi_label_classification or, of several labels, single_label_classification",
        )),
    }
}
