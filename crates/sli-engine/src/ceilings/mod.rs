//! What this machine can do at best, measured and remembered, and how near a run comes to it.
//!
//! The roofline of a run is the time that it cannot beat: the larger of bytes over bandwidth and operations
//! over peak arithmetic (Williams et al. 2009).

mod cache;
mod disk;
mod processor;
mod products;
mod rates;

use serde::Serialize;
use sli_kernels::Compute;

pub use cache::{CacheNotice, CeilingsCache};
pub use disk::DiskCeilings;
pub use processor::ProcessorCeilings;
pub use rates::ProductRates;

pub use crate::limits::{Limits, Line, Origin};
use crate::model::Model;
use crate::work::Work;

/// What a matrix product reaches of the peak, usually.
const USUAL_PRODUCT: f64 = 0.9;

/// Bytes a second that a thread reads from memory, usually.
const USUAL_MEMORY: f64 = 8e9;

impl Limits {
    /// As the cache remembers them, and a quick look for the rest. `notice` hears of what is damaged there.
    pub fn find(
        cache: Option<&CeilingsCache>,
        model: &Model,
        threads: usize,
        compute: Compute,
        mut notice: impl FnMut(CacheNotice),
    ) -> Self {
        let processor = cache.and_then(|cache| {
            cache.processor(threads).unwrap_or_else(|problem| {
                notice(problem);
                None
            })
        });
        let (
            operations_from,
            [
                operations_per_second,
                products_per_second,
                memory_per_second,
            ],
        ) = match processor {
            Some(processor) => (
                Origin::Bench,
                [
                    processor.peak(compute),
                    processor.product(compute),
                    processor.memory,
                ],
            ),
            None => {
                let peak = processor::quick_peak(threads, compute);
                let usual = [peak, peak * USUAL_PRODUCT, threads as f64 * USUAL_MEMORY];
                (Origin::Probe, usual)
            }
        };
        let disk = cache.and_then(|cache| {
            cache.disk(model.folder.path()).unwrap_or_else(|problem| {
                notice(problem);
                None
            })
        });
        let (bytes_per_second, bytes_from) = match disk {
            Some(disk) => (Some(disk.best()), Origin::Bench),
            None => (disk::quick_bandwidth(model), Origin::Probe),
        };
        Self {
            operations_per_second,
            operations_from,
            products_per_second,
            memory_per_second,
            bytes_per_second,
            bytes_from,
            line: disk::line(model),
        }
    }
}

/// The time that a run cannot beat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roofline {
    /// Floating-point operations of the run.
    pub operations: f64,
    /// Bytes that the run reads.
    pub bytes: u64,
    /// What they are compared with.
    #[serde(flatten)]
    pub limits: Limits,
    /// The larger of the two times, seconds.
    pub seconds: f64,
}

impl Roofline {
    /// Of a run that does this work and reads `bytes`. `stored`: bytes of the weights, where the page cache has room
    /// for all of them; what is read again then comes from memory.
    pub fn new(limits: Limits, work: Work, bytes: u64, stored: Option<u64>) -> Self {
        let operations = work.linear + work.attention;
        let once = stored.map_or(bytes, |stored| bytes.min(stored));
        let again = (bytes - once) as f64 / limits.memory_per_second;
        let mut reading = limits
            .bytes_per_second
            .map_or(0.0, |rate| once as f64 / rate + again);
        if let Some(line) = limits.line {
            // What is kept is read while the rest arrives.
            let crossing = line.crossing(bytes as f64, once as f64);
            reading = reading.max(crossing / line.bytes_per_second);
        }
        Self {
            operations,
            bytes,
            limits,
            seconds: reading.max(operations / limits.operations_per_second),
        }
    }

    /// Whether reading takes longer than computing.
    pub fn is_reading(&self) -> bool {
        self.operations / self.limits.operations_per_second < self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roof_is_the_longer_of_the_two() {
        let limits = |bytes_per_second| Limits {
            operations_per_second: 100.0,
            operations_from: Origin::Probe,
            products_per_second: 90.0,
            memory_per_second: 1e3,
            bytes_per_second,
            bytes_from: Origin::Probe,
            line: None,
        };
        let work = Work {
            linear: 150.0,
            attention: 50.0,
            attention_weights: 0.0,
        };
        let slow = Roofline::new(limits(Some(10.0)), work, 50, None);
        assert_eq!((slow.seconds, slow.is_reading()), (5.0, true));
        let fast = Roofline::new(limits(Some(1000.0)), work, 50, None);
        assert_eq!((fast.seconds, fast.is_reading()), (2.0, false));
        let unknown = Roofline::new(limits(None), work, 50, None);
        assert_eq!((unknown.seconds, unknown.is_reading()), (2.0, false));
        // The second time the same bytes come from memory.
        let cached = Roofline::new(limits(Some(10.0)), work, 3050, Some(50));
        assert_eq!((cached.seconds, cached.is_reading()), (8.0, true));
        // Over a line once, or each time.
        for (each_time, seconds) in [(false, 25.0), (true, 1525.0)] {
            let line = Some(Line {
                bytes_per_second: 2.0,
                each_time,
            });
            let limits = Limits {
                line,
                ..limits(None)
            };
            let far = Roofline::new(limits, work, 3050, Some(50));
            assert_eq!((far.seconds, far.is_reading()), (seconds, true));
        }
    }
}
