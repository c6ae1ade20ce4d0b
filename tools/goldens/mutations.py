"""Random other configurations of a model type, and other spellings of the same configuration, for compare.py.

`mutated` changes a few values of a base: every key of the class that the forward pass reads is drawn from, also the ones that
are null in the base. `respelled` writes a configuration the way published files do: older keys, keys left to the class's
defaults, keys of other programs.
"""

import copy
import json
import random
import re

import transformers

import generate

ACTIVATIONS = ["silu", "gelu", "gelu_new", "relu", "gelu_pytorch_tanh", "relu2", "gelu_fast", "quick_gelu"]
# Read by nothing in the forward pass, or only by training, generation and other tasks.
INERT = re.compile(
    r"^(.*dropout.*|.*pdrop|.*initializer.*|init_.*|.*_init|.*token_id|use_cache|output_(attentions|hidden_states|router_logits)|return_.*|dtype|architectures|"
    r"problem_type|is_encoder.*|chunk_size_feed_forward|.*aux_loss.*|.*jitter.*|z_loss.*|layerdrop|mtp.*|.*nextn.*|_name_or_path|"
    r"model_type|is_decoder|add_cross_attention|.*gradient.*|.*label.*|.*loss.*|finetuning.*|prune.*|transformers_version|pretraining_tp|init_device|"
    r"qk_head_dim|attn_pdrop|moe_loss_weight|pooling|rope_scaling|rope_theta|learned_pos_emb|embedding_fraction|logit_scale_init|use_mem)$"
)
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
LENGTHS = ("max_position_embeddings", "max_decoder_position_embeddings", "max_encoder_position_embeddings", "max_target_positions", "n_positions", "max_seq_len", "n_ctx", "seq_length")
# Position tables, which a record may not outgrow.
TABLES = re.compile(
    r"^(bert|roberta|distilbert|gpt2|gpt-sw3|gpt_bigcode|gpt_neo|openai-gpt|imagegpt|biogpt|opt|xglm|ctrl|mpt|gptj|codegen|"
    r"m?bart|plbart|mvp|blenderbot(-small)?|pegasus|marian|led|bigbird_pegasus|trocr|whisper|fsmt|"
    r"albert|bert-generation|camembert|clip_text_model|data2vec-text|deberta|deberta-v2|dpr|electra|ernie|esm|flaubert|ibert|layoutlm|"
    r"longformer|luke|megatron-bert|mpnet|rembert|roberta-prelayernorm|roformer|splinter|tipsv2_text_model|xlm|xlm-roberta|xlm-roberta-xl|xmod|"
    r"canary_decoder|cohere_asr|pp_formulanet_text|big_bird|fnet|tapas|squeezebert|mobilebert|convbert|nystromformer|yoso|roc_bert|markuplm|lilt|bros|layoutlmv3|canine|perceiver)$"
)
# Keys of configurations of parts.
PARTS = ("encoder", "decoder", "text_config", "encoder_config", "decoder_config", "vision_config")
# Types that hide padding tokens: `sli` refuses them.
HIDING = ("dpr", "flaubert", "fsmt", "t5_gemma_module", "xlm")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
SIZES = re.compile(
    r"(intermediate_size|ffn_dim|d_ff|dim_ff|dff|n_inner|ffn_hidden_size|hidden_dim|intermediate_size_mlp|prefix_dense_intermediate_size|expert_ffn_hidden_size)$"
)
WINDOWS = re.compile(r"(sliding_window|sliding_window_size|attention_window_size|window_size|attention_chunk_size|index_topk|keep_window_size)$")
KINDS = {
    "layer_types": ["full_attention", "sliding_attention"],
    "mlp_layer_types": ["dense", "sparse"],
}
KINDS_OF = {
    "llama4_text": ["full_attention", "chunked_attention"],
    **dict.fromkeys(
        ("bailing_hybrid", "granitemoehybrid", "kimi_linear", "minimax", "olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"),
        ["full_attention", "linear_attention"],
    ),
    **dict.fromkeys(("lfm2", "lfm2_moe"), ["conv", "full_attention"]),
    "zaya": ["hybrid", "hybrid_sliding"],
}
# Patterns of Zamba's layers, as many as the bases have.
HYBRIDS = [
    ["linear_attention", "hybrid", "hybrid", "linear_attention", "hybrid"],
    ["hybrid", "mamba", "hybrid", "mamba", "hybrid"],
    ["linear_attention", "linear_attention", "hybrid", "hybrid", "linear_attention"],
]

# What a key is drawn from. `None` in a list is the value null.
CHOICES = {
    "_sliding_window_pattern": [1, 2, 3],
    "altup_active_idx": [0, 1],
    "altup_num_inputs": [2, 3, 4],
    "attention_window_size": [1, 3, 5, 16, 64],
    "attn_layer_indices": [None, [], [0], [1, 2]],
    "attn_layer_offset": [0, 1, 2],
    "attn_layer_period": [2, 3, 4],
    "attn_logit_softcapping": [None, 3.0, 50.0],
    "block_ffn_dim_multiplier": [None, 0.7, 1.3],
    "block_multiple_of": [8, 24, 100],
    "block_size": [1, 2, 3, 4, 16, 256],
    "block_types": [["recurrent"], ["attention", "recurrent"], ["recurrent", "recurrent", "attention"]],
    "chunk_size": [1, 3, 16, 256],
    "clip_qkv": [None, 0.4, 1.5],
    "conv1d_width": [1, 2, 3, 4],
    "conv_channels": [8, 18],
    "conv_kernel_sizes": [[5, 5], [3, 4], [1, 2]],
    "conv_L_cache": [1, 2, 3, 7],
    "conv_kernel": [1, 2, 3, 4],
    "decoder_sparse_step": [1, 2, 3],
    "dim_head": [8, 16, 24],
    "dim_model_base": [16, 32, 256],
    "encoder_attention_type": ["local", "transient-global"],
    "expand": [1, 2, 3],
    "expansion_ratio": [2, 3, 4],
    "expert_layer_offset": [0, 1, 2],
    "expert_layer_period": [2, 3],
    "expert_selection_fn": ["softmax", "sigmoid"],
    "final_logit_softcapping": [None, 2.0, 30.0],
    "first_k_dense_replace": [0, 1, 2, 4],
    "floor_scale": [4, 8, 16],
    "global_attn_every_n_layers": [1, 2, 3],
    "global_block_size": [1, 3, 4, 7, 16],
    "head_dim": [8, 16, 24, 32],
    "hidden_size_per_layer_input": [8, 16],
    "index_head_dim": [16, 32],
    "index_n_heads": [1, 2, 4, 8],
    "interleave_moe_layer_step": [1, 2],
    "intermediate_multiple_size": [2, 3],
    "kv_channels": [8, 16, 24, 32],
    "kv_lora_rank": [8, 16, 24, 32],
    "laurel_rank": [4, 16],
    "local_radius": [1, 3, 6, 20],
    "logit_scale": [None, 0.25, 0.7],
    "linear_conv_kernel_dim": [1, 2, 3, 4],
    "linear_head_dim": [8, 12, 16, 20],
    "linear_key_head_dim": [8, 12, 16, 33],
    "linear_num_heads": [1, 2, 4, 6],
    "linear_num_key_heads": [1, 2, 4],
    "linear_num_value_heads": [4, 8, 12],
    "linear_value_head_dim": [8, 16, 20, 70],
    "layers_block_type": [["full_attention", "mlp", "moe"], ["linear_attention", "moe"], ["mlp"], ["full_attention", "linear_attention", "mlp"]],
    "lru_width": [None, 32, 96, 128],
    "mamba_chunk_size": [1, 3, 16, 256],
    "mamba_d_conv": [1, 2, 3, 4],
    "mamba_d_state": [1, 4, 6, 16, 17],
    "mamba_dt_rank": ["auto", 1, 5, 8],
    "mamba_n_groups": [1, 2, 4],
    "max_window_layers": [0, 1, 2, 28],
    "moe_layer_end_index": [-1, 1, 2, 122],
    "moe_layer_interval": [1, 2],
    "moe_layer_start_index": [0, 1, 2],
    "moe_num_shared_experts": [1, 2, 3],
    "moe_router_logit_softcapping": [0.0, 1.5],
    "n_group": [1, 2, 4],
    "n_groups": [1, 2, 4, 8],
    "n_shared_experts": [1, 2, 3],
    "no_rope_layer_interval": [1, 2, 3, 4],
    "norm_topk_prob": [True, False],
    "num_dense_layers": [0, 1, 2],
    "num_kv_shared_layers": [0, 1, 2, 3],
    "num_ln_in_parallel_attn": [None, 1, 2],
    "num_shared_experts": [0, 1, 2],
    "position_bias_max_distance": [8, 20, 128],
    "position_bias_num_buckets": [8, 12, 32],
    "prefix_dense_sliding_window_pattern": [1, 2, 3],
    "prompt_length": [1, 4, 9],
    "prompt_types": [3, 4, 6],
    "q_lora_rank": [None, 8, 16, 24],
    "qk_nope_head_dim": [8, 16, 24],
    "qk_rope_head_dim": [4, 8, 16],
    "query_pre_attn_scalar": [16, 24, 64, 256],
    "rotary_dim": [4, 8, 16],
    "rescale_every": [0, 1, 2, 3],
    "scale_emb": [1, 3, 12],
    "scoring_func": ["sigmoid", "softmax"],
    "segment_types": [3, 5],
    "short_conv_kernel_size": [1, 2, 3, 4],
    "shared_expert_combination_strategy": ["average", "sum"],
    "sliding_window_pattern": [1, 2, 3, 4],
    "ssm_multipliers": [None, [0.9, 0.8, 1.3, 1.5, 0.7]],
    "ssm_state_size": [1, 4, 6, 16],
    "state_size": [1, 4, 6, 16, 17],
    "time_step_limit": [[0.0, float("inf")], [0.1, 0.5], [0.3, float("inf")], [0.5, 0.2]],
    "time_step_rank": ["auto", 1, 5, 8],
    "topk_group": [1, 2, 4],
    "topk_method": ["greedy", "group_limited_greedy"],
    "type_vocab_size": [1, 2, 3],
    "v_head_dim": [8, 16, 24, 32],
    "vocab_size": [131, 160, 257],
    "vocab_size_per_layer_input": [160, 200, 300],
    "word_embed_proj_dim": [32, 64, 96],
    "zero_expert_num": [0, 1, 4],
    "alibi_bias_max": [4, 8, 16],
    "kv_n_heads": [1, 2, 4],
    "moe_normalize_expert_weights": [None, 1.0, 2.0],
    "softmax_scale": [None, 0.1, 0.4],
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), [1, 2, 4, 8]),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), [4, 8, 9, 12, 16]),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k"), [1, 2, 3, 4]),
    **dict.fromkeys(("hidden_act", "hidden_activation", "activation_function", "activation", "afn"), ACTIVATIONS),
    **dict.fromkeys(("eps", "rms_norm_eps", "layer_norm_eps", "norm_eps", "layer_norm_epsilon", "norm_epsilon"), [1e-6, 1e-3, 0.02]),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), [0.25, 0.5, 0.75, 1.0]),
    **dict.fromkeys(LAYERS, [1, 2, 3, 5, 6, 7]),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"), [1, 2, 3, 5]),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"), [1, 2, 4, 8]),
    "d_kv": [8, 12, 24],
    "relative_attention_num_buckets": [4, 10, 32, 33],
    "relative_attention_max_distance": [20, 40, 128],
    "feed_forward_proj": ["relu", "gelu", "gated-gelu", "gated-silu"],
    "decoder_vocab_size": [131, 160],
    "src_vocab_size": [131, 160],
    "tgt_vocab_size": [131, 160],
    "num_random_blocks": [1, 3],
    "num_mel_bins": [5, 16, 80],
    "max_source_positions": [7, 64],
    "block_size": [16, 64],
    "local_radius": [1, 3, 7],
    **dict.fromkeys(HEADS, [1, 2, 4, 8]),
    **dict.fromkeys(HIDDEN, [48, 64, 96, 128]),
}
CHOICES |= {
    "relative_bias_args": [[{"type": "1d"}, {"type": "vertical", "scaling_factor": 30}], [{"type": "horizontal", "max_distance": 50}, {"type": "vertical"}], []],
    "patch_embed_hidden_size": [6, 40],
    "seq_len": [9, 200],
    "frame_ms": [2.5, 5, 7.3],
    "sliding_windows": [[[16, 4]] * 8, [[3, 2], [1, 0], [5, 9], [2, 1], [4, 4], [7, 0], [1, 1], [90, 90]]],
    "subsampling_factor": [2, 4, 8],
    "subsampling_conv_channels": [4, 20],
    "encoder_max_relative_position": [3, 160],
    "num_conv_pos_embeddings": [1, 8, 129],
    "num_conv_pos_embedding_groups": [1, 4],
    "feat_extract_norm": ["group", "layer"],
    "feat_extract_activation": ["gelu", "relu"],
    **dict.fromkeys(("q_groups", "k_groups", "v_groups", "post_attention_groups", "intermediate_groups", "output_groups", "num_groups"), [1, 2, 4]),
    "block_repeats": [None],
    "block_sizes": [[2, 2, 2], [1, 3], [1, 1, 2, 1], [3]],
    "num_decoder_layers": [1, 2],
    "d_head": [8, 16, 24],
    "d_inner": [40, 96],
    "pooling_type": ["mean", "max"],
    "attention_type": ["relative_shift", "factorized"],
    "downsampling_rate": [1, 2, 3, 4],
    "upsampling_kernel_size": [1, 3, 4],
    "num_hash_functions": [1, 2, 8, 16],
    "num_hash_buckets": [130, 300],
    "local_transformer_stride": [1, 5, 16, 128],
    "cross_attention_shape_for_attention": ["kv", "q"],
    "num_latents": [1, 8, 13],
    "num_blocks": [1, 2],
    "num_self_attends_per_block": [1, 2, 3],
    "d_latents": [32, 64],
    "qk_channels": [None, 32],
    "v_channels": [None],
    "num_cross_attention_heads": [1, 2, 4],
    "num_self_attention_heads": [1, 2, 4],
    "cross_attention_widening_factor": [1, 2],
    "self_attention_widening_factor": [1, 3],
    "embedding_rank": [16, 32],
    "residual_multiplier": [None, 0.35],
    "repmixer_kernel_size": [1, 3, 11],
    "num_feedforward_networks": [1, 2, 4],
    "intra_bottleneck_size": [32],
    "true_hidden_size": [32],
    "use_bottleneck": [True],
    "key_query_shared_bottleneck": [True],
    "normalization_type": ["no_norm", "layer_norm"],
    "conv_kernel_size": [1, 3, 9, 65],
    "conv_window": [None, 3, 33],
    "head_ratio": [1, 2, 8],
    "hash_code_len": [1, 4, 12],
    "use_expectation": [True],
    "inv_coeff_init_option": [False],
    "num_landmarks": [64],
    "segment_means_seq_len": [64],
    "channel_shrink_ratio": [2, 4],
    "coordinate_size": [8, 12],
    "max_depth": [1, 4, 7],
    "xpath_unit_hidden_size": [4, 8],
    "concat_input": [True],
    "pronunciation_embed_dim": [5, 64],
    "shape_embed_dim": [7, 64],
    "rel_pos_bins": [8, 32],
    "rel_2d_pos_bins": [8, 64],
    "max_rel_pos": [20, 128],
    "max_rel_2d_pos": [60, 256],
    "bbox_scale": [1.0, 30.0, 100.0],
    "adapter_reduction_factor": [1, 2, 8],
    "attention_window": [4, 8, 32],
    "clamp_len": [-1, 3, 100],
    "embedding_size": [16, 40, 64],
    "inner_group_num": [1, 2],
    "input_embedding_size": [16, 40, 64],
    "local_attention": [2, 7, 128],
    "max_2d_position_embeddings": [8, 100],
    "max_relative_positions": [-1, 5, 40],
    "num_hidden_groups": [1, 2],
    "output_embedding_size": [24, 64, 100],
    "pos_att_type": [["c2p"], ["p2c"], ["p2c", "c2p"], "c2p|p2c"],
    "position_embedding_type": ["absolute", "rotary"],
    "prediction_head_size": [24, 100],
    "projection_dim": [0, 24],
    "relative_attention_num_buckets": [32, 40],
}
# Values at the edges, tried now and then for the same keys: null, nothing, everything, odd sizes, whole numbers for fractions.
EDGES = {
    "attention_chunk_size": [2, 7, 4096],
    "final_logit_softcapping": [5],
    "first_k_dense_replace": [0, 3, 9],
    "head_dim": [None, 6, 10, 12, 18, 20, 40, 80],
    "index_head_dim": [24, 64],
    "index_n_heads": [3],
    "index_topk": [1, 2, 7, 4096],
    "interleave_moe_layer_step": [3],
    "layer_types": [None],
    "logit_scale": [1, 2],
    "mlp_layer_types": [None],
    "mlp_only_layers": [None],
    "n_group": [None, 1, 8],
    "n_shared_experts": [None, 0],
    "norm_topk_prob": [None],
    "num_shared_experts": [None, 0],
    "q_lora_rank": [7, 33],
    "kv_lora_rank": [7, 33],
    "qk_nope_head_dim": [4, 12, 40],
    "qk_rope_head_dim": [2, 6, 12, 32],
    "v_head_dim": [4, 12, 40],
    "rope_parameters": [None],
    "sliding_window": [None, 2, 4096],
    "topk_group": [None],
    "vocab_size": [57, 101, 1009],
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), [None]),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), [1, 2, 3, 5]),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k"), [8, 5]),
    **dict.fromkeys(
        ("hidden_act", "hidden_activation", "activation_function", "activation", "afn"),
        ["swish", "gelu_python", "gelu_python_tanh", "gelu_accurate", "gelu_10", "mish", "tanh", "sigmoid", "relu6", "leaky_relu", "linear", "hardswish", "laplace"],
    ),
    **dict.fromkeys(("eps", "rms_norm_eps", "layer_norm_eps", "norm_eps", "layer_norm_epsilon", "norm_epsilon"), [1e-12, 0.3]),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), [0.334, 0.4, 0.6, 0.9]),
    **dict.fromkeys(LAYERS, [1, 4, 8]),
    **dict.fromkeys(HEADS, [3, 6, 12]),
    **dict.fromkeys(HIDDEN, [24, 72, 120, 160]),
}
# Sizes inside a feed-forward network that no block of a kernel divides.
ODD_SIZES = [1, 7, 33, 101]
# How often a value comes from the edges.
AT_THE_EDGE = 0.3
# Where a type reads a key in another way.
CHOICES_OF = {
    # One is broadcast to all heads that are there, which `sli` refuses.
    **{(name, "num_heads"): [2, 4] for name in ("pix2struct_text_model",)},
    ("speecht5", "conv_kernel"): [[10, 3, 3, 3, 3, 2, 2], [7, 4, 3, 3, 3, 2, 3]],
    ("parakeet_encoder", "num_mel_bins"): [16, 24],
    ("parakeet_encoder", "conv_kernel_size"): [1, 3, 9],
    # No other activation, or no part in integers.
    ("ibert", "hidden_act"): ["gelu"],
    ("ibert", "quant_mode"): [False],
    # `sli` refuses what no published model has, and what fails in the reference.
    ("esmc", "num_key_value_heads"): [4],
    ("esm", "is_folding_model"): [False],
    ("xlnet", "bi_data"): [False],
    ("eurobert", "classifier_pooling"): ["bos", "mean", "late"],
    **{(name, "classifier_pooling"): ["cls", "mean"] for name in ("modernbert", "ultrabert")},
    **{(name, "summary_type"): ["first", "last", "mean", "cls_index"] for name in ("flaubert", "xlm", "xlnet")},
    **{(name, "summary_activation"): [None, "tanh", "relu"] for name in ("flaubert", "xlm")},
    ("xlnet", "summary_activation"): ["tanh", "relu"],
    **{(name, key): [True] for name in ("flaubert", "xlm", "xlnet") for key in ("summary_use_proj", "summary_proj_to_labels")},
    ("xlnet", "same_length"): [False],
    ("xlnet", "attn_type"): ["bi", "uni"],
    ("flaubert", "pre_norm"): [False],
    ("flaubert", "asm"): [False],
    ("flaubert", "is_encoder"): [True],
    ("xlm", "asm"): [False],
    ("xlm", "is_encoder"): [True],
    ("bert-generation", "is_decoder"): [True, False],
    ("gemma3_text", "use_bidirectional_attention"): [None, False, True],
    ("gemma4_text", "use_bidirectional_attention"): [None, "vision", "all"],
    ("gemma4_unified_text", "use_bidirectional_attention"): [None, "vision", "all"],
    ("gemma", "use_bidirectional_attention"): [None, False],
    ("gemma2", "use_bidirectional_attention"): [None, False],
    ("vaultgemma", "use_bidirectional_attention"): [None, False],
    ("mpt", "logit_scale"): [None, 0.5],
    ("cohere2_moe", "rms_norm_eps"): [None, 1e-5, 0.02],
    ("hunyuan_v1_moe", "num_experts"): [4, 8],
    ("gemma4_text", "moe_intermediate_size"): [24, 40],
    ("gemma4_text", "vocab_size_per_layer_input"): [100, 300],
    ("hy_v3", "num_shared_experts"): [0, 1, 2],
    ("apertus", "hidden_act"): ["xielu", "xielu", "silu", "relu2"],
    ("mpt", "norm_type"): ["low_precision_layernorm"],
    ("gpt_bigcode", "multi_query"): [True, False],
    # A threshold of the choice, in evaluation too.
    ("phimoe", "router_jitter_noise"): [0.0, 0.01, 0.1, 0.5, 3.0],
    # Flash attention takes it, the reference's other attentions do not: `sli` refuses one that would matter.
    ("olmoe", "sliding_window"): [None, 4096],
    # Meant for new weights, and the reference divides stored ones by it: `sli` refuses it.
    ("mamba", "rescale_prenorm_residual"): [False],
    ("mamba2", "rescale_prenorm_residual"): [False],
    ("falcon_mamba", "rescale_prenorm_residual"): [False],
    # Prompts in front of keys: refused.
    ("mvp", "use_prompt"): [False],
    # The reference cannot load it.
    ("trocr", "use_learned_position_embeddings"): [True],
    ("mamba2", "head_dim"): [6, 8, 16, 24, 32, 80],
    # The reference goes by `attention_hidden_size` nowhere but in a norm, which then does not fit.
    ("zamba", "attention_hidden_size"): [None],
    ("zamba", "layers_block_type"): HYBRIDS,
    ("zamba", "mamba_dt_rank"): ["auto", 1, 5, 8],
    ("zamba2", "layers_block_type"): HYBRIDS,
    ("zamba2", "num_mem_blocks"): [1, 2],
    ("zamba2", "use_long_context"): [False],
    ("xlstm", "inference_state_dtype"): ["float32"],
    ("xlstm", "mode"): ["inference"],
    # The class cannot be built with the other.
    ("xlstm", "weight_mode"): ["single"],
    ("xlstm", "num_heads"): [1, 2, 4, 8],
    ("xlstm", "qk_dim_factor"): [0.5, 0.75, 1.0],
    ("xlstm", "v_dim_factor"): [0.5, 1.0, 1.5],
    ("xlstm", "ffn_round_up_to_multiple_of"): [1, 24, 64],
    ("zaya", "cca_time0"): [1, 2, 3],
    ("zaya", "cca_time1"): [1, 2, 4],
    ("zaya", "num_experts_per_tok"): [1],
}


def layers_of(config):
    return next((config[key] for key in LAYERS if key in config), None)


def rotated_features(config):
    """Features of a head that turn, as the classes reckon them."""
    head = config.get("qk_rope_head_dim") or config.get("head_dim")
    if head is None:
        heads = next((config[key] for key in HEADS if config.get(key)), 1)
        head = next((config[key] for key in HIDDEN if config.get(key)), 64) // heads
    return head


def rope_variants(rng, value, config):
    """Other rope parameters of the same form."""
    partial = value.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    plain = {}
    if "partial_rotary_factor" in value:
        partial = rng.choice([partial, 0.25, 0.5, 1.0])
        plain["partial_rotary_factor"] = partial
    for key in ("llama_4_scaling_beta", "mrope_section", "mrope_interleaved", "original_max_position_embeddings"):
        if key in value:
            plain[key] = value[key]
    dims = rotated_features(config)
    half = (int(dims * (partial if partial is not None else 1.0)) + 1) // 2
    factors = [[round(rng.uniform(1.0, 1.5), 3) for _ in range(half)], [round(rng.uniform(2.0, 12.0), 3) for _ in range(half)]]
    long = {"rope_type": "longrope", "short_factor": factors[0], "long_factor": factors[1], "original_max_position_embeddings": rng.choice([16, 64])}
    kinds = [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": rng.choice([2.0, 3.5])},
        {"rope_type": "dynamic", "factor": rng.choice([2.0, 4.0])},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": rng.choice([16, 64])},
        {"rope_type": "yarn", "factor": rng.choice([2.0, 4.0]), "original_max_position_embeddings": rng.choice([16, 32]), **rng.choice([{}, {"mscale": 0.8, "mscale_all_dim": 0.6}, {"mscale": 1.0, "mscale_all_dim": 1.0}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"truncate": False}, {"attention_factor": 0.7}])},
        {**long, **rng.choice([{}, {"factor": 4.0}, {"attention_factor": 1.3}])},
    ]
    if rng.random() < AT_THE_EDGE:
        kinds = [
            {"rope_type": "linear", "factor": rng.choice([1, 1.0, 8])},
            {"rope_type": "dynamic", "factor": rng.choice([1.0, 1, 3, 2.5])},
            {"rope_type": "llama3", "factor": rng.choice([2, 32.0]), "low_freq_factor": rng.choice([1, 0.5]), "high_freq_factor": rng.choice([2, 4, 1.5]), "original_max_position_embeddings": rng.choice([8, 33, 8192])},
            {
                "rope_type": "yarn",
                "factor": rng.choice([None, 1.0, 1, 8, 40.0]),
                **rng.choice([{}, {"original_max_position_embeddings": rng.choice([8, 33, 4096])}]),
                **rng.choice([{}, {"mscale": 0}, {"mscale_all_dim": 1.0}, {"mscale": 0.707, "mscale_all_dim": 0.707}, {"mscale": 1, "mscale_all_dim": 0}, {"attention_factor": 1}, {"attention_factor": None}]),
                **rng.choice([{}, {"beta_fast": 1, "beta_slow": 1}, {"beta_fast": 8, "beta_slow": 0.5}, {"beta_fast": None, "beta_slow": None}, {"truncate": True}, {"truncate": None}]),
            },
            {**long, "factor": rng.choice([None, 1.0, 32]), "attention_factor": rng.choice([None, 1.0, 0.9])},
            {"rope_type": "mrope", "mrope_section": [2, 1, 1]},
        ]
    if value.get("rope_type") == "proportional":
        kinds += [{"rope_type": "proportional"}, {"rope_type": "proportional", "factor": 2.0}]
    if value.get("rope_type") == "longrope":
        kinds = kinds[-1:]
    kind = rng.choice(kinds)
    if "partial_rotary_factor" not in plain and kind["rope_type"] == "default" and config.get("partial_rotary_factor") is None and rng.random() < 0.3:
        plain["partial_rotary_factor"] = 0.5  # most classes that turn whole heads do not look at it
    return {**plain, "rope_theta": rng.choice([300.0, 10000.0, 500000.0, 10000, 1000000, 2.5]), **kind}


def pattern(rng, kinds, count):
    """A pattern of layers: one kind, a period, or anything."""
    style = rng.randrange(4)
    if style == 0:
        return [rng.choice(kinds)] * count
    if style == 1:
        period = rng.choice([2, 3])
        return [kinds[(layer + 1) % period == 0] for layer in range(count)]
    return [rng.choice(kinds) for _ in range(count)]


def nested(rng, model_type, value):
    """An object of the class's own with one or two other values."""
    changed = copy.deepcopy(value)
    for key in rng.sample(sorted(changed), min(2, len(changed))):
        if key == "ffn_act_fn":
            changed[key] = {"name": rng.choice(ACTIVATIONS)}
            continue
        if key in ("qk_ln", "attn_uses_sequence_id", "prefix_lm", "alibi", "attn_type", "attn_impl", "hidden_size", "rope_theta"):
            continue
        drawn = other(rng, key, changed[key], {"model_type": model_type})
        changed[key] = changed[key] if drawn is Nothing else drawn
    return changed


class Nothing:
    """No other value."""


def other(rng, key, value, config):
    """Another value of a key, or `Nothing`: leave it."""
    model_type = config["model_type"]
    if (model_type, key) in CHOICES_OF:
        return rng.choice(CHOICES_OF[model_type, key])
    if INERT.match(key) or key == "use_bidirectional_attention":
        return Nothing
    if isinstance(value, bool):
        return not value if rng.random() < 0.9 else None
    if key in EDGES and None in EDGES[key] and rng.random() < 0.05:
        return None
    if key in LENGTHS:
        return rng.choice([48, 64, 200] if TABLES.match(model_type) else [16, 32, 64, 200])
    if key in ("layer_types", "mlp_layer_types") and isinstance(value, list):
        own = KINDS_OF.get(model_type) if key == "layer_types" else None
        kinds = own or (sorted({*KINDS[key], *value}) if key == "mlp_layer_types" or len(set(value)) > 1 else KINDS[key])
        return pattern(rng, kinds, len(value))
    count = layers_of(config)
    if key == "attention_types":
        kinds = rng.choice([[["global"], count], [["local"], count], [["global", "local"], count / 2], [["local", "global"], count / 2]])
        return [[kinds[0], int(kinds[1])]] if kinds[1] == int(kinds[1]) else Nothing
    if key in ("no_rope_layers",) and isinstance(value, list):
        return rng.choice([None, [rng.choice([0, 1]) for _ in range(count)]])
    if key == "layer_rope_theta" and isinstance(value, list):
        return [rng.choice([None, 0, 10000.0, 300.0]) for _ in range(count)]
    if key in ("mlp_only_layers", "moe_layers"):
        return rng.choice([[], None] if key == "moe_layers" else [[]]) if rng.random() < 0.3 else sorted(rng.sample(range(count), rng.randrange(count + 1)))
    if key == "num_attention_heads_per_layer":
        return [rng.choice([2, 4, 8]) for _ in range(count)]
    if key == "activation_sparsity_pattern":
        return [rng.choice([0.0, 0.5, 0.8, 0.95]) for _ in range(count)]
    if key == "per_layer_config":
        return {str(layer): {"head_dim": rng.choice([8, 16, 24, 32]), **rng.choice([{}, {"num_key_value_heads": rng.choice([1, 2, 4])}])} for layer in range(count) if rng.random() < 0.5}
    if key in ("attn_config", "ffn_config"):
        return nested(rng, model_type, value)
    if key in PARTS and isinstance(value, dict):
        return mutated(rng, value)[0]
    if key == "attention_window":
        return rng.choice([4, 8]) if rng.random() < 0.3 else [rng.choice([4, 8, 16]) for _ in range(config.get("encoder_layers") or config["num_hidden_layers"])]
    if isinstance(value, list) and value and all(isinstance(rest, int) for rest in value) and SIZES.search(key):
        return [rng.choice([40, 72, 100]) for _ in value]
    edge = rng.random() < AT_THE_EDGE
    if edge and key in EDGES:
        return rng.choice(EDGES[key])
    if key in CHOICES:
        return rng.choice(CHOICES[key])
    if SIZES.search(key) and (isinstance(value, int) or value is None):
        return rng.choice(ODD_SIZES if edge else [40, 72, 100, 130])
    if WINDOWS.search(key) and (isinstance(value, int) or value is None):
        return rng.choice([1, 3, 5, 16, 64])
    if isinstance(value, float) and value:
        return rng.choice([1, 2, 1.0]) if edge else round(value * rng.choice([0.6, 0.8, 1.3, 1.7]), 4)
    if isinstance(value, list) and value and all(isinstance(rest, str) for rest in value):
        return rng.sample(value, len(value))
    return Nothing


def with_layers(config, value):
    """Lists of one entry a layer, for another number of layers."""
    before = layers_of(config)
    for name, rest in config.items():
        if isinstance(rest, list) and len(rest) == before and name not in ("mlp_only_layers", "moe_layers", "architectures"):
            config[name] = [rest[layer % len(rest)] for layer in range(value)]


def choosable(config):
    """Whether the groups that a token may use hold as many experts as it takes: else the reference picks among equals."""
    groups, chosen = config.get("n_group") or 1, config.get("topk_group") or 1
    experts = next((config[key] for key in ("n_routed_experts", "num_experts") if config.get(key)), 0)
    taken = next((config[key] for key in ("num_experts_per_tok", "moe_topk") if config.get(key)), 0)
    return chosen <= groups and (groups == 1 or experts % groups == 0 and chosen * (experts // groups) >= taken)


def mutated(rng, base):
    """(configuration, what was changed)."""
    while True:
        config, changes = drawn(rng, base)
        if choosable(config):
            return config, changes


# Keys that a class reads without having them among its own, as they are where a file has none.
UNLISTED = {
    "emu3_text_model": {"attention_bias": False, "mlp_bias": False},
    "olmoe": {"sliding_window": None},
    "phimoe": {"original_max_position_embeddings": None},
}
# Types whose attention takes `head_dim` from the file although the class does not list it.
WITH_HEAD_DIM = (
    "apertus bitnet cohere doge dots1 emu3_text_model ernie4_5_moe exaone4 exaone_moe flex_olmo glm4_moe granite granite_docling_text granite_swa granitemoe "
    "granitemoe_swa granitemoeshared nanochat olmo olmo2 olmo3 olmoe persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3_moe smollm3 stablelm starcoder2"
).split()

# Types that look ahead where the file says that they are not causal, alike by every attention of the reference.
LOOKING_AHEAD = (
    "afmoe apertus arcee aria_text axk1 beam bitnet cohere cohere2 cohere2_moe cohere_compass_text cosmos3_edge_text cwm deepseek_v2 deepseek_v3 diffllama dots1 "
    "emu3_text_model ernie4_5 ernie4_5_moe exaone4 exaone_moe flex_olmo flint gemma gemma2 gemma3_text gemma4_text gemma4_unified_text glm glm4 glm4_moe "
    "glm4_moe_lite gpt_oss granite granite_docling_text granite_swa granitemoe granitemoe_swa granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hy_v3 "
    "hyperclovax internlm3 iquestcoder jais2 kolibri1 laguna llama longcat_flash mellum mimo_v2_flash minicpm3 minimax_m2 ministral ministral3 mistral mistral4 "
    "mixtral nanochat olmo olmo2 olmo3 olmoe persimmon phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 solar_open starcoder2 vaultgemma youtu"
).split()


def drawn(rng, base):
    beside = {"head_dim": None} if base["model_type"] in WITH_HEAD_DIM else {}
    if base["model_type"] in LOOKING_AHEAD and "is_causal" not in base:
        beside["is_causal"] = True
    config = {**beside, **UNLISTED.get(base["model_type"], {}), **copy.deepcopy(base)}
    probe = random.Random(0)
    keys = [key for key, value in config.items() if other(probe, key, value, config) is not Nothing or key == "rope_parameters"]
    chosen = rng.sample(keys, min(len(keys), rng.choice([1, 2, 3, 5, 8])))
    # First the number of layers, on which patterns hang; last the rotation, which hangs on the head's width.
    chosen.sort(key=lambda key: (key not in LAYERS, key == "rope_parameters"))
    changes = {}
    for key in chosen:
        if key not in config:  # another change took it away
            continue
        if key == "rope_parameters":
            value = config[key]
            if not isinstance(value, dict):
                continue
            if value and all(isinstance(rest, dict) for rest in value.values()):
                value = {kind: rope_variants(rng, rest, config) for kind, rest in value.items()}
            else:
                value = rope_variants(rng, value, config)
        else:
            value = other(rng, key, config[key], config)
        if value is Nothing or value == config[key]:
            continue
        if key in LAYERS:
            with_layers(config, value)
        config[key] = changes[key] = value
        if key in ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers"):
            config.pop("layer_types", None)
        if key in ("first_k_dense_replace", "num_dense_layers", "decoder_sparse_step"):
            config.pop("mlp_layer_types", None)
        if key == "feed_forward_proj":  # the class derives them
            config.pop("dense_act_fn", None)
            config.pop("is_gated_act", None)
        if key == "no_rope_layer_interval":
            config["no_rope_layers"] = None
        if key == "sliding_window" and "use_sliding_window" in config:
            config["use_sliding_window"] = changes["use_sliding_window"] = True
    for key in {**beside, **UNLISTED.get(base["model_type"], {})}:
        undrawn = key not in changes if key == "is_causal" else config.get(key) is None  # null is not causal
        if undrawn and key not in base:
            config.pop(key, None)
    if config["model_type"] == "t5gemma2":  # the reference takes no others
        for key in ("hidden_size", "vocab_size"):
            config["decoder"][key] = config["encoder"]["text_config"][key]
    if config["model_type"] == "encoder-decoder":  # `sli` refuses parts of other widths
        config["decoder"]["hidden_size"] = config["encoder"]["hidden_size"]
    if config["model_type"] == "mamba2" and config["hidden_size"] * config["expand"] % config["head_dim"] == 0:
        config["num_heads"] = changes["num_heads"] = config["hidden_size"] * config["expand"] // config["head_dim"]
    if config["model_type"] == "qwen2_moe" and "sliding_attention" in (config.get("layer_types") or []):
        # The class makes the window 0 where it is not used; such a layer would see nothing.
        config["use_sliding_window"] = changes["use_sliding_window"] = True
    if config.get("use_sliding_window") and not config.get("sliding_window"):
        config["sliding_window"] = changes["sliding_window"] = 5
    return config, changes


# Keys of published files that no class reads, or that say again what the class does.
LITTER = {
    "_name_or_path": "/data/checkpoints/model",
    "_attn_implementation_autoset": True,
    "attn_implementation": "flash_attention_2",
    "auto_map": {"AutoConfig": "configuration_model.ModelConfig", "AutoModelForCausalLM": "modeling_model.ModelForCausalLM"},
    "pretraining_tp": 1,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.41.2",
    "unsloth_fixed": True,
    "use_cache": True,
    "tokenizer_class": "PreTrainedTokenizerFast",
    "gradient_checkpointing": False,
    "is_decoder": True,
    "keys_to_ignore_at_inference": ["past_key_values"],
    "output_attentions": False,
    "torchscript": False,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "max_length": 20,
    "temperature": 1.0,
    "top_k": 50,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}


def loaded(config):
    """What the class makes of a file, without what does not matter here."""
    found = generate.config_of(config).to_dict()
    return {key: value for key, value in found.items() if not INERT.match(key) and key not in LITTER}


def older(config, names=("type",)):
    """The rope keys as they were before transformers 5, the kind under these names, or None."""
    config = copy.deepcopy(config)
    parameters = config.pop("rope_parameters", None)
    if not isinstance(parameters, dict):
        return None
    if parameters and all(isinstance(rest, dict) for rest in parameters.values()):
        if set(parameters) != {"full_attention", "sliding_attention"}:
            return None
        config["rope_local_base_freq"] = parameters["sliding_attention"].get("rope_theta")
        parameters = parameters["full_attention"]
    parameters = dict(parameters)
    theta, kind = parameters.pop("rope_theta", None), parameters.pop("rope_type", "default")
    if theta is not None:
        config["rope_theta"] = theta
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    config["rope_scaling"] = None if kind == "default" and not parameters else {spelled: kind for spelled in names} | parameters
    return config


def whole(value):
    """Fractions that are whole numbers, written as such."""
    if isinstance(value, dict):
        return {key: whole(rest) for key, rest in value.items()}
    if isinstance(value, list):
        return [whole(rest) for rest in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def respelled(rng, config):
    """(the same configuration in another spelling, how it was respelled): what `config.json` may look like."""
    try:
        wanted = loaded(config)
    except Exception:
        return config, []
    said = []

    def same(candidate):
        try:
            return loaded(candidate) == wanted
        except Exception:
            return False

    if rng.random() < 0.4:
        candidate = older(config, rng.choice([["type"], ["rope_type"], ["type", "rope_type"]]))
        if candidate is not None and same(candidate):
            config = candidate
            said.append("older rope keys")
    if rng.random() < 0.4:
        config = dict(config)
        dropped = 0
        for key in rng.sample(sorted(config), len(config)):
            if key in ("model_type", "architectures", "dtype"):
                continue
            candidate = {name: value for name, value in config.items() if name != key}
            if same(candidate):
                config, dropped = candidate, dropped + 1
        said.append(f"{dropped} keys omitted")
    if rng.random() < 0.4:
        aliases = {key: alias for alias, key in transformers.CONFIG_MAPPING[config["model_type"]].attribute_map.items() if key in config and alias not in config}
        candidate = {aliases.get(key, key): value for key, value in config.items()}
        if aliases and same(candidate):
            config = candidate
            said.append("aliases")
    if rng.random() < 0.4:
        candidate = whole(config)
        if same(candidate):
            config = candidate
            said.append("whole numbers")
    if rng.random() < 0.3:
        nulled = 0
        for key in rng.sample(sorted(config), len(config)):
            candidate = {**config, key: None}
            if config[key] is not None and key not in ("model_type", "architectures", "dtype") and same(candidate):
                config, nulled = candidate, nulled + 1
        said.append(f"{nulled} keys null")
    if rng.random() < 0.4:
        added = {key: value for key, value in LITTER.items() if rng.random() < 0.6 and key not in config}
        candidate = {**config, **added}
        if "torch_dtype" in added:
            candidate["torch_dtype"] = candidate.pop("dtype", "float32")
        if same(candidate):
            config = candidate
            said.append("litter: " + " ".join(sorted(added)))
    return json.loads(json.dumps(config)), said
