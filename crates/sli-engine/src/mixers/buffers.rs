//! The scratch buffers of a mechanism: which it uses and how wide they are, for the planner to count.

/// A buffer of [`crate::exec::Scratch`] that mechanisms share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffer {
    Query,
    Key,
    Value,
    Heads,
    Gate,
    Up,
    Inner,
}

/// Columns of a scratch buffer. What a buffer holds is the largest of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// For all rows that run together.
    pub rows: usize,
    /// For one block of rows ([`super::feed_forward::BLOCK_ROWS`]).
    pub block: usize,
    /// For the rows of a block that choose the same expert.
    pub expert: usize,
    /// Elements however many rows there are.
    pub fixed: usize,
}

impl Columns {
    /// For all rows that run together.
    pub fn of_rows(columns: usize) -> Self {
        Self {
            rows: columns,
            ..Self::default()
        }
    }
}

/// The buffers of one mechanism.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers([Columns; Self::COUNT]);

impl Buffers {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// So many columns for all rows that run together.
    #[must_use]
    pub fn rows(mut self, buffer: Buffer, columns: usize) -> Self {
        let own = &mut self.0[buffer as usize].rows;
        *own = columns.max(*own);
        self
    }

    /// For a block of rows.
    #[must_use]
    pub fn block(mut self, buffer: Buffer, columns: usize) -> Self {
        let own = &mut self.0[buffer as usize].block;
        *own = columns.max(*own);
        self
    }

    /// For the rows of a block that choose the same expert.
    #[must_use]
    pub fn expert(mut self, buffer: Buffer, columns: usize) -> Self {
        let own = &mut self.0[buffer as usize].expert;
        *own = columns.max(*own);
        self
    }

    /// So many elements, whatever the rows.
    #[must_use]
    pub fn fixed(mut self, buffer: Buffer, elements: usize) -> Self {
        let own = &mut self.0[buffer as usize].fixed;
        *own = elements.max(*own);
        self
    }

    /// What either needs: mechanisms that run one after the other.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            own.rows = own.rows.max(other.rows);
            own.block = own.block.max(other.block);
            own.expert = own.expert.max(other.expert);
            own.fixed = own.fixed.max(other.fixed);
        }
        self
    }

    /// The columns of every buffer.
    pub fn columns(&self) -> [Columns; Self::COUNT] {
        self.0
    }
}
