//! A model as far as its folder tells, complete or not.

use std::sync::Arc;

use sli_checkpoint::naming::Naming;
use sli_checkpoint::{Binding, Checkpoint, CheckpointError, Codes, CoverageReport, ModelPlace};
use sli_spec::Built;

use super::notes;
use crate::coded::codes_of;
use crate::error::EngineError;
use crate::gguf;
use crate::model::{CONFIG, describe_folder, named, open_weights};
use crate::open_options::OpenOptions;
use crate::sentence_folder::model_folder;
use crate::settings::Observer;

/// What a folder says of its model.
pub struct Examination {
    /// The description.
    pub built: Built,
    /// The weights; `None`: there are none.
    pub weights: Option<ExaminedWeights>,
}

/// Weights beside their description.
pub struct ExaminedWeights {
    /// The checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// How the names in the files became those of the model, where they are others.
    pub naming: Option<Naming>,
    /// How the tensors of the checkpoint and the weights of the model meet.
    pub report: CoverageReport,
}

/// Looks at the model in a folder, or at the one whose single weights file this is. A checkpoint that lacks something is no
/// error here.
pub fn examine(
    place: impl Into<ModelPlace>,
    options: &OpenOptions,
    observer: &dyn Observer,
) -> Result<Examination, EngineError> {
    let place = place.into();
    if let Some(opened) = gguf::open(&place, options)? {
        return examined(
            opened.built,
            Arc::new(opened.checkpoint),
            None,
            options,
            observer,
        );
    }
    let (_, folder) = model_folder(&place)?;
    let built = describe_folder(&folder, options)?;
    let codes = codes_of(&folder, CONFIG, &built).unwrap_or_else(|error| {
        observer.warning(&error.to_string());
        Codes::default()
    });
    let opened = open_weights(&place, &folder);
    let opened = opened.and_then(|weights| named(weights, &built, &codes, options));
    let (checkpoint, naming) = match opened {
        Ok(opened) => opened,
        Err(error @ CheckpointError::NoWeights { .. }) => {
            observer.warning(&format!("{error}; only the configuration is shown"));
            let weights = None;
            return Ok(Examination { built, weights });
        }
        Err(error) => return Err(error.into()),
    };
    examined(built, checkpoint, naming, options, observer)
}

/// Looks at weights beside their description.
fn examined(
    mut built: Built,
    checkpoint: Arc<Checkpoint>,
    naming: Option<Naming>,
    options: &OpenOptions,
    observer: &dyn Observer,
) -> Result<Examination, EngineError> {
    if let Some(choice) = checkpoint.choice().and_then(notes::describe_choice) {
        observer.warning(&choice);
    }
    let report = Binding::examine(&checkpoint, &mut built, &options.allow_unused)?;
    for pattern in report.idle(&options.allow_unused) {
        observer.warning(&notes::idle(pattern));
    }
    let weights = Some(ExaminedWeights {
        checkpoint,
        naming,
        report,
    });
    Ok(Examination { built, weights })
}

impl Examination {
    /// Refuses weights that are not those of the description.
    pub fn complete(self) -> Result<(), EngineError> {
        match self.weights {
            Some(ExaminedWeights {
                checkpoint, report, ..
            }) if !report.is_complete() => Err(CheckpointError::Coverage {
                place: checkpoint.place(),
                report: Box::new(report),
            }
            .into()),
            _ => Ok(()),
        }
    }
}
