"""Writes crates/sli/tests/sparse: folders that `models.py` draws, and what the reference makes of some texts.

    python tools/sparse/goldens.py

Needs the packages of tools/goldens/requirements.txt and sentence-transformers 6.2."""

import json
import logging
import shutil
import warnings
from pathlib import Path

from models import TEXTS, draw_folder, lexical_folder, lexical_reference, reference

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

TARGET = Path(__file__).resolve().parent.parent.parent / "crates/sli/tests/sparse"
SEEDS = [0, 1, 2, 3, 4, 6]


def put(folder, prompt, found):
    found = [one and [one[0], [round(weight, 6) for weight in one[1]]] for one in found]
    (folder.parent / "expected.json").write_text(json.dumps({"prompt": prompt, "texts": TEXTS, "sparse": found}, ensure_ascii=False) + "\n")


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    for seed in SEEDS:
        folder = TARGET / str(seed) / "model"
        prompt = draw_folder(seed, folder)
        for path in folder.rglob("*.json"): path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False) + "\n")
        found, _ = reference(folder, TEXTS, prompt)
        put(folder, prompt, found)
    folder = TARGET / "lexical" / "model"
    lexical_folder(0, folder)
    put(folder, None, lexical_reference(folder, TEXTS))


main()
