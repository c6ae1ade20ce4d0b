"""Writes crates/sli-pictures/src/classes.json: the image processors of transformers, their defaults and their keys.

    python tools/pictures/classes.py
"""

import json
import os
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import transformers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.processing_utils import ImagesKwargs

OUT = Path(__file__).parents[2] / "crates/sli-pictures/src/classes.json"
COMMON = list(ImagesKwargs.__annotations__)
# What the reference's `retrieve` of arguments is about, not pictures.
LEFT_OUT = {"data_format", "input_data_format", "device", "return_tensors", "disable_grouping", "image_seq_length"}


def plain(value):
    """A default as JSON has it."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, bool) or value is None or isinstance(value, (float, str)):
        return value
    return int(value)


def described(name):
    cls = getattr(transformers, name)
    keys = getattr(cls, "valid_kwargs", None)
    if keys is None:
        return None
    keys = [key for key in keys.__annotations__ if key not in LEFT_OUT]
    defaults = {key: plain(value) for key in keys if (value := getattr(cls, key, None)) is not None}
    own = [key for key in keys if key not in COMMON]
    return {"defaults": defaults} | ({"keys": own} if own else {})


def main():
    models = {}
    for model, classes in IMAGE_PROCESSOR_MAPPING_NAMES.items():
        name = classes.get("torchvision")
        if name and hasattr(transformers, name):
            models[model] = name
    classes = {name: described(name) for name in sorted(set(models.values()))}
    lines = [json.dumps(name) + ": " + json.dumps(row) for name, row in classes.items() if row]
    shared = json.dumps([key for key in COMMON if key not in LEFT_OUT])
    models = {model: name for model, name in sorted(models.items()) if classes[name]}
    processors = [json.dumps(model) + ": " + json.dumps(name) for model, name in sorted(PROCESSOR_MAPPING_NAMES.items()) if name]
    rows = [json.dumps(model) + ": " + json.dumps(name) for model, name in models.items()]
    text = '{\n"keys": %s,\n"classes": {\n%s\n},\n"models": {\n%s\n},\n"processors": {\n%s\n}\n}\n'
    OUT.write_text(text % (shared, ",\n".join(lines), ",\n".join(rows), ",\n".join(processors)))


if __name__ == "__main__":
    main()
