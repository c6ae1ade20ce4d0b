"""Weights by formula: every value follows from the tensor's name, so a golden stores no weights.

For a tensor name and the row-major flat index i (u64 arithmetic wraps):

    h = FNV-1a-64 of the name's UTF-8 bytes;  x = splitmix64(h + i);  u = (x >> 40) / 2^24
    value = bf16(f32(offset + scale * (2*u - 1)))      the sum in f64, rounded to f32, then to bf16 (nearest even)
"""

import json
from pathlib import Path

import numpy as np
import torch

DTYPES = {"F32": torch.float32, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool, "U8": torch.uint8}


def fnv1a(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def splitmix64(z):
    """z: numpy u64 array."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stream(name, count):
    with np.errstate(over="ignore"):
        return splitmix64(np.uint64(fnv1a(name)) + np.arange(count, dtype=np.uint64))


def values(name, shape, scale, offset):
    """The f32 values of the formula, before they are rounded to bf16."""
    count = int(np.prod(shape, dtype=np.int64))
    u = (stream(name, count) >> np.uint64(40)).astype(np.float64) / 16777216.0
    flat = (offset + scale * (2.0 * u - 1.0)).astype(np.float32)
    return torch.from_numpy(flat).reshape(shape)


def round_to_bf16(tensor):
    return tensor.to(torch.bfloat16).to(torch.float32)


SCALES = {"F32": torch.float32, "BF16": torch.bfloat16, "F8_E8M0": torch.float8_e8m0fnu}
LARGEST = 448.0  # of E4M3


def fp8_parts(entry, round_to):
    """E4M3 codes of a tensor and its scales, one a block (`block` null: one for all): the largest value becomes about 448."""
    tensor = tensor_of({**entry, "dtype": "F32"}, round_to)
    rows, columns = tensor.shape
    high, wide = entry["block"] or (rows, columns)
    codes = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
    scales = torch.empty(-(-rows // high), -(-columns // wide), dtype=SCALES[entry["scales"]])
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            place = (slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide))
            scale = tensor[place].abs().max() / LARGEST
            if entry["scales"] == "F8_E8M0":
                mantissa, exponent = torch.frexp(scale)
                scale = torch.ldexp(torch.tensor(1.0), exponent - (mantissa == 0.5).int())
            scales[i, j] = scale
            codes[place] = (tensor[place] / scales[i, j].float()).to(torch.float8_e4m3fn)
    return codes, scales if entry["block"] else scales.reshape(())


def decoded(codes, scales, block):
    """Every code times the scale of its block, in f32. A block's place follows from `block`, not from the shapes."""
    rows, columns = codes.shape
    high, wide = block or (rows, columns)
    grid = scales.float().reshape(-(-rows // high), -(-columns // wide))
    return codes.float() * grid.repeat_interleave(high, 0)[:rows].repeat_interleave(wide, 1)[:, :columns]


def tensor_of(entry, round_to):
    if entry["dtype"] == "F8_E4M3":
        return decoded(*fp8_parts(entry, round_to), entry["block"])
    if "raw" in entry or entry.get("kept"):
        import coded  # which needs this module

        return coded.stored(entry)
    if "values" in entry:
        return torch.tensor(entry["values"], dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
    tensor = values(entry.get("same_as", entry["name"]), entry["shape"], entry["scale"], entry["offset"])
    return round_to_bf16(tensor) if round_to == "bf16" else tensor


def tensors_of(golden):
    """All tensors of the golden in folder `golden`, by checkpoint name."""
    listed = json.loads((Path(golden) / "tensors.json").read_text())
    entries = {entry["name"]: entry for entry in listed["tensors"]}
    result = {}
    for name, entry in entries.items():
        if "same_as" in entry:
            entry = {**entries[entry["same_as"]], "name": entry["same_as"]}
        result[name] = tensor_of(entry, listed.get("round_to"))
    return result


def input_ids(record, count, vocabulary, reserved):
    """Token ids of a record; an id in `reserved` moves on to the next one that is not."""
    ids = []
    for x in (stream(f"input_ids.{record}", count) >> np.uint64(33)).tolist():
        token = x % vocabulary
        while token in reserved:
            token = (token + 1) % vocabulary
        ids.append(token)
    return ids


def self_test():
    for name, index, scale, offset, bits in [
        ("model.embed_tokens.weight", 0, 0.5, 0.0, 0xBE03CC70),
        ("model.norm.weight", 5, 0.3, 1.0, 0x3F7DF926),
        ("lm_head.weight", 12345, 0.1531, 0.0, 0xBD0BF1F0),
    ]:
        found = int(values(name, [index + 1], scale, offset)[index].view(torch.int32)) & 0xFFFFFFFF
        assert found == bits, (name, hex(found), hex(bits))


self_test()
