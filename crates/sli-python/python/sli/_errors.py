"""What ends a call early."""

from __future__ import annotations

import re


class SLIError(Exception):
    """An error of SLI: what is wrong, where, and in ``hint`` what to do about it.

    ``exit_code`` is the one that the ``sli`` command ends with: 2 usage, 3 bad model or input, 4 does not fit the budget,
    5 input/output.
    """

    hint: str = ""
    exit_code: int = 3

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nhint: {self.hint}" if self.hint else text


class UsageError(SLIError, ValueError):
    """What was asked for makes no sense."""

    exit_code = 2


class ModelError(SLIError):
    """A model that cannot be used: its configuration, weights or tokenizer."""


class UnsupportedArchitectureError(ModelError, ValueError):
    """A model type or class that is not supported."""


class InputError(SLIError, ValueError):
    """Data that cannot be used."""


class BudgetError(SLIError, MemoryError):
    """What does not fit into ``memory``; ``needed`` is the budget in bytes that would do, where it is known."""

    exit_code = 4
    needed: int | None = None


class FileError(SLIError, OSError):
    """A file or a line that cannot be read or written."""

    exit_code = 5


_CLASSES = {
    kind.__name__: kind
    for kind in (SLIError, UsageError, ModelError, UnsupportedArchitectureError, InputError, BudgetError, FileError)
}

#: Whose flags the package has as arguments.
_COMMANDS = ("run", "diff", "verify", "batch", "merge", "report", "export")
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)((?: |=)(?:'[^']*'|(?:[^\s;,:`]|[:,](?=\S))+))?")


def spoken(hint: str) -> str:
    """The hint with the flags of the command line as the arguments of this package."""
    from . import _sli

    flags = {name: takes for command in _COMMANDS for name, takes, *_ in _sli.flags(command)}

    def argument(match: re.Match[str]) -> str:
        name, value = match[1], match[2] or ""
        if name not in flags:
            return match[0]
        keyword = name.replace("-", "_")
        if not flags[name]:
            return f"{keyword}=True{value}"
        if not value:
            return keyword
        text = value[1:].strip("'")
        return f"{keyword}={text if text.isdigit() else repr(text)}"

    return _FLAG.sub(argument, hint)


def made(kind: str, message: str, hint: str, exit_code: int, needed: int | None = None) -> SLIError:
    """The exception of this class; called by the engine."""
    error = _CLASSES[kind](message)
    error.hint = spoken(hint)
    error.exit_code = exit_code
    if isinstance(error, BudgetError):
        error.needed = needed
    return error


def model_error(message: str, hint: str) -> ModelError:
    """An error about a model."""
    error = ModelError(message)
    error.hint = hint
    return error


def unsupported_error(message: str, hint: str) -> UnsupportedArchitectureError:
    """An error about a type of models."""
    error = UnsupportedArchitectureError(message)
    error.hint = hint
    return error


def input_error(message: str, hint: str) -> InputError:
    """An error about data."""
    error = InputError(message)
    error.hint = hint
    return error


def usage_error(message: str, hint: str) -> UsageError:
    """An error about arguments."""
    error = UsageError(message)
    error.hint = hint
    return error
