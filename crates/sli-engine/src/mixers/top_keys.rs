//! The best keys of a query, the same ones as the reference chooses.
//!
//! The scores of a lightning indexer are sums of rectified products: many are exactly zero, so the
//! choice among equals matters. The reference leaves it to PyTorch's `topk` on the CPU, which selects
//! with the C++ library's `nth_element` (introselect, Musser 1997), or with `partial_sort` where few
//! are wanted of many; both are deterministic. The steps of GCC's library are followed here, on pairs
//! of a score and its index that compare by their scores only.

/// A score and the index of its key.
type Scored = (f32, u32);

/// Whether the first comes before the second: larger first.
fn before(x: Scored, y: Scored) -> bool {
    x.0 > y.0
}

/// Moves the `count` best to the front, in no particular order; `1 <= count <= scored.len()`.
pub(crate) fn select(scored: &mut [Scored], count: usize) {
    let all = scored.len();
    if count == 0 || count >= all {
        return;
    }
    if count * 64 <= all {
        heap_select(scored, count);
    } else {
        introselect(scored, count - 1);
    }
}

fn introselect(scored: &mut [Scored], nth: usize) {
    let (mut first, mut last) = (0, scored.len());
    let mut depth = 2 * (usize::BITS - 1 - scored.len().leading_zeros());
    while last - first > 3 {
        if depth == 0 {
            heap_select(&mut scored[first..last], nth + 1 - first);
            scored.swap(first, nth);
            return;
        }
        depth -= 1;
        let cut = first + partition(&mut scored[first..last]);
        if cut <= nth {
            first = cut;
        } else {
            last = cut;
        }
    }
    insertion_sort(&mut scored[first..last]);
}

/// Partitions around the median of three, which ends up first; returns where the second part begins.
fn partition(part: &mut [Scored]) -> usize {
    let (a, b, c) = (1, part.len() / 2, part.len() - 1);
    let less = |x: usize, y: usize| before(part[x], part[y]);
    let median = if less(a, b) {
        if less(b, c) {
            b
        } else if less(a, c) {
            c
        } else {
            a
        }
    } else if less(a, c) {
        a
    } else if less(b, c) {
        c
    } else {
        b
    };
    part.swap(0, median);
    let pivot = part[0];
    let (mut first, mut last) = (1, part.len());
    loop {
        while before(part[first], pivot) {
            first += 1;
        }
        last -= 1;
        while before(pivot, part[last]) {
            last -= 1;
        }
        if first >= last {
            return first;
        }
        part.swap(first, last);
        first += 1;
    }
}

fn insertion_sort(part: &mut [Scored]) {
    for index in 1..part.len() {
        let value = part[index];
        let place = if before(value, part[0]) {
            0
        } else {
            let mut place = index;
            while before(value, part[place - 1]) {
                place -= 1;
            }
            place
        };
        part.copy_within(place..index, place + 1);
        part[place] = value;
    }
}

/// Moves the `middle` best to the front, through a heap whose top is the worst of them.
fn heap_select(scored: &mut [Scored], middle: usize) {
    let (heap, rest) = scored.split_at_mut(middle);
    if heap.len() >= 2 {
        for parent in (0..=(heap.len() - 2) / 2).rev() {
            sift(heap, parent, heap[parent]);
        }
    }
    for candidate in rest {
        if before(*candidate, heap[0]) {
            let value = *candidate;
            *candidate = heap[0];
            sift(heap, 0, value);
        }
    }
}

/// Lets the hole sink to a leaf along the worse children and puts the value back up from there.
fn sift(heap: &mut [Scored], top: usize, value: Scored) {
    let length = heap.len();
    let mut hole = top;
    let mut child = top;
    while child < (length - 1) / 2 {
        child = 2 * (child + 1);
        if before(heap[child], heap[child - 1]) {
            child -= 1;
        }
        heap[hole] = heap[child];
        hole = child;
    }
    if length.is_multiple_of(2) && length >= 2 && child == (length - 2) / 2 {
        child = 2 * child + 1;
        heap[hole] = heap[child];
        hole = child;
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
    use super::select;

    /// Scores from a small generator, with many ties: `(7 i^2 + 3 i) mod 11 - 5`, negative ones as 0.
    fn scores(count: usize) -> Vec<(f32, u32)> {
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
            select(&mut scored, *k);
            let mut chosen: Vec<u32> = scored[..*k].iter().map(|scored| scored.1).collect();
            chosen.sort_unstable();
            assert_eq!(chosen, *expected, "{k} of {count}");
        }
    }

    include!("top_keys_expected.rs");
}
