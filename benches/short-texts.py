"""Embeds short texts with SLI and with what its users have, by turns, and prints a JSON line a run.

    python benches/short-texts.py MODEL DATA.jsonl GRAPH.onnx [--rounds 5] [--systems f32,bf16,torch,onnx]

`f32` and `bf16` are `sli run --take embedding --compute`; `torch` is sentence-transformers, `onnx` onnxruntime with the graph that
`against/sentences.py export` wrote, both with sorted batches of 32. Two threads each. `seconds` are those of the whole command from its
start to its end, `ready` those that a Python program took until its libraries and its model were there (a service pays for them once),
`processor` those of all its threads. The last line has the medians, and how far the embeddings are from those of sentence-transformers.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def command(system, arguments, scratch):
    if system in ("f32", "bf16"):
        return [
            str(ROOT / "target/release/sli"), "run", arguments.model, "--input", arguments.data, "--out", f"{scratch}/out",
            "--take", "embedding", "--compute", system, "--threads", "2",
        ]
    return [
        sys.executable, str(HERE / "against/sentences.py"), system, arguments.model, arguments.data, f"{scratch}/{system}.npy",
        "--graph", arguments.graph,
    ]


def embeddings(system, scratch):
    import numpy as np

    if system in ("torch", "onnx"):
        return np.load(f"{scratch}/{system}.npy")
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(f"{scratch}/out/embeddings.parquet")
    return np.array(table["embedding"].to_pylist(), dtype=np.float32)


def run(system, arguments):
    with tempfile.TemporaryDirectory() as scratch:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command(system, arguments, scratch), capture_output=True, text=True, env=dict(os.environ, HF_HUB_OFFLINE="1"))
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"{system}: {done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = {"system": system, "seconds": round(seconds, 3)}
        line["processor"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3)
        if system in ("torch", "onnx"):
            line["ready"] = json.loads(done.stdout.splitlines()[-1])["load_seconds"]
        return line, embeddings(system, scratch)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("graph")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", default="f32,bf16,onnx,torch")
    arguments = parser.parse_args()
    systems, lines, rows = arguments.systems.split(","), [], {}
    for _ in range(arguments.rounds):
        for system in systems:
            line, rows[system] = run(system, arguments)
            lines.append(line)
            print(json.dumps(line), flush=True)
    median = {
        system: round(statistics.median(line["seconds"] - line.get("ready", 0) for line in lines if line["system"] == system), 3)
        for system in systems
    }
    apart = {system: float(abs(found - rows["torch"]).max()) for system, found in rows.items() if "torch" in rows}
    print(json.dumps({"median_seconds_behind_ready": median, "largest_difference_to_torch": apart}))


if __name__ == "__main__":
    main()
