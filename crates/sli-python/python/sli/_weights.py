"""Weights by the names of the original specification: names inside a layer, and the layers of a checkpoint."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _sli
from ._errors import SLIError, model_error, usage_error
from ._families import ArchitectureFamily, ArchitectureRegistry, read_config
from ._safetensors import DTYPES, read_header

if TYPE_CHECKING:
    import numpy as np

#: A number that no name has by itself.
_MARK = 987654321


class WeightNameMapper:
    """Names of weights in a checkpoint, and inside their layer. Every spelling is known that files of a configuration may have:
    those that are saved of a model without a head have shorter names."""

    def __init__(self, family: ArchitectureFamily, config: Any = None) -> None:
        self.family = family
        self.config = config
        head, tail = family.get_layer_prefix(_MARK, config).split(str(_MARK))
        parts = head.split(".")
        # A model that is saved without its head leaves out the names of what it is a part of.
        shorter = (".".join(parts[at:]) for at in range(1, len(parts) - 1))
        heads = sorted({head, *shorter, *_spelled(family, config, tail)}, key=len, reverse=True)
        self._prefix = re.compile(f"(?:{'|'.join(map(re.escape, heads))})(\\d+){re.escape(tail)}")

    def layer_of(self, name: str) -> int | None:
        """The layer that a weight belongs to; ``None`` for one that is of no layer."""
        found = self._prefix.match(name)
        return int(found[1]) if found else None

    def normalize_weight_name(self, name: str, layer_idx: int | None = None) -> str:
        """The name of a weight inside its layer; one that is of no layer (or of another than ``layer_idx``) stays as it is."""
        found = self._prefix.match(name)
        if not found or (layer_idx is not None and int(found[1]) != layer_idx):
            return name
        return name[found.end() :]

    def denormalize_weight_name(self, name: str, layer_idx: int) -> str:
        """The name in the checkpoint of a weight that has this name inside its layer."""
        return self.family.get_layer_prefix(layer_idx, self.config) + name


def _spelled(family: ArchitectureFamily, config: Any, tail: str) -> Iterator[str]:
    """What stands before the number of a layer in every spelling of its weights, of a family and a configuration that the engine
    describes."""
    if config is None or not hasattr(family, "_prefixes"):
        return
    try:
        described = _sli.weights(config_text(config))
    except SLIError:
        # Of a configuration that says too little for a description only the family is known.
        return
    own, mark = family.get_layer_prefix(0, config), f"0{tail}"
    for _, layer, names, _, _ in described:
        inside = [name[len(own) :] for name in names if layer == 0 and name.startswith(own)]
        for name in names:
            prefixes = (name[: -len(end)] for end in inside if name.endswith(end))
            yield from (prefix[: -len(mark)] for prefix in prefixes if prefix.endswith(mark))


class SafetensorsFolder:
    """The safetensors files of a model's folder: those that the index names, else ``model.safetensors``, else the only one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tensors: dict[str, tuple[str, dict[str, Any], int]] = {}
        for name in self._files():
            header, begin = read_header(os.path.join(path, name))
            for tensor, entry in header.items():
                if tensor != "__metadata__":
                    self.tensors[tensor] = (name, entry, begin)
        self._mapped: dict[str, mmap.mmap] = {}

    def _files(self) -> list[str]:
        there = sorted(name for name in os.listdir(self.path) if name.endswith(".safetensors"))
        if "model.safetensors" in there:
            return ["model.safetensors"]
        index = os.path.join(self.path, "model.safetensors.index.json")
        return _indexed(index) if os.path.exists(index) else there

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """A tensor over the mapped file; bf16, which numpy does not have, as a copy in float32."""
        import numpy as np

        file, entry, begin = self.tensors[name]
        first, last = entry["data_offsets"]
        dtype = "<u2" if entry["dtype"] == "BF16" else DTYPES.get(entry["dtype"])
        if dtype is None:
            raise model_error(f"{name} is stored as {entry['dtype']}, which numpy does not have", "sli.run reads it")
        if file not in self._mapped:
            with open(os.path.join(self.path, file), "rb") as opened:
                self._mapped[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        kind: np.dtype[Any] = np.dtype(dtype)
        flat: np.ndarray[Any, Any] = np.empty(0, kind)
        if last > first:
            flat = np.frombuffer(self._mapped[file], kind, (last - first) // kind.itemsize, begin + first)
        if entry["dtype"] == "BF16":
            flat = (flat.astype("<u4") << 16).view("<f4")
        return flat.reshape(entry["shape"])


def _indexed(path: str) -> list[str]:
    """The files that an index names, which are beside it."""
    try:
        with open(path, encoding="utf-8") as file:
            names = sorted(set(json.load(file)["weight_map"].values()))
        if any(os.path.basename(name) != name for name in names):
            raise ValueError(f"a file is {next(name for name in names if os.path.basename(name) != name)!r}, which is not beside it")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise model_error(f"{path} is no index of weights: {error}", "its `weight_map` has the file of each weight") from error
    return names


class UniversalWeightLoader:
    """Reads the layers of a checkpoint into arrays: safetensors, and torch files where torch is."""

    def __init__(self, model_path: str | os.PathLike[str], cache_dir: str | None = None, device: str = "cpu") -> None:
        self.model_path = os.fsdecode(os.fspath(model_path))
        if not os.path.isdir(self.model_path):
            raise usage_error(f"{self.model_path} is no folder", "`sli download ORG/NAME --json` fetches a model and names its folder")

    def discover_format(self) -> str:
        """``safetensors``, ``bin``, ``pt``, ``pth`` or ``gguf``: of several formats the one that is taken."""
        names = os.listdir(self.model_path)
        for kind in ("safetensors", "bin", "pt", "pth", "gguf"):
            if any(name.endswith(f".{kind}") for name in names):
                return kind
        raise model_error(f"{self.model_path} has no weights", "they are in safetensors, .bin, .pt, .pth or .gguf files")

    def weights(self) -> Iterator[tuple[str, Any]]:
        """All weights: their names, and what gives an array of each."""
        kind = self.discover_format()
        if kind == "safetensors":
            folder = SafetensorsFolder(self.model_path)
            for name in folder.tensors:
                yield name, (lambda name=name: folder.array(name))
        elif kind == "gguf":
            raise usage_error("the weights are in a GGUF file, in blocks", "sli.run reads it")
        else:
            yield from self._torch(kind)

    def _torch(self, kind: str) -> Iterator[tuple[str, Any]]:
        try:
            import torch
        except ImportError as error:
            raise usage_error(f"the weights are .{kind} files, and torch is not there", "pip install torch, or use sli.run") from error
        for name in sorted(name for name in os.listdir(self.model_path) if name.endswith(f".{kind}")):
            path = os.path.join(self.model_path, name)
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            if isinstance(tensors, Mapping):
                for weight, tensor in tensors.items():
                    if isinstance(tensor, torch.Tensor):
                        yield weight, (lambda tensor=tensor: _array(tensor))

    def load_layer_weights(self, layer_idx: int, family: ArchitectureFamily | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """The weights of a layer by their names inside it."""
        config = read_config(self.model_path)
        family = family or ArchitectureRegistry.detect_family(config)
        mapper = WeightNameMapper(family, config)
        found, shared = {}, {}
        others = _shared(family, config, layer_idx, mapper)
        for name, read in self.weights():
            if mapper.layer_of(name) == layer_idx:
                found[mapper.normalize_weight_name(name)] = read()
            elif name in others:
                shared[name] = read()
        if not found:
            prefix = family.get_layer_prefix(layer_idx, config)
            raise usage_error(f"{self.model_path} has no weights of layer {layer_idx} ({prefix}*)", "layers count from 0")
        return found | shared


def _shared(family: ArchitectureFamily, config: Any, layer_idx: int, mapper: WeightNameMapper) -> set[str]:
    """The names of weights that a layer uses and that are of no layer."""
    if not hasattr(family, "_prefixes") or layer_idx < 0:
        return set()
    weights = _sli.layer_weights(config_text(config), layer_idx)
    names = {name for _, ways, _ in weights for way in ways for name in way}
    return {name for name in names if mapper.layer_of(name) is None}


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    import torch

    array: np.ndarray[Any, Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


class UniversalLayerFactory:
    """Layers of any supported type."""

    @staticmethod
    def create_layer(config: Any, layer_idx: int, family: ArchitectureFamily | None = None, **options: Any) -> Any:
        """A layer that can be called, without weights yet: ``load_state_dict`` gives it some."""
        family = family or ArchitectureRegistry.detect_family(config)
        return family.create_layer(config, layer_idx, **options)

    @staticmethod
    def get_weight_prefix(config: Any, layer_idx: int) -> str:
        """What the names of a layer's weights begin with."""
        return ArchitectureRegistry.detect_family(config).get_layer_prefix(layer_idx, config)

    @staticmethod
    def get_weight_mapping(config: Any, layer_idx: int) -> dict[str, str]:
        """The names of a layer's weights inside it, and in the checkpoint (``{}``: the number of an expert)."""
        family = ArchitectureRegistry.detect_family(config)
        mapper = WeightNameMapper(family, config)
        mapping: dict[str, str] = {}
        for _, _, names, _, _ in _sli.weights(config_text(config)):
            for name in names:
                if mapper.layer_of(name) == layer_idx:
                    inside = mapper.normalize_weight_name(name)
                    if inside not in mapping or name == mapper.denormalize_weight_name(inside, layer_idx):
                        mapping[inside] = name
        if not mapping:
            raise usage_error(f"the model has no layer {layer_idx}", "layers count from 0")
        return mapping


def config_text(config: Any) -> str:
    """A configuration as the text of its file."""
    return json.dumps(config_dict(config))


def config_dict(config: Any) -> dict[str, Any]:
    """A configuration as its file has it: a dict, a ``PretrainedConfig``, or any object."""
    if isinstance(config, Mapping):
        return dict(config)
    if hasattr(config, "to_json_string"):
        # What is at its default is left out, as in a saved file.
        saved: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
        return {**saved}
    return {name: value for name, value in vars(config).items() if not name.startswith("_")}
