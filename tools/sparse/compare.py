"""Compares `sli run --take sparse` with sentence-transformers on folders that `models.py` draws.

    python tools/sparse/compare.py target/debug/sli [FIRST [COUNT]]

A third of the folders is saved once more by the installed version."""

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pyarrow.parquet

from models import TEXTS, draw_folder, reference

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)


def ours(sli, folder, texts, prompt):
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "in.jsonl"
        data.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        command = [sli, "run", folder, "--input", data, "--out", Path(place) / "out", "--take", "sparse", "--compute", "f32", *(["--prompt", prompt] if prompt else [])]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        if done.returncode: return None, done.stderr.strip()
        return pyarrow.parquet.read_table(Path(place) / "out/sparse.parquet").to_pylist(), ""


def main():
    sli, first, count = sys.argv[1], int((sys.argv[2:3] or [0])[0]), int((sys.argv[3:4] or [60])[0])
    compared, wrong = 0, 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            prompt = draw_folder(seed, folder)
            wanted, model = reference(folder, TEXTS, prompt)
            if seed % 3 == 0:
                folder = Path(place) / "again"
                model.save(str(folder), create_model_card=False)
                wanted, _ = reference(folder, TEXTS, prompt)
            got, said = ours(sli, folder, TEXTS, prompt)
            if got is None:
                wrong += 1
                print(f"seed {seed}: SLI refuses: {said[-300:]}")
                continue
            for text, row, expected in zip(TEXTS, got, wanted):
                found, expected = dict(zip(row["token_ids"], row["weights"])), dict(zip(*(expected or ([], []))))
                most = max([1e-3, *expected.values()])
                apart = max([abs(found.get(key, 0) - expected.get(key, 0)) for key in found.keys() | expected.keys()] or [0])
                compared += 1
                if apart > 1e-5 * most:
                    wrong += 1
                    print(f"seed {seed}: {text!r} is off by {apart / most:.1e}")
    print(f"{count} folders, {compared} sparse embeddings compared, {wrong} wrong")
    sys.exit(1 if wrong else 0)


main()
