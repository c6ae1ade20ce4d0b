//! Attention within blocks, and through rows in front of a record (PEGASUS-X).

use std::ops::Range;

use sli_kernels::{AttentionMask, Mat, MatRef, Segment};
use sli_spec::GlobalLocal;

use super::buffers::{Buffer, Buffers};
use super::records::records_of;
use super::two_parts::{Part, args, attend};
use super::{At, Mix, attention, two_parts};
use crate::error::EngineError;
use crate::exec::Scratch;

impl Mix for GlobalLocal {
    fn buffers(&self, hidden: usize) -> Buffers {
        self.attention
            .buffers(hidden)
            .rows(Buffer::Up, hidden)
            .rows(Buffer::Gate, two_parts::columns(&self.attention))
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, rows, lead) = (at.layer, at.rows, at.rows.batch.lead());
        let records = records_of(rows);
        let of = |q: fn(&Range<usize>, usize) -> Range<usize>,
                  k: fn(&Range<usize>, usize) -> Range<usize>| {
            let segment = |record| Segment {
                q: q(record, lead),
                k: k(record, lead),
                q_start: 0,
                prefix: 0,
            };
            records.iter().map(segment).collect::<Vec<_>>()
        };
        let front = |record: &Range<usize>, lead| record.start..record.start + lead;
        let behind = |record: &Range<usize>, lead| record.start + lead..record.end;
        let all = |record: &Range<usize>, _| record.clone();

        let mut normed = std::mem::take(&mut at.scratch.up);
        normed.reset(x.rows(), x.cols());
        layer.norm(&self.norms[1], x, normed.view_mut())?;
        for record in &records {
            let front = front(record, lead);
            let target = normed.rows_view_mut(front.clone());
            layer.norm(&self.norms[0], x.rows_range(front), target)?;
        }
        let projected = (&at.kept.ends[..], &mut *at.scratch);
        attention::project(layer, &self.attention, rows, normed.view(), projected)?;
        let Scratch {
            query,
            key,
            value,
            heads,
            gate: sums,
            ..
        } = &mut *at.scratch;
        heads.reset(x.rows(), self.attention.heads * self.attention.value_dim);
        let part = |segments, mask| Part {
            keys: key.view(),
            values: value.view(),
            segments,
            mask,
            bias: None,
        };
        let blocks = AttentionMask::Block {
            size: self.block,
            shift: self.shift,
        };
        let (of_front, to_front, to_block) =
            (of(front, all), of(behind, front), of(behind, behind));
        let whole = part(&of_front, AttentionMask::Full);
        let args = args(&self.attention, query.view(), &whole);
        layer.kernels.attention(&args, heads.view_mut());
        let parts = [
            part(&to_front, AttentionMask::Full),
            part(&to_block, blocks),
        ];
        let out = (sums, heads.view_mut());
        attend(layer, &self.attention, query.view(), parts, out);
        output.reset(x.rows(), self.attention.output.out_features);
        layer.linear(heads.view(), &self.attention.output, output.view_mut())?;
        at.scratch.up = normed;
        Ok(())
    }
}
