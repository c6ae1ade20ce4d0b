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
        # What transformers has no class for was counted from the published tensors.
        counts[path.stem] = parameters(config) if known else before[path.stem]
    (CORPUS / "parameters.json").write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
