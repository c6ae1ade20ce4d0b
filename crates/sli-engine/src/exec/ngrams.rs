//! Features of the n-grams that end in every token, looked up by hashes (Qwen4-Exp).

use sli_kernels::Mat;
use sli_spec::NgramTables;

use super::BoundLayer;
use super::batch::Batch;
use crate::error::EngineError;

impl BoundLayer<'_> {
    /// Fills `inputs`, `[rows, columns]`, with the features of every layer that has any.
    pub(super) fn look_up_ngrams(
        &self,
        ngrams: &NgramTables,
        batch: &Batch,
        inputs: &mut Mat,
    ) -> Result<(), EngineError> {
        let before = batch.before();
        let mut ids = vec![0; batch.rows()];
        for (layer, of_layer) in ngrams.layers.iter().enumerate() {
            for (number, &[first, size]) in of_layer.tables.iter().enumerate() {
                let tokens = 2 + number / ngrams.heads;
                let factors = &of_layer.multipliers[..tokens];
                for (row, id) in ids.iter_mut().enumerate() {
                    let hash = hash(row, (&batch.tokens, &before), factors, ngrams.stop);
                    *id = (first + hash % size) as u32;
                }
                let from = layer * ngrams.columns() + number * ngrams.width;
                let columns = inputs.view_mut().cols_range(from..from + ngrams.width);
                self.gather_at(of_layer.weight, &ids, columns, false)?;
            }
        }
        Ok(())
    }
}

/// The hash of the token of a row and of those in front of it, of which `before` says where they are; behind a `stop`, and where
/// the record begins, nothing but stops is seen.
fn hash(
    row: usize,
    (tokens, before): (&[u32], &[Option<usize>]),
    factors: &[u64],
    stop: u32,
) -> u64 {
    let mut at = Some(row);
    let mut hash = 0;
    for (distance, factor) in factors.iter().enumerate() {
        if distance > 0 {
            at = at.and_then(|row| before[row]);
            at = at.filter(|&row| tokens[row] != stop);
        }
        let token = at.map_or(stop, |row| tokens[row]);
        hash ^= u64::from(token).wrapping_mul(*factor);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn nothing_in_front_of_a_stop_is_seen() {
        let tokens = [5, 9, 2, 7, 9];
        let before = [None, Some(0), Some(1), Some(2), Some(1)];
        let seen = |row: usize| hash(row, (&tokens, &before), &[1, 100, 10_000], 2);
        let of =
            |nearest: u64, second: u64, third: u64| nearest ^ (second * 100) ^ (third * 10_000);
        assert_eq!(seen(0), of(5, 2, 2));
        assert_eq!(seen(1), of(9, 5, 2));
        assert_eq!(seen(2), of(2, 9, 5));
        assert_eq!(seen(3), of(7, 2, 2));
        // A branch goes on from a row that others share.
        assert_eq!(seen(4), of(9, 9, 5));
    }
}
