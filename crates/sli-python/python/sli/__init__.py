"""SLI: any Hugging Face transformer over a whole dataset, one layer at a time."""

from __future__ import annotations

from . import _sli
from ._calls import architectures, inspect, plan, run
from ._errors import (
    BudgetError,
    FileError,
    InputError,
    ModelError,
    SLIError,
    UnsupportedArchitectureError,
    UsageError,
)
from ._progress import SLIWarning
from ._results import Results, Table, Tensors

__version__ = _sli.version()

__all__ = [
    "BudgetError",
    "FileError",
    "InputError",
    "ModelError",
    "Results",
    "SLIError",
    "SLIWarning",
    "Table",
    "Tensors",
    "UnsupportedArchitectureError",
    "UsageError",
    "architectures",
    "inspect",
    "plan",
    "run",
]
