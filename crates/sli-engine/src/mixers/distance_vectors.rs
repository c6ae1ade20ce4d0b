//! Addends of the logits that are products of queries and keys with vectors of distances (DeBERTa, XLNet).

use sli_kernels::{BiasSite, Kernels, Mat, MatRef, PackedKind, PackedWeights, Segment, Store};
use sli_spec::{
    Attention, DistanceKeys, DistanceTable, DistanceVectors, KeyValue, Linear, QueryBiases,
    WeightIndex,
};

use super::buffers::{Buffer, Buffers};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Enters, Rows, Scratch};

/// Where nothing bounds the distances, room for those of records of this many tokens is planned.
const LONGEST: usize = 4096;

/// What the products need: a column for each head and vector, and the vectors.
pub(super) fn buffers(vectors: &DistanceVectors, attention: &Attention) -> Buffers {
    let count = vectors.vectors(LONGEST);
    let projected = attention.heads * attention.head_dim;
    // The vectors, projected, and a head's of them packed.
    let fixed = count * (vectors.width + projected + attention.head_dim);
    let mut buffers = Buffers::default().fixed(Buffer::Gate, fixed);
    if vectors.keys.is_some() {
        buffers = buffers.rows(Buffer::Up, attention.heads * count);
    }
    if vectors.queries.is_some() {
        buffers = buffers.rows(Buffer::Inner, attention.heads * count);
    }
    if vectors.segments.is_some() {
        buffers = buffers.rows(Buffer::Gate, 2 * attention.heads);
    }
    buffers
}

/// The addends of a chunk of whole records.
pub(super) struct Addends<'a> {
    /// Of every query `[rows, heads * vectors]`.
    of_queries: Option<Mat>,
    /// Of every key.
    of_keys: Option<Mat>,
    /// Of every query `[rows, heads * 2]`, where tokens are of several kinds.
    of_segments: Option<Mat>,
    /// The kinds of the queries and of the keys.
    kinds: Option<[&'a [u32]; 2]>,
    /// A kind that is the same as every other.
    neutral: Option<u32>,
    /// Vectors that distances of these records have.
    vectors: usize,
    /// Where there is a key for each query, and where there are two.
    places: Vec<Places>,
    /// The first row of a record has no place.
    first_apart: bool,
    segments: Vec<Segment>,
    scale: f32,
}

/// The vectors of distances between queries and keys.
struct Places {
    /// Keys for a query.
    keys: usize,
    /// The vector of every `keys * query - key`, from `-longest` on.
    vector_of: Vec<usize>,
    longest: usize,
}

impl<'a> Addends<'a> {
    pub fn new(
        layer: &BoundLayer<'_>,
        vectors: &DistanceVectors,
        attention: &Attention,
        rows: Rows<'a>,
        scratch: &mut Scratch,
    ) -> Result<Self, EngineError> {
        let source = match attention.key_value {
            KeyValue::OfStack { stack, .. } => Some(stack),
            KeyValue::Own { .. } | KeyValue::OfLayer(_) => None,
        };
        let segments = match source {
            Some(stack) => rows.batch.segments_of_source(stack, rows.chunk),
            None => rows.batch.segments(rows.chunk),
        };
        let segments = segments.own;
        let longest = segments.iter().map(|segment| segment.k.len()).max();
        let longest = longest.unwrap_or(0);
        let of = |halved: bool| places_of(vectors, halved, longest);
        let all: Vec<(usize, Vec<i64>)> = match source {
            Some(_) => vec![of(false), of(true)],
            None => vec![of(false)],
        };
        let mut used: Vec<i64> = all.iter().flat_map(|(_, places)| places).copied().collect();
        used.sort_unstable();
        used.dedup();
        let table = table(layer, vectors, &used)?;
        let places = all.into_iter().map(|(keys, places)| Places {
            keys,
            vector_of: places
                .into_iter()
                .map(|place| used.partition_point(|&other| other < place))
                .collect(),
            longest,
        });
        let own = rows.batch.token_types.as_deref();
        let own = own.map(|kinds| &kinds[rows.chunk.rows.clone()]);
        let of_keys_kinds = match source {
            Some(stack) => rows.batch.source_kinds(stack).map(|kinds| {
                let seen = rows.batch.source_rows(stack, rows.chunk);
                &kinds[seen]
            }),
            None => own,
        };
        let kinds = own.zip(of_keys_kinds).map(|(own, keys)| [own, keys]);
        let first_apart = vectors.places.is_some_and(|places| places.first_apart);
        let of_queries = of_queries(layer, vectors, attention, &table, scratch)?;
        if let QueryBiases::Added([bias, _]) = vectors.query_biases {
            let bias = layer.vector(bias)?;
            layer.kernels.add_bias(&bias, scratch.query.view_mut());
        }
        Ok(Self {
            of_queries,
            of_keys: of_keys(layer, vectors, attention, &table, scratch)?,
            // Where all pairs are of equal kinds, the addends of a query are the same, but for those of a first row.
            of_segments: if kinds.is_some() || first_apart {
                of_segments(layer, vectors, attention, scratch)?
            } else {
                None
            },
            kinds,
            neutral: vectors.segments.and_then(|segments| segments.neutral),
            vectors: table.rows(),
            places: places.collect(),
            first_apart,
            segments,
            scale: vectors.scale as f32,
        })
    }

    /// Adds to the logits of one query and some keys.
    pub fn add(&self, site: &BiasSite, logits: &mut [f32]) {
        if self.first_apart && site.query == 0 {
            return;
        }
        let segment = &self.segments[site.segment];
        let halved = self.places.len() > 1 && segment.q.len() != segment.k.len();
        let Places {
            keys,
            vector_of,
            longest,
        } = &self.places[usize::from(halved)];
        let query = segment.q.start + site.query - segment.q_start;
        let columns = site.head * self.vectors..(site.head + 1) * self.vectors;
        let of_query = self.of_queries.as_ref();
        let of_query = of_query.map(|products| &products.row(query)[columns.clone()]);
        let of_pair = self.of_segments.as_ref();
        let of_pair = of_pair.map(|products| &products.row(query)[2 * site.head..]);
        for (key, logit) in site.keys.clone().zip(logits) {
            if self.first_apart && key == 0 {
                continue;
            }
            let vector = vector_of[longest + keys * site.query - key];
            let mut sum = of_query.map_or(0.0, |products| products[vector]);
            if let Some(products) = &self.of_keys {
                sum += products.row(segment.k.start + key)[columns.start + vector];
            }
            if let Some(products) = of_pair {
                let differ = self.differ(query, segment.k.start + key);
                sum += products[usize::from(differ)];
            }
            *logit += sum * self.scale;
        }
    }

    /// Whether a query and a key are of other kinds.
    fn differ(&self, query: usize, key: usize) -> bool {
        let Some([queries, keys]) = self.kinds else {
            return false;
        };
        let kinds = [queries[query], keys[key]];
        let is_neutral = |kind| Some(kind) == self.neutral;
        kinds[0] != kinds[1] && !kinds.into_iter().any(is_neutral)
    }

    /// Gives the buffers back.
    pub fn release(self, scratch: &mut Scratch) {
        let buffers = [
            (self.of_queries, &mut scratch.up),
            (self.of_keys, &mut scratch.inner),
            (self.of_segments, &mut scratch.gate),
        ];
        for (products, buffer) in buffers {
            if let Some(products) = products {
                *buffer = products;
            }
        }
    }
}

/// What the queries make of the vectors.
fn of_queries(
    layer: &BoundLayer<'_>,
    vectors: &DistanceVectors,
    attention: &Attention,
    table: &Mat,
    scratch: &mut Scratch,
) -> Result<Option<Mat>, EngineError> {
    let projected = match &vectors.keys {
        Some(DistanceKeys::Projected(keys)) => project(layer, keys, table)?,
        Some(DistanceKeys::Plain) => repeated(table, attention.heads),
        None => return Ok(None),
    };
    shift(layer, vectors, None, scratch)?;
    let Scratch { heads, up, .. } = scratch;
    multiply(layer.kernels, heads.view(), &projected, attention.heads, up);
    Ok(Some(std::mem::take(up)))
}

/// What the keys make of the vectors.
fn of_keys(
    layer: &BoundLayer<'_>,
    vectors: &DistanceVectors,
    attention: &Attention,
    table: &Mat,
    scratch: &mut Scratch,
) -> Result<Option<Mat>, EngineError> {
    let Some(queries) = &vectors.queries else {
        return Ok(None);
    };
    let projected = project(layer, queries, table)?;
    let Scratch { key, inner, .. } = scratch;
    multiply(
        layer.kernels,
        key.view(),
        &projected,
        attention.heads,
        inner,
    );
    Ok(Some(std::mem::take(inner)))
}

/// What the queries make of equal and of other kinds.
fn of_segments(
    layer: &BoundLayer<'_>,
    vectors: &DistanceVectors,
    attention: &Attention,
    scratch: &mut Scratch,
) -> Result<Option<Mat>, EngineError> {
    let Some(rule) = &vectors.segments else {
        return Ok(None);
    };
    let pair = &*layer.vector(rule.vectors)?;
    let pair = Mat::from_vec(2, attention.heads * attention.head_dim, pair.to_vec());
    shift(layer, vectors, Some(rule.bias), scratch)?;
    let Scratch { heads, gate, .. } = scratch;
    multiply(layer.kernels, heads.view(), &pair, attention.heads, gate);
    Ok(Some(std::mem::take(gate)))
}

/// Keys for a query, and the places of the vectors of all `keys * query - key` in records of up to `longest` keys.
fn places_of(vectors: &DistanceVectors, halved: bool, longest: usize) -> (usize, Vec<i64>) {
    let steps = vectors.places.map(|places| places.steps(halved));
    let [keys, step, offset] = steps.unwrap_or([1, 1, 0]);
    let longest = longest as i64;
    let places = (-longest..=keys * longest).map(|steps| vectors.place(step * steps + offset));
    (keys as usize, places.collect())
}

/// The vectors of some places `[places, width]`.
fn table(
    layer: &BoundLayer<'_>,
    vectors: &DistanceVectors,
    places: &[i64],
) -> Result<Mat, EngineError> {
    let mut table = Mat::new(places.len(), vectors.width);
    match vectors.table {
        DistanceTable::Learned { weight, span } => {
            let all = &*layer.vector(weight)?;
            for (row, place) in places.iter().enumerate() {
                let first = (place + span as i64) as usize * vectors.width;
                table
                    .row_mut(row)
                    .copy_from_slice(&all[first..first + vectors.width]);
            }
        }
        DistanceTable::Sines { farthest: _ } => {
            for (row, &place) in places.iter().enumerate() {
                set_sines(place, table.row_mut(row));
            }
        }
    }
    if let Some(norm) = &vectors.norm {
        layer.norm_in_place(norm, table.view_mut())?;
    }
    Ok(table)
}

/// In f32 up to the angle, as the reference has it.
fn set_sines(place: i64, row: &mut [f32]) {
    let half = row.len() / 2;
    for index in 0..half {
        let power = (2 * index) as f32 / row.len() as f32;
        let angle = place as f32 * (1.0 / 10_000_f32.powf(power));
        let (sine, cosine) = f64::from(angle).sin_cos();
        row[index] = sine as f32;
        row[half + index] = cosine as f32;
    }
}

fn project(layer: &BoundLayer<'_>, linear: &Linear, table: &Mat) -> Result<Mat, EngineError> {
    let mut projected = Mat::new(table.rows(), linear.out_features);
    let layer = layer.of(Enters::Tables);
    layer.linear(table.view(), linear, projected.view_mut())?;
    Ok(projected)
}

/// Every row as often as there are heads.
fn repeated(table: &Mat, heads: usize) -> Mat {
    let mut all = Mat::new(table.rows(), heads * table.cols());
    for row in 0..table.rows() {
        let parts = all.row_mut(row).chunks_exact_mut(table.cols());
        parts.for_each(|part| part.copy_from_slice(table.row(row)));
    }
    all
}

/// The queries as they meet vectors, or with this bias in the place of their own, in the buffer of the heads' outputs.
fn shift(
    layer: &BoundLayer<'_>,
    vectors: &DistanceVectors,
    bias: Option<WeightIndex>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let Scratch { query, heads, .. } = scratch;
    heads.reset(query.rows(), query.cols());
    layer.kernels.copy(query.view(), heads.view_mut());
    match vectors.query_biases {
        QueryBiases::Own => {}
        QueryBiases::Instead([own, of_vectors]) => {
            let (own, bias) = (
                layer.vector(own)?,
                layer.vector(bias.unwrap_or(of_vectors))?,
            );
            let differences = bias.iter().zip(&*own).map(|(bias, own)| bias - own);
            let differences: Vec<f32> = differences.collect();
            layer.kernels.add_bias(&differences, heads.view_mut());
        }
        QueryBiases::Added([_, bias]) => {
            let bias = layer.vector(bias)?;
            layer.kernels.add_bias(&bias, heads.view_mut());
        }
    }
    Ok(())
}

/// `out[row, head * vectors + v] = x[row, head] * vectors[v, head]`.
fn multiply(kernels: &Kernels, x: MatRef<'_>, vectors: &Mat, heads: usize, out: &mut Mat) {
    let (count, dim) = (vectors.rows(), vectors.cols() / heads);
    out.reset(x.rows(), heads * count);
    let mut own = Vec::with_capacity(count * dim);
    let mut packed = PackedWeights::new(count, dim, PackedKind::F32);
    for head in 0..heads {
        let columns = head * dim..(head + 1) * dim;
        own.clear();
        for vector in 0..count {
            own.extend_from_slice(&vectors.row(vector)[columns.clone()]);
        }
        packed.reset(count, dim, PackedKind::F32);
        packed.pack_rows_f32(0, &own);
        let out = out.view_mut().cols_range(head * count..(head + 1) * count);
        kernels.gemm(x.cols_range(columns), &packed, None, Store::Set, out);
    }
}
