"""Where a call is, for the people watching it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from typing import TypeAlias

#: ``None``: a bar where people watch; ``True`` and ``False``: one, none; a callable is called with a dict.
Progress: "TypeAlias" = "Union[bool, None, Callable[[dict[str, Any]], object]]"

_LOG = logging.getLogger("sli")


class SLIWarning(UserWarning):
    """Something about a model or its data that may be wrong."""


class Attendant:
    """Hears what the engine has to say while it works."""

    def __init__(self, progress: Progress = None) -> None:
        if progress is not None and not isinstance(progress, bool) and not callable(progress):
            raise TypeError(f"progress must be True, False, None or a callable, not {progress!r}")
        self._callback: Callable[[dict[str, Any]], object] | None = None
        self._bar_class: Any = None
        if callable(progress):
            self._callback = progress
        else:
            self._bar_class = _bar_class(progress)
        self._bar: Any = None
        self._stage = ""

    def __call__(self, kind: str, value: Any) -> None:
        if kind == "warning":
            warnings.warn(value, SLIWarning, stacklevel=_outside())
        elif kind == "note":
            _LOG.info("%s", value)
        elif kind == "fetching":
            _LOG.info("fetching %s bytes of %s", *value)
        elif kind == "begun":
            if value:
                _LOG.info("going on after %s of %s records", *value)
        elif kind == "settled":
            self.close()
        else:
            self._show(kind, value)

    def _show(self, stage: str, value: Any) -> None:
        if self._callback:
            self._callback({"stage": stage, **_named(stage, value)})
        elif self._bar_class:
            if stage != self._stage:
                self.close()
                self._stage = stage
                self._bar = self._bar_class(desc=_TITLES[stage], leave=False, **_UNITS[stage])
            done, total, said = _amount(stage, value)
            self._bar.total = total
            self._bar.set_postfix_str(said, refresh=False)
            self._bar.update(max(done - self._bar.n, 0))

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


_TITLES = {"preparing": "reading the data", "arriving": "fetching", "running": "running"}
_UNITS: dict[str, dict[str, Any]] = {
    "preparing": {"unit": " tokens", "unit_scale": True},
    "arriving": {"unit": "B", "unit_scale": True, "unit_divisor": 1024},
    "running": {"unit": " token-layers", "unit_scale": True},
}


def _named(stage: str, value: Any) -> dict[str, Any]:
    if stage == "preparing":
        return {"records": value[0], "tokens": value[1]}
    if stage == "arriving":
        return {"bytes_there": value[0], "bytes_wanted": value[1]}
    return dict(value)


def _amount(stage: str, value: Any) -> tuple[int, int | None, str]:
    if stage == "preparing":
        return value[1], None, f"{value[0]} records"
    if stage == "arriving":
        return value[0], value[1], ""
    said = f"{value['stack']} layer {value['layer']}/{value['layers']}, {value['records_done']}/{value['records']} records"
    return value["token_layers_done"], value["token_layers"], said


def _bar_class(progress: bool | None) -> Any:
    """The class of bars, where there is one and somebody sees it."""
    if progress is False or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    if progress is None and "notebook" not in tqdm.__module__ and not sys.stderr.isatty():
        return None
    return tqdm


def _outside() -> int:
    """How many calls away the first one is that is not of this package."""
    here = os.path.dirname(__file__)
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == here:
        frame = frame.f_back
        level += 1
    return level
