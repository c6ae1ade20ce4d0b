//! Attention to keys that the queries' chunk does not have: those of earlier chunks, or of other pieces of the
//! record.

use sli_kernels::{AttentionArgs, Mat, MatMut, Running, Segment};

use crate::error::EngineError;
use crate::exec::batch::{Piece, Segments};
use crate::exec::states::{CutRecord, MixerId, States};
use crate::exec::{BoundLayer, Computed, Rows};
use crate::results::ResultsError;

/// What an attention runs with.
pub(super) struct Attended<'a> {
    pub layer: &'a BoundLayer<'a>,
    pub rows: Rows<'a>,
    pub mixer: MixerId,
    pub states: &'a mut States,
    pub window: &'a mut [Mat; 3],
    /// Of the chunk's rows.
    pub key: &'a Mat,
    pub value: &'a Mat,
    pub segments: &'a Segments,
}

impl Attended<'_> {
    /// Fills `heads` with what the queries see, and hands the chunk's keys and values on.
    pub fn run(self, args: &AttentionArgs<'_>, heads: MatMut<'_>) -> Result<(), EngineError> {
        if let Some(piece) = self.rows.batch.piece() {
            return self.run_piece(piece, args, heads);
        }
        let columns = (self.key.cols(), self.value.cols());
        let earlier = self.states.carried(self.mixer, self.rows.chunk, columns);
        let args = AttentionArgs {
            common: self.segments.common(earlier),
            ..*args
        };
        self.layer.kernels.attention(&args, heads);
        self.states
            .carry(self.mixer, self.rows.chunk, self.key, self.value);
        Ok(())
    }

    /// The same with the keys of all pieces, as many at a time as there is room for.
    fn run_piece(
        self,
        piece: &Piece,
        args: &AttentionArgs<'_>,
        mut heads: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let Self {
            layer,
            rows,
            mixer,
            states,
            window: [key, value, sums],
            ..
        } = self;
        let cut = record(states)?;
        if rows.pass == Computed::Whole {
            leave(cut, mixer, piece, self.key, self.value)?;
        }
        let queries = args.q.rows();
        let visible = |query: usize| args.mask.visible(piece.before + query, 0);
        let end = visible(queries.saturating_sub(1)).end.min(cut.rows);
        let mut first = visible(0).start / Running::KEYS * Running::KEYS;
        sums.reset(queries, Running::columns(args.heads, args.v_dim));
        let sums = sums.view_mut();
        let mut begins = true;
        while begins || first < end {
            let keys = end.saturating_sub(first).min(cut.window);
            key.reset(keys, args.kv_heads * args.qk_dim);
            value.reset(keys, args.kv_heads * args.v_dim);
            cut.read(mixer, first, key, value)
                .map_err(ResultsError::from)?;
            let segments = [Segment {
                q: 0..queries,
                k: 0..keys,
                q_start: piece.before,
                prefix: 0,
            }];
            let args = AttentionArgs {
                k: key.view(),
                v: value.view(),
                segments: &segments,
                running: Some(Running {
                    sums: &sums,
                    first_key: first,
                    begins,
                    ends: first + keys >= end,
                }),
                ..*args
            };
            layer.kernels.attention(&args, heads.reborrow());
            first += keys;
            begins = false;
        }
        Ok(())
    }
}

/// Leaves keys and values of a piece for the others.
pub(super) fn leave(
    cut: &mut CutRecord,
    mixer: MixerId,
    piece: &Piece,
    key: &Mat,
    value: &Mat,
) -> Result<(), EngineError> {
    let written = cut.write(mixer, piece.before, key.view(), value.view());
    Ok(written.map_err(ResultsError::from)?)
}

/// The record whose pieces run.
pub(super) fn record(states: &mut States) -> Result<&mut CutRecord, EngineError> {
    let problem = "a piece of a record runs, but no record was begun";
    states
        .cut()
        .ok_or_else(|| EngineError::Internal(problem.into()))
}
