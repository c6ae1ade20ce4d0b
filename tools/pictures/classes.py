"""Writes crates/sli-pictures/src/classes.json: the image processors of transformers, their defaults and their keys.

    python tools/pictures/classes.py
"""

import ast
import inspect
import json
import os
import textwrap
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

# Keys that a class computes from others, whatever a file says.
OF_OTHERS = {
    "DeepseekVLHybridImageProcessor": ["background_color", "high_res_background_color"],
    "DeepseekVLImageProcessor": ["background_color"],
    "JanusImageProcessor": ["background_color"],
    "Lfm2VlImageProcessor": ["max_num_patches"],
}
# Keys of files that only the class of the texts reads.
OF_TEXTS = {"Cohere2VisionImageProcessor": ["patch_size"]}


def plain(value):
    """A default as JSON has it."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, bool) or value is None or isinstance(value, (float, str)):
        return value
    return int(value)


def read_by(cls):
    """What the code of a class and of those that it is made of reads of itself, methods left out."""
    found = set()
    for part in cls.__mro__:
        if not part.__module__.startswith("transformers."):
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(part)))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                found.update(argument.arg for argument in node.args.args + node.args.kwonlyargs)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                found.add(node.value)
    return {name for name in found if not callable(getattr(cls, name, None)) and not name.startswith("__")}


def described(name):
    cls = getattr(transformers, name)
    keys = getattr(cls, "valid_kwargs", None)
    if keys is None:
        return None
    keys = [key for key in keys.__annotations__ if key not in LEFT_OUT]
    defaults = {key: plain(value) for key in keys if (value := getattr(cls, key, None)) is not None}
    own = [key for key in keys if key not in COMMON]
    # What a saved file holds because the class has computed it from its keys.
    computed = [key for key in OF_OTHERS.get(name, []) if key in cls().to_dict()]
    computed += OF_TEXTS.get(name, [])
    reads = sorted(read_by(cls) - set(keys) - LEFT_OUT - set(computed))
    row = {"defaults": defaults, "keys": own, "computed": computed, "reads": reads}
    return {key: value for key, value in row.items() if value or key == "defaults"}


def main():
    models = {}
    for model, classes in IMAGE_PROCESSOR_MAPPING_NAMES.items():
        name = classes.get("torchvision")
        if name and hasattr(transformers, name):
            models[model] = name
    classes = {name: described(name) for name in sorted(set(models.values()))}
    everywhere = sorted(set.intersection(*(set(row.get("reads", [])) for row in classes.values() if row)))
    for row in filter(None, classes.values()):
        row["reads"] = [key for key in row.get("reads", []) if key not in everywhere]
    lines = [json.dumps(name) + ": " + json.dumps(row) for name, row in classes.items() if row]
    shared = json.dumps([key for key in COMMON if key not in LEFT_OUT])
    models = {model: name for model, name in sorted(models.items()) if classes[name]}
    processors = [json.dumps(model) + ": " + json.dumps(name) for model, name in sorted(PROCESSOR_MAPPING_NAMES.items()) if name]
    rows = [json.dumps(model) + ": " + json.dumps(name) for model, name in models.items()]
    text = '{\n"keys": %s,\n"reads": %s,\n"classes": {\n%s\n},\n"models": {\n%s\n},\n"processors": {\n%s\n}\n}\n'
    OUT.write_text(text % (shared, json.dumps(everywhere), ",\n".join(lines), ",\n".join(rows), ",\n".join(processors)))


if __name__ == "__main__":
    main()
