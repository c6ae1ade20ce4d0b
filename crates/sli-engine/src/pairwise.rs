//! Sums over records whose bits do not depend on who added up which records.
//!
//! Records are the leaves of the binary tree over the rows of the input: the block of level k that holds row r
//! is the rows with the same r >> k. A block's sum is that of its lower half, then its upper half; a half without
//! records is left out. So the rows alone say what is added to what, and a process that has some rows in a stretch
//! makes the sums of all blocks that lie within it: at most two a level. Stretches one after the other, put together
//! by [`Pairwise::follow`], are what one process over all rows would have.

/// What can be added up: values of some rows and of later ones.
pub(crate) trait Sum: Clone + Default {
    /// The sum of these values and those of rows that come after them.
    fn and(&self, later: &Self) -> Self;
}

/// A block of the tree that is not part of a larger one yet.
#[derive(Clone, Debug, PartialEq)]
struct Block<T> {
    /// Its first and last row that have a record.
    first: u64,
    last: u64,
    sum: T,
}

/// The sums of a stretch of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pairwise<T> {
    /// In the order of rows.
    blocks: Vec<Block<T>>,
}

/// The level below which two rows are in different blocks.
fn level(a: u64, b: u64) -> u32 {
    u64::BITS - (a ^ b).leading_zeros()
}

impl<T: Sum> Pairwise<T> {
    /// The values of the record of `row`, to be added to: the last one, or one that comes after it.
    pub fn record(&mut self, row: u64) -> &mut T {
        let is_last = self.blocks.last().is_some_and(|block| block.last == row);
        if !is_last {
            self.push(Block {
                first: row,
                last: row,
                sum: T::default(),
            });
        }
        // There is one now.
        let last = self.blocks.len() - 1;
        &mut self.blocks[last].sum
    }

    /// Takes the sums of the stretch of rows that comes next.
    pub fn follow(&mut self, next: &Self) {
        next.blocks
            .iter()
            .for_each(|block| self.push(block.clone()));
    }

    /// The sum of everything.
    pub fn total(&self) -> T {
        let mut all = Self::default();
        for block in &self.blocks {
            all.add_up(block, |_| true);
            all.blocks.push(block.clone());
        }
        let last = all.blocks.pop().map(|block| block.sum);
        let sum = |later: T, block: Block<T>| block.sum.and(&later);
        let mut rest = all.blocks.into_iter().rev();
        last.map_or_else(T::default, |last| rest.by_ref().fold(last, sum))
    }

    /// A block that comes next: nothing more will come into those that it is not in. Of blocks that begin before
    /// the stretch does, another one may have the beginning.
    fn push(&mut self, next: Block<T>) {
        let begin = self.blocks.first().map_or(0, |block| block.first);
        self.add_up(&next, |start| start >= begin);
        self.blocks.push(next);
    }

    /// Adds up the last blocks that the `next` one is not in, where `whole` says of the first row of their common
    /// block that it is.
    fn add_up(&mut self, next: &Block<T>, whole: impl Fn(u64) -> bool) {
        while let [.., before, last] = &self.blocks[..] {
            let common = level(before.last, last.first);
            let start = last.first.checked_shr(common).unwrap_or(0);
            let start = start.checked_shl(common).unwrap_or(0);
            if common >= level(last.last, next.first) || !whole(start) {
                return;
            }
            let sum = Block {
                first: before.first,
                last: last.last,
                sum: before.sum.and(&last.sum),
            };
            self.blocks.truncate(self.blocks.len() - 2);
            self.blocks.push(sum);
        }
    }

    /// Its blocks: first row, last row, sum.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = (u64, u64, &T)> {
        self.blocks
            .iter()
            .map(|block| (block.first, block.last, &block.sum))
    }

    /// Of what [`Self::blocks`] gave.
    pub fn of_blocks(blocks: impl IntoIterator<Item = (u64, u64, T)>) -> Self {
        let block = |(first, last, sum)| Block { first, last, sum };
        Self {
            blocks: blocks.into_iter().map(block).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was added to what.
    impl Sum for String {
        fn and(&self, later: &Self) -> Self {
            match (self.is_empty(), later.is_empty()) {
                (_, true) => self.clone(),
                (true, _) => later.clone(),
                _ => format!("({self} {later})"),
            }
        }
    }

    fn of(rows: &[u64]) -> Pairwise<String> {
        let mut sums = Pairwise::default();
        for row in rows {
            *sums.record(*row) = row.to_string();
        }
        sums
    }

    /// The definition.
    fn tree(rows: &[u64]) -> String {
        let [first, .., last] = rows else {
            return rows.first().map_or_else(String::new, u64::to_string);
        };
        let halves = level(*first, *last) - 1;
        let split = rows.partition_point(|row| row >> halves == first >> halves);
        tree(&rows[..split]).and(&tree(&rows[split..]))
    }

    #[test]
    fn halves_come_together() {
        assert_eq!(of(&[]).total(), "");
        assert_eq!(of(&[7]).total(), "7");
        assert_eq!(of(&[0, 1, 2, 3, 4]).total(), "(((0 1) (2 3)) 4)");
        assert_eq!(of(&[3, 4, 5, 6]).total(), "(3 ((4 5) 6))");
        assert_eq!(of(&[0, u64::MAX]).total(), format!("(0 {})", u64::MAX));
    }

    #[test]
    fn a_stretch_has_two_sums_a_level_at_the_most() {
        for begin in [0, 1, 777, 1 << 20] {
            let rows: Vec<u64> = (begin..begin + 5000).collect();
            let blocks = of(&rows).blocks().len();
            assert!(blocks <= 2 * 13, "{blocks} of 5000 rows from {begin}");
        }
    }

    #[test]
    fn rows_that_do_not_ascend_are_added_up_somehow() {
        assert_eq!(
            of(&[5, 5, 2, 9]).total().matches(char::is_numeric).count(),
            3
        );
    }

    proptest! {
        #[test]
        fn stretches_one_after_the_other_are_the_whole(
            gaps in proptest::collection::vec(0..9_u64, 0..70),
            begin in prop_oneof![Just(0), 0..100_u64, Just(u64::from(u32::MAX) - 20)],
            cuts in proptest::collection::vec(any::<bool>(), 70),
        ) {
            let mut next = begin;
            let rows: Vec<u64> = gaps.iter().map(|gap| { next += gap + 1; next }).collect();
            let whole = of(&rows);
            prop_assert_eq!(whole.total(), tree(&rows));
            let mut together = Pairwise::default();
            let mut stretch = Vec::new();
            for (row, cut) in rows.iter().zip(cuts) {
                stretch.push(*row);
                if cut {
                    together.follow(&of(&std::mem::take(&mut stretch)));
                }
            }
            together.follow(&of(&stretch));
            prop_assert_eq!(&together, &whole);
            prop_assert_eq!(together.total(), whole.total());
        }
    }
}
