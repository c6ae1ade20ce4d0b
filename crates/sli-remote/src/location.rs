//! How a place is written on the command line.

use std::path::Path;

use url::Url;

use crate::repo::{Kind, Repo};

/// A place that is not a path of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A repository of the hub, or a part of it.
    Hub {
        /// The repository.
        repo: Repo,
        /// Branch, tag or commit; `None`: the hub's default.
        revision: Option<String>,
        /// A folder or file in it; `""` for all of it.
        inner: String,
    },
    /// A folder or a file behind HTTP.
    Web(Url),
    /// A folder, a file or a pattern of files in a bucket of an object store.
    Bucket(Objects),
}

/// Which store a bucket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Amazon S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// Objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// The store.
    pub scheme: Scheme,
    /// The bucket as it is written: `s3://bucket`.
    pub store: String,
    /// The key behind it, as it is: nothing is escaped.
    pub path: String,
}

impl Scheme {
    /// The one that an address begins with.
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" | "s3a" => Some(Self::S3),
            "gs" => Some(Self::Google),
            "az" | "azure" | "abfs" | "abfss" => Some(Self::Azure),
            _ => None,
        }
    }

    /// How to say who asks.
    pub(crate) fn credentials(self) -> &'static str {
        match self {
            Self::S3 => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`aws configure export-credentials --format env`), or \
                 AWS_SKIP_SIGNATURE=true for a bucket that everybody may read; AWS_ENDPOINT_URL names another store"
            }
            Self::Google => {
                "set GOOGLE_SERVICE_ACCOUNT to the file of a service account (`gcloud auth application-default login` \
                 will do), or GOOGLE_SKIP_SIGNATURE=true for a bucket that everybody may read"
            }
            Self::Azure => {
                "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or \
                 AZURE_SKIP_SIGNATURE=true for a container that everybody may read"
            }
        }
    }

    /// How to say where the store is.
    pub(crate) fn endpoint(self) -> &'static str {
        match self {
            Self::S3 => "check AWS_ENDPOINT_URL",
            Self::Google => "check GOOGLE_BASE_URL",
            Self::Azure => "check AZURE_STORAGE_ENDPOINT",
        }
    }

    /// The variable that says that a line need not be protected.
    pub(crate) fn allows_http(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ALLOW_HTTP",
            Self::Google => "GOOGLE_ALLOW_HTTP",
            Self::Azure => "AZURE_ALLOW_HTTP",
        }
    }
}

/// A place that is spelled wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place: {problem}")]
pub struct LocationError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Hosts whose pages name repositories.
const HUBS: [&str; 2] = ["huggingface.co", "hf.co"];

impl Location {
    /// What a text names; `None`: it is a path. A path that exists wins over an id of the hub.
    pub fn parse(text: &str) -> Result<Option<Self>, LocationError> {
        let wrong = |problem: &str| LocationError {
            text: text.to_owned(),
            problem: problem.to_owned(),
        };
        if let Some(rest) = text.strip_prefix("hf://") {
            return Self::of_hub(rest)
                .map(Some)
                .map_err(|problem| wrong(&problem));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
            return Self::of_url(url)
                .map(Some)
                .map_err(|problem| wrong(&problem));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let Some(known) = Scheme::of(scheme) else {
                return Err(wrong(&format!(
                    "addresses that begin with `{scheme}://` are not read; hf://, https://, http://, s3://, gs:// and az:// are"
                )));
            };
            let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("it names no bucket"));
            }
            return Ok(Some(Self::Bucket(Objects {
                scheme: known,
                store: format!("{scheme}://{bucket}"),
                path: path.to_owned(),
            })));
        }
        let is_path = text.starts_with(['/', '.', '~']) || text.contains('\\');
        if is_path || Path::new(text).exists() {
            return Ok(None);
        }
        // A name that is neither a path nor an id is a path that does not exist.
        let (id, _) = text.split_once('@').unwrap_or((text, ""));
        if id.split('/').count() > 2 {
            return Ok(None);
        }
        Ok(Self::of_hub(text).ok())
    }

    /// `[models/]ORG/NAME[@REVISION][/INNER]`, with `datasets/` in front of a dataset.
    fn of_hub(text: &str) -> Result<Self, String> {
        let (kind, rest) = match text.split_once('/') {
            Some(("datasets", rest)) => (Kind::Dataset, rest),
            Some(("models", rest)) if rest.contains('/') => (Kind::Model, rest),
            _ => (Kind::Model, text),
        };
        let mut parts = rest.splitn(3, '/');
        let first = parts.next().unwrap_or_default();
        let (org, last) = match parts.next() {
            Some(name) => (Some(first), name),
            None => (None, first),
        };
        let inner = parts.next().unwrap_or_default().trim_end_matches('/');
        let (name, revision) = match last.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (last, None),
        };
        let id = org.map_or_else(|| name.to_owned(), |org| format!("{org}/{name}"));
        let repo = Repo::new(kind, &id)?;
        let (revision, inner) = match revision {
            Some("") => return Err("there is no revision behind `@`".into()),
            // A revision with slashes: `refs/pr/1`.
            Some("refs") => {
                let mut parts = inner.splitn(3, '/');
                let (Some(group), Some(number)) = (parts.next(), parts.next()) else {
                    return Err("a revision is a branch, a tag, a commit or refs/pr/NUMBER".into());
                };
                (
                    Some(format!("refs/{group}/{number}")),
                    parts.next().unwrap_or_default(),
                )
            }
            revision => (revision.map(str::to_owned), inner),
        };
        Ok(Self::Hub {
            repo,
            revision,
            inner: inner.to_owned(),
        })
    }

    /// The page of a repository names it; other addresses are folders or files.
    fn of_url(mut url: Url) -> Result<Self, String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address must not hold a password".into());
        }
        url.set_fragment(None);
        let is_hub = url.host_str().is_some_and(|host| HUBS.contains(&host));
        if !is_hub {
            return Ok(Self::Web(url));
        }
        let path = url.path().trim_matches('/');
        let (kind, rest) = match path.strip_prefix("datasets/") {
            Some(rest) => (Kind::Dataset, rest),
            None => (Kind::Model, path),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (id, page) = match parts[..] {
            [name] => (name.to_owned(), &parts[1..]),
            [org, name, ..] => (format!("{org}/{name}"), &parts[2..]),
            [] => return Err("it names no repository".into()),
        };
        let (revision, inner) = match page {
            [] => (None, String::new()),
            ["tree" | "resolve" | "blob", revision, inner @ ..] => {
                (Some((*revision).replace("%2F", "/")), inner.join("/"))
            }
            _ => return Err("it is a page of the hub that names no repository or file".into()),
        };
        Ok(Self::Hub {
            repo: Repo::new(kind, &id)?,
            revision,
            inner,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> (String, Option<String>, String) {
        match Location::parse(text).unwrap().unwrap() {
            Location::Hub {
                repo,
                revision,
                inner,
            } => (format!("{:?} {}", repo.kind, repo.id), revision, inner),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ids_are_read_as_people_write_them() {
        let cases = [
            ("org/name", "Model org/name", None, ""),
            ("gpt2", "Model gpt2", None, ""),
            ("org/name@v1.0", "Model org/name", Some("v1.0"), ""),
            ("hf://org/name", "Model org/name", None, ""),
            ("hf://models/org/name", "Model org/name", None, ""),
            (
                "hf://org/name/sub/x.gguf",
                "Model org/name",
                None,
                "sub/x.gguf",
            ),
            (
                "hf://org/name@refs/pr/3/sub",
                "Model org/name",
                Some("refs/pr/3"),
                "sub",
            ),
            (
                "hf://datasets/org/name@main/data/a.parquet",
                "Dataset org/name",
                Some("main"),
                "data/a.parquet",
            ),
            (
                "https://huggingface.co/org/name",
                "Model org/name",
                None,
                "",
            ),
            (
                "https://huggingface.co/org/name/tree/dev/sub",
                "Model org/name",
                Some("dev"),
                "sub",
            ),
            (
                "https://huggingface.co/datasets/org/name",
                "Dataset org/name",
                None,
                "",
            ),
        ];
        for (text, repo, revision, inner) in cases {
            let wanted = (
                repo.to_owned(),
                revision.map(str::to_owned),
                inner.to_owned(),
            );
            assert_eq!(hub(text), wanted, "{text}");
        }
    }

    #[test]
    fn keys_of_buckets_are_as_they_are() {
        for (text, scheme, store, path) in [
            (
                "s3://b/models/x y%20/",
                Scheme::S3,
                "s3://b",
                "models/x y%20/",
            ),
            ("s3a://b", Scheme::S3, "s3a://b", ""),
            (
                "gs://b/d/part-?.jsonl",
                Scheme::Google,
                "gs://b",
                "d/part-?.jsonl",
            ),
            ("az://c/x.gguf", Scheme::Azure, "az://c", "x.gguf"),
            (
                "abfss://c@a.dfs.core.windows.net/d",
                Scheme::Azure,
                "abfss://c@a.dfs.core.windows.net",
                "d",
            ),
        ] {
            let (store, path) = (store.to_owned(), path.to_owned());
            let objects = Objects {
                scheme,
                store,
                path,
            };
            assert_eq!(
                Location::parse(text),
                Ok(Some(Location::Bucket(objects))),
                "{text}"
            );
        }
    }

    #[test]
    fn paths_are_paths() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().display().to_string();
        for text in [
            there.as_str(),
            "./org/name",
            "../name",
            "/none",
            "a/b/c",
            "src",
            "~/x",
            "a b/c",
            "models/x.gguf/",
            "a//b",
        ] {
            assert_eq!(Location::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_spelled_wrong_is_said() {
        for text in [
            "hf://",
            "hf://org/",
            "hf://org/na me",
            "hf://org/name@",
            "hf://org/..",
            "https://",
            "https://user:secret@host/folder/",
            "https://huggingface.co/",
            "ftp://host/x",
            "s3://",
            "gs:///x",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(!error.problem.is_empty(), "{text}");
        }
        let web = Location::parse("https://host:8/models/x/#top").unwrap();
        assert_eq!(
            web,
            Some(Location::Web("https://host:8/models/x/".parse().unwrap()))
        );
    }
}
