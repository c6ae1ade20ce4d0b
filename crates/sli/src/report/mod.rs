//! `report.html`: what a run found, as a page that a browser shows without anything else.
//!
//! A page has one part for each thing that the results hold: the run itself (`run.json`), scores (`scores.parquet`), activations by
//! stack (`profile.parquet`, `channels.parquet`), experts (`experts.parquet`), and of a comparison drift by stack (`drift.parquet`) and the
//! distributions at the end (`divergence.parquet`). Tables are read a few rows at a time, whatever their size. Charts are SVG and take their
//! colours from the page, which follows the reader's choice of light or dark; nothing needs a script, which only sorts tables.

mod chart;
mod drift;
pub mod error;
mod markup;
mod page;
mod positions;
mod profile;
mod run;
mod scale;
mod scores;
mod tables;
mod worst;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::appearing::{appear, is_taken};
use error::ReportError;
use page::Section;

/// The name of the page in a folder of results.
pub const FILE: &str = "report.html";

/// Makes the page of a folder of results and writes it there, or to another place; says where it is.
pub fn write(folder: &Path, to: Option<&Path>) -> Result<PathBuf, ReportError> {
    let path = to.map_or_else(|| folder.join(FILE), Path::to_owned);
    if is_taken(&path, page::BEGIN) {
        return Err(ReportError::Taken { path });
    }
    let html = html(folder)?;
    let failed = |source| ReportError::File {
        what: "the report cannot be written",
        path: path.clone(),
        source,
    };
    appear(&path, html.as_bytes()).map_err(failed)?;
    Ok(path)
}

fn html(folder: &Path) -> Result<String, ReportError> {
    let path = folder.join("run.json");
    let text = match fs_err::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReportError::Unfinished {
                folder: folder.to_owned(),
            });
        }
        text => text.map_err(|error| ReportError::unread(&path, error))?,
    };
    let manifest: Value = serde_json::from_slice(&text)
        .map_err(|error| ReportError::damaged(&path, format!("it is no run.json: {error}")))?;
    let files = manifest.get("files").and_then(Value::as_array);
    let files = files.ok_or_else(|| ReportError::damaged(&path, "it lists no files".into()))?;
    let has = |name: &str| {
        files
            .iter()
            .any(|file| file.get("name").and_then(Value::as_str) == Some(name))
    };
    let mut sections: Vec<Section> = Vec::new();
    sections.push(run::summary(&manifest));
    if has("scores.parquet") {
        sections.push(scores::section(&folder.join("scores.parquet"))?);
    }
    if has("divergence.parquet") {
        let path = folder.join("divergence.parquet");
        sections.push(drift::divergence(&path, &manifest)?);
    }
    if has("drift.parquet") {
        sections.extend(drift::sections(&folder.join("drift.parquet"))?);
    }
    if has("profile.parquet") {
        sections.extend(profile::sections(folder, has("channels.parquet"))?);
    }
    if has("experts.parquet") {
        sections.extend(profile::expert_sections(&folder.join("experts.parquet"))?);
    }
    sections.push(run::details(&manifest));
    Ok(page::page(
        &title(folder),
        &subtitle(&manifest),
        &sections,
        &run::foot(&manifest),
    ))
}

/// The name of the folder, also where it was given as `.`.
fn title(folder: &Path) -> String {
    let whole = fs_err::canonicalize(folder);
    let whole = whole.unwrap_or_else(|_| folder.to_owned());
    let name = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "results".into())
}

fn subtitle(manifest: &Value) -> String {
    let takes = manifest
        .get("key")
        .and_then(|key| key.get("takes")?.as_str());
    let weights = manifest
        .get("weights")
        .and_then(|weights| weights.get("files")?.as_array());
    let weights = weights.and_then(|files| files.first()?.as_str());
    let parts = [
        takes.map(|takes| takes.replace(' ', ", ")),
        weights.map(str::to_owned),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
