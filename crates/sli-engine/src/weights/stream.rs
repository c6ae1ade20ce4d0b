//! Pieces of weights that pass by one after another: read one while the one before is used.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::sync_channel;

use sli_checkpoint::ResolvedLeaf;
use sli_kernels::{Compute, PackedKind, PackedWeights};

use super::LeafKey;
use super::load::{self, Staging};
use crate::error::EngineError;
use crate::model::Model;

/// Some rows of one slice of a leaf.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'a> {
    pub key: LeafKey,
    pub leaf: &'a ResolvedLeaf,
    /// The expert, 0 for a plain matrix.
    pub slice: usize,
    pub rows: Range<usize>,
}

/// Reads groups of pieces in order on a thread of its own, at most `ahead + 1` groups in memory at
/// a time, and hands each group to `consume` in order, which may keep pieces and leave others.
pub(crate) fn stream(
    model: &Model,
    compute: Compute,
    ahead: usize,
    groups: &[Vec<Piece<'_>>],
    mut consume: impl FnMut(usize, &mut [PackedWeights]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let ahead = ahead.max(1);
    let (full_sender, full) = sync_channel::<Result<Vec<PackedWeights>, EngineError>>(ahead);
    let (empty_sender, empty) = sync_channel::<Vec<PackedWeights>>(ahead + 1);
    for _ in 0..=ahead.min(groups.len()) {
        // The channel has room for exactly these; it cannot be full.
        let _ = empty_sender.try_send(Vec::new());
    }
    // The closure owns this side of the channels: whichever way it ends, the reader sees them close.
    std::thread::scope(move |scope| {
        let (full, empty_sender) = (full, empty_sender);
        scope.spawn(move || {
            let mut reader = Reader {
                model,
                compute,
                staging: Staging::default(),
                known: HashMap::new(),
            };
            for group in groups {
                let Ok(mut packed) = empty.recv() else { return };
                let read = reader.read_group(group, &mut packed);
                let failed = read.is_err();
                if full_sender.send(read.map(|()| packed)).is_err() || failed {
                    return;
                }
            }
        });
        for index in 0..groups.len() {
            let mut packed = model.clock.waiting(|| full.recv()).map_err(|_| {
                EngineError::Request("the weight reader ended before its last piece".into())
            })??;
            consume(index, &mut packed)?;
            // The reader is gone once its last piece is read.
            let _ = empty_sender.send(packed);
        }
        Ok(())
    })
}

struct Reader<'m> {
    model: &'m Model,
    compute: Compute,
    staging: Staging,
    /// Whether two leaves lie between one another in a file.
    known: HashMap<(LeafKey, LeafKey), bool>,
}

impl Reader<'_> {
    fn read_group(
        &mut self,
        group: &[Piece<'_>],
        packed: &mut Vec<PackedWeights>,
    ) -> Result<(), EngineError> {
        packed.resize_with(group.len(), || PackedWeights::new(0, 0, PackedKind::F32));
        let mut start = 0;
        while start < group.len() {
            let mut end = start + 1;
            while end < group.len() && self.together(&group[start], &group[end])? {
                end += 1;
            }
            let (pieces, packed) = (&group[start..end], &mut packed[start..end]);
            let leaves: Vec<_> = pieces.iter().map(|piece| (piece.key, piece.leaf)).collect();
            let (slice, rows) = (pieces[0].slice, pieces[0].rows.clone());
            let (model, compute) = (self.model, self.compute);
            let staging = &mut self.staging;
            load::pack_rows(model, &leaves, slice, rows, compute, staging, packed)?;
            start = end;
        }
        Ok(())
    }

    /// Whether two pieces are best read in one go.
    fn together(&mut self, a: &Piece<'_>, b: &Piece<'_>) -> Result<bool, EngineError> {
        let alike = (a.slice, &a.rows) == (b.slice, &b.rows)
            && a.leaf.shape() == b.leaf.shape()
            && a.leaf.dtype() == b.leaf.dtype();
        if !alike {
            return Ok(false);
        }
        if let Some(&known) = self.known.get(&(a.key, b.key)) {
            return Ok(known);
        }
        let overlaps = a.leaf.overlaps(b.leaf)?;
        self.known.insert((a.key, b.key), overlaps);
        Ok(overlaps)
    }
}
