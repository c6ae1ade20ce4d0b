//! Rows that enter a matrix.

/// What rows that enter a matrix are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'r> {
    /// The next ones of the chunk that runs, which all enter the matrix once.
    Next,
    /// Those of the chunk.
    These(&'r [u32]),
    /// None of the chunk's, but the same ones whichever chunk its records are in.
    Others,
}

/// Rows that enter a matrix, by the tokens that they are of.
pub(crate) struct Entered<'r> {
    /// Of every row of the chunk.
    pub tokens: &'r [Token],
    /// Of the rows of the chunk the first one, where they are the next ones.
    pub first: usize,
    /// Which of them they are.
    pub which: Which<'r>,
}

/// Number of a record, and position in it.
pub(crate) type Token = (usize, usize);

impl Entered<'_> {
    /// The token of a row; `None`: it is no token's.
    pub fn of(&self, row: usize) -> Option<Token> {
        match self.which {
            Which::Next => self.tokens.get(self.first + row).copied(),
            Which::These(rows) => self.tokens.get(*rows.get(row)? as usize).copied(),
            Which::Others => None,
        }
    }

    /// The tokens of the first and of the last row of the chunk.
    pub fn ends(&self) -> [Option<Token>; 2] {
        [self.tokens.first(), self.tokens.last()].map(Option::<&Token>::copied)
    }

    /// The records of the chunk.
    pub fn records(&self) -> Vec<usize> {
        let mut records: Vec<usize> = self.tokens.iter().map(|token| token.0).collect();
        records.dedup();
        records
    }
}
