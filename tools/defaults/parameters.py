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


def class_of(config):
    """The class that the file names, else the one a checkpoint of this type usually holds."""
    if config.get("architectures"):
        return config["architectures"][0]
    for mapping in (modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        if config["model_type"] in mapping:
            return mapping[config["model_type"]]
    return modeling_auto.MODEL_MAPPING_NAMES[config["model_type"]]


def parameters(config):
    model_class = getattr(transformers, class_of(config))
    keys = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = model_class(CONFIG_MAPPING[config["model_type"]](**keys))
    return sum(parameter.numel() for parameter in model.parameters())


def main():
    counts = {
        path.stem: parameters(json.loads(path.read_text()))
        for path in sorted(CORPUS.glob("*__*.json"))
    }
    (CORPUS / "parameters.json").write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
