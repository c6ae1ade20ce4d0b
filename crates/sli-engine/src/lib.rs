//! The sweep: plan, stream, run, journal, results.
//!
//! A [`Model`] is a description bound to a checkpoint. [`plan`] says what a run over some records
//! will read, write, hold and take; [`run`] does it: super-batch by super-batch, layer by layer,
//! with the next weights being read while the current ones compute. Results do not depend on the
//! budget, the threads, or how often the run was interrupted.
#![deny(unsafe_code)]

mod adapter;
mod annotation;
mod availability;
mod boundaries;
pub mod bytes;
pub mod ceilings;
mod classes;
mod coded;
mod demands;
mod divergence;
mod drift;
pub mod durable;
mod ends;
mod entered;
mod entering;
mod error;
mod exact_sum;
mod exec;
mod expansion;
mod fingerprint;
mod floats;
mod gguf;
mod hessian;
mod imatrix;
pub mod journal;
mod leftovers;
mod lens;
mod lexical;
mod limits;
mod merge;
mod mixers;
mod model;
mod observe;
mod open_options;
mod pairwise;
mod plan;
mod pooling;
mod portion;
mod precision;
mod prefix;
mod profile;
pub mod records;
pub mod results;
mod sentence_folder;
mod session;
mod settings;
mod shard;
mod shared;
mod sparse;
mod spent;
mod spill;
mod stages;
pub mod stats;
mod summary;
mod sweep;
mod system_memory;
pub mod take;
mod tally;
mod token_scores;
mod weight_clock;
mod weights;
mod work;

pub use annotation::{Annotation, Completion, TextSpans};
pub use availability::{available_takes, lacking};
pub use demands::Demands;
pub use drift::{Diverged, Drifted, reference_folder, reference_records, unlike};
pub use error::EngineError;
pub use leftovers::left_out;
pub use lexical::lexical_weights;
pub use merge::{MergeError, Merged, merge};
pub use model::{Model, StoredIn, describe_folder};
pub use open_options::OpenOptions;
pub use plan::{Grain, Plan, check, plan, program_bytes};
pub use pooling::{Message, Prompt, TextRules, module_weights, text_rules};
pub use precision::{Precision, Reason, compute_name};
pub use results::LayerDrift;
pub use session::{
    Begun, Examination, ExaminedWeights, Outcome, Planned, Run, Session, SessionOptions, Start,
    examine, processors, shorten,
};
pub use settings::{Event, HiddenDtype, Machine, Observer, Quiet, Settings, Spill};
pub use shard::Shard;
pub use sli_kernels::Compute;
pub use spent::{LayerSeconds, Stages};
pub use summary::{Summary, forget_peak_memory, peak_memory, resident_memory};
pub use sweep::run;
pub use weights::content::WeightsRead;
pub use work::Work;
