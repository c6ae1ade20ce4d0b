//! What is asked of a session.

use std::time::Duration;

use sli_kernels::Compute;

use crate::ceilings::CeilingsCache;
use crate::open_options::OpenOptions;
use crate::settings::{HiddenDtype, Settings, Spill};
use crate::take::Take;

/// What is asked of a session. The default is what the program does without flags, except that nothing is remembered of
/// the machine.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// How the model is opened.
    pub open: OpenOptions,
    /// The results that are wanted; empty: profile, scores and embedding, where the model can give them.
    pub takes: Vec<Take>,
    /// Budget of the whole process, bytes; `None`: most of what is free.
    pub memory: Option<u64>,
    /// Compute threads; `None`: all there are.
    pub threads: Option<usize>,
    /// Precision of the products; `None`: what suits processor and weights, and as it began for a run that goes on.
    pub compute: Option<Compute>,
    /// How hidden states are stored.
    pub hidden_dtype: HiddenDtype,
    /// Whether activations may leave memory.
    pub spill: Spill,
    /// Whether records that begin alike share the work on what they share.
    pub share_prefixes: bool,
    /// Work between two checkpoints of the activations.
    pub checkpoint_interval: Duration,
    /// Records may be longer than the model was trained for.
    pub allow_long: bool,
    /// Where measurements of this machine are remembered; `None`: nowhere.
    pub cache: Option<CeilingsCache>,
    /// Bytes that the process holds for other purposes; the budget covers them too.
    pub host_bytes: u64,
}

impl Default for SessionOptions {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            open: OpenOptions::default(),
            takes: Vec::new(),
            memory: None,
            threads: None,
            compute: None,
            hidden_dtype: settings.hidden_dtype,
            spill: settings.spill,
            share_prefixes: settings.share_prefixes,
            checkpoint_interval: settings.checkpoint_interval,
            allow_long: false,
            cache: None,
            host_bytes: settings.host_bytes,
        }
    }
}
