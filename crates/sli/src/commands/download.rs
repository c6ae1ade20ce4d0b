//! `sli download`: a model into the cache.

use std::time::{Duration, Instant};

use serde::Serialize;
use sli_checkpoint::source::ByteSource;
use sli_checkpoint::{ModelFolder, is_other_format, is_weights};
use sli_engine::bytes::human;
use sli_engine::{Model, lexical_weights, module_weights};
use sli_remote::{Keep, Progress, RemoteSource};

use crate::cli::DownloadArgs;
use crate::error::Error;
use crate::place::{self, NamedModel};
use crate::progress::{Screen, count, duration};
use crate::terminal;

/// Files of more bytes that are no weights are not what a model needs to run.
const LARGEST_BESIDE: u64 = 64 << 20;
/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    folder: Option<std::path::PathBuf>,
    files: usize,
    bytes: u64,
    received: u64,
    seconds: f64,
}

/// Fetches what a run would read.
pub fn download(arguments: &DownloadArgs) -> Result<(), Error> {
    let screen = Screen::default();
    let named = NamedModel::find(&arguments.model, Keep::Everything, &screen)?;
    let Some(remote) = &named.remote else {
        return Err(Error::Usage {
            problem: format!("{} is a path of this machine", arguments.model.display()),
            hint: "give an id of the hub (ORG/NAME) or an address".into(),
        });
    };
    let began = Instant::now();
    let model = Model::open(&named.place, &arguments.open.options())?;
    // Of a place that cannot be listed, what was asked for in opening the model.
    let beside = match remote.files() {
        Some(all) => beside(all),
        None => asked_for(&model.home),
    };
    RemoteSource::fetch_ahead(remote, &beside, &[])?;
    let modules = module_weights(&model.home)?;
    model.home.source().fetch_ahead(&modules, &[])?;
    let lexical = lexical_weights(&model)?.map(str::to_owned);
    let lexical: Vec<String> = lexical.into_iter().collect();
    model.folder.source().fetch_ahead(&lexical, &[])?;
    model.checkpoint.fetch_ahead(&model.files_in_order(), &[])?;
    place::wait(remote, &screen)?;
    let Progress {
        wanted, received, ..
    } = remote.progress();
    let seconds = began.elapsed().as_secs_f64();
    if arguments.json {
        return terminal::print_json(&Report {
            model: named.place.path().display().to_string(),
            folder: remote.kept_in(),
            files: remote.wanted_files(),
            bytes: wanted,
            received,
            seconds,
        });
    }
    let rate = received as f64 / seconds.max(1e-9);
    terminal::say(&format!(
        "{} {} files, {} fetched in {} ({}/s)",
        terminal::bold("done    "),
        count(remote.wanted_files() as u64),
        human(received),
        duration(Duration::from_secs_f64(seconds)),
        human(rate as u64),
    ));
    if let Some(folder) = remote.kept_in() {
        terminal::say(&format!(
            "{} {}",
            terminal::bold("kept    "),
            folder.display()
        ));
    }
    Ok(())
}

/// What lies beside the weights, small enough to be a part of what runs.
fn beside(all: Vec<(String, u64)>) -> Vec<String> {
    let is_wanted = |(path, size): &(String, u64)| {
        let name = path.rsplit('/').next().unwrap_or(path);
        *size <= LARGEST_BESIDE && !is_weights(name) && !is_other_format(name)
    };
    let wanted = all.into_iter().filter(is_wanted);
    wanted.map(|(path, _)| path).collect()
}

/// The files that were there of those that somebody asked for.
fn asked_for(home: &ModelFolder) -> Vec<String> {
    let record = home.record().into_iter();
    let there = record.filter(|(name, found)| found.is_some() && !name.ends_with('/'));
    there.map(|(name, _)| name).collect()
}
