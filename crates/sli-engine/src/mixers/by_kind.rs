//! Weights of their own for the tokens of pictures: rows of either kind run together.

use sli_kernels::{Mat, MatRef};
use sli_spec::{ByKind, Linear, TokenKind};

use super::buffers::{Buffer, Buffers};
use super::{At, Mix, feed_forward};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Residency, Rows};

/// The rows of a chunk whose tokens are not of a kind, and those whose tokens are.
pub(super) struct Kinds([Vec<u32>; 2]);

impl Kinds {
    pub fn of(kind: TokenKind, rows: Rows<'_>) -> Self {
        let chunk = rows.chunk.rows.clone();
        let numbered = (0_u32..).zip(chunk);
        let (own, others): (Vec<_>, Vec<_>) =
            numbered.partition(|&(_, row)| rows.batch.is_of(kind, row));
        let number = |rows: Vec<(u32, usize)>| rows.into_iter().map(|(row, _)| row).collect();
        Self([number(others), number(own)])
    }
}

/// `out = x W^T + b` with the first weight for rows of no kind and the second for the others; `gathered` and `made` are
/// buffers.
pub(super) fn linear(
    layer: &BoundLayer<'_>,
    (x, kinds): (MatRef<'_>, &Kinds),
    maps: [&Linear; 2],
    out: &mut Mat,
    [gathered, made]: [&mut Mat; 2],
) -> Result<(), EngineError> {
    for (map, rows) in maps.into_iter().zip(&kinds.0) {
        if rows.len() == x.rows() {
            return layer.linear(x, map, out.view_mut());
        }
        if rows.is_empty() {
            continue;
        }
        gathered.reset(rows.len(), x.cols());
        layer.kernels.gather_rows(x, rows, gathered.view_mut());
        made.reset(rows.len(), map.out_features);
        let layer = layer.of_these(rows);
        layer.linear(gathered.view(), map, made.view_mut())?;
        scatter(made, rows, out);
    }
    Ok(())
}

fn scatter(from: &Mat, rows: &[u32], to: &mut Mat) {
    for (number, &row) in rows.iter().enumerate() {
        to.row_mut(row as usize).copy_from_slice(from.row(number));
    }
}

impl Mix for ByKind {
    fn buffers(&self, hidden: usize) -> Buffers {
        let networks = self.networks.iter();
        let own = networks.map(|network| network.buffers(hidden));
        let own = own.fold(Buffers::default(), Buffers::or);
        own.block(Buffer::Query, hidden)
            .block(Buffer::Heads, hidden)
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        let (layer, scratch) = (at.layer, &mut *at.scratch);
        let Kinds(kinds) = Kinds::of(self.kind, at.rows);
        output.reset(x.rows(), self.networks[0].down.out_features);
        // Weights that pass by are read again for every block.
        let block = match layer.residency {
            Residency::Resident => feed_forward::BLOCK_ROWS,
            Residency::Tiled(_) => x.rows().max(1),
        };
        for (network, rows) in self.networks.iter().zip(&kinds) {
            if rows.len() == x.rows() {
                return feed_forward::run(layer, network, |_| {}, x, output, scratch);
            }
            let mut gathered = std::mem::take(&mut scratch.query);
            let mut made = std::mem::take(&mut scratch.heads);
            for rows in rows.chunks(block) {
                gathered.reset(rows.len(), x.cols());
                layer.kernels.gather_rows(x, rows, gathered.view_mut());
                let layer = layer.of_these(rows);
                feed_forward::run(&layer, network, |_| {}, gathered.view(), &mut made, scratch)?;
                scatter(&made, rows, output);
            }
            (scratch.query, scratch.heads) = (gathered, made);
        }
        Ok(())
    }
}
