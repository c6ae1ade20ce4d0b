//! `--take profile`: statistics of the hidden states, of what every branch adds to them, and of the
//! experts' loads. Tokens are folded in input order, whatever runs together; a row that several records
//! pass through counts for each of them. What is accumulated of some records and of those that come after them
//! gives together what one run over all of them does ([`Profile::follow`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use sli_kernels::{Kernels, Mat, MatRef};
use sli_spec::Site;

use crate::durable::DiskError;
use crate::exact_sum::ExactSum;
use crate::exec::batch::Batch;
use crate::exec::{Rows, Slots};
use crate::journal::OutputFolder;
use crate::results::{
    ChannelsRow, ExpertRow, ProfileRow, ResultsError, write_channels, write_experts, write_profile,
};
use crate::stats::{Channels, Histogram, RowStats, SiteStats};

/// Stack, boundary (of branches: the layer, counted from 1), site, and which of the layer's outputs: they
/// are folded one by one, since all rows of one come before those of the next only within a
/// super-batch.
type SiteKey = (usize, usize, Site, usize);

/// Tokens and summed weights of every expert of a layer, by stack and layer (counted from 1).
type Loads = BTreeMap<(usize, usize), Vec<(u64, ExactSum)>>;

/// What the accumulators are called in a checkpoint.
pub(crate) const BLOB: &str = "profile";

/// The file of the accumulators beside the results of a part of a dataset.
pub(crate) const ACCUMULATORS: &str = "profile.accumulators";

/// How such a file begins.
const MAGIC: &[u8] = b"sli profile 2\n";

/// What was seen of the rows of a batch, to be folded when it is complete.
#[derive(Default)]
struct Seen {
    rows: Vec<RowStats>,
    histogram: Histogram,
    channels: Channels,
}

/// How often the rows of a batch count, where that is not once.
fn passes(batch: &Batch) -> Option<Vec<u64>> {
    (!batch.is_plain()).then(|| batch.passes())
}

impl Seen {
    /// Looks at the rows that follow; `passes` says how often each counts.
    fn add(
        &mut self,
        kernels: &Kernels,
        x: MatRef<'_>,
        previous: Option<MatRef<'_>>,
        passes: Option<&[u64]>,
    ) {
        let blocks = map_rows(kernels, x.rows(), |range| {
            let mut histogram = Histogram::default();
            let mut channels = Channels::default();
            let rows: Vec<RowStats> = range
                .map(|row| {
                    channels.add(x.row(row));
                    histogram.add_times(x.row(row), passes.map_or(1, |passes| passes[row]));
                    match &previous {
                        Some(previous) => RowStats::with_previous(x.row(row), previous.row(row)),
                        None => RowStats::of(x.row(row)),
                    }
                })
                .collect();
            (rows, histogram, channels)
        });
        self.rows.reserve_exact(x.rows());
        for (rows, histogram, channels) in blocks {
            self.rows.extend(rows);
            self.histogram.merge(&histogram);
            self.channels.merge(&channels);
        }
    }
}

/// The outputs of a phase's branches, chunk by chunk. Chunks come in the order of rows.
#[derive(Default)]
pub(crate) struct BranchOutputs {
    /// In the order of the steps.
    all: Vec<(Site, Seen)>,
    /// Branches of the chunk so far.
    done: usize,
    passes: Option<Vec<u64>>,
}

impl BranchOutputs {
    /// Another chunk begins.
    pub fn next_chunk(&mut self) {
        self.done = 0;
    }

    /// The output of the chunk's next branch.
    pub fn add(&mut self, kernels: &Kernels, site: Site, rows: Rows<'_>, output: MatRef<'_>) {
        let place = self.done;
        self.done += 1;
        if place == self.all.len() {
            if place == 0 {
                self.passes = passes(rows.batch);
            }
            let mut seen = Seen::default();
            seen.rows.reserve_exact(rows.batch.rows());
            self.all.push((site, seen));
        }
        let passes = self.passes.as_deref();
        let passes = passes.map(|passes| &passes[rows.chunk.rows.clone()]);
        let (known, seen) = &mut self.all[place];
        debug_assert_eq!(*known, site, "every chunk has the same branches");
        seen.add(kernels, output, None, passes);
    }
}

/// Runs `f` on every block of rows in parallel and returns the results in row order.
pub(crate) fn map_rows<T: Send>(
    kernels: &Kernels,
    rows: usize,
    f: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let found = Mutex::new(BTreeMap::new());
    kernels.parallel_rows(rows, 32, |range| {
        let start = range.start;
        let value = f(range);
        found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(start, value);
    });
    found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_values()
        .collect()
}

/// The accumulators.
#[derive(Default)]
pub(crate) struct Profile {
    sites: BTreeMap<SiteKey, SiteStats>,
    loads: Loads,
}

impl Profile {
    /// New accumulators, or those of the checkpoint of a folder.
    pub fn open(folder: &OutputFolder) -> Result<Self, ResultsError> {
        match folder.load_blob(BLOB)? {
            None => Ok(Self::default()),
            Some(bytes) => Self::from_bytes(&bytes).ok_or_else(|| ResultsError::Damaged {
                path: folder.work_dir().join("buffers").join(BLOB),
                problem: "the saved statistics are damaged".into(),
            }),
        }
    }

    /// The hidden state of a super-batch at a boundary of a stack.
    pub fn boundary(
        &mut self,
        kernels: &Kernels,
        (stack, index): (usize, usize),
        batch: &Batch,
        slots: &Slots,
    ) {
        let previous = slots.before.as_ref().filter(|_| index > 0).map(Mat::view);
        let hidden = &slots.hidden;
        let passes = passes(batch);
        let mut seen = Seen::default();
        let weights = passes.as_deref();
        seen.add(kernels, hidden.view(), previous, weights);
        self.fold((stack, index, Site::Hidden, 0), batch, &seen);
    }

    /// The outputs of the branches of a phase of a layer, of all rows of a batch; `shown` come before
    /// them in the layer.
    pub fn branches(
        &mut self,
        (stack, layer, shown): (usize, usize, usize),
        batch: &Batch,
        outputs: BranchOutputs,
    ) {
        for (output, (site, seen)) in (shown..).zip(outputs.all) {
            self.fold((stack, layer, site, output), batch, &seen);
        }
    }

    fn fold(&mut self, key: SiteKey, batch: &Batch, seen: &Seen) {
        let stats = self.sites.entry(key).or_default();
        for record in &batch.records {
            for run in batch.path(record) {
                for row in &seen.rows[run] {
                    stats.fold(record.row, row);
                }
            }
        }
        stats.merge_histogram(&seen.histogram);
        stats.merge_channels(&seen.channels);
    }

    /// The choices of a super-batch in one layer: `top_k` a row of `count` experts.
    pub fn routed(
        &mut self,
        key: (usize, usize),
        batch: &Batch,
        (top_k, count): (usize, usize),
        experts: &[u32],
        weights: &[f32],
    ) {
        let loads = self
            .loads
            .entry(key)
            .or_insert_with(|| vec![(0, ExactSum::default()); count]);
        for run in batch.records.iter().flat_map(|record| batch.path(record)) {
            let places = run.start * top_k..run.end * top_k;
            for (&expert, &weight) in experts[places.clone()].iter().zip(&weights[places]) {
                let load = &mut loads[expert as usize];
                load.0 += 1;
                load.1.add(weight);
            }
        }
    }

    /// Takes what was accumulated of the records that come next in the input.
    pub fn follow(&mut self, next: Self) {
        for (key, stats) in next.sites {
            self.sites.entry(key).or_default().follow(&stats);
        }
        for (key, loads) in next.loads {
            let none = || vec![(0, ExactSum::default()); loads.len()];
            let own = self.loads.entry(key).or_insert_with(none);
            for (own, more) in own.iter_mut().zip(&loads) {
                own.0 += more.0;
                own.1.add_sum(&more.1);
            }
        }
    }

    /// Writes the accumulators, so that those of other records can follow them. `stacks`: their names.
    pub fn publish(&self, stacks: &[&str], folder: &mut OutputFolder) -> Result<(), ResultsError> {
        folder.publish_new(ACCUMULATORS, |mut writer| {
            let names = stacks.join("\n");
            let mut write = |bytes: &[u8]| writer.write_all(bytes).map_err(DiskError::from);
            write(MAGIC)?;
            write(&(names.len() as u64).to_le_bytes())?;
            write(names.as_bytes())?;
            write(&self.to_bytes())?;
            Ok(writer)
        })
    }

    /// Of the bytes that [`Self::publish`] wrote, with the names of the stacks; `None` if they are not from there.
    pub fn of_published(bytes: &[u8]) -> Option<(Self, Vec<String>)> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let (names, rest) = rest.split_at_checked(length)?;
        let names = std::str::from_utf8(names).ok()?;
        Some((
            Self::from_bytes(rest)?,
            names.split('\n').map(str::to_owned).collect(),
        ))
    }

    /// Writes `profile.parquet`, `channels.parquet` and, where there are experts, `experts.parquet`. `stacks`: their names.
    pub fn finish(self, stacks: &[&str], folder: &mut OutputFolder) -> Result<(), ResultsError> {
        let mut sites: BTreeMap<(usize, usize, Site), SiteStats> = BTreeMap::new();
        for ((stack, layer, site, _), stats) in self.sites {
            match sites.entry((stack, layer, site)) {
                Entry::Vacant(place) => {
                    place.insert(stats);
                }
                Entry::Occupied(mut before) => before.get_mut().followed_by(&stats),
            }
        }
        let rows = sites.iter().flat_map(|(&(stack, layer, site), stats)| {
            let values = stats.finish();
            values
                .into_iter()
                .map(move |(statistic, value)| ProfileRow {
                    stack: stacks[stack],
                    layer: layer as u32,
                    site: site.name(),
                    statistic,
                    value,
                })
        });
        let routing = self.loads.iter().flat_map(|(&(stack, layer), loads)| {
            routing(loads)
                .into_iter()
                .map(move |(statistic, value)| ProfileRow {
                    stack: stacks[stack],
                    layer: layer as u32,
                    site: "router",
                    statistic,
                    value,
                })
        });
        write_profile(folder, rows.chain(routing))?;
        let channels = sites
            .iter()
            .map(|(&(stack, layer, site), stats)| ChannelsRow {
                stack: stacks[stack],
                layer: layer as u32,
                site: site.name(),
                abs_max: stats.channels(),
            });
        write_channels(folder, channels)?;
        if !self.loads.is_empty() {
            let rows = self.loads.iter().flat_map(|(&(stack, layer), loads)| {
                (0..)
                    .zip(loads)
                    .map(move |(expert, (tokens, weights))| ExpertRow {
                        stack: stacks[stack],
                        layer: layer as u32,
                        expert,
                        tokens: *tokens,
                        weight_sum: weights.value(),
                    })
            });
            write_experts(folder, rows)?;
        }
        Ok(())
    }

    /// For a checkpoint.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_le_bytes());
        number(&mut bytes, self.sites.len() as u64);
        for (&(stack, layer, site, output), stats) in &self.sites {
            let stats = stats.to_bytes();
            for value in [stack, layer, site as usize, output, stats.len()] {
                number(&mut bytes, value as u64);
            }
            bytes.extend(stats);
        }
        number(&mut bytes, self.loads.len() as u64);
        for (&(stack, layer), loads) in &self.loads {
            for value in [stack as u64, layer as u64, loads.len() as u64] {
                number(&mut bytes, value);
            }
            for (tokens, weights) in loads {
                number(&mut bytes, *tokens);
                bytes.extend(weights.to_bytes());
            }
        }
        bytes
    }

    /// Of what [`Self::to_bytes`] gave; `None` if these bytes are not from there.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut profile = Self::default();
        for _ in 0..number(&mut rest)? {
            let (stack, layer) = (number(&mut rest)? as usize, number(&mut rest)? as usize);
            let site = Site::ALL.into_iter().nth(number(&mut rest)? as usize)?;
            let output = number(&mut rest)? as usize;
            let length = usize::try_from(number(&mut rest)?).ok()?;
            let (stats, behind) = rest.split_at_checked(length)?;
            rest = behind;
            profile
                .sites
                .insert((stack, layer, site, output), SiteStats::from_bytes(stats)?);
        }
        for _ in 0..number(&mut rest)? {
            let (stack, layer) = (number(&mut rest)? as usize, number(&mut rest)? as usize);
            let mut loads = Vec::new();
            for _ in 0..number(&mut rest)? {
                let tokens = number(&mut rest)?;
                let (weights, behind) = rest.split_first_chunk()?;
                rest = behind;
                loads.push((tokens, ExactSum::from_bytes(weights)));
            }
            profile.loads.insert((stack, layer), loads);
        }
        rest.is_empty().then_some(profile)
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (head, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(u64::from_le_bytes(*head))
}

/// How evenly a layer's experts were used: entropy of the shares in nats, the same over its
/// largest possible value, and how many were never chosen.
fn routing(loads: &[(u64, ExactSum)]) -> [(&'static str, f64); 3] {
    let total: u64 = loads.iter().map(|load| load.0).sum();
    let entropy: f64 = loads
        .iter()
        .filter(|load| load.0 > 0)
        .map(|load| {
            let share = load.0 as f64 / total as f64;
            -share * share.ln()
        })
        .sum();
    let most = (loads.len().max(2) as f64).ln();
    let unused = loads.iter().filter(|load| load.0 == 0).count();
    [
        ("entropy", entropy),
        ("balance", entropy / most),
        ("unused_experts", unused as f64),
    ]
}
