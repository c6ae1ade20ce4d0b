//! The choice of experts by product keys: an expert is a pair of keys.

use sli_kernels::{Mat, Segment, softmax};

use super::routes::Routes;

/// The experts of every row and their weights, from the logits
/// `[rows, 2 * keys]` of whole records.
pub(super) fn choose(keys: usize, top_k: usize, segments: &[Segment], logits: &Mat) -> Routes {
    let (mut ids, mut weights) = (Vec::new(), Vec::new());
    for segment in segments {
        let count = segment.q.len();
        let flat = &logits.as_slice()[segment.q.start * 2 * keys..segment.q.end * 2 * keys];
        let (first, second) = flat.split_at(count * keys);
        let halves = first.chunks_exact(keys).zip(second.chunks_exact(keys));
        for (first, second) in halves {
            let chosen = best_pairs(&best(first), &best(second), top_k);
            let start = weights.len();
            for (sum, i, j) in chosen {
                ids.push((i * keys + j) as u32);
                weights.push(sum);
            }
            softmax(&mut weights[start..]);
        }
    }
    Routes {
        top_k,
        ids,
        weights,
    }
}

/// The logits with their numbers, the largest first.
fn best(logits: &[f32]) -> Vec<(f32, usize)> {
    let mut sorted: Vec<_> = logits.iter().copied().zip(0..).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    sorted
}

/// The `top_k` largest sums with their keys. The pair of the `a`-th and the `b`-th best keys is
/// surpassed by `a * b` others, so few pairs come into question.
fn best_pairs(
    first: &[(f32, usize)],
    second: &[(f32, usize)],
    top_k: usize,
) -> Vec<(f32, usize, usize)> {
    let mut pairs = Vec::new();
    for (a, (x, i)) in first.iter().enumerate().take(top_k) {
        let within = top_k / (a + 1);
        pairs.extend(second.iter().take(within).map(|(y, j)| (x + y, *i, *j)));
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    pairs.truncate(top_k);
    pairs
}

#[cfg(test)]
mod tests {
    use super::{best, best_pairs};

    #[test]
    fn the_best_pairs_are_the_best_of_all_sums() {
        let (first, second) = ([0.5, -1.0, 2.0, 0.25], [1.5, 0.0, -0.5, 3.0]);
        let mut all: Vec<f32> = first
            .iter()
            .flat_map(|x| second.iter().map(move |y| x + y))
            .collect();
        all.sort_by(|a, b| b.total_cmp(a));
        let found = best_pairs(&best(&first), &best(&second), 6);
        let sums: Vec<f32> = found.iter().map(|pair| pair.0).collect();
        assert_eq!(sums, all[..6]);
        assert_eq!((found[0].1, found[0].2), (2, 3));
    }
}
