"""Writes crates/sli-pictures/tests/goldens.json: what transformers makes of pictures that are drawn by an integer formula.

    python tools/pictures/goldens.py

Of each tensor its shape, its sum and the sum of its squares, and some of its numbers. Whole numbers are there in full where they are few.
"""

import json

import numpy as np

from compare import HERE, classes, reference

OUT = HERE.parents[1] / "crates/sli-pictures/tests/goldens.json"
RECORDS = [[(97, 131)], [(60, 20)], [(30, 46), (46, 30)]]
SAMPLES = 12


def drawn(height, width):
    """`[height, width, 3]`; `tests/support/mod.rs` draws the same."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * (5 + 3 * c) + y * (11 - 2 * c)) // 2 + ((x // 9 ^ y // 7) * 37 % 64) * (c + 1)).astype(np.int64) % 256


def summary(array):
    flat = array.ravel()
    said = {"shape": list(array.shape)}
    if array.dtype == np.int64 and flat.size <= 32:
        return said | {"all": flat.tolist()}
    wide = flat.astype(np.float64)
    places = np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(int)
    return said | {
        "sums": [float(wide.sum()), float((wide * wide).sum())],
        "some": [float(f"{value:.9g}") for value in wide[places]],
    }


def main():
    variants = json.loads((HERE / "variants.json").read_text())
    lines = []
    for name in classes():
        for settings in [{}, *variants.get(name, [])]:
            for record in RECORDS:
                found = reference(name, settings, [drawn(*size).astype(np.uint8) for size in record])
                case = {"class": name, "settings": settings, "record": record}
                if isinstance(found, str):
                    case["refused"] = True
                else:
                    case["tensors"] = {key: summary(value) for key, value in sorted(found.items())}
                lines.append(json.dumps(case))
        print(name, flush=True)
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
