"""SLI: any Hugging Face transformer over a whole dataset, one layer at a time."""

from __future__ import annotations

from . import _sli
from ._calls import architectures, batch, diff, export, inspect, merge, plan, report, run, verify
from ._errors import (
    BudgetError,
    FileError,
    InputError,
    ModelError,
    SLIError,
    UnsupportedArchitectureError,
    UsageError,
)
from ._families import (
    ArchitectureFamily,
    ArchitectureRegistry,
    BLOOMFamilyHandler,
    ChatGLMFamilyHandler,
    EncoderFamilyHandler,
    GPTFamilyHandler,
    LlamaFamilyHandler,
    MambaFamilyHandler,
    MoEFamilyHandler,
    MultimodalFamilyHandler,
    OPTFamilyHandler,
    T5FamilyHandler,
)
from ._integrator import SequentialLayerIntegrator, UniversalSLIIntegrator
from ._moe import MoEConfig, MoEHandler
from ._progress import SLIWarning
from ._results import Hessian, Hessians, Results, Table, Tensors
from ._weights import UniversalLayerFactory, UniversalWeightLoader, WeightNameMapper

__version__ = _sli.version()

__all__ = [
    "ArchitectureFamily",
    "ArchitectureRegistry",
    "BLOOMFamilyHandler",
    "BudgetError",
    "ChatGLMFamilyHandler",
    "EncoderFamilyHandler",
    "FileError",
    "GPTFamilyHandler",
    "Hessian",
    "Hessians",
    "InputError",
    "LlamaFamilyHandler",
    "MambaFamilyHandler",
    "MoEConfig",
    "MoEFamilyHandler",
    "MoEHandler",
    "ModelError",
    "MultimodalFamilyHandler",
    "OPTFamilyHandler",
    "Results",
    "SLIError",
    "SLIWarning",
    "SequentialLayerIntegrator",
    "T5FamilyHandler",
    "Table",
    "Tensors",
    "UniversalLayerFactory",
    "UniversalSLIIntegrator",
    "UniversalWeightLoader",
    "UnsupportedArchitectureError",
    "UsageError",
    "WeightNameMapper",
    "architectures",
    "batch",
    "diff",
    "export",
    "inspect",
    "merge",
    "plan",
    "report",
    "run",
    "verify",
]
