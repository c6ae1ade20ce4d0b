"""What the benches share: what is measured on what, and a cold page cache."""

import os
import pathlib
import platform
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLI = str(ROOT / "target/release/sli")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def revision():
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def about(**measured):
    """The first line of results."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": revision(),
        "processor": f"{processor()}, {os.cpu_count()} threads",
        "kernel": platform.release(),
        **measured,
    }


def drop_page_cache():
    """Needs root."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
