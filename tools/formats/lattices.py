"""Writes the tables of ggml's lattice types, a byte a coordinate, from the Python package `gguf`."""

import sys

import numpy as np
from gguf import quants

NAMES = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"]


def main(path):
    with open(path, "wb") as file:
        for name in NAMES:
            kind = getattr(quants, name)
            kind.init_grid()
            file.write(np.asarray(kind.grid).astype(np.int8).tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
