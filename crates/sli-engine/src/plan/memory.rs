//! What a run holds in memory, in bytes, as a function of how many rows run together.

use sli_kernels::Compute;
use sli_spec::{KeySelection, KeyValue, Mixer, ModelSpec, Stack};

use super::phases::is_whole;
use crate::exec::batch::distinct_ropes;
use crate::exec::step::{chosen_keys, outputs_shown, stashes};
use crate::mixers::feed_forward::BLOCK_ROWS;
use crate::mixers::indexer;
use crate::stats::RowStats;
use crate::take::Take;

/// The program itself: code, stacks, allocator, the buffers of readers and results. 15 to 20 MiB are seen;
/// readers that go around the page cache, or read what is stored transposed, take up to 10 more.
pub(crate) const PROGRAM_BYTES: u64 = 30 << 20;

/// Activations that a product packs at a time, bytes, and rows at least.
const PACKED_ACTIVATIONS: u64 = 8 << 20;
const PACKED_ROWS: u64 = 224;

/// Keys and values that attention packs at a time, bytes, but for those of one head.
const PACKED_KEYS: u64 = 4 << 20;

/// Rows of logits that are computed at a time.
pub(crate) const HEAD_ROWS: usize = 512;

/// Rows of the projection whose lengths are computed at a time, where they are normalised.
pub(crate) const LENGTH_ROWS: usize = 128;

/// Columns of logits that are computed at a time, at most: a multiple of 1024.
pub(crate) const HEAD_COLUMNS: usize = 4096;

/// Ids, positions, log-sum-exp state, target of a row.
const ROW_BYTES: u64 = 64;

/// What a row costs more where records share rows: as many records as rows, at most, and the tree.
pub(crate) const SHARING_ROW_BYTES: u64 = 160;

/// Bytes a token of a super-batch costs for as long as the super-batch lasts.
pub(crate) fn row_bytes(spec: &ModelSpec, takes: &[Take]) -> u64 {
    let widest = spec
        .stacks
        .iter()
        .map(|stack| stack.hidden_size)
        .max()
        .unwrap_or(0) as u64;
    let stashes = spec
        .stacks
        .iter()
        .map(|stack| stashes(&stack.layers))
        .max()
        .unwrap_or(0) as u64;
    let ropes: u64 = distinct_ropes(spec)
        .iter()
        .map(|rope| rope.dims as u64 * 4)
        .sum();
    let kept = spec.stacks.iter().map(kept_columns).max().unwrap_or(0) as u64;
    let chosen = spec
        .stacks
        .iter()
        .filter_map(|stack| chosen_keys(&stack.layers))
        .max()
        .unwrap_or(0) as u64;
    let mut bytes = (widest * (1 + stashes) + chosen + kept) * 4 + ropes + ROW_BYTES;
    for take in takes {
        bytes += match take {
            Take::TopK(k) => *k as u64 * 16,
            Take::Router => 64,
            // The row before for the cosine, and statistics of the rows before they are folded.
            Take::Profile => widest * 4 + (sites(spec) + 1) * size_of::<RowStats>() as u64,
            Take::Hidden(_) | Take::Logits | Take::Scores | Take::Embedding(_) => 0,
        };
    }
    bytes
}

/// Branch outputs of a layer that are looked at, at most; at least one, for the hidden state.
fn sites(spec: &ModelSpec) -> u64 {
    let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let shown = layers.map(|layer| outputs_shown(&layer.steps) as u64);
    shown.max().unwrap_or(0).max(1)
}

/// Bytes of keys and values that chunks hand on, for each token that records have in common: of one
/// attention, or of all of a layer `together`.
pub(crate) fn carried_bytes(spec: &ModelSpec, together: bool) -> u64 {
    let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let most = layers.map(|layer| {
        let branches = layer.steps.iter().flat_map(|step| &step.branches);
        let columns = branches.map(|branch| carried_columns(&branch.mixer));
        if together {
            columns.sum::<usize>()
        } else {
            columns.max().unwrap_or(0)
        }
    });
    4 * most.max().unwrap_or(0) as u64
}

/// How many heads an attention has keys and values of, and how wide those of one head are together, as
/// they are kept for later rows.
fn key_heads(mixer: &Mixer) -> Option<[usize; 2]> {
    match mixer {
        Mixer::Attention(attention) => {
            let pairs = 1 + usize::from(attention.differential.is_some());
            let dims = attention.head_dim + pairs * attention.value_dim;
            Some([attention.kv_heads, dims])
        }
        Mixer::LatentAttention(attention) => {
            let dims = attention.nope_dim + attention.rope_dim + attention.value_dim;
            Some([attention.heads, dims])
        }
        Mixer::MixtureOfAttention(attention) => Some([attention.heads, 2 * attention.head_dim]),
        Mixer::FeedForward(_)
        | Mixer::MixtureOfExperts(_)
        | Mixer::SparseFeedForward(_)
        | Mixer::LowRank(_)
        | Mixer::LayerInput(_)
        | Mixer::Streams(_)
        | Mixer::Linear(_)
        | Mixer::Identity => None,
    }
}

fn carried_columns(mixer: &Mixer) -> usize {
    match mixer {
        // The other layer's are there as a whole.
        Mixer::Attention(attention) if matches!(attention.key_value, KeyValue::OfLayer(_)) => 0,
        // Runs on all rows at once.
        Mixer::MixtureOfAttention(_) => 0,
        mixer => key_heads(mixer).map_or(0, |[heads, dims]| heads * dims),
    }
}

/// Columns of what a stack keeps for later layers.
fn kept_columns(stack: &Stack) -> usize {
    let inputs = stack.embedding.layer_inputs.as_ref();
    let shared = stack.shared_keys();
    let keys = shared.iter().map(|shared| shared.keys + shared.values);
    inputs.map_or(0, |inputs| inputs.layers * inputs.width) + keys.sum::<usize>()
}

/// Columns of every scratch buffer: for all rows that run together, and for one block of rows.
#[derive(Clone, Copy, Default)]
struct Columns {
    rows: usize,
    block: usize,
    /// For the rows of a block that choose the same expert.
    expert: usize,
    /// Elements however many rows there are.
    fixed: usize,
}

/// How the rows of a block choose their experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// All of them the same.
    Alike,
    /// Every expert as often.
    Evenly,
}

impl Choice {
    /// Rows that choose the same expert, at most, of `rows` at a step.
    fn alike(self, step: &sli_spec::Step, rows: usize) -> usize {
        match (self, super::work::choice(step)) {
            (Self::Evenly, Some((experts, top_k))) => {
                rows.min((rows * top_k).div_ceil(experts.max(1)))
            }
            _ => rows,
        }
    }
}

/// Scratch for phases that run `chunk` rows together, or `whole` rows where all must.
pub(crate) fn scratch_bytes(
    spec: &ModelSpec,
    chunk: usize,
    whole: usize,
    tiled: bool,
    choice: Choice,
) -> u64 {
    // normed, branch input, output, sum, query, key, value, heads, gate, up, inner
    let mut most = [0_u64; 11];
    for stack in &spec.stacks {
        for layer in &stack.layers {
            for step in &layer.steps {
                let rows = if is_whole(step) { whole } else { chunk };
                let block_of = |rows: usize| if tiled { rows } else { rows.min(BLOCK_ROWS) };
                let block = block_of(rows);
                let alike = block_of(choice.alike(step, rows));
                for (most, columns) in most.iter_mut().zip(step_columns(stack, step)) {
                    let bytes = (rows * columns.rows)
                        .max(block * columns.block)
                        .max(alike * columns.expert)
                        .max(columns.fixed) as u64
                        * 4;
                    *most = (*most).max(bytes);
                }
            }
        }
    }
    most.iter().sum()
}

fn step_columns(stack: &Stack, step: &sli_spec::Step) -> [Columns; 11] {
    let hidden = stack.hidden_size;
    let rows = |columns: usize| Columns {
        rows: columns,
        ..Columns::default()
    };
    let mut all = [Columns::default(); 11];
    all[0] = rows(hidden);
    // The buffers of output and sum change places, also where there is one branch.
    all[2] = rows(hidden);
    all[3] = rows(hidden);
    for branch in &step.branches {
        if branch.pre.is_some() {
            all[1] = rows(hidden);
        }
        let mut set = |index: usize, columns: Columns| {
            all[index].rows = all[index].rows.max(columns.rows);
            all[index].block = all[index].block.max(columns.block);
            all[index].expert = all[index].expert.max(columns.expert);
            all[index].fixed = all[index].fixed.max(columns.fixed);
        };
        match &branch.mixer {
            Mixer::Attention(attention) => {
                set(4, rows(attention.heads * attention.head_dim));
                set(5, rows(attention.kv_heads * attention.head_dim));
                set(6, rows(attention.kv_heads * attention.value_dim));
                set(7, rows(attention.heads * attention.value_dim));
                if let Some(gate) = &attention.gate {
                    set(8, rows(gate.projection.out_features));
                }
                if attention.differential.is_some() {
                    // Buffers of pairs and of single heads change places.
                    for index in [4, 6, 7, 10] {
                        set(index, rows(2 * attention.heads * attention.value_dim));
                    }
                }
                if attention.dynamic_mask.is_some() {
                    set(8, rows(3 * attention.kv_heads));
                    set(10, rows(attention.kv_heads));
                }
            }
            Mixer::LatentAttention(attention) => {
                let (heads, nope) = (attention.heads, attention.nope_dim);
                let dim = nope + attention.rope_dim;
                set(4, rows(heads * dim));
                set(5, rows(heads * dim));
                set(6, rows(heads * attention.value_dim));
                set(7, rows(heads * attention.value_dim));
                set(8, rows(attention.kv_rank + attention.rope_dim));
                set(9, rows(heads * (nope + attention.value_dim)));
                if let Some(KeySelection::Indexer(choice)) = &attention.selection {
                    // The packed keys and the scored keys of a query beside the keys.
                    set(5, rows(2 * choice.head_dim + 2));
                    set(6, rows(choice.heads));
                    set(
                        7,
                        Columns {
                            rows: choice.heads,
                            fixed: indexer::SCORES,
                            ..Columns::default()
                        },
                    );
                    set(9, rows(choice.heads * choice.head_dim));
                }
                if let Some((down, _)) = &attention.query_down {
                    set(10, rows(down.out_features));
                }
            }
            Mixer::FeedForward(network)
            | Mixer::SparseFeedForward(sli_spec::SparseFeedForward { network, .. }) => {
                let block = Columns {
                    block: network.up.out_features,
                    ..Columns::default()
                };
                set(9, block);
                if network.gate.is_some() {
                    set(8, block);
                }
            }
            Mixer::MixtureOfExperts(experts) => {
                let alike = |columns: usize| Columns {
                    expert: columns,
                    ..Columns::default()
                };
                let inner = experts.expert.up.out_features;
                set(4, alike(hidden));
                set(7, alike(hidden));
                if experts.router.norm.is_some() {
                    set(4, rows(hidden));
                }
                // Ids and weights of the choice beside the logits.
                set(
                    8,
                    Columns {
                        rows: experts.router.projection.out_features + 4 * experts.router.top_k,
                        ..alike(inner)
                    },
                );
                set(9, alike(inner));
                if let Some(shared) = &experts.shared {
                    let block = Columns {
                        block: shared.up.out_features,
                        ..Columns::default()
                    };
                    set(9, block);
                    set(8, block);
                    set(10, rows(hidden));
                }
            }
            Mixer::MixtureOfAttention(attention) => {
                let (heads, top_k) = (attention.heads, attention.router.top_k);
                let inner = heads * attention.head_dim;
                set(4, rows(inner * top_k));
                set(5, rows(inner));
                set(6, rows(inner));
                set(7, rows(inner * top_k));
                // Ids and weights of the choice beside the logits.
                set(8, rows(attention.experts + 4 * top_k));
                set(9, rows(inner.max(hidden)));
                set(10, rows(inner.max(hidden)));
            }
            Mixer::LowRank(product) => set(8, rows(product.down.out_features)),
            Mixer::LayerInput(input) => set(8, rows(input.gate.out_features)),
            Mixer::Streams(streams) => {
                set(8, rows(streams.streams));
                set(9, rows(streams.streams * streams.streams));
            }
            Mixer::Linear(_) | Mixer::Identity => {}
        }
    }
    all
}

/// What the kernels hold for themselves at most where `rows` rows run together, the longest record of
/// `longest`: packed activations or keys, and a block of every thread.
pub(crate) fn kernel_bytes(
    spec: &ModelSpec,
    rows: usize,
    longest: usize,
    threads: usize,
    compute: Compute,
) -> u64 {
    const THREAD: u64 = 1 << 20;
    let element = element_bytes(compute);
    let widest = widest(spec) * element;
    let activations = (rows as u64 * widest).min(PACKED_ACTIVATIONS.max(PACKED_ROWS * widest));
    let stacks = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let branches = stacks.flat_map(|layer| layer.steps.iter().flat_map(|step| &step.branches));
    let keys = branches.map(|branch| packed_keys(&branch.mixer, rows, longest, element));
    activations.max(keys.max().unwrap_or(0)) + threads as u64 * THREAD
}

/// Bytes of packed keys and values: of all heads, or as many as are packed at a time, at least one.
fn packed_keys(mixer: &Mixer, rows: usize, longest: usize, element: u64) -> u64 {
    let Some([heads, dims]) = key_heads(mixer) else {
        return 0;
    };
    // Those of a pair are packed one by one.
    let is_paired =
        matches!(mixer, Mixer::Attention(attention) if attention.differential.is_some());
    let heads = heads * (1 + usize::from(is_paired));
    // In panels of 32, whatever the dimensions and lengths.
    let head = dims.next_multiple_of(32) as u64 * element;
    let one = longest.next_multiple_of(32) as u64 * head;
    let all = rows.next_multiple_of(32) as u64 * head * heads as u64;
    all.max(one).min(PACKED_KEYS.max(one))
}

/// Input features of the widest matrix.
fn widest(spec: &ModelSpec) -> u64 {
    let leaves = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let leaves = leaves.flat_map(|layer| &layer.leaves);
    let columns = leaves.filter_map(|leaf| leaf.shape.last());
    columns.max().copied().unwrap_or(0) as u64
}

/// What the kernels come to hold where `rows` rows run together.
pub(crate) fn kernel_scratch_bytes(
    spec: &ModelSpec,
    rows: usize,
    threads: usize,
    compute: Compute,
) -> u64 {
    const THREAD: u64 = 640 << 10;
    let (widest, element) = (widest(spec), element_bytes(compute));
    let hidden = spec.stacks.iter().map(|stack| stack.hidden_size).max();
    let hidden = hidden.unwrap_or(0) as u64;
    // What is wider than the hidden state runs in blocks.
    let columns = (rows as u64 * hidden).max(rows.min(BLOCK_ROWS) as u64 * widest);
    let activations =
        (columns * element).min(PACKED_ACTIVATIONS.max(PACKED_ROWS * widest * element));
    let keys = spec
        .stacks
        .iter()
        .flat_map(|stack| &stack.layers)
        .flat_map(|layer| layer.steps.iter().flat_map(|step| &step.branches))
        .map(|branch| carried_columns(&branch.mixer) as u64)
        .max()
        .unwrap_or(0);
    activations + (rows as u64 * keys * element).min(PACKED_KEYS) + threads as u64 * THREAD
}

fn element_bytes(compute: Compute) -> u64 {
    match compute {
        Compute::F32 => 4,
        Compute::Bf16 => 2,
    }
}

/// The head's buffers: the normed rows and, where they are computed, one block of logits.
pub(crate) fn head_bytes(spec: &ModelSpec, rows: usize, computes_logits: bool) -> u64 {
    let stack = spec.output_stack();
    let normed = rows * stack.hidden_size * usize::from(stack.head.norm.is_some());
    let projected = stack.head.output.as_ref();
    let projected = projected.map_or(0, |linear| rows * linear.out_features);
    let merged = 2 * rows * stack.hidden_size * usize::from(!stack.head.streams.is_empty());
    if !computes_logits {
        return (merged + normed + projected) as u64 * 4;
    }
    let transformed = stack
        .head
        .logits
        .as_ref()
        .and_then(|logits| logits.transform.as_ref())
        .map_or(0, |t| rows * t.dense.out_features);
    let logits = rows.min(HEAD_ROWS) * HEAD_COLUMNS.min(spec.vocab_size.next_multiple_of(1024));
    let normalized = stack
        .head
        .logits
        .as_ref()
        .is_some_and(|head| head.normalized_rows);
    let lengths = if normalized {
        spec.vocab_size + LENGTH_ROWS * stack.hidden_size
    } else {
        0
    };
    (merged + normed + projected + transformed + logits + lengths) as u64 * 4
}

/// What writing the row of a record of `longest` tokens to a table of lists takes, bytes, beyond what its
/// tokens hold for as long as they run: 40 to 48 bytes in all were seen for each of the best `k` of a token.
pub(crate) fn table_bytes(takes: &[Take], longest: usize) -> u64 {
    const WRITTEN: u64 = 32;
    let best = takes.iter().map(|take| match take {
        Take::TopK(k) => *k as u64,
        _ => 0,
    });
    longest as u64 * best.max().unwrap_or(0) * WRITTEN
}

/// Accumulators of the results: 64 KiB of counts a site where the profile is asked for.
pub(crate) fn take_bytes(spec: &ModelSpec, takes: &[Take]) -> u64 {
    if !takes.contains(&Take::Profile) {
        return 0;
    }
    let sites: usize = spec
        .stacks
        .iter()
        .map(|stack| {
            let layers = stack.layers.iter();
            let sites = layers.map(|layer| outputs_shown(&layer.steps) + 1);
            sites.sum::<usize>() + 2
        })
        .sum();
    sites as u64 * (80 << 10)
}
