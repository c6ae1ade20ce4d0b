//! Statistics of activations, the same bits however the rows were grouped.
//!
//! A row's moments are summed in f64 over eight fixed lanes ([`RowStats::of`], pure, so rows may be done in
//! parallel); the rows of a record are then folded one after the other ([`SiteStats::fold`]), and records added up
//! pairwise by their rows in the input, so that parts of a dataset come together exactly ([`SiteStats::follow`]).
//! Histograms count, so they may be added up in any order. Values that are not finite are counted and otherwise left out.
//!
//! | statistic | definition, over all finite values of all rows |
//! | --- | --- |
//! | `count`, `non_finite` | values; values that are infinite or not a number |
//! | `mean`, `variance` | sum(x) / n; sum((x - mean)^2) / n |
//! | `kurtosis` | n sum((x - mean)^4) / sum((x - mean)^2)^2; 3 for a normal distribution |
//! | `abs_max`, `min`, `max` | exact |
//! | `abs_top2`, `abs_top3` | the second and third largest magnitude, each value counted; exact |
//! | `abs_q0.5` | the median magnitude, to its bin |
//! | `q0.001` ... `q0.999` | the value of rank ceil(q n), to its bin |
//! | `cosine` | mean over rows of the cosine between the row and the same token's row one boundary before |
//!
//! Bins are the upper 16 bits of the f32: sign, exponent and 7 bits of mantissa. A quantile is the middle of
//! its bin, or the smallest or largest value where that lies inside: it is within 2^-8 (0.4 %) of the value of that
//! rank, and within 2^-134 where the value is below 2^-126. A statistic that is not defined (no value, no
//! variance, no row before) is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::pairwise::{Pairwise, Sum};

/// Names and probabilities of the quantiles.
pub const QUANTILES: [(&str, f64); 9] = [
    ("q0.001", 0.001),
    ("q0.01", 0.01),
    ("q0.05", 0.05),
    ("q0.25", 0.25),
    ("q0.5", 0.5),
    ("q0.75", 0.75),
    ("q0.95", 0.95),
    ("q0.99", 0.99),
    ("q0.999", 0.999),
];

/// How many of the largest magnitudes are kept.
const LARGEST: usize = 3;

/// The largest magnitudes of some values, descending; 0 where there are fewer values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Largest([f32; LARGEST]);

impl Largest {
    /// Of finite values.
    fn of(values: &[f32]) -> Self {
        let mut largest = Self::default();
        let (blocks, rest) = values.as_chunks::<LANES>();
        for block in blocks {
            // Most blocks hold nothing of interest, and that is seen without a branch for each value.
            let beyond = |any: bool, value: &f32| any | (value.abs() > largest.0[LARGEST - 1]);
            if block.iter().fold(false, beyond) {
                largest.merge_all(block);
            }
        }
        largest.merge_all(rest);
        largest
    }

    fn add(&mut self, magnitude: f32) {
        let place = self.0.iter().position(|&other| magnitude > other);
        if let Some(place) = place {
            self.0[place..].rotate_right(1);
            self.0[place] = magnitude;
        }
    }

    fn merge_all(&mut self, values: &[f32]) {
        for value in values {
            self.add(value.abs());
        }
    }

    /// Takes those of other values.
    fn merge(&mut self, other: Self) {
        self.merge_all(&other.0);
    }
}

/// Independent partial sums of a row; part of the definition of the results.
const LANES: usize = 8;

/// Adds the lanes up.
fn total(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Counts, central moments and extremes of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moments {
    count: u64,
    mean: f64,
    /// Sums of the second, third and fourth power of the deviation from the mean.
    powers: [f64; 3],
    min: f32,
    max: f32,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            powers: [0.0; 3],
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }
}

impl Moments {
    /// The moments of these values and `other`'s. Pébay, "Formulas for robust, one-pass parallel computation of
    /// covariances and arbitrary-order statistical moments", 2008, equation 3.1.
    fn followed_by(self, other: &Self) -> Self {
        if self.count == 0 {
            return *other;
        }
        if other.count == 0 {
            return self;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let n = a + b;
        let delta = other.mean - self.mean;
        let step = delta / n;
        let [a2, a3, a4] = self.powers;
        let [b2, b3, b4] = other.powers;
        let second = a2 + b2 + a * b * delta * step;
        let third =
            a3 + b3 + a * b * (a - b) * delta * step * step + 3.0 * step * (a * b2 - b * a2);
        let fourth = a4
            + b4
            + a * b * (a * a - a * b + b * b) * delta * step * step * step
            + 6.0 * step * step * (a * a * b2 + b * b * a2)
            + 4.0 * step * (a * b3 - b * a3);
        Self {
            count: self.count + other.count,
            mean: self.mean + b * step,
            powers: [second, third, fourth],
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// What a site keeps of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    moments: Moments,
    non_finite: u64,
    largest: Largest,
    /// Cosine to another row; `None` if there was none or one of them is zero or not finite.
    cosine: Option<f64>,
}

impl RowStats {
    /// The moments of a row.
    pub fn of(row: &[f32]) -> Self {
        let values = finite(row);
        let non_finite = (row.len() - values.len()) as u64;
        if values.is_empty() {
            return Self {
                non_finite,
                ..Self::default()
            };
        }
        let count = values.len() as u64;
        let (min, max) = extremes(&values);
        let [sum] = sums(&values, &values, |value, _| [value]);
        let mean = sum / count as f64;
        let powers = sums(&values, &values, |value, _| {
            let deviation = value - mean;
            let square = deviation * deviation;
            [square, square * deviation, square * square]
        });
        Self {
            moments: Moments {
                count,
                mean,
                powers,
                min,
                max,
            },
            non_finite,
            largest: Largest::of(&values),
            cosine: None,
        }
    }

    /// The moments of a row, and its cosine to the `previous` one.
    pub fn with_previous(row: &[f32], previous: &[f32]) -> Self {
        let [dot, own, other] = sums(row, previous, |a, b| [a * b, a * a, b * b]);
        let cosine = dot / (own.sqrt() * other.sqrt());
        Self {
            cosine: cosine.is_finite().then_some(cosine),
            ..Self::of(row)
        }
    }

    /// Values that are infinite or not a number.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }
}

/// The finite values of a row, in order.
fn finite(row: &[f32]) -> Cow<'_, [f32]> {
    // Without branches, so that the common case runs at memory speed.
    if row.iter().fold(true, |all, value| all & value.is_finite()) {
        Cow::Borrowed(row)
    } else {
        row.iter()
            .copied()
            .filter(|value| value.is_finite())
            .collect()
    }
}

/// Sums over the pairs of two rows of what `term` makes of a pair: element i goes to lane i mod [`LANES`], and the
/// lanes are added up in a fixed order.
pub(crate) fn sums<const N: usize>(
    row: &[f32],
    other: &[f32],
    term: impl Fn(f64, f64) -> [f64; N],
) -> [f64; N] {
    let mut lanes = [[0.0; LANES]; N];
    let (blocks, rest) = row.as_chunks::<LANES>();
    let (other_blocks, other_rest) = other.as_chunks::<LANES>();
    let mut add = |lane: usize, a: f32, b: f32| {
        let terms = term(f64::from(a), f64::from(b));
        for (sums, value) in lanes.iter_mut().zip(terms) {
            sums[lane] += value;
        }
    };
    for (block, other) in blocks.iter().zip(other_blocks) {
        for (lane, (&a, &b)) in block.iter().zip(other).enumerate() {
            add(lane, a, b);
        }
    }
    for (lane, (&a, &b)) in rest.iter().zip(other_rest).enumerate() {
        add(lane, a, b);
    }
    lanes.map(total)
}

/// The smallest and largest of finite values.
fn extremes(values: &[f32]) -> (f32, f32) {
    let mut low = [f32::INFINITY; LANES];
    let mut high = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in block.iter().enumerate() {
            low[lane] = if value < low[lane] { value } else { low[lane] };
            high[lane] = if value > high[lane] {
                value
            } else {
                high[lane]
            };
        }
    }
    let low = low
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::INFINITY, f32::min);
    let high = high
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    // Zeros of both signs are equal; which one was met first must not show.
    (low + 0.0, high + 0.0)
}

/// Bins that share a page: the same sign and upper seven bits of the exponent.
const PAGE: usize = 256;

/// Exact counts of finite values by the upper 16 bits of the f32, 2 KiB for each page of bins that occurs.
#[derive(Clone, Debug)]
pub struct Histogram {
    pages: Box<[Option<Box<[u64; PAGE]>>; PAGE]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            pages: Box::new([const { None }; PAGE]),
        }
    }
}

impl PartialEq for Histogram {
    /// Pages of zeros count as absent.
    fn eq(&self, other: &Self) -> bool {
        self.bins().eq(other.bins())
    }
}

impl Histogram {
    /// Counts the finite values of a row.
    pub fn add(&mut self, values: &[f32]) {
        self.add_times(values, 1);
    }

    /// Counts the finite values of a row that occurs several times.
    pub fn add_times(&mut self, values: &[f32], times: u64) {
        const INFINITE: u16 = 0x7f80;
        for value in values {
            let bin = (value.to_bits() >> 16) as u16;
            if bin & INFINITE != INFINITE {
                self.page(usize::from(bin) / PAGE)[usize::from(bin) % PAGE] += times;
            }
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (index, page) in other.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            self.page(index)
                .iter_mut()
                .zip(page.iter())
                .for_each(|(sum, count)| *sum += count);
        }
    }

    fn page(&mut self, index: usize) -> &mut [u64; PAGE] {
        self.pages[index].get_or_insert_with(|| Box::new([0; PAGE]))
    }

    /// Bins that are not empty, by number.
    fn bins(&self) -> impl DoubleEndedIterator<Item = (u16, u64)> {
        let pages = self.pages.iter().enumerate();
        pages
            .filter_map(|(index, page)| Some((index, page.as_ref()?)))
            .flat_map(|(index, page)| {
                page.iter()
                    .enumerate()
                    .map(move |(bin, &count)| ((index * PAGE + bin) as u16, count))
            })
            .filter(|&(_, count)| count > 0)
    }

    /// Non-empty bins from the most negative values to the largest.
    fn ascending(&self) -> impl Iterator<Item = (u16, u64)> {
        const NEGATIVE: u16 = 0x8000;
        let negative = self.bins().rev().filter(|&(bin, _)| bin >= NEGATIVE);
        negative.chain(self.bins().filter(|&(bin, _)| bin < NEGATIVE))
    }

    /// The values of rank ceil(q n) for ascending probabilities, to their bins' middles.
    fn quantiles<const N: usize>(&self, probabilities: [f64; N]) -> Option<[f64; N]> {
        let total: u64 = self.bins().map(|(_, count)| count).sum();
        let rank = |q: f64| ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut found = [0.0; N];
        let mut next = 0;
        let mut seen = 0;
        for (bin, count) in self.ascending() {
            seen += count;
            while next < N && rank(probabilities[next]) <= seen {
                found[next] = middle(bin);
                next += 1;
            }
        }
        (next == N).then_some(found)
    }

    /// The median of the magnitudes, to the middle of its bin.
    fn median_magnitude(&self) -> Option<f64> {
        const MAGNITUDE: u16 = 0x7fff;
        let mut magnitudes = BTreeMap::new();
        for (bin, count) in self.bins() {
            *magnitudes.entry(bin & MAGNITUDE).or_insert(0) += count;
        }
        let total: u64 = magnitudes.values().sum();
        let mut seen = 0;
        let bin = magnitudes.into_iter().find_map(|(bin, count)| {
            seen += count;
            (2 * seen >= total).then_some(bin)
        });
        bin.map(middle)
    }
}

/// The largest magnitude of each channel among the finite values of some rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channels(Vec<f32>);

impl Channels {
    /// Takes a row.
    pub fn add(&mut self, row: &[f32]) {
        self.reach(row.len());
        for (largest, value) in self.0.iter_mut().zip(row) {
            let magnitude = value.abs();
            let is_larger = magnitude > *largest && magnitude < f32::INFINITY;
            *largest = if is_larger { magnitude } else { *largest };
        }
    }

    /// Takes those of other rows.
    pub fn merge(&mut self, other: &Self) {
        self.add(&other.0);
    }

    /// By channel.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    fn reach(&mut self, channels: usize) {
        if self.0.len() < channels {
            self.0.resize(channels, 0.0);
        }
    }
}

/// The middle of a bin; of the two that hold zero, zero.
fn middle(bin: u16) -> f64 {
    if bin << 1 == 0 {
        return 0.0;
    }
    f64::from(f32::from_bits(u32::from(bin) << 16 | 0x8000))
}

/// What depends on the order of rows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Folded {
    moments: Moments,
    cosine_sum: f64,
    cosine_rows: u64,
}

impl Sum for Folded {
    fn and(&self, later: &Self) -> Self {
        Self {
            moments: self.moments.followed_by(&later.moments),
            cosine_sum: self.cosine_sum + later.cosine_sum,
            cosine_rows: self.cosine_rows + later.cosine_rows,
        }
    }
}

/// The statistics of one place in the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteStats {
    folded: Pairwise<Folded>,
    non_finite: u64,
    largest: Largest,
    histogram: Histogram,
    channels: Channels,
}

impl SiteStats {
    /// Takes the next row of activations of the record that is this row of the input; records come in the order of
    /// the input.
    pub fn fold(&mut self, record: u64, row: &RowStats) {
        let folded = self.folded.record(record);
        folded.moments = folded.moments.followed_by(&row.moments);
        if let Some(cosine) = row.cosine {
            folded.cosine_sum += cosine;
            folded.cosine_rows += 1;
        }
        self.non_finite += row.non_finite;
        self.largest.merge(row.largest);
    }

    /// Takes what was made of the records that come next in the input.
    pub fn follow(&mut self, next: &Self) {
        self.folded.follow(&next.folded);
        self.unordered(next);
    }

    /// Takes what was made of another output of the same records, as its rows come after all of these.
    pub fn followed_by(&mut self, other: &Self) {
        let sum = self.folded.total().and(&other.folded.total());
        self.folded = Pairwise::of_blocks([(0, 0, sum)]);
        self.unordered(other);
    }

    /// Takes what does not depend on the order of rows.
    fn unordered(&mut self, other: &Self) {
        self.non_finite += other.non_finite;
        self.largest.merge(other.largest);
        self.histogram.merge(&other.histogram);
        self.channels.merge(&other.channels);
    }

    /// Takes the values of rows that were, or will be, folded, in any order.
    pub fn fold_histogram(&mut self, values: &[f32]) {
        self.histogram.add(values);
    }

    /// Takes counts that were made elsewhere, in any order.
    pub fn merge_histogram(&mut self, histogram: &Histogram) {
        self.histogram.merge(histogram);
    }

    /// Takes magnitudes of the channels of rows that were, or will be, folded, in any order.
    pub fn merge_channels(&mut self, channels: &Channels) {
        self.channels.merge(channels);
    }

    /// The largest magnitude of each channel.
    pub fn channels(&self) -> &[f32] {
        self.channels.values()
    }

    /// Values that are infinite or not a number.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Every statistic that is defined, in the order of the table above.
    pub fn finish(&self) -> Vec<(&'static str, f64)> {
        let folded = self.folded.total();
        let Moments {
            count,
            mean,
            powers: [second, _, fourth],
            min,
            max,
        } = folded.moments;
        let n = count as f64;
        let mut rows = vec![("count", n), ("non_finite", self.non_finite as f64)];
        if count > 0 {
            rows.extend([("mean", mean), ("variance", second / n)]);
            let kurtosis = n * fourth / (second * second);
            rows.extend(kurtosis.is_finite().then_some(("kurtosis", kurtosis)));
            let (min, max) = (f64::from(min), f64::from(max));
            rows.extend([
                ("abs_max", min.abs().max(max.abs())),
                ("min", min),
                ("max", max),
            ]);
            let [largest, second, third] = self.largest.0.map(f64::from);
            let median = self.histogram.median_magnitude();
            rows.extend((count > 1).then_some(("abs_top2", second)));
            rows.extend((count > 2).then_some(("abs_top3", third)));
            rows.extend(median.map(|median| ("abs_q0.5", median.min(largest))));
            if let Some(values) = self.histogram.quantiles(QUANTILES.map(|(_, q)| q)) {
                let named = QUANTILES.iter().zip(values);
                rows.extend(named.map(|(&(name, _), value)| (name, value.clamp(min, max))));
            }
        }
        if folded.cosine_rows > 0 {
            rows.push(("cosine", folded.cosine_sum / folded.cosine_rows as f64));
        }
        rows
    }

    /// For the journal; [`Self::from_bytes`] continues with the same bits.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_number(&mut bytes, self.non_finite);
        write_number(&mut bytes, self.folded.blocks().len() as u64);
        for (first, last, folded) in self.folded.blocks() {
            let Moments {
                count,
                mean,
                powers: [second, third, fourth],
                min,
                max,
            } = folded.moments;
            for number in [first, last - first, count, folded.cosine_rows] {
                write_number(&mut bytes, number);
            }
            let (min, max) = (f64::from(min), f64::from(max));
            for value in [mean, second, third, fourth, min, max, folded.cosine_sum] {
                bytes.extend(value.to_bits().to_le_bytes());
            }
        }
        write_number(&mut bytes, self.histogram.bins().count() as u64);
        let mut before = 0;
        for (bin, count) in self.histogram.bins() {
            write_number(&mut bytes, u64::from(bin - before));
            write_number(&mut bytes, count);
            before = bin;
        }
        write_number(&mut bytes, self.channels.0.len() as u64);
        for value in self.largest.0.iter().chain(&self.channels.0) {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    /// The statistics that [`Self::to_bytes`] wrote; `None` if these bytes are not from there.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        let non_finite = read_number(input)?;
        let mut blocks = Vec::new();
        for _ in 0..read_number(input)? {
            let first = read_number(input)?;
            let last = first.checked_add(read_number(input)?)?;
            let count = read_number(input)?;
            let cosine_rows = read_number(input)?;
            let mut floats = [0.0; 7];
            for value in &mut floats {
                let (bits, rest) = input.split_first_chunk()?;
                *value = f64::from_bits(u64::from_le_bytes(*bits));
                *input = rest;
            }
            let [mean, second, third, fourth, min, max, cosine_sum] = floats;
            let moments = Moments {
                count,
                mean,
                powers: [second, third, fourth],
                min: min as f32,
                max: max as f32,
            };
            let folded = Folded {
                moments,
                cosine_sum,
                cosine_rows,
            };
            blocks.push((first, last, folded));
        }
        let mut histogram = Histogram::default();
        let mut bin = 0_u16;
        for _ in 0..read_number(input)? {
            bin = bin.checked_add(u16::try_from(read_number(input)?).ok()?)?;
            histogram.page(usize::from(bin) / PAGE)[usize::from(bin) % PAGE] = read_number(input)?;
        }
        let channels = usize::try_from(read_number(input)?).ok()?;
        let (values, rest) = input.as_chunks();
        if rest.is_empty() && values.len().checked_sub(LARGEST) == Some(channels) {
            let (largest, channels) = values.split_first_chunk()?;
            return Some(Self {
                folded: Pairwise::of_blocks(blocks),
                non_finite,
                largest: Largest(largest.map(f32::from_le_bytes)),
                histogram,
                channels: Channels(channels.iter().copied().map(f32::from_le_bytes).collect()),
            });
        }
        None
    }
}

/// LEB128.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of a record.
    const ROWS: u64 = 3;

    fn site(rows: &[Vec<f32>]) -> SiteStats {
        let mut site = SiteStats::default();
        for (index, row) in rows.iter().enumerate() {
            match index.checked_sub(1) {
                None => site.fold(0, &RowStats::of(row)),
                Some(before) => site.fold(
                    index as u64 / ROWS,
                    &RowStats::with_previous(row, &rows[before]),
                ),
            }
            site.fold_histogram(row);
            site.merge_channels(&channels_of(row));
        }
        site
    }

    fn channels_of(row: &[f32]) -> Channels {
        let mut channels = Channels::default();
        channels.add(row);
        channels
    }

    fn value(site: &SiteStats, name: &str) -> f64 {
        let rows = site.finish();
        rows.iter().find(|(other, _)| *other == name).expect(name).1
    }

    /// Values of every size from a fixed sequence.
    fn noise(count: usize, scale: f32) -> Vec<f32> {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count)
            .map(|_| (next() + next() + next()) * scale)
            .collect()
    }

    #[test]
    fn agrees_with_the_definitions() {
        let values = noise(5003, 3.0);
        // A mean far from zero, where sums of powers would cancel.
        let values: Vec<f32> = values.iter().map(|v| v + 1000.0).collect();
        let rows: Vec<Vec<f32>> = values.chunks(37).map(<[f32]>::to_vec).collect();
        let site = site(&rows);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let power = |k| {
            values
                .iter()
                .map(|&v| (f64::from(v) - mean).powi(k))
                .sum::<f64>()
                / n
        };
        let close = |name, expected: f64| {
            let found = value(&site, name);
            assert!(
                (found - expected).abs() <= 1e-10 * expected.abs(),
                "{name} {found} {expected}"
            );
        };
        close("count", n);
        close("mean", mean);
        close("variance", power(2));
        close("kurtosis", power(4) / power(2).powi(2));
        close(
            "max",
            values.iter().copied().fold(f32::MIN, f32::max).into(),
        );
        close(
            "min",
            values.iter().copied().fold(f32::MAX, f32::min).into(),
        );
    }

    #[test]
    fn quantiles_are_within_half_a_bin() {
        for scale in [1.0, 1e-30, 1e30] {
            let mut values = noise(9999, scale);
            let site = site(std::slice::from_ref(&values));
            values.sort_by(f32::total_cmp);
            for (name, q) in QUANTILES {
                let exact = f64::from(values[(q * 9999.0).ceil() as usize - 1]);
                let found = value(&site, name);
                assert!(
                    (found - exact).abs() <= exact.abs() / 256.0,
                    "{name} {found} {exact}"
                );
            }
        }
        let constant = site(&[vec![1.0; 10]]);
        assert_eq!(value(&constant, "q0.001"), 1.0);
        assert_eq!(value(&constant, "variance"), 0.0);
        assert!(
            constant
                .finish()
                .iter()
                .all(|(name, _)| *name != "kurtosis")
        );
        let zeros = site(&[vec![0.0, -0.0, 0.0]]);
        assert_eq!(value(&zeros, "q0.5"), 0.0);
    }

    #[test]
    fn the_largest_magnitudes_are_known_by_rank_and_by_channel() {
        let mut rows: Vec<Vec<f32>> = noise(1110, 2.0).chunks(37).map(<[f32]>::to_vec).collect();
        rows[3][5] = -90.0;
        rows[20][5] = 80.0;
        rows[29][36] = 80.0;
        rows[7][0] = f32::INFINITY;
        let of_all = site(&rows);
        let values = rows.iter().flatten().filter(|value| value.is_finite());
        let mut magnitudes: Vec<f32> = values.map(|value| value.abs()).collect();
        magnitudes.sort_by(f32::total_cmp);
        assert_eq!(value(&of_all, "abs_max"), 90.0);
        assert_eq!(value(&of_all, "abs_top2"), 80.0);
        assert_eq!(value(&of_all, "abs_top3"), 80.0);
        let median = f64::from(magnitudes[magnitudes.len().div_ceil(2) - 1]);
        assert!((value(&of_all, "abs_q0.5") - median).abs() <= median / 256.0);
        for channel in 0..37 {
            let column = rows.iter().map(|row| row[channel].abs());
            let largest = column.filter(|value| value.is_finite()).fold(0.0, f32::max);
            assert_eq!(of_all.channels()[channel], largest, "{channel}");
        }
        let two = site(&[vec![2.0, -1.0]]).finish();
        let of = |name| two.iter().find(|(other, _)| *other == name);
        assert_eq!(of("abs_top2"), Some(&("abs_top2", 1.0)));
        assert_eq!(of("abs_top3"), None);
    }

    #[test]
    fn cosines_are_averaged_over_rows() {
        let rows = vec![
            vec![1.0, 0.0],
            vec![2.0, 0.0],
            vec![0.0, 5.0],
            vec![0.0, 0.0],
        ];
        let site = site(&rows);
        // 1, 0, and no cosine with a row of zeros.
        assert_eq!(value(&site, "cosine"), 0.5);
    }

    #[test]
    fn what_is_not_finite_is_counted_and_left_out() {
        let site = site(&[
            vec![1.0, f32::NAN, 3.0, f32::INFINITY],
            vec![f32::NEG_INFINITY; 4],
        ]);
        assert_eq!(value(&site, "count"), 2.0);
        assert_eq!(value(&site, "non_finite"), 6.0);
        assert_eq!(site.non_finite(), 6);
        assert_eq!(value(&site, "mean"), 2.0);
        assert_eq!(value(&site, "abs_max"), 3.0);
        assert!(
            site.finish()
                .iter()
                .all(|(name, value)| value.is_finite() && *name != "cosine")
        );
        let nothing = SiteStats::default().finish();
        assert_eq!(nothing, [("count", 0.0), ("non_finite", 0.0)]);
    }

    #[test]
    fn a_site_is_small() {
        let values = noise(100_000, 4.0);
        let rows: Vec<Vec<f32>> = values.chunks(500).map(<[f32]>::to_vec).collect();
        let site = site(&rows);
        let pages = site.histogram.pages.iter().flatten().count();
        assert!(pages * PAGE * 8 <= 64 << 10, "{pages} pages");
        assert!(site.to_bytes().len() < 20_000);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = site(&[noise(64, 1.0)]).to_bytes();
        assert!(SiteStats::from_bytes(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(
                SiteStats::from_bytes(&bytes[..length]).is_none(),
                "{length}"
            );
        }
        assert!(SiteStats::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
        assert!(SiteStats::from_bytes(&[0xff; 200]).is_none());
    }

    proptest! {
        /// However rows are divided over threads, chunks and processes.
        #[test]
        fn grouping_changes_no_bit(
            rows in proptest::collection::vec(
                proptest::collection::vec(any::<f32>(), 19),
                1..20,
            ),
            cuts in proptest::collection::vec(any::<bool>(), 20),
        ) {
            let whole = site(&rows);
            let mut folded = SiteStats::default();
            let mut histogram = Histogram::default();
            for (index, row) in rows.iter().enumerate() {
                let previous = index.checked_sub(1).map(|before| &rows[before]);
                let stats = previous.map_or_else(
                    || RowStats::of(row),
                    |previous| RowStats::with_previous(row, previous),
                );
                folded.fold(index as u64 / ROWS, &stats);
                histogram.add(row);
                // Channels in another order.
                folded.merge_channels(&channels_of(&rows[rows.len() - 1 - index]));
                if cuts[index] {
                    let mut later = Histogram::default();
                    std::mem::swap(&mut later, &mut histogram);
                    folded.merge_histogram(&later);
                    folded = SiteStats::from_bytes(&folded.to_bytes()).unwrap();
                }
            }
            folded.merge_histogram(&histogram);
            prop_assert_eq!(whole.to_bytes(), folded.to_bytes());
            prop_assert_eq!(format!("{:?}", whole.finish()), format!("{:?}", folded.finish()));
        }

        /// Whichever records a part of the dataset has.
        #[test]
        fn parts_of_the_dataset_come_together(
            rows in proptest::collection::vec(
                proptest::collection::vec(-9.0..9.0_f32, 19),
                1..60,
            ),
            cut in 0..20_u64,
            then in 0..20_u64,
        ) {
            let parts = [0..cut, cut..cut + then, cut + then..u64::MAX];
            let mut together = SiteStats::default();
            for part in parts {
                let mut own = SiteStats::default();
                for (row, record) in rows.iter().zip((0..).map(|index: u64| index / ROWS)) {
                    if part.contains(&record) {
                        own.fold(record, &RowStats::of(row));
                        own.fold_histogram(row);
                    }
                }
                together.follow(&SiteStats::from_bytes(&own.to_bytes()).unwrap());
            }
            let mut whole = SiteStats::default();
            for (row, record) in rows.iter().zip((0..).map(|index: u64| index / ROWS)) {
                whole.fold(record, &RowStats::of(row));
                whole.fold_histogram(row);
            }
            prop_assert_eq!(whole.to_bytes(), together.to_bytes());
            prop_assert_eq!(format!("{:?}", whole.finish()), format!("{:?}", together.finish()));
        }
    }
}
