"""Writes a real checkpoint of a golden: config.json and safetensors as `save_pretrained` leaves them.

    python save_checkpoint.py ../../goldens/llama OUT                     f32, one file
    python save_checkpoint.py ../../goldens/llama OUT --dtype bf16        the same values (they are bf16 numbers), half the size
    python save_checkpoint.py ../../goldens/llama OUT --shard-size 100KB  several shards and their index
    python save_checkpoint.py --all ../../goldens OUT                     every golden, OUT/<name>
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

import formula

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def save_checkpoint(golden, out, dtype, shard_size):
    facts = json.loads((golden / "golden.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copyfile(golden / "config.json", folder / "config.json")
        save_file(formula.tensors_of(golden), folder / "model.safetensors", metadata={"format": "pt"})
        model = getattr(transformers, facts["class"]).from_pretrained(
            folder, config=transformers.AutoConfig.from_pretrained(folder), dtype=DTYPES[dtype]
        )
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out, max_shard_size=shard_size)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("golden", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--all", action="store_true")
    arguments.add_argument("--dtype", choices=DTYPES, default="f32")
    arguments.add_argument("--shard-size", default="5GB")
    options = arguments.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    goldens = sorted(path.parent for path in options.golden.glob("*/golden.json")) if options.all else [options.golden]
    for golden in goldens:
        out = options.out / golden.name if options.all else options.out
        save_checkpoint(golden, out, options.dtype, options.shard_size)
        print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
