//! What the user named as a model: a path, an id of the hub, or an address.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::ModelPlace;
use sli_engine::Model;
use sli_engine::bytes::human;
use sli_remote::{Keep, Location, Policy, Progress, RemoteError, RemoteSource, Settings};

use crate::error::Error;
use crate::progress::Download;
use crate::{input, machine, terminal};

/// Files that stand for a model by themselves.
const WEIGHTS: [&str; 6] = [".gguf", ".safetensors", ".bin", ".pt", ".pth", ".npz"];

/// A model, and where it comes from if that is not this machine.
#[derive(Clone)]
pub struct NamedModel {
    /// Where its files are read.
    pub place: ModelPlace,
    /// What they are fetched with.
    pub remote: Option<Arc<RemoteSource>>,
}

impl NamedModel {
    /// The model of this name.
    pub fn find(name: &Path, keep: Keep) -> Result<Self, Error> {
        let location = match name.to_str() {
            Some(text) => Location::parse(text)?,
            None => None,
        };
        let Some(location) = location else {
            return Ok(Self {
                place: ModelPlace::local(name),
                remote: None,
            });
        };
        let settings = Settings::from_env()?;
        let (source, inner) = open(&settings, location, keep)?;
        let source = Arc::new(source);
        let shown = sli_checkpoint::source::ByteSource::describe(&*source);
        let place = ModelPlace::elsewhere(source.clone(), PathBuf::from(shown), &inner);
        Ok(Self {
            place: place.map_err(|error| sli_engine::EngineError::Checkpoint(error.into()))?,
            remote: Some(source),
        })
    }

    /// Says what is still to come of it.
    pub fn announce(&self) {
        let Some(remote) = &self.remote else {
            return;
        };
        let Progress { there, wanted, .. } = remote.progress();
        if wanted > there {
            terminal::say(&format!(
                "{} {} of {}",
                terminal::bold("fetching"),
                human(wanted - there),
                self.place.path().display()
            ));
        }
    }

    /// Whether what is fetched is kept.
    pub fn keeps(&self) -> bool {
        self.remote
            .as_ref()
            .is_some_and(|remote| remote.kept_in().is_some())
    }

    /// What a plan says of the network: the bytes that a run would fetch, where the model is elsewhere.
    pub fn to_fetch(&self, model: &Model, read: u64) -> Result<Option<u64>, Error> {
        let Some(remote) = &self.remote else {
            return Ok(None);
        };
        if remote.kept_in().is_none() {
            return Ok(Some(read));
        }
        // Of a sentence-transformers model the transformer may be in a folder of its own.
        let home = model.home.path();
        let inside = model.folder.path().strip_prefix(home).unwrap_or(home);
        let named = |file: String| inside.join(file).to_string_lossy().into_owned();
        let prefix = self.place.inner();
        let files = model.files_in_order().into_iter().map(named);
        let files: Vec<String> = files.map(|file| format!("{prefix}{file}")).collect();
        Ok(Some(remote.missing(&files)?))
    }

    /// Says what came over the network.
    pub fn close(&self) {
        let Some(remote) = &self.remote else {
            return;
        };
        let received = remote.progress().received;
        if received == 0 {
            return;
        }
        let kept = match remote.kept_in() {
            Some(folder) => format!("kept in {}", folder.display()),
            None => "not kept".to_owned(),
        };
        terminal::say(&format!(
            "{} {} over the network, {kept}",
            terminal::bold("fetched "),
            human(received)
        ));
    }
}

/// What a location is read from, and the folder or file in it.
fn open(
    settings: &Settings,
    location: Location,
    keep: Keep,
) -> Result<(RemoteSource, String), Error> {
    match location {
        Location::Hub {
            repo,
            revision,
            inner,
        } => {
            let mut warn = |text: &str| terminal::warn(text);
            let source = RemoteSource::hub(
                settings,
                Policy::default(),
                repo,
                revision.as_deref(),
                keep,
                &mut warn,
            )?;
            Ok((source, inner))
        }
        Location::Web(mut url) => {
            if settings.is_offline {
                return Err(RemoteError::Refused {
                    place: url.to_string(),
                    problem: "nothing may be fetched (HF_HUB_OFFLINE)".into(),
                    hint: "unset HF_HUB_OFFLINE, or give a path".into(),
                }
                .into());
            }
            let path = url.path().to_owned();
            let file = path.rsplit('/').next().unwrap_or_default().to_owned();
            let is_file = WEIGHTS.iter().any(|ending| file.ends_with(ending));
            let inner = if is_file {
                url.set_path(&path[..path.len() - file.len()]);
                file
            } else {
                String::new()
            };
            let kept = match machine::cache() {
                Some(cache) => cache.folder().join("web"),
                None => settings.cache.join("web"),
            };
            Ok((
                RemoteSource::web(settings, Policy::default(), url, keep, &kept),
                inner,
            ))
        }
    }
}

/// Datasets that are elsewhere are fetched; the paths of all, in their order.
pub fn fetched(named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for path in named {
        let text = path.to_str().unwrap_or_default();
        let location = if text.contains("://") {
            Location::parse(text)?
        } else {
            None
        };
        match location {
            None => paths.push(path.clone()),
            Some(location) => paths.extend(fetch_data(text, location)?),
        }
    }
    Ok(paths)
}

/// The files that a location stands for, in the cache.
fn fetch_data(text: &str, location: Location) -> Result<Vec<PathBuf>, Error> {
    let settings = Settings::from_env()?;
    let (source, inner) = match location {
        Location::Hub { .. } => open(&settings, location, Keep::Everything)?,
        Location::Web(mut url) => {
            let file = url.path().rsplit('/').next().unwrap_or_default().to_owned();
            if file.is_empty() {
                return Err(Error::Usage {
                    problem: format!("`{text}` names no file"),
                    hint: "a folder behind HTTP cannot be listed: name its files".into(),
                });
            }
            let folder = url.path()[..url.path().len() - file.len()].to_owned();
            url.set_path(&folder);
            let (source, _) = open(&settings, Location::Web(url), Keep::Everything)?;
            (source, file)
        }
    };
    let wanted = match source.files() {
        None => vec![inner],
        Some(files) => {
            let pattern = glob::Pattern::new(&inner).map_err(|error| Error::Usage {
                problem: format!("`{text}`: the pattern makes no sense: {error}"),
                hint: "`*` and `?` stand for characters of a name".into(),
            })?;
            let options = glob::MatchOptions {
                require_literal_separator: true,
                ..glob::MatchOptions::new()
            };
            let names: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
            let folder = if inner.is_empty() {
                String::new()
            } else {
                format!("{inner}/")
            };
            let exact: Vec<String> = names
                .iter()
                .filter(|name| **name == inner)
                .cloned()
                .collect();
            let fitting = names
                .iter()
                .filter(|name| pattern.matches_with(name, options))
                .cloned()
                .collect();
            let inside: Vec<String> = names
                .iter()
                .filter(|name| name.starts_with(&folder))
                .cloned()
                .collect();
            match (exact, fitting) {
                (exact, _) if !exact.is_empty() => exact,
                (_, fitting) if !Vec::<String>::is_empty(&fitting) => fitting,
                _ => input::pick(&inside, Clone::clone),
            }
        }
    };
    if wanted.is_empty() {
        return Err(Error::Usage {
            problem: format!("`{text}` has no file of records"),
            hint: "name a .parquet, .jsonl or .txt file of it, or a folder with such".into(),
        });
    }
    let failed = |error: sli_checkpoint::source::SourceError| {
        Error::Engine(sli_engine::EngineError::Checkpoint(error.into()))
    };
    RemoteSource::fetch_ahead(&source, &wanted, &[])?;
    let bar = Download::new();
    let arrived = source.wait(&mut |progress| bar.show(progress));
    drop(bar);
    arrived?;
    let paths = wanted
        .iter()
        .map(|file| source.path_of(file).map_err(failed));
    paths.collect()
}
