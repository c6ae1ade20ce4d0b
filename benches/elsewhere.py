"""A model of a hub on the loopback line: how fast it arrives, what a run costs beside its transfer, and what a kill costs.

    python benches/elsewhere.py SLI SERVE MODEL FOLDER DATASET...

SLI is the program, SERVE the example `serve` of `sli-loopback`, both built with --release; MODEL a folder, FOLDER a place for caches and results,
DATASET what is run over it: the first one is killed, too. Prints what is measured on what, and a JSON line for each measurement: seconds, bytes that were served, and bytes of
the model.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from measuring import about

RATE = 200e6


class Hub:
    """The server, which answers a line with the bytes that it has served."""

    def __init__(self, program, rate, model):
        self.process = subprocess.Popen(
            [program, str(rate), f"org/name={model}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint = self.process.stdout.readline().strip()

    def served(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()


def main():
    sli, serve, model, folder, *datasets = sys.argv[1:]
    folder = pathlib.Path(folder)
    size = sum(file.stat().st_size for file in pathlib.Path(model).rglob("*.safetensors"))

    def command(name, dataset, out, cache, hub):
        shutil.rmtree(folder / out, ignore_errors=True)
        environment = dict(os.environ, HF_HOME=str(folder / cache))
        environment.pop("HF_HUB_OFFLINE", None)
        if hub:
            environment["HF_ENDPOINT"] = hub.endpoint
        words = [sli, "run", name, "--input", dataset, "--take", "scores", "--out", str(folder / out)]
        return words, environment

    def timed(words, environment):
        began = time.monotonic()
        subprocess.run(words, env=environment, check=True, stderr=subprocess.DEVNULL)
        return time.monotonic() - began

    def say(**values):
        print(json.dumps(values), flush=True)

    say(**about(model=pathlib.Path(model).name))
    computes = []
    for dataset in datasets:
        computes.append(min(timed(*command(model, dataset, "local", "none", None)) for _ in range(2)))
        say(what="run, local files in the page cache", data=pathlib.Path(dataset).name, seconds=round(computes[-1], 3), bytes=size)

    hub = Hub(serve, 0, model)
    for _ in range(3):
        shutil.rmtree(folder / "free", ignore_errors=True)
        before = hub.served()
        _, environment = command("org/name", datasets[0], "free", "free", hub)
        seconds = timed([sli, "download", "org/name"], environment)
        say(what="download, no limit", seconds=round(seconds, 3), served=hub.served() - before, gigabytes_per_second=round(size / seconds / 1e9, 3))
    hub.stop()

    hub = Hub(serve, RATE, model)
    transfer = size / RATE
    for dataset, compute in [*zip(datasets, computes)] * 2:
        shutil.rmtree(folder / "slow", ignore_errors=True)
        before = hub.served()
        seconds = timed(*command("org/name", dataset, "slow-out", "slow", hub))
        most = max(transfer, compute)
        say(what="run, 200 MB/s", data=pathlib.Path(dataset).name, seconds=round(seconds, 3), transfer=round(transfer, 3), ratio=round(seconds / most, 3), served=hub.served() - before, served_ratio=round((hub.served() - before) / size, 4))

    random.seed(0)
    for _ in range(3):
        shutil.rmtree(folder / "killed", ignore_errors=True)
        before = hub.served()
        words, environment = command("org/name", datasets[0], "killed-out", "killed", hub)
        child = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        wait = random.uniform(0.1, 0.9) * transfer
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        subprocess.run(words, env=environment, check=True, stderr=subprocess.DEVNULL)
        served = hub.served() - before
        say(what="run, killed after", seconds=round(wait, 3), served=served, served_ratio=round(served / size, 4))
    hub.stop()


main()
