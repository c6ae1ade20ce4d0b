"""Keyword arguments as the flags of the command line, whose table says what each may be."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping
from typing import Any

from . import _sli
from ._errors import usage_error

#: Flags that the functions of the package have in another form, or that mean nothing in it.
OWN = {"input", "out", "output", "json"}


def of(command: str, named: Mapping[str, Any]) -> list[str]:
    """The arguments of a command for these keywords; ``None`` and ``False`` leave a flag out."""
    known = {name.replace("-", "_"): (name, takes, repeats) for name, takes, repeats, *_ in _sli.flags(command)}
    arguments: list[str] = []
    for keyword, value in named.items():
        if keyword not in known or keyword in OWN:
            raise TypeError(f"unexpected keyword argument {keyword!r}{_like(keyword, known)}")
        if value is None:
            continue
        flag, takes, repeats = known[keyword]
        if not takes:
            if not isinstance(value, bool):
                raise TypeError(f"{keyword} must be True or False, not {value!r}")
            if value:
                arguments.append(f"--{flag}")
            continue
        for text in _texts(keyword, value, repeats):
            arguments.append(f"--{flag}={text}")
    return arguments


def _like(keyword: str, known: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(keyword, [name for name in known if name not in OWN], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _texts(keyword: str, value: Any, repeats: bool) -> list[str]:
    if isinstance(value, Mapping):
        if not repeats:
            raise TypeError(f"{keyword} takes one value, not a mapping")
        return [f"{name}={_member(inner)}" for name, inner in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        if keyword == "shard" and len(value) == 2:
            part, of_all = value
            return [f"{part}/{of_all}"]
        if not repeats:
            raise TypeError(f"{keyword} takes one value, not {value!r}")
        return [_text(keyword, inner) for inner in value]
    return [_text(keyword, value)]


def _text(keyword: str, value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "__index__"):
        # A whole number of numpy.
        value = operator.index(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)):
        raise TypeError(f"{keyword} must be a string or a number, not {value!r}")
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if not isinstance(text, str):
        text = os.fsdecode(text)
    return text


def _member(value: Any) -> str:
    """A text as it is, where nothing else would be read from it; all else as JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)


def model(name: str | os.PathLike[str], revision: str | None = None) -> str:
    """A model as the command line names it."""
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"model must be a path or an id of the hub, not {name!r}")
    text = os.fsdecode(os.fspath(name))
    if not text:
        raise usage_error("the model has no name", "give a folder, or an id of the hub: org/name")
    if revision is None:
        return text
    if os.path.exists(text):
        raise usage_error(f"{text} is on this machine and has no revisions", "leave revision out")
    if "@" in text.rsplit("/", 1)[-1]:
        raise usage_error(f"{text} names a revision already", "leave one of the two out")
    return f"{text}@{revision}"
