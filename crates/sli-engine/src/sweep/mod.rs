//! The sweep: super-batch by super-batch, layer by layer, chunk by chunk.

mod checkpoint;
mod context;
mod driver;
mod layers;
mod parts;
mod passes;
mod reading;
mod schedule;

use std::time::Instant;

use sli_kernels::Kernels;

use crate::entering::Entering;
use crate::error::EngineError;
use crate::exec::Scratch;
use crate::exec::states::States;
use crate::journal::OutputFolder;
use crate::model::Model;
use crate::observe::Observation;
use crate::plan::division::Division;
use crate::plan::phases::phases;
use crate::plan::{self, Grain, READERS};
use crate::records::RecordSpool;
use crate::results::ResultsError;
use crate::settings::{Observer, Settings};
use crate::stages::Stopwatch;
use crate::summary::{Measured, Summary};
use crate::tally::Tally;
use crate::weights::content;
use crate::weights::store::WeightStore;
use context::Context;
use driver::Scoring;
use passes::{RunClock, Sweep};
use schedule::Schedule;

pub use reading::choose_reading;

/// Runs the model over all records and finishes the output folder.
pub fn run(
    model: &Model,
    records: &RecordSpool,
    settings: &Settings,
    mut folder: OutputFolder,
    observer: &dyn Observer,
) -> Result<Summary, EngineError> {
    let began = Instant::now();
    let spill_room = settings
        .spill_room
        .min(crate::spill::room(folder.work_dir()));
    let settings = &Settings {
        spill_room,
        ..settings.clone()
    };
    let settings = &layout(settings, &folder, observer);
    let plan = plan::plan(model, records, settings)?;
    let division = Division::new(&model.spec, records, plan.shared());
    let division = division.cut(plan.cut_tokens);
    if let Some(current) = &folder.progress().current {
        let most = plan.super_batch_tokens.max(division.longest_piece());
        let mut portions = current.portions.iter();
        if portions.any(|portion| division.rows_of(portion) > most) {
            observer.warning(
                "the budget is smaller than before: the interrupted super-batch starts again",
            );
            folder.forget_current().map_err(ResultsError::from)?;
        }
    }
    content::resume(model, &mut folder, observer)?;
    let kernels = Kernels::new(settings.threads, settings.compute);
    let phases = phases(model, plan.grain, settings.compute);
    let schedule = Schedule::new(model, &phases);
    let entering = Entering::open(model, &settings.takes)?;
    let observation = Observation::open(model, records, settings, &folder, entering.as_ref())?;
    // All that decides results has been read.
    folder.add_files(&model.home.record());
    let context = Context {
        model,
        records,
        settings,
        observer,
        plan: &plan,
        division,
        kernels: &kernels,
        phases: &phases,
        entering: entering.as_ref(),
    };
    let tally = Tally::open(&folder).map_err(ResultsError::from)?;
    let before = folder.progress().spent.clone();
    let reading = choose_reading(model, settings, &plan)?;
    let scratch = Scratch::new(States::new(folder.disk(), folder.work_dir()));
    let mut sweep = Sweep {
        context,
        observation,
        folder,
        tally,
        scratch,
        token_layers_done: 0,
        checked: Instant::now(),
        clock: RunClock {
            began,
            stopwatch: Stopwatch::start(model),
            layers: before.layers.clone(),
            before,
        },
        kept: Vec::new(),
    };
    let mut scoring = Scoring {
        division,
        records: records.len(),
        rows: plan.pass_tokens,
    };
    let resumed = sweep
        .folder
        .progress()
        .current
        .as_ref()
        .map(|current| (current.stack, current.boundary));
    let start = schedule.position(resumed);
    let keys = schedule.keys.clone();
    let keep = plan.grain == Grain::Model;
    let store = WeightStore::new(
        model,
        settings.compute,
        plan.weight_budget,
        keys,
        start,
        keep,
    )
    .keeping_head(plan.keeps_head);
    sweep.clock.stopwatch = Stopwatch::start(model);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| store.read_ahead());
        }
        let result = sweep.run(&store, &mut scoring);
        store.stop();
        result
    })?;
    // Writing the tables takes memory of its own. What is still to be made sure of goes on meanwhile.
    store.give_up();
    content::settle(model)?;
    let spent = sweep.spent();
    let Sweep {
        observation,
        folder,
        tally,
        ..
    } = sweep;
    let isa = kernels.isa().to_string();
    let progress = folder.progress();
    let mut summary = Summary::new(
        model,
        records,
        settings,
        &plan,
        progress,
        Measured {
            isa,
            reading,
            spent,
            elapsed: began.elapsed(),
        },
    );
    summary.layer_passes_begun = tally.begun();
    observation.finish(folder, &mut summary)?;
    Ok(summary)
}

/// The settings with the layout of activations of the super-batch that was interrupted, where there is
/// one: it goes on as it began, and so do those that follow it in this process.
fn layout(settings: &Settings, folder: &OutputFolder, observer: &dyn Observer) -> Settings {
    let mut settings = settings.clone();
    if let Some(current) = &folder.progress().current
        && current.shared != settings.share_prefixes
    {
        observer.warning(if current.shared {
            "the interrupted super-batch shares common beginnings; it goes on so"
        } else {
            "the interrupted super-batch does not share common beginnings; it goes on so"
        });
        settings.share_prefixes = current.shared;
    }
    settings
}
