//! A bucket of an object store: S3, Google Cloud Storage, Azure Blob Storage, and servers that speak like them.
//!
//! Who asks and where the store is comes from the environment, by the names that the stores' own tools read.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore, RetryConfig};
use tokio::runtime::Runtime;
use url::Url;

use crate::client::{Client, Trouble};
use crate::error::RemoteError;
use crate::line::{Line, LineError};
use crate::location::{Objects, Scheme};
use crate::store::{Arriving, Entry, Store, kept_as};

/// Files that are listed at most.
const MOST_FILES: usize = 200_000;
/// Characters that make a name a pattern.
const PATTERN: [char; 3] = ['*', '?', '['];

/// Files of a bucket below a folder.
#[derive(Debug)]
pub(crate) struct Bucket {
    client: Arc<Client>,
    objects: Box<dyn ObjectStore>,
    at: Objects,
    folder: Path,
    /// The files by their paths in the folder, and where they are.
    files: BTreeMap<String, Entry>,
    places: BTreeMap<String, Object>,
}

/// A file as the store has it.
#[derive(Debug)]
struct Object {
    path: Path,
    /// Seconds since 1970 at which it came there.
    modified: i64,
}

/// Which files of a bucket are listed.
enum Listed {
    /// All below the folder.
    Below,
    /// Those in the folder itself.
    Inside,
}

impl Bucket {
    /// Finds what a place of a bucket is, a folder, a file or a pattern; the folder with its files, and the path in it of
    /// what is meant.
    pub fn find(client: Client, at: Objects) -> Result<(Self, String), RemoteError> {
        let client = Arc::new(client);
        let mut bucket = Self {
            objects: build(&at, &client, None)?,
            client,
            folder: Path::default(),
            at,
            files: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        let path = bucket.at.path.trim_matches('/').to_owned();
        let (folder, inner) = match path.find(PATTERN) {
            Some(first) => path[..first]
                .rsplit_once('/')
                .map_or(("", &path[..]), |(folder, _)| {
                    (folder, &path[folder.len() + 1..])
                }),
            None => (&path[..], ""),
        };
        bucket.list(folder, &Listed::Below)?;
        if !bucket.files.is_empty() || !inner.is_empty() {
            folder.clone_into(&mut bucket.at.path);
            return Ok((bucket, inner.to_owned()));
        }
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
        bucket.list(folder, &Listed::Inside)?;
        if !bucket.files.contains_key(file) {
            return Err(bucket.refused(
                "there is no such file or folder in the bucket".into(),
                "check the path; keys are written as they are, nothing in them is escaped",
            ));
        }
        folder.clone_into(&mut bucket.at.path);
        Ok((bucket, file.to_owned()))
    }

    /// What it is called where it is kept.
    pub fn key(&self) -> String {
        let bucket = self.at.store.rsplit('/').next().unwrap_or_default();
        let bucket = bucket.split('@').next().unwrap_or_default();
        kept_as(bucket, &format!("{}/{}", self.at.store, self.folder))
    }

    fn refused(&self, problem: String, hint: &str) -> RemoteError {
        RemoteError::Refused {
            place: self.describe(),
            problem,
            hint: hint.into(),
        }
    }

    /// Lists a folder, in the region where the bucket turns out to be.
    fn list(&mut self, folder: &str, which: &Listed) -> Result<(), RemoteError> {
        self.folder = Path::parse(folder)
            .map_err(|error| self.refused(error.to_string(), "check the path"))?;
        let found = match self.listed(which) {
            Err(Missed::Elsewhere(region)) => {
                tracing::debug!(place = self.describe(), region, "the bucket is in a region");
                self.objects = build(&self.at, &self.client, Some(&region))?;
                self.listed(which)
            }
            found => found,
        };
        let found = found.map_err(|missed| match missed {
            Missed::Elsewhere(region) => self.refused(
                format!("the bucket is in the region {region}"),
                "set AWS_REGION to it",
            ),
            Missed::Failed(error) => error,
        })?;
        for meta in found {
            let Some(parts) = meta.location.prefix_match(&self.folder) else {
                continue;
            };
            let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
            let name = parts.join("/");
            // An empty name, or one that ends so, stands for a folder.
            if name.is_empty() || meta.size == 0 && meta.location.as_ref().ends_with('/') {
                continue;
            }
            let modified = meta.last_modified.timestamp();
            let etag = meta.e_tag.as_deref().unwrap_or_default();
            let said = [etag, &modified.to_string()];
            let entry = Entry::by_what_is_said(name.clone(), meta.size, said);
            self.files.insert(name.clone(), entry);
            let object = Object {
                path: meta.location,
                modified,
            };
            self.places.insert(name, object);
        }
        Ok(())
    }

    fn listed(&self, which: &Listed) -> Result<Vec<ObjectMeta>, Missed> {
        let place = self.describe();
        let mut waits = self.client.waits(&place);
        loop {
            let tried = self.list_once(which);
            match tried {
                Ok(found) if found.len() > MOST_FILES => {
                    let problem = format!("it has more than {MOST_FILES} files");
                    let refused = self.refused(problem, "name a folder further down");
                    return Err(Missed::Failed(refused));
                }
                Ok(found) => return Ok(found),
                Err(error) => {
                    if let Some(LineError::Region(region)) = line_error(&error) {
                        return Err(Missed::Elsewhere(region.clone()));
                    }
                    waits.after(self.trouble(&error)).map_err(Missed::Failed)?;
                }
            }
        }
    }

    fn list_once(&self, which: &Listed) -> object_store::Result<Vec<ObjectMeta>> {
        let runtime = runtime().map_err(generic)?;
        runtime.block_on(async {
            match which {
                Listed::Inside => {
                    let found = self.objects.list_with_delimiter(Some(&self.folder)).await;
                    Ok(found?.objects)
                }
                Listed::Below => {
                    let mut arriving = self.objects.list(Some(&self.folder));
                    let mut found = Vec::new();
                    while let Some(meta) = arriving.next().await {
                        found.push(meta?);
                        if found.len() > MOST_FILES {
                            break;
                        }
                    }
                    Ok(found)
                }
            }
        })
    }

    /// What the library's error means.
    fn trouble(&self, error: &object_store::Error) -> Trouble {
        let scheme = self.at.scheme;
        match line_error(error) {
            Some(LineError::Passing(passing)) => return passing.clone().into(),
            Some(LineError::Nobody) => {
                let problem = "nothing says who asks for it".into();
                return Trouble::Lasting(self.refused(problem, scheme.credentials()));
            }
            Some(unprotected @ LineError::Unprotected(_)) => {
                let hint = format!("use https, or set {}=true", scheme.allows_http());
                return Trouble::Lasting(self.refused(unprotected.to_string(), &hint));
            }
            Some(region @ LineError::Region(_)) => {
                let refused = self.refused(region.to_string(), "set AWS_REGION to it");
                return Trouble::Lasting(refused);
            }
            None => {}
        }
        let code = code(&error.to_string());
        let refused = |problem: &str, hint: &str| {
            let problem = match &code {
                Some(code) => format!("{problem} ({code})"),
                None => problem.to_owned(),
            };
            Trouble::Lasting(self.refused(problem, hint))
        };
        match error {
            object_store::Error::InvalidPath { source } => refused(
                &format!("it holds a key that cannot be a path: {source}"),
                "name a folder further down, without such keys",
            ),
            object_store::Error::NotFound { .. } => {
                refused("there is no such bucket or file", "check the address")
            }
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                refused("the store does not let you read it", scheme.credentials())
            }
            _ => match code {
                Some(_) => refused("the store refuses", scheme.credentials()),
                None => refused(&without_queries(&error.to_string()), scheme.credentials()),
            },
        }
    }
}

/// Why there is no list.
enum Missed {
    /// The bucket is in this region.
    Elsewhere(String),
    Failed(RemoteError),
}

/// What one thread waits with.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
}

fn generic(error: io::Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "runtime",
        source: Box::new(error),
    }
}

/// Refuses what is no address of a server.
fn check_endpoint(at: &Objects, endpoint: Option<String>) -> Result<(), RemoteError> {
    let is_one = |text: &str| {
        let url = Url::parse(text).ok();
        url.is_some_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
    };
    match endpoint {
        Some(text) if !is_one(&text) => Err(RemoteError::Refused {
            place: at.store.clone(),
            problem: "its endpoint is no address that begins with https:// or http://".into(),
            hint: at.scheme.endpoint().into(),
        }),
        _ => Ok(()),
    }
}

/// The store of a bucket, as the environment describes it.
fn build(
    at: &Objects,
    client: &Arc<Client>,
    region: Option<&str>,
) -> Result<Box<dyn ObjectStore>, RemoteError> {
    // Attempts are counted by whoever asks.
    let once = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: std::time::Duration::ZERO,
    };
    let allowed = std::env::var(at.scheme.allows_http()).unwrap_or_default();
    let line = Line {
        client: Arc::clone(client),
        allow_http: allowed.eq_ignore_ascii_case("true"),
    };
    let url = at.store.as_str();
    // The builders of the stores have no trait in common.
    macro_rules! built {
        ($builder:expr, $endpoints:expr) => {{
            let builder = $builder.with_url(url).with_retry(once);
            for key in $endpoints {
                check_endpoint(at, builder.get_config_value(&key))?;
            }
            let built = builder.with_http_connector(line).build();
            built.map(|store| Box::new(store) as Box<dyn ObjectStore>)
        }};
    }
    let built = match at.scheme {
        Scheme::S3 => {
            let mut builder = AmazonS3Builder::from_env();
            if let Some(region) = region {
                builder = builder.with_region(region);
            }
            let endpoints = [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint];
            built!(builder, endpoints)
        }
        Scheme::Google => built!(
            GoogleCloudStorageBuilder::from_env(),
            [GoogleConfigKey::BaseUrl]
        ),
        Scheme::Azure => built!(
            MicrosoftAzureBuilder::from_env(),
            [AzureConfigKey::Endpoint]
        ),
    };
    built.map_err(|error| RemoteError::Refused {
        place: url.to_owned(),
        problem: without_queries(&error.to_string()),
        hint: at.scheme.credentials().to_owned(),
    })
}

/// What happened on the line, if that is the cause.
fn line_error(error: &object_store::Error) -> Option<&LineError> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The name that a store gives its refusal.
fn code(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_name = code.len() < 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name.then(|| code.to_owned())
}

/// A message without what stands behind the `?` of addresses: it may be a signature.
fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((address, _)) if address.contains("://") => address,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The bytes of an answer.
struct Incoming {
    runtime: Runtime,
    arriving: BoxStream<'static, object_store::Result<Bytes>>,
    left: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.runtime.block_on(self.arriving.next()) {
                None => return Ok(0),
                Some(Ok(bytes)) => self.left = bytes,
                Some(Err(error)) => {
                    return Err(io::Error::other(without_queries(&error.to_string())));
                }
            }
        }
        let count = self.left.len().min(out.len());
        self.left.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

impl Store for Bucket {
    fn describe(&self) -> String {
        format!("{}/{}", self.at.store, self.at.path.trim_matches('/'))
    }

    fn entries(&self) -> Option<&BTreeMap<String, Entry>> {
        Some(&self.files)
    }

    fn entry(&self, path: &str) -> Result<Option<Entry>, RemoteError> {
        Ok(self.files.get(path).cloned())
    }

    fn open(&self, entry: &Entry, range: Range<u64>) -> Result<Arriving, Trouble> {
        let wrong = |problem: String| {
            Trouble::Lasting(RemoteError::Wrong {
                place: self.describe(),
                file: entry.path.clone(),
                problem,
            })
        };
        let Some(object) = self.places.get(&entry.path) else {
            return Err(wrong("it is not in the list of the bucket".into()));
        };
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let runtime = runtime().map_err(|error| Trouble::passing(error.to_string()))?;
        let asked = self.objects.get_opts(&object.path, options);
        let answer = runtime
            .block_on(asked)
            .map_err(|error| self.trouble(&error))?;
        if answer.meta.size != entry.size
            || answer.meta.last_modified.timestamp() != object.modified
        {
            return Err(wrong("it was replaced while it was being read".into()));
        }
        Ok(Box::new(Incoming {
            runtime,
            arriving: answer.into_stream(),
            left: Bytes::new(),
        }))
    }

    fn client(&self) -> &Client {
        &self.client
    }
}
