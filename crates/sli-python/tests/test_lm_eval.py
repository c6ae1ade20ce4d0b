"""Answers are those of lm-evaluation-harness's own backend ``hf``, which ``lm_eval/make.py`` has written down."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

import sli  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from sli.lm_eval import SLILM  # noqa: E402

HERE = Path(__file__).parent / "lm_eval"
TOLERANCE = 2e-3
QUICK = {"memory": "2GiB", "compute": "f32", "progress": False}


@pytest.fixture(params=["llama", "gpt2", "t5"])
def kind(request):
    return request.param


@pytest.fixture
def answers(kind):
    return json.loads((HERE / kind / "answers.json").read_text())


def made(kind, **settings):
    return SLILM(pretrained=str(HERE / kind), **{**QUICK, **settings})


def instances(kind, requests):
    return [Instance(request_type=kind, doc={}, arguments=tuple(one), idx=at) for at, one in enumerate(requests)]


def compare(ours, theirs):
    assert len(ours) == len(theirs)
    for (our, is_ours), (their, is_theirs) in zip(ours, theirs):
        assert abs(our - their) <= TOLERANCE, (our, their)
        assert is_ours == is_theirs


def test_every_request_is_answered_alike(kind, answers):
    compared = 0
    for answer in answers.values():
        model = made(kind, **answer["settings"])
        assert model.max_length == answer["max_length"]
        assert model.prefix_token_id == answer["prefix_token_id"]
        ours = model.loglikelihood(instances("loglikelihood", answer["pairs"]), disable_tqdm=True)
        compare(ours, answer["loglikelihood"])
        compared += len(ours)
        rolling = model.loglikelihood_rolling(instances("loglikelihood_rolling", answer.get("texts", [])))
        for our, their in zip(rolling, answer.get("loglikelihood_rolling", []), strict=True):
            assert abs(our - their) <= TOLERANCE, (our, their)
        for history, asks, rendered in answer.get("chats", []):
            assert model.apply_chat_template(history, asks) == rendered
    assert compared >= 79
    if kind != "t5":
        assert {is_greedy for _, is_greedy in answers[""]["loglikelihood"]} == {True, False}


def test_what_is_refused():
    with pytest.raises(sli.UsageError, match="scores only"):
        made("llama").generate_until(instances("generate_until", [("the", {})]))
    with pytest.raises(TypeError, match="memry"):
        made("llama", memry="1GiB")
    with pytest.raises(sli.UsageError, match="seq2seq"):
        made("llama", backend="seq2seq")
    full = made("gpt2")
    assert full.max_length == 48
    with pytest.raises(sli.UsageError, match="max_length=47"):
        full.loglikelihood_rolling(instances("loglikelihood_rolling", [("the cat sat " * 40,)]))


def test_a_killed_evaluation_goes_on(tmp_path):
    model = made("llama", out=str(tmp_path / "out"), batch_size=3, device="cpu")
    pairs = instances("loglikelihood", [("the", " cat"), ("the", " dog")])
    first = model.loglikelihood(pairs, disable_tqdm=True)
    (folder,) = (tmp_path / "out").iterdir()
    stamp = (folder / "scores.parquet").stat().st_mtime_ns
    assert model.loglikelihood(pairs, disable_tqdm=True) == first
    assert (folder / "scores.parquet").stat().st_mtime_ns == stamp


def test_what_is_answered_is_kept():
    kept = {}
    model = made("llama")
    model.cache_hook.add_partial = lambda kind, request, answer: kept.update({(kind, *request): answer})
    pairs = [("the", " cat"), ("", "the dog")]
    answers = model.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    total = model.loglikelihood_rolling(instances("loglikelihood_rolling", [("the dog",)]))
    assert kept == {
        ("loglikelihood", *pairs[0]): answers[0],
        ("loglikelihood", *pairs[1]): answers[1],
        ("loglikelihood_rolling", "the dog"): total[0],
    }


def test_the_command_line(tmp_path):
    spec = importlib.util.spec_from_file_location("choices", HERE / "choices.py")
    choices = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(choices)
    arguments = f"pretrained={HERE / 'llama'},memory=2GiB,compute=f32,out={tmp_path / 'results'}"
    ours = choices.evaluate("sli.lm_eval", "sli", arguments, tmp_path)
    theirs = json.loads((HERE / "llama" / "answers.json").read_text())[""]["evaluated"]
    assert ours.keys() == theirs.keys()
    for document, answer in ours.items():
        for (our, is_ours), (their, is_theirs) in zip(answer, theirs[document], strict=True):
            assert abs(float(our) - float(their)) <= TOLERANCE
            assert is_ours == is_theirs
