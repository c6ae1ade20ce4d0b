"""Writes classes.json: which tokenizer class the reference takes for which model type and class name.

Run with transformers 5.23.0: python tools/tokenizers/classes.py
"""

import json
import warnings
from pathlib import Path

import transformers
from transformers import PythonBackend, TokenizersBackend
from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS
from transformers.models.m2m_100 import tokenization_m2m_100 as m2m_100
from transformers.models.whisper import tokenization_whisper as whisper
from transformers.models.auto import configuration_auto, tokenization_auto

TARGET = Path(__file__).parents[2] / "crates/sli/src/tokenizer/classes.json"
LANGUAGES = {
    "mbart": "transformers.models.mbart.tokenization_mbart",
    "mbart50": "transformers.models.mbart50.tokenization_mbart50",
    "nllb": "transformers.models.nllb.tokenization_nllb",
}


def resolve(name):
    """The class that a name stands for; None: no class of the reference is called so."""
    try:
        found = tokenization_auto.tokenizer_class_from_name(name)
    except ImportError:
        return name
    return found if isinstance(found, type) else None


def kind(found):
    """How a class comes to its tokens."""
    if found is TokenizersBackend:
        return "file"
    if not issubclass(found, TokenizersBackend):
        return "python" if issubclass(found, PythonBackend) else "other"
    if "__init__" in found.__dict__:
        return "builds"
    parent = next(base for base in found.__mro__ if "__init__" in base.__dict__)
    return "file" if parent is TokenizersBackend else parent.__name__


def main():
    warnings.filterwarnings("ignore")
    names = {name for name in tokenization_auto.TOKENIZER_MAPPING_NAMES.values() if name}
    names |= {name for name in dir(transformers) if name.endswith(("Tokenizer", "TokenizerFast"))}
    # These stand for the class with the same converter and are made when they are asked for: `dir` has none of them.
    names |= set(SLOW_TO_FAST_CONVERTERS)
    names |= {name.removesuffix("Fast") for name in names} | {"PreTrainedTokenizer", "BloomTokenizer", "PythonBackend"}
    names |= {name + "Fast" for name in names if name.endswith("Tokenizer")}
    classes, kinds, found_classes = {}, {}, {}
    for name in sorted(names):
        found = resolve(name)
        if isinstance(found, str):
            classes[name], kinds[name] = name, "python"
        elif found is not None and kind(found) != "other":
            classes[name], kinds[found.__name__] = found.__name__, kind(found)
            found_classes[found.__name__] = found
    types = {}
    for model_type in sorted({*configuration_auto.CONFIG_MAPPING_NAMES, *tokenization_auto.TOKENIZER_MAPPING_NAMES}):
        registered = tokenization_auto.TOKENIZER_MAPPING_NAMES.get(model_type)
        default, local = None, False
        if model_type in configuration_auto.CONFIG_MAPPING_NAMES:
            config = configuration_auto.CONFIG_MAPPING[model_type]
            local = config in tokenization_auto.TOKENIZER_MAPPING
            try:
                default = tokenization_auto.TOKENIZER_MAPPING.get(config, TokenizersBackend).__name__
            except (ImportError, AttributeError):
                default = registered
        row = {"registered": registered, "default": default, "local": local}
        if row != {"registered": None, "default": "TokenizersBackend", "local": False}:
            types[model_type] = {key: value for key, value in row.items() if value}
    table = {
        "transformers": transformers.__version__,
        "incorrect": sorted(tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS),
        "types": sorted(name for name, found in found_classes.items() if "token_type_ids" in found.model_input_names),
        "model_types": types,
        "classes": classes,
        "kinds": dict(sorted(kinds.items())),
        "languages": {
            **{name: __import__(module, fromlist=["x"]).FAIRSEQ_LANGUAGE_CODES for name, module in LANGUAGES.items()},
            **m2m_100.FAIRSEQ_LANGUAGE_CODES,
            # In the order of their tokens; after them other names as NAME=CODE.
            "whisper": [*whisper.LANGUAGES, *(f"{name}={code}" for name, code in whisper.TO_LANGUAGE_CODE.items())],
        },
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()]
    for key in ("model_types", "classes", "kinds"):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in table[key].items())
        lines[list(table).index(key)] = f" {json.dumps(key)}: {{\n{rows}\n }}"
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
