"""A task of multiple choice in local files, and the harness's command line over it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

WORDS = "the cat dog king queen day night house river old new red ran sat saw and of in on was is a".split()


def text(draw: random.Random, least: int, most: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))


def task(folder: Path) -> None:
    """A task of multiple choice in local files."""
    draw = random.Random(9)
    rows = [{"question": text(draw, 2, 6), "choices": [text(draw, 1, 3) for _ in range(3)], "answer": draw.randrange(3)} for _ in range(12)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "choices.yaml").write_text(
        f"task: choices\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder / 'data.jsonl'}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: '{{choices}}'\ndoc_to_target: answer\n"
        "num_fewshot: 2\nfewshot_config:\n  sampler: first_n\nmetric_list:\n  - metric: acc\n    aggregation: mean\n"
        "    higher_is_better: true\n"
    )


def evaluate(module: str, name: str, arguments: str, folder: Path) -> dict[str, list]:
    """The command line of the harness: the answers of each document."""
    task(folder)
    command = ["run", "--model", name, "--model_args", arguments, "--tasks", "choices", "--include_path", str(folder)]
    command += ["--device", "cpu", "--batch_size", "4", "--output_path", str(folder / "out"), "--log_samples"]
    done = subprocess.run([sys.executable, "-m", module, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    (samples,) = (folder / "out").rglob("samples_choices_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return {str(line["doc_id"]): [one[0] for one in line["resps"]] for line in sorted(lines, key=lambda line: line["doc_id"])}
