"""The model that comes with the project, and texts to run it over."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXTS = [
    "The cat sat on the mat, and the dog looked on.",
    "A day",
    "Once upon a time there was a king who had three daughters; the eldest of them was as clever as she was kind.",
]


@pytest.fixture(scope="session")
def model() -> Path:
    return ROOT / "models" / "embedded"


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered of this machine decides nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
