//! Tensors that a file carries and that enter no forward pass, whatever the model.
//!
//! A rule holds for tensors that no weight of the model uses. It looks at the name and, where the
//! name alone could be a weight's, at shape and element type too: a causal mask `attn.bias` is
//! square, an addend of the same name is a vector. `docs/decisions/014-tensor-names.md` has the
//! reasons.

use crate::coverage::matches;
use crate::dtype::Dtype;
use crate::tensors::TensorInfo;

/// One kind of leftovers.
struct Rule {
    /// In a few words, for people.
    reason: &'static str,
    /// Patterns of the name with a dot in front: `*.x` is `x` at any depth.
    names: &'static [&'static str],
    /// What the tensor must look like.
    looks: fn(&TensorInfo) -> bool,
}

const RULES: &[Rule] = &[
    Rule {
        reason: "tables of rotary positions, which are computed anew",
        names: &[
            "*.inv_freq",
            "*_inv_freq",
            "*.rotary_emb.*",
            "*.rotary_pos_emb.*",
            "*.cos_cached",
            "*.sin_cached",
            "*._cos_cached",
            "*._sin_cached",
            "*.cos_sin_cache",
            "*.rope.freqs",
            "*.freqs_cis",
            "*.attn.embed_positions",
        ],
        looks: is_float,
    },
    Rule {
        reason: "causal masks, which are computed anew",
        names: &[
            "*.bias",
            "*.causal_mask",
            "*.attn_mask",
            "*.attention_mask",
            "*.mask",
            "*.tril",
        ],
        looks: is_square_mask,
    },
    Rule {
        reason: "causal masks, which are computed anew",
        names: &["*.masked_bias"],
        looks: is_single,
    },
    Rule {
        reason: "numbers of positions, which are computed anew",
        names: &["*.position_ids", "*.token_type_ids"],
        looks: is_numbering,
    },
    Rule {
        reason: "scales of a quantised key/value cache, which serving uses",
        names: &[
            "*.k_scale",
            "*.v_scale",
            "*.q_scale",
            "*.kv_scale",
            "*.prob_scale",
            "*.k_proj.output_scale",
            "*.v_proj.output_scale",
            "*.q_proj.output_scale",
            "*.qkv_proj.output_scale",
            "*.k_zero_point",
            "*.v_zero_point",
        ],
        looks: is_line,
    },
    Rule {
        reason: "scales of rounded activations, which kernels use",
        names: &[
            "*.activation_scale",
            "*_activation_scale",
            "*.input_scale",
            "*.input_scale_ub",
            "*.input_global_scale",
            "*.input_zero_point",
            "*.output_global_scale",
            "*.output_scale",
        ],
        looks: is_line,
    },
    Rule {
        reason: "layers that predict several tokens at once, which no other layer reads",
        names: &[
            ".mtp.*",
            ".mtp_*",
            ".model.mtp.*",
            ".model.mtp_*",
            ".medusa_head.*",
            ".medusa_heads.*",
        ],
        looks: any,
    },
    Rule {
        reason: "heads that give values, rewards, classes or spans",
        names: &[
            ".v_head.*",
            ".value_head.*",
            ".value_model_head.*",
            ".score.*",
            ".reward_head.*",
            ".rm_head.*",
            ".critic_head.*",
            ".ilql_heads.*",
            ".scalar_head.*",
            ".value_model.*",
            ".regression_head.*",
            ".regression_layer.*",
            ".gating.*",
            ".reward_transform_matrix",
            ".ranking_head.*",
            ".classifier.*",
            ".pre_classifier.*",
            ".classification_head.*",
            ".sop_classifier.*",
            ".qa_outputs.*",
            ".multiple_choice_head.*",
            ".sequence_summary.*",
            ".cls.seq_relationship.*",
        ],
        looks: any,
    },
    Rule {
        reason: "what other parts than the text model are made of",
        names: &[
            ".vision_tower.*",
            ".vision_model.*",
            ".visual.*",
            ".multi_modal_projector.*",
            ".mm_projector.*",
            ".audio_tower.*",
            ".embed_vision.*",
            ".embed_audio.*",
            ".model.vision_tower.*",
            ".model.vision_model.*",
            ".model.visual.*",
            ".model.multi_modal_projector.*",
            ".model.mm_projector.*",
            ".model.audio_tower.*",
            ".model.embed_vision.*",
            ".model.embed_audio.*",
        ],
        looks: any,
    },
    Rule {
        reason: "state of the training",
        names: &[
            ".optimizer.*",
            ".optimizers.*",
            ".optimizer_state*",
            ".lr_scheduler*",
            ".lr_schedulers*",
            ".scheduler.*",
            ".scaler.*",
            ".grad_scaler.*",
            ".loss_scaler*",
            ".rng_state*",
            ".epoch",
            ".step",
            ".global_step",
            ".loss_fct.*",
            ".loss_fn.*",
            ".criterion.*",
            "*._extra_state",
            "*.num_batches_tracked",
        ],
        looks: any,
    },
    Rule {
        reason: "state of the training",
        names: &[".n_averaged", ".num_updates", ".num_steps", ".decay"],
        looks: is_single,
    },
];

/// Why nothing needs a tensor that no weight uses; `None`: it may be needed.
pub(crate) fn reason(tensor: &TensorInfo) -> Option<&'static str> {
    let name = format!(".{}", tensor.name);
    let is = |rule: &&Rule| {
        (rule.looks)(tensor) && rule.names.iter().any(|pattern| matches(pattern, &name))
    };
    RULES.iter().find(is).map(|rule| rule.reason)
}

fn any(_: &TensorInfo) -> bool {
    true
}

fn is_float(tensor: &TensorInfo) -> bool {
    tensor.dtype.float().is_some()
}

fn is_numbering(tensor: &TensorInfo) -> bool {
    tensor.dtype.float().is_none() || is_line(tensor)
}

fn is_single(tensor: &TensorInfo) -> bool {
    tensor.elements() <= 1
}

/// All its numbers lie in a line: one for all, one a head or one a feature.
fn is_line(tensor: &TensorInfo) -> bool {
    tensor.shape.iter().filter(|&&axis| axis != 1).count() <= 1
}

/// `[1, 1, n, n]`, or `[n, n]` of truth values.
fn is_square_mask(tensor: &TensorInfo) -> bool {
    let Some((&[rows, columns], leading)) = tensor
        .shape
        .split_last_chunk::<2>()
        .map(|(leading, last)| (last, leading))
    else {
        return false;
    };
    let truth = matches!(tensor.dtype, Dtype::Bool | Dtype::U8);
    rows == columns && leading.iter().all(|&axis| axis == 1) && (leading.len() == 2 || truth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::FileIndex;

    fn of(name: &str, dtype: Dtype, shape: &[usize]) -> Option<&'static str> {
        reason(&TensorInfo {
            name: name.into(),
            file: FileIndex(0),
            dtype,
            shape: shape.into(),
            offset: 0,
            strides: None,
            bytes: 0,
        })
    }

    #[test]
    fn leftovers_are_known_by_name_and_looks() {
        for (name, dtype, shape) in [
            (
                "model.layers.0.self_attn.rotary_emb.inv_freq",
                Dtype::F32,
                &[4][..],
            ),
            (
                "model.layers.0.self_attn.rotary_emb.cos_cached",
                Dtype::F16,
                &[1, 1, 64, 8],
            ),
            ("h.0.attn.bias", Dtype::F32, &[1, 1, 64, 64]),
            ("h.0.attn.bias", Dtype::Bool, &[64, 64]),
            ("h.0.attn.masked_bias", Dtype::F32, &[]),
            ("embeddings.position_ids", Dtype::I64, &[1, 64]),
            ("model.layers.0.self_attn.k_scale", Dtype::F32, &[]),
            (
                "model.layers.0.self_attn.k_proj.output_scale",
                Dtype::F32,
                &[1],
            ),
            ("model.rotary_emb.long_inv_freq", Dtype::F32, &[4]),
            ("model.layers.0.mlp.up_proj.input_scale", Dtype::F32, &[]),
            (
                "model.layers.0.mlp.up_proj.input_global_scale",
                Dtype::F32,
                &[1],
            ),
            (
                "model.layers.1.self_attn.rotary_emb.scaling_factor",
                Dtype::F32,
                &[],
            ),
            ("n_averaged", Dtype::I64, &[]),
            ("scalar_head.weight", Dtype::F32, &[1, 8]),
            ("mtp.layers.0.weight", Dtype::Bf16, &[4, 4]),
            ("v_head.summary.weight", Dtype::F32, &[1, 8]),
            ("score.weight", Dtype::F32, &[2, 8]),
            ("model.layers.0.self_attn._extra_state", Dtype::U8, &[100]),
            ("optimizer.state.0.exp_avg", Dtype::F32, &[8]),
        ] {
            assert!(of(name, dtype, shape).is_some(), "{name}");
        }
    }

    #[test]
    fn what_could_be_a_weight_is_no_leftover() {
        for (name, dtype, shape) in [
            ("h.0.attn.bias", Dtype::F32, &[64][..]),
            ("h.0.attn.bias", Dtype::F32, &[64, 64]),
            ("h.0.attn.masked_bias", Dtype::F32, &[64]),
            ("embeddings.position_ids", Dtype::F32, &[64, 8]),
            ("model.layers.0.self_attn.k_scale", Dtype::F32, &[8, 8]),
            ("model.layers.0.mlp.score.weight", Dtype::F32, &[2, 8]),
            ("model.layers.0.mtp.weight", Dtype::F32, &[2, 8]),
            ("model.layers.0.mlp.up_proj.weight_scale", Dtype::F32, &[1]),
            ("model.layers.2.mlp.up_proj.weight", Dtype::F32, &[4, 4]),
            ("lm_head.weight", Dtype::F32, &[4, 4]),
        ] {
            assert_eq!(of(name, dtype, shape), None, "{name}");
        }
    }
}
