"""The integrators of the original specification: a model run over a dataset layer by layer."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import struct
import warnings
from collections.abc import Mapping
from typing import Any

from ._calls import run
from ._data import Data
from ._errors import unsupported_error, usage_error
from ._families import ArchitectureFamily, ArchitectureRegistry, read_config
from ._progress import SLIWarning
from ._results import Results
from ._safetensors import read_header
from ._weights import SafetensorsFolder

_LOG = logging.getLogger("sli")


class UniversalSLIIntegrator:
    """Runs a model of any supported type over a dataset, one layer at a time; results go to ``output_dir``.

    ``device`` other than the CPU and ``trust_remote_code`` are accepted with a warning: SLI computes on the CPU, and executes no
    code of models. ``cache_dir`` holds what is made of a model of a registered family; ``activation_cache_dir`` is not used, as
    activations move to a folder beside the results where they do not fit. Further arguments are those of :func:`sli.run`.
    """

    #: The families that are taken; ``None``: all.
    families: tuple[str, ...] | None = None

    def __init__(
        self,
        model_id: str,
        output_dir: str = "profiles/sli_profile",
        cache_dir: str = "temp_sli_shards",
        activation_cache_dir: str = "activation_cache",
        device: str = "cuda",
        trust_remote_code: bool | None = None,
        **options: Any,
    ) -> None:
        self.model_id = os.fsdecode(os.fspath(model_id))
        self.output_dir = os.fsdecode(os.fspath(output_dir))
        self.cache_dir = os.fsdecode(os.fspath(cache_dir))
        self.activation_cache_dir = activation_cache_dir
        self.options = options
        if str(device).split(":")[0] != "cpu":
            warnings.warn(f"device={device!r}: SLI computes on the CPU", SLIWarning, stacklevel=2)
        self.device = "cpu"
        if trust_remote_code:
            warnings.warn("trust_remote_code: no code of models is executed", SLIWarning, stacklevel=2)
        self.config: dict[str, Any] | None = None
        self.family: ArchitectureFamily | None = None
        if os.path.isdir(self.model_id):
            self.config = read_config(self.model_id)
            self.family = ArchitectureRegistry.detect_family(self.config)
            if self.families is not None and self.family.family_id not in self.families:
                problem = f"{self.model_id} is of the family {self.family.family_id!r}"
                raise unsupported_error(problem, "UniversalSLIIntegrator takes every family")

    def run_sli(self, dataset: Data, **options: Any) -> Results:
        """Runs over the dataset, or goes on with the same run that ended early; ``take`` is ``["profile", "scores"]`` by default."""
        named: dict[str, Any] = {"take": ["profile", "scores"], "out": self.output_dir, **self.options, **options}
        return run(self._model(), dataset, **named)

    def _model(self) -> str:
        """The model itself, or of a registered family one of the type that it is described by."""
        family = self.family
        if family is None or self.config is None or family.base_model_type is None:
            if family is not None and not hasattr(family, "_prefixes"):
                problem = f"the family {family.family_id!r} says how its weights are called, but not how its layers compute"
                hint = "give it `base_model_type` and `weight_names`, if its layers are those of a supported type"
                raise unsupported_error(problem, hint)
            return self.model_id
        return renamed(self.model_id, self.config, family, self.cache_dir)


class SequentialLayerIntegrator(UniversalSLIIntegrator):
    """The same under its older name, for models of the Llama family."""

    families = ("llama",)


def renamed(path: str, config: Mapping[str, Any], family: ArchitectureFamily, cache_dir: str) -> str:
    """A folder with the model as one of the type that its family is described by: the weights under that type's names."""
    patterns = [(_pattern(own), other) for own, other in family.weight_names.items()]
    # Models in different folders may have one name.
    place = os.path.realpath(path)
    mark = hashlib.sha256(os.fsencode(place)).hexdigest()[:12]
    target = os.path.join(cache_dir, f"{os.path.basename(place)}-{mark}.as-{family.base_model_type}")
    os.makedirs(target, exist_ok=True)
    folder = SafetensorsFolder(path)
    if not folder.tensors:
        raise usage_error(f"{path} has no safetensors files", "save the weights as safetensors")
    for file in sorted({file for file, *_ in folder.tensors.values()}):
        _rename_file(os.path.join(path, file), os.path.join(target, file), patterns)
    names = {_renamed(name, patterns): file for name, (file, *_) in folder.tensors.items()}
    if len(names) != len(folder.tensors):
        raise usage_error(f"weight_names of {family.family_id!r} give two weights one name", "each name stands for one weight")
    for name in os.listdir(path):
        if not name.endswith((".safetensors", ".index.json")) and os.path.isfile(os.path.join(path, name)):
            shutil.copyfile(os.path.join(path, name), os.path.join(target, name))
    if len(set(names.values())) > 1:
        _write_json(os.path.join(target, "model.safetensors.index.json"), {"metadata": {}, "weight_map": names})
    _write_json(os.path.join(target, "config.json"), {**config, "model_type": family.base_model_type, "architectures": None})
    return target


def _pattern(own: str) -> re.Pattern[str]:
    return re.compile(re.escape(own).replace(r"\{\}", r"(\d+)"))


def _renamed(name: str, patterns: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, other in patterns:
        found = pattern.match(name)
        if found:
            try:
                return other.format(*found.groups()) + name[found.end() :]
            except (IndexError, KeyError, ValueError) as error:
                problem = f"weight_names: {other!r} has not the places of {pattern.pattern!r}"
                raise usage_error(problem, "both sides have `{}` for the same numbers") from error
    return name


def _rename_file(source: str, target: str, patterns: list[tuple[re.Pattern[str], str]]) -> None:
    header, begin = read_header(source)
    text = json.dumps({name if name == "__metadata__" else _renamed(name, patterns): entry for name, entry in header.items()}).encode()
    text += b" " * (-len(text) % 8)
    start = struct.pack("<Q", len(text)) + text
    size = len(start) + os.path.getsize(source) - begin
    if os.path.exists(target) and os.path.getsize(target) == size and os.path.getmtime(target) >= os.path.getmtime(source):
        with open(target, "rb") as there:
            if there.read(len(start)) == start:
                return
    partial = target + ".incomplete"
    with open(source, "rb") as read, open(partial, "wb") as written:
        written.write(start)
        read.seek(begin)
        shutil.copyfileobj(read, written, 8 << 20)
    os.replace(partial, target)
    _LOG.info("%s: the names of %s", target, source)


def _write_json(path: str, value: Any) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
