"""The package is typed, quick to import, and its generated parts are current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def test_nothing_heavy_is_imported():
    heavy = ["torch", "transformers", "numpy", "pyarrow", "pandas", "tqdm", "lm_eval"]
    code = f"import sys, sli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_types_hold():
    settings = str(PACKAGE / "pyproject.toml")
    for command in (["mypy", "--config-file", settings, "-p", "sli"], ["mypy.stubtest", "sli._sli"]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_command():
    for arguments, code in [(["--version"], 0), (["architectures"], 0), (["nothing"], 2), (["inspect", "/nowhere"], 3)]:
        done = subprocess.run([sys.executable, "-m", "sli", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert code == 0 or "hint:" in done.stderr
