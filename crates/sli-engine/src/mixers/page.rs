//! Where tokens are on a page: addends by distance (LayoutLMv3), and products with sines of distances (BROS).

use sli_kernels::{BiasSite, HeadParts, Mat, PackedKind, PackedWeights, Store};
use sli_spec::{Attention, BoxBuckets, CornerSines};

use super::buffers::{Buffer, Buffers};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch, Vector};

/// The addends of a chunk of whole records.
pub(super) struct Addends<'a> {
    rule: BoxBuckets,
    /// The table of every term.
    tables: Vec<Vector>,
    /// First row of every record.
    starts: Vec<usize>,
    heads: usize,
    rows: Rows<'a>,
}

impl<'a> Addends<'a> {
    pub fn new(
        layer: &BoundLayer<'_>,
        rule: &BoxBuckets,
        heads: usize,
        rows: Rows<'a>,
    ) -> Result<Self, EngineError> {
        let tables = rule.terms.iter().map(|term| layer.vector(term.table));
        let records = rows.batch.branches_of(rows.chunk).into_iter();
        Ok(Self {
            rule: rule.clone(),
            tables: tables.collect::<Result<_, _>>()?,
            starts: records.map(|record| record.start).collect(),
            heads,
            rows,
        })
    }

    /// Adds to the logits of one query and some keys.
    pub fn add(&self, site: &BiasSite, logits: &mut [f32]) {
        let start = self.starts[site.segment];
        let scale = self.rule.scale as f32;
        for (key, logit) in site.keys.clone().zip(logits) {
            let mut sum = 0.0;
            for (term, table) in self.rule.terms.iter().zip(&self.tables) {
                let own = |position: usize| self.rows.batch.inputs.of(start + position);
                let bucket = term.bucket(term.apart.distance(site.query, key, own));
                sum += table[if term.by_bucket {
                    bucket * self.heads + site.head
                } else {
                    site.head * term.buckets + bucket
                }];
            }
            *logit += sum * scale;
        }
    }
}

/// What wider queries and keys need.
pub(super) fn buffers(corners: &CornerSines, attention: &Attention) -> Buffers {
    let wide = attention.heads * (attention.head_dim + corners.features());
    let projection = corners.features() * attention.head_dim;
    Buffers::default()
        .rows(Buffer::Up, wide)
        .rows(Buffer::Inner, wide)
        .rows(Buffer::Gate, corners.features())
        .fixed(Buffer::Gate, 2 * projection)
}

/// Queries and keys whose products have the addends in them: `sin(b_j - b_i)` and `cos(b_j - b_i)` are sums of products
/// of sines and cosines of each.
pub(super) fn widen(
    layer: &BoundLayer<'_>,
    corners: &CornerSines,
    attention: &Attention,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<[Mat; 2], EngineError> {
    let (kernels, heads, dim) = (layer.kernels, attention.heads, attention.head_dim);
    let (features, wide) = (corners.features(), dim + corners.features());
    let weight = &*layer.vector(corners.projection)?;
    let mut packed = PackedWeights::new(features, dim, PackedKind::F32);
    let mut line = vec![0.0; dim];
    for feature in 0..features {
        let places = line.iter_mut().enumerate();
        places.for_each(|(index, value)| *value = weight[index * features + feature]);
        packed.pack_rows_f32(feature, &line);
    }
    let Scratch {
        query,
        key,
        up,
        inner,
        gate: sines,
        ..
    } = scratch;
    sines.reset(query.rows(), features);
    for row in 0..query.rows() {
        let own = rows.batch.inputs.of(rows.chunk.rows.start + row);
        set_sines(corners, own, sines.row_mut(row));
    }
    let own = HeadParts {
        first: 0,
        stride: dim,
    };
    let wider = HeadParts {
        first: 0,
        stride: wide,
    };
    for (narrow, wider_rows) in [(&*query, &mut *up), (&*key, &mut *inner)] {
        wider_rows.reset(narrow.rows(), heads * wide);
        let to = (wider_rows.view_mut(), wider);
        kernels.copy_heads(heads, dim, (narrow.view(), own), to);
    }
    let same = HeadParts {
        first: 0,
        stride: 0,
    };
    let behind = HeadParts {
        first: dim,
        stride: wide,
    };
    let to = (inner.view_mut(), behind);
    kernels.copy_heads(heads, features, (sines.view(), same), to);
    for head in 0..heads {
        let of_head = query.view().cols_range(head * dim..(head + 1) * dim);
        let start = head * wide + dim;
        let mut out = up.view_mut().cols_range(start..start + features);
        kernels.gemm(of_head, &packed, None, Store::Set, out.reborrow());
        for row in 0..out.rows() {
            turn(corners.frequencies, sines.row(row), out.row_mut(row));
        }
    }
    Ok([std::mem::take(up), std::mem::take(inner)])
}

/// Of every coordinate the sines of all frequencies, then the cosines; in f32 up to the angle, as the reference has it.
fn set_sines(corners: &CornerSines, own: &[u32], row: &mut [f32]) {
    let count = corners.frequencies;
    let coordinates = own.iter().take(corners.coordinates);
    for (&bits, part) in coordinates.zip(row.chunks_exact_mut(2 * count)) {
        let place = f32::from_bits(bits) * corners.scale as f32;
        let (sines, cosines) = part.split_at_mut(count);
        for (index, (sine, cosine)) in sines.iter_mut().zip(cosines).enumerate() {
            let power = index as f32 / count as f32;
            let angle = f64::from(place) * f64::from(1.0 / 10_000_f32.powf(power));
            (*sine, *cosine) = (angle.sin() as f32, angle.cos() as f32);
        }
    }
}

/// What the sines and cosines of a key meet, of what those of a distance meet.
fn turn(frequencies: usize, own: &[f32], row: &mut [f32]) {
    let parts = own.chunks_exact(2 * frequencies);
    for (own, part) in parts.zip(row.chunks_exact_mut(2 * frequencies)) {
        let (sines, cosines) = own.split_at(frequencies);
        let (of_sine, of_cosine) = part.split_at_mut(frequencies);
        let pairs = of_sine.iter_mut().zip(of_cosine);
        for ((of_sine, of_cosine), (sine, cosine)) in pairs.zip(sines.iter().zip(cosines)) {
            let met = [*of_sine, *of_cosine];
            *of_sine = met[0] * cosine + met[1] * sine;
            *of_cosine = met[1] * cosine - met[0] * sine;
        }
    }
}
