//! `--take profile`: statistics of the hidden states, of what every branch adds to them, and of the
//! experts' loads. Rows are folded in input order, whatever runs together.

use std::collections::BTreeMap;

use sli_kernels::{Kernels, Mat, MatRef};
use sli_spec::ModelSpec;

use crate::error::EngineError;
use crate::exec::step::Site;
use crate::journal::OutputFolder;
use crate::observe::map_rows;
use crate::results::{ExpertRow, ProfileRow, write_experts, write_profile};
use crate::stats::{Histogram, RowStats, SiteStats};

/// Stack, boundary (of branches: the layer, counted from 1), site.
pub(crate) type SiteKey = (usize, usize, Site);

/// Tokens and summed weights of every expert of a layer, by stack and layer (counted from 1).
type Loads = BTreeMap<(usize, usize), Vec<(u64, f64)>>;

/// The accumulators.
#[derive(Default)]
pub(crate) struct Profile {
    sites: BTreeMap<SiteKey, SiteStats>,
    loads: Loads,
    /// The boundary before, for the cosine.
    previous: Mat,
}

impl Profile {
    /// New accumulators, or those of a checkpoint.
    pub fn open(blob: Option<&[u8]>) -> Result<Self, EngineError> {
        match blob {
            None => Ok(Self::default()),
            Some(bytes) => Self::from_bytes(bytes).ok_or_else(|| {
                EngineError::Request("the saved statistics are damaged; start with --fresh".into())
            }),
        }
    }

    /// The hidden state of a super-batch at a boundary.
    pub fn boundary(&mut self, kernels: &Kernels, stack: usize, index: usize, hidden: &Mat) {
        let previous = (index > 0).then(|| std::mem::take(&mut self.previous));
        let key = (stack, index, Site::Hidden);
        self.fold(
            kernels,
            key,
            hidden.view(),
            previous.as_ref().map(Mat::view),
        );
        self.previous = previous.unwrap_or_default();
        self.set_previous(hidden);
    }

    /// What the next boundary is compared with.
    pub fn set_previous(&mut self, hidden: &Mat) {
        self.previous.reset(hidden.rows(), hidden.cols());
        self.previous
            .as_mut_slice()
            .copy_from_slice(hidden.as_slice());
    }

    /// The output of a branch on some rows; chunks come in order.
    pub fn branch(&mut self, kernels: &Kernels, key: SiteKey, output: MatRef<'_>) {
        self.fold(kernels, key, output, None);
    }

    fn fold(
        &mut self,
        kernels: &Kernels,
        key: SiteKey,
        x: MatRef<'_>,
        previous: Option<MatRef<'_>>,
    ) {
        let blocks = map_rows(kernels, x.rows(), |range| {
            let mut histogram = Histogram::default();
            let rows: Vec<RowStats> = range
                .map(|row| {
                    histogram.add(x.row(row));
                    match &previous {
                        Some(previous) => RowStats::with_previous(x.row(row), previous.row(row)),
                        None => RowStats::of(x.row(row)),
                    }
                })
                .collect();
            (rows, histogram)
        });
        let stats = self.sites.entry(key).or_default();
        for (rows, histogram) in blocks {
            for row in &rows {
                stats.fold(row);
            }
            stats.merge_histogram(&histogram);
        }
    }

    /// The choices of a super-batch in one layer of `count` experts.
    pub fn routed(
        &mut self,
        stack: usize,
        layer: usize,
        count: usize,
        experts: &[u32],
        weights: &[f32],
    ) {
        let loads = self
            .loads
            .entry((stack, layer))
            .or_insert_with(|| vec![(0, 0.0); count]);
        for (&expert, &weight) in experts.iter().zip(weights) {
            let load = &mut loads[expert as usize];
            load.0 += 1;
            load.1 += f64::from(weight);
        }
    }

    /// Writes `profile.parquet` and, where there are experts, `experts.parquet`.
    pub fn finish(self, spec: &ModelSpec, folder: &mut OutputFolder) -> Result<(), EngineError> {
        let rows = self
            .sites
            .iter()
            .flat_map(|(&(stack, layer, site), stats)| {
                let values = stats.finish();
                values
                    .into_iter()
                    .map(move |(statistic, value)| ProfileRow {
                        stack: spec.stacks[stack].name,
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
                    stack: spec.stacks[stack].name,
                    layer: layer as u32,
                    site: "router",
                    statistic,
                    value,
                })
        });
        write_profile(folder, rows.chain(routing))?;
        if !self.loads.is_empty() {
            let rows = self.loads.iter().flat_map(|(&(stack, layer), loads)| {
                (0..)
                    .zip(loads)
                    .map(move |(expert, &(tokens, weight_sum))| ExpertRow {
                        stack: spec.stacks[stack].name,
                        layer: layer as u32,
                        expert,
                        tokens,
                        weight_sum,
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
        for (&(stack, layer, site), stats) in &self.sites {
            let stats = stats.to_bytes();
            for value in [stack as u64, layer as u64, site as u64, stats.len() as u64] {
                number(&mut bytes, value);
            }
            bytes.extend(stats);
        }
        number(&mut bytes, self.loads.len() as u64);
        for (&(stack, layer), loads) in &self.loads {
            for value in [stack as u64, layer as u64, loads.len() as u64] {
                number(&mut bytes, value);
            }
            for &(tokens, weight) in loads {
                number(&mut bytes, tokens);
                number(&mut bytes, weight.to_bits());
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut profile = Self::default();
        for _ in 0..number(&mut rest)? {
            let (stack, layer) = (number(&mut rest)? as usize, number(&mut rest)? as usize);
            let site = Site::ALL.into_iter().nth(number(&mut rest)? as usize)?;
            let length = usize::try_from(number(&mut rest)?).ok()?;
            let (stats, behind) = rest.split_at_checked(length)?;
            rest = behind;
            profile
                .sites
                .insert((stack, layer, site), SiteStats::from_bytes(stats)?);
        }
        for _ in 0..number(&mut rest)? {
            let (stack, layer) = (number(&mut rest)? as usize, number(&mut rest)? as usize);
            let mut loads = Vec::new();
            for _ in 0..number(&mut rest)? {
                loads.push((number(&mut rest)?, f64::from_bits(number(&mut rest)?)));
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
fn routing(loads: &[(u64, f64)]) -> [(&'static str, f64); 3] {
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
