"""Which keys of a config.json the reference's classes read; `generate.py` writes them down.

`KNOWN` are the fields and aliases of every configuration class of the reference: keys that published files
are known to carry; keys of the object that describes rotations are written as `rope_parameters.KEY`. Of these,

- `SHARED` are fields of the base class, or looked at by modules that every type uses (the base configuration,
  rotations, masks, caches, attention interfaces, loading);
- `of(model_type)` are those that the sources of its configuration and its model mention
  anywhere, whether or not it is the configuration that is asked: as an attribute, a name, an argument or a whole
  string, in the files of the type and in every file of another type that these import. Fields and aliases of
  the type's own class stand among its defaults and are left out here.

So a key that is in none of the three is read by no class of the type. What the code published beside the weights of
types without a class in transformers reads is not known here.
"""

import ast
import dataclasses
import functools
import re
from pathlib import Path

import transformers
from transformers.models.auto import configuration_auto

import classes

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
    models = [getattr(transformers, name) for name in classes.classes_of(model_type) if hasattr(transformers, name)]
    modules = {cls.__module__ for cls in [config_class, *models]}
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


ROTATION = known_rotation_keys()
ALL = known_keys()
KNOWN = sorted(ALL | {f"rope_parameters.{key}" for key in ROTATION})
SHARED = sorted({key for path in ABOUT_CONFIGURATIONS + ON_THE_WAY for key in asked(path)} & ALL | classes.INHERITED)


def of(model_type):
    """What the sources of the type mention of other classes' keys."""
    own = fields_of(configuration_auto.CONFIG_MAPPING[model_type])
    found = {key for path in files_of(model_type) for key in mentioned(path)}
    turning = {f"rope_parameters.{key}" for key in found & ROTATION}
    return sorted((found & ALL) - set(SHARED) - own | turning)
