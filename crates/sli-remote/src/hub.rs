//! A repository of the hub at one commit.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Mutex;

use serde::Deserialize;
use url::Url;

use crate::cache::Cache;
use crate::client::{Client, Reply, Trouble};
use crate::error::RemoteError;
use crate::lock::hold;
use crate::repo::{Kind, MAIN, Repo, is_commit};
use crate::settings::Settings;
use crate::store::{Arriving, Entry, Store};
use crate::tree::{Tree, TreeFile};

/// A repository at one commit.
#[derive(Debug)]
pub(crate) struct Hub {
    client: Client,
    repo: Repo,
    revision: String,
    commit: String,
    files: BTreeMap<String, Entry>,
    /// Where the bytes of files were found last: links that end.
    links: Mutex<HashMap<String, Url>>,
}

/// What the hub says of a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
}

/// What the hub says of a file or folder.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: String,
    lfs: Option<Lfs>,
    #[serde(rename = "xetHash")]
    xet_hash: Option<String>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Hub {
    /// Finds out which commit a revision is and what it holds: from the hub, or from the cache where nothing may be
    /// asked for or no answer comes; `warn` hears of the latter.
    pub fn find(
        settings: &Settings,
        client: Client,
        cache: &Cache,
        repo: Repo,
        revision: Option<&str>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Self, RemoteError> {
        let revision = revision.unwrap_or(MAIN).to_owned();
        let mut hub = Self {
            client,
            repo,
            revision,
            commit: String::new(),
            files: BTreeMap::new(),
            links: Mutex::default(),
        };
        // A commit never changes.
        if is_commit(&hub.revision)
            && let Some(tree) = cache.tree(&hub.repo, &hub.revision)?
        {
            hub.commit.clone_from(&hub.revision);
            hub.files = tree.entries();
            return Ok(hub);
        }
        if settings.is_offline {
            return hub.kept(cache, None);
        }
        match hub.ask_commit() {
            Ok(commit) => hub.commit = commit,
            Err(error @ RemoteError::Network { .. }) => {
                let said = error.to_string();
                let found = hub.kept(cache, Some(error))?;
                warn(&format!("{said}; what the cache has of it is taken"));
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
        let tree = match cache.tree(&hub.repo, &hub.commit)? {
            Some(tree) => tree,
            None => {
                let tree = hub.ask_tree()?;
                cache.keep_tree(&hub.repo, &hub.commit, &tree)?;
                tree
            }
        };
        hub.files = tree.entries();
        cache.keep_ref(&hub.repo, &hub.revision, &hub.commit)?;
        Ok(hub)
    }

    /// As it was when it was asked for last.
    fn kept(mut self, cache: &Cache, failed: Option<RemoteError>) -> Result<Self, RemoteError> {
        let found = cache.commit(&self.repo, &self.revision)?;
        let files = match &found {
            Some(commit) => cache.known(&self.repo, commit)?,
            None => None,
        };
        let (Some(commit), Some(files)) = (found, files) else {
            return Err(failed.unwrap_or_else(|| RemoteError::Refused {
                place: self.describe(),
                problem: "there is no such folder here, it is not in the cache of the hub, and nothing may be fetched (HF_HUB_OFFLINE)"
                    .into(),
                hint: "check the path or id; without HF_HUB_OFFLINE the hub is asked".into(),
            }));
        };
        self.commit = commit;
        self.files = files;
        Ok(self)
    }

    /// The repository.
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The commit, 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// An address below the hub's, its parts escaped.
    fn address<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.client.endpoint().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    fn ask_commit(&self) -> Result<String, RemoteError> {
        let id = self.repo.id.split('/');
        let parts = ["api", self.repo.api()]
            .into_iter()
            .chain(id)
            .chain(["revision", &self.revision]);
        let (reply, body) = self.client.ask(&self.describe(), &self.address(parts))?;
        if reply.status != 200 {
            return Err(self.refusal(&reply));
        }
        let info: Info = serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))?;
        if !is_commit(&info.sha) {
            return Err(self.nonsense(&"its commit is none"));
        }
        Ok(info.sha)
    }

    fn ask_tree(&self) -> Result<Tree, RemoteError> {
        let id = self.repo.id.split('/');
        let parts = ["api", self.repo.api()]
            .into_iter()
            .chain(id)
            .chain(["tree", &self.commit]);
        let mut url = self.address(parts);
        url.set_query(Some("recursive=true&expand=false"));
        let mut files = BTreeMap::new();
        loop {
            let (reply, body) = self.client.ask(&self.describe(), &url)?;
            if reply.status != 200 {
                return Err(self.refusal(&reply));
            }
            let nodes: Vec<Node> =
                serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))?;
            let before = files.len();
            for node in nodes.into_iter().filter(|node| node.kind == "file") {
                let file = TreeFile {
                    size: node.size,
                    blob_id: node.oid,
                    lfs_size: node.lfs.as_ref().map(|lfs| lfs.size),
                    lfs_sha256: node.lfs.map(|lfs| lfs.oid),
                    xet_hash: node.xet_hash,
                };
                if !file.is_sound(&node.path) {
                    return Err(
                        self.nonsense(&format!("what it says of `{}`", node.path.escape_debug()))
                    );
                }
                files.insert(node.path, file);
            }
            match reply.header("link").and_then(next_page) {
                Some(next) if files.len() > before => {
                    url = url.join(next).map_err(|error| self.nonsense(&error))?;
                }
                _ => return Ok(Tree::new(files)),
            }
        }
    }

    fn nonsense(&self, error: &dyn std::fmt::Display) -> RemoteError {
        RemoteError::Network {
            place: self.describe(),
            problem: format!(
                "{} answers what makes no sense: {error}",
                self.client.endpoint()
            ),
            hint: "is HF_ENDPOINT a hub?",
        }
    }

    /// What an answer that is none means.
    fn refusal(&self, reply: &Reply) -> RemoteError {
        let (place, status) = (self.describe(), reply.status);
        let refused = |problem: &str, hint: String| RemoteError::Refused {
            place: place.clone(),
            problem: problem.to_owned(),
            hint,
        };
        let page = self.address(self.repo.id.split('/'));
        match reply.header("x-error-code").unwrap_or_default() {
            "GatedRepo" => {
                let hint = if self.client.has_token() {
                    format!("accept its conditions at {page} with the account of the token")
                } else {
                    format!("accept its conditions at {page}, then set HF_TOKEN")
                };
                refused("its owners ask who wants to read it", hint)
            }
            "RevisionNotFound" => refused(
                &format!("it has no revision `{}`", self.revision),
                "check the branch, tag or commit behind `@`".into(),
            ),
            "RepoNotFound" => self.unknown(),
            _ if status == 401 || status == 404 => self.unknown(),
            _ if status == 403 => refused(
                "the hub does not let you read it",
                "is HF_TOKEN that of an account that may? tokens with chosen rights need the one to read".into(),
            ),
            code => RemoteError::Network {
                place: place.clone(),
                problem: format!("{} answers {status} {code}", self.client.endpoint()),
                hint: "is HF_ENDPOINT a hub?",
            },
        }
    }

    fn unknown(&self) -> RemoteError {
        let hint = if self.client.has_token() {
            "check the path or id; a private one needs the token of an account that may read it"
        } else {
            "check the path or id; for a private one set HF_TOKEN"
        };
        RemoteError::Refused {
            place: self.describe(),
            problem: format!(
                "there is no such folder here, and no such repository at {}",
                self.client.endpoint().host_str().unwrap_or_default()
            ),
            hint: hint.into(),
        }
    }
}

/// The next page of a list.
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (address, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then_some(address)
    })
}

impl Store for Hub {
    fn describe(&self) -> String {
        let repo = self.repo.describe();
        if self.revision == MAIN {
            repo
        } else {
            format!("{repo}@{}", self.revision)
        }
    }

    fn entries(&self) -> Option<&BTreeMap<String, Entry>> {
        Some(&self.files)
    }

    fn entry(&self, path: &str) -> Result<Option<Entry>, RemoteError> {
        Ok(self.files.get(path).cloned())
    }

    fn open(&self, entry: &Entry, range: Range<u64>) -> Result<Arriving, Trouble> {
        let links = || hold(&self.links);
        let known = links().get(&entry.path).cloned();
        if let Some(url) = known {
            let answer = self.client.follow(&url, Some(&range), false)?;
            if answer.status == 206 || answer.status == 200 {
                return arriving(answer, &self.describe(), entry, &range);
            }
            // The link has ended.
            links().remove(&entry.path);
        }
        let id = self.repo.id.split('/');
        let prefix = match self.repo.kind {
            Kind::Model => None,
            Kind::Dataset => Some("datasets"),
        };
        let parts = prefix
            .into_iter()
            .chain(id)
            .chain(["resolve", &self.commit]);
        let url = self.address(parts.chain(entry.path.split('/')));
        let answer = self.client.follow(&url, Some(&range), false)?;
        match answer.status {
            200 | 206 => {}
            // A link that was handed out anew and is refused all the same: soon there will be another.
            403 if answer.url.origin() != url.origin() => {
                return Err(Trouble::passing("the place of the file answers 403"));
            }
            _ => return Err(Trouble::Lasting(self.refusal(&Reply::of(&answer)))),
        }
        if answer.url != url {
            links().insert(entry.path.clone(), answer.url.clone());
        }
        arriving(answer, &self.describe(), entry, &range)
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

/// The body of an answer that is what was asked for.
pub(crate) fn arriving(
    answer: crate::client::Answer,
    place: &str,
    entry: &Entry,
    range: &Range<u64>,
) -> Result<Arriving, Trouble> {
    let wrong = |problem: String| {
        Trouble::Lasting(RemoteError::Wrong {
            place: place.to_owned(),
            file: entry.path.clone(),
            problem,
        })
    };
    let total = match answer.status {
        206 => {
            let said = answer.header("content-range").unwrap_or_default();
            let parts = said
                .strip_prefix("bytes ")
                .and_then(|rest| rest.split_once('/'));
            let first = parts.and_then(|(span, _)| span.split_once('-')?.0.parse::<u64>().ok());
            if first != Some(range.start) {
                return Err(Trouble::passing(format!(
                    "the server answers other bytes (`{said}`)"
                )));
            }
            parts.and_then(|(_, total)| total.parse::<u64>().ok())
        }
        _ if range.start > 0 => {
            return Err(wrong(
                "the server does not give parts of files, only whole ones".into(),
            ));
        }
        _ => answer
            .header("content-length")
            .and_then(|text| text.parse::<u64>().ok()),
    };
    if let Some(total) = total.filter(|total| *total != entry.size) {
        return Err(wrong(format!("it has {total} bytes, not {}", entry.size)));
    }
    Ok(Box::new(answer.reader()))
}
