"""Writes crates/sli-spec/tests/corpus/parameters.json: the number of parameters of each published
configuration, counted by transformers without allocating a weight (meta device), a tied one once.

    python tools/defaults/parameters.py
"""

import json
from pathlib import Path

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

CORPUS = Path(__file__).resolve().parents[2] / "crates/sli-spec/tests/corpus"


# Types that files name and transformers reads as another one.
ALIASES = {"kimi_k2": "deepseek_v3"}


def llama(config, **keys):
    names = ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "vocab_size", "tie_word_embeddings"]
    return {"model_type": "llama", **{name: config[name] for name in names if name in config}, **keys}


# Types without a class in transformers -> (a configuration of a class with as many numbers in its matrices, what it lacks): some
# fuse the same matrices, some have the same under other names.
EQUIVALENTS = {
    "baichuan": lambda config: (llama(config), 0),
    "chatglm": lambda config: (
        llama(
            config, model_type="qwen2", num_key_value_heads=config["multi_query_group_num"], intermediate_size=config["ffn_hidden_size"],
            num_hidden_layers=config["num_layers"], vocab_size=config["padded_vocab_size"],
        ),
        0,
    ),
    "internlm": lambda config: (llama(config, attention_bias=config["bias"]), 0),
    "internlm2": lambda config: (llama(config, attention_bias=config["bias"]), 0),
    "minicpm": lambda config: (llama(config), 0),
    # Its norms have addends.
    "orion": lambda config: (llama(config), (2 * config["num_hidden_layers"] + 1) * config["hidden_size"]),
    "phi-msft": lambda config: (
        {
            "model_type": "phi", "hidden_size": config["n_embd"], "intermediate_size": 4 * config["n_embd"], "num_attention_heads": config["n_head"],
            "num_hidden_layers": config["n_layer"], "vocab_size": config["vocab_size"],
        },
        0,
    ),
    "qwen": lambda config: (llama(config, model_type="qwen2", intermediate_size=config["intermediate_size"] // 2, num_key_value_heads=config["num_attention_heads"]), 0),
}


def class_of(config):
    """The class that the file names, else (or if it has another name here) the one a checkpoint of this type usually holds."""
    named = (config.get("architectures") or [""])[0]
    if hasattr(transformers, named):
        return named
    for mapping in (modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        if config["model_type"] in mapping:
            return mapping[config["model_type"]]
    return modeling_auto.MODEL_MAPPING_NAMES[config["model_type"]]


def parameters(config):
    if "moe_normalize_expert_weights" in config.get("ffn_config", {}):
        # Published DBRX says 1, transformers 5 wants a float.
        config = {**config, "ffn_config": {**config["ffn_config"], "moe_normalize_expert_weights": 1.0}}
    config = {**config, "model_type": ALIASES.get(config["model_type"], config["model_type"])}
    model_class = getattr(transformers, class_of(config))
    keys = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = model_class(CONFIG_MAPPING[config["model_type"]](**keys))
    return sum(parameter.numel() for parameter in model.parameters())


def main():
    before = json.loads((CORPUS / "parameters.json").read_text())
    counts = {}
    for path in sorted(CORPUS.glob("*__*.json")):
        config = json.loads(path.read_text())
        known = ALIASES.get(config["model_type"], config["model_type"]) in CONFIG_MAPPING
        if known:
            counts[path.stem] = parameters(config)
        elif path.stem in before:
            counts[path.stem] = before[path.stem]  # counted from the published tensors
        else:
            equivalent, lacking = EQUIVALENTS[config["model_type"]](config)
            counts[path.stem] = parameters(equivalent) + lacking
    (CORPUS / "parameters.json").write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
