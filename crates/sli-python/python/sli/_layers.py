"""A layer by itself: rows in, rows out, computed by the engine."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _sli
from ._calls import run
from ._errors import SLIError, model_error, unsupported_error, usage_error
from ._families import rows
from ._safetensors import write_safetensors
from ._weights import WeightNameMapper, config_dict

if TYPE_CHECKING:
    from ._families import ArchitectureFamily

#: Members of configurations that say how many layers there are.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


_WHOLE = "sli.run(model, data, take=['hidden']) gives what enters and leaves every layer"


class Layer:
    """``layer(hidden)``: ``[tokens, hidden]`` in, the same out, of one record in float32; arrays and tensors alike.

    What enters is the embedding of a model of this one layer, so types whose embeddings are changed on their way into the first
    layer (a norm, a factor) are refused, as are layers behind an encoder.
    """

    def __init__(self, config: Any, layer_idx: int, family: ArchitectureFamily) -> None:
        self.config = config_dict(config)
        self.layer_idx = layer_idx
        self.family = family
        text = self.config
        stacks = sorted({stack for stack, layer, *_ in _sli.weights(json.dumps(text)) if layer is not None})
        if len(stacks) > 1:
            raise unsupported_error(f"a layer of a model with the stacks {', '.join(stacks)} cannot stand alone", _WHOLE)
        key = next((name for name in _LAYERS if isinstance(text.get(name), int)), None)
        if key is None:
            raise unsupported_error("the configuration does not say how many layers there are", f"it is one of {', '.join(_LAYERS)}")
        count = text[key]
        if isinstance(layer_idx, bool) or not isinstance(layer_idx, int):
            raise TypeError(f"layer_idx must be a number, not {layer_idx!r}")
        if not 0 <= layer_idx < count:
            raise usage_error(f"the model has no layer {layer_idx}", f"it has {count}, from 0")
        # The lists of the configuration have an entry a layer.
        cut = {name: [value[layer_idx]] for name, value in text.items() if isinstance(value, list) and len(value) == count > 1}
        self._config = {**text, **cut, key: 1, "architectures": text.get("architectures")}
        self._mapper = WeightNameMapper(family, config)
        try:
            alone = _sli.is_alike(json.dumps(text), layer_idx, json.dumps(self._config))
        except SLIError as error:
            raise unsupported_error(f"layer {layer_idx} cannot stand alone: {error}", _WHOLE) from error
        if not alone:
            problem = f"layer {layer_idx} cannot stand alone: the first layer of a model of one layer is another"
            raise unsupported_error(problem, _WHOLE)
        weights = _sli.layer_weights(json.dumps(self._config), 0)
        # What each of them is made of: one of several sets of tensors, by their names inside the layer.
        inside = self._mapper.normalize_weight_name
        self._ways = [([[inside(name) for name in way] for way in ways], optional) for _, ways, optional in weights]
        self._names = {inside(name): name for _, ways, _ in weights for way in reversed(ways) for name in way}
        self._weights: dict[str, Any] = {}

    def state_dict_names(self) -> list[str]:
        """The names that ``load_state_dict`` takes, in the first of several spellings; other spellings are taken, too."""
        return sorted({name for ways, _ in self._ways for name in ways[0]})

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Takes the weights of the layer by their names inside it; those that are missing and those that nothing takes are the
        answer, and with ``strict`` an error."""
        import numpy as np

        if not isinstance(state_dict, Mapping):
            raise TypeError(f"a state dict maps names to arrays; this is {type(state_dict).__name__}")
        given = {name: _array(value) for name, value in state_dict.items()}
        missing = sorted({name for ways, optional in self._ways if optional is None for name in _missing(ways, given)})
        unexpected = sorted(set(given) - set(self._names))
        if strict and (missing or unexpected):
            raise usage_error(f"missing: {missing}; unexpected: {unexpected}", "state_dict_names() lists what is taken")
        self._weights.update({name: np.ascontiguousarray(given[name], "<f4") for name in given if name in self._names})
        return missing, unexpected

    def __call__(self, hidden_states: Any, **options: Any) -> Any:
        """The output of the layer; ``options`` are those of :func:`sli.run`."""
        import numpy as np

        if not self._weights:
            raise usage_error("the layer has no weights", "load_state_dict gives it some")
        given = _array(hidden_states)
        hidden = np.ascontiguousarray(given[0] if given.ndim == 3 and given.shape[0] == 1 else given, "<f4")
        if hidden.ndim != 2 or not len(hidden):
            raise usage_error(f"hidden states of shape {list(given.shape)}", "give [tokens, hidden_size]")
        with tempfile.TemporaryDirectory(prefix="sli-layer-", ignore_cleanup_errors=True) as folder:
            self._save(folder, hidden)
            named = {"compute": "f32", "progress": False, "allow_long": True, **options}
            results = run(folder, [{"input_ids": list(range(len(hidden)))}], take=["hidden:0,1"], **named)
            entered, left = (results.hidden(number)["0"] for number in (0, 1))
            if not np.allclose(entered, hidden, rtol=1e-6, atol=1e-7):
                problem = f"{self.config.get('model_type')} changes rows before the first layer"
                raise unsupported_error(problem, _WHOLE)
            out = left.reshape(given.shape).copy()
        if hasattr(hidden_states, "new_tensor"):
            return hidden_states.new_tensor(out)
        return out

    def _save(self, folder: str, hidden: Any) -> None:
        import numpy as np

        config = {**self._config, "vocab_size": len(hidden), "tie_word_embeddings": False}
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            config[name] = None
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        embedding = next(row["embedding"] for row in rows() if row["model_type"] == config["model_type"])
        tensors: dict[str, Any] = {}
        for name, array in self._weights.items():
            tensors[self._names[name]] = array
        for _, layer, names, shape, optional in _sli.weights(json.dumps(config)):
            if layer is None and optional is None:
                name = names[0]
                ones = "norm" in name or "ln_f" in name
                tensors[name] = np.ones(shape, "<f4") if ones else np.zeros(shape, "<f4")
        if embedding not in tensors or tensors[embedding].shape != hidden.shape:
            raise model_error(f"rows of {hidden.shape[1]} features do not enter this layer", "they have the hidden_size of the configuration")
        tensors[embedding] = hidden
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)


def _missing(ways: list[list[str]], given: Mapping[str, Any]) -> list[str]:
    """What lacks of a weight, in the spelling of which the most is there."""
    lacking = ([name for name in way if name not in given] for way in ways)
    return min(lacking, key=len)


def _array(value: Any) -> Any:
    """An array of what may be a tensor, in float32 or as it is."""
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"numbers are wanted, not {array.dtype}")
    return array
