"""
The engine of the `sli` package.
"""

from _typeshed import SupportsGetItem
from collections.abc import Callable
from os import PathLike
from typing import Any, SupportsIndex, final

__all__ = [
    "ParquetTable", "architectures", "batch", "diff", "export", "flags", "inspect", "is_alike", "layer_weights", "main", "merge", "plan",
    "report", "run", "verify", "version", "weights", "write_parquet",
]  # fmt: skip

@final
class ParquetTable:
    """
    A Parquet file.
    """
    def __arrow_c_schema__(self, /) -> object:
        """
        The schema, by the Arrow PyCapsule protocol.
        """
    def __arrow_c_stream__(self, /, requested_schema: Any | None = None) -> object:
        """
        The rows, a batch at a time, by the Arrow PyCapsule protocol.
        """
    def __len__(self, /) -> int: ...
    def __new__(cls, /, path: str | PathLike[str]) -> ParquetTable:
        """
        Opens the file.
        """
    def bytes(self, /, name: str) -> int:
        """
        Bytes of a column, not compressed.
        """
    def column(self, /, name: str, rows: SupportsIndex | None = None) -> list[Any]:
        """
        The first rows of a column as Python's own values; all without `rows`.
        """
    @property
    def columns(self, /) -> list[str]:
        """
        The names of the columns.
        """
    @property
    def types(self, /) -> list[str]:
        """
        The types of the columns.
        """

def architectures() -> str:
    """
    `sli architectures`, as JSON.
    """

def batch(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> tuple[int, int]:
    """
    `sli batch` with these arguments: how many requests there are, and how many of them cannot be answered.
    """

def diff(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> bool:
    """
    `sli diff` with these arguments; whether it was finished before. What there is to say goes to `attend`.
    """

def export(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> tuple[int, int, int]:
    """
    `sli export` with these arguments: rows, files that were there, and what has no place in the format.
    """

def flags(command: str) -> list[tuple[str, bool, bool, list[str], str]]:
    """
    The flags of a command: name, whether it takes a value, whether it may be repeated, the values that it takes where those are
    listed, and what it is for.
    """

def inspect(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> str:
    """
    `sli inspect` with these arguments: what the model is made of, as JSON.
    """

def main(arguments: SupportsGetItem[int, str]) -> int:
    """
    The `sli` program: does what the arguments say, the first of which is its name; the exit code.
    """

def merge(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> bool:
    """
    `sli merge` with these arguments; whether it was finished before.
    """

def plan(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> str:
    """
    `sli plan` with these arguments: the plan, as JSON.
    """

def report(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> str:
    """
    `sli report` with these arguments; the path of the page.
    """

def run(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> bool:
    """
    `sli run` with these arguments; whether it was finished before. What there is to say goes to `attend`.
    """

def verify(arguments: SupportsGetItem[int, str], attend: Callable[[str, Any], object]) -> str:
    """
    `sli verify` with these arguments: the receipt, as JSON.
    """

def version() -> str:
    """
    The version of the package.
    """

def is_alike(config: str, layer: int, alone: str) -> bool:
    """
    Whether a layer of a configuration is what the first one of another, of a layer alone, is, but for where its weights are.
    """

def layer_weights(config: str, layer: int) -> list[tuple[str, list[list[str]], str | None]]:
    """
    The weights of a layer of every stack that has it.
    """

def weights(config: str) -> list[tuple[str, int | None, list[str], list[int], str | None]]:
    """
    The weights that a configuration describes, as JSON text has it.
    """

def write_parquet(table: Any, path: str | PathLike[str]) -> int:
    """
    Writes the rows of an object with `__arrow_c_stream__` into a Parquet file; how many there are.
    """
