//! `sli cache`: what is kept of places that are elsewhere.

use sli_engine::bytes::human;
use sli_remote::{Cache, CachedFile, FileState, Location, Places, Repo, Settings};

use super::table::table;
use crate::cli::{CacheArgs, CacheCommand};
use crate::error::Error;
use crate::{place, terminal};

/// Lists, adds up or removes.
pub fn cache(arguments: &CacheArgs) -> Result<(), Error> {
    let settings = Settings::from_env()?;
    let cache = Cache::new(&settings);
    let others = place::KINDS.map(|kind| Places::new(place::kept(&settings, kind)));
    match &arguments.command {
        None | Some(CacheCommand::List) => list(&cache, &others, arguments.json),
        Some(CacheCommand::Verify { ids }) => verify(&cache, ids, arguments.json),
        Some(CacheCommand::Remove { ids }) => remove(&cache, &others, ids),
    }
}

fn list(cache: &Cache, others: &[Places], json: bool) -> Result<(), Error> {
    let mut repos = cache.repos()?;
    for places in others {
        repos.extend(places.all()?);
    }
    if json {
        return terminal::print_json(&repos);
    }
    if repos.is_empty() {
        return terminal::print(&format!("{} is empty\n", cache.root().display()));
    }
    let rows: Vec<[String; 3]> = repos
        .iter()
        .map(|repo| {
            let on_the_way = match repo.incomplete {
                0 => String::new(),
                more => format!(", {more} on their way"),
            };
            let commits = match repo.commits.len() {
                0 => String::new(),
                more => format!(", {more} commits"),
            };
            let files = format!("{} files{on_the_way}{commits}", repo.files);
            [repo.id.clone(), human(repo.bytes), files]
        })
        .collect();
    let all = repos.iter().map(|repo| repo.bytes).sum();
    terminal::print(&format!(
        "{}{} in all; repositories are in {}\n",
        table(&rows),
        human(all),
        cache.root().display()
    ))
}

fn verify(cache: &Cache, ids: &[String], json: bool) -> Result<(), Error> {
    let repos = match ids {
        [] => cache.repos()?.into_iter().map(|repo| repo.id).collect(),
        ids => ids.to_vec(),
    };
    let mut seen: Vec<CachedFile> = Vec::new();
    for id in repos {
        cache.verify(&repo(&id)?, |file| {
            if file.state == FileState::Wrong {
                terminal::warn(format_args!(
                    "{} does not add up to its name",
                    file.path.display()
                ));
            }
            seen.push(file);
        })?;
    }
    let count = |state: FileState| seen.iter().filter(|file| file.state == state).count();
    let (right, wrong, unknown) = (
        count(FileState::Right),
        count(FileState::Wrong),
        count(FileState::Unknown),
    );
    if json {
        terminal::print_json(&seen)?;
    } else {
        terminal::print(&format!(
            "{right} files are right, {wrong} wrong, {unknown} have no sum\n"
        ))?;
    }
    if wrong > 0 {
        return Err(Error::Damaged { files: wrong });
    }
    Ok(())
}

fn remove(cache: &Cache, others: &[Places], ids: &[String]) -> Result<(), Error> {
    for id in ids {
        let mut is_removed = false;
        for places in others {
            is_removed |= places.remove(id)?;
        }
        if !is_removed && !cache.remove(&repo(id)?)? {
            return Err(Error::Usage {
                problem: format!("`{id}` is not in the cache, or another process is at work on it"),
                hint: "`sli cache` lists what is there".into(),
            });
        }
        terminal::say(&format!("{} {id}", terminal::bold("removed ")));
    }
    Ok(())
}

fn repo(id: &str) -> Result<Repo, Error> {
    let text = if id.contains("://") {
        id.to_owned()
    } else {
        format!("hf://{id}")
    };
    match Location::parse(&text)? {
        Some(Location::Hub { repo, .. }) => Ok(repo),
        _ => Err(Error::Usage {
            problem: format!("`{id}` is no id of a repository"),
            hint: "`sli cache` lists what is there".into(),
        }),
    }
}
