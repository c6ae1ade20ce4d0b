"""Writes a GGUF file with a matrix of every type of blocks and what the Python package `gguf` decodes each to."""

import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS",
         "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "IQ1_M", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"]
ROWS, COLUMNS = 3, 512


def main(path):
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "llama")
    for name in TYPES:
        kind = Type[name]
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.empty((ROWS * COLUMNS // numbers, size), np.uint8)
        for at in range(len(blocks)):
            while True:
                blocks[at] = random.integers(0, 256, size, np.uint8)
                with np.errstate(all="ignore"):
                    values = gguf.quants.dequantize(blocks[at], kind)
                if np.isfinite(values).all() and np.abs(values).max() < 1e6:
                    break
        rows = blocks.reshape(ROWS, -1)
        writer.add_tensor(name, rows, raw_dtype=kind)
        writer.add_tensor(f"{name}.decoded", gguf.quants.dequantize(rows, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
