"""The results of a run: tables, and hidden states over the files as they are mapped."""

from __future__ import annotations

import html
import json
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _sli
from ._errors import FileError, SLIError, usage_error
from ._safetensors import read_header

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

#: The tables that a run may write, and the value of ``take`` that asks for each.
TABLES = {
    "scores": "scores",
    "topk": "topk:K",
    "embeddings": "embedding",
    "router": "router",
    "experts": "profile",
    "profile": "profile",
    "classes": "classes",
    "sparse": "sparse",
    "records": "hidden",
    "lens": "lens",
    "channels": "profile",
}
_SHOWN = 5
#: Bytes of a table, as its columns are in memory, that are loaded at once; ``sli._results.TABLE_LIMIT = None`` lifts it.
TABLE_LIMIT: int | None = 4 << 30


def _file_error(message: str, hint: str) -> FileError:
    error = FileError(message)
    error.hint = hint
    return error


class Table:
    """A result table: a Parquet file that Arrow, pandas, Polars and DuckDB take as it is (``__arrow_c_stream__``)."""

    def __init__(self, path: str, *, _folder: Any = None) -> None:
        self.path = path
        self._table = _sli.ParquetTable(path)
        self._folder = _folder

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return self._table.columns

    def __len__(self) -> int:
        return len(self._table)

    def __reduce__(self) -> tuple[type[Table], tuple[str]]:
        if self._folder is not None:
            raise TypeError("a table in a temporary folder goes with its object and cannot be pickled; give sli.run out='...'")
        return Table, (os.path.abspath(self.path),)

    def __copy__(self) -> Table:
        return self

    def __deepcopy__(self, memo: object) -> Table:
        return self

    def __getitem__(self, column: str) -> list[Any]:
        """A column as a list."""
        if column not in self.columns:
            raise KeyError(f"{column!r}; {os.path.basename(self.path)} has {', '.join(self.columns)}")
        self._check([column])
        return self._table.column(column)

    def _check(self, columns: list[str]) -> None:
        """That what is loaded at once is not too much."""
        size = sum(self._table.bytes(name) for name in columns)
        if TABLE_LIMIT is not None and size > TABLE_LIMIT:
            problem = f"{self.path}: {size / 2**30:.1f} GiB would be loaded at once, more than {TABLE_LIMIT / 2**30:.1f} GiB"
            hint = "take it in pieces: `for batch in pyarrow.RecordBatchReader.from_stream(table)`, or raise sli._results.TABLE_LIMIT"
            raise usage_error(problem, hint)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Its rows as dicts."""
        self._check(self.columns)
        columns = {name: self[name] for name in self.columns}
        for values in zip(*columns.values()):
            yield dict(zip(columns, values))

    def to_pylist(self) -> list[dict[str, Any]]:
        """Its rows as dicts."""
        return list(self)

    def to_arrow(self) -> pa.Table:
        """A ``pyarrow.Table``."""
        import pyarrow as pa

        self._check(self.columns)
        return pa.table(self)

    def to_pandas(self) -> pd.DataFrame:
        """A ``pandas.DataFrame``."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """A ``polars.DataFrame``."""
        import polars

        self._check(self.columns)
        return polars.from_arrow(self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self._table.__arrow_c_schema__()

    def __repr__(self) -> str:
        kinds = (f"{name}: {kind}" for name, kind in zip(self.columns, self._table.types))
        return f"<sli.Table of {len(self)} rows: {', '.join(kinds)}>"

    def _repr_html_(self) -> str:
        return _table_html(self)


class Tensors(Mapping[str, "np.ndarray[Any, Any]"]):
    """The tensors of records by their ids, each ``[tokens, features]``: views of mapped files, the same memory each time."""

    def __init__(self, paths: list[str]) -> None:
        self._places: dict[str, tuple[mmap.mmap, str, list[int], int, int]] = {}
        self.paths = paths
        for path in paths:
            self._read(path)

    def _read(self, path: str) -> None:
        mapped, header, begin = _mapped_header(path)
        for name, entry in header.items():
            if name != "__metadata__":
                first, end = entry["data_offsets"]
                self._places[name] = (mapped, entry["dtype"], entry["shape"], begin + first, end - first)

    def __getitem__(self, id: str | int) -> np.ndarray[Any, Any]:
        """The tensor of a record. bf16, which numpy does not have, comes as a copy in float32."""
        import numpy as np

        if str(id) not in self._places:
            raise KeyError(f"no record has the id {str(id)!r}; the ids are those of records.parquet")
        mapped, dtype, shape, begin, size = self._places[str(id)]
        kinds: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
        kind = kinds[dtype]
        flat: np.ndarray[Any, Any] = np.frombuffer(mapped, kind, size // kind.itemsize, begin) if size else np.empty(0, kind)
        if dtype == "BF16":
            flat = (flat.astype("<u4") << 16).view("<f4")
        return flat.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<sli.Tensors of {len(self)} records: {', '.join(os.path.basename(path) for path in self.paths)}>"


def _mapped_header(path: str) -> tuple[mmap.mmap, dict[str, Any], int]:
    """A safetensors file as it is mapped, its header, and where its values begin."""
    header, begin = read_header(path, _file_error, "run again with fresh=True")
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), header, begin


class Hessian:
    """What enters a matrix: ``xtx`` ``[inputs, inputs]``, the sum of ``x^T x`` over its rows, a view of the mapped file."""

    def __init__(self, name: str, xtx: np.ndarray[Any, Any], tokens: int, sequences: int) -> None:
        self.name = name
        self.xtx = xtx
        #: Rows that entered the matrix.
        self.tokens = tokens
        #: Records that they are of.
        self.sequences = sequences

    def __repr__(self) -> str:
        return f"<sli.Hessian of {self.name}: {self.xtx.shape[0]} inputs, {self.tokens} tokens, {self.sequences} sequences>"


class Hessians(Mapping[str, Hessian]):
    """The Hessians of a layer by the names of its matrices; those that get the same rows share one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._mapped, header, self._begin = _mapped_header(path)
        #: Matrices that have the tensors of another one.
        self.shared: dict[str, str] = json.loads((header.pop("__metadata__", None) or {}).get("shared", "{}"))
        self._entries = header
        self._names = [name.removesuffix(".xtx") for name in header if name.endswith(".xtx")]

    def _array(self, name: str, kind: str) -> np.ndarray[Any, Any]:
        import numpy as np

        entry = self._entries[name]
        begin, end = entry["data_offsets"]
        dtype: np.dtype[Any] = np.dtype(kind)
        return np.frombuffer(self._mapped, dtype, (end - begin) // dtype.itemsize, self._begin + begin).reshape(entry["shape"])

    def __getitem__(self, name: str) -> Hessian:
        """That of a matrix."""
        own = self.shared.get(name, name)
        if own not in self._names:
            raise KeyError(f"{name!r}; the layer has {', '.join(self)}")
        counts = (int(self._array(f"{own}.{kind}", "<i8")[0]) for kind in ("tokens", "sequences"))
        return Hessian(name, self._array(f"{own}.xtx", "<f4"), *counts)

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from self.shared

    def __len__(self) -> int:
        return len(self._names) + len(self.shared)

    def __repr__(self) -> str:
        return f"<sli.Hessians of {len(self)} matrices: {os.path.basename(self.path)}>"


class Results:
    """The results in a folder, of a run that is finished; ``sli.Results(path)`` opens one of an earlier day."""

    def __init__(self, path: str | os.PathLike[str], *, _folder: Any = None) -> None:
        self.path = os.fsdecode(os.fspath(path))
        # The results of a run without a folder go with this object and its tables; what is mapped stays by itself.
        self._folder = _folder
        manifest = os.path.join(self.path, "run.json")
        try:
            with open(manifest, encoding="utf-8") as file:
                self.manifest: dict[str, Any] = json.load(file)
            names = [file["name"] for file in self.manifest["files"]]
            if not all(isinstance(name, str) for name in names):
                raise ValueError("a file has no name")
            if "records" not in self.manifest or "tokens" not in self.manifest:
                raise ValueError("it does not say how much was run")
        except FileNotFoundError:
            hint = "an interrupted run ends when the same call is made again"
            raise usage_error(f"{self.path} holds no finished run: there is no run.json", hint) from None
        except (OSError, ValueError) as error:
            hint = "run again with fresh=True"
            raise usage_error(f"{manifest} cannot be read: {error}", hint) from error
        except (KeyError, TypeError) as error:
            raise usage_error(f"{manifest} is no manifest of a run", "run again with fresh=True") from error
        self._tables: dict[str, Table] = {}
        self._tensors: weakref.WeakValueDictionary[str, Tensors] = weakref.WeakValueDictionary()

    def __reduce__(self) -> tuple[type[Results], tuple[str]]:
        if self._folder is not None:
            raise TypeError("results in a temporary folder go with their object and cannot be pickled; give sli.run out='...'")
        return Results, (os.path.abspath(self.path),)

    def __copy__(self) -> Results:
        return self

    def __deepcopy__(self, memo: object) -> Results:
        return self

    @property
    def files(self) -> list[str]:
        """The names of the files in its folder."""
        return [file["name"] for file in self.manifest["files"]]

    @property
    def tables(self) -> list[str]:
        """The names of its tables."""
        return [name.removesuffix(".parquet") for name in self.files if name.endswith(".parquet")]

    def table(self, name: str) -> Table:
        """A table by its name; also an attribute: ``results.scores``."""
        if name not in self._tables:
            if name not in self.tables:
                hint = f"ask for it: take=[..., {TABLES[name]!r}]" if name in TABLES else "help(sli.run) names the results"
                raise usage_error(f"the run has no table {name!r}; it has {', '.join(self.tables) or 'none'}", hint)
            self._tables[name] = Table(os.path.join(self.path, f"{name}.parquet"), _folder=self._folder)
        return self._tables[name]

    def __getattr__(self, name: str) -> Table:
        if name.startswith("_") or "manifest" not in self.__dict__:
            raise AttributeError(name)
        if name in self.tables:
            return self.table(name)
        if name in TABLES:
            raise AttributeError(f"the run has no {name}; ask for it: take=[..., {TABLES[name]!r}]")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.tables})

    @property
    def layers(self) -> dict[str, int]:
        """How many layers each stack has."""
        # Of merged results each part has its own times.
        parts = self.manifest.get("parts") or [self.manifest]
        return {stack: len(seconds) for part in parts for stack, seconds in part.get("layer_seconds", {}).items()}

    def hessian(self, layer: int | str) -> Hessians:
        """What enters the matrices of a layer, from 1 (``"encoder.4"``: of that stack), by their names in the checkpoint."""
        stack, place = _boundary(layer)
        there: dict[str, list[str]] = {}
        for name in self.files:
            if name.startswith("hessian/") and name.endswith(".safetensors"):
                own, _, number = name.removeprefix("hessian/").removesuffix(".safetensors").rpartition(".")
                there.setdefault(own, []).append(number)
        for own in reversed([own for own in there if stack in (None, own)]):
            wanted = f"{self.layers.get(own, 0):03}" if place == "last" else place
            if wanted in there[own]:
                return Hessians(os.path.join(self.path, f"hessian/{own}.{wanted}.safetensors"))
        have = ", ".join(f"{own}.{number}" for own, numbers in there.items() for number in numbers)
        problem = f"the run has no Hessians of {layer!r}; it has {have or 'none'}"
        raise usage_error(problem, f"ask for them: take=[..., 'hessian:{layer}']")

    def hidden(self, layer: int | str = "last") -> Tensors:
        """Hidden states at a boundary, by the ids of records: 0 is what enters the first layer, ``n`` the output of layer n,
        ``"last"`` that of the last one, ``"norm"`` the normed end; ``"encoder.4"`` names the stack, without which it is the
        last one that the run has them of."""
        stack, place = _boundary(layer)
        there = self._boundaries()
        stacks = [name for name in there if stack in (None, name)]
        for name in reversed(stacks):
            wanted = f"{self.layers.get(name, 0):03}" if place == "last" else place
            if wanted in there[name]:
                return self._mapped(there[name][wanted])
        have = ", ".join(f"{name}.{place}" for name, places in there.items() for place in places)
        problem = f"the run has no hidden states of {layer!r}; it has {have or 'none'}"
        raise usage_error(problem, f"ask for them: take=[..., 'hidden:{layer}']")

    @property
    def logits(self) -> Tensors:
        """Logits by the ids of records, each ``[tokens, vocabulary]``."""
        names = [name for name in self.files if name.split(".")[0] == "logits"]
        if not names:
            raise AttributeError("the run has no logits; ask for them: take=[..., 'logits']")
        return self._mapped(names)

    def _boundaries(self) -> dict[str, dict[str, list[str]]]:
        """File names by stack and boundary."""
        found: dict[str, dict[str, list[str]]] = {}
        for name in self.files:
            if name.startswith("hidden/"):
                # STACK.BOUNDARY.safetensors, or STACK.BOUNDARY.part-K.safetensors; a stack's name may have dots.
                parts = name.removeprefix("hidden/").removesuffix(".safetensors").split(".")
                if parts[-1].startswith("part-"):
                    parts.pop()
                place = parts.pop()
                found.setdefault(".".join(parts), {}).setdefault(place, []).append(name)
        return found

    def _mapped(self, names: list[str]) -> Tensors:
        key = names[0]
        tensors = self._tensors.get(key)
        if tensors is None:
            tensors = Tensors([os.path.join(self.path, name) for name in names])
            self._tensors[key] = tensors
        return tensors

    def __repr__(self) -> str:
        manifest = self.manifest
        what = ", ".join(self.tables + sorted({name.split("/")[0] for name in self.files if not name.endswith(".parquet")}))
        return f"<sli.Results of {manifest['records']} records, {manifest['tokens']} tokens: {what}; {self.path}>"

    def _repr_html_(self) -> str:
        manifest = self.manifest
        parts = manifest.get("parts") or []
        seconds = manifest.get("seconds", manifest.get("seconds_in_all", 0))
        peak = manifest.get("peak_memory", max((part.get("peak_memory", 0) for part in parts), default=0))
        facts = {
            "records": f"{manifest['records']:,}",
            "tokens": f"{manifest['tokens']:,}",
            "compute": str(manifest["compute"]),
            "seconds": f"{seconds:.1f}" + (f" in {len(parts)} parts" if parts else ""),
            "peak memory": f"{peak / 2**20:,.0f} MiB",
            "folder": self.path,
        }
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table>{rows}</table>{''.join(map(self._shown, self.tables))}"

    def _shown(self, name: str) -> str:
        try:
            table = self.table(name)
        except SLIError as error:
            # A notebook shows what is left of results that were moved away.
            return f"<p>{html.escape(name)}: {html.escape(str(error))}</p>"
        return f"<details><summary>{html.escape(name)}: {len(table):,} rows</summary>{_table_html(table)}</details>"


def _boundary(layer: int | str) -> tuple[str | None, str]:
    if isinstance(layer, bool) or not isinstance(layer, (int, str)):
        raise TypeError(f"layer must be a number or a name, not {layer!r}")
    if isinstance(layer, int):
        return None, f"{layer:03}"
    stack, _, place = layer.rpartition(".")
    return stack or None, f"{int(place):03}" if place.isdecimal() and len(place) < 10 else place


def _table_html(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    columns = [table._table.column(name, _SHOWN) for name in table.columns]
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_short(value))}</td>" for value in values) + "</tr>" for values in zip(*columns)
    )
    more = f"<p>{len(table) - _SHOWN:,} more rows</p>" if len(table) > _SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(_short(item) for item in value[:4])
        return f"[{shown}, …] ({len(value)})" if len(value) > 4 else f"[{shown}]"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
