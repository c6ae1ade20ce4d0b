"""Architecture families by the names of the original specification: a view of the registry of model types."""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Mapping
from typing import Any

from . import _sli
from ._errors import UnsupportedArchitectureError, model_error, unsupported_error

#: The ten families of the specification.
FAMILIES = ("llama", "gpt", "chatglm", "t5", "bloom", "opt", "mamba", "moe", "multimodal", "encoder")

_GPT = {"gpt2", "gpt_neox", "falcon", "mpt", "phi"}
_RECURRENT = {"mamba", "rwkv", "xlstm", "hybrid"}


@functools.lru_cache(maxsize=1)
def rows() -> tuple[dict[str, Any], ...]:
    """The supported model types, as ``sli.architectures()`` lists them."""
    listed = json.loads(_sli.architectures())
    return tuple(row for row in listed if row["supported"])


def family_of(row: Mapping[str, Any]) -> str:
    """The family of the specification that a model type belongs to."""
    stacks = set(row["stacks"])
    if row["family"] in ("chatglm", "bloom"):
        return str(row["family"])
    if row["model_type"] == "opt":
        return "opt"
    if "vision" in stacks:
        return "multimodal"
    if row["family"] in _RECURRENT:
        return "mamba"
    if {"encoder", "decoder"} <= stacks:
        return "t5"
    if "decoder" not in stacks:
        return "encoder"
    if row["mixture_of_experts"]:
        return "moe"
    return "gpt" if row["family"] in _GPT else "llama"


def unsupported(config: Any) -> UnsupportedArchitectureError:
    """The refusal of a configuration that no family takes."""
    model_type = member(config, "model_type")
    known = [row["model_type"] for row in rows()]
    near = difflib.get_close_matches(str(model_type), known, 1)
    error = UnsupportedArchitectureError(f"no family takes model_type {model_type!r}, architectures {classes(config)}")
    error.hint = f"did you mean {near[0]!r}?" if near else "sli.architectures() lists what is supported"
    return error


def member(config: Any, name: str, default: Any = None) -> Any:
    """A member of a configuration: a dict, a ``PretrainedConfig``, or any object."""
    if isinstance(config, Mapping):
        return config.get(name, default)
    return getattr(config, name, default)


def classes(config: Any) -> list[str]:
    """The classes that a configuration names."""
    return list(member(config, "architectures") or [])


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration in a model's folder."""
    place = os.path.join(path, "config.json")
    try:
        with open(place, encoding="utf-8") as file:
            config: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise model_error(f"{place} cannot be read: {error}", "give the folder of a model, with its config.json") from error
    if not isinstance(config, dict):
        raise model_error(f"{place} is no configuration", "a configuration is a JSON object")
    return config


class ArchitectureFamily:
    """A family of model types. A subclass with ``family_id``, ``model_types`` and ``get_layer_prefix`` can be registered.

    ``base_model_type`` and ``weight_names`` describe a type whose models are those of a supported type under other names: they are
    then run (see :class:`UniversalSLIIntegrator`). ``weight_names`` maps names, with ``{}`` for the number of a layer or an expert,
    to those of ``base_model_type``.
    """

    family_id: str = ""
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    base_model_type: str | None = None
    weight_names: Mapping[str, str] = {}

    def matches(self, config: Any) -> bool:
        """Whether the family takes this configuration."""
        if member(config, "model_type") in self.model_types:
            return True
        return any(name in self.architectures for name in classes(config))

    def get_layer_prefix(self, layer_idx: int, config: Any = None) -> str:
        """What the names of a layer's weights begin with, the dot at the end included."""
        raise NotImplementedError(f"{type(self).__name__} does not say how the weights of a layer are called")

    def create_layer(self, config: Any, layer_idx: int, dtype: Any = None, device: str = "cpu") -> Any:
        """A layer that can be called: ``[tokens, hidden]`` in, the same out."""
        from ._layers import Layer

        return Layer(config, layer_idx, self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.family_id!r}: {len(self.model_types)} model types>"


class _Registered(ArchitectureFamily):
    """A family of the registry."""

    def __init__(self) -> None:
        own = [row for row in rows() if family_of(row) == self.family_id]
        self._prefixes: dict[str, str] = {row["model_type"]: row["layer_prefix"] for row in own}
        # A class that several types have gives names where these are the same.
        self._classes: dict[str, set[str]] = {}
        for row in own:
            for name in row["classes"]:
                self._classes.setdefault(name, set()).add(row["layer_prefix"])
        self.model_types = tuple(self._prefixes)
        self.architectures = tuple(dict.fromkeys(name for row in own for name in row["classes"]))

    def get_layer_prefix(self, layer_idx: int, config: Any = None) -> str:
        if config is None:
            return self._prefixes[self._usual()].format(layer_idx)
        model_type = member(config, "model_type")
        if model_type in self._prefixes:
            return self._prefixes[model_type].format(layer_idx)
        for name in classes(config):
            prefixes = self._classes.get(name, set())
            if len(prefixes) == 1:
                return next(iter(prefixes)).format(layer_idx)
            if prefixes:
                problem = f"{name} is the class of types whose layers are called {' and '.join(sorted(prefixes))}"
                raise unsupported_error(problem, "give the configuration its model_type")
        if model_type is None and not classes(config):
            return self._prefixes[self._usual()].format(layer_idx)
        raise unsupported(config)

    def _usual(self) -> str:
        """The type that the family is named after."""
        for name in (self.family_id, "gpt2", "mixtral", "bert"):
            if name in self._prefixes:
                return name
        return next(iter(self._prefixes))


class LlamaFamilyHandler(_Registered):
    """Llama, Mistral, Qwen, Gemma, Phi-3 and their like."""

    family_id = "llama"


class GPTFamilyHandler(_Registered):
    """GPT-2, GPT-J, GPT-NeoX, Falcon, MPT and their like."""

    family_id = "gpt"


class ChatGLMFamilyHandler(_Registered):
    """ChatGLM2 to 4."""

    family_id = "chatglm"


class T5FamilyHandler(_Registered):
    """A decoder behind an encoder: T5, BART, Whisper and their like."""

    family_id = "t5"


class BLOOMFamilyHandler(_Registered):
    """BLOOM."""

    family_id = "bloom"


class OPTFamilyHandler(_Registered):
    """OPT."""

    family_id = "opt"


class MambaFamilyHandler(_Registered):
    """Mamba, RWKV, xLSTM, and hybrids of scans with attention."""

    family_id = "mamba"


class MoEFamilyHandler(_Registered):
    """Mixtures of experts."""

    family_id = "moe"


class MultimodalFamilyHandler(_Registered):
    """Models with an encoder of pictures in front."""

    family_id = "multimodal"


class EncoderFamilyHandler(_Registered):
    """BERT, RoBERTa, DeBERTa and their like."""

    family_id = "encoder"


class ArchitectureRegistry:
    """The families, and those that are registered beside them."""

    _own: dict[str, ArchitectureFamily] = {}
    _built_in: dict[str, ArchitectureFamily] = {}

    @classmethod
    def _all(cls) -> dict[str, ArchitectureFamily]:
        if not cls._built_in:
            handlers = (
                LlamaFamilyHandler,
                GPTFamilyHandler,
                ChatGLMFamilyHandler,
                T5FamilyHandler,
                BLOOMFamilyHandler,
                OPTFamilyHandler,
                MambaFamilyHandler,
                MoEFamilyHandler,
                MultimodalFamilyHandler,
                EncoderFamilyHandler,
            )
            cls._built_in = {handler.family_id: handler() for handler in handlers}
        return {**cls._built_in, **cls._own}

    @classmethod
    def register(cls, family: ArchitectureFamily | type[ArchitectureFamily]) -> Any:
        """Adds a family; also a decorator of classes. One of the same id takes the place of the built-in one."""
        made = family() if isinstance(family, type) else family
        if not isinstance(made, ArchitectureFamily):
            raise TypeError(f"a family is an ArchitectureFamily, not {type(made).__name__}")
        if not made.family_id:
            raise ValueError(f"{type(made).__name__} has no family_id")
        cls._own[made.family_id] = made
        return family

    @classmethod
    def unregister(cls, family_id: str) -> None:
        """Takes a family away that was registered."""
        cls._own.pop(family_id, None)

    @classmethod
    def families(cls) -> list[ArchitectureFamily]:
        """All of them."""
        return list(cls._all().values())

    @classmethod
    def get_family(cls, family_id: str) -> ArchitectureFamily:
        """The family of this id."""
        found = cls._all().get(family_id)
        if found is None:
            raise unsupported_error(f"there is no family {family_id!r}", f"there are {', '.join(cls._all())}")
        return found

    @classmethod
    def detect_family(cls, config: Any) -> ArchitectureFamily:
        """The family that takes a configuration (a dict, a ``PretrainedConfig``, an object, or a model's folder).

        The model type decides, then the class; among equals what the registry has goes before what was registered.
        """
        if isinstance(config, (str, os.PathLike)):
            config = read_config(config)
        families = cls._all()
        ordered = [family for name, family in families.items() if name not in cls._own] + list(cls._own.values())
        model_type = member(config, "model_type")
        for family in ordered:
            if model_type in family.model_types:
                return family
        for family in ordered:
            if family.matches(config):
                return family
        raise unsupported(config)
