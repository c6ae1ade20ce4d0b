//! Keys of an earlier stack's end in one softmax with a layer's own (T5Gemma 2): the own ones have been summed up, these
//! are what the sums go on with.

use sli_kernels::{AttentionArgs, AttentionMask, Mat, Running};
use sli_spec::{Attention, KeyValue};

use crate::error::EngineError;
use crate::exec::{BoundLayer, EndRows, Enters, Rows, Scratch};

/// Goes on with the sums in `scratch.gate` over the rows of `stack`, and leaves the heads' outputs.
pub(super) fn attend(
    attention: &Attention,
    stack: usize,
    layer: &BoundLayer<'_>,
    rows: Rows<'_>,
    ends: &[EndRows],
    scratch: &mut Scratch,
) -> Result<(), EngineError> {
    let KeyValue::Own {
        key: of_keys,
        value: Some(of_values),
    } = &attention.key_value
    else {
        let problem = "keys beside those of another layer";
        return Err(EngineError::Internal(problem.into()));
    };
    let Scratch {
        query,
        key,
        value,
        heads: output,
        gate,
        up: normed,
        ..
    } = scratch;
    let (heads, kv_heads) = (attention.heads, attention.kv_heads);
    let end = end_of(ends, stack)?;
    let seen = rows.batch.source_rows(stack, rows.chunk);
    let mut of_others = end.rows_view(seen.clone());
    if let Some(norm) = &attention.merged_norm {
        normed.reset(of_others.rows(), of_others.cols());
        layer.norm(norm, of_others, normed.view_mut())?;
        of_others = normed.view();
    }
    key.reset(seen.len(), kv_heads * attention.head_dim);
    let others = layer.of(Enters::Others);
    others.linear(of_others, of_keys, key.view_mut())?;
    if let Some(norm) = &attention.key_norm {
        layer.head_norm(norm, kv_heads, key.view_mut())?;
    }
    value.reset(seen.len(), kv_heads * attention.value_dim);
    others.linear(of_others, of_values, value.view_mut())?;
    let segments = rows.batch.segments_of_source(stack, rows.chunk);
    let sums = gate.view_mut();
    let args = AttentionArgs {
        softcap: attention.softcap.map(|cap| cap as f32),
        running: Some(Running {
            sums: &sums,
            first_key: 0,
            begins: false,
            ends: true,
        }),
        ..AttentionArgs::plain(
            [query.view(), key.view(), value.view()],
            [heads, kv_heads],
            &segments.own,
            AttentionMask::Full,
            attention.scale as f32,
        )
    };
    layer.kernels.attention(&args, output.view_mut());
    Ok(())
}

/// What a stack left.
pub(crate) fn end_of(ends: &[EndRows], stack: usize) -> Result<&Mat, EngineError> {
    let end = ends.iter().find(|end| end.stack == stack);
    let end = end.ok_or_else(|| EngineError::Internal(format!("stack {stack} left no end")));
    Ok(&end?.rows)
}
