"""Data of every kind give the results of the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sli

QUICK = {"memory": "1GiB", "compute": "f32", "progress": False}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sli", *arguments], capture_output=True, text=True, check=False)


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="session")
def results(model, texts):
    return sli.run(model, texts, take=["scores", "hidden:0,last,norm", "topk:2", "profile", "embedding:mean"], **QUICK)


def test_the_command_line_gives_the_same_bytes(model, texts, results, tmp_path):
    data, out = lines(tmp_path / "data.jsonl", texts), tmp_path / "out"
    takes = [f"--take={take}" for take in ["scores", "hidden:0,last,norm", "topk:2", "profile", "embedding:mean"]]
    done = command("run", str(model), f"--input={data}", f"--out={out}", *takes, "--memory=1GiB", "--compute=f32")
    assert done.returncode == 0, done.stderr
    assert "done" in done.stderr
    assert len(results.files) >= 7
    for name in results.files:
        assert (out / name).read_bytes() == Path(results.path, name).read_bytes(), name


def test_every_kind_of_data(model, texts, results, tmp_path):
    import datasets
    import pandas
    import pyarrow

    scores = results.scores["sum_logprob"]
    ids = results.scores["token_ids"]
    column = {"text": texts}
    kinds = {
        "records": [{"text": text} for text in texts],
        "generator": (text for text in texts),
        "path": lines(tmp_path / "data.jsonl", texts),
        "paths": [lines(tmp_path / "a.jsonl", texts[:2]), lines(tmp_path / "b.jsonl", texts[2:])],
        "tokens": ids,
        "arrays": [np.array(tokens) for tokens in ids],
        "table": pyarrow.table(column),
        "large strings": pyarrow.table({"text": pyarrow.array(texts, pyarrow.large_string())}),
        "categories": pyarrow.table({"text": pyarrow.array(texts).dictionary_encode()}),
        "frame": pandas.DataFrame(column),
        "dataset": datasets.Dataset.from_dict(column),
        "shuffled twice": datasets.Dataset.from_dict({"text": texts[::-1]}).select([2, 1, 0]),
        "stream": datasets.Dataset.from_dict(column).to_iterable_dataset(),
    }
    for kind, data in kinds.items():
        again = sli.run(model, data, **QUICK)
        assert again.scores["sum_logprob"] == scores, kind
        assert again.scores["id"] == ["0", "1", "2"], kind


def test_columns_are_datasets(model, texts, results, tmp_path):
    import pandas as pd
    import pyarrow as pa

    parts = pa.chunked_array([texts[:1], texts[1:]])
    columns = [pd.Series(texts), pd.Series(texts, dtype="category"), pa.array(texts), parts, np.array(texts)]
    for number, column in enumerate(columns):
        found = sli.run(model, column, out=tmp_path / str(number), **{**QUICK, "memory": np.int64(1 << 30)})
        assert found.scores["sum_logprob"] == results.scores["sum_logprob"], type(column)


def test_results_travel_by_their_folder(model, texts, tmp_path):
    import copy
    import pickle

    kept = sli.run(model, texts[:1], out=tmp_path / "kept", **QUICK)
    there = pickle.loads(pickle.dumps((kept, kept.scores)))
    assert there[0].scores["id"] == there[1]["id"] == kept.scores["id"]
    passing = sli.run(model, texts[:1], **QUICK)
    for object in (passing, passing.scores):
        assert copy.deepcopy(object) is object
        with pytest.raises(TypeError, match="temporary"):
            pickle.dumps(object)


def test_conversations_and_prompts_in_tables(model):
    import pyarrow

    records = [{"prompt": "The cat", "completion": " sat on the mat."}, {"prompt": "A dog", "completion": " barked."}]
    one = sli.run(model, records, **QUICK).scores["completion_sum_logprob"]
    two = sli.run(model, pyarrow.Table.from_pylist(records), **QUICK).scores["completion_sum_logprob"]
    assert one == two
    assert all(value < 0 for value in one)


def test_tables(results, texts):
    import pyarrow

    scores = results.scores
    assert len(scores) == len(texts)
    assert scores["id"] == ["0", "1", "2"]
    table = pyarrow.table(scores)
    assert table.column_names == scores.columns
    assert table.to_pylist() == scores.to_pylist()
    frame = scores.to_pandas()
    assert list(frame["tokens"]) == scores["tokens"]
    with pytest.raises(KeyError):
        scores["nothing"]
    assert {"scores", "topk", "embeddings", "profile", "records"} <= set(results.tables)
    with pytest.raises(AttributeError, match="take="):
        results.router


def test_hidden_states_are_the_file_itself(results):
    last = results.hidden("last")
    assert list(last) == ["0", "1", "2"]
    tokens = results.scores["tokens"]
    states = last["1"]
    assert states.dtype == np.float32
    assert states.shape == (tokens[1], 192)
    assert not states.flags.owndata and not states.flags.writeable
    address = states.__array_interface__["data"][0]
    assert last[1].__array_interface__["data"][0] == address
    assert np.array_equal(states, results.hidden(6)["1"])
    assert results.hidden("decoder.norm")["1"].shape == states.shape
    mean = results.hidden("norm")["1"].astype(np.float64).mean(axis=0)
    assert np.allclose(mean, results.embeddings["embedding"][1], atol=1e-5)
    with pytest.raises(sli.UsageError, match="decoder.000"):
        results.hidden(3)


def test_half_precision_is_rounded(model, texts, results):
    whole = results.hidden("last")["2"]
    for dtype, tolerance in [("bf16", 2**-8), ("f16", 2**-10)]:
        half = sli.run(model, texts, take="hidden:last", hidden_dtype=dtype, **QUICK).hidden()["2"]
        assert np.allclose(half.astype(np.float32), whole, rtol=tolerance, atol=1e-6)


def test_what_it_shows(results):
    assert "3 records" in repr(results)
    assert "scores" in repr(results)
    page = results._repr_html_()
    assert "<table>" in page and "sum_logprob" in page
    assert "http" not in page and "<script" not in page


def test_results_that_are_gone_say_so(model, texts, tmp_path):
    out = tmp_path / "out"
    results = sli.run(model, texts, out=out, **QUICK)
    shutil.rmtree(out)
    page = results._repr_html_()
    assert "3" in page and "scores" in page
    with pytest.raises(sli.FileError):
        results.table("scores")


def test_a_folder_is_gone_on_with(model, texts, results, tmp_path):
    out = tmp_path / "out"
    first = sli.run(model, texts, out=out, **QUICK)
    stamp = Path(out, "scores.parquet").stat().st_mtime_ns
    again = sli.run(model, texts, out=out, **QUICK)
    assert Path(out, "scores.parquet").stat().st_mtime_ns == stamp
    assert again.scores["id"] == first.scores["id"]
    assert sli.Results(out).scores["sum_logprob"] == results.scores["sum_logprob"]
    with pytest.raises(sli.SLIError):
        sli.run(model, texts[:1], out=out, **QUICK)
    assert len(sli.run(model, texts[:1], out=out, fresh=True, **QUICK).scores) == 1


def test_what_ends_a_call_early_costs_nothing(model, texts, tmp_path):
    import signal

    many = [f"{text} {number}" for number in range(40) for text in texts]
    whole = sli.run(model, many, take=["scores", "hidden:last"], **QUICK)

    def end(said):
        raise RuntimeError(said["stage"])

    def interrupt(said):
        signal.raise_signal(signal.SIGINT)

    settings = {**QUICK, "take": ["scores", "hidden:last"], "out": tmp_path / "out", "checkpoint_interval": 0}
    with pytest.raises(RuntimeError, match="preparing|running"):
        sli.run(model, many, **{**settings, "progress": end})
    with pytest.raises(KeyboardInterrupt):
        sli.run(model, many, **{**settings, "progress": interrupt, "fresh": True})
    done = sli.run(model, many, **settings)
    for name in whole.files:
        assert Path(done.path, name).read_bytes() == Path(whole.path, name).read_bytes(), name


def test_progress(model, texts):
    said = []
    sli.run(model, texts, **{**QUICK, "progress": said.append})
    assert said[-1]["stage"] == "running"
    assert said[-1]["records"] == len(texts)
    assert said[-1]["token_layers_done"] == said[-1]["token_layers"]


def test_a_plan_an_inspection_and_the_list(model, texts):
    planned = sli.plan(model, texts, memory="1GiB")
    assert planned["records"] == 3 and planned["memory"] == 2**30
    inspected = sli.inspect(model)
    assert inspected["model_type"] == "llama" and inspected["coverage"]["complete"]
    listed = sli.architectures()
    assert len(listed) > 250
    assert {"llama", "bert", "t5", "mamba"} <= {row["model_type"] for row in listed if row["supported"]}


def test_the_budget_holds_the_interpreter_too(model, texts):
    with pytest.raises(sli.BudgetError) as caught:
        sli.run(model, texts, memory="8MiB", progress=False)
    needed = caught.value.needed
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
    assert needed > resident
    held = sli.run(model, texts, memory=needed + 2**21, progress=False)
    assert held.manifest["peak_memory"] <= needed + 2**21


def test_a_model_does_not_drift_from_itself(model, texts, tmp_path):
    compared = sli.diff(model, model, texts, out=tmp_path / "drift", threads=1)
    drift = compared.table("drift")
    assert set(drift["error"]) == {"own", "accumulated"} and set(drift["relative_error"]) == {0.0}
    divergence = compared.table("divergence")
    assert len(divergence) == len(texts) and divergence["top_ids"] == divergence["reference_top_ids"]
    assert compared.manifest["drift"]["divergence"]["top1_agreement"] == 1.0
    assert sli.diff(model, model, texts, out=tmp_path / "drift", threads=1).manifest == compared.manifest
    with pytest.raises(TypeError, match="did you mean"):
        sli.diff(model, model, texts, reference_token=True)


def test_a_model_is_verified(tmp_path):
    root = Path(__file__).parents[3]
    model, against = root / "models/embedded", root / "crates/sli/tests/verify/embedded.safetensors"
    receipt = sli.verify(model, against, memory="1GiB", progress=False)
    assert receipt["passed"] and receipt["worst"]["relative_error"] <= receipt["tolerance"]["relative_error"] == 1e-4
    strict = sli.verify(model, against, tolerance=1e-12, receipt=tmp_path / "receipt.json", progress=False)
    assert not strict["passed"] and json.loads((tmp_path / "receipt.json").read_text()) == strict
    assert sorted(path.name for path in tmp_path.iterdir()) == ["receipt.json"]
    with pytest.raises(sli.SLIError, match="no such folder or file") as caught:
        sli.verify(model, tmp_path / "none.safetensors")
    assert caught.value.hint
    with pytest.raises(sli.UsageError, match="--max-length"):
        sli.verify(model, against, max_length=3)


def test_parts_become_one(model, texts, results, tmp_path):
    takes = ["scores", "hidden:0,last,norm", "profile"]
    parts = [sli.run(model, texts, out=tmp_path / f"part-{part}", take=takes, shard=(part, 2), **QUICK) for part in (1, 2)]
    merged = sli.merge((part.path for part in parts), tmp_path / "merged")
    assert merged.scores["sum_logprob"] == results.scores["sum_logprob"]
    assert merged.layers == results.layers
    assert np.array_equal(merged.hidden("last")["1"], results.hidden("last")["1"])
    assert "in 2 parts" in merged._repr_html_() and "records" in repr(merged)
    assert sli.merge([part.path for part in parts], tmp_path / "merged").path == merged.path
    for wrong in ([parts[0].path], "part-1", []):
        with pytest.raises(sli.SLIError) as caught:
            sli.merge(wrong, tmp_path / "other")
        assert caught.value.hint


def test_a_report_and_a_batch(model, results, tmp_path):
    page = sli.report(results, tmp_path / "page.html")
    assert Path(page).read_text().lstrip().startswith("<!")
    requests = [
        {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "one"}},
        {"custom_id": "b", "method": "POST", "url": "/v1/images", "body": {}},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    answered = sli.batch(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", memory="1GiB", progress=False)
    assert answered == {"requests": 2, "refused": 1}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    with pytest.raises(sli.UsageError, match="is there already") as caught:
        sli.batch(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", memory="1GiB", progress=False)
    assert "fresh=True" in caught.value.hint


def test_hessians(model, texts, tmp_path):
    found = sli.run(model, texts, take=["hessian:1", "hidden:0"], **QUICK)
    layer = found.hessian(1)
    assert layer.shared and set(layer.shared) <= set(layer)
    for name, own in layer.shared.items():
        assert np.shares_memory(layer[name].xtx, layer[own].xtx)
    for name in layer:
        hessian = layer[name]
        assert hessian.xtx.dtype == np.float32 and np.array_equal(hessian.xtx, hessian.xtx.T)
        assert hessian.sequences == len(texts) and hessian.tokens == found.manifest["tokens"]
        assert (np.linalg.eigvalsh(hessian.xtx.astype(float)) > -1e-2 * np.trace(hessian.xtx)).all()
    with pytest.raises(KeyError, match="the layer has"):
        layer["nothing"]
    for wrong in (0, 2, "encoder.1"):
        with pytest.raises(sli.UsageError) as caught:
            found.hessian(wrong)
        assert "hessian" in caught.value.hint


def test_exports(model, texts, tmp_path):
    import datasets
    from safetensors.numpy import load_file

    ran = sli.run(model, texts, take=["scores", "hidden:0,2,last"], **QUICK)
    out = tmp_path / "speculators"
    assert sli.export(ran, "speculators", out) == {"rows": 3, "kept": 0, "left_out": 0}
    # Its reader wants tensors of torch, which is not here.
    assert json.loads((out / "state.json").read_text())["_format_type"] == "torch"
    rows = datasets.Dataset.from_file(str(out / "data-00000-of-00001.arrow"))
    assert rows["seq_len"][:] == ran.scores["tokens"]
    for index, row in enumerate(rows):
        file = load_file(out / "hidden_states" / f"hs_{index}.safetensors")
        assert file["token_ids"].dtype == np.int64 and file["token_ids"].tolist() == row["input_ids"]
        assert row["loss_mask"] == [1] * row["seq_len"]
        states = [ran.hidden(layer)[str(index)] for layer in (0, 2, "last")]
        assert np.array_equal(file["hidden_states"], np.stack(states, axis=1))
    (out / "hidden_states" / "hs_1.safetensors").unlink()
    assert sli.export(ran, "speculators", out)["kept"] == 2

    out = tmp_path / "saelens"
    with pytest.raises(sli.UsageError, match="different lengths") as caught:
        sli.export(ran, "saelens", out)
    assert "context_size=" in caught.value.hint
    exported = sli.export(ran, "saelens", out, context_size=2)
    pieces = sum(tokens // 2 for tokens in ran.scores["tokens"])
    assert exported["rows"] == pieces
    found = datasets.load_from_disk(str(out / "blocks.1.hook_resid_post")).with_format("numpy")
    assert len(found) == pieces and found.column_names == ["blocks.1.hook_resid_post", "token_ids"]
    tokens = ran.scores["token_ids"][0]
    assert found[1]["token_ids"].tolist() == tokens[2:4]
    assert np.array_equal(found[1]["blocks.1.hook_resid_post"], ran.hidden(2)["0"][2:4])
    assert (out / "blocks.0.hook_resid_pre" / "state.json").exists()

    for takes, said in ((["scores"], "hidden"), (["hidden:last"], "scores"), (["scores", "hidden:1"], "last")):
        lacking = sli.run(model, texts[:1], take=takes, **QUICK)
        with pytest.raises(sli.SLIError) as caught:
            sli.export(lacking, "speculators", tmp_path / "lacking")
        assert said in caught.value.hint


def test_a_table_that_is_too_large(results, monkeypatch):
    import pyarrow

    monkeypatch.setattr(sli._results, "TABLE_LIMIT", 10)
    for load in (lambda: results.scores["token_ids"], lambda: list(results.scores), results.scores.to_arrow, results.scores.to_pandas):
        with pytest.raises(sli.UsageError, match="at once") as caught:
            load()
        assert "RecordBatchReader" in caught.value.hint
    assert pyarrow.RecordBatchReader.from_stream(results.scores).read_all().num_rows == 3
