"""Compares `sli run --take embedding` with sentence-transformers on folders that `folders.py` draws.

    python tools/sentences/compare.py target/debug/sli [FIRST [COUNT]]

Needs the packages of tools/goldens/requirements.txt, sentence-transformers 6.2 and pyarrow. A fifth of the folders is saved once more by the
installed version. Numbers agree to 1e-5 of the largest of a vector (an f32 sum has another order), every text is compared, and the number of
cut records is that of the reference's own tokenizer. A folder that the reference refuses is counted, and shown if SLI runs it."""

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pyarrow.parquet
import torch
from sentence_transformers import SentenceTransformer

from folders import TEXTS, draw_folder

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
torch.set_num_threads(1)


def reference(folder, texts, prompt):
    """Its embeddings, `None` for a text without tokens; and how many texts were cut."""
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    name = {"prompt_name": prompt} if prompt else {}
    limit, tokenizer = model.max_seq_length, model.tokenizer
    text = model._resolve_prompt(None, prompt) or ""
    ids = [tokenizer(text + t)["input_ids"] for t in texts]
    vectors = [model.encode([t], **name)[0].tolist() if i else None for t, i in zip(texts, ids)]
    batch = model.encode([t for t, i in zip(texts, ids) if i], **name, batch_size=4).tolist()
    for alone, together in zip([v for v in vectors if v is not None], batch):
        assert all(abs(a - b) <= 1e-4 * max(1, abs(a)) or a != a for a, b in zip(alone, together)), "the reference depends on its batch"
    return vectors, sum(len(i) > limit for i in ids), model


def ours(sli, folder, texts, prompt):
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "in.jsonl"
        data.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        command = [sli, "run", folder, "--input", data, "--out", Path(place) / "out", "--take", "embedding", "--compute", "f32"]
        done = subprocess.run([*map(str, command), *(["--prompt", prompt] if prompt else [])], capture_output=True, text=True)
        if done.returncode: return None, done.stderr.strip()
        table = pyarrow.parquet.read_table(Path(place) / "out/embeddings.parquet").to_pylist()
        return [row["embedding"] for row in table], json.loads((Path(place) / "out/run.json").read_text())["records_cut"]


def differs(a, b):
    if (a is None) != (b is None): return "one has no vector"
    if a is None: return None
    if len(a) != len(b): return f"{len(a)} numbers, not {len(b)}"
    worst = max(abs(x - y) for x, y in zip(a, b)) / max(1e-3, max(map(abs, b)))
    return None if worst <= 2e-5 else f"off by {worst:.1e}: {a[:4]}, not {b[:4]}"


def main():
    sli, first, count = sys.argv[1], int((sys.argv[2:3] or [0])[0]), int((sys.argv[3:4] or [200])[0])
    compared, refused, wrong = 0, 0, 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            prompt = draw_folder(seed, folder)
            try:
                vectors, cut, model = reference(folder, TEXTS, prompt)
                if seed % 5 == 0:
                    folder = Path(place) / "again"
                    model.save(str(folder), create_model_card=False)
                    vectors, cut, _ = reference(folder, TEXTS, prompt)
            except Exception as error:
                got, problem = ours(sli, folder, TEXTS, prompt)
                refused += 1
                if got is not None: print(f"seed {seed}: the reference fails, SLI runs: {type(error).__name__} {str(error)[:200]}")
                continue
            got, said = ours(sli, folder, TEXTS, prompt)
            problems = [f"SLI refuses: {said[-300:]}"] if got is None else [f"{t!r}: {p}" for t, a, b in zip(TEXTS, got, vectors) if (p := differs(a, b))]
            if got is not None and said != cut: problems.append(f"{said} records cut, not {cut}")
            compared += len(TEXTS)
            wrong += bool(problems)
            for problem in problems[:3]: print(f"seed {seed}: {problem}")
    print(f"{count} folders, {compared} embeddings compared, {refused} refused by the reference, {wrong} folders wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__": main()
