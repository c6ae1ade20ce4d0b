//! What can be known of the weights when a checkpoint is opened: blocks of every tensor.
//!
//! A later step of training, a fine-tune, a merged adapter or one exchanged layer changes most values of the
//! tensors that it touches, so that a few blocks of each tell. A small checkpoint is read as a whole. What
//! the blocks miss is found by the [`Ledger`](crate::Ledger) as the weights are read.

use std::collections::BTreeMap;

use crate::error::CheckpointError;
use crate::folder::short;
use crate::tensors::{FileIndex, TensorInfo, WeightFile};

/// A checkpoint of at most so many bytes is read as a whole.
const WHOLE: u64 = 16 << 20;
/// Bytes of a block.
const BLOCK: u64 = 4 << 10;
/// A tensor of at most so many bytes is read as a whole.
const SMALL: u64 = 16 << 10;
/// Blocks of a tensor at least and at most.
const BLOCKS: (u64, u64) = (4, 64);
/// Beyond the least, a tensor has a block for so many bytes.
const BYTES_A_BLOCK: u64 = 16 << 20;
/// A checkpoint of more tensors than this has [`FEW_BLOCKS`] of each.
const MANY_TENSORS: usize = 8 << 10;
const FEW_BLOCKS: u64 = 1;
/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Hashes of what was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// By weight file, hexadecimal.
    pub files: BTreeMap<String, String>,
    /// By tensor, in order of names.
    pub tensors: Vec<u64>,
    /// Whether nothing was left out.
    pub is_whole: bool,
}

impl Sample {
    /// Of files whose contents have names: nothing has to be looked at.
    pub(crate) fn of_ids(tensors: &[TensorInfo], files: &[WeightFile], ids: &[String]) -> Self {
        let digests = tensors.iter().map(|tensor| {
            let mut hasher = blake3::Hasher::new();
            if let Some(id) = ids.get(tensor.file.0 as usize) {
                hasher.update(id.as_bytes());
            }
            hasher.update(&tensor.offset.to_le_bytes());
            first_bytes(&hasher.finalize())
        });
        let names = files.iter().map(|file| file.name.clone());
        Self {
            tensors: digests.collect(),
            files: names.zip(ids.iter().cloned()).collect(),
            is_whole: true,
        }
    }

    /// Looks at the blocks of every tensor, file by file in order of their bytes; `read` fills a buffer from a byte of
    /// a file on.
    pub(crate) fn of(
        tensors: &[TensorInfo],
        files: &[WeightFile],
        read: impl Fn(FileIndex, u64, &mut [u8]) -> Result<(), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let is_whole = tensors.iter().map(|tensor| tensor.bytes).sum::<u64>() <= WHOLE;
        let most = if tensors.len() > MANY_TENSORS {
            FEW_BLOCKS
        } else {
            BLOCKS.1
        };
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_unstable_by_key(|&at| (tensors[at].file, tensors[at].offset));
        let mut digests = vec![0; tensors.len()];
        let mut hashers = vec![blake3::Hasher::new(); files.len()];
        let mut piece = vec![0; PIECE];
        for at in order {
            let tensor = &tensors[at];
            let mut hasher = blake3::Hasher::new();
            for (start, bytes) in blocks(tensor.bytes, is_whole, most) {
                let mut done = 0;
                while done < bytes {
                    let part = &mut piece[..(bytes - done).min(PIECE as u64) as usize];
                    let offset = tensor.offset + start + done;
                    read(tensor.file, offset, part)?;
                    hasher.update(part);
                    done += part.len() as u64;
                }
            }
            let hash = hasher.finalize();
            digests[at] = first_bytes(&hash);
            if let Some(hasher) = hashers.get_mut(tensor.file.0 as usize) {
                hasher.update(hash.as_bytes());
            }
        }
        let names = files.iter().map(|file| file.name.clone());
        let hashes = hashers.iter().map(|hasher| short(&hasher.finalize()));
        Ok(Self {
            files: names.zip(hashes).collect(),
            tensors: digests,
            is_whole,
        })
    }
}

/// The first eight bytes of a hash.
pub(crate) fn first_bytes(hash: &blake3::Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Starts and lengths of the blocks of a tensor, evenly spread, the first and the last bytes among them.
fn blocks(bytes: u64, is_whole: bool, most: u64) -> Vec<(u64, u64)> {
    if is_whole || bytes <= SMALL {
        return vec![(0, bytes)];
    }
    let count = (bytes / BYTES_A_BLOCK).max(BLOCKS.0).min(most);
    if count == 1 {
        return vec![((bytes - BLOCK) / 2, BLOCK)];
    }
    let last = bytes - BLOCK;
    let block = |index: u64| (u128::from(last) * u128::from(index) / u128::from(count - 1)) as u64;
    (0..count).map(|index| (block(index), BLOCK)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_in_the_tensor() {
        for bytes in [0, 1, SMALL, SMALL + 1, 1 << 20, 1 << 40] {
            for most in [FEW_BLOCKS, BLOCKS.1] {
                let blocks = blocks(bytes, false, most);
                assert!(blocks.iter().all(|(start, length)| start + length <= bytes));
                assert!(blocks.windows(2).all(|pair| pair[0].0 + BLOCK <= pair[1].0));
                if most > 1 {
                    assert_eq!(blocks[0].0, 0);
                    assert_eq!(
                        blocks.last().map(|(start, length)| start + length),
                        Some(bytes)
                    );
                }
            }
        }
        assert_eq!(blocks(1 << 40, false, BLOCKS.1).len() as u64, BLOCKS.1);
    }
}
