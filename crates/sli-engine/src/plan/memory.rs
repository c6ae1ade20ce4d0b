//! What a run holds in memory, in bytes, as a function of how many rows run together.

use sli_kernels::Compute;
use sli_spec::{Embedding, Mechanism, Merge, ModelSpec, Stack, StateSpec};

use super::phases::is_whole;
use crate::classes::{buffer_bytes, classes_of_token};
use crate::drift;
use crate::exec::batch::distinct_ropes;
use crate::exec::connection;
use crate::exec::head::{HEAD_COLUMNS, HEAD_ROWS, LENGTH_ROWS};
use crate::exec::pictures::picture_values;
use crate::exec::resample::resampled_values;
use crate::exec::stem::stem_values;
use crate::exec::step::outputs_shown;
use crate::hessian;
use crate::imatrix::layer_bytes;
use crate::lens;
use crate::mixers;
use crate::mixers::buffers::{Buffers, Columns};
use crate::mixers::feed_forward::BLOCK_ROWS;
use crate::results::LONG_ROW;
use crate::sparse::sparse_bytes;
use crate::stats::RowStats;
use crate::take::Take;

/// The program itself: code, its tables, stacks, allocator, the buffers of readers and results. 21 MiB are seen, after `sli` has
/// given back the code that only its start needs; readers that go around the page cache, or read what is stored transposed, take up to 10
/// more.
pub(crate) const PROGRAM_BYTES: u64 = 27 << 20;

/// Activations that a product packs at a time, bytes, and rows at least.
const PACKED_ACTIVATIONS: u64 = 8 << 20;
const PACKED_ROWS: u64 = 224;

/// Keys and values that attention packs at a time, bytes, but for those of one head.
const PACKED_KEYS: u64 = 4 << 20;

/// Ids, positions, log-sum-exp state, target of a row.
const ROW_BYTES: u64 = 64;

/// What a row costs more where records share rows: as many records as rows, at most, and the tree.
pub(crate) const SHARING_ROW_BYTES: u64 = 160;

/// Logit and id of one of the most probable tokens, and the same in an encoded row.
const TOP_BYTES: u64 = 8;

/// How many of the most probable tokens there are where `k` are asked for.
fn best(spec: &ModelSpec, k: usize) -> u64 {
    k.min(spec.vocab_size) as u64
}

/// Bytes a token of a super-batch costs for as long as the super-batch lasts.
pub(crate) fn row_bytes(spec: &ModelSpec, takes: &[Take]) -> u64 {
    let of = |stack| own_row_bytes(spec, stack, takes) + end_row_bytes(spec, stack);
    (0..spec.stacks.len()).map(of).max().unwrap_or(0)
}

/// Bytes of a row of all the ends that a stack reads.
fn end_row_bytes(spec: &ModelSpec, stack: usize) -> u64 {
    let sources = spec.stacks[stack].sources().into_iter();
    sources.map(|source| end_bytes(spec, source)).sum()
}

/// Bytes of a row of the end of a stack.
pub(crate) fn end_bytes(spec: &ModelSpec, stack: usize) -> u64 {
    4 * spec.stacks[stack].end_width() as u64
}

/// Bytes that a row of a stack costs while the stack runs, without what others leave to it.
pub(crate) fn own_row_bytes(spec: &ModelSpec, stack: usize, takes: &[Take]) -> u64 {
    let stack = &spec.stacks[stack];
    let widest = stack.hidden_size as u64;
    let stashes = (stack.stashes() * stack.stash_size) as u64;
    let ropes = distinct_ropes(stack);
    let ropes: u64 = ropes.iter().map(|rope| rope.dims as u64 * 4).sum();
    let kept = kept_columns(stack) as u64;
    let chosen = stack.chosen_keys().unwrap_or(0) as u64;
    let embedding = stack.input.embedding();
    let inputs = embedding.map_or(0, Embedding::input_columns) as u64;
    let mut bytes = (widest + stashes + chosen + kept + inputs) * 4 + ropes + ROW_BYTES;
    for take in takes {
        bytes += match take {
            Take::TopK(k) => best(spec, *k) * TOP_BYTES + 48,
            Take::Router => 64,
            // The row before for the cosine, and statistics of the rows before they are folded, with magnitudes of the
            // channels of every 32 of them.
            Take::Profile => {
                widest * 4 + widest / 8 + (sites(spec) + 1) * size_of::<RowStats>() as u64
            }
            Take::Hidden(_)
            | Take::Logits
            | Take::Scores
            | Take::Embedding(_)
            | Take::Classes
            | Take::Sparse
            | Take::Imatrix
            | Take::Hessian(_)
            | Take::Trace => 0,
            Take::Drift => drift::row_bytes(),
            Take::Lens(k, _) => lens::row_bytes(stack.hidden_size, best(spec, *k) as usize),
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
        let columns = layer.mechanisms().map(carried_columns);
        if together {
            columns.sum::<usize>()
        } else {
            columns.max().unwrap_or(0)
        }
    });
    4 * most.max().unwrap_or(0) as u64
}

/// Columns of the keys and values that a chunk hands on.
fn carried_columns(mechanism: &dyn Mechanism) -> usize {
    // Where all rows run together none is carried.
    if mechanism.routing().is_some() {
        return 0;
    }
    let states = mechanism.states().into_iter();
    let columns = states.map(|state| match state {
        StateSpec::Rows { columns } => columns,
        // They are of single rows (`pieces.rs`).
        StateSpec::Window { .. } | StateSpec::Fixed { .. } => 0,
    });
    columns.sum()
}

/// Values of a row between two layers.
pub(super) fn boundary_values(stack: &Stack) -> usize {
    let chosen = stack.chosen_keys().unwrap_or(0);
    stack.hidden_size + stack.stashes() * stack.stash_size + chosen + kept_columns(stack)
}

/// Columns of what a stack keeps for later layers.
fn kept_columns(stack: &Stack) -> usize {
    let embedding = stack.input.embedding();
    let shared = stack.shared_keys();
    let keys = shared.iter().map(|shared| shared.keys + shared.values);
    let inputs = embedding.map_or(0, Embedding::layer_columns);
    inputs + keys.sum::<usize>() + stack.handed_on()
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
    let mut most = [0_u64; STEP_BUFFERS + Buffers::COUNT];
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

/// Buffers of a step beside those of its mechanisms: normed, branch input, output, sum, weights of streams, inside of
/// adapters.
const STEP_BUFFERS: usize = 6;

fn step_columns(stack: &Stack, step: &sli_spec::Step) -> [Columns; STEP_BUFFERS + Buffers::COUNT] {
    let hidden = stack.hidden_size;
    let input = step.input_columns(hidden);
    let rows = Columns::of_rows(hidden);
    let mut all = [Columns::default(); STEP_BUFFERS + Buffers::COUNT];
    // The buffers of output and sum change places, also where there is one branch.
    (all[0], all[2], all[3]) = (Columns::of_rows(input), rows, rows);
    all[5] = Columns::of_rows(step.rank());
    if step
        .branches
        .iter()
        .any(|branch| branch.pre.is_some() || branch.scale != 1.0)
    {
        all[1] = Columns::of_rows(input);
    }
    let mixers = step.branches.iter().map(|branch| &branch.mixer);
    let buffers = mixers.map(|mixer| mixers::of(mixer).buffers(input));
    let mut buffers = buffers.fold(Buffers::default(), Buffers::or);
    if let Some(connection) = &step.connection {
        all[4] = Columns::of_rows(connection::columns(connection));
        buffers = buffers.or(connection::buffers(connection));
    }
    all[STEP_BUFFERS..].copy_from_slice(&buffers.columns());
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
    let mechanisms = spec.stacks.iter().flat_map(Stack::mechanisms);
    let keys = mechanisms.map(|mechanism| packed_keys(mechanism, rows, longest, element));
    activations.max(keys.max().unwrap_or(0)) + threads as u64 * THREAD
}

/// Bytes of packed keys and values: of all heads, or as many as are packed at a time, at least one.
fn packed_keys(mechanism: &dyn Mechanism, rows: usize, longest: usize, element: u64) -> u64 {
    let Some(keys) = mechanism.keys() else {
        return 0;
    };
    // Those of a pair are packed one by one.
    let heads = keys.heads * (1 + usize::from(keys.is_paired));
    // In panels of 32, whatever the dimensions and lengths.
    let head = keys.seen().next_multiple_of(32) as u64 * element;
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
        .flat_map(Stack::mechanisms)
        .map(|mechanism| carried_columns(mechanism) as u64)
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
    let heads = spec.stacks.iter().enumerate().map(|(index, stack)| {
        let is_last = index + 1 == spec.stacks.len();
        stack_head_bytes(spec, stack, rows, is_last && computes_logits)
    });
    heads.max().unwrap_or(0)
}

fn stack_head_bytes(spec: &ModelSpec, stack: &Stack, rows: usize, computes_logits: bool) -> u64 {
    let normed = rows * stack.hidden_size * usize::from(stack.head.norm.is_some());
    let projected = stack.head.output.as_ref();
    let projected = projected.map_or(0, |linear| rows * linear.out_features);
    let is_other = stack.head.handed.is_some() || stack.head.kept > 0;
    let handed = rows * usize::from(is_other) * stack.end_width();
    let merged = match &stack.head.streams {
        Merge::One => 0,
        Merge::Mean(_) | Merge::Attended(_) => stack.hidden_size,
        Merge::Projected(_) => 2 * stack.hidden_size,
        Merge::Weighed(weights) => stack.hidden_size + 2 * weights.outputs(),
        Merge::Gated(mean) => 3 * stack.hidden_size.max(mean.rank()) + mean.rank(),
    };
    let merged = rows * merged + handed;
    if !computes_logits {
        return (merged + normed + projected) as u64 * 4;
    }
    let transformed = stack
        .head
        .logits
        .as_ref()
        .iter()
        .flat_map(|logits| &logits.transforms)
        .map(|transform| rows * transform.dense.out_features)
        .sum::<usize>();
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

/// What a record of up to `longest` rows holds while its features pass through their stem, bytes.
pub(crate) fn stem_bytes(spec: &ModelSpec, longest: usize) -> u64 {
    let features = spec
        .stacks
        .iter()
        .filter_map(|stack| stack.input.features());
    let values = features.map(|features| stem_values(features, longest));
    let resampled = spec.stacks.iter().filter_map(|stack| {
        let rows = stack.input.resampled()?;
        Some(resampled_values(rows, stack.hidden_size, longest))
    });
    let pictures = spec
        .stacks
        .iter()
        .filter_map(|stack| stack.input.pictures());
    let pictures = pictures.map(|pictures| picture_values(pictures, longest));
    4 * values.chain(resampled).chain(pictures).max().unwrap_or(0) as u64
}

/// The longest record: its tokens, and whether tables of scores say where they are in a text or what a completion is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Longest {
    pub tokens: usize,
    pub annotated: bool,
}

/// What the results of the longest record hold until it is complete and in a table of lists, bytes, beyond what its tokens hold
/// for as long as they run.
pub(crate) fn open_bytes(spec: &ModelSpec, takes: &[Take], longest: Longest) -> u64 {
    // The log-sum-exp of a row, and where its best tokens are.
    const BEST: u64 = 8 + 24;
    // Both ends of a token's place as they are read and as they are written, its mark, and the ends of what is marked, at most
    // of every other token, twice.
    const PLACED: u64 = 2 * 8 + 2 + 2 * 4;
    let bytes = takes.iter().map(|take| match take {
        Take::TopK(k) => best(spec, *k) * TOP_BYTES + BEST,
        // And what is made of them, entropy and divergence.
        Take::Lens(k, _) => best(spec, *k) * 2 * TOP_BYTES + BEST + 16,
        Take::Drift => 5 * TOP_BYTES,
        Take::Scores => TOP_BYTES + u64::from(longest.annotated) * PLACED,
        Take::Router => chosen(spec) * TOP_BYTES,
        Take::Sparse => 2 * TOP_BYTES,
        Take::Classes => classes_of_token(spec) * TOP_BYTES,
        _ => 0,
    });
    bytes.max().unwrap_or(0) * longest.tokens as u64
}

/// What writing the row of the longest record to a table of lists takes, bytes, when the run is over and nothing else is
/// held. 31 to 32 bytes were seen for each value of a pair of columns that are written together, and of a long row, whose
/// columns are written one by one, 28 for each value of one, its lists aside, and 4 MB of the compressor.
pub(crate) fn table_bytes(spec: &ModelSpec, takes: &[Take], longest: Longest) -> u64 {
    const TOGETHER: u64 = 33;
    const ALONE: u64 = 28;
    const LIST: u64 = 8;
    const COMPRESSOR: u64 = 4 << 20;
    const SHORT: u64 = TOGETHER * LONG_ROW as u64 / TOP_BYTES;
    let tokens = longest.tokens as u64;
    let bytes = takes.iter().map(|take| {
        // Values of a token in pairs of columns, and in the widest column.
        let (pairs, widest) = match take {
            Take::TopK(k) | Take::Lens(k, _) => (best(spec, *k), best(spec, *k)),
            Take::Router => (chosen(spec), chosen(spec)),
            Take::Scores if longest.annotated => (3, 2),
            Take::Scores => (1, 1),
            // Two log-probabilities, two ids, a divergence.
            Take::Drift => (3, 1),
            Take::Sparse => (2, 1),
            Take::Classes => (classes_of_token(spec), classes_of_token(spec)),
            _ => return 0,
        };
        let alone = tokens * (widest * ALONE + LIST * u64::from(widest > 1)) + COMPRESSOR;
        (pairs * tokens * TOGETHER).min(SHORT.max(alone))
    });
    bytes.max().unwrap_or(0)
}

/// Experts of a token in the table of choices, at most.
fn chosen(spec: &ModelSpec) -> u64 {
    let mechanisms = spec.stacks.iter().flat_map(Stack::mechanisms);
    let chosen = mechanisms.filter_map(Mechanism::routing);
    let shown = chosen.filter(|routing| routing.is_shown);
    let top_k = shown.map(|routing| routing.router.top_k as u64);
    top_k.max().unwrap_or(0)
}

/// Accumulators and buffers of the results: where the profile is asked for, for each site 80 KiB of counts, and a magnitude of each
/// channel.
pub(crate) fn take_bytes(spec: &ModelSpec, takes: &[Take]) -> u64 {
    let output = spec.output_stack();
    let classified = spec.classified_stack();
    let classified = classified.filter(|_| takes.contains(&Take::Classes));
    let classes = classified.and_then(|(_, stack)| {
        let head = stack.head.classes.as_ref()?;
        Some(buffer_bytes(head, stack.hidden_size))
    });
    let classes = classes.unwrap_or(0);
    let vocabulary = output.head.logits.as_ref();
    let vocabulary = vocabulary.filter(|_| takes.contains(&Take::Sparse));
    let sparse = vocabulary.map_or(0, |logits| sparse_bytes(logits.projection.out_features));
    let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let layers = layers.filter(|_| takes.contains(&Take::Imatrix));
    let entering = layers.map(layer_bytes).max().unwrap_or(0) + hessian::largest_bytes(spec, takes);
    let drift = if takes.contains(&Take::Drift) {
        drift::bytes(spec)
    } else {
        0
    };
    let own = classes + sparse + entering + drift;
    if !takes.contains(&Take::Profile) {
        return own;
    }
    let sites: u64 = spec
        .stacks
        .iter()
        .map(|stack| {
            let layers = stack.layers.iter();
            let sites = layers.map(|layer| outputs_shown(&layer.steps) + 1);
            let sites = sites.sum::<usize>() + 2;
            sites as u64 * ((80 << 10) + 4 * stack.hidden_size as u64)
        })
        .sum();
    own + sites
}
