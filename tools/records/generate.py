#!/usr/bin/env python3
"""Writes pairs of Parquet and JSON Lines files with the same records; see README.md."""
import datetime as dt
import decimal
import json
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils.chat_template_utils import _plain_template_data as plain

OUT = Path(__file__).parents[2] / "crates/sli/tests/records"
UTC = dt.timezone.utc
TIME = dt.datetime(2024, 1, 2, 3, 4, 5, 678900)
LATER = dt.timedelta(days=1, seconds=2, microseconds=3)
EXACT = decimal.Decimal("1.50")


def cells(values, kind):
    """A message a record, with the value in it."""
    array = values if isinstance(values, pa.Array) else pa.array(values, type=kind)
    roles = pa.array(["user"] * len(array))
    messages = pa.StructArray.from_arrays([roles, array], ["role", "content"])
    return {"messages": pa.ListArray.from_arrays(list(range(len(array) + 1)), messages)}


def message_lists(kind_of_list):
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    return {"messages": pa.array([[{"role": "user", "content": "x"}]], type=kind_of_list(message))}


def texts(kind, values=("the", "", "ä€")):
    return {"text": pa.array(values, type=kind)}


def ids(array):
    return {"id": array, "text": pa.array(["x"] * len(array))}


JSON = ['{"x":1,"y":[1.50,null,true,"s",{"z":{}}]}', '"s"', "1.50", "null", None, "[]", "123456789012"]
WHOLE = ['{"role":"user","content":"a"}', '{"role":"assistant","content":{"b":[1]},"more":null}']
TABLES = {
    "times": {
        **cells([TIME, None], pa.timestamp("us")),
        "tools": pa.array([[TIME], [None]], type=pa.list_(pa.timestamp("ns"))),
        "documents": pa.array([[TIME.replace(tzinfo=UTC)], []], type=pa.list_(pa.timestamp("ms", tz="Europe/Berlin"))),
    },
    "dates": {**cells([TIME.date()], pa.date32()), "tools": pa.array([[TIME.date()]], type=pa.list_(pa.date64()))},
    "clocks": {**cells([TIME.time()], pa.time64("us")), "tools": pa.array([[dt.time(1)]], type=pa.list_(pa.time32("s")))},
    "spans": {**cells([LATER], pa.duration("us")), "tools": pa.array([[LATER]], type=pa.list_(pa.duration("ns")))},
    "decimals": {**cells([EXACT], pa.decimal128(10, 2)), "tools": pa.array([[EXACT]], type=pa.list_(pa.decimal256(50, 2)))},
    "bytes": {**cells([b"a\xff", None], pa.binary()), "tools": pa.array([[b"a"], []], type=pa.list_(pa.large_binary()))},
    "bytes-fixed": {**cells([b"abc"], pa.binary(3)), "tools": pa.array([[b"a"]], type=pa.list_(pa.binary_view()))},
    "strings": {**cells(["ä"], pa.large_string()), "tools": pa.array([["€"]], type=pa.list_(pa.string_view()))},
    "dictionary": cells(pa.array(["x", "y", "x", None]).dictionary_encode(), None),
    "halves": cells(pa.array([np.float16(0.1), np.float16(1)]), None),
    "singles": cells([0.1, 1e30, 1.0, 1e-7], pa.float32()),
    "doubles": cells([0.1, 1e30, 1.0, 1e16, 5e-324, -0.0], pa.float64()),
    "nonfinite": {
        **cells([float("nan"), float("inf"), -float("inf"), 2.5, None], pa.float64()),
        "tools": pa.array([[{"x": v}] for v in np.float32([np.nan, np.inf, 1, 0.1, -np.inf])], type=pa.list_(pa.struct([("x", pa.float32())]))),
        "documents": pa.array([[{"x": np.float16(np.nan)}]] * 5, type=pa.list_(pa.struct([("x", pa.float16())]))),
    },
    "unsigned": {**cells([2**64 - 1, 0], pa.uint64()), "tools": pa.array([[255], []], type=pa.list_(pa.uint8()))},
    "signed": {**cells([-(2**63), None], pa.int64()), "tools": pa.array([[-128], []], type=pa.list_(pa.int8()))},
    "booleans": cells([True, False, None], pa.bool_()),
    "nulls": cells([None], pa.null()),
    "fixed-lists": cells([[[1, 2], [3, 4]], None], pa.list_(pa.list_(pa.int64(), 2), 2)),
    "large-lists": cells([["a"], [], None], pa.large_list(pa.string())),
    "list-views": cells([["a"], [], None], pa.list_view(pa.string())),
    "large-list-views": cells([[1, 2], []], pa.large_list_view(pa.int64())),
    "structures": cells([None, {"a": None}, {"a": [{"b": 1}, None]}], pa.struct([("a", pa.list_(pa.struct([("b", pa.int32())])))])),
    "mappings": cells([[("a", 1), ("b", None)], []], pa.map_(pa.string(), pa.int64())),
    "json-text": cells(['{"x":1}'], pa.string()),
    "json": cells(pa.array(JSON, type=pa.json_()), None),
    "json-large": cells(pa.array(JSON[:2], type=pa.json_(pa.large_string())), None),
    "json-message": {"messages": pa.ListArray.from_arrays([0, 2, 2], pa.array(WHOLE, type=pa.json_()))},
    "json-messages": {"messages": pa.array([f"[{WHOLE[0]}]", f"[{WHOLE[1]}]"], type=pa.json_())},
    "messages-large": message_lists(pa.large_list),
    "messages-fixed": message_lists(lambda message: pa.list_(message, 1)),
    "messages-views": message_lists(pa.list_view),
    "messages-mappings": {
        "messages": pa.array([[[("role", "user"), ("content", "x")]]], type=pa.list_(pa.map_(pa.string(), pa.string())))
    },
    "text-large": texts(pa.large_string()),
    "text-view": texts(pa.string_view()),
    "text-dictionary": {"text": pa.array(["a", "b", "a"]).dictionary_encode()},
    "text-json": {"text": pa.array(['"a"', '"\\u00e9"'], type=pa.json_())},
    "id-uint64": ids(pa.array([2**64 - 1, 0], type=pa.uint64())),
    "id-int8": ids(pa.array([-1, 1], type=pa.int8())),
    "id-view": ids(pa.array(["a/b", ""], type=pa.string_view())),
    "id-dictionary": ids(pa.array(["a", "b"]).dictionary_encode()),
    "id-json": ids(pa.array(['"a"', "7", '"8"'], type=pa.json_())),
    "id-null": ids(pa.array([None, None], type=pa.null())),
    "id-null-double": ids(pa.array([None, None], type=pa.float64())),
    "ids-int16": {"input_ids": pa.array([[1, 2], []], type=pa.list_(pa.int16()))},
    "ids-uint64": {"input_ids": pa.array([[1, 2], []], type=pa.large_list(pa.uint64()))},
    "ids-fixed": {"input_ids": pa.array([[1, 2]], type=pa.list_(pa.int32(), 2))},
    "ids-view": {"input_ids": pa.array([[1, 2], []], type=pa.list_view(pa.int32()))},
}
# `datasets` gives bytes here, which no tokenizer takes; writers without an annotation mean UTF-8.
BYTES = {"text-binary": pa.binary(), "text-large-binary": pa.large_binary(), "text-binary-view": pa.binary_view()}


def rows(path):
    with tempfile.TemporaryDirectory() as cache:
        try:
            return list(datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=cache))
        except ValueError:
            return pq.read_table(path).to_pylist(maps_as_pydicts="strict")


def main():
    datasets.disable_progress_bars()
    OUT.mkdir(exist_ok=True)
    for name, columns in TABLES.items():
        # Without a schema of Arrow's, only Parquet's own types tell what a column is.
        for suffix, stored in (("", True), ("-plain", False)):
            if not stored and not name.startswith(("json", "times", "text-json")):
                continue
            path = OUT / f"{name}{suffix}.parquet"
            pq.write_table(pa.table(columns), path, store_schema=stored, compression="none")
            path.with_suffix(".jsonl").write_text("".join(json.dumps(plain(row)) + "\n" for row in rows(path)))
    for name, kind in BYTES.items():
        path = OUT / f"{name}.parquet"
        values = ["the", "", "ä€"]
        pq.write_table(pa.table(texts(kind, [value.encode() for value in values])), path, compression="none")
        path.with_suffix(".jsonl").write_text("".join(json.dumps({"text": value}) + "\n" for value in values))
    large()


def large():
    """One row far larger than its neighbours, over many pages, that compresses to little."""
    ids = [[3, 4]] * 40
    ids[17] = [5] * 3_000_000
    table = pa.table({"input_ids": pa.array(ids, type=pa.list_(pa.int64()))})
    options = {"use_dictionary": False, "data_page_size": 1 << 20, "compression": "brotli"}
    (OUT / "large").mkdir(exist_ok=True)
    pq.write_table(table, OUT / "large/ids.parquet", **options)
    message = [{"role": "user", "content": "the cat"}]
    talk = [message] * 40
    talk[23] = message * 40_000
    pq.write_table(pa.table({"messages": talk}), OUT / "large/messages.parquet", **options)


main()
