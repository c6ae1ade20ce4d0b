//! Which keys a row sees.

use sli_kernels::AttentionMask;
use sli_spec::Mask;

/// The kernels' mask.
pub(super) fn mask(mask: Mask) -> AttentionMask {
    match mask {
        // The addends of a record mask its padding.
        // The segments are windows, or of what sees the same.
        Mask::Full | Mask::FullButPadding(_) | Mask::Windows | Mask::BlankApart | Mask::Seen => {
            AttentionMask::Full
        }
        // The segments say where the context ends.
        // Runs of tokens join what is seen.
        Mask::Causal | Mask::CausalAfterContext | Mask::CausalRuns { window: None, .. } => {
            AttentionMask::Causal
        }
        Mask::CausalWindow(window)
        | Mask::CausalWindowAfterContext(window)
        | Mask::CausalRuns {
            window: Some(window),
            ..
        } => AttentionMask::Window {
            left: window,
            right: None,
        },
        Mask::Window(distance) => AttentionMask::Window {
            left: distance + 1,
            right: Some(distance),
        },
        Mask::Around { back, ahead } => AttentionMask::Window {
            left: back + 1,
            right: Some(ahead),
        },
        Mask::CausalChunk(length) => AttentionMask::Chunk(length),
        Mask::Block(size) => AttentionMask::Block { size, shift: 0 },
    }
}
