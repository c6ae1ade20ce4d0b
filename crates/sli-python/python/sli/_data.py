"""Datasets of a program as files that the engine reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Union

from . import _sli
from ._errors import InputError, input_error

if TYPE_CHECKING:
    from typing import TypeAlias

#: What may be run over: texts, records, paths, tables, or a stream of texts and records.
Data: "TypeAlias" = "Union[str, os.PathLike[str], Iterable[Any], Any]"

_HINT = "a record is a text, a mapping such as {'text': ...}, a list of token ids, or a list of messages"


def files(data: Any, folder: str) -> list[str]:
    """The paths of the dataset; what is no file yet is written into ``folder``."""
    if isinstance(data, (str, os.PathLike)):
        return [os.fsdecode(os.fspath(data))]
    if isinstance(data, (bytes, bytearray)) or data is None:
        raise input_error(f"data is {type(data).__name__}, which is no dataset", _HINT)
    if isinstance(data, Mapping) and not hasattr(data, "__arrow_c_stream__"):
        hint = "a single record goes into a list: [record]; of a DatasetDict give one split: data['train']"
        raise input_error(f"data is one mapping ({type(data).__name__})", hint)
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, os.PathLike) for item in data):
        return [os.fsdecode(os.fspath(item)) for item in data]
    table = _table(data)
    if table is not None:
        path = os.path.join(folder, "records.parquet")
        _sli.write_parquet(table, path)
        return [path]
    if not isinstance(data, Iterable):
        raise input_error(f"data is {type(data).__name__}, which is no dataset", _HINT)
    path = os.path.join(folder, "records.jsonl")
    _write(data, path)
    return [path]


def _table(data: Any) -> Any:
    """The data as an Arrow stream, where it is a table."""
    if hasattr(data, "with_format") and hasattr(data, "features"):
        return _of_datasets(data)
    if _is_column(data):
        return None
    if hasattr(data, "__arrow_c_stream__"):
        return data
    if hasattr(data, "to_arrow"):
        return data.to_arrow()
    return None


def _is_column(data: Any) -> bool:
    """Whether it is one column, of pandas, Polars or Arrow: its items are the records."""
    is_typed = hasattr(data, "dtype") or hasattr(data, "type")
    return is_typed and isinstance(data, Iterable) and not (hasattr(data, "columns") or hasattr(data, "schema"))


def _of_datasets(data: Any) -> Any:
    """A ``datasets.Dataset``, or one that streams; as Arrow where it knows its columns."""
    arrow = data.with_format("arrow")
    batches = (table for table in arrow.iter(1000))
    try:
        first = next(batches)
    except StopIteration:
        raise input_error("the dataset has no records", _HINT) from None
    import itertools

    import pyarrow as pa

    def all_of_them() -> Iterable[Any]:
        for table in itertools.chain([first], batches):
            yield from table.cast(first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, all_of_them())


def _write(records: Iterable[Any], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        number = -1
        for number, item in enumerate(records):
            try:
                text = json.dumps(_record(item), ensure_ascii=False, default=_plain, allow_nan=False)
                text.encode("utf-8")
            except InputError as error:
                raise _at(error, number) from None
            except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
                wrong = input_error(f"{error} (record {number})", "give strings, numbers, lists and mappings")
                raise wrong from error
            file.write(text)
            file.write("\n")
    if number < 0:
        raise input_error("the data has no records", _HINT)


def _at(error: InputError, number: int) -> InputError:
    return input_error(f"{error.args[0]} (record {number})", error.hint)


def _record(item: Any) -> Any:
    if hasattr(item, "as_py"):
        item = item.as_py()
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Mapping):
        record = dict(item)
        tensors = record.get("tensors")
        if isinstance(tensors, (str, os.PathLike)):
            # A file of records lies beside its tensors; this one is somewhere else.
            record["tensors"] = os.path.abspath(tensors)
        return record
    values = item.tolist() if hasattr(item, "tolist") else item
    if isinstance(values, (list, tuple)) and values:
        if all(isinstance(value, Mapping) for value in values):
            return {"messages": list(values)}
        if all(isinstance(_plain_number(value), int) for value in values):
            return {"input_ids": [_plain_number(value) for value in values]}
    if isinstance(values, (list, tuple)):
        raise input_error("a list that is neither token ids nor messages", _HINT)
    raise input_error(f"a record of type {type(item).__name__}", _HINT)


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool):
        return None
    return value.item() if hasattr(value, "item") else value


def _plain(value: Any) -> Any:
    """What JSON has no form for: arrays, tensors, numbers of numpy, mappings."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a value of type {type(value).__name__} is in no record")
