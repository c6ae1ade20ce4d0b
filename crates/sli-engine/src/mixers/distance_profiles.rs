//! Addends of the logits that queries mix of learned profiles over the distance (Inkling).

use sli_kernels::{BiasSite, Mat, MatRef, Segment};
use sli_spec::{Attention, DistanceProfiles};

use super::buffers::{Buffer, Buffers};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch};

/// What the queries mix by, and the profiles.
pub(super) fn buffers(rule: &DistanceProfiles) -> Buffers {
    Buffers::default()
        .rows(Buffer::Inner, rule.mix.out_features)
        .fixed(Buffer::Up, rule.rank * rule.extent)
}

/// The addends of a chunk.
pub(super) struct Addends {
    /// `[rows, heads * rank]`.
    pub mix: Mat,
    /// `[rank, extent]`, the farthest distance first, as keys follow each other.
    profiles: Mat,
    segments: Vec<Segment>,
}

impl Addends {
    pub fn new(
        layer: &BoundLayer<'_>,
        rule: &DistanceProfiles,
        (attention, rows): (&Attention, Rows<'_>),
        x: MatRef<'_>,
        scratch: &mut Scratch,
    ) -> Result<Self, EngineError> {
        let mut mix = std::mem::take(&mut scratch.inner);
        mix.reset(x.rows(), rule.mix.out_features);
        layer.linear(x, &rule.mix, mix.view_mut())?;
        if let Some(norm) = &rule.norm {
            layer.head_norm(norm, attention.heads, mix.view_mut())?;
        }
        let stored = &*layer.vector(rule.profiles)?;
        let mut profiles = std::mem::take(&mut scratch.up);
        profiles.reset(rule.rank, rule.extent);
        for (row, stored) in stored.chunks_exact(rule.extent).enumerate() {
            let reversed = profiles.row_mut(row).iter_mut().rev();
            reversed.zip(stored).for_each(|(to, &from)| *to = from);
        }
        Ok(Self {
            mix,
            profiles,
            segments: rows.batch.segments(rows.chunk).own,
        })
    }

    /// Adds to the logits of one query and some keys.
    pub fn add(&self, site: &BiasSite, logits: &mut [f32]) {
        let segment = &self.segments[site.segment];
        let row = segment.q.start + site.query - segment.q_start;
        let (rank, extent) = (self.profiles.rows(), self.profiles.cols());
        let mix = &self.mix.row(row)[site.head * rank..(site.head + 1) * rank];
        let first = (site.query + 1).saturating_sub(extent).max(site.keys.start);
        let end = (site.query + 1).min(site.keys.end);
        if first >= end {
            return;
        }
        let logits = &mut logits[first - site.keys.start..end - site.keys.start];
        let near = first + extent - 1 - site.query;
        for (profile, &factor) in mix.iter().enumerate() {
            let profile = &self.profiles.row(profile)[near..near + logits.len()];
            for (logit, value) in logits.iter_mut().zip(profile) {
                *logit += factor * value;
            }
        }
    }

    /// Gives the buffers back.
    pub fn release(self, scratch: &mut Scratch) {
        (scratch.inner, scratch.up) = (self.mix, self.profiles);
    }
}
