//! The folders of the parts, and that together they are one run.

use std::path::{Path, PathBuf};

use super::error::MergeError;
use crate::journal::{Difference, Manifest, RunKey, SHARD};
use crate::results::{ResultsError, Stored, file_name};
use crate::shard::Shard;

/// The folder of a part.
pub(super) struct Part {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub shard: Shard,
}

/// All parts of a run.
pub(super) struct Parts {
    /// In the order of their records.
    pub all: Vec<Part>,
    /// The key of the run over all of them.
    pub key: RunKey,
}

impl Parts {
    /// Reads what the folders say of themselves.
    pub fn find(folders: &[PathBuf]) -> Result<Self, MergeError> {
        let read = |folder: &PathBuf| Part::read(folder);
        let mut all: Vec<Part> = folders.iter().map(read).collect::<Result<_, _>>()?;
        let key = key_of_all(&all)?;
        all.sort_by_key(|part| part.shard.index);
        let twice = all
            .array_windows()
            .find(|[a, b]| a.shard.index == b.shard.index);
        if let Some([first, second]) = twice {
            return Err(MergeError::Twice {
                first: first.path.clone(),
                second: second.path.clone(),
                index: first.shard.index,
                of: first.shard.of,
            });
        }
        let Some(of) = all.first().map(|part| part.shard.of) else {
            return Err(MergeError::Missing {
                missing: vec![1],
                of: 1,
            });
        };
        let is_there = |index: &u64| all.iter().any(|part| part.shard.index == *index);
        let missing: Vec<u64> = (1..=of).filter(|index| !is_there(index)).collect();
        if !missing.is_empty() {
            return Err(MergeError::Missing { missing, of });
        }
        let mut row = 0;
        for part in &all {
            let [first, behind] = part.shard.rows;
            let is_last = part.shard.index == of;
            if first != row || behind < first || (is_last && behind != part.shard.rows_in_all) {
                return Err(MergeError::NoPart {
                    path: part.path.clone(),
                    problem: "its rows are not those that follow the part before",
                    hint: "run this part again with --fresh",
                });
            }
            row = behind;
        }
        Ok(Self { all, key })
    }

    /// The file `name` of every part.
    pub fn files(&self, name: &str) -> Result<Vec<Stored>, ResultsError> {
        let file = |part: &Part| {
            let files = part.stored(|file| file == name)?;
            let one = files.into_iter().next();
            one.ok_or_else(|| part.lacks(name))
        };
        self.all.iter().map(file).collect()
    }

    /// The files of the tensors `name` of every part, in the order of records.
    pub fn tensors(&self, name: &str) -> Result<Vec<Stored>, ResultsError> {
        let mut all = Vec::new();
        for part in &self.all {
            let whole = file_name(name, None);
            let mut files = part.stored(|file| file == whole)?;
            while files.is_empty() || part.is_divided(name, &files) {
                let next = file_name(name, Some(files.len()));
                match part.stored(|file| file == next)?.pop() {
                    Some(file) => files.push(file),
                    None => break,
                }
            }
            if files.is_empty() {
                return Err(part.lacks(&whole));
            }
            all.extend(files);
        }
        Ok(all)
    }
}

impl Part {
    fn read(folder: &Path) -> Result<Self, MergeError> {
        let refused = |problem, hint| MergeError::NoPart {
            path: folder.to_owned(),
            problem,
            hint,
        };
        let Some(manifest) = Manifest::read(folder)? else {
            let hint = "run the part to its end: the same command goes on where it stopped";
            return Err(refused("there is no finished run in it", hint));
        };
        let shard = manifest.json().get("shard").cloned();
        let shard = shard.and_then(|shard| serde_json::from_value::<Shard>(shard).ok());
        let is_one = |shard: &Shard| (1..=shard.of).contains(&shard.index);
        match shard.filter(is_one) {
            Some(shard) => Ok(Self {
                path: folder.to_owned(),
                manifest,
                shard,
            }),
            None => {
                let hint = "parts come from `sli run --shard I/N`";
                Err(refused("it is of a run over a whole dataset", hint))
            }
        }
    }

    /// Files that the folder should have.
    fn stored(&self, is_asked: impl Fn(&str) -> bool) -> Result<Vec<Stored>, ResultsError> {
        let files = self.manifest.files().iter();
        let files = files.filter(|file| is_asked(&file.name)).map(|file| {
            let stored = Stored {
                path: self.path.join(&file.name),
                bytes: file.bytes,
                blake3: file.blake3.clone(),
            };
            stored.check_length()?;
            Ok(stored)
        });
        files.collect()
    }

    /// Whether the files so far are numbered ones.
    fn is_divided(&self, name: &str, files: &[Stored]) -> bool {
        let first = self.path.join(file_name(name, Some(0)));
        files.first().is_some_and(|file| file.path == first)
    }

    fn lacks(&self, name: &str) -> ResultsError {
        ResultsError::Damaged {
            path: self.path.join(name),
            problem: "run.json does not list it, but the other parts have it".into(),
        }
    }
}

/// The key of the run over everything; that the parts differ in nothing else.
fn key_of_all(parts: &[Part]) -> Result<RunKey, MergeError> {
    let mut key = RunKey::new();
    let mut first: Option<&Part> = None;
    for part in parts {
        let mut own = part.manifest.key().clone();
        own.remove(SHARD);
        let Some(first) = first else {
            key = own;
            first = Some(part);
            continue;
        };
        let mut differences = key.join(&own);
        differences.extend(difference("parts", first.shard.of, part.shard.of));
        let rows = (first.shard.rows_in_all, part.shard.rows_in_all);
        differences.extend(difference("rows", rows.0, rows.1));
        differences.extend(weights(first, part));
        if !differences.is_empty() {
            return Err(MergeError::Foreign {
                first: first.path.clone(),
                path: part.path.clone(),
                differences,
            });
        }
    }
    Ok(key)
}

fn difference(name: &str, was: u64, is: u64) -> Option<Difference> {
    (was != is).then(|| Difference {
        name: name.into(),
        was: Some(was.to_string()),
        is: Some(is.to_string()),
    })
}

/// The difference of the weights as they were read, where as many of them were.
fn weights(a: &Part, b: &Part) -> Option<Difference> {
    let of = |part: &Part, name: &str| part.manifest.json().get("weights")?.get(name).cloned();
    if of(a, "in_part") != of(b, "in_part") {
        return None;
    }
    let (was, is) = (of(a, "content"), of(b, "content"));
    let text = |value: Option<serde_json::Value>| value?.as_str().map(str::to_owned);
    (was != is).then(|| Difference {
        name: "weights".into(),
        was: text(was),
        is: text(is),
    })
}
