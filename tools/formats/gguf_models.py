"""Tiny models of the reference: a class and what its configuration says."""

import torch

SMALL = dict(vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32, rope_theta=10000.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, rope_theta=10000.0)
LONG = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.1, 1.7], long_factor=[2.0, 5.0],
            original_max_position_embeddings=32)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12)
GPT = dict(vocab_size=24, n_embd=16, n_layer=2, n_head=4, n_positions=64)

MODELS = {
    "llama": ("LlamaForCausalLM", SMALL),
    "llama-biases": ("LlamaForCausalLM", SMALL | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "llama-3": ("LlamaForCausalLM", SMALL | dict(rope_parameters=LLAMA3, head_dim=8)),
    "llama-yarn": ("LlamaForCausalLM", SMALL | dict(rope_parameters=YARN)),
    "mistral": ("MistralForCausalLM", SMALL | dict(head_dim=8, sliding_window=None)),
    "mixtral": ("MixtralForCausalLM", SMALL | dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    "qwen2": ("Qwen2ForCausalLM", SMALL),
    "qwen2moe": ("Qwen2MoeForCausalLM", SMALL | EXPERTS | dict(shared_expert_intermediate_size=20)),
    "qwen3": ("Qwen3ForCausalLM", SMALL | dict(head_dim=8, tie_word_embeddings=True)),
    "qwen3moe": ("Qwen3MoeForCausalLM", SMALL | EXPERTS | dict(head_dim=8, norm_topk_prob=True)),
    "gemma": ("GemmaForCausalLM", SMALL | dict(head_dim=8)),
    "gemma2": ("Gemma2ForCausalLM", SMALL | dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=4)),
    "gemma3": ("Gemma3ForCausalLM", SMALL | dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=4, num_hidden_layers=7)),
    "gpt2": ("GPT2LMHeadModel", GPT),
    "gptneox": ("GPTNeoXForCausalLM", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    "falcon": ("FalconForCausalLM", dict(num_kv_heads=1, vocab_size=24, hidden_size=16, num_hidden_layers=2, num_attention_heads=4)),
    "falcon-40b": ("FalconForCausalLM", dict(vocab_size=24, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
                                             num_kv_heads=2, new_decoder_architecture=True)),
    "bloom": ("BloomForCausalLM", dict(vocab_size=24, hidden_size=16, n_layer=2, n_head=4)),
    "mpt": ("MptForCausalLM", dict(vocab_size=24, d_model=16, n_layers=2, n_heads=4, max_seq_len=64)),
    "phi2": ("PhiForCausalLM", SMALL | dict(num_key_value_heads=4, partial_rotary_factor=0.5)),
    "phi3": ("Phi3ForCausalLM", SMALL | dict(pad_token_id=0, sliding_window=None)),
    "phi3-long": ("Phi3ForCausalLM", SMALL | dict(pad_token_id=0, sliding_window=None, rope_parameters=LONG,
                                                  original_max_position_embeddings=32)),
    "starcoder2": ("Starcoder2ForCausalLM", SMALL | dict(use_bias=True, sliding_window=None)),
    "stablelm": ("StableLmForCausalLM", SMALL | dict(partial_rotary_factor=0.5, use_qkv_bias=True)),
    "command-r": ("CohereForCausalLM", SMALL | dict(logit_scale=0.25)),
    "cohere2": ("Cohere2ForCausalLM", SMALL | dict(logit_scale=0.25, sliding_window=4, num_hidden_layers=4)),
    "olmo": ("OlmoForCausalLM", SMALL),
    "olmo2": ("Olmo2ForCausalLM", SMALL),
    "olmoe": ("OlmoeForCausalLM", SMALL | dict(num_experts=4, num_experts_per_tok=2)),
    "granite": ("GraniteForCausalLM", SMALL | dict(embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5,
                                                   attention_multiplier=0.2)),
    "granitemoe": ("GraniteMoeForCausalLM", SMALL | dict(num_local_experts=4, num_experts_per_tok=2,
                                                         embedding_multiplier=3.0, logits_scaling=2.0,
                                                         residual_multiplier=0.5, attention_multiplier=0.2)),
    "glm4": ("Glm4ForCausalLM", SMALL | dict(head_dim=8, partial_rotary_factor=0.5, pad_token_id=0)),
    "gpt-oss": ("GptOssForCausalLM", SMALL | dict(head_dim=8, num_local_experts=4, num_experts_per_tok=2,
                                                  sliding_window=4, intermediate_size=20)),
    "nemotron": ("NemotronForCausalLM", SMALL),
    "exaone4": ("Exaone4ForCausalLM", SMALL | dict(sliding_window=None, layer_types=["full_attention"] * 2)),
    "smollm3": ("SmolLM3ForCausalLM", SMALL | dict(num_hidden_layers=4, pad_token_id=0)),
    "seed_oss": ("SeedOssForCausalLM", SMALL | dict(head_dim=8)),
    "arcee": ("ArceeForCausalLM", SMALL),
    "bert": ("BertModel", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    "ernie4_5": ("Ernie4_5ForCausalLM", SMALL | dict(head_dim=8)),
    "dots1": ("Dots1ForCausalLM", SMALL | dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                                               n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1)),
    "glm4moe": ("Glm4MoeForCausalLM", SMALL | dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                                                   n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1,
                                                   head_dim=8, partial_rotary_factor=0.5, use_qk_norm=True)),
    "deepseek2": ("DeepseekV2ForCausalLM", SMALL | dict(num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2,
                                                        moe_intermediate_size=12, n_shared_experts=1, q_lora_rank=12,
                                                        kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4,
                                                        v_head_dim=5, first_k_dense_replace=1, n_group=1, topk_group=1)),
    "deepseek3": ("DeepseekV3ForCausalLM", SMALL | dict(num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2,
                                                        moe_intermediate_size=12, n_shared_experts=1, q_lora_rank=12,
                                                        kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4,
                                                        v_head_dim=5, first_k_dense_replace=1, n_group=1, topk_group=1)),
}

LATENT = SMALL | dict(num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                      n_shared_experts=1, q_lora_rank=12, kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4,
                      v_head_dim=5, first_k_dense_replace=1, n_group=1, topk_group=1)
STRETCHED = dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=16, beta_fast=32, beta_slow=1,
                 rope_theta=10000.0)
LINEAR = dict(linear_conv_kernel_dim=4, linear_key_head_dim=6, linear_num_key_heads=2, linear_num_value_heads=4,
              linear_value_head_dim=5, head_dim=16, num_hidden_layers=4,
              layer_types=["linear_attention"] * 2 + ["full_attention", "linear_attention"])
SCAN = dict(mamba_d_conv=4, mamba_d_head=8, mamba_d_state=6, mamba_n_heads=4, mamba_n_groups=2, mamba_expand=2)
ENCODER = {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}
T5 = dict(vocab_size=24, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=4)

MODELS |= {
    "deepseek2-yarn": ("DeepseekV2ForCausalLM", LATENT | dict(rope_parameters=STRETCHED | dict(mscale=0.707, mscale_all_dim=0.707))),
    "deepseek3-yarn": ("DeepseekV3ForCausalLM", LATENT | dict(rope_parameters=STRETCHED | dict(mscale=1.0, mscale_all_dim=1.0))),
    "deepseek3-groups": ("DeepseekV3ForCausalLM", LATENT | dict(n_routed_experts=8, n_group=4, topk_group=2, q_lora_rank=None,
                                                                norm_topk_prob=True, routed_scaling_factor=2.5)),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM", LATENT | dict(mlp_layer_types=["dense", "sparse"], norm_topk_prob=True)),
    "youtu": ("YoutuForCausalLM", {k: v for k, v in LATENT.items() if "expert" not in k and "group" not in k
                                   and k not in ("moe_intermediate_size", "first_k_dense_replace")}),
    "llama4": ("Llama4ForCausalLM", SMALL | dict(head_dim=8, num_hidden_layers=4, num_local_experts=4, num_experts_per_tok=1,
                                                 intermediate_size_mlp=20, interleave_moe_layer_step=2,
                                                 attention_chunk_size=8192, floor_scale=8192, attn_scale=0.1)),
    "gemma3n": ("Gemma3nForCausalLM", SMALL | dict(head_dim=8, num_hidden_layers=6, hidden_size_per_layer_input=4,
                                                   vocab_size_per_layer_input=24, altup_num_inputs=4, laurel_rank=4,
                                                   num_kv_shared_layers=2, sliding_window=4, intermediate_size=[24] * 6,
                                                   layer_types=["sliding_attention", "full_attention"] * 3,
                                                   activation_sparsity_pattern=[0.95, 0.95, 0.0, 0.0, 0.0, 0.0])),
    "gemma4": ("Gemma4ForCausalLM", SMALL | dict(head_dim=8, global_head_dim=16, num_hidden_layers=6,
                                                 hidden_size_per_layer_input=4, vocab_size_per_layer_input=24,
                                                 num_kv_shared_layers=2, sliding_window=4,
                                                 layer_types=["sliding_attention", "full_attention"] * 3)),
    "qwen3next": ("Qwen3NextForCausalLM", SMALL | EXPERTS | LINEAR | dict(shared_expert_intermediate_size=20, norm_topk_prob=True)),
    "qwen35": ("Qwen3_5ForCausalLM", SMALL | LINEAR),
    "qwen35moe": ("Qwen3_5MoeForCausalLM", {k: v for k, v in SMALL.items() if k != "intermediate_size"} | EXPERTS | LINEAR
                  | dict(shared_expert_intermediate_size=20)),
    "mamba": ("MambaForCausalLM", dict(vocab_size=24, hidden_size=16, num_hidden_layers=2, state_size=6, time_step_rank=3)),
    "falcon-mamba": ("FalconMambaForCausalLM", dict(vocab_size=24, hidden_size=16, num_hidden_layers=2, state_size=6,
                                                    time_step_rank=3)),
    "mamba2": ("Mamba2ForCausalLM", dict(vocab_size=32, hidden_size=16, num_hidden_layers=2, state_size=6, head_dim=8,
                                         num_heads=4, n_groups=2)),
    "granitehybrid": ("GraniteMoeHybridForCausalLM", SMALL | SCAN | dict(
        num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=20, embedding_multiplier=3.0, logits_scaling=2.0,
        residual_multiplier=0.5, attention_multiplier=0.2, num_hidden_layers=3,
        layer_types=["mamba", "attention", "mamba"])),
    "granitehybrid-dense": ("GraniteMoeHybridForCausalLM", SMALL | SCAN | dict(
        num_local_experts=0, shared_intermediate_size=20, num_hidden_layers=3, layer_types=["mamba", "attention", "mamba"])),
    "falcon-h1": ("FalconH1ForCausalLM", SMALL | SCAN | dict(
        head_dim=8, mamba_d_ssm=32, attention_in_multiplier=2.0, attention_out_multiplier=0.5, embedding_multiplier=2.0,
        key_multiplier=0.5, lm_head_multiplier=0.25, mlp_multipliers=[0.5, 4.0], ssm_in_multiplier=2.0,
        ssm_multipliers=[0.5, 2.0, 4.0, 0.25, 2.0], ssm_out_multiplier=0.5)),
    "bamba": ("BambaForCausalLM", SMALL | SCAN | dict(num_hidden_layers=3, attn_layer_indices=[1], attn_rotary_emb=2,
                                                      rope_parameters=dict(rope_type="default", rope_theta=10000.0,
                                                                           partial_rotary_factor=0.5))),
    "gemma4-experts": ("Gemma4ForCausalLM", SMALL | dict(
        head_dim=8, global_head_dim=16, num_hidden_layers=4, hidden_size_per_layer_input=0, num_kv_shared_layers=0,
        sliding_window=4, layer_types=["sliding_attention", "full_attention"] * 2, enable_moe_block=True, num_experts=4,
        top_k_experts=2, moe_intermediate_size=12, num_global_key_value_heads=1, attention_k_eq_v=True)),
    "jamba": ("JambaForCausalLM", SMALL | dict(num_hidden_layers=4, attn_layer_offset=1, attn_layer_period=3,
                                               expert_layer_offset=1, expert_layer_period=2, num_experts=4,
                                               num_experts_per_tok=2, mamba_d_state=6, mamba_dt_rank=3)),
    "nemotron_h": ("NemotronHForCausalLM", SMALL | dict(
        head_dim=8, layers_block_type=["mamba", "mlp", "attention", "mamba"], mamba_num_heads=8, mamba_head_dim=8,
        n_groups=2, ssm_state_size=6)),
    "nemotron_h_moe": ("NemotronHForCausalLM", SMALL | dict(
        head_dim=8, layers_block_type=["mamba", "moe", "attention", "moe"], mamba_num_heads=8, mamba_head_dim=8,
        n_groups=2, ssm_state_size=6, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
        moe_shared_expert_intermediate_size=20, n_shared_experts=1, n_group=1, topk_group=1, routed_scaling_factor=2.5)),
    "lfm2": ("Lfm2ForCausalLM", SMALL | dict(num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"],
                                             block_auto_adjust_ff_dim=False)),
    "lfm2moe": ("Lfm2MoeForCausalLM", SMALL | EXPERTS | dict(num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"],
                                                             num_dense_layers=1)),
    "modern-bert": ("ModernBertModel", ENCODER | dict(num_hidden_layers=4, local_attention=8, cls_token_id=1, sep_token_id=2,
                                                      pad_token_id=0, bos_token_id=1, eos_token_id=2)),
    "nomic-bert": ("NomicBertModel", ENCODER | dict(head_dim=4)),
    "jina-bert-v3": ("JinaEmbeddingsV3Model", ENCODER | dict(type_vocab_size=1, pad_token_id=0)),
    "eurobert": ("EuroBertModel", SMALL | dict(head_dim=4, pad_token_id=0, classifier_pooling="mean")),
    "roberta": ("RobertaModel", ENCODER | dict(type_vocab_size=1, pad_token_id=0, max_position_embeddings=65)),
    "xlm-roberta": ("XLMRobertaModel", ENCODER | dict(type_vocab_size=1, pad_token_id=0, max_position_embeddings=65)),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5-gated": ("T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-gelu")),
    "umt5": ("UMT5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-gelu")),
    "t5encoder": ("T5EncoderModel", T5),
    "ernie4_5-moe": ("Ernie4_5_MoeForCausalLM", SMALL | dict(
        moe_num_experts=4, moe_k=2, moe_intermediate_size=12, moe_num_shared_experts=2, moe_layer_start_index=1,
        moe_layer_interval=1, num_hidden_layers=3)),
    "hunyuan-dense": ("HunYuanDenseV1ForCausalLM", SMALL | dict(head_dim=8)),
    "hunyuan-moe": ("HunYuanMoEV1ForCausalLM", SMALL | dict(head_dim=4, num_experts=4, moe_topk=2)),
    "minimax-m2": ("MiniMaxM2ForCausalLM", SMALL | dict(head_dim=8, num_local_experts=4, num_experts_per_tok=2, rotary_dim=4)),
    "kimi-linear": ("KimiLinearForCausalLM", SMALL | dict(
        pad_token_id=0,        num_key_value_heads=4, num_hidden_layers=3, layer_types=["linear_attention", "full_attention", "linear_attention"],
        mlp_layer_types=["dense", "sparse", "sparse"], linear_head_dim=6, linear_num_heads=4, kv_lora_rank=10,
        qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, num_experts=4, num_experts_per_token=2, moe_intermediate_size=12,
        num_shared_experts=1, routed_scaling_factor=2.446)),
    "mistral3": ("Ministral3ForCausalLM", SMALL | dict(head_dim=8, rope_parameters=STRETCHED | dict(
        mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1, original_max_position_embeddings=4))),
    "mistral4": ("Mistral4ForCausalLM", LATENT | dict(first_k_dense_replace=0, rope_parameters=STRETCHED | dict(
        mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1, original_max_position_embeddings=4))),
    "phimoe": ("PhimoeForCausalLM", SMALL | dict(num_local_experts=4, num_experts_per_tok=2, attention_bias=True, lm_head_bias=True,
        rope_parameters=LONG | dict(short_mscale=1.243163121016122, long_mscale=1.243163121016122), original_max_position_embeddings=32)),
    "starcoder": ("GPTBigCodeForCausalLM", GPT),
    "dbrx": ("DbrxForCausalLM", dict(vocab_size=24, d_model=16, n_heads=4, n_layers=2, max_seq_len=64,
                                     attn_config=dict(kv_n_heads=2, clip_qkv=8, rope_theta=10000.0),
                                     ffn_config=dict(ffn_hidden_size=12, hidden_size=16, moe_num_experts=4, moe_top_k=2))),
    "apertus": ("ApertusForCausalLM", SMALL),
    "minicpm3": ("MiniCPM3ForCausalLM", {k: v for k, v in LATENT.items() if "expert" not in k and "group" not in k
                                         and k not in ("moe_intermediate_size", "first_k_dense_replace")}
                 | dict(scale_emb=12, scale_depth=1.4, dim_model_base=256)),
    "bitnet": ("BitNetForCausalLM", SMALL | dict(tie_word_embeddings=True)),
    "exaone-moe": ("ExaoneMoeForCausalLM", SMALL | dict(
        num_hidden_layers=4, sliding_window=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
        num_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1, num_nextn_predict_layers=0)),
    "afmoe": ("AfmoeForCausalLM", SMALL | dict(
        head_dim=8, num_hidden_layers=4, sliding_window=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
        num_shared_experts=1, num_dense_layers=1, route_scale=2.0, mup_enabled=True)),
    "jais2": ("Jais2ForCausalLM", SMALL | dict(head_dim=8)),
    "mimo2": ("MiMoV2FlashForCausalLM", SMALL | dict(
        head_dim=12, v_head_dim=8, num_hidden_layers=4, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
        sliding_window=4, n_group=1, topk_group=1)),
    "cohere2moe": ("Cohere2MoeForCausalLM", SMALL | dict(
        head_dim=8, num_hidden_layers=4, num_experts=4, num_experts_per_tok=2, sliding_window=4)),
    "glm-dsa": ("GlmMoeDsaForCausalLM", LATENT | dict(index_head_dim=8, index_n_heads=4, index_topk=4)),
    "deepseek32": ("DeepseekV32ForCausalLM", LATENT | dict(index_head_dim=8, index_n_heads=4, index_topk=4)),
    "chatglm": ("GlmForCausalLM", SMALL | dict(rms_norm_eps=1e-5, head_dim=4, partial_rotary_factor=0.5, pad_token_id=0)),
    "granite_swa": ("GraniteSWAForCausalLM", SMALL | dict(num_hidden_layers=4, sliding_window=4)),
    "laguna": ("LagunaForCausalLM", SMALL | dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                                                 shared_expert_intermediate_size=20, num_attention_heads_per_layer=[4, 8, 4, 8, 4],
                                                 num_hidden_layers=5, sliding_window=4, layer_types=[
                                                     "full_attention", *["sliding_attention"] * 3, "full_attention"])),
    "mellum": ("MellumForCausalLM", SMALL | dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12)),
    "hy_v3": ("HYV3ForCausalLM", SMALL | dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                                              num_shared_experts=1)),
    "solar_open": ("SolarOpenForCausalLM", SMALL | dict(rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=1.0), head_dim=8, n_routed_experts=4, num_experts_per_tok=2,
                                                        moe_intermediate_size=12, n_shared_experts=1, n_group=1, topk_group=1)),
}
TOWER = dict(depth=1, embed_dim=8, hidden_size=16, num_heads=2)
DEEP = dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, out_hidden_size=16, deepstack_visual_indexes=[0],
            num_position_embeddings=16)
AXES = dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 1, 1])
OUTSIDE = dict(image_token_id=23, video_token_id=22, vision_start_token_id=21, vision_end_token_id=20)
MODELS |= {
    "qwen2vl": ("Qwen2VLForConditionalGeneration", OUTSIDE | dict(
        text_config=SMALL | dict(rope_parameters=AXES, hidden_size=32), vision_config=TOWER | dict(hidden_size=32))),
    "qwen3vl": ("Qwen3VLForConditionalGeneration", OUTSIDE | dict(
        text_config=SMALL | dict(rope_parameters=AXES, head_dim=8), vision_config=DEEP)),
    "qwen3vlmoe": ("Qwen3VLMoeForConditionalGeneration", OUTSIDE | dict(
        text_config=SMALL | EXPERTS | dict(rope_parameters=AXES, head_dim=8), vision_config=DEEP)),
    "exaone": ("LlamaForCausalLM", SMALL | dict(rope_parameters=LLAMA3)),
    "pangu-embedded": ("LlamaForCausalLM", SMALL | dict(attention_bias=True)),
    "maincoder": ("HunYuanDenseV1ForCausalLM", SMALL | dict(head_dim=8)),
    "llama-embed": ("LlamaModel", SMALL | dict(is_causal=False)),
    "llada": ("LlamaForCausalLM", SMALL | dict(is_causal=False)),
    "dream": ("Qwen2ForCausalLM", SMALL | dict(is_causal=False)),
    "rnd1": ("Qwen3MoeForCausalLM", SMALL | EXPERTS | dict(head_dim=8, norm_topk_prob=True, is_causal=False)),
    "llada-moe": ("Qwen3MoeForCausalLM", SMALL | EXPERTS | dict(head_dim=4, norm_topk_prob=False, is_causal=False)),
    "gemma-embedding": ("Gemma3TextModel", SMALL | dict(head_dim=8, query_pre_attn_scalar=8, sliding_window=6, num_hidden_layers=7,
                                                        use_bidirectional_attention=True)),
    "paddleocr": ("LlamaForCausalLM", SMALL | dict(head_dim=8)),
    "bailingmoe2": ("Glm4MoeForCausalLM", SMALL | dict(
        n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=12, n_shared_experts=1, first_k_dense_replace=1, n_group=4,
        topk_group=2, head_dim=4, partial_rotary_factor=0.5, use_qk_norm=True, norm_topk_prob=True, routed_scaling_factor=2.5)),
    "glm4moe-drafts": ("Glm4MoeForCausalLM", SMALL | dict(
        n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, n_shared_experts=1, first_k_dense_replace=1, n_group=1,
        topk_group=1, head_dim=8, partial_rotary_factor=0.5, num_hidden_layers=3)),
}
MODELS |= {
    "hunyuan_vl": ("HunYuanVLForConditionalGeneration", dict(
        image_token_id=23, text_config=SMALL | dict(head_dim=8, rope_parameters=dict(
            rope_type="dynamic", alpha=50.0, factor=1.0, rope_theta=10000.0, mrope_section=[1, 1, 1, 1])),
        vision_config=dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1, out_hidden_size=16,
                           text_hidden_size=16, max_image_size=32, min_image_size=16))),
    "jina-bert-v3": ("JinaEmbeddingsV3Model", ENCODER | dict(type_vocab_size=1, pad_token_id=1)),
    "codeshell": ("Starcoder2ForCausalLM", SMALL | dict(use_bias=True, sliding_window=None, intermediate_size=64)),
    "step35": ("Step3p7ForConditionalGeneration", dict(
        image_token_id=23,
        text_config=SMALL | dict(
            head_dim=8, num_hidden_layers=4, num_sliding_attention_heads=6, sliding_window=4, n_routed_experts=4, num_experts_per_tok=2,
            moe_intermediate_size=12, share_expert_dim=20, moe_router_scaling_factor=3.0, pad_token_id=0,
            layer_types=["full_attention", *["sliding_attention"] * 3], mlp_layer_types=["dense", "dense", "sparse", "sparse"],
            swiglu_limits=[0.0, 0.0, 0.0, 0.05], swiglu_limits_shared=[0.0, 0.0, 0.1, 0.0],
            per_layer_config={str(layer): dict(num_attention_heads=6) for layer in (1, 2, 3)},
            rope_parameters=dict(
                full_attention=LLAMA3 | dict(rope_theta=500.0, partial_rotary_factor=0.5),
                sliding_attention=dict(rope_type="default", rope_theta=50.0))),
        vision_config=dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, image_size=28, patch_size=14))),
}
HYPER = dict(hc_mult=2, hc_eps=1e-6)
CHOSEN = dict(index_n_heads=2, index_head_dim=6, index_topk=4)
KINDS = dict(layer_types=["linear_attention", "linear_attention", "full_attention", "linear_attention"], num_hidden_layers=4)
PICTURES = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1)
MODELS |= {
    "muse-glimmer": ("MuseGlimmerForConditionalGeneration", dict(
        text_config=SMALL | dict(head_dim=8, num_hidden_layers=5, sliding_window=4, pad_token_id=0, qk_scale_factor=3.5,
                                 output_multiplier=0.25, final_logit_softcapping=20.0),
        vision_config=PICTURES, out_hidden_size=16, projector_hidden_size=8)),
    "hrm_text": ("HrmTextForCausalLM", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"} | dict(
        head_dim=8, H_cycles=2, L_cycles=3, embedding_scale=3.0, num_hidden_layers=2)),
    "minimax-01": ("MiniMaxForCausalLM", SMALL | KINDS | dict(
        head_dim=8, block_size=4, num_local_experts=4, num_experts_per_tok=2, full_attn_alpha_factor=1.5, linear_attn_alpha_factor=1.5,
        mlp_alpha_factor=1.5, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    "hy_v4": ("HYV4ForCausalLM", {k: v for k, v in LATENT.items() if k != "first_k_dense_replace"} | HYPER | CHOSEN | dict(
        pad_token_id=0, num_hidden_layers=4, hc_magnitude=1.5, indexer_types=["full", "full", "shared", "shared"],
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"], swiglu_limit=0.1, routed_scaling_factor=2.5, norm_topk_prob=True)),
    "bailingmoe3": ("BailingHybridForCausalLM", SMALL | dict(
        layer_types=["linear_attention", "linear_attention", "full_attention"], num_hidden_layers=3, pad_token_id=0, layer_group_size=3, first_k_dense_replace=1, num_key_value_heads=4, linear_head_dim=6, linear_num_heads=4,
        kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5, num_experts=8, num_experts_per_token=2,
        mlp_layer_types=["dense", "sparse", "sparse"], num_expert_group=4, topk_group=2, moe_intermediate_size=12,
        num_shared_experts=1, routed_scaling_factor=2.5)),
    "dots3note": ("Dots3NoteForCausalLM", {k: v for k, v in LATENT.items() if k != "first_k_dense_replace"} | CHOSEN | dict(
        pad_token_id=0, num_hidden_layers=4, layer_types=["indexed_attention", "indexed_attention", "sliding_attention", "indexed_attention"],
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"], head_dim=10, sliding_window=4, shared_experts_intermediate_size=12,
        norm_topk_prob=True, routed_scaling_factor=2.5,
        per_layer_config={"2": dict(num_attention_heads=2, num_key_value_heads=2, kv_lora_rank=8, qk_nope_head_dim=4, v_head_dim=3, head_dim=8)},
        rope_parameters=dict(indexed_attention=dict(rope_type="default", rope_theta=500.0, partial_rotary_factor=0.4),
                             sliding_attention=dict(rope_type="default", rope_theta=50.0, partial_rotary_factor=0.5)))),
    "minimax-m3": ("MiniMaxM3VLForCausalLM", SMALL | dict(
        head_dim=8, rotary_dim=4, num_hidden_layers=4, num_local_experts=4, num_experts_per_tok=2, intermediate_size=12,
        dense_intermediate_size=24, shared_intermediate_size=20, routed_scaling_factor=2.0, hidden_act="swigluoai",
        rope_parameters=dict(rope_type="default", rope_theta=5000.0, partial_rotary_factor=0.5),
        layer_types=["full_attention", "minimax_m3_sparse", "minimax_m3_sparse", "full_attention"],
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"], index_n_heads=2, index_head_dim=6, index_block_size=2, index_topk_blocks=2,
        index_local_blocks=1, pad_token_id=0)),
    "glm5-next": ("Glm5NextForConditionalGeneration", dict(
        text_config=LATENT | HYPER | CHOSEN | dict(
            qk_rope_head_dim=0, num_hidden_layers=5, layer_types=["linear_attention", "linear_attention", "indexed_attention",
                                                                    "linear_attention", "indexed_attention"],
            mlp_layer_types=["dense", "dense", "sparse", "sparse", "sparse"], linear_head_dim=6, linear_num_heads=4, pad_token_id=0,
            index_kpool=2, swiglu_limit=0.1, routed_scaling_factor=2.5),
        vision_config=dict(hidden_size=8, intermediate_size=8, num_heads=2, depth=1, out_hidden_size=16, image_size=28,
                           projection_intermediate_size=8))),
}
# Stored in blocks of eight bits: a block of columns has parts of two heads.
WIDE = SMALL | dict(hidden_size=64, intermediate_size=96, head_dim=16)
BLOCKS = {
    "llama-q8_0": ("LlamaForCausalLM", WIDE),
    "qwen35-q8_0": ("Qwen3_5ForCausalLM", WIDE | LINEAR | dict(linear_value_head_dim=16, linear_key_head_dim=16)),
}
MODELS |= BLOCKS
# Keys that older files do not have.
ABSENT = "absent"
# What the converter looks for in older files.
OLDER = {
    "dots3note": dict(
        scoring_func="sigmoid", swa_head_dim=8, swa_qk_nope_head_dim=4, swa_qk_rope_head_dim=4, swa_num_attention_heads=2, swa_kv_lora_rank=8,
        swa_v_head_dim=3, swa_q_lora_rank=12, sliding_window_size=4, apply_mla_qkv_lora_rescale=True, first_k_dense_replace=1,
        rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=500.0),
                             sliding_attention=dict(rope_type="default", rope_theta=50.0))),
    "bailingmoe": dict(architectures=["BailingMoeForCausalLM"], num_experts=4, num_shared_experts=2),
    "deepseek2-ocr": dict(architectures=["DeepseekOCRForCausalLM"], qk_rope_head_dim=0),
    "minimax-01": dict(
        architectures=["MiniMaxText01ForCausalLM"], layernorm_full_attention_alpha=1.5, layernorm_full_attention_beta=1.0,
        layernorm_linear_attention_alpha=1.5, layernorm_linear_attention_beta=1.0, layernorm_mlp_alpha=1.5, layernorm_mlp_beta=1.0,
        rotary_dim=4),
    "bailingmoe3": dict(
        architectures=["BailingMoeV3ForCausalLM"], no_kda_lora=True, gated_attention_proj_granularity_type="head_wise", head_dim=6,
        moe_shared_expert_intermediate_size=12, norm_topk_prob=True, n_group=4, num_nextn_predict_layers=0),
    "glm5-next": dict(
        mla_use_nope=True, first_k_dense_replace=2,
        linear_attn_config=dict(num_heads=4, head_dim=6, short_conv_kernel_size=4, gate_lower_bound=-5.0)),
    "jina-bert-v3": dict(architectures=["XLMRobertaModel"], lora_adaptations=["none"]),
    "codeshell": dict(architectures=["CodeShellForCausalLM"], n_positions=64, n_embd=16, n_head=4, num_query_groups=2,
                      layer_norm_epsilon=1e-5),
    "minimax-m3": dict(
        architectures=["MiniMaxM3SparseForCausalLM"], scoring_func="sigmoid", n_shared_experts=1, moe_layer_freq=[0, 1, 1, 1], rotary_dim=4,
        sparse_attention_config=dict(sparse_num_index_heads=2, sparse_index_dim=6, sparse_topk_blocks=2, sparse_block_size=2,
                                     sparse_local_block=1)),
    "rwkv6": dict(rescale_every=1),
    "step35": dict(
        architectures=["Step3p5ForCausalLM"], num_attention_groups=2, attention_other_setting=dict(num_attention_heads=6),
        moe_num_experts=4, moe_top_k=2, norm_expert_weight=True, rope_theta=500.0, partial_rotary_factors=[0.5, 1.0, 1.0, 1.0],
        rope_parameters=dict(full_attention=LLAMA3 | dict(rope_theta=500.0), sliding_attention=dict(rope_theta=50.0))),
    "glm4moe-drafts": dict(num_nextn_predict_layers=1),
    "grok": dict(architectures=["Grok1ForCausalLM"], num_local_experts=4),
    "deci": dict(auto_map={}),
    "qwen": dict(auto_map={}, rope_theta=10000),
    "mistral4": dict(architectures=["Ministral3ForCausalLM"]),
    "exaone": dict(architectures=["ExaoneForCausalLM"], activation_function="silu", num_layers=2, num_hidden_layers=2),
    "pangu-embedded": dict(architectures=["PanguEmbeddedForCausalLM"]),
    "maincoder": dict(architectures=["MaincoderForCausalLM"]),
    "llama-embed": dict(architectures=["LlamaBidirectionalModel"]),
    "llada": dict(architectures=["LLaDAModelLM"], d_model=16, mlp_hidden_size=24, max_sequence_length=64),
    "dream": dict(architectures=["DreamModel"], mask_token_id=1),
    "rnd1": dict(architectures=["RND1"], mask_token_id=1),
    "llada-moe": dict(architectures=["LLaDAMoEModelLM"], expert_intermediate_size=12),
    "paddleocr": dict(architectures=["PaddleOCRVLForConditionalGeneration"], rope_parameters=AXES),
    "bailingmoe2": dict(architectures=["BailingMoeV2ForCausalLM"], num_experts=8, num_shared_experts=1, score_function="sigmoid"),
    "granitehybrid": dict(layer_types=["mamba", "attention", "mamba"]),
    "granitehybrid-dense": dict(layer_types=["mamba", "attention", "mamba"]),
    "nemotron_h": dict(num_experts_per_tok=ABSENT, n_routed_experts=ABSENT, n_group=ABSENT, topk_group=ABSENT,
                       n_shared_experts=ABSENT, layers_block_type=ABSENT, num_hidden_layers=4,
                       hybrid_override_pattern="M-*M"),
    "nomic-bert": dict(activation_function="swiglu", causal=False, qkv_proj_bias=False, mlp_fc1_bias=False,
                       mlp_fc2_bias=False, prenorm=False, rotary_emb_fraction=1.0, rotary_emb_interleaved=False,
                       rotary_emb_scale_base=None, rotary_emb_base=1000, n_positions=8192, max_trained_positions=2048,
                       n_embd=16, n_inner=24, n_head=4, n_layer=2, layer_norm_epsilon=1e-12, type_vocab_size=2),
    "phimoe": dict(architectures=["PhiMoEForCausalLM"]),
    "hunyuan-moe": dict(moe_intermediate_size=[24, 24], num_shared_expert=[1, 1], moe_topk=[2, 2]),
    "mimo2": dict(swa_head_dim=12, swa_v_head_dim=8, swa_num_key_value_heads=4, swa_num_attention_heads=4, sliding_window=4,
                  hybrid_layer_pattern=[0, 1, 1, 1], moe_layer_freq=[0, 1, 1, 1], partial_rotary_factor=0.334,
                  add_swa_attention_sink_bias=True, swa_rope_theta=10000.0, rope_theta=5000000.0, n_shared_experts=None, topk_method="noaux_tc", scoring_func="sigmoid",
                  rope_parameters={}),
    "kimi-linear": dict(linear_attn_config=dict(full_attn_layers=[2], kda_layers=[1, 3], short_conv_kernel_size=4, head_dim=6,
                                                num_heads=4), first_k_dense_replace=1),
    "t5": dict(decoder_start_token_id=0),
    "t5-gated": dict(decoder_start_token_id=0),
    "umt5": dict(decoder_start_token_id=0),
    "gpt2": dict(n_ctx=64),
    "gptneox": dict(rotary_pct=0.25),
    "cohere2": dict(rotary_pct=1.0),
    "mpt": dict(architectures=["MPTForCausalLM"]),
}
# Names of tensors that the reference saves otherwise than they were published.
RENAMED = {
    "bailingmoe": [("self_attn.qkv_proj", "attention.query_key_value"), ("self_attn.o_proj", "attention.dense"),
                   ("model.embed_tokens", "model.word_embeddings")],
    "hy_v4": [(f"hc_pre.{part}.", f"{part}.hc_pre.") for part in ("hc_attn_layer", "hc_mlp_layer")]
    + [("model.hc_pre.hc_head.", "model.hc_head."), ("mlp.linear_gate.", "mlp.gate_proj."),
       ("shared_experts.linear_gate.", "shared_experts.gate_proj.")],
    "grok": [("model.layers.", "transformer.decoder_layer."), ("attn.q_proj", "multi_head_attention.query"),
             ("attn.k_proj", "multi_head_attention.key"), ("attn.v_proj", "multi_head_attention.value"),
             ("attn.o_proj", "multi_head_attention.linear"), ("pre_attn_norm.scale", "rms_norm.weight"),
             ("post_attn_norm.scale", "rms_norm_1.weight"), ("pre_moe_norm.scale", "rms_norm_2.weight"),
             ("post_moe_norm.scale", "rms_norm_3.weight"), ("moe_block.gate", "router"), ("moe_block.experts.", "moe."),
             ("model.norm.scale", "model.norm.weight")],
    "bailingmoe2": [("self_attn.qkv_proj", "attention.query_key_value"), ("self_attn.o_proj", "attention.dense"),
                    ("self_attn.q_norm", "attention.query_layernorm"), ("self_attn.k_norm", "attention.key_layernorm"),
                    ("model.embed_tokens", "model.word_embeddings"), ("gate.e_score_correction_bias", "gate.expert_bias")],
    "kimi-linear": [(f"layers.0.block_sparse_moe.{part}_proj", f"layers.0.mlp.{part}_proj") for part in ("gate", "up", "down")],
}


def minimax_m3(tensors):
    """As published: every expert by itself, gates beside the upward projections."""
    published = {}
    for key, tensor in tensors.items():
        layer, _, rest = key.partition(".mlp.")
        sparse = f"{layer}.block_sparse_moe."
        if rest == "experts.gate_up_proj":
            for expert, both in enumerate(tensor):
                published |= {f"{sparse}experts.{expert}.{part}.weight": half for part, half in zip(("w1", "w3"), both.chunk(2))}
        elif rest == "experts.down_proj":
            published |= {f"{sparse}experts.{expert}.w2.weight": own for expert, own in enumerate(tensor)}
        elif rest.endswith("gate_up_proj.weight"):
            begins = (sparse if "shared" in rest else f"{layer}.mlp.") + rest.removesuffix("gate_up_proj.weight")
            published |= {f"{begins}{part}_proj.weight": half for part, half in zip(("gate", "up"), tensor.chunk(2))}
        elif rest.startswith(("gate.", "shared_experts.")):
            published[sparse + rest.replace("gate.e_score", "e_score")] = tensor
        else:
            published[key.replace("self_attn.indexer.", "self_attn.index_")] = tensor
    return published


def minimax_01(tensors):
    """Without the tables of decays, which every model has."""
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(("_decay", "slope_rate"))}


def codeshell(tensors):
    """Queries, keys and values in one tensor."""
    published = {}
    names = [("model.embed_tokens", "transformer.wte"), ("model.norm", "transformer.ln_f"), ("model.layers.", "transformer.h."),
             ("input_layernorm", "ln_1"), ("post_attention_layernorm", "ln_2"), ("self_attn.o_proj", "attn.c_proj")]
    for key, tensor in tensors.items():
        if "k_proj" in key or "v_proj" in key:
            continue
        if "q_proj" in key:
            tensor = torch.cat([tensors[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            key = key.replace("self_attn.q_proj", "attn.c_attn")
        for old, new in names:
            key = key.replace(old, new)
        published[key] = tensor
    if "lm_head.weight" not in published:
        published["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    return published


def step35(tensors):
    """Without the part that sees pictures, experts under a name of their own."""
    published = {}
    for key, tensor in tensors.items():
        if "vision" in key or "vit_" in key or "projector" in key:
            continue
        key = key.replace("language_model.", "").replace("model.model.", "model.")
        for old, new in (("mlp.gate.e_score_correction_bias", "moe.router_bias"), ("mlp.gate.", "moe.gate."),
                         ("mlp.shared_experts.", "share_expert.")):
            key = key.replace(old, new)
        if "experts.gate_up_proj" in key:
            gate, up = tensor.chunk(2, dim=1)
            begins = key.split("mlp.experts")[0]
            published |= {f"{begins}moe.gate_proj.weight": gate, f"{begins}moe.up_proj.weight": up}
        elif "experts.down_proj" in key:
            published[key.replace("mlp.experts.down_proj", "moe.down_proj.weight")] = tensor
        else:
            published[key] = tensor
    return published


RESHAPED = {"minimax-01": minimax_01, "minimax-m3": minimax_m3, "codeshell": codeshell, "step35": step35}
# Where the published model differs from the reference's class: names in the class's module, and the module that has them right.
# MiniMax-01 rotates a part of each head.
REPLACED = {
    "minimax-01": ("minimax", "minimax_m2", {"apply_rotary_pos_emb": "apply_rotary_pos_emb",
                                               "MiniMaxRotaryEmbedding": "MiniMaxM2RotaryEmbedding"}),
}
# Files with a layer behind the others that drafts tokens.
DRAFTING = {"glm4moe-drafts"}
# Tensors of published files whose last axes are the other way round.
SWAPPED = {"qwen3vlmoe": "mlp.experts."}
# What published files have as one tensor, and its parts.
FUSED = {
    "bailingmoe": ("self_attn.qkv_proj", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    "bailingmoe2": ("self_attn.qkv_proj", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
}
# The converter leaves out the head.
HEADLESS = {"neo-bert"}
# Goldens of types whose code is published beside their weights.
PUBLISHED = {
    "openelm": "remote-openelm",
    "plamo": "remote-plamo",
    "plm": "remote-plm",
    "refact": "remote-refact",
    "neo-bert": "remote-neobert",
    "nomic-bert-moe": "remote-nomic-bert-moe",
    "bailingmoe": "remote-deepseek-normalised",
    "deepseek2-ocr": "remote-deepseek-normalised",
    "deci": "remote-decilm",
    "qwen": "remote-qwen",
    "grok": "remote-grok-1",
    "baichuan": "remote-baichuan-7b",
    "chatglm3": "remote-chatglm3-6b",
    "deepseek": "remote-deepseek",
    "internlm2": "remote-internlm2",
    "jina-bert-v2": "remote-jina-embeddings-v2",
    "minicpm": "remote-minicpm",
    "orion": "remote-orion",
    "rwkv6": "remote-rwkv6",
    "rwkv7": "remote-rwkv7",
    "xverse": "remote-xverse",
}
# Layers that are kept of large goldens, and the last norm: what is expected is the norm of what the golden has behind those layers.
SHORT = {"grok": (1, "model.norm.scale"), "rwkv6": (2, "rwkv.ln_out"), "rwkv7": (2, "model.norm")}
