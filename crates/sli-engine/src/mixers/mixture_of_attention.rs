//! Attention whose query and output projections are experts (JetMoe).

use sli_kernels::{AttentionArgs, Mat, MatRef, Store};
use sli_spec::MixtureOfAttention;

use super::buffers::{Buffer, Buffers};
use super::mask::mask;
use super::rotation::{HeadSpan, rotate};
use super::router;
use super::routes::Routes;
use super::{At, Mix, experts};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Rows, Scratch};

impl Mix for MixtureOfAttention {
    fn buffers(&self, hidden: usize) -> Buffers {
        let top_k = self.router.top_k;
        let inner = self.heads * self.head_dim;
        Buffers::default()
            .rows(Buffer::Query, inner * top_k)
            .rows(Buffer::Key, inner)
            .rows(Buffer::Value, inner)
            .rows(Buffer::Heads, inner * top_k)
            // Ids and weights of the choice beside the logits.
            .rows(Buffer::Gate, self.experts + 4 * top_k)
            .rows(Buffer::Up, inner.max(hidden))
            .rows(Buffer::Inner, inner.max(hidden))
    }

    /// `output = attention(x)`; x is `[rows, hidden]`, the rows of a whole super-batch.
    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows, scratch) = (at.layer, at.rows, &mut *at.scratch);
        let routes = router::route(layer, &self.router, x, rows, (at.kept, scratch))?;
        let chosen = Chosen {
            loads: routes.loads(self.experts),
            routes,
        };
        queries(layer, self, &chosen, x, scratch)?;
        keys(layer, self, x, rows, scratch)?;
        attend(layer, self, rows, scratch);
        outputs(layer, self, &chosen, scratch, output)?;
        let bias = layer.vector(self.output_bias)?;
        layer.kernels.add_bias(&bias, output.view_mut());
        Ok(())
    }
}

/// The experts that the rows chose.
struct Chosen {
    /// By expert: places (row times `top_k` plus rank).
    loads: Vec<Vec<u32>>,
    routes: Routes,
}

/// Heads of all chosen experts that share a key head lie side by side: `scratch.query` is
/// `[rows, (head, rank, dim)]`.
fn queries(
    layer: &BoundLayer<'_>,
    attention: &MixtureOfAttention,
    chosen: &Chosen,
    x: MatRef<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (top_k, dim) = (chosen.routes.top_k, attention.head_dim);
    let mut query = std::mem::take(&mut scratch.query);
    query.reset(x.rows(), attention.heads * top_k * dim);
    experts::each(
        layer,
        &[&attention.query],
        1,
        &chosen.loads,
        |expert, stage, packed| {
            let load = &chosen.loads[expert];
            scratch.normed.reset(load.len(), x.cols());
            let rows = chosen.routes.rows_at(load);
            let gathered = scratch.normed.view_mut();
            layer.kernels.gather_rows(x, &rows, gathered);
            scratch.up.reset(load.len(), stage.inputs.len());
            let (input, target) = (scratch.normed.view(), scratch.up.view_mut());
            layer
                .kernels
                .gemm(input, &packed[0], None, Store::Set, target);
            for (row, &place) in load.iter().enumerate() {
                let (token, rank) = (place as usize / top_k, place as usize % top_k);
                let target = query.row_mut(token);
                for (feature, &value) in stage.inputs.clone().zip(scratch.up.row(row)) {
                    target[(feature / dim * top_k + rank) * dim + feature % dim] = value;
                }
            }
            Ok(())
        },
    )?;
    scratch.query = query;
    Ok(())
}

/// Keys and values of all rows, and the rotation of queries and keys.
fn keys(
    layer: &BoundLayer<'_>,
    attention: &MixtureOfAttention,
    x: MatRef<'_>,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let (heads, dim) = (attention.heads, attention.head_dim);
    scratch.key.reset(x.rows(), heads * dim);
    layer.linear(x, &attention.key, scratch.key.view_mut())?;
    scratch.value.reset(x.rows(), heads * dim);
    layer.linear(x, &attention.value, scratch.value.view_mut())?;
    let Some(rope) = &attention.rope else {
        return Ok(());
    };
    let top_k = attention.router.top_k;
    for (heads, mat) in [
        (heads * top_k, &mut scratch.query),
        (heads, &mut scratch.key),
    ] {
        let span = HeadSpan::of(rope, heads, dim);
        rotate(layer, rope, rows, span, mat.view_mut());
    }
    Ok(())
}

/// `scratch.heads` of the queries, keys and values.
fn attend(
    layer: &BoundLayer<'_>,
    attention: &MixtureOfAttention,
    rows: Rows<'_>,
    scratch: &mut Scratch,
) {
    let (heads, dim) = (attention.heads, attention.head_dim);
    let queries = heads * attention.router.top_k;
    let segments = rows.batch.segments(rows.chunk);
    // All rows are here: none is carried.
    let earlier = (
        scratch.key.view().rows_range(0..0),
        scratch.value.view().rows_range(0..0),
    );
    scratch.heads.reset(scratch.query.rows(), queries * dim);
    layer.kernels.attention(
        &AttentionArgs {
            common: segments.common(earlier),
            ..AttentionArgs::plain(
                [&scratch.query, &scratch.key, &scratch.value].map(Mat::view),
                [queries, heads],
                &segments.own,
                mask(attention.mask),
                attention.scale as f32,
            )
        },
        scratch.heads.view_mut(),
    );
}

/// The weighted sum of what the chosen experts make of their heads.
fn outputs(
    layer: &BoundLayer<'_>,
    attention: &MixtureOfAttention,
    chosen: &Chosen,
    scratch: &mut Scratch,
    output: &mut Mat,
) -> Result<(), EngineError> {
    let (top_k, dim) = (chosen.routes.top_k, attention.head_dim);
    let found = std::mem::take(&mut scratch.heads);
    output.reset(found.rows(), attention.output.out_features);
    output.as_mut_slice().fill(0.0);
    experts::each(
        layer,
        &[&attention.output],
        0,
        &chosen.loads,
        |expert, stage, packed| {
            let load = &chosen.loads[expert];
            scratch.normed.reset(load.len(), attention.heads * dim);
            for (row, &place) in load.iter().enumerate() {
                let (token, rank) = (place as usize / top_k, place as usize % top_k);
                let target = scratch.normed.row_mut(row).chunks_exact_mut(dim);
                for (head, target) in target.enumerate() {
                    let start = (head * top_k + rank) * dim;
                    target.copy_from_slice(&found.row(token)[start..start + dim]);
                }
            }
            scratch.up.reset(load.len(), stage.outputs.len());
            let (input, target) = (scratch.normed.view(), scratch.up.view_mut());
            layer
                .kernels
                .gemm(input, &packed[0], None, Store::Set, target);
            let (rows, weights) = (chosen.routes.rows_at(load), chosen.routes.weights_at(load));
            let target = output.view_mut().cols_range(stage.outputs.clone());
            layer
                .kernels
                .scatter_add(scratch.up.view(), &weights, &rows, target);
            Ok(())
        },
    )?;
    scratch.heads = found;
    Ok(())
}
