//! Which class of its type a checkpoint holds, from `architectures`.
//!
//! The reference's `Auto` classes go by `model_type` alone; what the file names says which head it
//! has. A name that is in no table is understood where it says what the class is for: the type's own
//! name with the ending of a head (`LlamaForSequenceClassification`), other capitals
//! (`LLaMAForCausalLM`), an `Auto` class, or any name whose code lies beside the weights (`auto_map`):
//! that code is never run. A class of another type is refused.

use crate::defaults::{self, Row, Task};
use crate::{Config, SpecError};

/// What a checkpoint holds of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// What the class is for.
    pub task: Task,
    /// What is run instead, where the file names a class that is not run as it is.
    pub instead: Option<Instead>,
}

/// A class that stands in for the one that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// The class that the file names.
    pub named: String,
    /// The class of the reference that is run.
    pub run: String,
    /// Why.
    pub reason: &'static str,
}

/// The optional part that a head's weights belong to: the results of the layers need none.
pub const HEAD: &str = "lm_head";

/// The optional part that the weights of a head for classes belong to.
pub const CLASSIFIER: &str = "classifier";

/// Endings of class names, after the name of the type, and what such a class has besides the base
/// model that is run here.
const ENDINGS: &[(&str, Task)] = &[
    ("forcausallm", Task::CausalLm),
    ("forcausallmwithvaluehead", Task::CausalLm),
    ("lmheadmodel", Task::CausalLm),
    ("doubleheadsmodel", Task::CausalLm),
    ("forconditionalgeneration", Task::CausalLm),
    ("forseq2seqlm", Task::Seq2SeqLm),
    ("withlmheadmodel", Task::Seq2SeqLm),
    ("encodermodel", Task::Encoder),
    ("formaskedlm", Task::MaskedLm),
    ("forpretraining", Task::MaskedLm),
    ("forsequenceclassification", Task::Base),
    ("fortokenclassification", Task::Base),
    ("forquestionanswering", Task::Base),
    ("formultiplechoice", Task::Base),
    ("fornextsentenceprediction", Task::Base),
    ("forimageclassification", Task::Base),
    ("forregression", Task::Base),
    ("forprocessrewardmodel", Task::Base),
    ("forrewardmodel", Task::Base),
    ("forrewardmodeling", Task::Base),
    ("forsentenceembedding", Task::Base),
    ("forsequenceembedding", Task::Base),
    ("forfeatureextraction", Task::Base),
    ("forembedding", Task::Base),
    ("fortextencoding", Task::Base),
    ("rewardmodel", Task::Base),
    ("model", Task::Base),
];

impl Config {
    /// Which class of its type the checkpoint holds: the first one in `architectures` that is understood.
    pub fn class(&self) -> Result<Class, SpecError> {
        let row = self.row()?;
        let names = self.texts("architectures")?.unwrap_or_default();
        if names.is_empty() {
            return Ok(Class {
                task: row.usual_task(),
                instead: None,
            });
        }
        if let Some(&task) = names.iter().find_map(|name| row.classes.get(name)) {
            return Ok(Class {
                task,
                instead: None,
            });
        }
        let has_code = self.in_file("auto_map");
        let understood = names
            .iter()
            .find_map(|name| understood(row, name, has_code));
        understood.ok_or_else(|| self.unknown_class(row, &names))
    }

    /// The configuration of the same model with the head for the next token, where the file names the base model of
    /// a decoder; `None` for any other. Logs nothing.
    pub(crate) fn with_head(&self) -> Option<Self> {
        const KEY: &str = "architectures";
        let row = self.row().ok()?;
        let names = self.said(KEY)?.as_array()?;
        let tasks = names
            .iter()
            .filter_map(|name| row.classes.get(name.as_str()?));
        let tasks: Vec<Task> = tasks.copied().collect();
        // The type has an encoder too.
        let masks =
            (row.classes.values()).any(|&task| matches!(task, Task::MaskedLm | Task::Seq2SeqLm));
        if masks || tasks.is_empty() || tasks.iter().any(|&task| task != Task::Base) {
            return None;
        }
        let of_next =
            |(name, &task): (&String, &Task)| (task == Task::CausalLm).then(|| name.clone());
        let class = row.classes.iter().find_map(of_next)?;
        Some(self.saying(KEY, vec![class].into()))
    }

    fn unknown_class(&self, row: &Row, names: &[String]) -> SpecError {
        let another = names.iter().find_map(|name| another_type(row, name));
        let known: Vec<&str> = row.classes.keys().map(String::as_str).collect();
        let model_type = self.model_type().unwrap_or_default();
        let reason = match another {
            Some(other) => format!(
                "it is a class of `{other}`, and model_type is `{model_type}`, whose classes are {}",
                known.join(", ")
            ),
            None => format!(
                "classes of `{model_type}` that are implemented: {}",
                known.join(", ")
            ),
        };
        self.unsupported("architectures", reason)
    }
}

/// What `fully_shard` of PyTorch puts in front of the names of classes.
const SHARDED: &str = "FSDP";

/// What a class that is in no table of the type is.
fn understood(row: &Row, name: &str, has_code: bool) -> Option<Class> {
    if let Some(inner) = name.strip_prefix(SHARDED) {
        let known = row.classes.get(inner).map(|&task| Class {
            task,
            instead: Some(Instead {
                named: name.to_owned(),
                run: inner.to_owned(),
                reason: "what sharded it put its name in front",
            }),
        });
        let mut class = known.or_else(|| understood(row, inner, has_code))?;
        if let Some(instead) = &mut class.instead {
            name.clone_into(&mut instead.named);
        }
        return Some(class);
    }
    let instead = |task, run: &str, reason| Class {
        task,
        instead: Some(Instead {
            named: name.to_owned(),
            run: run.to_owned(),
            reason,
        }),
    };
    let mut classes = row.classes.iter();
    if let Some((run, &task)) = classes.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Some(instead(task, run, "it is spelled otherwise"));
    }
    let (stem, asked) = taken_apart(name);
    let is_own = row
        .classes
        .keys()
        .any(|known| !stem.is_empty() && taken_apart(known).0 == stem);
    let of_task = |task| {
        let of = |task| row.classes.iter().find(|(_, known)| **known == task);
        // Some types call what comes behind an encoder by the name that others have for a decoder.
        of(task).or_else(|| of(Task::Seq2SeqLm).filter(|_| task == Task::CausalLm))
    };
    let (task, reason) = match asked {
        Some(task) if stem == "auto" => (task, "the type says which class it is"),
        Some(Task::Base) if is_own => (
            Task::Base,
            "a head of another kind than for tokens is not used",
        ),
        Some(task) if is_own => (task, "it is the class of this type that has such a head"),
        _ if has_code && another_type(row, name).is_none() => (
            asked.unwrap_or_else(|| row.usual_task()),
            "the code beside the weights is not run",
        ),
        _ => return None,
    };
    let (run, &task) = of_task(task).or_else(|| {
        // Every type has a base, named or not.
        (task == Task::Base).then(|| row.classes.iter().next())?
    })?;
    let task = if asked == Some(Task::Base) {
        Task::Base
    } else {
        task
    };
    Some(instead(task, run, reason))
}

/// The name of the type in a class name and what the class is for, in small letters.
fn taken_apart(name: &str) -> (String, Option<Task>) {
    let name = name.to_ascii_lowercase();
    let ending = ENDINGS
        .iter()
        .find_map(|&(ending, task)| Some((name.strip_suffix(ending)?.to_owned(), task)));
    match ending {
        Some((stem, task)) => {
            // `AutoModelForCausalLM`, and PEFT's class around any model.
            let any = ["automodel", "peftmodel"].contains(&stem.as_str());
            let stem = if any { "auto" } else { &stem };
            // `Gemma3TextModel` is of the same model as `Gemma3ForCausalLM`.
            let stem = stem.strip_suffix("text").unwrap_or(stem);
            (stem.to_owned(), Some(task))
        }
        None => (name, None),
    }
}

/// Another type than the row's, of which this is a class.
fn another_type(row: &Row, name: &str) -> Option<&'static str> {
    let (stem, _) = taken_apart(name);
    let of = |other: &Row| {
        let mut classes = other.classes.keys();
        classes.any(|known| known == name || taken_apart(known).0 == stem)
    };
    if stem.is_empty() || of(row) {
        return None;
    }
    let mut others = defaults::rows().iter().filter(|(_, other)| of(other));
    let first = others.next()?.0;
    // Several types share a class; one of them bears its name.
    let named = others.map(|(name, _)| name).find(|name| **name == stem);
    Some(named.unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(model_type: &str, architectures: &str, more: &str) -> Result<Class, String> {
        let text = format!(
            "{{\"model_type\": \"{model_type}\", \"architectures\": {architectures}{more}}}"
        );
        let config = Config::parse(&text).expect("sound");
        config.class().map_err(|error| error.to_string())
    }

    #[test]
    fn classes_are_understood_by_what_they_are_for() {
        const CODE: &str = ", \"auto_map\": {\"AutoModel\": \"modeling.Own\"}";
        for (model_type, name, more, task, run) in [
            (
                "llama",
                "LlamaForQuestionAnswering",
                "",
                Task::Base,
                "LlamaModel",
            ),
            (
                "llama",
                "LLaMAForCausalLM",
                "",
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            (
                "llama",
                "AutoModelForCausalLM",
                "",
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            ("llama", "AutoModel", "", Task::Base, "LlamaModel"),
            (
                "llama",
                "OwnForCausalLM",
                CODE,
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            (
                "llama",
                "OwnThing",
                CODE,
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            ("llama", "OwnRewardModel", CODE, Task::Base, "LlamaModel"),
            (
                "llama",
                "FSDPLlamaForCausalLM",
                "",
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            (
                "llama",
                "FSDPLlamaForSequenceClassification",
                "",
                Task::SequenceClassification,
                "LlamaForSequenceClassification",
            ),
            (
                "llama",
                "PeftModelForCausalLM",
                "",
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            (
                "llama",
                "AutoModelForCausalLMWithValueHead",
                "",
                Task::CausalLm,
                "LlamaForCausalLM",
            ),
            ("llama", "LlamaRewardModel", "", Task::Base, "LlamaModel"),
            ("bert", "BertForMultipleChoice", "", Task::Base, "BertModel"),
            (
                "gpt2",
                "GPT2DoubleHeadsModel",
                "",
                Task::CausalLm,
                "GPT2LMHeadModel",
            ),
        ] {
            let found = class(model_type, &format!("[\"{name}\"]"), more).expect(name);
            assert_eq!(found.task, task, "{name}");
            assert_eq!(found.instead.expect(name).run, run, "{name}");
        }
        let several = class("llama", "[\"OwnModel\", \"LlamaForCausalLM\"]", "");
        let plain = Class {
            task: Task::CausalLm,
            instead: None,
        };
        assert_eq!(several, Ok(plain.clone()));
        let classes =
            class("llama", "[\"LlamaForSequenceClassification\"]", "").map(|class| class.task);
        assert_eq!(classes, Ok(Task::SequenceClassification));
        assert_eq!(class("llama", "[]", ""), Ok(plain.clone()));
        assert_eq!(class("llama", "null", ""), Ok(plain));
    }

    #[test]
    fn classes_of_other_types_and_unknown_ones_are_refused() {
        for (name, more, says) in [
            ("MistralForCausalLM", "", "a class of `mistral`"),
            (
                "MistralForSequenceClassification",
                "",
                "a class of `mistral`",
            ),
            (
                "MistralForCausalLM",
                ", \"auto_map\": {}",
                "a class of `mistral`",
            ),
            (
                "OwnForCausalLM",
                "",
                "classes of `llama` that are implemented",
            ),
            ("LlamaForMaskedLM", "", "classes of `llama`"),
        ] {
            let error = class("llama", &format!("[\"{name}\"]"), more).expect_err(name);
            assert!(error.contains(says), "{name}: {error}");
        }
    }
}
