"""Which formula a tensor gets: its scale and offset by what it is (linear, embedding, norm, bias or a special parameter)."""

import math
import re

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

# Parameters that are neither linear, embedding, norm nor bias: (name, scale, offset), near the usual initialisation.
SPECIAL = [
    (r"\.(A_log)$", 0.6, 0.7),
    (r"\.(dt_bias)$", 0.5, -1.0),
    (r"(\.sinks?|softmax_offset)$", 0.8, 0.4),
    (r"(e_score_correction_bias|expert_bias|expert_biases|router_bias|moe_statics\..*)$", 0.1, 0.0),
    (r"lambda_(q|k)[12]$", 0.3, 0.0),  # diffllama
    (r"act_fn\.alpha_[pn]$", 0.5, 0.3),  # apertus, before the softplus
    (r"(input|post_attention)_residual$", 0.3, 1.0),  # doge
    (r"self_attn\.A$", 0.5, 0.0),  # doge
    (r"per_expert_scale$", 0.3, 1.0),
    (r"\.time_decay$", 2.5, -2.0),  # rwkv
    (r"\.time_first$", 0.5, -1.2),
    (r"\.time_mix_(key|value|receptance)$", 0.45, 0.5),
    (r"rg_lru\.recurrent_param$", 1.5, -3.0),  # recurrent_gemma
    (r"layer_scalar$", 0.2, 0.9),
    (r"residual_gate\.gate$", 0.5, 0.0),  # muse_spark
    (r"layers\.\d+\.lambdas$", 0.3, 0.6),  # neomme
    (r"(attention|attn)\.alpha$", 0.3, 0.2),  # neomme
    (r"hc_pre\..*hc_(head_)?base$", 0.5, -0.5),  # hy_v4
    (r"hc_pre\..*hc_(head_)?scale$", 0.3, 1.0),
    (r"(class_embedding|cls_token|register_tokens|mask_token|image_newline|embeddings\.position_embeddings|\bprobe)$", 0.5, 0.0),  # pictures
    (r"(positional_embedding\.gate|gate_attn|gate_ffn|cross_attn_(attn|mlp)_gate|alpha_(cross_attn|dense)|gated_positional_embedding\.embedding)$", 0.6, 0.3),  # mllama
    (r"\.lambda1$|\.lambda_[12]$", 0.3, 0.8),
]
EMBEDDING = re.compile(r"(^|[._])(wte|wpe|shared|embeddings?|embed_tokens|embed_positions|tokens_embed|positions_embed|embed_in)\.weight$")


def find_module(model, name):
    """The module that owns checkpoint tensor `name`, where checkpoint and module names agree (give or take the prefix)."""
    owner = name.rpartition(".")[0]
    prefix = model.base_model_prefix
    for candidate in (owner, f"{prefix}.{owner}", owner.removeprefix(f"{prefix}.")):
        try:
            return model.get_submodule(candidate)
        except AttributeError:
            continue
    return None


def is_buffer(model, name):
    module = find_module(model, name)
    return module is not None and name.rpartition(".")[2] in dict(module.named_buffers(recurse=False))


def scale_and_offset(model, name, initial, rules=()):
    """(scale, offset) of the formula, or None: the tensor keeps its `initial` values (integers, and buffers that are not constant)."""
    for pattern, scale, offset in [*rules, *SPECIAL]:
        if re.search(pattern, name):
            return scale, offset
    if not initial.is_floating_point() or type(find_module(model, name)).__name__ == "RoFormerSinusoidalPositionalEmbedding":
        return None
    if is_buffer(model, name) or name.endswith("inv_freq"):
        value = initial.flatten()[0]
        constant = initial.numel() > 8 and torch.all(initial == value) and value.to(torch.bfloat16).float() == value
        return (0.0, value.item()) if constant else None
    module = find_module(model, name)
    leaf = name.rpartition(".")[2]
    if isinstance(module, nn.Embedding) or (module is None and EMBEDDING.search(name)):
        return 0.5, 0.0
    if leaf.endswith("bias") or leaf in ("b", "beta"):
        return 0.2, 0.0
    if initial.ndim == 1:
        if torch.all(initial == 1):
            return 0.3, 1.0
        if torch.all(initial == 0):  # a norm that multiplies by (1 + weight)
            return 0.3, 0.0
        raise ValueError(f"{name} {list(initial.shape)}: no rule for this parameter (initially {initial[:4].tolist()}...)")
    if initial.ndim == 2 and isinstance(module, Conv1D):
        fan_in = initial.shape[0]
    elif initial.ndim == 3 and "conv" not in name:  # one matrix an expert
        fan_in = initial.shape[-1]
    else:
        fan_in = math.prod(initial.shape[1:])
    return round(min(0.5, max(0.02, 1.5 / math.sqrt(fan_in))), 4), 0.0
