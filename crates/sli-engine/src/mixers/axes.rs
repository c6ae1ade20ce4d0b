//! Vectors of how many rows and columns patches are apart, and windows that are filled with rows of nothing (SAM).

use sli_kernels::{Mat, PackedKind, PackedWeights, Store};
use sli_spec::{Attention, AxisDistances, KeyValue, Place};

use super::buffers::{Buffer, Buffers};
use crate::error::EngineError;
use crate::exec::batch::Segments;
use crate::exec::{BoundLayer, Rows, Scratch};

/// What wider queries and keys need, and keys and values of filled windows.
pub(super) fn buffers(axes: &AxisDistances, attention: &Attention) -> Buffers {
    let wide = attention.heads * (attention.head_dim + axes.features());
    let values = axes.filled(attention.kv_heads * attention.value_dim);
    let distances = axes.grid.map(|side| 2 * side - 1);
    Buffers::default()
        .rows(Buffer::Up, wide)
        .rows(Buffer::Inner, axes.filled(wide))
        .rows(Buffer::Gate, values.max(distances[0]).max(distances[1]))
        .rows(Buffer::Value, values)
        .fixed(
            Buffer::Gate,
            2 * attention.head_dim * distances.iter().sum::<usize>(),
        )
}

/// Which rows see each other where these are windows.
pub(super) struct Windowed {
    /// Queries, window by window, and the keys that they see.
    pub segments: Segments,
    /// The row of every query.
    order: Vec<usize>,
}

impl Windowed {
    /// Puts the heads' outputs into the order of the rows.
    pub fn undo(&self, scratch: &mut Scratch) {
        let Scratch { heads, gate, .. } = scratch;
        gate.reset(heads.rows(), heads.cols());
        for (number, &row) in self.order.iter().enumerate() {
            gate.row_mut(row).copy_from_slice(heads.row(number));
        }
        std::mem::swap(heads, gate);
    }
}

/// Queries that are wider by their products with the vectors of a key's row and column, and keys that are wider by ones where
/// these are; of windows, those of each side by side with keys and values of rows of zeros behind, which stand in the place of the
/// rows' values.
pub(super) fn widen(
    layer: &BoundLayer<'_>,
    axes: &AxisDistances,
    attention: &Attention,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<([Mat; 2], Option<Windowed>), EngineError> {
    let (heads, dim) = (attention.heads, attention.head_dim);
    let wide = dim + axes.features();
    let chunk = rows.chunk.rows.clone();
    let places = chunk.map(|row| rows.batch.place(row));
    let places: Vec<Place> = places.collect::<Result<_, EngineError>>()?;
    // The rows that are keys: patches, and places of nothing behind those of their window.
    let (mut keys, mut order) = (Vec::new(), Vec::new());
    let mut segments = Segments::default();
    for own in rows.batch.branches_of(rows.chunk) {
        let own = own.start - rows.chunk.rows.start..own.end - rows.chunk.rows.start;
        let mut own: Vec<usize> = own.collect();
        let corner = |row: &usize| axes.corner(&places[*row]);
        own.sort_by_key(corner);
        for window in own.chunk_by(|one, other| corner(one) == corner(other)) {
            let (query, key) = (order.len(), keys.len());
            order.extend(window);
            let at = |&row: &usize| [places[row].row, places[row].column].map(|at| at as usize);
            keys.extend(window.iter().map(|row| (Some(*row), at(row))));
            keys.extend(axes.missing(&places[window[0]]).map(|at| (None, at)));
            segments.push(query..order.len(), key..keys.len());
        }
    }
    let query = widened_queries(layer, axes, attention, (&places, &order), scratch)?;
    let of_nothing = biases(layer, attention)?;
    let Scratch {
        key,
        value,
        inner,
        gate,
        ..
    } = scratch;
    let mut wider = std::mem::take(inner);
    wider.reset(keys.len(), heads * wide);
    for (number, (row, at)) in keys.iter().enumerate() {
        let own = row.map_or(&of_nothing[0][..], |row| key.row(row));
        let parts = wider.row_mut(number).chunks_exact_mut(wide);
        for (part, own) in parts.zip(own.chunks_exact(dim)) {
            let (features, ones) = part.split_at_mut(dim);
            features.copy_from_slice(own);
            ones.fill(0.0);
            if axes.vectors.is_some() {
                let [high, across] = axes.grid;
                ones[at[0] % high] = 1.0;
                ones[high + at[1] % across] = 1.0;
            }
        }
    }
    if axes.grid == axes.view {
        return Ok(([query, wider], None));
    }
    gate.reset(keys.len(), value.cols());
    for (number, (row, _)) in keys.iter().enumerate() {
        let own = row.map_or(&of_nothing[1][..], |row| value.row(row));
        gate.row_mut(number).copy_from_slice(own);
    }
    std::mem::swap(value, gate);
    Ok(([query, wider], Some(Windowed { segments, order })))
}

/// Keys and values of a row of zeros.
fn biases(layer: &BoundLayer<'_>, attention: &Attention) -> Result<[Vec<f32>; 2], EngineError> {
    let KeyValue::Own {
        key,
        value: Some(value),
    } = &attention.key_value
    else {
        let problem = "rows and columns of keys that are not the layer's own";
        return Err(EngineError::Internal(problem.into()));
    };
    let of = |linear: &sli_spec::Linear| -> Result<Vec<f32>, EngineError> {
        let bias = layer.optional(linear.bias)?;
        let bias = bias.as_deref().map(<[f32]>::to_vec);
        Ok(bias.unwrap_or_else(|| vec![0.0; linear.out_features]))
    };
    Ok([of(key)?, of(value)?])
}

fn widened_queries(
    layer: &BoundLayer<'_>,
    axes: &AxisDistances,
    attention: &Attention,
    (places, order): (&[Place], &[usize]),
    scratch: &mut Scratch,
) -> Result<Mat, EngineError> {
    let (kernels, heads, dim) = (layer.kernels, attention.heads, attention.head_dim);
    let wide = dim + axes.features();
    let Scratch {
        query,
        up,
        gate: products,
        ..
    } = scratch;
    up.reset(query.rows(), heads * wide);
    for (number, &row) in order.iter().enumerate() {
        let parts = up.row_mut(number).chunks_exact_mut(wide);
        for (part, own) in parts.zip(query.row(row).chunks_exact(dim)) {
            part[..dim].copy_from_slice(own);
        }
    }
    let Some(vectors) = axes.vectors else {
        return Ok(std::mem::take(up));
    };
    // The attention's scale is on all features.
    let scale = attention.scale as f32;
    let mut first = dim;
    for (axis, table) in vectors.into_iter().enumerate() {
        let side = axes.grid[axis];
        let table = layer.vector(table)?;
        let mut packed = PackedWeights::new(2 * side - 1, dim, PackedKind::F32);
        for (number, vector) in table.chunks_exact(dim).enumerate() {
            packed.pack_rows_f32(number, vector);
        }
        for head in 0..heads {
            let of_head = query.view().cols_range(head * dim..(head + 1) * dim);
            products.reset(query.rows(), 2 * side - 1);
            kernels.gemm(of_head, &packed, None, Store::Set, products.view_mut());
            for (number, &row) in order.iter().enumerate() {
                let at = [places[row].row, places[row].column][axis] as usize % side;
                let start = head * wide + first;
                let targets = &mut up.row_mut(number)[start..start + side];
                // The key that is farthest behind has the first vector.
                let own = products.row(row)[at..at + side].iter().rev();
                for (target, product) in targets.iter_mut().zip(own) {
                    *target = product / scale;
                }
            }
        }
        first += side;
    }
    Ok(std::mem::take(up))
}
