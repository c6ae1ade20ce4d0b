//! Where a logical weight comes from: a lazy expression over the tensors of a checkpoint.

use serde::Serialize;

/// One logical weight as an expression over checkpoint tensors. Evaluating it yields byte ranges,
/// never a copy of more than is asked for, so an expert that no token chose is never read.
///
/// Splits, transposes and permutations act on the last two axes (`[out, in]`), or on the only axis
/// of a vector; leading axes (experts) are carried along.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Source {
    /// The tensor of this name.
    Tensor(String),
    /// Alternative spellings of the same weight; exactly one must be in the checkpoint.
    OneOf(Vec<Source>),
    /// A tied weight of which every use may have a copy: its own where that is in the checkpoint, else the first of all uses
    /// that is.
    Tied {
        /// The copy of this use.
        own: Box<Source>,
        /// Those of all uses.
        all: Vec<Source>,
    },
    /// One part of a fused tensor, split along the rows (the `out` axis).
    Part {
        /// The fused tensor.
        of: Box<Source>,
        /// How its rows are divided.
        split: Split,
        /// Which part.
        part: usize,
    },
    /// Stored as `[in, out]` (GPT-2's `Conv1D`, some stacked experts).
    Transpose(Box<Source>),
    /// `{}` in every name is replaced by `0..count`; the results are stacked on a new first axis.
    Each {
        /// The expression with `{}` in its names.
        of: Box<Source>,
        /// How many.
        count: usize,
    },
    /// One slice of a stacked tensor: removes the first axis.
    Index {
        /// The stacked tensor.
        of: Box<Source>,
        /// Which slice.
        index: usize,
    },
    /// Rows of one tensor after another (shards split along the first axis).
    ConcatRows(Vec<Source>),
    /// Columns of one tensor after another (shards split along the second axis).
    ConcatColumns(Vec<Source>),
    /// The same function of every number.
    Elementwise {
        /// The numbers that are stored.
        of: Box<Source>,
        /// What is made of each.
        by: Elementwise,
    },
    /// Rows of every head reordered from interleaved pairs (Meta's files) to halves (rotate-half).
    RopePermute {
        /// The projection `[heads * head_dim, in]`.
        of: Box<Source>,
        /// Rows of one head.
        head_dim: usize,
    },
    /// The same bytes seen with another shape of equal size (`[1, 1, n]` stored for `[n]`).
    Reshape(Box<Source>),
    /// Blocks on a diagonal, zeros around them: of the rows, in as many equal groups, each meets columns of its own
    /// (convolutions of groups with a kernel of 1, `[rows, columns / groups]`). Matrices only.
    BlockDiagonal {
        /// The blocks, one below the other.
        of: Box<Source>,
        /// How many.
        groups: usize,
    },
}

/// A function of one number, computed in f32 when numbers are read. It is for what is read whole as f32 (norms, decays),
/// not for matrices of products, whose bytes are used as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Elementwise {
    /// `1 + x`: the factors of Gemma's norms, which are stored less one.
    PlusOne,
    /// `x - 1`: factors that are stored with their one where the model adds it.
    MinusOne,
    /// `ln(-x)`: the logarithm of a decay that is stored as `-exp(x)` (llama.cpp's files).
    LogOfNegated,
    /// `ln(x)`: the same of one that is stored as `exp(x)`.
    Log,
    /// `tanh(x)`: the factor of a gate.
    Tanh,
    /// `1 - tanh(x)`: what such a gate leaves of the rest.
    OneMinusTanh,
}

impl Elementwise {
    /// The function's value.
    #[must_use]
    pub fn of(self, stored: f32) -> f32 {
        match self {
            Self::PlusOne => stored + 1.0,
            Self::MinusOne => stored - 1.0,
            Self::LogOfNegated => (-stored).ln(),
            Self::Log => stored.ln(),
            Self::Tanh => stored.tanh(),
            Self::OneMinusTanh => 1.0 - stored.tanh(),
        }
    }
}

/// How the rows of a fused tensor are divided among the logical weights it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Split {
    /// One part after another: `[q; k; v]`. The sizes are in rows.
    Rows(Vec<usize>),
    /// `[head][part][dim]` (GPT-NeoX, Bloom: q, k, v within every head).
    PerHead {
        /// Number of heads.
        heads: usize,
        /// Parts in every head.
        parts: usize,
    },
    /// `[group][q.., k, v][dim]` (Falcon-40B, InternLM2). Part 0 is q, 1 is k, 2 is v.
    Grouped {
        /// Number of groups (key/value heads).
        groups: usize,
        /// Query heads in every group.
        queries: usize,
    },
    /// `[group][part]`, where the parts of a group have these numbers of rows (Qwen3-Next).
    Groups {
        /// Number of groups.
        groups: usize,
        /// Rows of the parts of a group.
        rows: Vec<usize>,
    },
    /// Row `part`, `part + parts`, ... (gpt-oss gate/up).
    Strided {
        /// Number of interleaved parts.
        parts: usize,
    },
}

/// How a weight divides among several workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Shard {
    /// Along the output features.
    Column,
    /// Along the input features.
    Row,
    /// Along the experts.
    Expert,
    /// Every worker holds it.
    Replicate,
}

/// One logical weight of a layer: where it is and what shape it must have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leaf {
    /// The expression over checkpoint tensors.
    pub source: Source,
    /// Logical shape: `[n]`, `[out, in]` or `[experts, out, in]`.
    pub shape: Vec<usize>,
    /// How it divides.
    pub shard: Shard,
    /// The name of a part of the model that a checkpoint may lack as a whole (`pooler`, `lm_head`).
    /// All leaves of one optional part are present or none is.
    pub optional: Option<&'static str>,
    /// Stored, but no parameter of the model.
    pub constant: bool,
}

impl Leaf {
    /// A parameter that the model always has and that is not divided.
    pub fn new(source: Source, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            source,
            shape: shape.into(),
            shard: Shard::Replicate,
            optional: None,
            constant: false,
        }
    }

    /// Number of elements; a configuration may ask for more than fit a `u64`.
    pub fn elements(&self) -> u64 {
        self.shape
            .iter()
            .fold(1, |product: u64, &n| product.saturating_mul(n as u64))
    }
}

/// Index into the leaves of the embedding, layer or head that the weight belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct WeightIndex(pub u32);

impl Source {
    /// The tensor of this name.
    pub fn tensor(name: impl Into<String>) -> Self {
        Self::Tensor(name.into())
    }

    /// Part `part` of this fused tensor.
    #[must_use]
    pub fn part(self, split: Split, part: usize) -> Self {
        Self::Part {
            of: Box::new(self),
            split,
            part,
        }
    }

    /// This tensor, stored transposed.
    #[must_use]
    pub fn transpose(self) -> Self {
        Self::Transpose(Box::new(self))
    }

    /// The tensor of one of these names, each of which counts once.
    #[must_use]
    pub fn named(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.dedup();
        Self::one_of(names.into_iter().map(Self::Tensor).collect())
    }

    /// One of several spellings.
    #[must_use]
    pub fn one_of(mut spellings: Vec<Self>) -> Self {
        match spellings.pop() {
            Some(only) if spellings.is_empty() => only,
            last => {
                spellings.extend(last);
                Self::OneOf(spellings)
            }
        }
    }

    /// These blocks, one below the other, on a diagonal.
    #[must_use]
    pub fn block_diagonal(self, groups: usize) -> Self {
        if groups == 1 {
            return self;
        }
        Self::BlockDiagonal {
            of: Box::new(self),
            groups,
        }
    }

    /// `1 +` this vector.
    #[must_use]
    pub fn plus_one(self) -> Self {
        self.by(Elementwise::PlusOne)
    }

    /// A function of every number of this.
    #[must_use]
    pub fn by(self, by: Elementwise) -> Self {
        Self::Elementwise {
            of: Box::new(self),
            by,
        }
    }

    /// The same expression over tensors of other names.
    #[must_use]
    pub fn renamed(&self, name: &dyn Fn(&str) -> String) -> Self {
        self.respelled(&|own| Self::Tensor(name(own)))
    }

    /// The same expression over what stands for each of its tensors.
    #[must_use]
    pub fn respelled(&self, name: &dyn Fn(&str) -> Self) -> Self {
        let one = |of: &Self| Box::new(of.respelled(name));
        let all = |all: &[Self]| all.iter().map(|of| of.respelled(name)).collect();
        match self {
            Self::Tensor(own) => name(own),
            Self::OneOf(of) => Self::OneOf(all(of)),
            Self::Tied { own, all: of } => Self::Tied {
                own: one(own),
                all: all(of),
            },
            Self::ConcatRows(of) => Self::ConcatRows(all(of)),
            Self::ConcatColumns(of) => Self::ConcatColumns(all(of)),
            Self::Part { of, split, part } => Self::Part {
                of: one(of),
                split: split.clone(),
                part: *part,
            },
            Self::Transpose(of) => Self::Transpose(one(of)),
            Self::Each { of, count } => Self::Each {
                of: one(of),
                count: *count,
            },
            Self::Index { of, index } => Self::Index {
                of: one(of),
                index: *index,
            },
            Self::Elementwise { of, by } => one(of).by(*by),
            Self::RopePermute { of, head_dim } => Self::RopePermute {
                of: one(of),
                head_dim: *head_dim,
            },
            Self::Reshape(of) => Self::Reshape(one(of)),
            Self::BlockDiagonal { of, groups } => Self::BlockDiagonal {
                of: one(of),
                groups: *groups,
            },
        }
    }

    /// Every tensor name that may be read, with `{}` left in place.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Tensor(name) => vec![name],
            Self::OneOf(all)
            | Self::Tied { own: _, all }
            | Self::ConcatRows(all)
            | Self::ConcatColumns(all) => all.iter().flat_map(Self::names).collect(),
            Self::Part { of, .. }
            | Self::Transpose(of)
            | Self::Each { of, .. }
            | Self::Index { of, .. }
            | Self::Elementwise { of, .. }
            | Self::RopePermute { of, .. }
            | Self::BlockDiagonal { of, .. }
            | Self::Reshape(of) => of.names(),
        }
    }

    /// The sets of tensors of which each gives the weight; experts have their numbers.
    pub fn alternatives(&self) -> Vec<Vec<String>> {
        match self {
            Self::Tensor(name) => vec![vec![name.clone()]],
            Self::OneOf(all) | Self::Tied { own: _, all } => {
                all.iter().flat_map(Self::alternatives).collect()
            }
            Self::ConcatRows(all) | Self::ConcatColumns(all) => together(all),
            Self::Each { of, count } => {
                let of = of.alternatives().into_iter();
                of.map(|names| {
                    let numbered = |number: usize| {
                        let number = number.to_string();
                        let names = names.iter();
                        names.map(move |name| name.replace("{}", &number))
                    };
                    (0..*count).flat_map(numbered).collect()
                })
                .collect()
            }
            Self::Part { of, .. }
            | Self::Transpose(of)
            | Self::Index { of, .. }
            | Self::Elementwise { of, .. }
            | Self::RopePermute { of, .. }
            | Self::BlockDiagonal { of, .. }
            | Self::Reshape(of) => of.alternatives(),
        }
    }
}

/// The sets of tensors of which each gives all of these. Where all are spelled in as many ways, those are the same ways.
fn together(all: &[Source]) -> Vec<Vec<String>> {
    let each: Vec<_> = all.iter().map(Source::alternatives).collect();
    let ways = each.first().map_or(0, Vec::len);
    if each.iter().all(|own| own.len() == ways) {
        let way = |way: usize| each.iter().flat_map(move |own| own[way].clone());
        return (0..ways).map(|number| way(number).collect()).collect();
    }
    each.iter().fold(vec![Vec::new()], |sets, own| {
        let with = |set: &Vec<String>| {
            let set = set.clone();
            own.iter()
                .map(move |names| [set.clone(), names.clone()].concat())
        };
        sets.iter().flat_map(with).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_made_of_one_of_several_sets() {
        let name = |name: &str| Source::tensor(name);
        let spelled = |own: &str| Source::one_of(vec![name(own), name(&format!("m.{own}"))]);
        assert_eq!(name("a").alternatives(), [["a"]]);
        assert_eq!(spelled("a").transpose().alternatives(), [["a"], ["m.a"]]);
        let rows = Source::ConcatRows(vec![spelled("q"), spelled("k")]);
        assert_eq!(rows.alternatives(), [["q", "k"], ["m.q", "m.k"]]);
        let rows = Source::ConcatRows(vec![spelled("q"), name("k")]);
        assert_eq!(rows.alternatives(), [["q", "k"], ["m.q", "k"]]);
        let of = Box::new(spelled("e.{}"));
        let each = Source::Each { of, count: 2 };
        assert_eq!(each.alternatives(), [["e.0", "e.1"], ["m.e.0", "m.e.1"]]);
    }
}
