//! One file on its way into the cache.
//!
//! Whoever needs a piece fetches it, unless somebody does already; pieces are written where they belong, and a bit
//! beside the file says that they are there, so that the next process goes on from them. The sum of the file grows
//! with its beginning. What of another process is on its way is read as it arrives.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::arriving::{past, some};
use crate::bitmap::{Bitmap, PIECE};
use crate::client::Trouble;
use crate::disk::{open, read_at};
use crate::error::RemoteError;
use crate::lock::hold;
use crate::part::{Part, pieces_of};
use crate::shelf::Shelf;
use crate::store::{Entry, Store};
use crate::sums::{Growing, Sum};

/// Pieces of one request.
const RUN: usize = 64;
/// Files of fewer bytes are had whole, and compared with their sum, before anything of them is used.
const SMALL: u64 = 16 << 20;
/// How often the file of another process is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long another process may make no progress before a range is fetched past it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file on its way.
#[derive(Debug)]
pub(crate) struct Transfer {
    store: Arc<dyn Store>,
    shelf: Shelf,
    pub entry: Entry,
    state: Mutex<State>,
    changed: Condvar,
    /// Nobody wants it any more.
    stop: Arc<AtomicBool>,
    /// It is large, and threads fetch it whole.
    is_ahead: AtomicBool,
    /// The sum of its beginning, where there is one to compare it with.
    sum: Mutex<Option<Growing>>,
}

#[derive(Debug)]
struct State {
    place: Place,
    have: Bitmap,
    claimed: Bitmap,
    failed: Option<RemoteError>,
    /// It was whole once, and wrong.
    was_wrong: bool,
    /// Something of it was used before it was compared with its sum.
    used_early: bool,
}

/// Where its bytes are.
#[derive(Debug, Clone)]
enum Place {
    /// It is there.
    Whole(Arc<fs_err::File>),
    /// This process fetches it.
    Own(Arc<Part>),
    /// Another one does.
    Other,
}

/// The pieces that a worker is to fetch.
enum Claim {
    Fetch(Arc<Part>, Range<usize>),
    /// Others are at it.
    Wait,
    /// Nothing is missing.
    Nothing,
}

impl Transfer {
    /// Looks where the file is.
    pub fn new(
        store: Arc<dyn Store>,
        shelf: Shelf,
        entry: Entry,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, RemoteError> {
        let (have, sum) = (Bitmap::of(entry.size), begin_sum(&entry));
        let transfer = Self {
            state: Mutex::new(State {
                place: Place::Other,
                claimed: have.clone(),
                have,
                failed: None,
                was_wrong: false,
                used_early: false,
            }),
            store,
            shelf,
            entry,
            changed: Condvar::new(),
            stop,
            is_ahead: AtomicBool::new(false),
            sum: Mutex::new(sum),
        };
        transfer.look()?;
        if transfer.entry.size == 0 {
            transfer.complete()?;
        }
        Ok(transfer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        hold(&self.state)
    }

    /// Takes the file over where it is whole, or where nobody fetches it.
    fn look(&self) -> Result<(), RemoteError> {
        let mut state = self.lock();
        if !matches!(state.place, Place::Other) {
            return Ok(());
        }
        if let Some(path) = self.shelf.whole(&self.entry)? {
            state.place = Place::Whole(Arc::new(open(&path)?));
            return Ok(());
        }
        let Some(lock) = self.shelf.lock(&self.entry)? else {
            return Ok(());
        };
        // It may have become whole in between.
        if let Some(path) = self.shelf.whole(&self.entry)? {
            state.place = Place::Whole(Arc::new(open(&path)?));
            return Ok(());
        }
        let (part, have) = Part::go_on(&self.shelf, &self.entry, lock)?;
        state.have = have;
        state.place = Place::Own(Arc::new(part));
        Ok(())
    }

    /// Fills `out`, which lies within the file.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), RemoteError> {
        let range = offset..offset + out.len() as u64;
        if range.is_empty() {
            return Ok(());
        }
        let wanted = if self.entry.size <= SMALL {
            0..self.entry.size
        } else {
            range
        };
        loop {
            let place = {
                let mut state = self.lock();
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if matches!(state.place, Place::Own(_)) && self.entry.size > SMALL {
                    state.used_early = true;
                }
                state.place.clone()
            };
            match place {
                Place::Whole(file) => return read_at(&file, offset, out),
                // Who fetches ahead adds it up, too: not who reads the last of its bytes has to wait for its sum.
                Place::Own(own) if self.is_ahead.load(Ordering::Relaxed) => {
                    self.ensure_there(&wanted)?;
                    return read_at(own.file(), offset, out);
                }
                Place::Own(own) => {
                    self.ensure(&wanted)?;
                    // A small one became whole, or was wrong and is fetched anew.
                    if self.entry.size > SMALL {
                        return read_at(own.file(), offset, out);
                    }
                }
                Place::Other => {
                    if self.of_other(&wanted, offset, out)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits until another process has fetched a range; `false`: the file is in another place now.
    fn of_other(
        &self,
        wanted: &Range<u64>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<bool, RemoteError> {
        let mut seen = 0;
        let mut since = Instant::now();
        loop {
            self.look()?;
            if !matches!(self.lock().place, Place::Other) {
                return Ok(false);
            }
            for path in self.shelf.left(&self.entry)? {
                let Ok(file) = open(&path) else {
                    continue;
                };
                let Some(have) = pieces_of(&path, self.entry.size) else {
                    continue;
                };
                let whole = self.entry.size <= SMALL;
                if !whole && Bitmap::touched(wanted).all(|piece| have.has(piece)) {
                    self.lock().used_early = true;
                    read_at(&file, offset, out)?;
                    return Ok(true);
                }
                if have.count() != seen {
                    seen = have.count();
                    since = Instant::now();
                }
            }
            if since.elapsed() > PATIENCE {
                past(&*self.store, &self.entry, offset, out)?;
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Has all of a range, and the file whole and right where that was the last of it.
    fn ensure(&self, range: &Range<u64>) -> Result<(), RemoteError> {
        loop {
            self.ensure_there(range)?;
            // What was wrong is fetched anew.
            if self.complete()? {
                return Ok(());
            }
        }
    }

    /// Fetches what is missing of a range, and waits for what others fetch of it.
    fn ensure_there(&self, range: &Range<u64>) -> Result<(), RemoteError> {
        loop {
            match self.claim(range)? {
                Claim::Nothing => return Ok(()),
                Claim::Fetch(own, pieces) => self.fetch(&own, &pieces)?,
                Claim::Wait => {
                    let state = self.lock();
                    // A bound on the wait costs little, and no wake-up can be missed for good.
                    let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
                    drop(waited);
                }
            }
        }
    }

    /// Fetches more of a range, in order; `false`: nothing of it is left to begin.
    pub fn fetch_some(&self, range: &Range<u64>) -> Result<bool, RemoteError> {
        self.look()?;
        if matches!(self.lock().place, Place::Other) {
            return Ok(false);
        }
        match self.claim(range)? {
            Claim::Fetch(own, pieces) => {
                if let Err(error) = own.reserve() {
                    let size = self.entry.size;
                    let error = self.not_written(&own, &error, size - self.there());
                    self.unclaim(&pieces, Some(&error));
                    return Err(error);
                }
                self.fetch(&own, &pieces)?;
                Ok(true)
            }
            Claim::Nothing => {
                self.complete()?;
                Ok(false)
            }
            Claim::Wait => Ok(false),
        }
    }

    fn claim(&self, range: &Range<u64>) -> Result<Claim, RemoteError> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let Place::Own(own) = state.place.clone() else {
            return Ok(Claim::Nothing);
        };
        let touched = Bitmap::touched(range);
        let is_free =
            |state: &State, piece: usize| !state.have.has(piece) && !state.claimed.has(piece);
        let Some(first) = touched.clone().find(|piece| is_free(&state, *piece)) else {
            let is_there = touched.clone().all(|piece| state.have.has(piece));
            return Ok(if is_there {
                Claim::Nothing
            } else {
                Claim::Wait
            });
        };
        let run = (first..touched.end.min(first + RUN))
            .take_while(|piece| is_free(&state, *piece))
            .count();
        for piece in first..first + run {
            state.claimed.set(piece);
        }
        Ok(Claim::Fetch(own, first..first + run))
    }

    /// Fetches claimed pieces.
    fn fetch(&self, own: &Part, pieces: &Range<usize>) -> Result<(), RemoteError> {
        let fetched = self.fetch_pieces(own, pieces);
        self.unclaim(pieces, fetched.as_ref().err());
        fetched?;
        self.add_up(own, false)?;
        Ok(())
    }

    /// Claimed pieces are there, or never will be for this reason.
    fn unclaim(&self, pieces: &Range<usize>, failed: Option<&RemoteError>) {
        let mut state = self.lock();
        for piece in pieces.clone() {
            state.claimed.unset(piece);
        }
        if let Some(error) = failed {
            state.failed = Some(error.clone());
        }
        drop(state);
        self.changed.notify_all();
    }

    fn fetch_pieces(&self, own: &Part, pieces: &Range<usize>) -> Result<(), RemoteError> {
        let place = self.store.describe();
        let client = self.store.client();
        let mut waits = client.waits(&place);
        let end = (pieces.end as u64 * PIECE).min(self.entry.size);
        let mut buffer = vec![0; PIECE as usize];
        let (mut piece, mut filled) = (pieces.start, 0);
        while piece < pieces.end {
            let at = piece as u64 * PIECE + filled as u64;
            let before = (piece, filled);
            let tried = self
                .store
                .open(&self.entry, at..end)
                .and_then(|mut arriving| {
                    while piece < pieces.end {
                        if self.stop.load(Ordering::Relaxed) {
                            return Err(Trouble::Lasting(RemoteError::Network {
                                place: place.clone(),
                                problem: "the transfer was given up".into(),
                                hint: "run the same command again: it goes on where it was",
                            }));
                        }
                        let start = piece as u64 * PIECE;
                        let length = (self.entry.size - start).min(PIECE) as usize;
                        while filled < length {
                            let count = some(&mut arriving, &mut buffer[filled..length])?;
                            filled += count;
                            client.note_received(count as u64);
                        }
                        self.keep(own, piece, &buffer[..length])
                            .map_err(Trouble::Lasting)?;
                        (piece, filled) = (piece + 1, 0);
                    }
                    Ok(())
                });
            if (piece, filled) != before {
                waits.progress();
            }
            if let Err(trouble) = tried {
                waits.after(trouble)?;
            }
        }
        Ok(())
    }

    /// Writes a piece, and then that it is there.
    fn keep(&self, own: &Part, piece: usize, bytes: &[u8]) -> Result<(), RemoteError> {
        let missing = bytes.len() as u64;
        let failed = |error| self.not_written(own, &error, missing);
        own.write(piece, bytes).map_err(failed)?;
        let mut state = self.lock();
        let bit = state.have.set(piece);
        own.note(bit)?;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Why `missing` bytes could not be written, or no room be kept for them.
    fn not_written(&self, own: &Part, error: &io::Error, missing: u64) -> RemoteError {
        if error.kind() != io::ErrorKind::StorageFull {
            return RemoteError::disk(own.path(), error);
        }
        RemoteError::Full {
            folder: self.shelf.folder.clone(),
            place: self.store.describe(),
            needed: missing,
            free: self.shelf.free().unwrap_or(0),
            missing,
        }
    }

    /// Adds what has arrived to the sum, unless another thread is at it and `wait` is not asked for.
    fn add_up(&self, own: &Part, wait: bool) -> Result<(), RemoteError> {
        let mut sum = match (wait, self.sum.try_lock()) {
            (_, Ok(sum)) => sum,
            (true, Err(_)) => hold(&self.sum),
            (false, Err(_)) => return Ok(()),
        };
        let Some(sum) = sum.as_mut() else {
            return Ok(());
        };
        loop {
            let there = (self.lock().have.prefix() as u64 * PIECE).min(self.entry.size);
            if sum.upto() >= there {
                return Ok(());
            }
            sum.add_upto(there, |at, block| read_at(own.file(), at, block))?;
        }
    }

    /// Compares a file of which every piece is there with its sum, and puts it in its place; `false`: it was wrong.
    fn complete(&self) -> Result<bool, RemoteError> {
        let own = {
            let state = self.lock();
            match &state.place {
                Place::Own(own) if state.have.is_full() => Arc::clone(own),
                _ => return Ok(true),
            }
        };
        self.add_up(&own, true)?;
        let mut sum = hold(&self.sum);
        let mut state = self.lock();
        // Another thread may have been at it.
        if !matches!(state.place, Place::Own(_)) || !state.have.is_full() {
            return Ok(!matches!(state.place, Place::Own(_)));
        }
        let found = sum.take().map(Growing::finish);
        let is_right = self.entry.sum.as_ref().map(Sum::text) == found.as_deref();
        if is_right {
            let path = self.shelf.finish(&self.entry, own.path())?;
            state.place = Place::Whole(Arc::new(open(&path)?));
            drop(state);
            self.changed.notify_all();
            return Ok(true);
        }
        state.have.clear();
        own.keep_all(&state.have)?;
        *sum = begin_sum(&self.entry);
        if state.was_wrong {
            let error = RemoteError::Wrong {
                place: self.store.describe(),
                file: self.entry.path.clone(),
                problem:
                    "it arrived twice with bytes that do not add up to what the place says of it"
                        .into(),
            };
            state.failed = Some(error.clone());
            return Err(error);
        }
        state.was_wrong = true;
        let (place, file) = (self.store.describe(), &self.entry.path);
        tracing::warn!("{place}: `{file}` arrived with wrong bytes; it is fetched again");
        drop(state);
        self.changed.notify_all();
        Ok(false)
    }

    /// Has all of it, right. An error if something else was used before.
    pub fn settle(&self) -> Result<(), RemoteError> {
        if !self.lock().used_early {
            return Ok(());
        }
        self.whole()?;
        let state = self.lock();
        if state.was_wrong {
            return Err(RemoteError::Replaced {
                place: self.store.describe(),
                file: self.entry.path.clone(),
            });
        }
        Ok(())
    }

    /// Waits until all of it is there, and right.
    pub fn whole(&self) -> Result<(), RemoteError> {
        loop {
            self.look()?;
            let place = self.lock().place.clone();
            match place {
                Place::Whole(_) => return Ok(()),
                Place::Own(_) => self.ensure(&(0..self.entry.size))?,
                Place::Other => std::thread::sleep(LOOK),
            }
        }
    }

    /// Threads begin to fetch it whole.
    pub fn fetched_ahead(&self) {
        let is_large = self.entry.size > SMALL;
        self.is_ahead.store(is_large, Ordering::Relaxed);
    }

    /// Sends what has arrived to the disk; `false`: it is whole, or it failed.
    pub fn write_out(&self) -> bool {
        let place = self.lock().place.clone();
        match place {
            // Who needs it to be durable asks again, and hears of an error.
            Place::Own(own) => self.error().is_none() && own.file().sync_data().is_ok(),
            // It may stop, and this process go on with it.
            Place::Other => self.error().is_none(),
            Place::Whole(_) => false,
        }
    }

    /// Why nothing more of it comes.
    pub fn error(&self) -> Option<RemoteError> {
        self.lock().failed.clone()
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        matches!(self.lock().place, Place::Whole(_))
    }

    /// Bytes of it that are there.
    pub fn there(&self) -> u64 {
        let state = self.lock();
        match &state.place {
            Place::Whole(_) => self.entry.size,
            Place::Own(_) => (state.have.count() as u64 * PIECE).min(self.entry.size),
            Place::Other => 0,
        }
    }
}

/// The sum of none of its bytes.
fn begin_sum(entry: &Entry) -> Option<Growing> {
    let sum = entry.sum.as_ref()?;
    Some(Growing::begin(sum, entry.size))
}
