//! What the converter did to the elements of a tensor, undone as an expression.

use serde_json::Value;

use super::architecture::{Change, Tiled};
use super::reader::MOST_LAYERS;
use super::stored::Stored;
use crate::build::pattern;
use crate::{Elementwise, Source, Split};

/// Most heads of a layer, as in the configurations of other files.
const MOST_HEADS: usize = 1 << 16;

/// A tensor of a file and what was done to it.
pub(super) struct Found {
    pub name: String,
    pub change: Change,
    /// The number in the reference's name: of a layer, or of one of several.
    pub number: usize,
}

/// Sizes that changes depend on.
pub(super) struct Sizes<'a> {
    architecture: &'a str,
    stored: &'a Stored,
    blocks: usize,
    heads: usize,
    /// Rows of queries, and of keys.
    widths: [usize; 2],
    head_dim: usize,
    /// Groups of heads of values, and heads in each.
    groups: [usize; 2],
    /// Rows of the keys of all groups.
    keys: usize,
}

impl<'a> Sizes<'a> {
    /// Those of a file of this architecture.
    pub fn new(architecture: &'a str, stored: &'a Stored) -> Self {
        let number = |key: &str| {
            let value = stored.values.get(&format!("{architecture}.{key}"))?;
            let number = match value {
                // Layers of another kind have none.
                Value::Array(values) => values.iter().filter_map(Value::as_u64).max(),
                value => value.as_u64(),
            };
            number.map(|number| number as usize)
        };
        let heads = number("attention.head_count").unwrap_or(1);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        let width = number("embedding_length").unwrap_or(0);
        let head_dim = number("attention.key_length").unwrap_or(width / heads.max(1));
        let groups = number("ssm.group_count").unwrap_or(1).max(1);
        let values = number("ssm.time_step_rank").unwrap_or(groups);
        let state = number("ssm.state_size").unwrap_or(0);
        Self {
            architecture,
            stored,
            blocks: number("block_count").unwrap_or(0).min(MOST_LAYERS as usize),
            heads,
            widths: [heads, kv_heads].map(|heads| heads.saturating_mul(head_dim)),
            head_dim,
            groups: [groups, values / groups],
            keys: groups.saturating_mul(state),
        }
    }

    /// The tensors of blocks that draft tokens.
    pub fn drafts(&self) -> Vec<&'static str> {
        let drafts = (0..self.blocks as u64).filter(|block| self.stored.is_draft(*block));
        drafts
            .map(|block| pattern(format!("blk.{block}.*")))
            .collect()
    }

    /// A whole number of the architecture's keys, else none.
    pub fn count(&self, key: &str) -> usize {
        let value = self
            .stored
            .values
            .get(&format!("{}.{key}", self.architecture));
        let count = value.and_then(Value::as_u64).unwrap_or(0);
        count.min(MOST_LAYERS) as usize
    }

    /// Whether the file has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.stored.tensors.get(name).map(Vec::as_slice)
    }

    /// A tensor, or the rows of the one that it was fused into.
    pub fn tensor(&self, name: String) -> Source {
        if self.shape(&name).is_some() {
            return Source::Tensor(name);
        }
        let [queries, keys] = self.widths;
        for (part, own) in [".attn_q.", ".attn_k.", ".attn_v."].iter().enumerate() {
            let fused = name.replacen(own, ".attn_qkv.", 1);
            if fused != name && self.shape(&fused).is_some() {
                return Source::Tensor(fused).part(Split::Rows(vec![queries, keys, keys]), part);
            }
        }
        for (part, own) in [".ffn_gate_exps.", ".ffn_up_exps."].iter().enumerate() {
            let fused = name.replacen(own, ".ffn_gate_up_exps.", 1);
            if let Some([.., rows, _]) = self.shape(&fused).filter(|_| fused != name) {
                let half = rows / 2;
                return Source::Tensor(fused).part(Split::Rows(vec![half, half]), part);
            }
        }
        Source::Tensor(name)
    }

    /// The reference's tensor as an expression over the file's.
    pub fn undone(&self, found: Found) -> Source {
        let Found {
            name,
            change,
            number,
        } = found;
        match change {
            Change::None => self.tensor(name),
            Change::Permuted => self.permuted(name),
            Change::Transposed => self.tensor(name).transpose(),
            Change::PlusOne => self.tensor(name).by(Elementwise::MinusOne),
            Change::Flat => Source::Reshape(Box::new(self.tensor(name))),
            Change::Stacked | Change::Nth(_) => Source::Index {
                of: Box::new(self.tensor(name)),
                index: match change {
                    Change::Nth(index) => index,
                    _ => number,
                },
            },
            Change::Listed => {
                let count = self.shape(&name).and_then(<[usize]>::first);
                let split = Split::Rows(vec![
                    1;
                    count.copied().unwrap_or(0).min(MOST_LAYERS as usize)
                ]);
                Source::Tensor(name).part(split, number)
            }
            Change::Decay => self.tensor(name).by(Elementwise::LogOfNegated),
            Change::Exponential => {
                Source::Reshape(Box::new(self.tensor(name))).by(Elementwise::Log)
            }
            Change::Latent => self.latent(name),
            Change::Tiled(tiled) => self.grouped(name, tiled),
            // Nothing mixes rows again: it counts as missing.
            Change::Unmixed
            | Change::Separated
            | Change::Divided
            | Change::Parted(_)
            | Change::Ungrouped => Source::Tensor(format!("{change:?} of {name}")),
        }
    }

    /// A part of the reference's tensor, which the file has by itself; `None`: it is one of what [`Self::undone`] gives.
    pub fn part(&self, found: &Found, split: &Split, part: usize) -> Option<Source> {
        let name = &found.name;
        let [queries, keys] = self.widths;
        Some(match (found.change, split) {
            (Change::Unmixed, _) => {
                let split = Split::Rows(vec![queries, keys, keys]);
                Source::Tensor(name.clone()).part(split, part)
            }
            (Change::Separated, _) => {
                let own = [".attn_q.", ".attn_k.", ".attn_v."].get(part)?;
                let name = name.replacen(".attn_qkv.", own, 1);
                match part {
                    2 => Source::Tensor(name),
                    _ => self.permuted(name),
                }
            }
            (Change::Divided, _) => {
                let up = name.replacen("_gate", "_up", 1);
                self.tensor(if part == 0 { name.clone() } else { up })
            }
            (Change::Parted(names), _) => {
                let own = names.get(part)?;
                self.tensor(name.replacen(names.first()?, own, 1))
            }
            (Change::Ungrouped, Split::Groups { groups, rows }) => {
                if part == 3 {
                    return Some(Source::Tensor(name.replacen("attn_qkv", "attn_gate", 1)));
                }
                let rows = rows.iter().take(3).map(|rows| rows.saturating_mul(*groups));
                Source::Tensor(name.clone()).part(Split::Rows(rows.collect()), part)
            }
            _ => return None,
        })
    }

    fn permuted(&self, name: String) -> Source {
        Source::RopePermute {
            of: Box::new(self.tensor(name)),
            head_dim: self.head_dim,
        }
    }

    /// The one tensor of older files, or the two of newer ones, head by head.
    fn latent(&self, name: String) -> Source {
        let whole = name.replacen("attn_k_b", "attn_kv_b", 1);
        if self.shape(&whole).is_some() {
            return Source::Tensor(whole);
        }
        let values = Source::Tensor(name.replacen("attn_k_b", "attn_v_b", 1));
        // Layers may differ.
        let heads = self.shape(&name).and_then(<[usize]>::first);
        let heads = heads.copied().unwrap_or(self.heads).min(MOST_HEADS);
        let keys = Source::Tensor(name);
        let head = |of: &Source, index: usize| Source::Index {
            of: Box::new(of.clone()),
            index,
        };
        let heads = (0..heads).flat_map(|at| [head(&keys, at).transpose(), head(&values, at)]);
        Source::ConcatRows(heads.collect())
    }

    /// Heads of values in the order of their groups.
    fn grouped(&self, name: String, tiled: Tiled) -> Source {
        let [groups, each] = self.groups;
        let shape = self.shape(&name).unwrap_or_default();
        let rows = shape.first().copied().unwrap_or(0);
        let columns = shape.get(1).copied().unwrap_or(0);
        let tensor = Source::Tensor(name);
        let order = |of: &Source, rows: usize| {
            let head = rows / (groups * each).max(1);
            let split = Split::Groups {
                groups: each,
                rows: vec![head; groups],
            };
            let parts = (0..groups).map(|group| of.clone().part(split.clone(), group));
            Source::ConcatRows(parts.collect())
        };
        // One head a group is in order.
        let is_plain = each <= 1;
        match tiled {
            Tiled::Decays if is_plain => tensor.by(Elementwise::LogOfNegated),
            _ if is_plain => tensor,
            Tiled::Rows => order(&tensor, rows),
            Tiled::Decays => order(&tensor, rows).by(Elementwise::LogOfNegated),
            Tiled::Columns => order(&tensor.transpose(), columns).transpose(),
            Tiled::Behind => {
                let values = rows.saturating_sub(2 * self.keys);
                let split = Split::Rows(vec![self.keys, self.keys, values]);
                let part = |part| tensor.clone().part(split.clone(), part);
                let Source::ConcatRows(heads) = order(&part(2), values) else {
                    return tensor;
                };
                Source::ConcatRows([vec![part(0), part(1)], heads].concat())
            }
        }
    }
}
