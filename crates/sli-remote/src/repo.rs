//! Names of repositories and of what they were at a time.

/// The default branch.
pub(crate) const MAIN: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// What it holds.
    pub kind: Kind,
    /// `ORG/NAME`, or `NAME` alone for some old ones.
    pub id: String,
}

impl Repo {
    /// A repository whose id follows the hub's rules.
    pub fn new(kind: Kind, id: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !name.is_empty()
                && name.len() <= 96
                && name.bytes().all(known)
                && !name.starts_with(['-', '.'])
                && !name.ends_with(['-', '.'])
                && !name.contains("..")
                && !name.contains("--")
        };
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|name| is_name(name)) {
            return Err(format!(
                "`{id}` is no id of a repository, which is ORG/NAME"
            ));
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// Its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("{kind}--{}", self.id.replace('/', "--"))
    }

    /// What a folder of the cache belongs to.
    pub(crate) fn of_folder(name: &str) -> Option<Self> {
        let (kind, id) = name.split_once("--")?;
        let kind = match kind {
            "models" => Kind::Model,
            "datasets" => Kind::Dataset,
            _ => return None,
        };
        Self::new(kind, &id.replacen("--", "/", 1)).ok()
    }

    /// As the user names it.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::Model => self.id.clone(),
            Kind::Dataset => format!("datasets/{}", self.id),
        }
    }

    /// Its kind in addresses of the hub's interface.
    pub(crate) fn api(&self) -> &'static str {
        match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

/// A full commit, as opposed to a branch or tag.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}
