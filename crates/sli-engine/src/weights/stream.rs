//! Pieces of weights that pass by one after another: read one while the one before is used.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc::{SendError, sync_channel};
use std::sync::{Mutex, PoisonError};

use sli_checkpoint::BoundLeaf;
use sli_kernels::{Compute, PackedKind, PackedWeights};

use super::LeafKey;
use super::load::{self, Staging};
use crate::error::EngineError;
use crate::model::Model;

/// Some rows of one slice of a leaf.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'a> {
    pub key: LeafKey,
    pub leaf: &'a BoundLeaf,
    /// The expert, 0 for a plain matrix.
    pub slice: usize,
    pub rows: Range<usize>,
}

/// The buffers that pieces pass by in, kept from one stream to the next: a layer at a grain of tiles is a
/// stream for every matrix.
#[derive(Default)]
pub(crate) struct Passage(Mutex<Buffers>);

#[derive(Default)]
struct Buffers {
    staging: Staging,
    groups: Vec<Vec<PackedWeights>>,
    /// The largest group that passed by, bytes: what a group's buffers may hold.
    largest: u64,
}

impl Passage {
    /// Frees the buffers.
    pub fn clear(&self) {
        drop(self.take());
    }

    fn take(&self) -> Buffers {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, buffers: Buffers) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = buffers;
    }
}

/// Groups in memory together: one that is used and one that is read.
const GROUPS: usize = 2;

/// Reads groups of pieces in order on a thread of its own, at most [`GROUPS`] of them in memory at
/// a time, and hands each group to `consume` in order, which may keep pieces and leave others.
pub(crate) fn stream(
    model: &Model,
    compute: Compute,
    passage: &Passage,
    groups: &[Vec<Piece<'_>>],
    mut consume: impl FnMut(usize, &mut [PackedWeights]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut buffers = passage.take();
    buffers.groups.resize_with(GROUPS, Vec::new);
    let (full_sender, full) = sync_channel::<Result<Vec<PackedWeights>, EngineError>>(GROUPS - 1);
    let (empty_sender, empty) = sync_channel::<Vec<PackedWeights>>(GROUPS);
    for group in buffers.groups.drain(..) {
        // The channel has room for exactly these; it cannot be full.
        let _ = empty_sender.try_send(group);
    }
    // The closure owns this side of the channels: whichever way it ends, the reader sees them close.
    std::thread::scope(move |scope| {
        let (full, empty_sender) = (full, empty_sender);
        let reader = scope.spawn(move || {
            let mut reader = Reader {
                model,
                compute,
                buffers,
                known: HashMap::new(),
            };
            let mut announced = 0;
            for (index, group) in groups.iter().enumerate() {
                announced = announce(groups, index, announced);
                let Ok(mut packed) = empty.recv() else { break };
                let read = reader.read_group(group, &mut packed);
                let failed = read.is_err();
                if full_sender.send(read.map(|()| packed)).is_err() || failed {
                    break;
                }
            }
            (reader.buffers, empty)
        });
        let mut last = Vec::new();
        for index in 0..groups.len() {
            let mut packed = model.clock.waiting(|| full.recv()).map_err(|_| {
                EngineError::Internal("the weight reader ended before its last piece".into())
            })??;
            consume(index, &mut packed)?;
            // The reader may be gone, once its last piece is read.
            if let Err(SendError(packed)) = empty_sender.send(packed) {
                last.push(packed);
            }
        }
        match reader.join() {
            Ok((mut buffers, empty)) => {
                buffers.groups = empty.try_iter().chain(last).collect();
                passage.put_back(buffers);
                Ok(())
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Buffers {
    /// Gives `packed` a buffer for every piece, none that hold more in all than the largest group needs.
    fn make_room(
        &mut self,
        group: &[Piece<'_>],
        compute: Compute,
        packed: &mut Vec<PackedWeights>,
    ) {
        let needs = group
            .iter()
            .map(|piece| load::packed_bytes(piece.leaf, piece.rows.len(), compute));
        let needs: Vec<u64> = needs.collect();
        self.largest = self.largest.max(needs.iter().sum());
        let none = || PackedWeights::new(0, 0, PackedKind::F32);
        packed.resize_with(group.len(), none);
        let held = packed.iter().zip(&needs);
        let held: u64 = held
            .map(|(has, needs)| needs.max(&(has.bytes() as u64)).to_owned())
            .sum();
        if held > self.largest {
            packed.fill_with(none);
        }
    }
}

/// Bytes that are announced ahead of what is read.
const ANNOUNCED: u64 = 8 << 20;

/// Tells the source what is read after a group, and how far it was told; `told` is how far it was before.
fn announce(groups: &[Vec<Piece<'_>>], index: usize, told: usize) -> usize {
    let mut bytes = 0;
    let mut next = index + 1;
    while next < groups.len() && bytes < ANNOUNCED {
        for piece in &groups[next] {
            bytes += (piece.rows.len() * piece.leaf.row_bytes()) as u64;
            // What is wrong with a piece is said when it is read.
            if next >= told
                && piece
                    .leaf
                    .advise_soon(piece.slice, piece.rows.clone())
                    .is_err()
            {
                return groups.len();
            }
        }
        next += 1;
    }
    next.max(told)
}

struct Reader<'m> {
    model: &'m Model,
    compute: Compute,
    buffers: Buffers,
    /// Whether two leaves lie between one another in a file.
    known: HashMap<(LeafKey, LeafKey), bool>,
}

impl Reader<'_> {
    fn read_group(
        &mut self,
        group: &[Piece<'_>],
        packed: &mut Vec<PackedWeights>,
    ) -> Result<(), EngineError> {
        self.buffers.make_room(group, self.compute, packed);
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
            let staging = &mut self.buffers.staging;
            load::pack_rows(model, &leaves, slice, rows, compute, staging, packed)?;
            start = end;
        }
        Ok(())
    }

    /// Whether two pieces are best read in one go.
    fn together(&mut self, a: &Piece<'_>, b: &Piece<'_>) -> Result<bool, EngineError> {
        let alike = (a.slice, &a.rows) == (b.slice, &b.rows)
            && a.leaf.shape() == b.leaf.shape()
            && a.leaf.float() == b.leaf.float();
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
