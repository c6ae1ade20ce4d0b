//! The blocks of GGUF: 32 to 256 numbers of a row with what scales them.
//!
//! Each type says how one block becomes numbers, in the order of operations of ggml's own reference: scales widened to
//! f32, products and sums in f32. Which type a tensor has is written in the file.

mod block;
mod fp4;
mod lattice;
mod legacy;
mod super_block;
mod ternary;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use block::Block;

use sli_kernels::Vectors;

use super::code::{Areas, Code, Coded, Decode, Fault, Part, Wanted, groups};
use crate::dtype::Dtype;
use crate::tensors::TensorInfo;

/// Most numbers of a block.
const LONGEST: usize = 256;

/// The code of a type of blocks.
struct Blocks<B>(PhantomData<B>);

impl<B: Block> fmt::Debug for Blocks<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(B::NAME)
    }
}

impl<B: Block> Areas for Blocks<B> {
    fn block(&self) -> [usize; 2] {
        [1, B::NUMBERS]
    }

    fn area(&self, _part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        [rows.clone(), groups(columns, B::NUMBERS)]
    }
}

impl<B: Block> Decode for Blocks<B> {
    #[inline(always)]
    fn decode<V: Vectors>(&self, vectors: V, wanted: Wanted<'_>) -> Result<(), Fault> {
        let Wanted {
            rows,
            columns,
            parts,
            out,
        } = wanted;
        let &[codes] = parts else { return Ok(()) };
        let skipped = columns.start % B::NUMBERS;
        let lines = out.chunks_exact_mut(columns.len().max(1));
        for (row, line) in lines.take(rows.len()).enumerate() {
            let mut blocks = codes.row(row).chunks_exact(B::BYTES);
            let mut rest = line;
            if skipped > 0 {
                rest = part_of_block::<B, V>(vectors, blocks.next(), skipped, rest);
            }
            let mut whole = rest.chunks_exact_mut(B::NUMBERS);
            for (out, block) in whole.by_ref().zip(blocks.by_ref()) {
                B::decode(vectors, block, out);
            }
            let rest = whole.into_remainder();
            if !rest.is_empty() {
                part_of_block::<B, V>(vectors, blocks.next(), 0, rest);
            }
        }
        Ok(())
    }
}

/// Decodes numbers of a block from one on, as many as there is room for; what room is left.
#[inline(always)]
fn part_of_block<'o, B: Block, V: Vectors>(
    vectors: V,
    block: Option<&[u8]>,
    first: usize,
    out: &'o mut [f32],
) -> &'o mut [f32] {
    let mut numbers = [0.0; LONGEST];
    let numbers = &mut numbers[..B::NUMBERS];
    if let Some(block) = block {
        B::decode(vectors, block, numbers);
    }
    let count = (B::NUMBERS - first).min(out.len());
    let (some, rest) = out.split_at_mut(count);
    some.copy_from_slice(&numbers[first..first + count]);
    rest
}

fn blocks<B: Block>() -> Arc<dyn Code> {
    Arc::new(Blocks::<B>(PhantomData))
}

/// How a tensor of blocks is coded; `None`: it is of another type.
pub(super) fn coded(at: u32, tensor: &TensorInfo) -> Option<Coded> {
    let code = match tensor.dtype {
        Dtype::Q4_0 => blocks::<legacy::Q4_0>(),
        Dtype::Q4_1 => blocks::<legacy::Q4_1>(),
        Dtype::Q5_0 => blocks::<legacy::Q5_0>(),
        Dtype::Q5_1 => blocks::<legacy::Q5_1>(),
        Dtype::Q8_0 => blocks::<legacy::Q8_0>(),
        Dtype::Q2K => blocks::<super_block::Q2K>(),
        Dtype::Q3K => blocks::<super_block::Q3K>(),
        Dtype::Q4K => blocks::<super_block::Q4K>(),
        Dtype::Q5K => blocks::<super_block::Q5K>(),
        Dtype::Q6K => blocks::<super_block::Q6K>(),
        Dtype::Iq2Xxs => blocks::<lattice::Iq2Xxs>(),
        Dtype::Iq2Xs => blocks::<lattice::Iq2Xs>(),
        Dtype::Iq2S => blocks::<lattice::Iq2S>(),
        Dtype::Iq3Xxs => blocks::<lattice::Iq3Xxs>(),
        Dtype::Iq3S => blocks::<lattice::Iq3S>(),
        Dtype::Iq1S => blocks::<lattice::Iq1S>(),
        Dtype::Iq1M => blocks::<lattice::Iq1M>(),
        Dtype::Iq4Nl => blocks::<legacy::Iq4Nl>(),
        Dtype::Iq4Xs => blocks::<super_block::Iq4Xs>(),
        Dtype::Tq1_0 => blocks::<ternary::Tq1>(),
        Dtype::Tq2_0 => blocks::<ternary::Tq2>(),
        Dtype::Mxfp4 => blocks::<fp4::Mxfp4>(),
        Dtype::Nvfp4 => blocks::<fp4::Nvfp4>(),
        _ => return None,
    };
    let [piece, bytes] = tensor.dtype.piece();
    let [rows, columns] = match tensor.shape[..] {
        [.., rows, columns] => [rows, columns],
        [columns] => [1, columns],
        [] => [1, 1],
    };
    let part = Part {
        tensor: at,
        sides: [rows, columns / piece],
        element: bytes,
    };
    Some(Coded::new(tensor.shape.clone(), [part], code))
}

#[cfg(test)]
mod tests {
    use super::super::code::assert_alike;
    use super::*;

    fn alike<B: Block>() {
        assert_alike(&*blocks::<B>(), [3, 2 * B::NUMBERS], &[B::BYTES]);
    }

    #[test]
    fn blocks_are_the_same_numbers_on_every_instruction_set() {
        alike::<legacy::Q4_0>();
        alike::<legacy::Q4_1>();
        alike::<legacy::Q5_0>();
        alike::<legacy::Q5_1>();
        alike::<legacy::Q8_0>();
        alike::<legacy::Iq4Nl>();
        alike::<super_block::Q2K>();
        alike::<super_block::Q3K>();
        alike::<super_block::Q4K>();
        alike::<super_block::Q5K>();
        alike::<super_block::Q6K>();
        alike::<super_block::Iq4Xs>();
        alike::<lattice::Iq2Xxs>();
        alike::<lattice::Iq2Xs>();
        alike::<lattice::Iq2S>();
        alike::<lattice::Iq3Xxs>();
        alike::<lattice::Iq3S>();
        alike::<lattice::Iq1S>();
        alike::<lattice::Iq1M>();
        alike::<ternary::Tq1>();
        alike::<ternary::Tq2>();
        alike::<fp4::Mxfp4>();
        alike::<fp4::Nvfp4>();
    }
}
