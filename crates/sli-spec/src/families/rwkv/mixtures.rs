//! Mixtures of a row and the one before it by the rows themselves (RWKV 6).

use crate::build::Leaves;
use crate::{RowMixtures, Shard, Source, Split};

/// Features between the small projections of mixtures by rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRanks {
    pub mixtures: usize,
    pub decay: usize,
}

/// Mixtures by rows. In the file the parts are in the order decay, key, value, receptance, gate.
pub(super) fn row_mixtures(
    leaves: &mut Leaves,
    [hidden, channels]: [usize; 2],
    RowRanks {
        mixtures: rank,
        decay: decay_rank,
    }: RowRanks,
) -> RowMixtures {
    const ORDER: [(&str, usize); 5] = [("r", 3), ("k", 1), ("v", 2), ("g", 4), ("w", 0)];
    let tensor = |leaves: &Leaves, part: &str| leaves.tensor(&format!("attention.{part}"));
    let mix = leaves.flat("attention.time_maa_x", hidden);
    let down = tensor(leaves, "time_maa_w1").transpose();
    // The projections behind are in the order of `ORDER`, and so are the rows of this one.
    let parts = ORDER.map(|(_, part)| down.clone().part(Split::Rows(vec![rank; 5]), part));
    let down = Source::ConcatRows(parts.to_vec());
    let down = leaves.linear_of(down, None, [5 * rank, hidden], Shard::Replicate);
    let up = ORDER.map(|(_, index)| {
        let of = Box::new(tensor(leaves, "time_maa_w2"));
        let source = Source::Index { of, index }.transpose();
        leaves.linear_of(source, None, [hidden, rank], Shard::Replicate)
    });
    let shares = ORDER.map(|(name, _)| leaves.flat(&format!("attention.time_maa_{name}"), hidden));
    let decay = [
        ("time_decay_w1", [decay_rank, hidden]),
        ("time_decay_w2", [channels, decay_rank]),
    ];
    let decay = decay.map(|(name, shape)| {
        let source = tensor(leaves, name).transpose();
        leaves.linear_of(source, None, shape, Shard::Replicate)
    });
    RowMixtures {
        mix,
        down,
        up,
        shares,
        decay,
    }
}
