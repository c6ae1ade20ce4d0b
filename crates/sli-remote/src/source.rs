//! A place that is elsewhere as a [`ByteSource`].

use std::collections::HashMap;
use std::collections::btree_map::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sli_checkpoint::source::{Arrival, ByteSource, Failure, NamedRange, SourceError, check_name};

use crate::arriving::past;
use crate::bucket::Bucket;
use crate::cache::Cache;
use crate::client::{Client, Policy};
use crate::error::RemoteError;
use crate::hub::Hub;
use crate::location::Objects;
use crate::lock::hold;
use crate::repo::Repo;
use crate::settings::Settings;
use crate::shelf::Shelf;
use crate::store::{Entry, Store};
use crate::transfer::Transfer;
use crate::web::WebFolder;

/// Ranges that lie nearer to each other are fetched as one.
const GAP: u64 = 1 << 20;
/// Threads that fetch ahead.
const FETCHERS: usize = 3;
/// Room that is left on the disk of the cache, bytes.
const MARGIN: u64 = 64 << 20;
/// Files of fewer bytes are kept in memory where nothing is kept on a disk.
const SMALL: u64 = 4 << 20;
/// Lines that are open at most: threads that fetch ahead, and readers of weights.
const LINES: u64 = FETCHERS as u64 + 4;
/// Memory of one: a piece, buffers of the connection, and what is added to a sum at a time.
const LINE_BYTES: u64 = 2 << 20;
/// Memory of what is known of a file.
const ENTRY_BYTES: u64 = 1 << 10;
/// How often a thread looks whether there is something to fetch again.
const LOOK: Duration = Duration::from_millis(50);
/// How often what has arrived is sent to the disk.
const WRITE_OUT: Duration = Duration::from_secs(1);

/// What is kept of what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything, in the cache.
    Everything,
    /// Nothing: each range is fetched each time.
    Nothing,
}

/// How much has arrived of what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there.
    pub there: u64,
    /// Bytes that are wanted.
    pub wanted: u64,
    /// Bytes that arrived over the network, also twice.
    pub received: u64,
}

/// Files that are elsewhere.
pub struct RemoteSource {
    store: Arc<dyn Store>,
    /// Where they are kept.
    shelf: Option<Shelf>,
    transfers: Mutex<HashMap<String, Arc<Transfer>>>,
    /// Small files, where nothing is kept.
    small: Mutex<HashMap<String, Arc<Vec<u8>>>>,
    ahead: Mutex<Vec<JoinHandle<()>>>,
    stop: Arc<AtomicBool>,
    /// Files that are fetched ahead.
    wanted: Mutex<Vec<Arc<Transfer>>>,
}

impl std::fmt::Debug for RemoteSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RemoteSource({})", self.store.describe())
    }
}

impl RemoteSource {
    /// A repository of the hub; `warn` hears where it is not as the hub has it now.
    pub fn hub(
        settings: &Settings,
        policy: Policy,
        repo: Repo,
        revision: Option<&str>,
        keep: Keep,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Self, RemoteError> {
        let cache = Cache::new(settings);
        let client = Client::new(settings, policy);
        let hub = Hub::find(settings, client, &cache, repo, revision, warn)?;
        let shelf = cache.shelf(hub.repo(), hub.commit());
        Ok(Self::new(
            Arc::new(hub),
            (keep == Keep::Everything).then_some(shelf),
        ))
    }

    /// A folder behind HTTP; `kept` is the folder for such files.
    pub fn web(
        settings: &Settings,
        policy: Policy,
        folder: url::Url,
        keep: Keep,
        kept: &Path,
    ) -> Self {
        let folder = WebFolder::new(Client::new(settings, policy), folder);
        let shelf = Shelf::of_contents(kept.join(folder.key()), folder.describe());
        let shelf = (keep == Keep::Everything).then_some(shelf);
        Self::new(Arc::new(folder), shelf)
    }

    /// Objects of a bucket, and the path in them of what is meant; `kept` is the folder for such files.
    pub fn bucket(
        settings: &Settings,
        policy: Policy,
        objects: Objects,
        keep: Keep,
        kept: &Path,
    ) -> Result<(Self, String), RemoteError> {
        let (bucket, inner) = Bucket::find(Client::new(settings, policy), objects)?;
        let shelf = Shelf::of_contents(kept.join(bucket.key()), bucket.describe());
        let shelf = (keep == Keep::Everything).then_some(shelf);
        Ok((Self::new(Arc::new(bucket), shelf), inner))
    }

    fn new(store: Arc<dyn Store>, shelf: Option<Shelf>) -> Self {
        Self {
            store,
            shelf,
            transfers: Mutex::default(),
            small: Mutex::default(),
            ahead: Mutex::default(),
            stop: Arc::default(),
            wanted: Mutex::default(),
        }
    }

    /// Begins to fetch these files, in this order, and goes on until they are there or this is dropped. An error if the
    /// disk has no room for them.
    pub fn fetch_ahead(&self, files: &[String], first: &[NamedRange]) -> Result<(), RemoteError> {
        let Some(shelf) = &self.shelf else {
            return Ok(());
        };
        let mut transfers = Vec::new();
        for file in files {
            if let Some(entry) = self.store.entry(file)? {
                transfers.push(self.transfer(shelf, &entry)?);
            }
        }
        hold(&self.wanted).extend(transfers.iter().cloned());
        transfers.retain(|transfer| !transfer.is_whole());
        let needed = transfers
            .iter()
            .map(|transfer| transfer.entry.size - transfer.there())
            .sum::<u64>();
        if let Some(free) = shelf.free()
            && needed > 0
            && needed + MARGIN > free
        {
            return Err(RemoteError::Full {
                folder: shelf.folder.clone(),
                place: self.store.describe(),
                needed,
                free,
                missing: needed + MARGIN - free,
            });
        }
        if transfers.is_empty() {
            return Ok(());
        }
        for transfer in &transfers {
            transfer.fetched_ahead();
        }
        let named = |(file, range): &NamedRange| {
            let file = tidy(file);
            let of_it = |transfer: &&Arc<Transfer>| transfer.entry.path == file;
            let transfer = transfers.iter().find(of_it)?;
            Some((Arc::clone(transfer), range.clone()))
        };
        let first: Arc<[Piece]> = from_the_beginning(first.iter().filter_map(named)).into();
        let transfers: Arc<[Arc<Transfer>]> = transfers.into();
        for _ in 0..FETCHERS {
            let (transfers, first) = (Arc::clone(&transfers), Arc::clone(&first));
            let stop = Arc::clone(&self.stop);
            let thread = std::thread::spawn(move || fetch_all(&transfers, &first, &stop));
            hold(&self.ahead).push(thread);
        }
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::spawn(move || write_out(&transfers, &stop));
        hold(&self.ahead).push(thread);
        Ok(())
    }

    /// Waits until what is fetched ahead is there, and right; `watch` hears how far it is, and ends the wait with `false`,
    /// which is then the answer.
    pub fn wait(&self, watch: &mut dyn FnMut(Progress) -> bool) -> Result<bool, RemoteError> {
        let wanted: Vec<_> = hold(&self.wanted).clone();
        while wanted.iter().any(|transfer| !transfer.is_whole()) {
            if let Some(error) = wanted.iter().find_map(|transfer| transfer.error()) {
                return Err(error);
            }
            if !watch(self.progress()) {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        watch(self.progress());
        Ok(true)
    }

    /// How much of what is fetched ahead is there.
    pub fn progress(&self) -> Progress {
        let wanted = hold(&self.wanted);
        Progress {
            there: wanted.iter().map(|transfer| transfer.there()).sum(),
            wanted: wanted.iter().map(|transfer| transfer.entry.size).sum(),
            received: self.store.client().received(),
        }
    }

    /// How many files are fetched ahead.
    pub fn wanted_files(&self) -> usize {
        hold(&self.wanted).len()
    }

    /// Its files with their sizes, where it can say.
    pub fn files(&self) -> Option<Vec<(String, u64)>> {
        let entries = self.store.entries()?;
        Some(
            entries
                .values()
                .map(|entry| (entry.path.clone(), entry.size))
                .collect(),
        )
    }

    /// Bytes of these files that are still to be fetched, once each; of files that are partly there all.
    pub fn missing(&self, files: &[String]) -> Result<u64, RemoteError> {
        let mut bytes = 0;
        for file in files {
            let Some(entry) = self.store.entry(&tidy(file))? else {
                continue;
            };
            let is_there = match &self.shelf {
                Some(shelf) => shelf.whole(&entry)?.is_some(),
                None => false,
            };
            if !is_there {
                bytes += entry.size;
            }
        }
        Ok(bytes)
    }

    /// Where on this machine a file is that was fetched.
    pub fn path_of(&self, file: &str) -> Result<PathBuf, SourceError> {
        let entry = self.entry(file)?;
        let path = match &self.shelf {
            Some(shelf) => shelf.whole(&entry).map_err(|error| failed(file, &error))?,
            None => None,
        };
        path.ok_or_else(|| SourceError::NotFound {
            file: file.to_owned(),
            place: self.describe(),
        })
    }

    /// The folder of this machine that holds what is kept.
    pub fn kept_in(&self) -> Option<PathBuf> {
        Some(self.shelf.as_ref()?.folder.clone())
    }

    fn transfer(&self, shelf: &Shelf, entry: &Entry) -> Result<Arc<Transfer>, RemoteError> {
        let mut transfers = hold(&self.transfers);
        if let Some(transfer) = transfers.get(&entry.path) {
            return Ok(Arc::clone(transfer));
        }
        let (store, stop) = (Arc::clone(&self.store), Arc::clone(&self.stop));
        let transfer = Transfer::new(store, shelf.clone(), entry.clone(), stop)?;
        let transfer = Arc::new(transfer);
        transfers.insert(entry.path.clone(), Arc::clone(&transfer));
        Ok(transfer)
    }

    fn entry(&self, file: &str) -> Result<Entry, SourceError> {
        check_name(file, || self.describe())?;
        let entry = self
            .store
            .entry(&tidy(file))
            .map_err(|error| failed(file, &error))?;
        entry.ok_or_else(|| SourceError::NotFound {
            file: file.to_owned(),
            place: self.describe(),
        })
    }

    /// A range of a file of which nothing is kept on a disk.
    fn stream(&self, entry: &Entry, offset: u64, out: &mut [u8]) -> Result<(), RemoteError> {
        if entry.size > SMALL {
            return past(&*self.store, entry, offset, out);
        }
        let known = hold(&self.small).get(&entry.path).cloned();
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                let mut bytes = vec![0; entry.size as usize];
                past(&*self.store, entry, 0, &mut bytes)?;
                let bytes = Arc::new(bytes);
                hold(&self.small).insert(entry.path.clone(), Arc::clone(&bytes));
                bytes
            }
        };
        let start = offset as usize;
        out.copy_from_slice(&bytes[start..start + out.len()]);
        Ok(())
    }
}

impl Drop for RemoteSource {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in hold(&self.ahead).drain(..) {
            thread.thread().unpark();
            // It ends at its next piece; what failed in it has been said.
            let _ = thread.join();
        }
    }
}

/// A file and bytes of it that are needed before the rest.
type Piece = (Arc<Transfer>, Range<u64>);

/// The same with the beginning of each file early, where that is short: its sum can only follow what has arrived from the
/// beginning on, and would have to go through all of a file whose first tensor is needed last. As much as it has bytes comes
/// before it, so that there is something to compute meanwhile.
fn from_the_beginning(pieces: impl Iterator<Item = Piece>) -> Vec<Piece> {
    /// Part of a file that is short.
    const SHORT: u64 = 8;
    let mut ordered: Vec<Piece> = Vec::new();
    // Where the first piece of each file begins, and bytes of it that come before its beginning.
    let mut begun: Vec<(Arc<Transfer>, u64, u64)> = Vec::new();
    for (transfer, range) in pieces {
        let known = begun
            .iter()
            .position(|(known, ..)| Arc::ptr_eq(known, &transfer));
        let at = known.unwrap_or_else(|| {
            begun.push((Arc::clone(&transfer), range.start, 0));
            begun.len() - 1
        });
        let (_, start, before) = &mut begun[at];
        let missed = *before <= *start;
        *before += range.end - range.start;
        let is_due = missed && *before > *start;
        ordered.push((Arc::clone(&transfer), range));
        if is_due && *start <= transfer.entry.size / SHORT {
            ordered.push((transfer, 0..*start));
        }
    }
    ordered
}

/// Fetches what is needed first, then files one after another, together with others that do the same.
fn fetch_all(transfers: &[Arc<Transfer>], first: &[Piece], stop: &AtomicBool) {
    for (transfer, range) in first {
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match transfer.fetch_some(range) {
                Ok(true) => {}
                Ok(false) => break,
                // Who reads of it hears of it.
                Err(_) => return,
            }
        }
    }
    loop {
        let mut all_whole = true;
        for transfer in transfers {
            loop {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                match transfer.fetch_some(&(0..transfer.entry.size)) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // Who reads of it hears of it.
                    Err(_) => return,
                }
            }
            all_whole &= transfer.is_whole();
        }
        if all_whole {
            return;
        }
        // Others are at it, in this process or another.
        std::thread::sleep(LOOK);
    }
}

/// Sends what has arrived to the disk from time to time. Else gigabytes of it are in memory alone when the last byte is here, and
/// the first small file that has to be durable waits for all of them.
fn write_out(transfers: &[Arc<Transfer>], stop: &AtomicBool) {
    let mut last = Instant::now();
    loop {
        // Who drops the source wakes it.
        std::thread::park_timeout(WRITE_OUT);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if last.elapsed() >= WRITE_OUT {
            let more = transfers.iter().filter(|transfer| transfer.write_out());
            if more.count() == 0 {
                return;
            }
            last = Instant::now();
        }
    }
}

/// As the readers of sources know it.
fn failed(file: &str, error: &RemoteError) -> SourceError {
    SourceError::Elsewhere {
        file: file.to_owned(),
        problem: error.to_string(),
        hint: error.hint().to_owned(),
        kind: match error {
            RemoteError::Replaced { .. } => Failure::Replaced,
            error if error.is_refusal() => Failure::Refused,
            _ => Failure::Broken,
        },
    }
}

/// A name without parts that lead nowhere.
fn tidy(file: &str) -> String {
    let parts = file
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// The files directly in a folder of a list.
fn listed(entries: &BTreeMap<String, Entry>, folder: &str) -> Option<Vec<String>> {
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{}/", tidy(folder))
    };
    let mut inside = entries
        .keys()
        .filter_map(|path| path.strip_prefix(&prefix))
        .peekable();
    if !folder.is_empty() {
        inside.peek()?;
    }
    Some(
        inside
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect(),
    )
}

impl ByteSource for RemoteSource {
    fn list(&self, folder: &str) -> Result<Vec<String>, SourceError> {
        if !folder.is_empty() {
            check_name(folder, || self.describe())?;
        }
        let Some(entries) = self.store.entries() else {
            return Ok(Vec::new());
        };
        listed(entries, folder).ok_or_else(|| SourceError::NotFound {
            file: folder.to_owned(),
            place: self.describe(),
        })
    }

    fn len(&self, file: &str) -> Result<u64, SourceError> {
        Ok(self.entry(file)?.size)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let entry = self.entry(file)?;
        let is_inside = offset
            .checked_add(out.len() as u64)
            .is_some_and(|end| end <= entry.size);
        if !is_inside {
            return Err(SourceError::PastEnd {
                file: file.to_owned(),
                place: self.describe(),
                offset,
                wanted: out.len() as u64,
                size: entry.size,
            });
        }
        if out.is_empty() {
            return Ok(());
        }
        let read = match &self.shelf {
            Some(shelf) => self
                .transfer(shelf, &entry)
                .and_then(|transfer| transfer.read_at(offset, out)),
            None => self.stream(&entry, offset, out),
        };
        read.map_err(|error| failed(file, &error))
    }

    fn gap(&self) -> u64 {
        GAP
    }

    fn fetch_ahead(&self, files: &[String], first: &[NamedRange]) -> Result<(), SourceError> {
        Self::fetch_ahead(self, files, first).map_err(|error| failed("", &error))
    }

    fn arrival(&self) -> Arrival {
        match self.shelf {
            Some(_) => Arrival::Once,
            None => Arrival::EachTime,
        }
    }

    fn received(&self) -> u64 {
        self.store.client().received()
    }

    fn memory(&self) -> u64 {
        let files = self.store.entries().map_or(0, BTreeMap::len) as u64;
        LINES * LINE_BYTES + files * ENTRY_BYTES
    }

    fn content_id(&self, file: &str) -> Option<String> {
        let entry = self.entry(file).ok()?;
        entry.is_content.then_some(entry.etag)
    }

    fn settle(&self) -> Result<(), SourceError> {
        let transfers: Vec<_> = hold(&self.transfers).values().cloned().collect();
        for transfer in transfers {
            let settled = transfer.settle();
            settled.map_err(|error| failed(&transfer.entry.path, &error))?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}
