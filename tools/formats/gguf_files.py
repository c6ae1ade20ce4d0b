"""Writes tiny GGUF files by llama.cpp's own converter, and what the reference computes for the models in them.

    LLAMA_CPP=/path/to/llama.cpp python tools/formats/gguf_files.py OUT [NAME]...

Each is a model of the reference with all parameters drawn, saved as the reference saves it and converted without a
tokenizer. `OUT/NAME.gguf` is the file, `OUT/NAME.json` has token ids and the logits of the last of them.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import torch
import transformers

sys.path.insert(0, os.environ["LLAMA_CPP"])
sys.path.insert(0, os.environ["LLAMA_CPP"] + "/gguf-py")
sys.argv[0] = "convert_hf_to_gguf.py"
import conversion  # noqa: E402
import gguf  # noqa: E402
from conversion.base import ModelBase, ModelType, get_model_architecture  # noqa: E402

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
# What the converter looks for in older files.
OLDER = {
    "gpt2": dict(n_ctx=64),
    "gptneox": dict(rotary_pct=0.25),
    "cohere2": dict(rotary_pct=1.0),
    "mpt": dict(architectures=["MPTForCausalLM"]),
}
IDS = [3, 17, 5, 21, 8, 8, 19, 1, 13, 12, 7]


def draw(model):
    """All parameters, those of norms around one, as numbers that 16 bits hold."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
        if not tensor.dtype.is_floating_point or "inv_freq" in name or "alpha" in name:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        is_norm = "norm" in name.lower() or "ln_" in name or "layernorm" in name
        if name.endswith("A_log"):
            tensor.data = noise.abs().add(0.5).log()
        elif is_norm and name.endswith("weight"):
            tensor.data = 1 + 0.2 * noise
        else:
            tensor.data = noise * (0.15 if tensor.ndim > 1 else 0.3)
        tensor.data = tensor.data.bfloat16().float()


def complete(folder, name):
    """Keys of older files, and a tokenizer for the converter to count."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | OLDER.get(name, {})))
    vocabulary = {str(at): at for at in range(config["vocab_size"])}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))


def convert(folder, path, kind):
    hparams = ModelBase.load_hparams(folder, False)
    architecture = get_model_architecture(hparams, ModelType.TEXT)
    cls = conversion.get_model_class(architecture) if hasattr(conversion, "get_model_class") else \
        ModelBase.from_model_architecture(architecture)
    cls.set_vocab = lambda self: self.gguf_writer.add_tokenizer_model("none")
    model = cls(folder, gguf.LlamaFileType[kind], path)
    model.hparams.update(OLDER.get(path.stem, {}))
    model.write()


def main(out, names):
    out.mkdir(parents=True, exist_ok=True)
    for name in names or MODELS:
        cls, settings = MODELS[name]
        cls = getattr(transformers, cls)
        torch.manual_seed(0)
        try:
            config = cls.config_class(**settings)
            model = cls(config).eval()
            draw(model)
            model.tie_weights()
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                model = cls.from_pretrained(folder, dtype=torch.float32).eval()
                complete(Path(folder), name)
                convert(Path(folder), out / f"{name}.gguf", "MOSTLY_BF16")
            with torch.no_grad():
                output = model(torch.tensor([IDS]))
            logits = getattr(output, "logits", None)
            values = output.last_hidden_state if logits is None else logits
            expected = {"ids": IDS, "rows": [[float(f"{v:.6g}") for v in row] for row in values[0].tolist()]}
            (out / f"{name}.json").write_text(json.dumps(expected) + "\n")
            print("wrote", name)
        except Exception as error:  # noqa: BLE001
            print("FAILED", name, type(error).__name__, str(error)[:300])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
