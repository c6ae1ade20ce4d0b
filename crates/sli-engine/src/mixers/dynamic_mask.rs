//! Dynamic mask attention (Doge): every key's addend, and which keys a query keeps.

use std::collections::HashMap;

use sli_kernels::{BiasSite, Mat, Segment};
use sli_spec::{Attention, DynamicMask};

use super::mask::mask;
use super::softplus;
use super::top_keys::largest_first;
use crate::error::EngineError;
use crate::exec::{BoundLayer, Scratch};

/// What the keys of a chunk add, and which of them a query keeps.
pub(super) struct Chosen {
    /// `[rows, 2 * kv_heads]`: of every head, the addend of the row as a key; as a query, the least
    /// addend that it keeps.
    of: Mat,
    /// By row and head of a query that keeps some of several keys with exactly that addend: which.
    ties: HashMap<(usize, usize), Vec<u32>>,
    /// First row of every sequence.
    starts: Vec<usize>,
    kv_heads: usize,
    /// Query heads that share a key head.
    shared: usize,
}

/// Chooses for all queries of a chunk; `scratch.value` holds the values. Takes `scratch.gate`, which
/// [`Chosen::release`] gives back.
pub(super) fn choose(
    layer: &BoundLayer<'_>,
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
    let decay = &*layer.vector(dynamic.decay)?;
    let mut of = std::mem::take(&mut scratch.gate);
    of.reset(count, 2 * kv_heads);
    for row in 0..count {
        let steps = scratch.inner.row(row).iter().zip(decay);
        for (addend, (step, decay)) in of.row_mut(row).iter_mut().zip(steps) {
            *addend = (decay * softplus(*step)).exp();
        }
    }
    let mask = mask(attention.mask);
    let mut entries = Vec::new();
    let mut ties = HashMap::new();
    for segment in segments {
        for head in 0..kv_heads {
            for query in 0..segment.q.len() {
                let seen = mask.visible(query, 0);
                let seen = seen.start..seen.end.min(segment.k.len());
                let mut least = f32::NEG_INFINITY;
                if seen.len() > dynamic.kept {
                    let addend = |key: usize| of.row(segment.k.start + key)[head];
                    entries.clear();
                    // Unseen keys take part as the smallest number.
                    entries.extend((0..segment.k.len()).map(|key| {
                        let visible = seen.contains(&key);
                        (if visible { addend(key) } else { f32::MIN }, key as u32)
                    }));
                    largest_first(&mut entries, dynamic.kept);
                    let (kept, dropped) = entries.split_at(dynamic.kept);
                    least = kept
                        .iter()
                        .fold(f32::MAX, |least, entry| least.min(entry.0));
                    if dropped.iter().any(|entry| entry.0 == least) {
                        let tied = kept.iter().filter(|entry| entry.0 == least);
                        let keys = tied.map(|entry| entry.1).collect();
                        ties.insert((segment.q.start + query, head), keys);
                    }
                }
                of.row_mut(segment.q.start + query)[kv_heads + head] = least;
            }
        }
    }
    Ok(Chosen {
        of,
        ties,
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
        let least = self.of.row(start + site.query)[self.kv_heads + head];
        let tied = self.ties.get(&(start + site.query, head));
        for (key, logit) in site.keys.clone().zip(logits) {
            let addend = self.of.row(start + key)[head];
            let among = |keys: &Vec<u32>| keys.contains(&(key as u32));
            let kept = addend > least || (addend == least && tied.is_none_or(among));
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
