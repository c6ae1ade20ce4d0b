//! The plan of a run: how finely the model is divided, how many tokens run together, and what
//! that reads, writes, holds and takes. Decided before the first weight is read.

pub(crate) mod division;
mod ends;
mod holding;
pub(crate) mod memory;
pub(crate) mod phases;
mod pieces;
mod planner;
mod reading;
mod sharing;
mod time;
mod work;

use serde::Serialize;
use sli_checkpoint::BoundLeaf;

use crate::error::EngineError;
use crate::lexical::{self, LexicalLayer};
use crate::limits::Limits;
use crate::model::Model;
use crate::pooling::{recipe, sparse_recipe};
use crate::records::RecordSpool;
use crate::settings::{Settings, Spill};
use crate::shared::Shared;
use crate::take::Take;
use crate::weights::load::{STAGING_BYTES, packed_bytes};
use crate::weights::{Section, of_layers};
use crate::work::Work;
pub(crate) use ends::end_keys;
pub(crate) use memory::PROGRAM_BYTES;
pub use phases::Grain;
use phases::{Phase, is_expert, phases, scheduled_bytes};
use pieces::LEAST_PIECE;
use planner::Planner;
pub use planner::program_bytes;
use reading::{Ways, head_leaf};
pub(crate) use work::{needs_logits, reads_logits};

/// Rows that run together where memory does not ask for fewer.
const CHUNK_ROWS: usize = 2048;

/// Readers of scheduled weights.
pub(crate) const READERS: usize = 2;

/// Smallest piece of a matrix that passes by, bytes.
const SMALLEST_TILE: u64 = 256 << 10;

/// Largest piece of a matrix that passes by, bytes.
const LARGEST_TILE: u64 = 16 << 20;

/// What will be done and what it will cost.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// How finely the model is divided.
    pub grain: Grain,
    /// Records of the dataset.
    pub records: usize,
    /// Tokens of the dataset.
    pub tokens: u64,
    /// Tokens that run through the layers: those of a beginning that records of a super-batch have in
    /// common run once. At most; records that are far apart may have more in common.
    pub rows: u64,
    /// The same by stack, in order.
    #[serde(skip_serializing_if = "is_one")]
    pub stacks: Vec<StackRows>,
    /// Tokens that a record may have in common with others, at most; 0: none.
    pub shared_tokens: usize,
    /// Why common beginnings are not shared, where they are not.
    pub not_shared: Option<&'static str>,
    /// Whether pictures that several records of a super-batch have run once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared_pictures: bool,
    /// Tokens whose activations are in memory together, at most; shared ones count once.
    pub super_batch_tokens: usize,
    /// Tokens that share one pass over the weights, at most: more than are in memory together where
    /// activations are spilled.
    pub pass_tokens: usize,
    /// Activations move to disk and back between layers.
    pub spill: bool,
    /// Bytes of activations written to and read from disk.
    pub bytes_spilled: u64,
    /// Passes over the weights.
    pub super_batches: usize,
    /// Tokens that run through one step together, at most.
    pub chunk_tokens: usize,
    /// Longer records are cut into pieces of so many tokens; `None`: every record is in memory as a whole.
    pub cut_tokens: Option<usize>,
    /// Bytes read from the checkpoint, its headers included: what is expected where experts are chosen as
    /// tokens come, with all experts alike.
    pub bytes_read: u64,
    /// The same if every super-batch chooses every expert.
    pub bytes_read_at_most: u64,
    /// Bytes of results and checkpoints written.
    pub bytes_written: u64,
    /// Bytes for scheduled weights.
    pub weight_budget: u64,
    /// Bytes of a piece of a weight that passes by.
    pub tile_bytes: u64,
    /// Whether the projection to logits stays in memory as well, where the whole model does.
    pub keeps_head: bool,
    /// The peak memory that the process is expected to reach, bytes.
    pub peak_memory: u64,
    /// The memory that it cannot exceed, bytes; at most `--memory`.
    pub memory_bound: u64,
    /// The smallest `--memory` with which this run works, bytes.
    pub smallest_memory: u64,
    /// Floating-point operations of the products.
    pub work: Work,
    /// Seconds that the run is expected to take; `None` where nothing is known of the machine.
    pub seconds: Option<f64>,
    /// Seconds of computing among them, beside which weights are read.
    pub seconds_computing: Option<f64>,
}

/// What runs through one stack.
#[derive(Clone, Debug, Serialize)]
pub struct StackRows {
    /// Its name.
    pub name: &'static str,
    /// Its layers.
    pub layers: usize,
    /// Tokens of the sequence that it reads.
    pub tokens: u64,
    /// Tokens that run through its layers.
    pub rows: u64,
}

/// One stack needs no list.
fn is_one(stacks: &[StackRows]) -> bool {
    stacks.len() == 1
}

impl Plan {
    /// What records have in common that is computed once.
    pub(crate) fn shared(&self) -> Shared {
        Shared {
            tokens: self.shared_tokens,
            pictures: self.shared_pictures,
        }
    }

    /// Keys that are in memory at a time for the pieces of a record.
    pub(crate) fn window_tokens(&self) -> usize {
        pieces::window(self.cut_tokens.unwrap_or(self.chunk_tokens))
    }
}

/// One way to divide the work, with its cost.
#[derive(Clone, Copy)]
struct Candidate {
    grain: Grain,
    rows: usize,
    chunk: usize,
    /// Rows beyond which a record is cut.
    cut: Option<usize>,
    weights: u64,
    tile: u64,
    keeps_head: bool,
    /// Memory that is not exceeded.
    bound: u64,
    passes: u64,
    read: u64,
    /// Tokens of one pass.
    pass: usize,
    /// Bytes of activations that move to disk and back, where they do.
    spilled: Option<u64>,
}

/// How rows run.
#[derive(Clone, Copy)]
struct Shape {
    grain: Grain,
    /// In memory together.
    rows: usize,
    /// Through a step together.
    chunk: usize,
    /// Rows beyond which a record is cut.
    cut: Option<usize>,
}

impl Candidate {
    /// Bytes that cross the disk; a byte that comes over a line each time counts as many as the disk delivers meanwhile.
    fn traffic(&self, limits: Option<Limits>) -> u64 {
        /// Bytes a second of a disk of which nothing is known.
        const USUAL_DISK: f64 = 1e9;
        let line = limits.and_then(|limits| limits.line);
        let slower = line.filter(|line| line.each_time).map_or(1.0, |line| {
            let disk = limits.and_then(|limits| limits.bytes_per_second);
            (disk.unwrap_or(USUAL_DISK) / line.bytes_per_second).max(1.0)
        });
        (self.read as f64 * slower) as u64 + self.spilled.unwrap_or(0)
    }
}

/// Plans a run over these records; what the run needs of the model beside its weights is looked at as well.
pub fn plan(
    model: &Model,
    records: &RecordSpool,
    settings: &Settings,
) -> Result<Plan, EngineError> {
    check_recipes(model, settings)?;
    Planner::new(model, records, settings)?.plan()
}

/// Whether a run over these records can begin: all that [`plan`] refuses, without the plan. Looks at no token.
pub fn check(model: &Model, records: &RecordSpool, settings: &Settings) -> Result<(), EngineError> {
    check_recipes(model, settings)?;
    Planner::new(model, records, settings)?
        .fitting()
        .map(|_| ())
}

/// Looks at what embeddings and sparse ones need of the model's folder.
fn check_recipes(model: &Model, settings: &Settings) -> Result<(), EngineError> {
    for take in &settings.takes {
        match take {
            Take::Embedding(asked) => drop(recipe(model, *asked)?),
            Take::Sparse if lexical::is_there(model)? => drop(LexicalLayer::of(model)?),
            Take::Sparse => drop(sparse_recipe(model)?),
            _ => {}
        }
    }
    Ok(())
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan, EngineError> {
        let smallest = self.fitting()?;
        let limits = self.settings.machine.limits;
        let traffic = |candidate: &Candidate| candidate.traffic(limits);
        let mut best: Option<Candidate> = None;
        for grain in [Grain::Model, Grain::Layer, Grain::Step, Grain::Tile] {
            for candidate in self.candidates(grain)? {
                let better = best.as_ref().is_none_or(|best| {
                    (traffic(&candidate), candidate.passes, candidate.grain as u8)
                        < (traffic(best), best.passes, best.grain as u8)
                });
                if better {
                    best = Some(candidate);
                }
            }
        }
        let Some(best) = best else {
            return Err(EngineError::Budget {
                given: self.settings.memory,
                needed: smallest,
            });
        };
        let division = self.division.cut(best.cut);
        let (work, rows) = Work::of(self.model, self.records, division, best.rows);
        let stacks = self.model.spec.stacks.iter().zip(&rows);
        let stacks = stacks.map(|(stack, &rows)| StackRows {
            name: stack.name,
            layers: stack.layers.len(),
            tokens: self.records.of(stack.sequence).total_tokens(),
            rows,
        });
        let stacks = stacks.collect();
        let phases = phases(self.model, best.grain, self.settings.compute);
        let ways = Ways {
            division,
            grain: best.grain,
            phases: &phases,
            pass: best.pass,
            rows: best.rows,
            tile: best.tile,
            keeps_head: best.keeps_head,
        };
        let bytes = self.reads(ways)?;
        let before = self.model.checkpoint.bytes_read();
        let expected = self.expected_peak(ways, best.chunk, best.weights);
        let mut plan = Plan {
            grain: best.grain,
            records: self.records.len(),
            tokens: self.records.tokens_in_all(&self.model.spec),
            rows: rows.iter().sum(),
            stacks,
            shared_tokens: self.sharing.unwrap_or(0),
            not_shared: self.sharing.err(),
            shared_pictures: self.shared.pictures,
            super_batch_tokens: best.rows,
            pass_tokens: best.pass,
            spill: best.spilled.is_some(),
            bytes_spilled: best.spilled.unwrap_or(0),
            super_batches: best.passes as usize,
            chunk_tokens: best.chunk,
            cut_tokens: best.cut,
            bytes_read: before + bytes.expected as u64,
            bytes_read_at_most: before + bytes.most as u64,
            bytes_written: work::bytes_written(self.model, self.records, self.settings),
            weight_budget: best.weights,
            tile_bytes: best.tile,
            keeps_head: best.keeps_head,
            peak_memory: expected.min(best.bound),
            memory_bound: best.bound,
            smallest_memory: smallest.max(self.records.needed()),
            work,
            seconds: None,
            seconds_computing: None,
        };
        if let Some(expected) = self.expected_time(ways, &plan, bytes) {
            plan.seconds = Some(expected.seconds);
            plan.seconds_computing = Some(expected.computing);
            plan.bytes_written += self.checkpoints(&plan, expected.seconds);
        }
        Ok(plan)
    }

    /// The least memory with which this run works, if that much is given.
    fn fitting(&self) -> Result<u64, EngineError> {
        let (given, needed) = (self.settings.memory, self.smallest()?);
        if needed > given {
            return Err(EngineError::Budget { given, needed });
        }
        Ok(needed)
    }

    /// The least memory with which this run works.
    fn smallest(&self) -> Result<u64, EngineError> {
        let all = phases(self.model, Grain::Tile, self.settings.compute);
        let ends = self.end_bytes().into_iter().max().unwrap_or(0);
        let weights = all
            .iter()
            .map(|phase| phase.bytes)
            .max()
            .unwrap_or(0)
            .max(ends);
        let least = |rows: usize, cut: Option<usize>| {
            let shape = Shape {
                grain: Grain::Tile,
                rows,
                chunk: rows,
                cut,
            };
            self.bound(shape, weights, SMALLEST_TILE)
        };
        let whole = least(self.longest, None)?;
        if !self.may_cut() {
            return Ok(whole);
        }
        Ok(whole.min(least(LEAST_PIECE, Some(LEAST_PIECE))?))
    }

    /// The ways to run at one grain that fit, from most to fewest rows.
    fn candidates(&self, grain: Grain) -> Result<Vec<Candidate>, EngineError> {
        let all = phases(self.model, grain, self.settings.compute);
        let mut weights = vec![];
        let ends = self.end_bytes();
        let (ends, all_ends) = (
            ends.iter().copied().max().unwrap_or(0),
            ends.iter().sum::<u64>(),
        );
        match grain {
            Grain::Model => {
                let whole = all.iter().map(|phase| phase.bytes).sum::<u64>() + all_ends;
                weights.push((whole, false));
                if let Some(head) = head_leaf(self.model, self.settings) {
                    let head = packed_bytes(head, head.rows(), self.settings.compute);
                    weights.push((whole + head, true));
                }
            }
            Grain::Layer | Grain::Step => {
                let single = all
                    .iter()
                    .map(|phase| phase.bytes)
                    .max()
                    .unwrap_or(0)
                    .max(ends);
                let pair = all
                    .windows(2)
                    .map(|pair| pair[0].bytes + pair[1].bytes)
                    .max()
                    .unwrap_or(single)
                    .max(single + ends.min(single));
                weights.extend([(pair, false), (single, false)]);
            }
            Grain::Tile => {
                let largest = all.iter().map(|phase| phase.bytes).max().unwrap_or(0);
                weights.push((largest.max(ends), false));
            }
        }
        let mut found = Vec::new();
        for (weights, keeps_head) in weights {
            for cuts in [false, true] {
                if cuts && !self.may_cut() {
                    continue;
                }
                for candidate in self.fit(grain, weights, keeps_head, cuts)? {
                    found.extend(self.spilled(&candidate, &all));
                    // Pieces of a record move to disk in any case.
                    if self.settings.spill != Spill::Always && !cuts {
                        found.push(candidate);
                    }
                }
            }
        }
        Ok(found)
    }

    /// The most rows that fit beside `weights`, with every size of the pieces that pass by, the largest
    /// first: larger pieces are read faster, but a pass less is worth more. Records are whole, or those that
    /// are longer than what runs together are cut.
    fn fit(
        &self,
        grain: Grain,
        weights: u64,
        keeps_head: bool,
        cuts: bool,
    ) -> Result<Vec<Candidate>, EngineError> {
        let memory = self.settings.memory;
        let least = if cuts { LEAST_PIECE } else { self.longest };
        let mut found: Vec<Candidate> = Vec::new();
        let mut tile = LARGEST_TILE;
        while tile >= SMALLEST_TILE {
            let bound = |rows: usize| self.bound(self.shape(grain, rows, cuts), weights, tile);
            if bound(least)? <= memory {
                let (mut low, mut high) = (least, self.total.max(least));
                while low < high {
                    let middle = low + (high - low).div_ceil(2);
                    if bound(middle)? <= memory {
                        low = middle;
                    } else {
                        high = middle - 1;
                    }
                }
                let shape = self.shape(grain, low, cuts);
                let passes = self.passes(low, shape.cut);
                // Smaller pieces are worth their reads where they save a pass; where nothing is cut, cutting
                // is no way of its own.
                let is_new = !cuts || shape.cut.is_some_and(|cut| cut < self.longest);
                if is_new && found.last().is_none_or(|larger| passes < larger.passes) {
                    found.push(Candidate {
                        grain,
                        rows: low,
                        chunk: shape.chunk,
                        cut: shape.cut,
                        weights,
                        tile,
                        keeps_head,
                        bound: bound(low)?,
                        passes,
                        read: self.bytes_read(
                            grain,
                            keeps_head,
                            passes,
                            self.parts(low, shape.cut),
                        ),
                        pass: low,
                        spilled: None,
                    });
                }
            }
            tile /= 2;
        }
        Ok(found)
    }

    /// Parts of at most `rows` rows that are in memory together.
    fn parts(&self, rows: usize, cut: Option<usize>) -> u64 {
        let division = self.division.cut(cut);
        division.portions(0..self.records.len(), rows).len() as u64
    }

    /// How `rows` rows in memory run.
    fn shape(&self, grain: Grain, rows: usize, cuts: bool) -> Shape {
        let wanted = self.settings.chunk_tokens.unwrap_or(CHUNK_ROWS);
        let longest = if cuts { LEAST_PIECE } else { self.longest };
        let chunk = match grain {
            // Tiles pass by once a chunk, so one chunk is best.
            Grain::Tile => rows,
            _ => wanted.clamp(1, rows).max(longest.min(rows)),
        };
        Shape {
            grain,
            rows,
            chunk,
            cut: cuts.then_some(chunk),
        }
    }

    /// Memory that is not exceeded.
    fn bound(&self, shape: Shape, weights: u64, tile: u64) -> Result<u64, EngineError> {
        let Shape {
            grain,
            rows,
            chunk,
            cut,
        } = shape;
        let spec = &self.model.spec;
        let tiled = grain == Grain::Tile;
        let mut scratch = memory::scratch_bytes(spec, chunk, rows, tiled, memory::Choice::Alike);
        if let Ok(shared) = self.sharing
            && chunk < rows
        {
            let together = matches!(grain, Grain::Model | Grain::Layer);
            scratch += shared as u64 * memory::carried_bytes(spec, together);
        }
        scratch += pieces::summary_bytes(spec) + cut.map_or(0, |piece| self.cut_bytes(piece));
        let rows_bytes = rows as u64 * self.row;
        let kernels = memory::kernel_bytes(
            spec,
            rows,
            self.longest.min(cut.map_or(usize::MAX, pieces::window)),
            self.settings.threads,
            self.settings.compute,
        ) + self.rounding;
        // Of the readers, and in front of what passes by.
        let staging = READERS as u64 * self.staging[usize::from(tiled)]
            + STAGING_BYTES as u64
            + self.passing.beside;
        let passing = self.passing_bytes(tile, tiled);
        // The head runs when the layers' scratch is given up.
        let work = scratch.max(memory::head_bytes(
            spec,
            rows,
            needs_logits(&self.settings.takes),
        ));
        let work = work.max(memory::stem_bytes(spec, self.longest));
        let open = memory::open_bytes(spec, &self.settings.takes, self.longest_record());
        let running = rows_bytes + work + weights + passing + kernels + staging + open;
        // The tables are written when the run is over.
        let written = memory::table_bytes(spec, &self.settings.takes, self.longest_record());
        Ok(self.fixed + running.max(written))
    }

    /// The longest record as tables see it.
    fn longest_record(&self) -> memory::Longest {
        memory::Longest {
            tokens: self.longest,
            annotated: self.records.is_annotated(),
        }
    }

    /// Bytes of two pieces of weights that pass by: experts, tiles, the head.
    fn passing_bytes(&self, tile: u64, tiled: bool) -> u64 {
        let passing = &self.passing;
        let mut largest = if tiled {
            // Tiles of a group are at most as large as asked for, or the least there is.
            passing.expert.min(passing.least_expert.max(tile))
        } else {
            passing.expert
        };
        if tiled {
            largest = largest.max(passing.least_tile.max(tile));
        }
        if let Some(least) = passing.least_head {
            largest = largest.max(least.max(tile));
        }
        2 * largest
    }

    /// Scheduled bytes of every embedding and every head.
    fn end_bytes(&self) -> Vec<u64> {
        let mut bytes = Vec::new();
        for stack in 0..self.model.spec.stacks.len() {
            for part in [Section::Embedding, Section::Head] {
                let keys = end_keys(self.model, stack, part);
                bytes.push(scheduled_bytes(self.model, &keys, self.settings.compute));
            }
        }
        bytes
    }

    /// Bytes of a run of so many passes and parts, to compare ways to divide it: every expert is chosen, no
    /// table is looked up.
    fn bytes_read(&self, grain: Grain, keeps_head: bool, passes: u64, parts: u64) -> u64 {
        let (mut layers, mut experts) = (0, 0);
        for key in of_layers(self.model).flatten() {
            let bytes = key.bound(self.model).total_bytes();
            *(if is_expert(key.leaf(self.model)) {
                &mut experts
            } else {
                &mut layers
            }) += bytes;
        }
        // What passes by does so for every part, even where everything else stays.
        let layer_passes = match grain {
            Grain::Model => 1,
            Grain::Layer | Grain::Step => passes,
            Grain::Tile => parts,
        };
        let heads = if keeps_head { 1 } else { parts };
        layers * layer_passes + experts * parts + self.head_bytes() * heads
    }

    /// Bytes of the projection to logits, where it is needed.
    fn head_bytes(&self) -> u64 {
        head_leaf(self.model, self.settings).map_or(0, BoundLeaf::total_bytes)
    }

    /// The same division with activations on disk, where that may be done: one pass over the
    /// weights for as many tokens as the disk has room for.
    fn spilled(&self, plain: &Candidate, all: &[Phase]) -> Option<Candidate> {
        if self.settings.spill == Spill::Never {
            return None;
        }
        let stacks = &self.model.spec.stacks;
        let compares = self.settings.takes.contains(&Take::Profile);
        let values = |stack: &sli_spec::Stack| {
            memory::boundary_values(stack) + if compares { stack.hidden_size } else { 0 }
        };
        let row = 4 * stacks.iter().map(values).max().unwrap_or(0) as u64;
        // The weights of a phase stay while its parts pass by; experts and tiles do not, so every part would
        // read them again.
        let stay = plain.grain != Grain::Tile && !all.iter().any(|phase| phase.whole);
        let keys = plain.cut.map_or(0, |_| self.keys_on_disk());
        let room = self.settings.spill_room.saturating_sub(keys) / row.max(1);
        let room = room.min(usize::MAX as u64) as usize;
        if plain.cut.is_some() && room < self.longest {
            return None;
        }
        // Records that are cut share nothing.
        let division = self.division.cut(plain.cut);
        let total = division.rows(0..self.records.len());
        let pass = if stay {
            total.min(room).max(plain.rows)
        } else {
            plain.rows
        };
        if plain.cut.is_none()
            && self.settings.spill == Spill::Auto
            && (plain.passes == 1 || pass == plain.rows)
        {
            return None;
        }
        // Written when they are embedded, read and written by every phase; the ends of earlier stacks are written once
        // and read in front of every phase.
        let moved = stacks.iter().enumerate().map(|(index, stack)| {
            let phases = all.iter().filter(|phase| phase.stack == index).count() as u64;
            let rows = |stack: usize| match stacks.len() {
                1 => total as u64,
                _ => self.records.of(stacks[stack].sequence).total_tokens(),
            };
            let own = rows(index) * values(stack) as u64 * (2 * phases + 1);
            let sources = stack.sources().into_iter();
            let sources = sources
                .map(|source| rows(source) * stacks[source].end_width() as u64 * (phases + 2));
            4 * (own + sources.sum::<u64>())
        });
        let moved: u64 = moved.sum();
        let passes = self.passes(pass, plain.cut);
        let parts = self.parts(plain.rows, plain.cut);
        let read = self.bytes_read(plain.grain, plain.keeps_head, passes, parts);
        let crossing = if plain.cut.is_some() {
            self.keys_crossing(division)
        } else {
            0
        };
        Some(Candidate {
            passes,
            read,
            pass,
            spilled: Some(moved + crossing),
            ..*plain
        })
    }

    /// Bytes of the activations that checkpoints write within super-batches, in a run of so many seconds.
    fn checkpoints(&self, plan: &Plan, seconds: f64) -> u64 {
        let stacks = self.model.spec.stacks.iter();
        let layers: usize = stacks.map(|stack| stack.layers.len()).sum();
        let most = (plan.super_batches * layers) as f64;
        let interval = self.settings.checkpoint_interval.as_secs_f64();
        let count = (seconds / interval.max(1e-9)).floor().min(most);
        let rows = plan.pass_tokens.min(self.total);
        let values = self
            .model
            .spec
            .stacks
            .iter()
            .map(memory::boundary_values)
            .max();
        count as u64 * (4 * rows * values.unwrap_or(0)) as u64
    }

    /// Super-batches of at most `rows` tokens.
    fn passes(&self, rows: usize, cut: Option<usize>) -> u64 {
        let division = self.division.cut(cut);
        division.starts(0..self.records.len(), rows).len() as u64
    }
}
