"""Runs SLI and transformers by turns on the same checkpoint under the same memory cap and prints a JSON line a run.

    python side-by-side.py MODEL DATA.jsonl --memory 1GiB --cap 1536MiB [--batch N] [--rounds 3] [--systems sli,offload,ram]

`sli` is `sli run --take scores --memory`, `offload` is accelerate's disk offload (against/reference.py), both in a
control group of `--cap`; `ram` is transformers with its weights in memory, without a cap. The page cache is dropped before
every run. Seconds are those of the whole command, from its start to its end; `forward_seconds` are those of the forward
passes alone, as the reference itself takes them. The first line says what was measured on what. Needs root, for the page
cache and the control group (v1 or v2).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import ROOT, SLI, about, drop_page_cache

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size(text):
    return int(text[:-3]) * UNITS[text[-3:]]


class Group:
    """A control group whose members hold at most `cap` bytes together, page cache included."""

    def __init__(self, cap):
        first = pathlib.Path("/sys/fs/cgroup/memory")
        self.is_first = first.is_dir()
        self.path = (first if self.is_first else pathlib.Path("/sys/fs/cgroup")) / f"side-by-side-{os.getpid()}"
        self.path.mkdir()
        limit = "memory.limit_in_bytes" if self.is_first else "memory.max"
        (self.path / limit).write_text(str(cap))

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        name = "memory.max_usage_in_bytes" if self.is_first else "memory.peak"
        return int((self.path / name).read_text())

    def close(self):
        self.path.rmdir()


def run(system, arguments):
    """One run in a cold page cache."""
    drop_page_cache()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        if system == "sli":
            command = [SLI, "run", arguments.model, "--input", arguments.data]
            command += ["--out", f"{scratch}/out", "--take", "scores", "--memory", arguments.memory, "--json"]
        else:
            command = [sys.executable, str(ROOT / "benches/against/reference.py"), system, arguments.model, arguments.data]
            command += ["--resident", arguments.resident]
            command += ["--batch", str(arguments.batch)] if arguments.batch else []
        environment = dict(os.environ, TMPDIR=scratch)
        group = Group(size(arguments.cap)) if system != "ram" else None
        began = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, preexec_fn=group.enter if group else None
        )
        seconds = time.perf_counter() - began
        peak = None
        if group:
            peak = group.peak()
            group.close()
    line = {"system": system, "seconds": round(seconds, 2)}
    if done.returncode != 0:
        return line | {"failed": done.returncode, "says": done.stderr[-300:]}
    said = json.loads(done.stdout if system == "sli" else done.stdout.splitlines()[-1])
    line |= {"tokens": said["tokens"], "tokens_per_second": round(said["tokens"] / seconds, 1)}
    if system == "sli":
        roofline = said["roofline"]
        line |= {
            "own_seconds": round(said["seconds"], 2),
            "planned_seconds": round(said["plan"]["seconds"], 2),
            "roofline_seconds": round(roofline["seconds"], 2),
            "roofline_fraction": round(said["roofline_fraction"], 3),
            "roofline_from": roofline["operations_from"],
            "peak_rss_mib": said["peak_memory"] >> 20,
            "planned_rss_mib": said["plan"]["peak_memory"] >> 20,
            "bytes_read": said["bytes_read"],
            "planned_bytes": said["plan"]["bytes_read"],
            "passes": said["plan"]["super_batches"],
            "reading": (said["reading"] or {}).get("mode"),
            "stages": {name: round(value, 2) for name, value in said["stages"].items()},
        }
    else:
        line |= {key: said[key] for key in ["load_seconds", "forward_seconds", "tokens_per_second_forward", "peak_rss_mib"]}
    if peak is not None:
        line["group_peak_mib"] = peak >> 20
    return line


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--memory", default="1GiB", help="sli's --memory")
    parser.add_argument("--cap", default="1536MiB", help="of the control group")
    parser.add_argument("--resident", default="400MiB", help="weights that accelerate may keep in memory")
    parser.add_argument("--batch", type=int, help="records that transformers runs together [default: all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default="sli,offload,ram")
    parser.add_argument("--scratch", default="/var/tmp", help="folder on a disk, for results and offloaded weights")
    arguments = parser.parse_args()
    systems = arguments.systems.split(",")
    bench = None
    if "sli" in systems:
        # The roofline's ceilings, just before.
        bench = json.loads(subprocess.run([SLI, "bench", "--json"], capture_output=True, text=True, check=True).stdout)
    first = about(
        model=pathlib.Path(arguments.model).name,
        data=pathlib.Path(arguments.data).name,
        memory=arguments.memory,
        cap=arguments.cap,
        batch=arguments.batch,
        ceilings=bench and {"processor": bench["processor"], "disk": bench["disk"]},
    )
    print(json.dumps(first), flush=True)
    rates = {}
    for _ in range(arguments.rounds):
        for system in systems:
            line = run(system, arguments)
            print(json.dumps(line), flush=True)
            for key in ["tokens_per_second", "tokens_per_second_forward"]:
                if key in line:
                    rates.setdefault(f"{system} {key}", []).append(line[key])
    print(json.dumps({"median": {name: statistics.median(values) for name, values in rates.items()}}), flush=True)


main()
