"""The package is typed, quick to import, and its generated parts are current."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import sli

TOOLS = Path(__file__).parents[1] / "tools"


def test_the_flags_are_current():
    spec = importlib.util.spec_from_file_location("flags", TOOLS / "flags.py")
    flags = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flags)
    stored = Path(sli.__file__).with_name("_flags.py").read_text(encoding="utf-8")
    assert stored == flags.generated()


def test_nothing_heavy_is_imported():
    heavy = ["torch", "transformers", "numpy", "pyarrow", "pandas", "tqdm", "lm_eval"]
    code = f"import sys, sli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_types_hold():
    settings = str(TOOLS.parent / "pyproject.toml")
    for command in (["mypy", "--config-file", settings, "-p", "sli"], ["mypy.stubtest", "sli._sli"]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_command():
    for arguments, code in [(["--version"], 0), (["architectures"], 0), (["nothing"], 2), (["inspect", "/nowhere"], 3)]:
        done = subprocess.run([sys.executable, "-m", "sli", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert code == 0 or "hint:" in done.stderr
