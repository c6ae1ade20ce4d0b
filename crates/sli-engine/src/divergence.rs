//! Entropy of a distribution over the vocabulary, and how far it is from another one, of logits that pass by.

/// Columns that are added up together. Tiles of the vocabulary begin at multiples of it, so that however it is cut, the same
/// numbers are added in the same order.
const BLOCK: usize = 1024;

/// Sums over the logits `p` that are compared with (those of the last layer, of the reference) and `q`, compared with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divergence {
    /// The largest of `p`, the sum of `exp(p - largest)`, and that of `exp(p - largest) (p - q)`.
    last: [f64; 3],
    /// The largest of `q`, the sum of `exp(q - largest)`, and that of `exp(q - largest) q`.
    own: [f64; 3],
}

impl Default for Divergence {
    fn default() -> Self {
        let none = [f64::NEG_INFINITY, 0.0, 0.0];
        Self {
            last: none,
            own: none,
        }
    }
}

impl Divergence {
    /// Adds the logits of some tokens.
    pub fn add(&mut self, last: &[f32], own: &[f32]) {
        for (last, own) in last.chunks(BLOCK).zip(own.chunks(BLOCK)) {
            let pairs = || {
                last.iter()
                    .zip(own)
                    .map(|(&p, &q)| (f64::from(p), f64::from(q)))
            };
            take(&mut self.last, || pairs().map(|(p, q)| (p, p - q)));
            take(&mut self.own, || pairs().map(|(_, q)| (q, q)));
        }
    }

    /// Of the distribution of `q`, in nats.
    pub fn entropy(&self) -> f64 {
        let [largest, sum, weighed] = self.own;
        largest + sum.ln() - weighed / sum
    }

    /// The Kullback-Leibler divergence of the distribution of `q` from that of `p`, `sum(P ln(P / Q))`, in nats.
    pub fn value(&self) -> f64 {
        let [largest, sum, weighed] = self.last;
        let [own_largest, own_sum, _] = self.own;
        let of_last = largest + sum.ln();
        let of_own = own_largest + own_sum.ln();
        // Below zero it is rounding.
        (weighed / sum - of_last + of_own).max(0.0)
    }
}

/// Adds logits with values that their exponentials weigh.
fn take<I: Iterator<Item = (f64, f64)>>(sums: &mut [f64; 3], logits: impl Fn() -> I) {
    let largest = logits().fold(f64::NEG_INFINITY, |most, (logit, _)| most.max(logit));
    let (mut sum, mut weighed) = (0.0, 0.0);
    for (logit, value) in logits() {
        let exponential = (logit - largest).exp();
        sum += exponential;
        weighed += exponential * value;
    }
    let most = largest.max(sums[0]);
    let (before, here) = ((sums[0] - most).exp(), (largest - most).exp());
    *sums = [
        most,
        sums[1] * before + sum * here,
        sums[2] * before + weighed * here,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / 1e6 - 8.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let all: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|one| one / sum).collect()
    }

    #[test]
    fn sums_are_the_definitions() {
        let (last, own) = (logits(3000, 1), logits(3000, 2));
        let mut whole = Divergence::default();
        whole.add(&last, &own);
        let mut cut = Divergence::default();
        cut.add(&last[..2048], &own[..2048]);
        cut.add(&last[2048..], &own[2048..]);
        assert_eq!(format!("{whole:?}"), format!("{cut:?}"));
        let (p, q) = (softmax(&last), softmax(&own));
        let entropy: f64 = q.iter().map(|q| -q * q.ln()).sum();
        let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((whole.entropy() - entropy).abs() < 1e-9 * entropy);
        assert!((whole.value() - divergence).abs() < 1e-9 * divergence);
        let mut same = Divergence::default();
        same.add(&last, &last);
        assert!(same.value() < 1e-12);
    }
}
