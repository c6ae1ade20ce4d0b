"""Writes crates/sli-spec/src/known_keys.json: which keys of a config.json the reference's classes read.

Run from the root of the repository with the pinned transformers:

    python tools/defaults/reads.py            # write
    python tools/defaults/reads.py --check    # exit 1 if the committed file is stale

`known` are the fields and aliases of every configuration class of the reference: keys that published files
are known to carry; keys of the object that describes rotations are written as `rope_parameters.KEY`. Of these,

- `shared` are fields of the base class, or looked at by modules that every type uses (the base configuration,
  rotations, masks, caches, attention interfaces, loading);
- `types` has, for each supported type, those that the sources of its configuration and its model mention
  anywhere, whether or not it is the configuration that is asked: as an attribute, a name, an argument or a whole
  string, in the files of the type and in every file of another type that these import. Fields and aliases of
  the type's own class stand in defaults.json and are left out here.

So a key that is in none of the three is read by no class of the type. `types` has only types with a class in
transformers; what the code published beside the weights of others reads is not known here.
"""

import argparse
import ast
import dataclasses
import functools
import json
import re
import sys
import textwrap
from pathlib import Path

import transformers
from transformers.models.auto import configuration_auto

import generate

TARGET = generate.ROOT / "crates/sli-spec/src/known_keys.json"
SOURCES = Path(transformers.__file__).parent
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

# Modules about configurations, by whose every string a key may be looked up.
ABOUT_CONFIGURATIONS = [
    "configuration_utils.py", "modeling_rope_utils.py", "masking_utils.py", "cache_utils.py", "models/auto/configuration_auto.py",
    "utils/generic.py", "utils/type_validators.py",
    *sorted(str(path.relative_to(SOURCES)) for path in (SOURCES / "integrations/heterogeneity").glob("**/*.py")),
]
# Further modules on the way from a file to the first logit, which ask a configuration by name.
ON_THE_WAY = [
    "modeling_utils.py", "modeling_layers.py", "activations.py", "modeling_attn_mask_utils.py", "modeling_flash_attention_utils.py",
    "core_model_loading.py", "conversion_mapping.py", "fusion_mapping.py", "initialization.py", "monkey_patching.py",
    "pytorch_utils.py", "models/auto/auto_factory.py", "utils/output_capturing.py",
    *(f"integrations/{name}.py" for name in (
        "eager_paged", "flash_attention", "flash_paged", "flex_attention", "hub_kernels", "moe", "sdpa_attention", "sdpa_paged",
    )),
]
# What in them only speculative generation and heads over whole records need.
NOT_ON_THE_WAY = re.compile("Mtp|_mtp_|For(SequenceClassification|QuestionAnswering|TokenClassification)$")
# What a configuration is called where it is asked.
CONFIGURATION = re.compile(r"(^|_)(config|cfg)$")


@functools.cache
def tree(path):
    return ast.parse((SOURCES / path).read_text())


def name_of(node):
    """The last name of what is asked: `config` of `self.config`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return name_of(node.func)
    return node.id if isinstance(node, ast.Name) else ""


def asked(path):
    """What a shared module may ask a configuration."""
    strings = path in ABOUT_CONFIGURATIONS
    waiting = [tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and NOT_ON_THE_WAY.search(node.name):
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Attribute) and (CONFIGURATION.search(name_of(node.value)) or (strings and name_of(node.value) == "self")):
            yield node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1 and CONFIGURATION.search(name_of(node.args[0])):
            if isinstance(node.args[1], ast.Constant):
                yield node.args[1].value
        elif strings and isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value):
            yield node.value


def mentioned(path):
    """Everything in a type's own file that could be a key."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
            case ast.Constant(value=str(name)) if KEY.fullmatch(name):
                yield name
            case ast.JoinedStr():
                raise_if_composed(path, node)


def raise_if_composed(path, joined):
    """A key that is put together from pieces would escape this script."""
    parent = parents(path).get(joined)
    if isinstance(parent, ast.Call) and name_of(parent.func) in ("getattr", "hasattr"):
        if CONFIGURATION.search(name_of(parent.args[0])):
            raise ValueError(f"{path}:{joined.lineno}: a composed key")


@functools.cache
def parents(path):
    return {child: node for node in ast.walk(tree(path)) for child in ast.iter_child_nodes(node)}


def imports(path):
    """Files of models that this file takes something from."""
    package = Path(path).parent
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        folder = package
        for _ in range(node.level - 1):
            folder = folder.parent
        file = Path(f"{folder.joinpath(*(node.module or '').split('.'))}.py")
        if file.parts[:1] == ("models",) and file.parts[1] != "auto" and (SOURCES / file).exists():
            yield str(file)


def files_of(model_type):
    config_class = configuration_auto.CONFIG_MAPPING[model_type]
    classes = [getattr(transformers, name) for name in generate.classes_of(model_type)]
    modules = {cls.__module__ for cls in [config_class, *classes]}
    waiting = [module.removeprefix("transformers.").replace(".", "/") + ".py" for module in modules]
    found = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(imports(path))
    return sorted(found)


def fields_of(config_class):
    return {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)


def known_keys():
    known = set()
    for model_type in configuration_auto.CONFIG_MAPPING_NAMES:
        config_class = configuration_auto.CONFIG_MAPPING[model_type]
        waiting = [config_class]
        while waiting:
            cls = waiting.pop()
            known |= fields_of(cls)
            # Parts of a configuration that are classes of their own.
            waiting += [part for part in cls.sub_configs.values() if isinstance(part, type) and dataclasses.is_dataclass(part) and part is not cls]
    return known


def rotation_keys(path):
    """What a file looks up in the object that describes rotations."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Subscript(value=asked_object, slice=ast.Constant(value=str(key))):
                pass
            case ast.Call(func=ast.Attribute(value=asked_object, attr="get" | "pop"), args=[ast.Constant(value=str(key)), *_]):
                pass
            case _:
                continue
        if name_of(asked_object).startswith("rope_"):
            yield key


def known_rotation_keys():
    """Those that single types look up; the others every rotation may use."""
    models = [str(path.relative_to(SOURCES)) for path in (SOURCES / "models").glob("*/*.py") if path.name.startswith(("modeling_", "configuration_"))]
    kinds = {"full_attention", "sliding_attention"}
    every = {key for path in ABOUT_CONFIGURATIONS for key in [*asked(path), *rotation_keys(path)]}
    return {key for path in models for key in rotation_keys(path)} - every - kinds


def wrapped(keys, indent):
    """A list in lines that can be read."""
    lines = textwrap.wrap(", ".join(json.dumps(key) for key in keys), 118 - indent, break_on_hyphens=False)
    return "[" + "".join(f"\n{' ' * indent}{line}" for line in lines) + "]"


def table():
    known = known_keys()
    shared = {key for path in ABOUT_CONFIGURATIONS + ON_THE_WAY for key in asked(path)} & known
    shared |= generate.INHERITED
    rotation = known_rotation_keys()
    types = {}
    for model_type in sorted(generate.registered_types()):
        actual = generate.ALIASES.get(model_type, model_type)
        if actual not in configuration_auto.CONFIG_MAPPING_NAMES:
            continue
        own = fields_of(configuration_auto.CONFIG_MAPPING[actual])
        found = {key for path in files_of(actual) for key in mentioned(path)}
        turning = {f"rope_parameters.{key}" for key in found & rotation}
        types[model_type] = sorted((found & known) - shared - own | turning)
    lists = {"known": sorted(known | {f"rope_parameters.{key}" for key in rotation}), "shared": sorted(shared)}
    head = "".join(f' "{name}": {wrapped(keys, 2)},\n' for name, keys in lists.items())
    rows = ",\n".join(f'  "{name}": {wrapped(keys, 3)}' for name, keys in types.items())
    return f'{{\n{head} "types": {{\n{rows}\n }}\n}}\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    text = table()
    if arguments.check:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET} is stale: run tools/defaults/reads.py")
    else:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
