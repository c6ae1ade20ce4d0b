//! The reference's names of tensors in llama.cpp's files, and what the converter did to their elements.

use serde_json::Value;

use super::architecture::{Architecture, Change, Row, row};
use super::stored::{FACTORS, Stored};
use crate::registry::{Built, Headed};
use crate::{Leaf, ModelSpec, Source, Split};

/// Llama's names.
pub(super) const USUAL: &[Row] = &[
    row("model.embed_tokens", "token_embd"),
    row("model.norm", "output_norm"),
    row("lm_head", "output"),
    row("model.layers.*.input_layernorm", "blk.*.attn_norm"),
    row("model.layers.*.self_attn.q_proj", "blk.*.attn_q"),
    row("model.layers.*.self_attn.k_proj", "blk.*.attn_k"),
    row("model.layers.*.self_attn.v_proj", "blk.*.attn_v"),
    row("model.layers.*.self_attn.o_proj", "blk.*.attn_output"),
    row("model.layers.*.self_attn.q_norm", "blk.*.attn_q_norm"),
    row("model.layers.*.self_attn.k_norm", "blk.*.attn_k_norm"),
    row("model.layers.*.self_attn.sinks", "blk.*.attn_sinks.weight"),
    row("model.layers.*.post_attention_layernorm", "blk.*.ffn_norm"),
    row("model.layers.*.mlp.gate_proj", "blk.*.ffn_gate"),
    row("model.layers.*.mlp.up_proj", "blk.*.ffn_up"),
    row("model.layers.*.mlp.down_proj", "blk.*.ffn_down"),
    row("model.layers.*.mlp.gate", "blk.*.ffn_gate_inp"),
    row(
        "model.layers.*.mlp.experts.{}.gate_proj",
        "blk.*.ffn_gate_exps",
    ),
    row("model.layers.*.mlp.experts.{}.up_proj", "blk.*.ffn_up_exps"),
    row(
        "model.layers.*.mlp.experts.{}.down_proj",
        "blk.*.ffn_down_exps",
    ),
    row(
        "model.layers.*.mlp.shared_expert.gate_proj",
        "blk.*.ffn_gate_shexp",
    ),
    row(
        "model.layers.*.mlp.shared_expert.up_proj",
        "blk.*.ffn_up_shexp",
    ),
    row(
        "model.layers.*.mlp.shared_expert.down_proj",
        "blk.*.ffn_down_shexp",
    ),
    row(
        "model.layers.*.mlp.shared_expert_gate",
        "blk.*.ffn_gate_inp_shexp",
    ),
    row(
        "model.layers.*.mlp.shared_experts.gate_proj",
        "blk.*.ffn_gate_shexp",
    ),
    row(
        "model.layers.*.mlp.shared_experts.up_proj",
        "blk.*.ffn_up_shexp",
    ),
    row(
        "model.layers.*.mlp.shared_experts.down_proj",
        "blk.*.ffn_down_shexp",
    ),
    row(
        "model.layers.*.mlp.gate.e_score_correction_bias",
        "blk.*.exp_probs_b.bias",
    ),
];

/// Has a description look for its weights under the names of a file.
pub(super) fn rename(built: &mut Built, architecture: &Architecture, stored: &Stored) {
    let renaming = Renaming::new(architecture, stored);
    renaming.apply(&mut built.spec);
    if let Some(untied) = &mut built.untied {
        renaming.apply(untied);
    }
    if let Some(Headed { spec, untied }) = &mut built.headed {
        renaming.apply(spec);
        if let Some(untied) = untied {
            renaming.apply(untied);
        }
    }
}

struct Renaming<'a> {
    stored: &'a Stored,
    heads: usize,
    rows: &'a [Row],
    /// Rows of queries, and of keys.
    widths: [usize; 2],
    head_dim: usize,
}

/// A tensor of a file and what was done to it.
struct Found {
    name: String,
    change: Change,
}

impl<'a> Renaming<'a> {
    fn new(architecture: &'a Architecture, stored: &'a Stored) -> Self {
        let number = |key: &str| {
            let key = format!("{}.{key}", architecture.name);
            let value = stored.values.get(&key);
            value.and_then(Value::as_u64).map(|number| number as usize)
        };
        let heads = number("attention.head_count").unwrap_or(1);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        let width = number("embedding_length").unwrap_or(0);
        let head_dim = number("attention.key_length").unwrap_or(width / heads.max(1));
        Self {
            stored,
            heads,
            rows: architecture.names,
            widths: [heads, kv_heads].map(|heads| heads.saturating_mul(head_dim)),
            head_dim,
        }
    }

    fn apply(&self, spec: &mut ModelSpec) {
        spec.base_prefix = "";
        spec.ignored = FACTORS.to_vec();
        for stack in &mut spec.stacks {
            let layers = stack.layers.iter_mut().flat_map(|layer| &mut layer.leaves);
            let leaves = stack.input.leaves_mut().iter_mut().chain(layers);
            for leaf in leaves.chain(&mut stack.head.leaves) {
                self.rename_leaf(leaf);
            }
        }
    }

    fn rename_leaf(&self, leaf: &mut Leaf) {
        leaf.source = self.source(&leaf.source);
    }

    /// The tensor of a file for one of the reference.
    fn find(&self, name: &str) -> Option<Found> {
        let ending = [".weight", ".bias"]
            .into_iter()
            .find(|ending| name.ends_with(ending));
        let module = name.strip_suffix(ending.unwrap_or(""))?;
        let layer = module.split('.').find(|part| is_number(part));
        let pattern = |text: &str| match layer {
            Some(layer) => text.replacen('*', layer, 1),
            None => text.to_owned(),
        };
        let own = [self.rows, USUAL].into_iter().flatten();
        let row = own
            .into_iter()
            .find(|row| pattern(row.reference) == module)?;
        let whole = [".weight", ".bias"]
            .iter()
            .any(|ending| row.file.ends_with(ending));
        let name = match ending {
            Some(ending) if !whole => format!("{}{ending}", pattern(row.file)),
            None if !whole => format!("{}.weight", pattern(row.file)),
            _ => pattern(row.file),
        };
        let change = match row.change {
            // Only weights were changed so.
            Change::PlusOne | Change::Transposed if ending == Some(".bias") => Change::None,
            change => change,
        };
        Some(Found { name, change })
    }

    fn source(&self, source: &Source) -> Source {
        let found = |of: &Source| match of {
            Source::Tensor(name) => self.find(name),
            _ => None,
        };
        let boxed = |of: &Source| Box::new(self.source(of));
        match source {
            Source::Tensor(name) => match self.find(name) {
                Some(found) => self.undone(found),
                None => source.clone(),
            },
            Source::PlusOne(of) => match found(of) {
                Some(found) if found.change == Change::PlusOne => Source::Tensor(found.name),
                _ => Source::PlusOne(boxed(of)),
            },
            Source::Transpose(of) => match found(of) {
                Some(found) if found.change == Change::Transposed => Source::Tensor(found.name),
                _ => Source::Transpose(boxed(of)),
            },
            Source::Part { of, split, part } => match found(of) {
                Some(found) if found.change == Change::Unmixed => {
                    let [queries, keys] = self.widths;
                    let split = Split::Rows(vec![queries, keys, keys]);
                    Source::Tensor(found.name).part(split, *part)
                }
                _ if let Some(half) = self.half(of, *part) => half,
                _ => Source::Part {
                    of: boxed(of),
                    split: split.clone(),
                    part: *part,
                },
            },
            Source::Each { of, count } => {
                let of = self.source(of);
                if of.names().iter().any(|name| name.contains("{}")) {
                    let (of, count) = (Box::new(of), *count);
                    return Source::Each { of, count };
                }
                of
            }
            Source::OneOf(all) => {
                let is_known =
                    |one: &&Source| one.names().iter().any(|name| self.find(name).is_some());
                let known: Vec<Source> = all
                    .iter()
                    .filter(is_known)
                    .map(|one| self.source(one))
                    .collect();
                let mut distinct: Vec<Source> = Vec::new();
                for one in known {
                    if !distinct.contains(&one) {
                        distinct.push(one);
                    }
                }
                if distinct.is_empty() {
                    source.clone()
                } else {
                    Source::one_of(distinct)
                }
            }
            Source::Index { of, index } => Source::Index {
                of: boxed(of),
                index: *index,
            },
            Source::ConcatRows(all) => {
                Source::ConcatRows(all.iter().map(|one| self.source(one)).collect())
            }
            Source::ConcatColumns(all) => {
                Source::ConcatColumns(all.iter().map(|one| self.source(one)).collect())
            }
            Source::RopePermute { of, head_dim } => Source::RopePermute {
                of: boxed(of),
                head_dim: *head_dim,
            },
            Source::Reshape(of) => Source::Reshape(boxed(of)),
        }
    }

    /// The reference's tensor as an expression over the file's.
    fn undone(&self, found: Found) -> Source {
        let tensor = Source::Tensor(found.name);
        match found.change {
            Change::None => tensor,
            Change::Permuted => Source::RopePermute {
                of: Box::new(tensor),
                head_dim: self.head_dim,
            },
            Change::Transposed => tensor.transpose(),
            // Nothing takes one off, and nothing mixes rows again: it counts as missing.
            Change::PlusOne | Change::Unmixed | Change::Divided => {
                Source::Tensor(format!("{:?} of {tensor:?}", found.change))
            }
            Change::Latent => self.latent(tensor),
        }
    }
}

impl Renaming<'_> {
    /// A half of a tensor of gate and upward projection; `None`: it is something else.
    fn half(&self, of: &Source, part: usize) -> Option<Source> {
        let of = match of {
            Source::Transpose(of) => of,
            of => of,
        };
        let Source::Tensor(name) = of else {
            return None;
        };
        let found = self
            .find(name)
            .filter(|found| found.change == Change::Divided)?;
        let name = match part {
            0 => found.name,
            _ => found.name.replacen("_gate", "_up", 1),
        };
        Some(Source::Tensor(name))
    }

    /// The one tensor of older files, or the two of newer ones, head by head.
    fn latent(&self, keys: Source) -> Source {
        let Source::Tensor(name) = &keys else {
            return keys;
        };
        let whole = name.replacen("attn_k_b", "attn_kv_b", 1);
        if self.stored.tensors.contains_key(&whole) {
            return Source::Tensor(whole);
        }
        let values = Source::Tensor(name.replacen("attn_k_b", "attn_v_b", 1));
        let head = |of: &Source, index: usize| Source::Index {
            of: Box::new(of.clone()),
            index,
        };
        let heads = (0..self.heads).flat_map(|at| [head(&keys, at).transpose(), head(&values, at)]);
        Source::ConcatRows(heads.collect())
    }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}
