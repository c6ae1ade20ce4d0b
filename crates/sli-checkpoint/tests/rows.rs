//! Any expression, any rows: the bytes are those of a naive evaluation of the whole weight, and what
//! is read is what is needed.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use sli_checkpoint::source::{CountingSource, MemorySource};
use sli_checkpoint::{BoundLeaf, Buffers, Checkpoint, Dtype};
use sli_spec::{Source, Split};
use support::{Tensor, bind, leaf, safetensors};

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    fn divisor(&mut self, n: usize) -> usize {
        let divisors: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
        divisors
            .get(self.below(divisors.len()))
            .copied()
            .unwrap_or(1)
    }
}

/// Builds a random expression of a wanted shape, and the tensors it needs.
struct Maker {
    dice: Dice,
    /// Name (with `{}`) and shape of each tensor, how many of it.
    tensors: Vec<(String, Vec<usize>, Option<usize>)>,
    each: Option<usize>,
}

impl Maker {
    fn tensor(&mut self, shape: Vec<usize>) -> Source {
        let number = self.tensors.len();
        let name = match self.each {
            Some(_) => format!("t{number}.{{}}.w"),
            None => format!("t{number}.w"),
        };
        self.tensors.push((name.clone(), shape, self.each));
        Source::Tensor(name)
    }

    /// An expression of shape `leading + own`; `known`: the wanted shape reaches it.
    fn make(&mut self, leading: &[usize], own: &[usize], known: bool, depth: usize) -> Source {
        let whole = [leading, own].concat();
        if depth == 0 {
            return self.tensor(whole);
        }
        let rows = own[0];
        let with_rows = |rows: usize| [&[rows], &own[1..]].concat();
        match self.dice.below(13) {
            0 => {
                let (a, b) = (self.dice.below(3), self.dice.below(3));
                let of = self.make(leading, &with_rows(a + rows + b), known, depth - 1);
                of.part(Split::Rows(vec![a, rows, b]), 1)
            }
            1 => {
                let (heads, parts) = (self.dice.divisor(rows), 1 + self.dice.below(3));
                let part = self.dice.below(parts);
                let of = self.make(leading, &with_rows(rows * parts), known, depth - 1);
                of.part(Split::PerHead { heads, parts }, part)
            }
            2 => {
                let groups = self.dice.divisor(rows);
                let part = self.dice.below(3);
                let queries = if part == 0 {
                    self.dice.divisor(rows / groups)
                } else {
                    self.dice.below(4)
                };
                let members = if part == 0 { queries } else { 1 };
                let total = rows / members * (queries + 2);
                let of = self.make(leading, &with_rows(total), known, depth - 1);
                of.part(Split::Grouped { groups, queries }, part)
            }
            3 => {
                let parts = 1 + self.dice.below(3);
                let part = self.dice.below(parts);
                let of = self.make(leading, &with_rows(rows * parts), known, depth - 1);
                of.part(Split::Strided { parts }, part)
            }
            11 => {
                let groups = self.dice.divisor(rows);
                let (a, b) = (self.dice.below(3), self.dice.below(3));
                let parts = vec![a, rows / groups, b];
                let total = groups * (a + b) + rows;
                let of = self.make(leading, &with_rows(total), known, depth - 1);
                of.part(
                    Split::Groups {
                        groups,
                        rows: parts,
                    },
                    1,
                )
            }
            4 if own.len() == 2 => self
                .make(leading, &[own[1], own[0]], known, depth - 1)
                .transpose(),
            5 if rows >= 2 => {
                let above = 1 + self.dice.below(rows - 1);
                Source::ConcatRows(vec![
                    self.make(leading, &with_rows(above), false, depth - 1),
                    self.make(leading, &with_rows(rows - above), false, depth - 1),
                ])
            }
            6 if own.len() == 2 && own[1] >= 2 => {
                let left = 1 + self.dice.below(own[1] - 1);
                Source::ConcatColumns(vec![
                    self.make(leading, &[rows, left], false, depth - 1),
                    self.make(leading, &[rows, own[1] - left], false, depth - 1),
                ])
            }
            7 if rows.is_multiple_of(2) => {
                let head_dim = 2 * self.dice.divisor(rows / 2);
                let of = self.make(leading, own, known, depth - 1);
                Source::RopePermute {
                    of: Box::new(of),
                    head_dim,
                }
            }
            8 if known => {
                let mut stored = whole.clone();
                stored.insert(self.dice.below(stored.len() + 1), 1);
                Source::Reshape(Box::new(self.tensor(stored)))
            }
            9 => {
                let count = 1 + self.dice.below(3);
                let index = self.dice.below(count);
                let leading = [&[count], leading].concat();
                let of = self.make(&leading, own, false, depth - 1);
                Source::Index {
                    of: Box::new(of),
                    index,
                }
            }
            10 => {
                let of = self.make(leading, own, known, depth - 1);
                Source::OneOf(vec![
                    Source::tensor("absent.w"),
                    of,
                    Source::tensor("gone.w"),
                ])
            }
            12 => Source::Tied {
                own: Box::new(Source::tensor("absent.w")),
                all: vec![
                    Source::tensor("absent.w"),
                    self.make(leading, own, known, depth - 1),
                ],
            },
            _ => self.make(leading, own, known, depth - 1),
        }
    }
}

/// A whole weight: shape and where each element is stored (its number in the checkpoint).
type Whole = (Vec<usize>, Vec<u64>);

/// Evaluates an expression by moving every element. `own`: axes of a slice.
fn naive(
    source: &Source,
    tensors: &BTreeMap<String, Whole>,
    own: usize,
    slot: Option<usize>,
) -> Whole {
    let recurse = |of: &Source| naive(of, tensors, own, slot);
    match source {
        Source::Tensor(name) => {
            let name = slot.map_or(name.clone(), |slot| name.replace("{}", &slot.to_string()));
            tensors[&name].clone()
        }
        Source::OneOf(all) | Source::Tied { own: _, all } => recurse(&all[1]),
        Source::Elementwise { of, .. } => recurse(of),
        Source::Reshape(of) => {
            // The maker only inserts an axis of 1 into shapes that have none.
            let (shape, elements) = recurse(of);
            (shape.into_iter().filter(|&n| n != 1).collect(), elements)
        }
        Source::Part { of, split, part } => {
            let whole = recurse(of);
            let rows = whole.0[whole.0.len() - own];
            let parts: Vec<usize> = (0..rows).map(|row| part_of(split, rows, row)).collect();
            let keep: Vec<usize> = (0..rows).filter(|&row| parts[row] == *part).collect();
            pick_rows(&whole, own, &keep)
        }
        Source::RopePermute { of, head_dim } => {
            let whole = recurse(of);
            let rows = whole.0[whole.0.len() - own];
            let half = head_dim / 2;
            let from = |row: usize| {
                let (head, i) = (row / head_dim, row % head_dim);
                head * head_dim + (i % half) * 2 + i / half
            };
            pick_rows(&whole, own, &(0..rows).map(from).collect::<Vec<_>>())
        }
        Source::BlockDiagonal { .. } => panic!("the maker makes none"),
        Source::Transpose(of) => transposed(&recurse(of)),
        Source::Each { of, count } => {
            let slices: Vec<Whole> = (0..*count)
                .map(|slot| naive(of, tensors, own, Some(slot)))
                .collect();
            let shape = [&[*count], slices[0].0.as_slice()].concat();
            (
                shape,
                slices.into_iter().flat_map(|slice| slice.1).collect(),
            )
        }
        Source::Index { of, index } => {
            let (shape, elements) = recurse(of);
            let each = elements.len() / shape[0];
            (
                shape[1..].to_vec(),
                elements[index * each..(index + 1) * each].to_vec(),
            )
        }
        Source::ConcatRows(all) => {
            let all: Vec<Whole> = all.iter().map(recurse).collect();
            concat_rows(&all, own)
        }
        Source::ConcatColumns(all) => {
            let all: Vec<Whole> = all.iter().map(|one| transposed(&recurse(one))).collect();
            transposed(&concat_rows(&all, own))
        }
    }
}

fn part_of(split: &Split, rows: usize, row: usize) -> usize {
    match split {
        Split::Rows(sizes) => {
            let mut end = 0;
            sizes
                .iter()
                .position(|size| {
                    end += size;
                    row < end
                })
                .expect("a part")
        }
        Split::PerHead { heads, parts } => row / (rows / heads / parts) % parts,
        Split::Grouped { groups, queries } => {
            let member = row / (rows / groups / (queries + 2)) % (queries + 2);
            if member < *queries {
                0
            } else {
                member - queries + 1
            }
        }
        Split::Groups {
            groups: _,
            rows: parts,
        } => {
            let own = row % parts.iter().sum::<usize>();
            part_of(&Split::Rows(parts.clone()), rows, own)
        }
        Split::Strided { parts } => row % parts,
    }
}

/// Row length in elements, and the number of rows of a slice.
fn layout(shape: &[usize], own: usize) -> (usize, usize) {
    let columns = if own == 2 { shape[shape.len() - 1] } else { 1 };
    (columns, shape[shape.len() - own])
}

fn pick_rows((shape, elements): &Whole, own: usize, keep: &[usize]) -> Whole {
    let (columns, rows) = layout(shape, own);
    let mut picked = Vec::new();
    for slice in elements.chunks(rows * columns) {
        for row in keep {
            picked.extend(&slice[row * columns..(row + 1) * columns]);
        }
    }
    let mut shape = shape.clone();
    let axis = shape.len() - own;
    shape[axis] = keep.len();
    (shape, picked)
}

fn transposed((shape, elements): &Whole) -> Whole {
    let (columns, rows) = layout(shape, 2);
    let mut turned = Vec::new();
    for slice in elements.chunks(rows * columns) {
        for column in 0..columns {
            turned.extend((0..rows).map(|row| slice[row * columns + column]));
        }
    }
    let mut shape = shape.clone();
    let rank = shape.len();
    shape.swap(rank - 1, rank - 2);
    (shape, turned)
}

fn concat_rows(all: &[Whole], own: usize) -> Whole {
    let mut shape = all[0].0.clone();
    let axis = shape.len() - own;
    let slices: usize = shape[..axis].iter().product();
    let mut joined = Vec::new();
    for slice in 0..slices {
        for (_, elements) in all {
            let each = elements.len() / slices;
            joined.extend(&elements[slice * each..(slice + 1) * each]);
        }
    }
    shape[axis] = all.iter().map(|one| one.0[axis]).sum();
    (shape, joined)
}

/// A random expression, its leaf bound to a checkpoint, and where each of its elements is stored.
struct Case {
    source: Source,
    leaf: BoundLeaf,
    counting: Arc<CountingSource<MemorySource>>,
    files: Vec<Vec<u8>>,
    /// File, and byte of the element there.
    places: Vec<(usize, usize)>,
}

fn case(seed: u64, shape: &[usize], dtype: Dtype, depth: usize) -> Case {
    let size = dtype.size_bytes().expect("whole bytes");
    let mut maker = Maker {
        dice: Dice(seed),
        tensors: Vec::new(),
        each: None,
    };
    let own = shape.len().min(2);
    let (leading, own_shape) = shape.split_at(shape.len() - own);
    let source = match leading {
        [count] if maker.dice.below(2) == 0 => {
            maker.each = Some(*count);
            let of = maker.make(&[], own_shape, true, depth);
            Source::Each {
                of: Box::new(of),
                count: *count,
            }
        }
        _ => maker.make(leading, own_shape, true, depth),
    };
    // Two shards, each tensor in one of them.
    let mut shards: [Vec<Tensor>; 2] = [Vec::new(), Vec::new()];
    let mut whole = BTreeMap::new();
    let mut next = 0_u64;
    for (name, shape, each) in &maker.tensors {
        for slot in 0..each.unwrap_or(1) {
            let count: usize = shape.iter().product();
            let ids: Vec<u64> = (next..next + count as u64).collect();
            next += count as u64;
            let bytes = ids.iter().flat_map(|id| element_bytes(*id, size)).collect();
            let name = name.replace("{}", &slot.to_string());
            let shard = maker.dice.below(2);
            shards[shard].push(Tensor::new(&name, dtype, shape, bytes));
            whole.insert(name, (shape.clone(), ids));
        }
    }
    let mut source_files = MemorySource::new();
    let mut weight_map = serde_json::Map::new();
    let mut files = Vec::new();
    for (i, tensors) in shards.iter().enumerate() {
        let file = safetensors(tensors);
        if !tensors.is_empty() {
            source_files = source_files.with(format!("shard{i}.safetensors"), file.clone());
            files.push(file);
        }
        for tensor in tensors {
            weight_map.insert(tensor.name.clone(), format!("shard{i}.safetensors").into());
        }
    }
    let index = serde_json::json!({ "weight_map": weight_map }).to_string();
    source_files = source_files.with("model.safetensors.index.json", index);
    let counting = Arc::new(CountingSource::new(source_files));
    let checkpoint = Checkpoint::open_with(Box::new(Arc::clone(&counting))).expect("sound");
    let mut starts = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let first = whole[&*tensor.name].1.first().copied();
        first.map(|id| starts.insert(id, (tensor.file.0 as usize, tensor.offset as usize)));
    }
    let (_, ids) = naive(&source, &whole, own, None);
    let places = ids.iter().map(|id| {
        let (first, (file, offset)) = starts.range(..=id).next_back().expect("a tensor");
        (*file, offset + (id - first) as usize * size)
    });
    let places = places.collect();
    let leaf = bind(&Arc::new(checkpoint), &leaf(source.clone(), shape));
    let leaf = leaf.unwrap_or_else(|error| panic!("{source:?}: {error}"));
    Case {
        source,
        leaf,
        counting,
        files,
        places,
    }
}

fn element_bytes(id: u64, size: usize) -> Vec<u8> {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id;
    mixed.to_le_bytes()[..size].to_vec()
}

/// Largest gap that may be read through.
const MAX_GAP: usize = 4 << 10;

impl Case {
    fn check(&self, slice: usize, rows: std::ops::Range<usize>) {
        let Self {
            source,
            leaf,
            counting,
            files,
            places,
        } = self;
        let size = leaf.float().size();
        let columns = leaf.columns();
        let first = (slice * leaf.rows() + rows.start) * columns;
        let places = &places[first..first + rows.len() * columns];
        let wanted: Vec<u8> = places
            .iter()
            .flat_map(|&(file, at)| files[file][at..at + size].iter().copied())
            .collect();

        counting.reset();
        let mut out = vec![0xa5; wanted.len()];
        leaf.read_rows(slice, rows.clone(), &mut out).expect("read");
        assert!(
            out == wanted,
            "rows {rows:?} of slice {slice} of {source:?}"
        );
        let read: u64 = counting.bytes();
        if slice == 0 {
            assert_eq!(read, leaf.stored_bytes(rows.clone()), "{source:?}");
        }

        let needed: BTreeSet<(usize, usize)> = places.iter().copied().collect();
        let mut covered = 0;
        for range in leaf.byte_ranges(slice, rows.clone()).expect("ranges") {
            let file = range.file.0 as usize;
            let (start, end) = (range.bytes.start as usize, range.bytes.end as usize);
            let mut at = start;
            for &(_, element) in needed.range((file, start)..(file, end)) {
                assert!(element - at <= MAX_GAP, "a gap of {} bytes", element - at);
                assert!(
                    at > start || element == start,
                    "a range starts with what is needed"
                );
                at = element + size;
                covered += 1;
            }
            assert_eq!(at, end, "a range ends with what is needed");
        }
        assert_eq!(covered, needed.len(), "every element is in a range");

        let mut order: Vec<usize> = rows.clone().rev().chain(rows.clone().take(1)).collect();
        order.rotate_left(rows.len() / 2);
        let mut gathered = vec![0x5a; order.len() * columns * size];
        leaf.gather_rows(slice, &order, &mut gathered)
            .expect("gathered");
        for (row, got) in order.iter().zip(gathered.chunks(columns * size)) {
            let at = (row - rows.start) * columns * size;
            assert!(
                got == &wanted[at..at + columns * size],
                "row {row} of {source:?}"
            );
        }
    }
}

fn ranges(dice: &mut Dice, rows: usize) -> std::ops::Range<usize> {
    let (a, b) = (dice.below(rows + 1), dice.below(rows + 1));
    a.min(b)..a.max(b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn rows_are_those_of_the_naive_evaluation(
        seed: u64,
        shape in prop::collection::vec(2_usize..13, 1..=3),
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64]),
        depth in 0_usize..5,
    ) {
        let case = case(seed, &shape, dtype, depth);
        let mut dice = Dice(!seed);
        case.check(0, 0..case.leaf.rows());
        for _ in 0..3 {
            let slice = dice.below(case.leaf.slices());
            let rows = ranges(&mut dice, case.leaf.rows());
            case.check(slice, rows);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..Default::default() })]

    // Rows and columns so long that gaps are read around and slabs fill up.
    #[test]
    fn long_rows_are_those_of_the_naive_evaluation(
        seed: u64,
        shape in prop::sample::select(vec![
            vec![6, 9001], vec![9001, 6], vec![40_000], vec![2, 4, 10_007], vec![300, 301], vec![1024, 256],
        ]),
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64]),
        depth in 1_usize..3,
    ) {
        let case = case(seed, &shape, dtype, depth);
        let mut dice = Dice(!seed);
        case.check(0, 0..case.leaf.rows());
        let rows = ranges(&mut dice, case.leaf.rows());
        case.check(case.leaf.slices() - 1, rows);
    }
}

/// One column of a tensor whose rows are longer than a page and a bit: each element is read by itself.
#[test]
fn one_column_of_long_rows_is_read_around_its_gaps() {
    let stored = [40, 1124];
    let checkpoint = support::checkpoint(&[Tensor::counting("w", &stored)]);
    let turned = leaf(Source::tensor("w").transpose(), &[stored[1], stored[0]]);
    let column = bind(&checkpoint, &turned).expect("there");
    assert_eq!(column.stored_bytes(7..8), column.total_bytes() / 1124);
}

/// A window of a transposed weight takes little more than its own bytes, though its pieces are far
/// apart: windows together do not read the weight several times.
#[test]
fn windows_of_a_transposed_weight_do_not_read_it_over_and_over() {
    let (stored_rows, stored_columns) = (64, 100_000);
    let checkpoint = support::checkpoint(&[Tensor::counting("w", &[stored_rows, stored_columns])]);
    let turned = Source::tensor("w").transpose();
    let turned = leaf(turned, &[stored_columns, stored_rows]);
    let leaf = bind(&checkpoint, &turned).expect("there");
    let windows = (0..stored_columns)
        .step_by(5000)
        .map(|start| start..start + 5000);
    let read: u64 = windows.map(|rows| leaf.stored_bytes(rows)).sum();
    assert_eq!(read, leaf.total_bytes());
    // Two interleaved halves: gaps wider than a page are read around.
    let half = Source::tensor("w").part(Split::Strided { parts: 2 }, 0);
    let checkpoint = support::checkpoint(&[Tensor::counting("w", &[1000, 3000])]);
    let half = bind(&checkpoint, &support::leaf(half, &[500, 3000])).expect("there");
    assert_eq!(half.stored_bytes(0..500), half.total_bytes());
}

/// Two matrices whose columns alternate in a transposed tensor are read in one go.
#[test]
fn weights_between_one_another_are_read_together() {
    let file = safetensors(&[Tensor::counting("w", &[2, 300, 200])]);
    let source = MemorySource::new().with("model.safetensors", file);
    let counting = Arc::new(CountingSource::new(source));
    let checkpoint = Checkpoint::open_with(Box::new(Arc::clone(&counting))).expect("opens");
    let part = |index| {
        let part = Source::tensor("w")
            .transpose()
            .part(Split::Strided { parts: 2 }, index);
        leaf(part, &[2, 100, 300])
    };
    let checkpoint = Arc::new(checkpoint);
    let [even, odd] = [0, 1].map(|index| bind(&checkpoint, &part(index)).expect("there"));
    assert!(even.overlaps(&odd).expect("ranges"));
    let bytes = even.row_bytes() * 100;
    let mut together = vec![0; 2 * bytes];
    counting.reset();
    let buffers = &mut Buffers::default();
    BoundLeaf::read_rows_together(&[&even, &odd], 1, 0..100, &mut together, buffers).expect("read");
    assert_eq!(counting.bytes(), 2 * bytes as u64);
    for (leaf, together) in [&even, &odd].into_iter().zip(together.chunks(bytes)) {
        let mut alone = vec![0; bytes];
        leaf.read_rows(1, 0..100, &mut alone).expect("read");
        assert!(alone == together);
    }
}

#[test]
fn blocks_on_a_diagonal_have_zeros_around_them() {
    let stored: Vec<f32> = (1..=24).map(|n| n as f32).collect();
    let bytes = stored
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let tensor = Tensor::new("w", Dtype::F32, &[2, 3, 4], bytes);
    let checkpoint = support::checkpoint(&[tensor]);
    let blocks = Source::Reshape(Box::new(Source::tensor("w"))).block_diagonal(2);
    let at = |row: usize, column: usize| {
        if row / 3 == column / 4 {
            stored[row * 4 + column % 4]
        } else {
            0.0
        }
    };
    let whole = bind(&checkpoint, &leaf(blocks.clone(), &[6, 8])).expect("is there");
    let turned = bind(&checkpoint, &leaf(blocks.clone().transpose(), &[8, 6])).expect("is there");
    for row in 0..6 {
        let expected: Vec<f32> = (0..8).map(|column| at(row, column)).collect();
        assert_eq!(whole.read_f32(0, row..row + 1).expect("is there"), expected);
        let mut dirty = vec![0xff; 32];
        whole
            .read_rows(0, row..row + 1, &mut dirty)
            .expect("is there");
        let values = dirty.as_chunks().0.iter().copied().map(f32::from_le_bytes);
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }
    for column in 0..8 {
        let expected: Vec<f32> = (0..6).map(|row| at(row, column)).collect();
        assert_eq!(
            turned.read_f32(0, column..column + 1).expect("is there"),
            expected
        );
    }
    for groups in [4, 5, usize::MAX] {
        let uneven = Source::Reshape(Box::new(Source::tensor("w"))).block_diagonal(groups);
        assert!(bind(&checkpoint, &leaf(uneven, &[6, 8])).is_err());
    }
}
