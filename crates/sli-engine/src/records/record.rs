//! One input of the dataset.

use crate::prefix::Node;

/// One input of the dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Unique within the dataset; the name of the record's results.
    pub id: String,
    /// Its row in the input, from 0, counting those that are left out.
    pub row: u64,
    /// Token ids, special tokens included; may be empty.
    pub tokens: Vec<u32>,
    /// Token type (segment) ids, as many as tokens; `None` means the model's default.
    pub token_types: Option<Vec<u32>>,
    /// What every token's row is to predict, as many as tokens; `None`: the token that follows.
    pub labels: Option<Vec<u32>>,
    /// What its tokens have beside them, as many numbers a token as the model reads; `None`: what stands for none.
    pub inputs: Option<Vec<u32>>,
    /// The numbers of which the rows are made where they are of no tokens: then all of these are 0. Only written;
    /// [`RecordSpool::features`](super::RecordSpool::features) reads them.
    pub features: Option<Vec<f32>>,
    /// Of pictures: the tokens of what is asked of each view, where the model reads such. Kept with the rows that they become.
    pub asked: Vec<Vec<u32>>,
}

/// No label of a row.
pub(crate) const NO_LABEL: u32 = u32::MAX;

impl Record {
    /// Its tokens with their types.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let kinds = self.token_types.iter().flatten().copied();
        let kinds = kinds.chain(std::iter::repeat(0));
        let node = |(&token, kind)| Node {
            token,
            kind,
            pictures: 0,
        };
        self.tokens.iter().zip(kinds).map(node).collect()
    }
}
