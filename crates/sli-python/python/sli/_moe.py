"""Experts: how their weights are called, and which of them are needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ._errors import usage_error
from ._families import classes, member, rows

#: Members of configurations that say how many experts there are.
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
#: Those that say how many of them a token goes to.
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k", "num_selected_experts")
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
#: A weight of an expert.
_NAME = re.compile(r"(?:^|\.)experts\.(?:\d+\.|gate_up_proj|down_proj|mlp\.|w[123])")


@dataclass
class MoEConfig:
    """The experts of a layer."""

    num_experts: int
    num_experts_per_tok: int = 2
    num_shared_experts: int = 0
    #: The name of an expert's weights inside a layer, with ``{expert}`` for its number.
    expert_weight_pattern: str = "mlp.experts.{expert}."
    #: A smaller weight than this is none.
    threshold: float = 0.0


class MoEHandler:
    """What an engine asks about experts."""

    def __init__(self, config: MoEConfig | Any) -> None:
        if not isinstance(config, MoEConfig):
            found = self.from_config(config)
            if found is None:
                raise usage_error("the configuration names no experts", "MoEHandler.is_moe tells")
            config = found
        self.config: MoEConfig = config

    # The three kinds of detection.

    @classmethod
    def is_moe(cls, config: Any = None, weight_names: Iterable[str] | None = None) -> bool:
        """Whether a model has experts: by its configuration, its class, or the names of its weights."""
        return (
            (config is not None and (cls.detect_from_config(config) or cls.detect_from_architecture(config)))
            or (weight_names is not None and cls.detect_from_weights(weight_names))
        )

    @staticmethod
    def detect_from_config(config: Any) -> bool:
        """By the number of experts in the configuration."""
        text = member(config, "text_config") or config
        return any(isinstance(count := member(text, name), int) and count > 1 for name in _COUNTS)

    @staticmethod
    def detect_from_architecture(config: Any) -> bool:
        """By the model type, or the class that the configuration names."""
        names = set(classes(config))
        return any(
            row["mixture_of_experts"] and (row["model_type"] == member(config, "model_type") or names & set(row["classes"]))
            for row in rows()
        )

    @staticmethod
    def detect_from_weights(weight_names: Iterable[str]) -> bool:
        """By the names of the weights."""
        return any(_NAME.search(name) for name in weight_names)

    @classmethod
    def from_config(cls, config: Any) -> MoEConfig | None:
        """The experts that a configuration describes, if it does."""
        if not cls.detect_from_config(config):
            return None
        text = member(config, "text_config") or config

        def first(names: tuple[str, ...], default: int) -> int:
            values = (member(text, name) for name in names)
            return next((value for value in values if isinstance(value, int)), default)

        return MoEConfig(
            num_experts=first(_COUNTS, 0),
            num_experts_per_tok=first(_CHOSEN, 1),
            num_shared_experts=first(_SHARED, 0),
            expert_weight_pattern=_pattern(member(config, "model_type")),
        )

    def get_expert_weight_pattern(self, layer_idx: int | None = None, expert_idx: int | None = None) -> str:
        """What the names of an expert's weights begin with inside a layer; without ``expert_idx`` with ``{expert}`` in it."""
        pattern = self.config.expert_weight_pattern
        return pattern if expert_idx is None else pattern.replace("{expert}", str(expert_idx))

    def should_load_expert(self, layer_idx: int, expert_idx: int, weights: Any) -> bool:
        """Whether an expert is needed. ``weights`` are the router's: one a chosen or each expert for a single token, or
        ``[tokens, experts]``, of which a single token that chooses the expert is enough."""
        import numpy as np

        if not 0 <= expert_idx < self.config.num_experts:
            return False
        values = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, dtype=np.float64)
        if values.ndim == 0 or values.ndim > 2 or values.shape[-1] != self.config.num_experts:
            raise usage_error(
                f"router weights of shape {list(values.shape)} for {self.config.num_experts} experts",
                "give [experts] or [tokens, experts]",
            )
        values = np.atleast_2d(values)
        chosen = min(self.config.num_experts_per_tok, self.config.num_experts)
        # Of equal weights the one in front is chosen, as by topk.
        order = np.argsort(-values, axis=1, kind="stable")[:, :chosen]
        needed = (order == expert_idx).any(axis=1) & (values[:, expert_idx] > self.config.threshold)
        return bool(needed.any())


def _pattern(model_type: Any) -> str:
    named = {
        "mixtral": "block_sparse_moe.experts.{expert}.",
        "phimoe": "block_sparse_moe.experts.{expert}.",
        "minimax": "block_sparse_moe.experts.{expert}.",
        "dbrx": "ffn.experts.mlp.",
        "switch_transformers": "layer.1.mlp.experts.expert_{expert}.",
    }
    return named.get(str(model_type), "mlp.experts.{expert}.")
