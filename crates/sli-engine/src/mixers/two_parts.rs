//! Attention whose keys are of two kinds: some that all queries see, then those that the mask shows.

use std::ops::Range;

use sli_kernels::{AttentionArgs, AttentionMask, BiasFn, Mat, MatMut, MatRef, Running, Segment};
use sli_spec::Attention;

use crate::exec::BoundLayer;

/// Keys of one kind.
pub(super) struct Part<'a> {
    pub keys: MatRef<'a>,
    pub values: MatRef<'a>,
    /// The queries, and their keys among these.
    pub segments: &'a [Segment],
    pub mask: AttentionMask,
    pub bias: Option<&'a BiasFn<'a>>,
}

/// Columns of the sums that wait between the two parts.
pub(super) fn columns(attention: &Attention) -> usize {
    Running::columns(attention.heads, attention.value_dim)
}

/// Fills the heads of the queries, in one softmax over both parts.
pub(super) fn attend(
    layer: &BoundLayer<'_>,
    attention: &Attention,
    query: MatRef<'_>,
    parts: [Part<'_>; 2],
    (sums, mut heads): (&mut Mat, MatMut<'_>),
) {
    sums.reset(query.rows(), columns(attention));
    let sums = sums.view_mut();
    let last = parts.len() - 1;
    for (index, part) in parts.into_iter().enumerate() {
        let running = Running {
            sums: &sums,
            first_key: 0,
            begins: index == 0,
            ends: index == last,
        };
        let args = AttentionArgs {
            running: Some(running),
            ..args(attention, query, &part)
        };
        layer.kernels.attention(&args, heads.reborrow());
    }
}

/// The queries of every record, with so many keys of its own that stand one record's after the other's, and with its rows.
pub(super) fn segments(
    records: impl Iterator<Item = (Range<usize>, usize)>,
) -> (Vec<Segment>, Vec<Segment>) {
    let mut first = 0;
    let both = records.map(|(rows, keys)| {
        let k = first..first + keys;
        first = k.end;
        let own = Segment::whole(rows);
        (Segment { k, ..own.clone() }, own)
    });
    both.unzip()
}

/// An attention to keys of one kind.
pub(super) fn args<'a>(
    attention: &Attention,
    query: MatRef<'a>,
    part: &Part<'a>,
) -> AttentionArgs<'a> {
    AttentionArgs {
        bias: part.bias,
        ..AttentionArgs::plain(
            [query, part.keys, part.values],
            [attention.heads, attention.kv_heads],
            part.segments,
            part.mask,
            attention.scale as f32,
        )
    }
}
