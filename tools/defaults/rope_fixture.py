"""Writes crates/sli-spec/tests/rope.json: the rotary frequencies that transformers computes.

Each case is a configuration, the options of the class (head size, kind of layer, ...) and, for
records of some lengths, the inverse frequencies and the attention factor after one forward pass
over that many positions.

    python tools/defaults/rope_fixture.py
"""

import json
from pathlib import Path

import torch
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.gpt_neox.configuration_gpt_neox import GPTNeoXConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi.configuration_phi import PhiConfig
from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

TARGET = Path(__file__).resolve().parents[2] / "crates/sli-spec/tests/rope.json"

CLASSES = {
    "llama": (LlamaConfig, LlamaRotaryEmbedding),
    "gemma3_text": (Gemma3TextConfig, Gemma3RotaryEmbedding),
    "phi": (PhiConfig, PhiRotaryEmbedding),
    "gpt_neox": (GPTNeoXConfig, GPTNeoXRotaryEmbedding),
}

LONG = {
    "short_factor": [1.0, 1.05, 1.2, 1.4, 1.7, 2.0, 2.4, 3.0],
    "long_factor": [1.1, 1.9, 3.0, 4.2, 6.5, 9.0, 17.0, 31.5],
}


def llama(name, lengths=(7,), **keys):
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        **keys,
    }
    return {"name": name, "config": config, "lengths": lengths, "options": {"head_dim": config.get("head_dim", 16)}}


def gemma3(name, layer_type, options=None, **keys):
    config = {
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "head_dim": 16,
        "max_position_embeddings": 128,
        **keys,
    }
    options = {"head_dim": 16, "layer_type": layer_type, **(options or {})}
    return {"name": name, "config": config, "lengths": (7,), "options": options}


def partial(name, model_type, keys, options):
    config = {
        "model_type": model_type,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        **keys,
    }
    return {"name": name, "config": config, "lengths": (7,), "options": {"head_dim": 16, "partial": True, **options}}


YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

CASES = [
    llama("default", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
    llama("default: nothing given"),
    llama("default: empty", rope_parameters={}),
    llama("default: older", rope_theta=1e6, rope_scaling=None),
    llama("default: inner theta wins", rope_theta=1e6, rope_parameters={"rope_type": "default", "rope_theta": 500.0}),
    llama("default: theta beside", rope_theta=1e6, rope_parameters={"rope_type": "default"}),
    llama("default: head_dim", head_dim=128, rope_theta=1e6),
    llama("linear", rope_parameters={"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0}),
    llama("linear: older", rope_theta=300.0, rope_scaling={"type": "linear", "factor": 4}),
    llama("dynamic", (7, 128, 129, 300, 1000), rope_scaling={"type": "dynamic", "factor": 2.0}),
    llama("dynamic: theta", (7, 4096), rope_parameters={"rope_type": "dynamic", "factor": 3.5, "rope_theta": 5e5}),
    llama("yarn", rope_parameters=YARN),
    llama("yarn: older", rope_theta=1e6, rope_scaling={k: v for k, v in YARN.items() if k != "rope_theta"}),
    llama("yarn: without original", rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}),
    llama("yarn: original beside", original_max_position_embeddings=64, rope_parameters=YARN),
    llama("yarn: factor null", max_position_embeddings=163, rope_parameters={**YARN, "factor": None}),
    llama("yarn: betas", rope_parameters={**YARN, "beta_fast": 5, "beta_slow": 0.1}),
    llama("yarn: betas null", rope_parameters={**YARN, "beta_fast": None, "beta_slow": 0}),
    llama("yarn: not truncated", rope_parameters={**YARN, "truncate": False, "beta_fast": 3}),
    llama("yarn: null does not truncate", rope_parameters={**YARN, "truncate": None, "beta_fast": 3}),
    llama("yarn: mscale", rope_parameters={**YARN, "mscale": 1.5, "mscale_all_dim": 0.7}),
    llama("yarn: mscale alone", rope_parameters={**YARN, "mscale": 1.5}),
    llama("yarn: attention factor", rope_parameters={**YARN, "attention_factor": 0.8}),
    llama("yarn: factor below 1", rope_parameters={**YARN, "factor": 0.5}),
    llama("yarn: 128 features", head_dim=128, rope_parameters={**YARN, "original_max_position_embeddings": 4096}),
    llama("longrope", (7, 32, 33, 90), rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32, **LONG}),
    llama("longrope: original beside", (7, 64, 65), original_max_position_embeddings=64, rope_theta=1e4, rope_scaling={"type": "longrope", **LONG}),
    llama("longrope: attention factor", (7, 33), rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "attention_factor": 1.19, "original_max_position_embeddings": 32, **LONG}),
    llama("longrope: factor below 1", (7, 200), rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "factor": 0.5, "original_max_position_embeddings": 32, **LONG}),
    llama("llama3", head_dim=128, rope_parameters={**LLAMA3, "rope_theta": 500000.0}),
    llama("llama3: older", head_dim=64, rope_theta=500000.0, rope_scaling={**LLAMA3, "factor": 32.0}),
    llama("llama3: all ranges", rope_parameters={**LLAMA3, "rope_theta": 5000.0, "low_freq_factor": 1.25, "high_freq_factor": 5, "original_max_position_embeddings": 64}),
    llama("proportional", rope_parameters={"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25}),
    llama("proportional: factor", rope_parameters={"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.6, "factor": 2.0}),
    llama("proportional: whole", rope_parameters={"rope_type": "proportional", "rope_theta": 1e4}),
    gemma3("a kind of layer: sliding", "sliding_attention", rope_parameters={"full_attention": {**YARN, "truncate": False}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
    gemma3("a kind of layer: truncate inside is not looked at", "full_attention", rope_parameters={"full_attention": {**YARN, "truncate": False, "beta_fast": 3}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
    gemma3("a kind of layer: linear", "full_attention", rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
    gemma3("older: local", "sliding_attention", {"theta_keys": ["rope_local_base_freq"], "scaled": False}, rope_theta=1e6, rope_local_base_freq=7000.0, rope_scaling={"rope_type": "linear", "factor": 8.0}),
    gemma3("older: global", "full_attention", rope_theta=1e6, rope_local_base_freq=7000.0, rope_scaling={"rope_type": "linear", "factor": 8.0}),
    partial("partial", "phi", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, {}),
    partial("partial: older", "phi", {"rope_theta": 300.0, "partial_rotary_factor": 0.25}, {}),
    partial("partial: linear", "phi", {"rope_theta": 300.0, "partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2.0}}, {}),
    partial("partial: dynamic", "phi", {"rope_theta": 300.0, "partial_rotary_factor": 0.5, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, {}),
    partial("partial: other names", "gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 20000}, {"theta_keys": ["rotary_emb_base"], "partial_keys": ["rotary_pct"]}),
]


def results(case):
    config_class, rotary_class = CLASSES[case["config"]["model_type"]]
    layer_type = case["options"].get("layer_type")
    for length in case["lengths"]:
        # A round trip, because loading changes the dictionaries it is given; a fresh module a record.
        config = config_class(**json.loads(json.dumps(case["config"])))
        rotary = rotary_class(config)
        arguments = (torch.zeros(1, 1), torch.arange(length)[None])
        rotary(*arguments, *([layer_type] if layer_type else []))
        prefix = f"{layer_type}_" if layer_type else ""
        yield {
            "length": length,
            "inverse": getattr(rotary, f"{prefix}inv_freq").tolist(),
            "attention_factor": float(getattr(rotary, f"{prefix}attention_scaling")),
        }


def main():
    cases = [
        {
            "name": case["name"],
            "config": case["config"],
            "options": case["options"],
            "results": list(results(case)),
        }
        for case in CASES
    ]
    lines = ",\n".join(json.dumps(case) for case in cases)
    TARGET.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
