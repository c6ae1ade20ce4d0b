"""What the package does: run, compare, verify, plan, inspect, list."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _arguments, _sli
from ._data import Data, files
from ._errors import usage_error
from ._progress import Attendant, Progress
from ._results import Results

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._flags import BatchFlags, DiffFlags, InspectFlags, RunFlags, VerifyFlags


def run(
    model: str | os.PathLike[str],
    data: Data,
    *,
    out: str | os.PathLike[str] | None = None,
    take: str | Sequence[str] = ("scores",),
    memory: str | int | None = None,
    threads: int | None = None,
    compute: str = "auto",
    max_length: int | None = None,
    revision: str | None = None,
    progress: Progress = None,
    **flags: Unpack[RunFlags],
) -> Results:
    """Runs a model over a dataset, one layer at a time, in one pass over its weights.

    ``model`` is a folder, a weights file, or an id of the hub. ``data`` may be a path (as of ``sli run --input``), a list or a
    generator of texts and records (mappings with ``text``, ``input_ids``, ``messages``, ``prompt`` and ``completion``, ...), an
    Arrow table or anything with ``__arrow_c_stream__``, or a ``datasets.Dataset``.

    ``take`` names the results: ``scores``, ``profile``, ``hidden[:LAYERS]``, ``logits``, ``topk:K``, ``embedding[:POOLING]``,
    ``router``, ``classes``, ``sparse``, ``lens[:K[:LAYERS]]``, ``imatrix``, ``hessian[:LAYERS]``. Without ``out`` they live in a temporary folder that goes with the object; in a folder a
    run that was interrupted goes on when the same call is made again, and a finished one is opened as it is.

    ``memory`` ("8GiB", or bytes) is what the whole process may hold, with what it holds already; by default most of what is
    free. Results do not depend on it, nor on ``threads``. ``flags`` are those of ``sli run``, by the same names:
    ``hidden_dtype="bf16"``, ``chat_arg={"enable_thinking": False}``, ``allow_long=True``.

    Raises :class:`SLIError`, by what can be done about it. ``KeyboardInterrupt`` ends a run with what is done kept.
    """
    _demand_records(data)
    named = _named(memory, threads, compute, max_length, {"take": _takes(take), **flags})
    arguments = _arguments.of("run", named)
    return _over(data, out, (_sli.run, arguments, [_arguments.model(model, revision)]), progress)


def _named(
    memory: str | int | None, threads: int | None, compute: str, max_length: int | None, others: Mapping[str, Any]
) -> dict[str, Any]:
    """Flags by the names of keyword arguments."""
    return {"memory": memory, "threads": threads, "compute": compute, "max_length": max_length, **others}


def _takes(take: str | Sequence[str]) -> list[str]:
    if isinstance(take, str):
        return [take]
    if not isinstance(take, Iterable) or isinstance(take, (bytes, Mapping)):
        raise TypeError(f"take must be the name of a result or a list of names, not {take!r}")
    return list(take)


def _demand_records(data: Data) -> None:
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes, bytearray)) and not len(data):
        raise usage_error("the data has no records", "give at least one")


def _over(
    data: Data,
    out: str | os.PathLike[str] | None,
    call: tuple[Callable[[list[str], Attendant], bool], list[str], list[str]],
    progress: Progress,
) -> Results:
    """Calls something with its arguments over data, and then its models; the results are in a folder."""
    work, arguments, models = call
    attendant = Attendant(progress)
    place, folder = _place(out)
    with tempfile.TemporaryDirectory(prefix="sli-data-", ignore_cleanup_errors=True) as beside:
        arguments += [f"--input={path}" for path in files(data, beside)]
        arguments += [f"--out={place}", "--", *models]
        try:
            work(arguments, attendant)
        finally:
            attendant.close()
    return Results(place, _folder=folder)


def _place(out: str | os.PathLike[str] | None) -> tuple[str, Any]:
    """A folder for results, and what it goes with where nobody named it."""
    if out is not None:
        return os.fsdecode(os.fspath(out)), None
    folder = tempfile.TemporaryDirectory(prefix="sli-", ignore_cleanup_errors=True)
    return os.path.join(folder.name, "results"), folder


def diff(
    reference: str | os.PathLike[str],
    model: str | os.PathLike[str],
    data: Data,
    *,
    out: str | os.PathLike[str] | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    compute: str = "auto",
    max_length: int | None = None,
    progress: Progress = None,
    **flags: Unpack[DiffFlags],
) -> Results:
    """How far a checkpoint drifts from another one of the same model, the ``reference``, layer by layer, as ``sli diff`` says it.

    ``data``, ``out``, ``memory`` and the others are as of :func:`run`. The results have the tables ``drift`` (of each boundary the error
    of the layer alone and what has accumulated) and ``divergence`` (of each record the Kullback-Leibler divergence at every
    token, the most probable tokens, log-probabilities); ``manifest["drift"]`` has totals.
    """
    _demand_records(data)
    named = _named(memory, threads, compute, max_length, flags)
    arguments = _arguments.of("diff", named)
    models = [_arguments.model(reference), _arguments.model(model)]
    return _over(data, out, (_sli.diff, arguments, models), progress)


def verify(
    model: str | os.PathLike[str],
    against: str | os.PathLike[str],
    *,
    receipt: str | os.PathLike[str] | None = None,
    tolerance: float | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    compute: str = "auto",
    revision: str | None = None,
    progress: Progress = None,
    **flags: Unpack[VerifyFlags],
) -> dict[str, Any]:
    """Compares a model with what transformers computed of it, a file of ``tools/verify/expected.py``; the receipt: whether it
    ``passed``, the ``worst`` place, how far off every one of ``places`` is, versions, hashes of the weights.

    ``receipt`` is where it is written too; ``tolerance`` is the largest relative error of a row that is allowed, by default what the
    types of both give. That the numbers differ raises nothing; that ``against`` is about other weights does.
    """
    allowed = None if tolerance is None else repr(float(tolerance))
    named = {"tolerance": allowed, "memory": memory, "threads": threads, "compute": compute, **flags}
    arguments = _arguments.of("verify", named)
    attendant = Attendant(progress)
    with tempfile.TemporaryDirectory(prefix="sli-", ignore_cleanup_errors=True) as beside:
        place = os.path.join(beside, "receipt.json") if receipt is None else os.fsdecode(os.fspath(receipt))
        arguments += [f"--against={os.fsdecode(os.fspath(against))}", f"--receipt={place}"]
        try:
            found: dict[str, Any] = json.loads(_sli.verify([*arguments, "--", _arguments.model(model, revision)], attendant))
        finally:
            attendant.close()
    return found


def plan(
    model: str | os.PathLike[str],
    data: Data,
    *,
    take: str | Sequence[str] = ("scores",),
    memory: str | int | None = None,
    threads: int | None = None,
    compute: str = "auto",
    max_length: int | None = None,
    revision: str | None = None,
    progress: Progress = None,
    **flags: Unpack[RunFlags],
) -> dict[str, Any]:
    """What :func:`run` would read, write, hold and take, as ``sli plan --json`` says it; nothing is run."""
    named = _named(memory, threads, compute, max_length, {"take": _takes(take), **flags})
    arguments = _arguments.of("plan", named)
    attendant = Attendant(progress)
    with tempfile.TemporaryDirectory(prefix="sli-data-", ignore_cleanup_errors=True) as beside:
        arguments += [f"--input={path}" for path in files(data, beside)]
        arguments += ["--", _arguments.model(model, revision)]
        try:
            planned: dict[str, Any] = json.loads(_sli.plan(arguments, attendant))
        finally:
            attendant.close()
    return planned


def inspect(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    **flags: Unpack[InspectFlags],
) -> dict[str, Any]:
    """What a model is made of and whether its checkpoint is complete, as ``sli inspect --json`` says it; of an incomplete one
    ``coverage`` says what is missing."""
    arguments = _arguments.of("inspect", flags)
    arguments += ["--", _arguments.model(model, revision)]
    inspected: dict[str, Any] = json.loads(_sli.inspect(arguments, Attendant(False)))
    return inspected


def architectures() -> list[dict[str, Any]]:
    """Every model type, supported or refused with its reason, as ``sli architectures --json`` lists them."""
    listed: list[dict[str, Any]] = json.loads(_sli.architectures())
    return listed


def merge(
    parts: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    fresh: bool = False,
) -> Results:
    """Makes of the results of all parts of a dataset (``run(..., shard=(1, 4))``, in any order) those of one run over all of it, to
    the byte. One that was interrupted goes on when the same call is made again."""
    place = os.fsdecode(os.fspath(out))
    is_one = isinstance(parts, (str, bytes, os.PathLike))
    folders = [] if is_one else [os.fsdecode(os.fspath(part)) for part in parts]
    if not folders:
        raise usage_error("parts is a list of folders", "sli.merge(['part-1', 'part-2'], out='results')")
    arguments = [*_arguments.of("merge", {"fresh": fresh}), f"--out={place}", "--", *folders]
    _sli.merge(arguments, Attendant(False))
    return Results(place)


def batch(
    model: str | os.PathLike[str],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    memory: str | int | None = None,
    threads: int | None = None,
    compute: str = "auto",
    max_length: int | None = None,
    revision: str | None = None,
    progress: Progress = None,
    **flags: Unpack[BatchFlags],
) -> dict[str, int]:
    """Answers a file of OpenAI's Batch API, embeddings and log-probabilities, in one pass over the model's weights; how many
    ``requests`` it has and how many of them are ``refused``, each with an error in its line."""
    named = _named(memory, threads, compute, max_length, flags)
    arguments = _arguments.of("batch", named)
    arguments += [f"--input={os.fsdecode(os.fspath(input))}", f"--output={os.fsdecode(os.fspath(output))}"]
    attendant = Attendant(progress)
    try:
        requests, refused = _sli.batch([*arguments, "--", _arguments.model(model, revision)], attendant)
    finally:
        attendant.close()
    return {"requests": requests, "refused": refused}


def _folder(results: Results | str | os.PathLike[str]) -> str:
    return results.path if isinstance(results, Results) else os.fsdecode(os.fspath(results))


def report(results: Results | str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> str:
    """Makes a page for a browser of a folder of results; its path, by default ``report.html`` in that folder."""
    folder = _folder(results)
    arguments = [] if out is None else [f"--out={os.fsdecode(os.fspath(out))}"]
    return _sli.report([*arguments, "--", folder], Attendant(False))


def export(
    results: Results | str | os.PathLike[str],
    format: str,
    out: str | os.PathLike[str],
    *,
    context_size: int | None = None,
) -> dict[str, int]:
    """Writes hidden states of a folder of results in the files of other tools: ``"speculators"`` or ``"saelens"``. The run must have
    them (``take=["hidden:LAYERS", "scores"]``). Files that are there are kept, so an export that was interrupted goes on. Of saelens
    records are cut into pieces of ``context_size`` tokens."""
    folder = _folder(results)
    arguments = _arguments.of("export", {"format": format, "context_size": context_size})
    arguments += [f"--out={os.fsdecode(os.fspath(out))}", "--", folder]
    rows, kept, left_out = _sli.export(arguments, Attendant(False))
    return {"rows": rows, "kept": kept, "left_out": left_out}
