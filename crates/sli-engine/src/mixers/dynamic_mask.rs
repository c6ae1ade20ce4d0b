//! Dynamic mask attention (Doge): every key's addend, and which keys a query keeps.

use sli_kernels::{BiasSite, Mat, Segment};
use sli_spec::{Attention, DynamicMask};

use super::attention::mask;
use super::softplus;
use crate::error::EngineError;
use crate::exec::{Layer, Scratch, values};

/// What the keys of a chunk add, and which of them a query keeps.
pub(super) struct Chosen {
    /// `[rows, 3 * kv_heads]`: of every head, the addend of the row as a key; as a query, the least
    /// addend that it keeps and the last position that it keeps with exactly that addend.
    of: Mat,
    /// First row of every sequence.
    starts: Vec<usize>,
    kv_heads: usize,
    /// Query heads that share a key head.
    shared: usize,
}

/// Chooses for all queries of a chunk; `scratch.value` holds the values. Takes `scratch.gate`, which
/// [`Chosen::release`] gives back.
pub(super) fn choose(
    layer: &Layer<'_>,
    dynamic: &DynamicMask,
    attention: &Attention,
    segments: &[Segment],
    scratch: &mut Scratch,
) -> Result<Chosen, EngineError> {
    let kv_heads = attention.kv_heads;
    let count = scratch.value.rows();
    scratch.inner.reset(count, kv_heads);
    layer.linear(
        scratch.value.view(),
        &dynamic.step,
        scratch.inner.view_mut(),
    )?;
    let decay = layer.vector(Some(dynamic.decay))?;
    let decay = values(decay.as_ref()).unwrap_or_default();
    let mut of = std::mem::take(&mut scratch.gate);
    of.reset(count, 3 * kv_heads);
    for row in 0..count {
        let steps = scratch.inner.row(row).iter().zip(decay);
        for (addend, (step, decay)) in of.row_mut(row).iter_mut().zip(steps) {
            *addend = (decay * softplus(*step)).exp();
        }
    }
    let mask = mask(attention.mask);
    let mut largest = Vec::new();
    for segment in segments {
        for head in 0..kv_heads {
            for query in 0..segment.q.len() {
                let seen = mask.visible(query, 0);
                let seen = seen.start..seen.end.min(segment.k.len());
                let (mut least, mut last) = (f32::NEG_INFINITY, usize::MAX);
                if seen.len() > dynamic.kept {
                    largest.clear();
                    largest.extend(seen.map(|key| (of.row(segment.k.start + key)[head], key)));
                    // The largest first; of equal ones the earlier.
                    let kept = dynamic.kept - 1;
                    largest.select_nth_unstable_by(kept, |a, b| {
                        b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
                    });
                    (least, last) = largest[kept];
                }
                let row = of.row_mut(segment.q.start + query);
                row[kv_heads + head] = least;
                row[2 * kv_heads + head] = last as f32;
            }
        }
    }
    Ok(Chosen {
        of,
        starts: segments.iter().map(|segment| segment.k.start).collect(),
        kv_heads,
        shared: attention.heads / kv_heads,
    })
}

impl Chosen {
    /// Adds to the logits of one query; keys that it does not keep become invisible.
    pub fn add(&self, site: &BiasSite, logits: &mut [f32]) {
        let start = self.starts[site.segment];
        let head = site.head / self.shared;
        let query = self.of.row(start + site.query);
        let (least, last) = (query[self.kv_heads + head], query[2 * self.kv_heads + head]);
        for (key, logit) in site.keys.clone().zip(logits) {
            let addend = self.of.row(start + key)[head];
            let kept = addend > least || (addend == least && key as f32 <= last);
            *logit = if kept {
                *logit + addend
            } else {
                f32::NEG_INFINITY
            };
        }
    }

    /// Gives the memory back.
    pub fn release(self, scratch: &mut Scratch) {
        scratch.gate = self.of;
    }
}
