"""Bad input: one exception with a hint, and the interpreter goes on."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import sli

QUICK = {"memory": "1GiB", "compute": "f32", "progress": False}


class _OfAnotherKind:
    def __arrow_c_stream__(self, requested_schema=None):
        raise ValueError("no stream")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([{"text": 3}], "text"),
        ([3.5], "record 0"),
        (["good", {"text": object()}], "record 1"),
        (["good", "\ud800"], "record 1"),
        ([["a", "b"]], "neither token ids nor messages"),
        ([True], "bool"),
        ([], "no records"),
        ((text for text in ()), "no records"),
        ({"text": "one"}, "mapping"),
        (b"bytes", "bytes"),
        (None, "NoneType"),
        (7, "int"),
        ([{"input_ids": [1, 99999]}], "99999"),
        ([{"text": "a", "id": "x"}, {"text": "b", "id": "x"}], "x"),
        ([{"nothing": 1}], "text"),
        ([float("nan")], "record 0"),
        ([{"text": "a", "weight": float("inf")}], "record 0"),
        (_OfAnotherKind(), "no stream"),
    ],
)
def test_data_that_cannot_be_used(model, data, said):
    with pytest.raises((sli.InputError, sli.UsageError)) as caught:
        sli.run(model, data, **QUICK)
    assert said in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code in (2, 3)


def test_a_stream_that_fails_is_what_is_raised(model):
    def records():
        yield "good"
        raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        sli.run(model, records(), **QUICK)


def test_columns_that_no_file_holds(model):
    import pyarrow as pa

    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    interval = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    for column in (union, interval, pa.array([[{}]], pa.list_(pa.struct([])))):
        with pytest.raises(sli.InputError, match="`odd`") as caught:
            sli.run(model, pa.table({"text": ["a"], "odd": column}), **QUICK)
        assert "leave the column out" in caught.value.hint


def test_hints_speak_of_arguments(model, tmp_path):
    from sli._errors import spoken

    assert spoken("run with --take hidden:LAYERS and --take scores") == "run with take='hidden:LAYERS' and take='scores'"
    assert spoken("--memory 4: more than there is") == "memory=4: more than there is"
    assert spoken("give a smaller --context-size") == "give a smaller context_size"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(sli.FileError) as caught:
        sli.run(model, ["a"], out=file, **QUICK)
    assert "`out`" in caught.value.hint


@pytest.mark.parametrize("manifest", ["", "{}", "[]", "null", '{"files": 5}', '{"files": [5]}', '{"files": [{"name": 5}]}'])
def test_folders_that_are_no_results(tmp_path, manifest):
    (tmp_path / "run.json").write_text(manifest)
    with pytest.raises(sli.UsageError, match="run.json"):
        sli.Results(tmp_path)


def test_files_that_cannot_be_used(model, tmp_path):
    with pytest.raises(sli.InputError) as caught:
        sli.run(model, tmp_path / "nowhere.jsonl", **QUICK)
    assert "nowhere.jsonl" in str(caught.value) and caught.value.hint
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "good"}\n{"text": \n')
    with pytest.raises(sli.InputError, match="line 2|2"):
        sli.run(model, broken, **QUICK)


def test_models_that_cannot_be_used(model, tmp_path, texts):
    with pytest.raises(sli.SLIError) as caught:
        sli.run(tmp_path / "nowhere", texts, **QUICK)
    assert caught.value.exit_code == 3 and caught.value.hint
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "lama"}))
    with pytest.raises(sli.UnsupportedArchitectureError, match="lama") as caught:
        sli.run(other, texts, **QUICK)
    assert isinstance(caught.value, (sli.ModelError, ValueError))
    assert "llama" in caught.value.hint
    (other / "config.json").write_text(json.dumps({**config, "new_thing": 1}))
    with pytest.raises(sli.ModelError, match="new_thing") as caught:
        sli.run(other, texts, **QUICK)
    assert "allow_unread='new_thing'" in caught.value.hint
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sli.SLIWarning)
        assert len(sli.run(other, texts, allow_unread="new_thing", **QUICK).scores) == 3
    (other / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(sli.ModelError):
        sli.run(other, texts, **QUICK)


def test_arguments_that_make_no_sense(model, texts):
    with pytest.raises(TypeError, match="hidden_dtype"):
        sli.run(model, texts, hidden_dtpe="bf16", **QUICK)
    with pytest.raises(TypeError, match="input"):
        sli.run(model, texts, input="x", **QUICK)
    for wrong in [{"memory": "8XB"}, {"take": "everything"}, {"threads": 0}, {"compute": "f64"}, {"max_length": -1}]:
        with pytest.raises(sli.UsageError) as caught:
            sli.run(model, texts, **{**QUICK, **wrong})
        assert caught.value.hint
    with pytest.raises(TypeError):
        sli.run(model, texts, skip_empty="yes", **QUICK)
    with pytest.raises(TypeError):
        sli.run(None, texts, **QUICK)
    for take in (None, 5, b"scores"):
        with pytest.raises(TypeError, match="take must be"):
            sli.run(model, texts, take=take, **QUICK)
    with pytest.raises(TypeError):
        sli.run(model, texts, **{**QUICK, "progress": 3})
    with pytest.raises(sli.UsageError):
        sli.run(model, texts, revision="main", **QUICK)


def test_warnings_are_warnings(model):
    with pytest.warns(sli.SLIWarning, match="no tokens") as caught:
        sli.run(model, [{"input_ids": []}, {"input_ids": [5, 6]}], **QUICK)
    assert caught[0].filename == __file__
