//! The best keys of a query, the same ones as the reference chooses where equal ones are at the border.
//!
//! Which of equal keys are in follows from the order in which a selection algorithm happens to look at them. Models that
//! choose keys by value meet this in every first layer, where equal tokens have equal values; scores of an indexer are sums
//! of rectified products, of which many are exactly zero. The reference leaves the choice to PyTorch's `topk` on the CPU:
//! the C++ library's `nth_element` (quickselect with the median of three as pivot, Musser 1997, and insertion sort for the
//! last three), or its `partial_sort`, a heap, for few out of many. The steps of GCC's library are followed here.

/// How many times more values than `k` make a heap the better way.
const HEAP_FACTOR: usize = 64;

/// A value and its place.
pub(super) type Entry = (f32, u32);

/// Brings the `k` largest to the front, in no order.
pub(super) fn largest_first(entries: &mut [Entry], k: usize) {
    if k == 0 || k >= entries.len() {
        return;
    }
    if k * HEAP_FACTOR <= entries.len() {
        heap_select(entries, k);
    } else {
        quickselect(entries, k - 1);
    }
}

fn before(a: Entry, b: Entry) -> bool {
    a.0 > b.0
}

fn quickselect(entries: &mut [Entry], nth: usize) {
    let (mut first, mut last) = (0, entries.len());
    let mut rounds = 2 * entries.len().ilog2();
    while last - first > 3 {
        if rounds == 0 {
            // Pivots as bad as this do not happen by chance.
            let k = nth + 1 - first;
            heap_select(&mut entries[first..last], k);
            return;
        }
        rounds -= 1;
        let cut = partition(entries, first, last);
        if cut <= nth {
            first = cut;
        } else {
            last = cut;
        }
    }
    for place in first + 1..last {
        insert(entries, first, place);
    }
}

/// Moves the entry at `place` down into the sorted ones from `first` on.
fn insert(entries: &mut [Entry], first: usize, place: usize) {
    let mut to = place;
    if before(entries[place], entries[first]) {
        to = first;
    } else {
        while before(entries[place], entries[to - 1]) {
            to -= 1;
        }
    }
    entries[to..=place].rotate_right(1);
}

/// Divides `first..last` by the median of its second, middle and last entry, which goes to `first`.
fn partition(entries: &mut [Entry], first: usize, last: usize) -> usize {
    let (a, b, c) = (first + 1, usize::midpoint(first, last), last - 1);
    let [x, y, z] = [entries[a], entries[b], entries[c]];
    let median = match (before(x, y), before(y, z), before(x, z)) {
        (true, true, _) | (false, false, false) => b,
        (true, false, true) | (false, true, false) => c,
        (true, false, false) | (false, _, true) => a,
    };
    entries.swap(first, median);
    let pivot = entries[first];
    let (mut low, mut high) = (first + 1, last);
    loop {
        while before(entries[low], pivot) {
            low += 1;
        }
        high -= 1;
        while before(pivot, entries[high]) {
            high -= 1;
        }
        if low >= high {
            return low;
        }
        entries.swap(low, high);
        low += 1;
    }
}

/// A heap of the first `k`, the smallest on top, through which the others pass.
fn heap_select(entries: &mut [Entry], k: usize) {
    let (heap, others) = entries.split_at_mut(k);
    if k > 1 {
        for parent in (0..=(k - 2) / 2).rev() {
            let value = heap[parent];
            sift(heap, parent, value);
        }
    }
    for other in others {
        if before(*other, heap[0]) {
            let value = *other;
            *other = heap[0];
            sift(heap, 0, value);
        }
    }
}

/// Puts `value` into the heap under the hole at `top`: down to a leaf first, then up.
fn sift(heap: &mut [Entry], top: usize, value: Entry) {
    let mut hole = top;
    while 2 * hole + 2 < heap.len() {
        let (left, right) = (2 * hole + 1, 2 * hole + 2);
        let child = if before(heap[right], heap[left]) {
            left
        } else {
            right
        };
        heap[hole] = heap[child];
        hole = child;
    }
    if 2 * hole + 1 < heap.len() {
        heap[hole] = heap[2 * hole + 1];
        hole = 2 * hole + 1;
    }
    while hole > top {
        let parent = (hole - 1) / 2;
        if !before(heap[parent], value) {
            break;
        }
        heap[hole] = heap[parent];
        hole = parent;
    }
    heap[hole] = value;
}

#[cfg(test)]
mod tests {
    use super::{Entry, largest_first};

    /// The same numbers as in `tools/goldens/ties.py`, which prints what torch 2.15 selects.
    fn chosen(seed: u64, count: usize, k: usize) -> Vec<u32> {
        let mut state = seed;
        let mut entries: Vec<Entry> = (0..count as u32)
            .map(|place| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) as f32 % (count as f32 / 3.0).floor(), place)
            })
            .collect();
        largest_first(&mut entries, k);
        let mut places: Vec<u32> = entries[..k].iter().map(|entry| entry.1).collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn ties_fall_as_in_torch() {
        assert_eq!(chosen(1, 9, 8), [0, 1, 2, 3, 4, 5, 7, 8]);
        assert_eq!(chosen(2, 20, 8), [2, 4, 7, 9, 16, 17, 18, 19]);
        assert_eq!(chosen(3, 41, 8), [10, 14, 15, 18, 19, 22, 24, 28]);
        assert_eq!(chosen(4, 41, 5), [6, 8, 13, 18, 27]);
        assert_eq!(
            chosen(5, 100, 16),
            [
                19, 25, 26, 31, 39, 40, 41, 45, 47, 78, 79, 81, 83, 88, 94, 95
            ]
        );
        assert_eq!(
            chosen(6, 257, 40),
            [
                2, 4, 6, 16, 22, 23, 32, 35, 41, 44, 65, 80, 90, 96, 107, 110, 111, 116, 133, 138,
                139, 148, 150, 152, 155, 159, 167, 171, 177, 180, 182, 186, 191, 195, 200, 202,
                219, 220, 231, 254
            ]
        );
        assert_eq!(chosen(7, 600, 5), [10, 48, 77, 88, 105]);
        assert_eq!(chosen(8, 330, 5), [5, 75, 109, 118, 265]);
        assert_eq!(chosen(9, 64, 1), [17]);
    }

    #[test]
    fn the_largest_come_first() {
        for seed in 0..200 {
            let count = 5 + (seed as usize * 7) % 300;
            let k = 1 + (seed as usize * 3) % (count - 1);
            assert_eq!(chosen(seed, count, k).len(), k);
            let value = |place: u32| {
                let mut state = seed;
                let step = |s: u64| {
                    s.wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407)
                };
                (0..=place).for_each(|_| state = step(state));
                (state >> 33) as f32 % (count as f32 / 3.0).floor()
            };
            let chosen = chosen(seed, count, k);
            let least = chosen
                .iter()
                .map(|&place| value(place))
                .fold(f32::MAX, f32::min);
            let others = (0..count as u32).filter(|place| !chosen.contains(place));
            assert!(others.map(value).all(|value| value <= least));
        }
    }

    /// Scores from a small generator, with many ties: `(7 i^2 + 3 i) mod 11 - 5`, negative ones as 0.
    fn scores(count: usize) -> Vec<Entry> {
        let score = |i: usize| (7 * i * i + 3 * i) as i64 % 11 - 5;
        (0..count)
            .map(|i| (score(i).max(0) as f32, i as u32))
            .collect()
    }

    #[test]
    fn the_choice_among_equals_is_that_of_the_reference() {
        // `torch.topk(scores, k).indices`, sorted, of PyTorch on the CPU.
        for (count, k, expected) in EXPECTED {
            let mut scored = scores(*count);
            largest_first(&mut scored, *k);
            let mut chosen: Vec<u32> = scored[..*k].iter().map(|scored| scored.1).collect();
            chosen.sort_unstable();
            assert_eq!(chosen, *expected, "{k} of {count}");
        }
    }

    include!("top_keys_expected.rs");
}
