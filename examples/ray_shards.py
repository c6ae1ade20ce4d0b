"""`sli run` over a dataset in parts, one a task of a Ray cluster, and `sli merge` of them.

    python ray_shards.py --parts 4 --out results -- MODEL --input data.jsonl --take scores

What follows `--` is what `sli run` gets beside `--shard` and `--out`; `sli` is on the PATH of every machine, or named by `--sli`. The parts are run in
`RESULTS.parts/I-of-N`; all machines see that folder and the one in which the command is given. A worker that dies (or whose `sli` is killed) is replaced, and the part goes on from its
last checkpoint; an error that would come again (exit codes 2, 3 and 4) ends everything. Run the same command again after whatever happened: finished parts are
not run twice. A model named by an id of the hub is fetched into the host's cache once, whichever of its tasks comes first; a model in a folder is read through the
page cache, which the tasks of a host share.
"""

import argparse
import ctypes
import pathlib
import signal
import subprocess
import sys

import ray

PR_SET_PDEATHSIG = 1
# Wrong usage, a bad model or dataset, a budget that is too small: the same on every machine, however often.
FINAL = {2, 3, 4}


class Interrupted(Exception):
    """The part is not at its end, but may come there."""


class Refused(Exception):
    """Trying again would not help."""


def end_with_parent():
    """A worker that is killed takes its `sli` along, so that the next one finds the folder free (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def sli(command, folder=None):
    begin = end_with_parent if sys.platform == "linux" else None
    done = subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=begin)
    if done.returncode:
        error = Refused if done.returncode in FINAL else Interrupted
        raise error(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")


# Workers that die are replaced by `max_retries`, a `sli` that died or met a full disk by `retry_exceptions`.
@ray.remote(max_retries=10, retry_exceptions=[Interrupted])
def run_part(program, arguments, index, parts, out, folder):
    sli([program, "run", *arguments, "--shard", f"{index}/{parts}", "--out", out], folder)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, required=True, help="parts of the dataset: as many as there are machines, or a few times that")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the results, which all machines see")
    parser.add_argument("--cpus", type=int, default=1, help="processors of a task")
    parser.add_argument("--address", help="the cluster; by default the one that is there, else one on this machine")
    parser.add_argument("--sli", default="sli", help="the program")
    parser.add_argument("run", nargs="+", help="what `sli run` gets: MODEL --input FILE ...")
    given = parser.parse_args()
    ray.init(address=given.address)
    folder = pathlib.Path(f"{given.out.absolute()}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [*given.run, "--threads", str(given.cpus)]
    task = run_part.options(num_cpus=given.cpus)
    # Paths in the arguments are seen from here, wherever the task runs.
    here = str(pathlib.Path.cwd())
    waiting = [
        task.remote(given.sli, arguments, index, given.parts, str(folder / f"{index}-of-{given.parts}"), here)
        for index in range(1, given.parts + 1)
    ]
    parts = []
    while waiting:
        # The first part that is refused ends everything, not the last.
        [done], waiting = ray.wait(waiting)
        parts.append(ray.get(done))
        print(f"{len(parts)} of {given.parts}: {parts[-1]}")
    sli([given.sli, "merge", *parts, "--out", str(given.out)])
    print(f"results {given.out}")


if __name__ == "__main__":
    main()
