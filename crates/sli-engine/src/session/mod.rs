//! A model and what is asked of it: opened, planned, run, resumed.
//!
//! A session prints nothing and ends no process: an [`Observer`] is told what people should know. Whatever decides a result
//! is in the key of the run, so a folder is gone on with only by the same run, and ends with the same bytes.

mod beside;
mod examination;
mod key;
mod notes;
mod options;
mod output;
mod spooling;

use std::path::Path;

use serde::Serialize;
use sli_checkpoint::ModelPlace;
use sli_checkpoint::source::ReadChoice;

use crate::availability::available_takes;
use crate::ceilings::{CeilingsCache, Limits, Origin, Roofline};
use crate::error::EngineError;
use crate::journal::{Manifest, Opened, OutputFolder, RunKey};
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::precision::{Precision, Reason};
use crate::records::RecordSpool;
use crate::settings::{Machine, Observer, Settings};
use crate::summary::Summary;
use crate::sweep;
use crate::system_memory;
use crate::weights::content::{name_changed_tensors, recheck};

pub use examination::{Examination, ExaminedWeights, examine};
pub use key::shorten;
pub use options::SessionOptions;
pub use output::{Begun, Run, Start};

/// A model that is open, and what is asked of it.
///
/// ```
/// use sli_engine::take::Take;
/// use sli_engine::{Outcome, Quiet, Session, SessionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// # sli_testing::Golden::open("llama").write(&home.path().join("model"), sli_testing::Stored::Bf16);
/// # let [model, spool, results] = ["model", "spool", "results"].map(|name| home.path().join(name));
/// let options = SessionOptions {
///     takes: vec![Take::Scores],
///     ..SessionOptions::default()
/// };
/// let mut session = Session::open(&model, &options, &Quiet)?;
/// let texts: [&[u32]; 2] = [&[1, 5, 9, 2], &[1, 5, 7]];
/// let records = session.spool(&spool, texts)?;
///
/// let planned = session.plan(&records, &Quiet)?;
/// assert_eq!(planned.plan.tokens, 7);
///
/// let Outcome::Done(summary) = session.run(&results, &records, &Quiet)? else {
///     panic!("the folder was new");
/// };
/// assert_eq!(summary.records, 2);
/// assert!(results.join("scores.parquet").exists());
///
/// // Whatever ended a run, the same call goes on with it; this one is finished.
/// let again = session.run(&results, &records, &Quiet)?;
/// assert!(matches!(again, Outcome::Finished(_)));
/// # Ok(())
/// # }
/// ```
pub struct Session {
    model: Model,
    settings: Settings,
    precision: Precision,
    /// The precision was asked for.
    asked: bool,
    allow_long: bool,
    cache: Option<CeilingsCache>,
    /// The key of the run that may go on.
    earlier: Option<RunKey>,
}

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// How large reads of the weights are done, where there is something to choose.
    pub reading: Option<ReadChoice>,
    /// The least time that this machine can take.
    pub roofline: Option<Roofline>,
}

/// How [`Session::run`] ended.
#[derive(Debug)]
pub enum Outcome {
    /// The run was done, or the rest of it.
    Done(Box<Summary>),
    /// It was finished already.
    Finished(Manifest),
}

impl Session {
    /// Opens the model in a folder, or the one whose single weights file this is.
    pub fn open(
        place: impl Into<ModelPlace>,
        options: &SessionOptions,
        observer: &dyn Observer,
    ) -> Result<Self, EngineError> {
        Self::new(Model::open(place, &options.open)?, options, observer)
    }

    /// A session with a model that is open already. What the model cannot give, and what is left to the session, is settled
    /// here.
    pub fn new(
        model: Model,
        options: &SessionOptions,
        observer: &dyn Observer,
    ) -> Result<Self, EngineError> {
        notes::say(&model, &options.open.allow_unused, observer);
        let (takes, problems) = available_takes(&model, &options.takes)?;
        for problem in problems {
            observer.warning(&problem);
        }
        let threads = options.threads.unwrap_or_else(processors);
        let cache = options.cache.as_ref();
        let precision = Precision::choose(options.compute, &model, threads, cache, |notice| {
            observer.warning(&format!("{notice}; it is measured again"));
        });
        // What the host holds is not free any more.
        let free = || system_memory::default_budget().map(|free| free + options.host_bytes);
        let memory = options.memory.or_else(free);
        let settings = Settings {
            takes,
            memory: memory.ok_or(EngineError::NoFreeMemory)?,
            host_bytes: options.host_bytes,
            threads,
            compute: precision.compute,
            hidden_dtype: options.hidden_dtype,
            spill: options.spill,
            share_prefixes: options.share_prefixes,
            checkpoint_interval: options.checkpoint_interval,
            ..Settings::default()
        };
        Ok(Self {
            model,
            settings,
            precision,
            asked: options.compute.is_some(),
            allow_long: options.allow_long,
            cache: options.cache.clone(),
            earlier: None,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What is computed and with which means, as it was settled.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The precision of the products, and why.
    pub fn precision(&self) -> &Precision {
        &self.precision
    }

    /// What a run over these records would do, hold and take; nothing is run.
    pub fn plan(
        &self,
        records: &RecordSpool,
        observer: &dyn Observer,
    ) -> Result<Planned, EngineError> {
        let machine = self.machine(observer);
        let settings = Settings {
            machine,
            ..self.settings.clone()
        };
        let plan = plan::plan(&self.model, records, &settings)?;
        let reading = sweep::choose_reading(&self.model, &settings, &plan)?;
        let stored = machine.cached(self.model.checkpoint.stored_bytes());
        let limits = machine.limits;
        let roofline =
            limits.map(|limits| Roofline::new(limits, plan.work, plan.bytes_read, stored));
        Ok(Planned {
            plan,
            reading,
            roofline,
        })
    }

    /// The smallest budget for a run over one record of one token, bytes.
    pub fn smallest_run(&self, folder: &Path) -> Result<u64, EngineError> {
        let records = self.spool(folder, [[0]])?;
        match plan::plan(&self.model, &records, &self.settings) {
            Ok(plan) => Ok(plan.smallest_memory),
            Err(EngineError::Budget { needed, .. }) => Ok(needed),
            Err(error) => Err(error),
        }
    }

    /// Runs over the records and writes the results into `out`, or goes on with the same run that ended early there.
    pub fn run(
        &mut self,
        out: &Path,
        records: &RecordSpool,
        observer: &dyn Observer,
    ) -> Result<Outcome, EngineError> {
        self.go_on(out);
        let mut dataset = RunKey::new();
        dataset.set("records", shorten(&records.content_hash()));
        match self.begin(out, dataset, false)? {
            Start::Finished(manifest) => Ok(Outcome::Finished(manifest)),
            Start::Begun(begun) => {
                let run = begun.read(|_| Ok::<_, EngineError>(records.clone()))?;
                Ok(Outcome::Done(Box::new(run.finish(observer)?)))
            }
        }
    }

    /// Looks at the run that is in a folder, if there is one: what was left open is as it began.
    pub fn go_on(&mut self, out: &Path) {
        self.go_on_as(RunKey::of_folder(out));
    }

    fn go_on_as(&mut self, earlier: Option<RunKey>) {
        self.earlier = earlier;
        let begun = self.earlier.as_ref().and_then(key::precision_of);
        if let Some(compute) = begun.filter(|_| !self.asked) {
            self.precision = Precision {
                compute,
                reason: Reason::Begun,
            };
            self.settings.compute = compute;
        }
    }

    /// Opens the folder of a run. `dataset` has what decides the records; what the model and the session decide is added.
    /// `fresh` discards what an earlier run left there; without it, see [`Self::go_on`].
    pub fn begin(
        &self,
        out: &Path,
        dataset: RunKey,
        fresh: bool,
    ) -> Result<Start<'_>, EngineError> {
        self.begin_run(out, dataset, fresh, self.earlier.as_ref(), None)
    }

    fn begin_run<'a>(
        &'a self,
        out: &Path,
        dataset: RunKey,
        fresh: bool,
        earlier: Option<&RunKey>,
        reference: Option<&'a Self>,
    ) -> Result<Start<'a>, EngineError> {
        let mut key = dataset;
        key::add(&mut key, &self.model, &self.settings, earlier)?;
        let existed = out.exists();
        let opened = OutputFolder::open(out, key, fresh)
            .map_err(|error| name_changed_tensors(error, out, &self.model))?;
        let (folder, resumed) = match opened {
            Opened::New(folder) => (folder, false),
            Opened::Resumed(folder) => (folder, true),
            Opened::Finished(manifest) => {
                recheck(&self.model, &manifest, out)?;
                return Ok(Start::Finished(manifest));
            }
        };
        Ok(Start::Begun(Box::new(Begun {
            session: self,
            reference,
            folder,
            existed,
            resumed,
        })))
    }

    /// A run cannot beat the peak of the processor: one that does shows that what is remembered of it was measured
    /// while the machine was busy, and it is forgotten.
    fn doubt(&self, summary: &Summary, observer: &dyn Observer) {
        let Some((cache, roofline)) = self.cache.as_ref().zip(summary.roofline) else {
            return;
        };
        let is_beaten = summary
            .roofline_fraction
            .is_some_and(|fraction| fraction > 1.0);
        if !is_beaten || roofline.is_reading() || roofline.limits.operations_from != Origin::Bench {
            return;
        }
        let said = "this run is faster than what `sli bench` measured as the peak of the processor, on a busy machine, it seems";
        observer.warning(&match cache.forget_processor(self.settings.threads) {
            Ok(()) => format!("{said}: it is forgotten, and `sli bench` measures it anew"),
            Err(error) => format!("{said}: `sli bench` measures it anew ({error})"),
        });
    }

    /// What is known of this machine for a run.
    fn machine(&self, observer: &dyn Observer) -> Machine {
        let Settings {
            threads,
            compute,
            memory,
            ..
        } = self.settings;
        let limits = Limits::find(
            self.cache.as_ref(),
            &self.model,
            threads,
            compute,
            |notice| {
                observer.warning(&format!("{notice}; it is measured again"));
            },
        );
        let free = system_memory::free_memory();
        Machine {
            limits: Some(limits),
            page_cache: free.map(|free| free.saturating_sub(memory)),
        }
    }
}

/// All threads that the process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
