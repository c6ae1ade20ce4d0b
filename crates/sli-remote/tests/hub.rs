//! Repositories of a hub on the loopback line, with every fault that a line has.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its data has failed"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sli_checkpoint::source::{ByteSource, Failure, SourceError, contract};
use sli_loopback::{COMMIT, Fault, Hub, Repo};
use sli_remote::{Cache, FileState, Keep, Kind, Policy, RemoteError, RemoteSource, Settings};

const MIB: usize = 1 << 20;

/// A hub with one repository, and a cache of its own.
struct Place {
    hub: Hub,
    folder: tempfile::TempDir,
    extra: Vec<(&'static str, String)>,
}

fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert(
        "config.json".into(),
        b"{\"model_type\": \"llama\"}".to_vec(),
    );
    files.insert("sub dir/inner.bin".into(), bytes(3 * MIB + 17, 3));
    files.insert("model.safetensors".into(), bytes(20 * MIB + 4321, 5));
    for number in 0..6 {
        files.insert(
            format!("extra-{number}.txt"),
            bytes(100 + number, number as u64),
        );
    }
    files
}

impl Place {
    fn new() -> Self {
        let hub = Hub::start();
        let files = files();
        hub.put("org/name", Repo::of(files));
        Self {
            hub,
            folder: tempfile::tempdir().unwrap(),
            extra: Vec::new(),
        }
    }

    fn settings(&self) -> Settings {
        Settings::of(|name| {
            let extra = self.extra.iter().find(|(key, _)| *key == name);
            match name {
                _ if extra.is_some() => extra.map(|(_, value)| value.clone()),
                "HF_ENDPOINT" => Some(self.hub.endpoint()),
                "HF_HUB_CACHE" => Some(self.folder.path().display().to_string()),
                "HF_HUB_DOWNLOAD_TIMEOUT" => Some("2".into()),
                _ => None,
            }
        })
        .unwrap()
    }

    fn open_as(
        &self,
        id: &str,
        revision: Option<&str>,
        keep: Keep,
    ) -> Result<RemoteSource, RemoteError> {
        let repo = sli_remote::Repo::new(Kind::Model, id).unwrap();
        RemoteSource::hub(
            &self.settings(),
            policy(),
            repo,
            revision,
            keep,
            &mut |_| {},
        )
    }

    fn open(&self) -> RemoteSource {
        self.open_as("org/name", None, Keep::Everything).unwrap()
    }

    fn kept(&self) -> std::path::PathBuf {
        self.folder.path().join("models--org--name")
    }
}

fn policy() -> Policy {
    Policy {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(5),
    }
}

fn whole(source: &RemoteSource, file: &str) -> Result<Vec<u8>, SourceError> {
    let mut out = vec![0; source.len(file)? as usize];
    source.read_at(file, 0, &mut out)?;
    Ok(out)
}

#[test]
fn the_contract_of_sources_holds() {
    for keep in [Keep::Everything, Keep::Nothing] {
        contract::check(|fixture| {
            let hub = Hub::start();
            let files = fixture.iter().cloned().collect();
            hub.put("org/name", Repo::of(files));
            let folder = tempfile::tempdir().unwrap().keep();
            let place = Settings::of(|name| match name {
                "HF_ENDPOINT" => Some(hub.endpoint()),
                "HF_HUB_CACHE" => Some(folder.display().to_string()),
                _ => None,
            });
            let repo = sli_remote::Repo::new(Kind::Model, "org/name").unwrap();
            let source =
                RemoteSource::hub(&place.unwrap(), policy(), repo, None, keep, &mut |_| {});
            Box::new(source.unwrap())
        })
        .unwrap();
    }
}

#[test]
fn what_was_read_is_kept_as_the_hubs_own_library_keeps_it() {
    let place = Place::new();
    let source = place.open();
    for (path, content) in files() {
        assert_eq!(whole(&source, &path).unwrap(), content, "{path}");
    }
    drop(source);
    let kept = place.kept();
    assert_eq!(
        fs_err::read_to_string(kept.join("refs/main")).unwrap(),
        COMMIT
    );
    let snapshot = kept.join("snapshots").join(COMMIT);
    let link = fs_err::read_link(snapshot.join("sub dir/inner.bin")).unwrap();
    assert!(link.starts_with("../../../blobs"), "{}", link.display());
    assert_eq!(link.file_name().unwrap().len(), 64);
    assert_eq!(
        fs_err::read_link(snapshot.join("config.json"))
            .unwrap()
            .file_name()
            .unwrap()
            .len(),
        40
    );
    for (path, content) in files() {
        assert_eq!(fs_err::read(snapshot.join(&path)).unwrap(), content);
    }
    let tree = fs_err::read_to_string(kept.join("trees").join(format!("{COMMIT}.json"))).unwrap();
    assert!(
        tree.contains("\"format_version\":1") && tree.contains("lfs_sha256"),
        "{tree}"
    );
    assert!(place.folder.path().join("CACHEDIR.TAG").exists());
    let left: Vec<_> = fs_err::read_dir(kept.join("blobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), files().len(), "{left:?}");

    // The next process asks for the commit alone, and an offline one for nothing.
    place.hub.requests();
    let again = place.open();
    assert_eq!(
        whole(&again, "config.json").unwrap(),
        files()["config.json"]
    );
    let asked = place.hub.requests();
    assert_eq!(asked.len(), 1, "{asked:?}");
    drop(again);
    let offline = Place {
        extra: vec![("HF_HUB_OFFLINE", "1".into())],
        ..place
    };
    let source = offline.open();
    assert_eq!(
        whole(&source, "model.safetensors").unwrap(),
        files()["model.safetensors"]
    );
    assert!(offline.hub.requests().is_empty());

    // A commit is known without asking, and what the cache has is there when the line is down.
    let cache = Cache::new(&offline.settings());
    let repos = cache.repos().unwrap();
    assert_eq!(
        (repos[0].id.as_str(), repos[0].files, repos[0].incomplete),
        ("org/name", files().len(), 0)
    );
    let repo = sli_remote::Repo::new(Kind::Model, "org/name").unwrap();
    let mut states = Vec::new();
    cache.verify(&repo, |file| states.push(file.state)).unwrap();
    assert!(
        states.iter().all(|state| *state == FileState::Right),
        "{states:?}"
    );
    fs_err::write(cache_file(&offline.kept(), 40), b"other").unwrap();
    let mut states = Vec::new();
    cache.verify(&repo, |file| states.push(file.state)).unwrap();
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == FileState::Wrong)
            .count(),
        1
    );
    drop(source);
    assert!(cache.remove(&repo).unwrap());
    assert!(!cache.remove(&repo).unwrap());
    assert!(cache.repos().unwrap().is_empty());
}

/// A blob whose name has so many characters.
fn cache_file(kept: &Path, length: usize) -> std::path::PathBuf {
    let entries = fs_err::read_dir(kept.join("blobs")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.file_name().unwrap().len() == length)
        .unwrap()
}

#[test]
fn headers_are_read_without_the_rest() {
    let place = Place::new();
    let source = place.open();
    let mut head = [0; 100];
    source.read_at("model.safetensors", 8, &mut head).unwrap();
    assert_eq!(head[..], files()["model.safetensors"][8..108]);
    assert!(place.hub.served() <= 512 << 10, "{}", place.hub.served());
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let mut place = Place::new();
    place.extra = vec![("HF_TOKEN", "hf_secret".into())];
    let repo = Repo {
        token: Some("hf_secret"),
        ..Repo::of(files())
    };
    place.hub.put("org/private", repo);
    let source = place
        .open_as("org/private", None, Keep::Everything)
        .unwrap();
    whole(&source, "model.safetensors").unwrap();
    let asked = place.hub.requests();
    let (second, first): (Vec<_>, Vec<_>) = asked.into_iter().partition(|request| request.second);
    assert!(!second.is_empty() && second.iter().all(|request| request.authorization.is_none()));
    assert!(
        first
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer hf_secret"))
    );
    assert!(!format!("{source:?}").contains("secret"));
    for path in walk(place.folder.path()) {
        let content = fs_err::read(&path).unwrap_or_default();
        assert!(
            !content.windows(9).any(|part| part == b"hf_secret"),
            "{}",
            path.display()
        );
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(walk(&path));
        } else {
            all.push(path);
        }
    }
    all
}

#[test]
fn what_the_hub_refuses_is_said_once_and_clearly() {
    let place = Place::new();
    let repo = |change: fn(&mut Repo)| {
        let mut repo = Repo::of(files());
        change(&mut repo);
        repo
    };
    place
        .hub
        .put("org/private", repo(|repo| repo.token = Some("hf_x")));
    place.hub.put("org/gated", repo(|repo| repo.gated = true));
    place
        .hub
        .put("org/old", repo(|repo| repo.moved = Some("org/name".into())));
    for (id, revision, says, hint) in [
        ("org/none", None, "no such repository", "HF_TOKEN"),
        ("org/private", None, "no such repository", "HF_TOKEN"),
        (
            "org/gated",
            None,
            "who wants to read it",
            "accept its conditions",
        ),
        ("org/name", Some("v9"), "no revision `v9`", "branch"),
    ] {
        let error = place.open_as(id, revision, Keep::Everything).unwrap_err();
        assert!(error.is_refusal(), "{error:?}");
        assert!(
            error.to_string().contains(says) && error.hint().contains(hint),
            "{error}: {}",
            error.hint()
        );
    }
    let moved = place.open_as("org/old", None, Keep::Everything).unwrap();
    assert_eq!(
        whole(&moved, "config.json").unwrap(),
        files()["config.json"]
    );
    for revision in ["v1", COMMIT, "refs/pr/1"] {
        let source = place
            .open_as("org/name", Some(revision), Keep::Everything)
            .unwrap();
        assert_eq!(
            whole(&source, "config.json").unwrap(),
            files()["config.json"]
        );
    }
}

#[test]
fn a_line_with_faults_changes_no_byte() {
    let busy =
        |status, seconds: &str| Fault::Status(status, vec![("retry-after", seconds.to_owned())]);
    let faults: Vec<(&str, Vec<Fault>)> = vec![
        (
            "busy",
            vec![busy(503, "0"), busy(429, "1"), Fault::Status(500, vec![])],
        ),
        (
            "resets",
            vec![
                Fault::Reset(0),
                Fault::Reset(MIB + 7),
                Fault::Reset(300_000),
                Fault::Reset(1),
            ],
        ),
        ("links that end", vec![Fault::EndLinks, Fault::EndLinks]),
        (
            "a slow line",
            vec![Fault::Slow(64 << 10, Duration::from_millis(2))],
        ),
    ];
    for (name, faults) in faults {
        for keep in [Keep::Everything, Keep::Nothing] {
            let place = Place::new();
            let source = place.open_as("org/name", None, keep).unwrap();
            place.hub.spoil("model.safetensors", faults.clone());
            let found = whole(&source, "model.safetensors")
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(found == files()["model.safetensors"], "{name}");
            source.settle().unwrap();
            // What arrived before a break is not fetched again.
            assert!(
                place.hub.served() <= 22 * MIB as u64,
                "{name}: {}",
                place.hub.served()
            );
        }
    }
}

#[test]
fn a_line_that_stays_broken_is_an_error_of_the_line() {
    let place = Place::new();
    let source = place.open();
    place
        .hub
        .spoil("model.safetensors", vec![Fault::Status(503, vec![]); 9]);
    let error = whole(&source, "model.safetensors").unwrap_err();
    assert!(error.is_io(), "{error}");
    assert!(
        error.to_string().contains("503") && error.to_string().contains("tried 4 times"),
        "{error}"
    );
    let long = Fault::Status(429, vec![("retry-after", "3600".into())]);
    place.hub.spoil("sub dir/inner.bin", vec![long]);
    let error = whole(&source, "sub dir/inner.bin").unwrap_err();
    assert!(error.to_string().contains("3600 s"), "{error}");
    place
        .hub
        .spoil("extra-0.txt", vec![Fault::Status(404, vec![])]);
    assert!(whole(&source, "extra-0.txt").is_err());
}

#[test]
fn wrong_bytes_are_fetched_again_once() {
    // Small files are right before anybody sees them.
    let place = Place::new();
    let source = place.open();
    place.hub.spoil("config.json", vec![Fault::Wrong(3)]);
    assert_eq!(
        whole(&source, "config.json").unwrap(),
        files()["config.json"]
    );
    place.hub.spoil("extra-1.txt", vec![Fault::Wrong(3); 2]);
    let error = whole(&source, "extra-1.txt").unwrap_err();
    assert!(error.to_string().contains("arrived twice"), "{error}");
    // Of large ones pieces may have been used: then that is said.
    place.hub.spoil("model.safetensors", vec![Fault::Wrong(5)]);
    let mut piece = [0; 10];
    source.read_at("model.safetensors", 0, &mut piece).unwrap();
    let settled = source.settle().unwrap_err();
    assert!(
        matches!(
            settled,
            SourceError::Elsewhere {
                kind: Failure::Replaced,
                ..
            }
        ),
        "{settled}"
    );
    assert_eq!(
        whole(&source, "model.safetensors").unwrap(),
        files()["model.safetensors"]
    );
    drop(source);
    let again = place.open();
    assert_eq!(
        whole(&again, "model.safetensors").unwrap(),
        files()["model.safetensors"]
    );
    again.settle().unwrap();
}

#[test]
fn an_interrupted_file_goes_on_where_it_was() {
    let place = Place::new();
    {
        let source = place.open();
        place.hub.spoil(
            "model.safetensors",
            vec![
                Fault::Reset(9 * MIB),
                Fault::Status(503, vec![]),
                Fault::Status(503, vec![]),
                Fault::Status(503, vec![]),
                Fault::Status(503, vec![]),
            ],
        );
        assert!(whole(&source, "model.safetensors").is_err());
    }
    let before = place.hub.served();
    assert!(before >= 8 * MIB as u64);
    let source = place.open();
    assert_eq!(
        whole(&source, "model.safetensors").unwrap(),
        files()["model.safetensors"]
    );
    let all = place.hub.served();
    assert!(all <= 21 * MIB as u64, "{before} and then {all}");
}

#[test]
fn what_is_fetched_ahead_is_read_as_it_comes() {
    let place = Place::new();
    let source = place.open();
    let wanted = ["model.safetensors", "sub dir/inner.bin", "config.json"].map(str::to_owned);
    let first = [
        ("model.safetensors".to_owned(), 15 << 20..20 << 20),
        ("none".to_owned(), 0..5),
    ];
    RemoteSource::fetch_ahead(&source, &wanted, &first).unwrap();
    for (path, content) in files() {
        assert_eq!(whole(&source, &path).unwrap(), content);
    }
    source.wait(&mut |_| true).unwrap();
    let progress = source.progress();
    assert_eq!(
        (progress.there, source.wanted_files()),
        (progress.wanted, 3)
    );
    let all: usize = files().values().map(Vec::len).sum();
    assert!(place.hub.served() <= all as u64 * 101 / 100);
}

#[test]
fn two_that_want_the_same_share_one_download() {
    let place = Place::new();
    let (one, two) = (place.open(), place.open());
    let wanted = ["model.safetensors".to_owned()];
    RemoteSource::fetch_ahead(&one, &wanted, &[]).unwrap();
    RemoteSource::fetch_ahead(&two, &wanted, &[]).unwrap();
    assert_eq!(
        whole(&two, "model.safetensors").unwrap(),
        files()["model.safetensors"]
    );
    one.wait(&mut |_| true).unwrap();
    two.wait(&mut |_| true).unwrap();
    assert!(
        place.hub.served() <= 21 * MIB as u64,
        "{}",
        place.hub.served()
    );
}

#[test]
fn a_folder_behind_http_is_read_by_names() {
    let place = Place::new();
    for keep in [Keep::Everything, Keep::Nothing] {
        let url = place.hub.web("org/name").parse().unwrap();
        let source = RemoteSource::web(&place.settings(), policy(), url, keep, place.folder.path());
        for (path, content) in files() {
            assert_eq!(whole(&source, &path).unwrap(), content);
        }
        assert!(!source.exists("none.json").unwrap());
        assert_eq!(source.list("").unwrap(), [""; 0]);
        assert!(source.content_id("config.json").is_some());
        place.hub.spoil("extra-2.txt", vec![Fault::Whole]);
        assert_eq!(
            whole(&source, "extra-2.txt").unwrap(),
            files()["extra-2.txt"]
        );
    }
    // A server without ranges is of no use for large files: that is said.
    let url = place.hub.web("org/name").parse().unwrap();
    let source = RemoteSource::web(
        &place.settings(),
        policy(),
        url,
        Keep::Nothing,
        place.folder.path(),
    );
    place.hub.spoil("model.safetensors", vec![Fault::Whole; 2]);
    let error = source
        .read_at("model.safetensors", 5, &mut [0; 5])
        .unwrap_err();
    assert!(error.to_string().contains("parts of files"), "{error}");
    // Without a sum nothing tells whether what an interrupted process left is on the disk.
    let web = || {
        let url = place.hub.web("org/name").parse().unwrap();
        let folder = place.folder.path().join("anew");
        RemoteSource::web(&place.settings(), policy(), url, Keep::Everything, &folder)
    };
    let mut faults = vec![Fault::Reset(9 * MIB)];
    faults.extend(vec![Fault::Status(503, vec![]); 4]);
    place.hub.spoil("model.safetensors", faults);
    assert!(whole(&web(), "model.safetensors").is_err());
    let before = place.hub.served();
    assert_eq!(
        whole(&web(), "model.safetensors").unwrap(),
        files()["model.safetensors"]
    );
    assert!(place.hub.served() - before >= 20 * MIB as u64);
    let url = "http://host/x?sig=secret".parse().unwrap();
    let signed = RemoteSource::web(
        &place.settings(),
        policy(),
        url,
        Keep::Nothing,
        place.folder.path(),
    );
    assert!(!signed.describe().contains("secret"));
}
