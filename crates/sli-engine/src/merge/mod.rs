//! The results of all parts of a dataset become those of one run over all of it, byte for byte.
//!
//! A part's folder has the results of its records, and where these are statistics what they are made of. Tables and
//! tensors are those of the parts one after the other, cut anew into row groups and files as one run cuts them;
//! statistics are added up by [`crate::pairwise`]. The output folder lives as that of a run does: killed at any
//! moment, the same merge goes on with the file that it was at.

mod error;
mod manifest;
mod parts;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use self::error::MergeError;
use self::manifest::merged;
use self::parts::Parts;
use crate::hessian;
use crate::imatrix::{self, About, LayerSums, Place};
use crate::journal::{JournalError, Manifest, Opened, OutputFolder};
use crate::profile::{ACCUMULATORS, Profile};
use crate::results::{
    CHANNELS, EXPERTS, PROFILE, ResultsError, join_tables, join_tensors, name_of_file,
};

/// What a merge came to.
pub enum Merged {
    /// The results are there.
    Done(Manifest),
    /// They were before.
    Finished(Manifest),
}

/// Makes of the folders of all parts of a dataset, in any order, the one of a run over all of it. `fresh` discards what is in
/// `out`.
pub fn merge(folders: &[PathBuf], out: &Path, fresh: bool) -> Result<Merged, MergeError> {
    for folder in folders {
        if is_same(folder, out) {
            return Err(MergeError::Same(out.to_owned()));
        }
    }
    let parts = Parts::find(folders)?;
    let opened = OutputFolder::open_merge(out, &parts.key, parts.all.len(), fresh)?;
    let mut folder = match opened {
        Opened::Finished(manifest) => return Ok(Merged::Finished(manifest)),
        Opened::New(folder) | Opened::Resumed(folder) => folder,
    };
    match results(&parts, &mut folder) {
        Ok(()) => {}
        Err(MergeError::Results(error @ ResultsError::Damaged { .. })) => {
            // What was made of a damaged file must not be gone on with.
            folder.discard()?;
            return Err(error.into());
        }
        Err(error) => return Err(error),
    }
    folder.settle(parts.key.clone());
    let manifest = folder.finish(merged(&parts))?;
    Ok(Merged::Done(manifest))
}

/// Whether two paths lead to one folder.
fn is_same(a: &Path, b: &Path) -> bool {
    let (a, b) = (fs_err::canonicalize(a), fs_err::canonicalize(b));
    a.is_ok_and(|a| b.is_ok_and(|b| a == b))
}

/// Writes every result.
fn results(parts: &Parts, folder: &mut OutputFolder) -> Result<(), MergeError> {
    let all = parts.all.iter().flat_map(|part| part.manifest.files());
    let names: BTreeSet<&str> = all.map(|file| file.name.as_str()).collect();
    let tensors = names.iter().filter(|name| !hessian::is_result(name));
    let tensors: BTreeSet<&str> = tensors.filter_map(|name| name_of_file(name)).collect();
    for name in tensors {
        join_tensors(folder, name, &parts.tensors(name)?)?;
    }
    let own = [PROFILE, CHANNELS, EXPERTS];
    for name in names {
        if name.ends_with(".parquet") && !own.contains(&name) {
            join_tables(folder, name, &parts.files(name)?)?;
        } else if name == ACCUMULATORS {
            profile(parts, folder)?;
        } else if name == imatrix::ACCUMULATORS {
            matrices(parts, folder)?;
        } else if let Some(result) = hessian::result_of(name) {
            hessian::join(folder, &result, &parts.files(name)?)?;
        }
    }
    Ok(())
}

/// Writes the statistics of what all parts accumulated.
fn profile(parts: &Parts, folder: &mut OutputFolder) -> Result<(), MergeError> {
    let mut all: Option<(Profile, Vec<String>)> = None;
    for file in parts.files(ACCUMULATORS)? {
        file.check()?;
        let bytes = fs_err::read(&file.path).map_err(JournalError::from)?;
        let read = Profile::of_published(&bytes);
        let read = read.filter(|(_, stacks)| all.as_ref().is_none_or(|(_, own)| own == stacks));
        let (part, stacks) = read.ok_or_else(|| ResultsError::Damaged {
            path: file.path,
            problem: "these are no accumulators of this model".into(),
        })?;
        match &mut all {
            None => all = Some((part, stacks)),
            Some((profile, _)) => profile.follow(part),
        }
    }
    if let Some((profile, stacks)) = all {
        let stacks: Vec<&str> = stacks.iter().map(String::as_str).collect();
        profile.finish(&stacks, folder)?;
    }
    Ok(())
}

/// Writes the sums of what entered the matrices in all parts.
fn matrices(parts: &Parts, folder: &mut OutputFolder) -> Result<(), MergeError> {
    let mut all = Vec::new();
    for file in parts.files(imatrix::ACCUMULATORS)? {
        file.check()?;
        let damaged = ResultsError::Damaged {
            path: file.path.clone(),
            problem: "these are no sums of this model".into(),
        };
        let part = imatrix::Part::open(&file.path).map_err(ResultsError::from)?;
        let Some(part) = part else {
            return Err(damaged.into());
        };
        all.push((part, file));
    }
    let about = About {
        datasets: all
            .first()
            .map_or_else(Vec::new, |(part, _)| part.about.datasets.clone()),
        records: all.iter().map(|(part, _)| part.about.records).sum(),
        longest: all
            .iter()
            .map(|(part, _)| part.about.longest)
            .max()
            .unwrap_or(0),
    };
    let places: BTreeSet<Place> = all
        .iter()
        .flat_map(|(part, _)| part.layers.keys().copied())
        .collect();
    let places: Vec<Place> = places.into_iter().collect();
    let load = |place| {
        let mut sums = LayerSums::default();
        for (part, file) in &mut all {
            let more = part.layer(place)?;
            if !more.is_some_and(|more| sums.add(more)) {
                return Err(ResultsError::Damaged {
                    path: file.path.clone(),
                    problem: "these are no sums of this model".into(),
                });
            }
        }
        Ok(sums)
    };
    imatrix::write(folder, &about, &places, load)?;
    Ok(())
}
