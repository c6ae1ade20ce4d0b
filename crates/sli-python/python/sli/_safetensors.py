"""Safetensors files: their headers, and files of arrays."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

from ._errors import model_error

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
    "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip


def read_header(
    path: str, failed: Callable[[str, str], Exception] = model_error, hint: str = "download it again"
) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data begin; ``failed`` makes the error of a message and a hint."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length + 8 > size:
                raise ValueError("its header ends behind its end")
            header: dict[str, Any] = json.loads(file.read(length))
        broken = [name for name, entry in header.items() if name != "__metadata__" and not _is_whole(entry, size - 8 - length)]
    except OSError as error:
        raise failed(f"{path} cannot be read: {error}", hint) from error
    except (ValueError, struct.error, TypeError, KeyError, AttributeError) as error:
        raise failed(f"{path} is no safetensors file: {error}", hint) from error
    if broken:
        raise failed(f"{path}: {broken[0]} is not as long as its shape, or ends behind the file", hint)
    return header, 8 + length


def _is_whole(entry: dict[str, Any], size: int) -> bool:
    """Whether a tensor lies within so many bytes, and has the elements of its shape."""
    first, last = entry["data_offsets"]
    kind = DTYPES.get(entry["dtype"])
    width = 2 if entry["dtype"] == "BF16" else int(kind[-1]) if kind and kind[-1].isdigit() else 1
    elements = math.prod(entry["shape"])
    is_shape = all(isinstance(length, int) and length >= 0 for length in entry["shape"])
    # Other elements are not read here.
    fits = last - first == elements * width if kind or entry["dtype"] == "BF16" else True
    return is_shape and fits and 0 <= first <= last <= size


def write_safetensors(path: str, tensors: Mapping[str, Any]) -> None:
    """Writes arrays of float32."""
    header: dict[str, Any] = {}
    begin = 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for array in tensors.values():
            file.write(memoryview(array).cast("B") if array.size else b"")
