//! Cutting attention into tasks.

use std::ops::Range;

use super::arguments::AttentionArgs;
use super::block::{QueryBlock, scratch_len};
use super::pack::{Layout, PackHead};
use crate::kernels::{Kernels, SharedSlice};
use crate::mat::MatMut;
use crate::simd::Panel;

/// Words of packed keys and values held at a time (at least one head of one sequence).
const PACKED_WORDS: usize = 1 << 20;
/// Keys that one task packs.
const PACKED_KEYS: usize = 512;
/// Rows (queries times heads that share keys) of one task.
const BLOCK_ROWS: usize = 112;

/// One key head of one sequence, and where its packed words are.
struct Item {
    segment: usize,
    kv_head: usize,
    layout: Layout,
    words: Range<usize>,
}

/// One block of queries.
struct Task {
    item: usize,
    heads: Range<usize>,
    queries: Range<usize>,
}

pub(super) fn run<B: Panel>(kernels: &Kernels, args: &AttentionArgs, out: &MatMut) {
    let pairs = B::PER_STEP == 2;
    let mut items = Vec::new();
    let mut words = 0;
    for index in 0..args.segments.len() {
        let layout = Layout::new(args, args.keys(index), pairs);
        for kv_head in 0..args.kv_heads {
            if words > 0 && words + layout.words() > PACKED_WORDS {
                batch::<B>(kernels, args, out, &items, words);
                items.clear();
                words = 0;
            }
            items.push(Item {
                segment: index,
                kv_head,
                layout,
                words: words..words + layout.words(),
            });
            words += layout.words();
        }
    }
    batch::<B>(kernels, args, out, &items, words);
}

fn batch<B: Panel>(
    kernels: &Kernels,
    args: &AttentionArgs,
    out: &MatMut,
    items: &[Item],
    words: usize,
) {
    kernels.with_scratch(words, |packed| {
        let packed: &mut [u32] = bytemuck::cast_slice_mut(packed);
        pack(kernels, args, items, packed);
        let group = args.heads / args.kv_heads;
        let share = group.div_ceil(group.div_ceil(BLOCK_ROWS));
        let mut tasks = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let queries = args.segments[item.segment].q.len();
            // Fewer queries a task where there would be too few tasks to share out.
            let most = (BLOCK_ROWS / share).max(1);
            let fair = (queries * group * items.len()).div_ceil(share * kernels.threads() * 4);
            let size = if kernels.threads() == 1 {
                most
            } else {
                fair.clamp(most.min(16), most)
            };
            // Later queries of a causal sequence see more keys: the long tasks go first.
            for start in (0..queries).step_by(size).rev() {
                for first in (0..group).step_by(share) {
                    let heads = item.kv_head * group + first
                        ..item.kv_head * group + group.min(first + share);
                    tasks.push(Task {
                        item: index,
                        heads,
                        queries: start..queries.min(start + size),
                    });
                }
            }
        }
        let packed = &*packed;
        kernels.tasks(tasks.len(), |index| {
            let task = &tasks[index];
            let item = &items[task.item];
            let rows = task.queries.len() * task.heads.len();
            kernels.with_scratch(scratch_len(&item.layout, rows), |scratch| {
                kernels.isa().run(QueryBlock::<B> {
                    args,
                    segment: item.segment,
                    heads: task.heads.clone(),
                    queries: task.queries.clone(),
                    layout: item.layout,
                    packed: &packed[item.words.clone()],
                    scratch,
                    out,
                    of: B::NEW,
                });
            });
        });
    });
}

/// Packs the keys and values of all items.
fn pack(kernels: &Kernels, args: &AttentionArgs, items: &[Item], packed: &mut [u32]) {
    let pieces: Vec<(usize, usize)> = items
        .iter()
        .enumerate()
        .flat_map(|(index, item)| {
            (0..item.layout.keys)
                .step_by(PACKED_KEYS)
                .map(move |key| (index, key))
        })
        .collect();
    let shared = SharedSlice::new(packed);
    kernels.tasks(pieces.len(), |piece| {
        let (index, first) = pieces[piece];
        let Item {
            segment,
            kv_head,
            layout,
            ref words,
        } = items[index];
        kernels.isa().run(PackHead {
            args,
            segment,
            kv_head,
            layout,
            keys: first..layout.keys.min(first + PACKED_KEYS),
            to: shared.start_of(words.clone()),
        });
    });
}
