//! Sequences as a tree of what they begin with: every node once, however many sequences pass it.
//!
//! A sequence that goes on from where others are appends a *branch*, consecutive rows that end where
//! the sequence ends. Rows keep the order of insertion until [`PrefixTree::depth_first`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The shortest beginning that is shared: what all records of a dataset have in common anyway (a first
/// token, a word of a template) is not worth the trouble.
pub(crate) const LEAST: usize = 8;

/// What makes a token the same one as another in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Its id.
    pub token: u32,
    /// Its type.
    pub kind: u32,
    /// Of a token that a picture stands for, a number of the pictures of its record; else 0.
    pub pictures: u32,
}

/// Nodes of sequences.
#[derive(Default)]
pub(crate) struct PrefixTree {
    nodes: Vec<Node>,
    branches: Vec<TreeBranch>,
    /// Branches of whole sequences, by their first nodes.
    roots: HashMap<[Node; LEAST], usize>,
    /// Other branches, by the row that they go on from and their first node.
    children: HashMap<(usize, Node), usize>,
}

/// Consecutive rows, each the successor of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeBranch {
    /// The first row; the last is in front of the next branch.
    pub start: usize,
    /// The row that the first one follows, where it is not the first of its sequence.
    pub parent: Option<usize>,
}

/// Where a sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// Leading nodes that were there already.
    pub shared: usize,
    /// Row of the last node; `None` for a sequence of none.
    pub last: Option<usize>,
}

impl PrefixTree {
    /// Number of nodes.
    pub fn rows(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a sequence, of which at most `limit` nodes may be shared.
    pub fn insert(&mut self, sequence: &[Node], limit: usize) -> Inserted {
        let (shared, row) = self.find(&sequence[..limit.min(sequence.len())]);
        let rest = &sequence[shared..];
        let Some(first) = rest.first() else {
            return Inserted { shared, last: row };
        };
        let (start, parent) = (self.nodes.len(), row);
        let index = self.branches.len();
        match (parent, rest.first_chunk()) {
            (Some(row), _) => {
                self.children.entry((row, *first)).or_insert(index);
            }
            (None, Some(beginning)) if limit >= LEAST => {
                self.roots.entry(*beginning).or_insert(index);
            }
            _ => {}
        }
        self.branches.push(TreeBranch { start, parent });
        self.nodes.extend(rest);
        let last = Some(self.nodes.len() - 1);
        Inserted { shared, last }
    }

    /// How many of these nodes are in the tree, in their order from the first on, and the row of the
    /// last of them.
    fn find(&self, sequence: &[Node]) -> (usize, Option<usize>) {
        let beginning = sequence.first_chunk();
        let Some(&branch) = beginning.and_then(|beginning| self.roots.get(beginning)) else {
            return (0, None);
        };
        let rows = |branch| rows_of(&self.branches, self.nodes.len(), branch);
        let mut row = rows(branch).start + LEAST - 1;
        let mut end = rows(branch).end;
        for (depth, node) in sequence.iter().enumerate().skip(LEAST) {
            if row + 1 < end && self.nodes[row + 1] == *node {
                row += 1;
                continue;
            }
            let Some(&branch) = self.children.get(&(row, *node)) else {
                return (depth, Some(row));
            };
            row = rows(branch).start;
            end = rows(branch).end;
        }
        (sequence.len(), Some(row))
    }

    /// The nodes and branches in an order in which the successors of every row are consecutive (rows
    /// first, then what branches off, the latest first), and the new number of every old row.
    pub fn depth_first(self) -> (Vec<Node>, Vec<TreeBranch>, RowMap) {
        let Self {
            nodes, branches, ..
        } = self;
        let order = order(&branches);
        if order.is_sorted() {
            return (nodes, branches, RowMap::default());
        }
        let mut starts = vec![0; branches.len()];
        let mut ordered = Vec::with_capacity(nodes.len());
        for &branch in &order {
            starts[branch] = ordered.len();
            ordered.extend_from_slice(&nodes[rows_of(&branches, nodes.len(), branch)]);
        }
        let map = RowMap {
            order: order.clone(),
            old: branches.iter().map(|branch| branch.start).collect(),
            new: starts,
        };
        let moved = |&branch: &usize| TreeBranch {
            start: map.new[branch],
            parent: branches[branch].parent.map(|row| map.row(row)),
        };
        let branches = order.iter().map(moved).collect();
        (ordered, branches, map)
    }
}

/// Branches in depth-first order.
fn order(branches: &[TreeBranch]) -> Vec<usize> {
    // By the branch they go on from; the ones from later rows first, else as they came.
    let mut children: Vec<(usize, std::cmp::Reverse<usize>, usize)> = Vec::new();
    let mut stack = Vec::new();
    for (index, branch) in branches.iter().enumerate() {
        match branch.parent {
            Some(row) => {
                children.push((branch_of(branches, row), std::cmp::Reverse(row), index));
            }
            None => stack.push(index),
        }
    }
    children.sort_unstable();
    stack.reverse();
    let mut order = Vec::with_capacity(branches.len());
    while let Some(branch) = stack.pop() {
        order.push(branch);
        let first = children.partition_point(|child| child.0 < branch);
        let end = children.partition_point(|child| child.0 <= branch);
        stack.extend(children[first..end].iter().rev().map(|child| child.2));
    }
    order
}

/// The branch that a row belongs to.
pub(crate) fn branch_of(branches: &[TreeBranch], row: usize) -> usize {
    branches.partition_point(|branch| branch.start <= row) - 1
}

/// The rows that branches go on from, in order, each with the last of those branches.
pub(crate) fn forks(branches: &[TreeBranch]) -> Vec<(usize, usize)> {
    let parents = branches.iter().enumerate();
    let parents = parents.filter_map(|(index, branch)| Some((branch.parent?, index)));
    parents.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// The rows of a branch among `rows` in all.
pub(crate) fn rows_of(branches: &[TreeBranch], rows: usize, branch: usize) -> Range<usize> {
    let end = branches.get(branch + 1).map_or(rows, |next| next.start);
    branches[branch].start..end
}

/// The rows from the beginning of its sequence to `last`, in order.
pub(crate) fn path(branches: &[TreeBranch], last: Option<usize>) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut next = last;
    while let Some(row) = next {
        let branch = branches[branch_of(branches, row)];
        runs.push(branch.start..row + 1);
        next = branch.parent;
    }
    runs.reverse();
    runs
}

/// Where rows went.
#[derive(Default)]
pub(crate) struct RowMap {
    /// Branches in their new order, by their old numbers; none: nothing moved.
    order: Vec<usize>,
    /// First rows of the branches before; none: nothing moved.
    old: Vec<usize>,
    /// And where they are.
    new: Vec<usize>,
}

impl RowMap {
    /// Values of all rows, so many of each, in the new order.
    pub fn moved<T: Copy + Default>(&self, values: Vec<T>, width: usize) -> Vec<T> {
        if self.old.is_empty() {
            return values;
        }
        let mut moved = vec![T::default(); values.len()];
        let starts = self.old.iter().map(|start| start * width);
        let ends = starts.clone().skip(1).chain([values.len()]);
        for ((old, end), new) in starts.zip(ends).zip(&self.new) {
            let new = new * width;
            moved[new..new + end - old].copy_from_slice(&values[old..end]);
        }
        moved
    }

    /// Values of all branches in the new order.
    pub fn branches<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.order.is_empty() {
            return values;
        }
        self.order.iter().map(|&branch| values[branch]).collect()
    }

    /// The new number of a row.
    pub fn row(&self, row: usize) -> usize {
        match self.old.partition_point(|&start| start <= row) {
            0 => row,
            after => self.new[after - 1] + row - self.old[after - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Behind a beginning that all have.
    fn nodes(tokens: &[u32]) -> Vec<Node> {
        let beginning = [0; LEAST - 1].iter();
        let node = |&token: &u32| Node {
            token,
            ..Node::default()
        };
        beginning.chain(tokens).map(node).collect()
    }

    #[test]
    fn rows_go_depth_first() {
        let mut tree = PrefixTree::default();
        let sequences = [
            &[1, 2, 3, 4][..],
            &[9, 9],
            &[1, 2, 5],
            &[1, 2, 3, 6],
            &[9],
            &[],
            &[1, 2, 5, 7],
        ];
        let inserted: Vec<_> = sequences
            .iter()
            .map(|tokens| tree.insert(&nodes(tokens), usize::MAX))
            .collect();
        let shared: Vec<usize> = inserted.iter().map(|one| one.shared).collect();
        let behind = |tokens: usize| LEAST - 1 + tokens;
        assert_eq!(
            shared,
            [0, 0, behind(2), behind(3), behind(1), 0, behind(3)]
        );
        let (ordered, branches, map) = tree.depth_first();
        let tokens = ordered.iter().map(|node| node.token);
        let tokens: Vec<u32> = tokens.filter(|&token| token > 0).collect();
        assert_eq!(tokens, [1, 2, 3, 4, 6, 5, 7, 9, 9]);
        for (inserted, tokens) in inserted.iter().zip(sequences) {
            let runs = path(&branches, inserted.last.map(|row| map.row(row)));
            let found: Vec<Node> = runs.into_iter().flatten().map(|row| ordered[row]).collect();
            assert_eq!(found, nodes(tokens));
        }
    }

    #[test]
    fn types_and_the_limit_divide() {
        let mut tree = PrefixTree::default();
        let plain = nodes(&[1, 2]);
        let mut typed = plain.clone();
        typed[3].kind = 1;
        tree.insert(&plain, LEAST);
        assert_eq!(tree.insert(&typed, LEAST).shared, 0);
        assert_eq!(tree.insert(&plain, LEAST).shared, LEAST);
        assert_eq!(tree.insert(&plain, LEAST - 1).shared, 0);
        assert_eq!(tree.insert(&plain[..LEAST - 1], LEAST).shared, 0);
    }

    proptest! {
        #[test]
        fn every_sequence_is_found_again(
            sequences in proptest::collection::vec(
                proptest::collection::vec(0_u32..3, 0..8), 0..40,
            ),
            limit in 0_usize..LEAST + 8,
        ) {
            let mut tree = PrefixTree::default();
            let inserted: Vec<_> = sequences
                .iter()
                .map(|tokens| tree.insert(&nodes(tokens), limit))
                .collect();
            let rows: usize = sequences.iter().map(|tokens| nodes(tokens).len()).sum();
            let shared: usize = inserted.iter().map(|one| one.shared).sum();
            prop_assert_eq!(tree.rows(), rows - shared);
            let (ordered, branches, map) = tree.depth_first();
            for (inserted, tokens) in inserted.iter().zip(&sequences) {
                let runs = path(&branches, inserted.last.map(|row| map.row(row)));
                let rows: Vec<usize> = runs.into_iter().flatten().collect();
                let found: Vec<Node> = rows.iter().map(|&row| ordered[row]).collect();
                prop_assert_eq!(found, nodes(tokens));
                prop_assert!(rows.is_sorted());
            }
            // What goes on from a row follows it without anything else between.
            for (index, branch) in branches.iter().enumerate() {
                if let Some(parent) = branch.parent {
                    for between in parent + 1..branch.start {
                        let runs = path(&branches, Some(between));
                        prop_assert!(
                            runs.iter().any(|run| run.contains(&parent)),
                            "branch {} row {}", index, between
                        );
                    }
                }
            }
        }
    }
}
