"""Writes crates/sli-spec/src/defaults.json: what transformers assumes for keys a config.json omits.

Run from the root of the repository with the pinned transformers:

    python tools/defaults/generate.py            # write
    python tools/defaults/generate.py --check    # exit 1 if the committed file is stale

The types are those of the table in crates/sli-spec/src/registry.rs; types whose code lives outside
transformers are skipped. Field defaults are the raw ones of the class, before `__post_init__`
derives one from another: deriving is the families' business, because the file may set either.
"""

import argparse
import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import transformers
from transformers.models.auto import configuration_auto, modeling_auto

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "crates/sli-spec/src/defaults.json"
REGISTRY = ROOT / "crates/sli-spec/src/registry.rs"

# Fields that every configuration class inherits; none reaches the forward pass through its default.
INHERITED = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}

# Types of parts of models.
PARTS = ["t5_gemma_module"]

# Types that files name and transformers reads as another one.
ALIASES = {"kimi_k2": "deepseek_v3"}

# Keys without which the class's own defaults describe no model, with values of a published one.
EXAMPLES = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "glm4_moe": {"head_dim": 128},
    "esm": {"mask_token_id": 32, "pad_token_id": 1, "position_embedding_type": "rotary", "vocab_size": 33},
    "xmod": {"default_language": "en_XX"},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
}

TASKS = [
    ("masked_lm", modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES),
    ("causal_lm", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ("causal_lm", modeling_auto.MODEL_FOR_CAUSAL_IMAGE_MODELING_MAPPING_NAMES),
    ("masked_lm", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ("base", modeling_auto.MODEL_MAPPING_NAMES),
]

# Heads for classes.
CLASS_TASKS = [
    ("sequence_classification", modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    ("token_classification", modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
]

# Types of an encoder and a decoder: what has both, and the encoder alone.
SEQUENCE_TASKS = [
    ("seq2seq_lm", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ("seq2seq_lm", modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES),
    ("encoder", modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES),
]


def registered_types():
    return re.findall(r'\brow\("([^"]+)"', REGISTRY.read_text(), flags=re.MULTILINE)


def names_of(mapping, model_type):
    names = mapping.get(model_type, ())
    return [names] if isinstance(names, str) else list(names)


# Classes that the reference maps from the type of the whole model, or from none.
TEXT_CLASSES = {
    "dpr": {"DPRContextEncoder": "base", "DPRReader": "base"},
    "emu3_text_model": {"Emu3ForCausalLM": "causal_lm", "Emu3TextModel": "base"},
}


def classes_of(model_type):
    """Class name -> task. A type's own language-model class overrides its pre-training class."""
    classes = dict(TEXT_CLASSES.get(model_type, {}))
    for task, mapping in TASKS:
        for name in names_of(mapping, model_type):
            # A pre-training class is of use only where it is a masked LM with one more head.
            if mapping is modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES and not (
                name.endswith("ForPreTraining") and model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
            ):
                continue
            classes[name] = task
    if any(model_type in mapping for task, mapping in SEQUENCE_TASKS if task == "seq2seq_lm"):
        classes |= {name: task for task, mapping in SEQUENCE_TASKS for name in names_of(mapping, model_type)}
    if "ElectraForPreTraining" in classes:  # tells tokens that were replaced, and predicts none
        classes["ElectraForPreTraining"] = "base"
    classes |= {name: task for task, mapping in CLASS_TASKS for name in names_of(mapping, model_type)}
    # A few causal models are in no table.
    for name in names_of(modeling_auto.MODEL_MAPPING_NAMES, model_type):
        sibling = name.removesuffix("Model") + "ForCausalLM"
        if hasattr(transformers, sibling):
            classes.setdefault(sibling, "causal_lm")
    return dict(sorted(classes.items()))


def field_defaults(config_class):
    values = {}
    for field in dataclasses.fields(config_class):
        if field.name in INHERITED:
            continue
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
    # A file may spell a field as the class does or by its alias; the alias is the spelling here.
    spelled = {config_class.attribute_map.get(key, key): value for key, value in values.items()}
    return {key: written(value) for key, value in sorted(spelled.items()) if is_plain(value)}


def written(value):
    """Numbers that JSON lacks are written as transformers writes them."""
    if isinstance(value, (list, tuple)):
        return [written(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def is_plain(value):
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def alternatives_of(expression):
    """The regular expression without groups, once for each choice of what its groups may be."""
    expression = re.sub(r"\[(\w+)\]", lambda letters: f"(?:{'|'.join(letters[1])})", expression)
    group = re.search(r"\(\?:([^()]*)\)(\??)", expression)
    if not group:
        return [expression]
    choices = group[1].split("|") + ([""] if group[2] else [])
    before, after = expression[: group.start()], expression[group.end() :]
    return [one for choice in choices for one in alternatives_of(before + choice + after)]


def pattern_of(expression):
    """The pattern, `*` for any characters, of a regular expression that the reference searches in names."""
    front = "" if expression.startswith("^") else "*"
    end = "" if expression.endswith("$") else "*"
    text = expression.removeprefix("^").removesuffix("$").removesuffix(".*")
    text = text.replace(r"\.", "\0").replace(r"\d+", "*").replace(".*", "*").replace("\0", ".")
    if re.search(r"[\\()|\[\]+?{}^$]", text):
        raise ValueError(f"{expression}: no pattern says the same")
    return f"{front}{text}{end}"


def ignored_of(model_type):
    """What the classes of the type leave out of a checkpoint without a word."""
    patterns = set()
    for name, task in classes_of(model_type).items():
        if task in ("encoder", "token_classification"):  # leaves out the decoder, which the others need
            continue
        expressions = getattr(getattr(transformers, name, None), "_keys_to_ignore_on_load_unexpected", None)
        for expression in expressions or ():
            patterns |= {pattern_of(one) for one in alternatives_of(expression)}
    return sorted(patterns)


# Prefixes of published files that the reference gives other names while it reads them.
PUBLISHED_PREFIXES = {"ultrabert": "ultrabert"}


def row_of(model_type):
    config_class = configuration_auto.CONFIG_MAPPING[model_type]
    base = names_of(modeling_auto.MODEL_MAPPING_NAMES, model_type) or list(TEXT_CLASSES.get(model_type, ()))
    base = base or [name for name, task in classes_of(model_type).items() if task == "causal_lm"]  # a decoder alone has no base class
    prefix = getattr(transformers, base[0]).base_model_prefix if base else ""
    prefix = PUBLISHED_PREFIXES.get(model_type, prefix)
    return {
        "base_prefix": f"{prefix}." if prefix else "",
        "classes": classes_of(model_type),
        "attribute_map": dict(sorted(config_class.attribute_map.items())),
        "default_theta": getattr(config_class, "default_theta", None),
        "defaults": field_defaults(config_class),
        **({"ignored": ignored_of(model_type)} if ignored_of(model_type) else {}),
        **({"example": EXAMPLES[model_type]} if model_type in EXAMPLES else {}),
    }


def table():
    known = configuration_auto.CONFIG_MAPPING_NAMES
    types = {model_type: ALIASES.get(model_type, model_type) for model_type in sorted([*registered_types(), *PARTS])}
    rows = {model_type: row_of(actual) for model_type, actual in types.items() if actual in known}
    return json.dumps(rows, indent=1, sort_keys=False) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    text = table()
    if arguments.check:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET} is stale: run tools/defaults/generate.py")
    else:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
