//! What attention is asked to compute.

use std::ops::Range;

use super::mask::AttentionMask;
use crate::mat::{MatMut, MatRef};
use crate::simd::PANEL;

/// Keys of a block of the running softmax.
pub(super) const KEY_BLOCK: usize = 256;

/// One sequence of a packed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the query matrix.
    pub q: Range<usize>,
    /// Rows of the key and value matrices. The first has position 0, or follows the segment's
    /// [`CommonKeys`].
    pub k: Range<usize>,
    /// Position of the first query among the keys: 0 unless the keys begin before the queries.
    pub q_start: usize,
    /// Keys before this position are visible to every query ([`AttentionMask::Causal`] and the
    /// masks derived from it): a bidirectional prefix.
    pub prefix: usize,
}

impl Segment {
    /// A sequence whose queries and keys are the same rows, without a prefix.
    pub fn whole(rows: Range<usize>) -> Self {
        Self {
            q: rows.clone(),
            k: rows,
            q_start: 0,
            prefix: 0,
        }
    }
}

/// Keys and values that stand before the segments' own rows: beginnings that sequences have in common.
#[derive(Clone, Copy)]
pub struct CommonKeys<'a> {
    /// For every segment a range of `rows`: its keys are those, then its own ([`Segment::k`]).
    pub segments: &'a [Range<usize>],
    /// Rows of the key and value matrices; from the end of those on, of `earlier_k` and `earlier_v`.
    pub rows: &'a [u32],
    /// Further keys `[n, kv_heads * qk_dim]`.
    pub earlier_k: MatRef<'a>,
    /// Further values `[n, kv_heads * v_dim]`.
    pub earlier_v: MatRef<'a>,
}

/// A softmax that runs over several calls, each with some of the keys: what was summed so far waits in between.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    /// Sums of every query, [`Running::columns`] of them: `[tokens_q, columns]`.
    pub sums: &'a MatMut<'a>,
    /// Position of the first key of this call, a multiple of [`Running::KEYS`]: keys before it were seen by
    /// earlier calls.
    pub first_key: usize,
    /// This call begins; the sums hold nothing yet.
    pub begins: bool,
    /// This call ends, and writes the output.
    pub ends: bool,
}

impl Running<'_> {
    /// Keys of a call start at multiples of so many positions.
    pub const KEYS: usize = KEY_BLOCK;

    /// Columns of the sums, for so many query heads and elements of a value head.
    pub fn columns(heads: usize, v_dim: usize) -> usize {
        heads * (v_dim.next_multiple_of(PANEL) + 2)
    }
}

/// Logits that take part in the denominator only.
#[derive(Clone, Copy)]
pub enum Sinks<'a> {
    /// One for each head (GPT-OSS).
    OfHeads(&'a [f32]),
    /// One for each query and head `[tokens_q, heads]` (Inkling 2).
    OfRows(MatRef<'a>),
}

impl Sinks<'_> {
    /// That of a query of one head.
    #[inline(always)]
    pub(super) fn of(self, query: usize, head: usize) -> f32 {
        match self {
            Self::OfHeads(sinks) => sinks[head],
            Self::OfRows(sinks) => sinks.row(query)[head],
        }
    }
}

/// Where a bias callback is asked for its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BiasSite {
    /// Index into [`AttentionArgs::segments`].
    pub segment: usize,
    /// Query head.
    pub head: usize,
    /// Position of the query: [`Segment::q_start`] plus its number in the segment.
    pub query: usize,
    /// Positions of the keys.
    pub keys: Range<usize>,
}

/// Adds to the logits of one query and some keys; negative infinity masks a key.
pub type BiasFn<'a> = dyn Fn(&BiasSite, &mut [f32]) + Sync + 'a;

/// What [`Kernels::attention`](crate::Kernels::attention) computes:
/// `softmax(cap(q k^T * scale) + alibi + bias, masked) v`, head by head.
pub struct AttentionArgs<'a> {
    /// Queries `[tokens_q, heads * qk_dim]`.
    pub q: MatRef<'a>,
    /// Keys `[tokens_k, kv_heads * qk_dim]`.
    pub k: MatRef<'a>,
    /// Values `[tokens_k, kv_heads * v_dim]`.
    pub v: MatRef<'a>,
    /// Query heads, a multiple of `kv_heads`; consecutive ones share a key head.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a query or key head.
    pub qk_dim: usize,
    /// Elements of a value head.
    pub v_dim: usize,
    /// The sequences. Query rows of no sequence are left alone.
    pub segments: &'a [Segment],
    /// What stands before the segments' own keys.
    pub common: Option<CommonKeys<'a>>,
    /// Which keys a query sees.
    pub mask: AttentionMask,
    /// For every row of `q` positions that its query sees as well; they join those that the mask shows, and neither end of
    /// both together falls from one query of a segment to the next.
    pub joined: Option<&'a [Range<u32>]>,
    /// Factor of the logits.
    pub scale: f32,
    /// `logit = cap * tanh(logit / cap)`, after the scale.
    pub softcap: Option<f32>,
    /// Logits that take part in the denominator only.
    pub sinks: Option<Sinks<'a>>,
    /// A slope for each head: adds `slope * (key position - query position)`, which gives the same
    /// softmax as Bloom's `slope * key position`.
    pub alibi: Option<&'a [f32]>,
    /// Anything else that is added to the logits.
    pub bias: Option<&'a BiasFn<'a>>,
    /// The keys are some of several calls.
    pub running: Option<Running<'a>>,
}

impl<'a> AttentionArgs<'a> {
    /// An attention of these heads of queries to these of keys and values, and nothing else.
    pub fn plain(
        [q, k, v]: [MatRef<'a>; 3],
        [heads, kv_heads]: [usize; 2],
        segments: &'a [Segment],
        mask: AttentionMask,
        scale: f32,
    ) -> Self {
        Self {
            q,
            k,
            v,
            heads,
            kv_heads,
            qk_dim: q.cols() / heads,
            v_dim: v.cols() / kv_heads,
            segments,
            common: None,
            mask,
            joined: None,
            scale,
            softcap: None,
            sinks: None,
            alibi: None,
            bias: None,
            running: None,
        }
    }

    pub(super) fn check(&self, out: &MatMut) {
        let Self {
            q,
            k,
            v,
            heads,
            kv_heads,
            qk_dim,
            v_dim,
            ..
        } = *self;
        assert!(
            kv_heads > 0 && heads % kv_heads == 0,
            "{heads} heads on {kv_heads}"
        );
        assert_eq!(q.cols(), heads * qk_dim, "query columns");
        assert_eq!(k.cols(), kv_heads * qk_dim, "key columns");
        assert_eq!(v.cols(), kv_heads * v_dim, "value columns");
        assert_eq!(k.rows(), v.rows(), "keys and values");
        assert_eq!(
            (out.rows(), out.cols()),
            (q.rows(), heads * v_dim),
            "output of attention"
        );
        let sinks_fit = self.sinks.is_none_or(|sinks| match sinks {
            Sinks::OfHeads(sinks) => sinks.len() == heads,
            Sinks::OfRows(sinks) => (sinks.rows(), sinks.cols()) == (q.rows(), heads),
        });
        assert!(sinks_fit, "a sink a head");
        assert!(
            self.alibi.is_none_or(|s| s.len() == heads),
            "a slope a head"
        );
        assert!(
            self.joined.is_none_or(|joined| joined.len() == q.rows()),
            "joined positions of every query"
        );
        if let Some(running) = &self.running {
            let shape = (q.rows(), Running::columns(heads, v_dim));
            assert_eq!(
                (running.sums.rows(), running.sums.cols()),
                shape,
                "sums of attention"
            );
            assert!(
                running.first_key.is_multiple_of(Running::KEYS),
                "keys start at a block"
            );
        }
        for segment in self.segments {
            assert!(
                segment.q.end <= q.rows() && segment.k.end <= k.rows(),
                "rows of {segment:?}"
            );
        }
        if let Some(common) = &self.common {
            assert_eq!(common.segments.len(), self.segments.len(), "one a segment");
            assert_eq!(common.earlier_k.cols(), k.cols(), "earlier key columns");
            assert_eq!(common.earlier_v.cols(), v.cols(), "earlier value columns");
        }
    }

    /// The positions that a query of a segment sees, counted from the segment's first.
    #[inline(always)]
    pub(super) fn visible(&self, segment: &Segment, query: usize) -> Range<usize> {
        let own = self.mask.visible(segment.q_start + query, segment.prefix);
        match self.joined.map(|joined| &joined[segment.q.start + query]) {
            None => own,
            Some(joined) => own.start.min(joined.start as usize)..own.end.max(joined.end as usize),
        }
    }

    /// Position of the first key.
    #[inline(always)]
    pub(super) fn first_key(&self) -> usize {
        self.running.map_or(0, |running| running.first_key)
    }

    /// Keys of a segment.
    pub(super) fn keys(&self, segment: usize) -> usize {
        self.common_rows(segment).len() + self.segments[segment].k.len()
    }

    /// Rows in front of a segment's own.
    #[inline(always)]
    pub(super) fn common_rows(&self, segment: usize) -> &[u32] {
        match &self.common {
            Some(common) => &common.rows[common.segments[segment].clone()],
            None => &[],
        }
    }

    /// The row of a segment's key at `position`.
    #[inline(always)]
    pub(super) fn row(&self, segment: usize, position: usize) -> usize {
        let common = self.common_rows(segment);
        match common.get(position) {
            Some(&row) => row as usize,
            None => self.segments[segment].k.start + position - common.len(),
        }
    }

    /// All heads of a key.
    #[inline(always)]
    pub(super) fn key(&self, row: usize) -> &[f32] {
        match &self.common {
            Some(common) if row >= self.k.rows() => common.earlier_k.row(row - self.k.rows()),
            _ => self.k.row(row),
        }
    }

    /// All heads of a value.
    #[inline(always)]
    pub(super) fn value(&self, row: usize) -> &[f32] {
        match &self.common {
            Some(common) if row >= self.v.rows() => common.earlier_v.row(row - self.v.rows()),
            _ => self.v.row(row),
        }
    }
}
