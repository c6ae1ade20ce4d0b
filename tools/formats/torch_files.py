"""Writes small torch files and what torch reads from them, for crates/sli-checkpoint/tests/torch.rs."""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch


def tensors():
    base = torch.arange(400, dtype=torch.float32)
    return OrderedDict(
        plain=base[:24].reshape(4, 6).clone(),
        transposed=base[24:54].reshape(5, 6).t(),
        tail=base[100:130].reshape(6, 5)[1:, 1:4],
        expanded=base[7:12].reshape(1, 5).expand(3, 5),
        half=torch.arange(12).half().reshape(3, 4),
        bf16=torch.arange(12).bfloat16().reshape(3, 4),
        parameter=torch.nn.Parameter(base[200:206].reshape(2, 3).clone()),
        integers=torch.arange(5),
        double=torch.arange(4, dtype=torch.float64).reshape(2, 2),
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 4),
    )


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    plain = tensors()
    plain["tied"] = plain["plain"]
    float8 = torch.arange(8, dtype=torch.float32).to(torch.float8_e4m3fn).reshape(2, 4)
    torch.save(plain | {"float8": float8}, folder / "archive.bin")
    torch.save(plain, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    torch.save({"model": plain, "optimizer": optimizer, "epoch": 3, "scaler": None}, folder / "wrapped.pt")
    torch.save(plain, folder / "protocol4.pt", pickle_protocol=4)
    torch.save(torch.nn.Linear(2, 3).state_dict(), folder / "module.pth")
    torch.save(torch.nn.Linear(2, 3), folder / "whole_module.pt")
    expected = {}
    for name, tensor in plain.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        expected[name] = {"dtype": dtype, "shape": list(tensor.shape), "values": tensor.detach().double().flatten().tolist()}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
