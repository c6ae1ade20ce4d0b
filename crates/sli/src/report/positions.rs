//! Means over the positions of records, of any length in little room.

use super::chart::{Lines, Series};

/// Positions that are kept one by one; those beyond are added up sixteen to a doubling.
const SINGLE: usize = 32;

/// Where a position, from 1, is added up.
fn bucket(position: usize) -> usize {
    if position <= SINGLE {
        return position - 1;
    }
    let doublings = (position as f64 / SINGLE as f64).log2();
    SINGLE + (doublings * 16.0) as usize
}

/// The middle of a bucket's positions.
fn position_of(bucket: usize) -> f64 {
    if bucket < SINGLE {
        return (bucket + 1) as f64;
    }
    let doublings = (bucket - SINGLE) as f64 + 0.5;
    (SINGLE as f64 * (doublings / 16.0).exp2()).round()
}

/// Counts and sums by position.
#[derive(Default)]
pub struct Positions {
    buckets: Vec<(u64, f64)>,
}

impl Positions {
    /// Adds a value at a position, from 1; one that is not a number only makes room.
    pub fn add(&mut self, position: usize, value: f64) {
        let bucket = bucket(position);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, (0, 0.0));
        }
        if !value.is_nan() {
            self.buckets[bucket].0 += 1;
            self.buckets[bucket].1 += value;
        }
    }

    /// The means, from left to right.
    fn means(&self) -> Vec<(f64, f64)> {
        let there = self.buckets.iter().enumerate();
        let there = there.filter(|(_, (count, _))| *count > 0);
        there
            .map(|(bucket, (count, sum))| (position_of(bucket), sum / *count as f64))
            .collect()
    }

    /// The means as a line.
    pub fn lines(&self, name: &str) -> Lines {
        Lines {
            x_name: "position in the record",
            series: vec![Series::new(name, self.means())],
            log_x: self.buckets.len() > SINGLE,
            ..Lines::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_far_on_are_added_up_together() {
        let mut before = 0;
        for position in 1..2_000_000 {
            let bucket = bucket(position);
            assert!(bucket == before || bucket == before + 1, "{position}");
            before = bucket;
            let middle = position_of(bucket);
            assert!(
                (middle / position as f64 - 1.0).abs() < 0.05,
                "{position} {middle}"
            );
        }
        assert!(before < 300);
    }
}
