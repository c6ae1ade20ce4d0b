"""Checkpoints in every code of variants/coded.json through the program, against transformers on the weights that the code's own library decodes.

What the program makes of those weights, stored plainly in f32, is compared too: the same bits mean that every number was decoded alike. Where
large sizes blow rounding up beyond the tolerance, that decides.

    python compare_codes.py --sli SLI               every variant, in the sizes of its golden and in others
    python compare_codes.py --sli SLI llama-awq     these variants
    python compare_codes.py --sli SLI --shards      every tensor in a file of its own

Needs the libraries that coded.py names, besides requirements.txt: each can be installed without its dependencies.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import coded
import formula
import generate
from compare import ends_of, tensors_of, worst

# Beside those of the golden.
SIZES = [
    {"hidden_size": 128, "intermediate_size": 192},
    {"hidden_size": 192, "intermediate_size": 320, "num_attention_heads": 8, "num_key_value_heads": 8},
    {"hidden_size": 1088, "intermediate_size": 64, "num_hidden_layers": 1},
]


def stored_tensors(entries):
    """The tensors of the file, by name."""
    by_name = {entry["name"]: entry for entry in entries}
    found = {}
    for name, entry in by_name.items():
        if "same_as" in entry:
            entry = {**by_name[entry["same_as"]], "name": entry["same_as"]}
        is_coded = "raw" in entry or entry.get("kept")
        found[name] = (coded.stored(entry) if is_coded else formula.tensor_of(entry, "bf16").to(torch.bfloat16)).contiguous()
    return found


def write_model(folder, tensors, config, shards):
    folder.mkdir()
    (folder / "config.json").write_bytes(config)
    if not shards:
        return save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    names = {name: f"model-{at:05}-of-{len(tensors):05}.safetensors" for at, name in enumerate(sorted(tensors))}
    for name, file in names.items():
        save_file({name: tensors[name]}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def check(variant, sli, shards):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        plain = place / "plain"
        plain.mkdir()
        entries = generate.write_checkpoint(variant, plain)
        config = generate.coded_config(variant, (plain / "config.json").read_bytes())
        write_model(place / "model", stored_tensors(entries), config, shards)
        records = list(generate.records_of(variant, generate.load(variant, plain)))
        lines = [json.dumps({"id": str(index), "input_ids": inputs["input_ids"].tolist()}) for index, inputs in records]
        (place / "in.jsonl").write_text("\n".join(lines) + "\n")
        for model, out in (("model", "out"), ("plain", "out-plain")):
            command = [sli, "run", model, "--input", "in.jsonl", "--out", out, "--take", "hidden", "--take", "logits", "--compute", "f32"]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return float("inf"), done.stderr.strip()[-400:], False
        found, most = tensors_of(place / "out"), (0.0, "")
        as_plain = tensors_of(place / "out-plain")
        same = all(torch.equal(tensor, as_plain[key]) for key, tensor in found.items())
        for index, inputs in records:
            results, capture = generate.run(generate.load(variant, plain), inputs, variant)
            wanted = {**ends_of(capture, "decoder"), "logits": results["logits"]}
            most = max(most, *((worst(found[name, str(index)], tensor), name) for name, tensor in wanted.items()))
        return *most, same


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--sli", required=True)
    arguments.add_argument("--shards", action="store_true")
    options = arguments.parse_args()
    sli, bad, count, exact = str(Path(options.sli).resolve()), 0, 0, 0
    for name, variant in generate.variants().items():
        if variant["family"] != "coded" or (options.names and name not in options.names):
            continue
        for sizes in [{}, *(SIZES if variant["base"] == "llama" else [])]:
            # Inputs that lie between two roundings (BitNet) are not avoided in these sizes.
            codes = {**variant["coded"], "ties": True}
            changed = {**variant, "coded": codes, "config": {**variant.get("config", {}), **sizes}}
            units, said, same = check(changed, sli, options.shards)
            count += 1
            exact += same
            bad += units > 1.0 and not same
            result = "passed" if units <= 1.0 else "as plain" if same else "DIFFERS"
            print(f"{result} {name} {sizes or ''} {units:.3f} {said}{' (the same bits as the decoded weights)' if same else ''}", flush=True)
    print(f"{count} compared, {exact} have the bits of the library's decoded weights stored in f32, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
