"""Scores a dataset with transformers and prints one JSON line: seconds to load, of the forward passes, and peak memory.

    python reference.py ram MODEL DATA.jsonl [--batch N]       weights in memory
    python reference.py offload MODEL DATA.jsonl [--batch N]   accelerate's disk offload: what does not fit --resident stays on disk

All records of DATA have one length; `--batch` of them (default: all) go through the model together, as a user who knows
his machine would choose; what they see is read from their `tensors`. Weights and activations are bf16, the scores (log-probabilities of the next token) are f32.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

BEGAN = time.perf_counter()

import torch
import transformers
from safetensors import safe_open


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["ram", "offload"])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--resident", default="400MiB", help="weights that offload may keep in memory")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with open(arguments.data) as file:
        records = [json.loads(line) for line in file]
    ids = torch.tensor([record["input_ids"] for record in records])
    seen = None
    if "tensors" in records[0]:
        names = [record["tensor_prefix"] + "pixel_values" for record in records]
        with safe_open(Path(arguments.data).parent / records[0]["tensors"], "pt") as file:
            seen = torch.cat([file.get_tensor(name) for name in names]).to(torch.bfloat16)
    options = {}
    offload = tempfile.TemporaryDirectory()
    if arguments.how == "offload":
        options = {
            "device_map": "auto",
            "max_memory": {"cpu": arguments.resident},
            "offload_folder": offload.name,
        }
    kind = transformers.AutoModelForCausalLM if seen is None else transformers.AutoModelForImageTextToText
    model = kind.from_pretrained(arguments.model, dtype=torch.bfloat16, **options).eval()
    loaded = time.perf_counter()
    total = 0.0
    with torch.inference_mode():
        size = arguments.batch or len(ids)
        for first in range(0, len(ids), size):
            batch = ids[first : first + size]
            given = {} if seen is None else {"pixel_values": seen[first : first + size]}
            hidden = model.base_model(batch, use_cache=False, **given).last_hidden_state
            for row, states in zip(batch, hidden):
                # Some models keep what goes through their layers in f32.
                logits = model.lm_head(states.to(model.lm_head.weight.dtype)).float()
                scores = torch.log_softmax(logits[:-1], dim=-1).gather(1, row[1:, None])
                total += scores.double().sum().item()
    done = time.perf_counter()
    print(json.dumps({
        "how": arguments.how,
        "tokens": ids.numel(),
        "load_seconds": round(loaded - BEGAN, 3),
        "forward_seconds": round(done - loaded, 3),
        "tokens_per_second_forward": round(ids.numel() / (done - loaded), 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "sum_logprob": round(total, 3),
        "devices": sorted({str(device) for device in getattr(model, "hf_device_map", {"": "cpu"}).values()}),
    }))


main()
