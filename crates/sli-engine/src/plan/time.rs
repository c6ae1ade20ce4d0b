//! How long a run is expected to take: its products at the rate that the machine was seen to multiply at, the
//! rest at the rate of its memory, and the disk beside them.
//!
//! Scheduled weights are read beside whatever is computed, by several readers. What passes by (experts, tiles,
//! the projection to logits) is read beside its own products alone, by one reader: when the slower of the two
//! is done, what the reader copied and packed has cost its time besides.

use sli_kernels::Compute;

use super::Plan;
use super::phases::Grain;
use super::phases::is_expert;
use super::planner::Planner;
use super::reading::{Bytes, Ways, head_leaf, share_hit};
use super::work::{choice, head_work, multiplied, needs_logits};
use crate::exec::head::HEAD_ROWS;
use crate::hessian::product_operations;
use crate::limits::Limits;
use crate::take::Take;
use crate::weights::load::packed_bytes;
use crate::weights::{LeafKey, Section};

/// Rows that a product takes the time of, at least.
const LEAST_ROWS: f64 = 8.0;

/// What attention's products reach of the rate of a matrix product.
const ATTENTION: f64 = 0.9;

/// Operations of a matrix product that take the time of one weight of attention: its exponential, its part in maximum
/// and sum. Seen with heads of 16, 64 and 128 features (32,768 keys, two threads with AVX-512, processor time): about
/// 90 in f32, 180 of the twice as fast ones of bf16.
const WEIGHT: f64 = 140.0;

/// How often a residual step touches a row of the hidden state: norms, sums, packing, copies.
const TOUCHES_OF_HIDDEN: f64 = 8.0;

/// How often a mixer touches what lies between its products.
const TOUCHES_BETWEEN: f64 = 4.0;

/// How often a take touches every row of the hidden state that it looks at.
const TOUCHES_OF_TAKE: f64 = 6.0;

/// How often a byte of the weights crosses memory on its way from the disk to a product.
const CROSSINGS: f64 = 4.0;

/// How often the bytes of an expert cross memory besides: they come through the page cache, whose pages are
/// found, filled, copied from and given up one by one.
const CROSSINGS_OF_CACHE: f64 = 6.0;

/// How much longer products in f32 take than those in bf16.
const IN_F32: f64 = 2.5;

/// Seconds of a start: threads, folders, the end of the results.
const START: f64 = 0.03;

/// Seconds that a phase of a pass takes beside its work: weights change hands, threads wait for each other.
const PHASE: f64 = 3e-4;

/// Seconds that a record takes beside its tokens: it is spooled, packed, and gets rows in the tables.
const RECORD: f64 = 2e-5;

/// Seconds of a run.
pub(super) struct Expected {
    /// All of it.
    pub seconds: f64,
    /// Of computing, without what passes by.
    pub computing: f64,
}

impl Planner<'_> {
    /// How long the run takes, where the machine is known.
    pub(super) fn expected_time(
        &self,
        ways: Ways<'_>,
        plan: &Plan,
        read: Bytes,
    ) -> Option<Expected> {
        let limits = self.settings.machine.limits?;
        let rates = Rates { limits };
        let passes = plan.super_batches.max(1) as f64;
        let first = ways.phases.first().map_or(0, |phase| phase.bytes) as f64;
        let memory = limits.memory_per_second;
        let products = self.products(ways, plan, &rates);
        let other = read.expected - read.experts - read.tiles;
        let mut computing = products.other + other * CROSSINGS / memory;
        computing += (plan.work.attention / ATTENTION + plan.work.attention_weights * WEIGHT)
            / limits.products_per_second;
        computing += self.row_wise(plan) / memory;
        let rows = plan.stacks.last().map_or(0, |stack| stack.rows) as f64;
        let squares = product_operations(&self.model.spec, &self.settings.takes) * rows;
        let slower = match self.settings.compute {
            Compute::F32 => 1.0,
            Compute::Bf16 => IN_F32,
        };
        computing += squares * slower / limits.products_per_second;
        let reading = self.seconds_reading(ways, plan, &rates);
        let passing = |products: f64, bytes: f64, crossings: f64| {
            let reading = reading * bytes / read.expected.max(1.0);
            products.max(reading) + bytes * crossings / memory
        };
        let experts = passing(
            products.experts,
            read.experts,
            CROSSINGS + CROSSINGS_OF_CACHE,
        );
        let passing = experts + passing(products.tiles, read.tiles, CROSSINGS);
        let sweeping = if ways.grain == Grain::Model {
            // Later passes have nothing left to read but what passes by.
            let first = (computing / passes).max(reading * other / read.expected.max(1.0));
            first + computing * (1.0 - 1.0 / passes) + passing
        } else {
            (computing + passing).max(reading)
        };
        let moved = (plan.bytes_written + plan.bytes_spilled) as f64;
        let alone = PHASE * passes * ways.phases.len() as f64 + RECORD * self.records.len() as f64;
        let seconds = START + alone + sweeping + rates.first(first) + rates.disk(moved);
        Some(Expected { seconds, computing })
    }

    /// Seconds of reading; what the page cache has room for comes from there the second time.
    fn seconds_reading(&self, ways: Ways<'_>, plan: &Plan, rates: &Rates) -> f64 {
        let bytes = plan.bytes_read as f64;
        let stored = self.model.checkpoint.stored_bytes();
        let again = ways.grain != Grain::Model && plan.super_batches > 1;
        let once = if again {
            bytes / plan.super_batches as f64
        } else {
            bytes
        };
        let here = if again && self.settings.machine.cached(stored).is_some() {
            let memory = rates.limits.memory_per_second / CROSSINGS;
            rates.disk(once) + (bytes - once) / memory
        } else {
            rates.disk(bytes)
        };
        // What is kept is read while the rest arrives.
        rates.limits.line.map_or(here, |line| {
            here.max(line.crossing(bytes, once) / line.bytes_per_second)
        })
    }

    /// Seconds of all products with weights.
    fn products(&self, ways: Ways<'_>, plan: &Plan, rates: &Rates) -> Products {
        let compute = self.settings.compute;
        let passes = plan.super_batches.max(1) as f64;
        let chunks = |rows: f64| {
            let chunk = (plan.chunk_tokens as f64).min(rows / passes).max(1.0);
            (chunk, (rows / chunk).ceil())
        };
        let mut seconds = Products::default();
        let stacks = self.model.spec.stacks.iter().enumerate();
        let layers = stacks.flat_map(|(stack, description)| {
            let layers = description.layers.iter().enumerate();
            layers.map(move |(index, layer)| (stack, index, layer))
        });
        for (stack, index, layer) in layers {
            let part = Section::Layer(index);
            for step in &layer.steps {
                let pass = self.division.rows(0..self.records.len()) as f64 / passes;
                let hit = share_hit(step, pass as usize);
                let chosen = choice(step).map_or(1, |(_, chosen)| chosen);
                for weight in step.weights() {
                    let leaf = &layer.leaves[weight.0 as usize];
                    let key = LeafKey {
                        stack,
                        part,
                        leaf: weight,
                    };
                    let bound = key.bound(self.model);
                    let bytes = packed_bytes(bound, bound.rows(), compute) as f64;
                    let size = (bound.rows() * bound.columns()) as f64;
                    match leaf.shape[..] {
                        [count, _, _] if is_expert(leaf) => {
                            let experts = (count as f64 * hit).max(1.0);
                            let each = pass * chosen as f64 / experts;
                            seconds.experts += passes * experts * rates.product(each, size, bytes);
                        }
                        [_, _] => {
                            let rows = plan.stacks[multiplied(layer, stack, weight)].rows;
                            let (chunk, chunks) = chunks(rows as f64);
                            let product = chunks * rates.product(chunk, size, bytes);
                            *(if ways.grain == Grain::Tile {
                                &mut seconds.tiles
                            } else {
                                &mut seconds.other
                            }) += product;
                        }
                        _ => {}
                    }
                }
            }
        }
        if let Some(leaf) = head_leaf(self.model, self.settings) {
            let bytes = packed_bytes(leaf, leaf.rows(), compute) as f64;
            let [_, multiple] = head_work(&self.model.spec, &self.settings.takes);
            let rows = plan
                .stacks
                .last()
                .map_or(0, |stack| stack.rows * multiple as u64) as f64;
            let block = (HEAD_ROWS as f64).min(rows / passes).max(1.0);
            let size = (leaf.rows() * leaf.columns()) as f64;
            seconds.tiles += (rows / block).ceil() * rates.product(block, size, bytes);
        }
        seconds
    }

    /// Bytes that everything but the products moves through memory.
    fn row_wise(&self, plan: &Plan) -> f64 {
        let takes = &self.settings.takes;
        let mut values = 0.0;
        for (stack, rows) in self.model.spec.stacks.iter().zip(&plan.stacks) {
            let mut columns = 0.0;
            for step in stack.layers.iter().flat_map(|layer| &layer.steps) {
                columns += stack.hidden_size as f64 * TOUCHES_OF_HIDDEN;
                let mechanisms = step.mechanisms();
                let between =
                    mechanisms.map(|mechanism| mechanism.columns_between(stack.hidden_size));
                columns += between.sum::<usize>() as f64 * TOUCHES_BETWEEN;
            }
            let looks = takes.iter().map(|take| match take {
                Take::Profile => 2.0,
                Take::Hidden(_) | Take::Lens(..) | Take::Trace => 1.0,
                Take::Drift => 4.0,
                _ => 0.0,
            });
            let layers = stack.layers.len() as f64;
            columns += layers * stack.hidden_size as f64 * TOUCHES_OF_TAKE * looks.sum::<f64>();
            values += columns * rows.rows as f64;
        }
        if needs_logits(takes) {
            let rows = plan.stacks.last().map_or(0, |stack| stack.rows);
            values += self.model.spec.vocab_size as f64 * 2.0 * rows as f64;
        }
        4.0 * values
    }
}

/// Seconds of products: with what passes by, and with the weights that are there.
#[derive(Default)]
struct Products {
    experts: f64,
    tiles: f64,
    other: f64,
}

struct Rates {
    limits: Limits,
}

impl Rates {
    fn disk(&self, bytes: f64) -> f64 {
        self.limits
            .bytes_per_second
            .map_or(0.0, |rate| bytes / rate)
    }

    /// Bytes of the weights that nothing is computed beside.
    fn first(&self, bytes: f64) -> f64 {
        let line = self.limits.line.map(|line| bytes / line.bytes_per_second);
        line.unwrap_or_else(|| self.disk(bytes))
    }

    /// A product of `rows` rows with a matrix of `size` elements in `bytes` bytes.
    fn product(&self, rows: f64, size: f64, bytes: f64) -> f64 {
        let arithmetic = 2.0 * rows.max(LEAST_ROWS) * size / self.limits.products_per_second;
        arithmetic.max(bytes / self.limits.memory_per_second)
    }
}
