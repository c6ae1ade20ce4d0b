//! What the user named as a model: a path, an id of the hub, or an address.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sli_checkpoint::ModelPlace;
use sli_checkpoint::source::ByteSource;
use sli_engine::{EngineError, Model};
use sli_remote::{Keep, Location, Policy, Progress, RemoteError, RemoteSource, Settings, Url};

use crate::error::Error;
use crate::host::Host;
use crate::{input, machine};

/// A model, and where it comes from if that is not this machine.
pub struct NamedModel {
    /// Where its files are read.
    pub place: ModelPlace,
    /// What they are fetched with.
    pub remote: Option<Arc<RemoteSource>>,
}

impl NamedModel {
    /// The model of this name.
    pub fn find(name: &Path, keep: Keep, host: &dyn Host) -> Result<Self, Error> {
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
        let is_file = |url: &Url| sli_checkpoint::is_weights(url.path());
        let (source, inner) = open(&settings, location, keep, is_file, host)?;
        let source = Arc::new(source);
        let shown = source.describe();
        Ok(Self {
            place: ModelPlace::elsewhere(source.clone(), shown, &inner)?,
            remote: Some(source),
        })
    }

    /// Says what is still to come of it.
    pub fn announce(&self, host: &dyn Host) {
        let Some(remote) = &self.remote else {
            return;
        };
        let Progress { there, wanted, .. } = remote.progress();
        if wanted > there {
            let place = self.place.path().display().to_string();
            host.fetching(wanted - there, &place);
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

    /// Bytes that came over the network, and what became of them.
    pub fn received(&self) -> Option<(u64, String)> {
        let remote = self.remote.as_ref()?;
        let received = remote.progress().received;
        let kept = match remote.kept_in() {
            Some(folder) => format!("kept in {}", folder.display()),
            None => "not kept".to_owned(),
        };
        (received > 0).then_some((received, kept))
    }
}

/// What a location is read from, and the folder or file in it; `is_file` tells which addresses are those of a file.
fn open(
    settings: &Settings,
    location: Location,
    keep: Keep,
    is_file: impl Fn(&Url) -> bool,
    host: &dyn Host,
) -> Result<(RemoteSource, String), Error> {
    match location {
        Location::Hub {
            repo,
            revision,
            inner,
        } => {
            let mut warn = |text: &str| host.warning(text);
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
        Location::Web(url) => {
            may_fetch(settings, url.as_str())?;
            let (folder, file) = if is_file(&url) {
                split_file(url)
            } else {
                (url, String::new())
            };
            let kept = kept(settings, WEB);
            let source = RemoteSource::web(settings, Policy::default(), folder, keep, &kept);
            Ok((source, file))
        }
        Location::Bucket(objects) => {
            may_fetch(settings, &objects.store)?;
            let kept = kept(settings, BUCKETS);
            let policy = Policy::default();
            Ok(RemoteSource::bucket(
                settings, policy, objects, keep, &kept,
            )?)
        }
    }
}

/// Refuses to fetch where the environment says so.
fn may_fetch(settings: &Settings, place: &str) -> Result<(), RemoteError> {
    if settings.is_offline {
        return Err(RemoteError::Refused {
            place: place.to_owned(),
            problem: "nothing may be fetched (HF_HUB_OFFLINE)".into(),
            hint: "unset HF_HUB_OFFLINE, or give a path".into(),
        });
    }
    Ok(())
}

/// The kinds of places other than the hub.
const WEB: &str = "web";
const BUCKETS: &str = "buckets";
pub const KINDS: [&str; 2] = [WEB, BUCKETS];

/// Where files of such places are kept.
pub fn kept(settings: &Settings, kind: &str) -> PathBuf {
    let own = machine::cache().map(|cache| cache.folder().join(kind));
    own.unwrap_or_else(|| settings.cache.join(kind))
}

/// The folder of an address, and the file behind it.
fn split_file(mut url: Url) -> (Url, String) {
    let path = url.path().to_owned();
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
    url.set_path(&format!("{folder}/"));
    (url, file.to_owned())
}

/// Datasets that are elsewhere are fetched; the paths of all, in their order.
pub fn fetched(named: &[PathBuf], host: &dyn Host) -> Result<Vec<PathBuf>, Error> {
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
            Some(location) => paths.extend(fetch_data(text, location, host)?),
        }
    }
    Ok(paths)
}

/// The files that a location stands for, in the cache.
fn fetch_data(text: &str, location: Location, host: &dyn Host) -> Result<Vec<PathBuf>, Error> {
    let refused = |problem: String, hint: &str| Error::Usage {
        problem: format!("`{text}` {problem}"),
        hint: hint.into(),
    };
    let settings = Settings::from_env()?;
    let (source, inner) = open(&settings, location, Keep::Everything, |_| true, host)?;
    let wanted = match source.files() {
        None if inner.is_empty() => {
            let hint = "a folder behind HTTP cannot be listed: name its files";
            return Err(refused("names no file".into(), hint));
        }
        None => vec![inner],
        Some(files) => {
            let names: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
            meant(&names, &inner).map_err(|error| {
                let hint = "`*` and `?` stand for characters of a name";
                refused(format!("is a pattern that makes no sense: {error}"), hint)
            })?
        }
    };
    if wanted.is_empty() {
        let hint = "name a .parquet, .jsonl or .txt file of it, or a folder with such";
        return Err(refused("has no file of records".into(), hint));
    }
    RemoteSource::fetch_ahead(&source, &wanted, &[])?;
    wait(&source, host)?;
    let paths = wanted.iter().map(|file| source.path_of(file));
    Ok(paths.collect::<Result<_, _>>()?)
}

/// Waits until what is fetched ahead is there, unless the host ends it.
pub fn wait(source: &RemoteSource, host: &dyn Host) -> Result<(), Error> {
    let arrived = source.wait(&mut |progress| {
        host.arriving(progress);
        !host.interrupted()
    });
    host.settled();
    if arrived? {
        Ok(())
    } else {
        Err(EngineError::Interrupted.into())
    }
}

/// The files of a place that are meant: the one of this name, those that fit it as a pattern, or those of the folder.
fn meant(names: &[String], inner: &str) -> Result<Vec<String>, glob::PatternError> {
    let of = |fits: &dyn Fn(&str) -> bool| -> Vec<String> {
        names.iter().filter(|name| fits(name)).cloned().collect()
    };
    let mut found = of(&|name| name == inner);
    if found.is_empty() {
        let pattern = glob::Pattern::new(inner)?;
        let options = glob::MatchOptions {
            require_literal_separator: true,
            ..glob::MatchOptions::new()
        };
        found = of(&|name| pattern.matches_with(name, options));
    }
    if found.is_empty() {
        let inside = of(&|name| {
            inner.is_empty()
                || name
                    .strip_prefix(inner)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        found = input::pick(&inside, |name| Path::new(name));
    }
    Ok(found)
}
