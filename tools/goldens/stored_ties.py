"""Every subset of the tables that a model of two stacks ties, stored with numbers of their own: what `sli` makes of it, against transformers.

    python stored_ties.py --sli SLI [TYPE...]

A file may hold the tables of both stacks, what they share and the head, or some of them; which numbers the reference then uses for which
follows from the order in which it ties. Prints a line a subset that differs and the totals; exit 1 where one does."""

import argparse
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import compare
import generate

TABLES = ["shared", "embed_tokens", "lm_head", "word_embeddings", "output_projection"]


def tied(model):
    """Names of the tables that may be stored in each other's place."""
    pairs = model.all_tied_weights_keys
    names = {name for pair in pairs.items() for name in pair if name.endswith("weight")}
    return sorted(name for name in names if any(table in name for table in TABLES))


def case(variant, base, stored, sli, place, records):
    """(result, detail) of the model of these tensors."""
    save_file(stored, place / "model.safetensors", metadata={"format": "pt"})
    try:
        model = generate.model_class(variant).from_pretrained(place, dtype=torch.float32, attn_implementation="eager").eval()
        reference = [generate.run(model, compare.tensors_in(record), variant) for record in records]
    except Exception as error:
        return "skipped", str(error).split("\n")[0][:100]
    (place / "in.jsonl").write_text("".join(compare.line_of(index, record, place) for index, record in enumerate(records)))
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sli, "run", place, "--input", place / "in.jsonl", "--out", out, "--compute", "f32", "--allow-long", "--take", "hidden", "--take", "logits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return "REFUSED", done.stderr.strip().replace("\n", " ")[:200]
    found = compare.tensors_of(out)
    for index, (results, capture) in enumerate(reference):
        wanted = {**compare.ends_of(capture, "decoder"), **({"logits": results["logits"]} if "logits" in results else {})}
        for name, tensor in wanted.items():
            if (units := compare.worst(found[name, str(index)], tensor)) > 1.0:
                return "WRONG", f"{units:.3g} x the tolerance at {name}"
    return "passed", ""


def subsets(names):
    return [subset for count in range(1, len(names) + 1) for subset in itertools.combinations(names, count)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("types", nargs="*")
    arguments.add_argument("--sli", required=True)
    options = arguments.parse_args()
    first, totals = {}, {}
    for variant in generate.variants().values():
        base = generate.base_of(variant)["config"]
        if base.get("is_encoder_decoder") and (not options.types or base["model_type"] in options.types):
            first.setdefault(base["model_type"], variant)
    for model_type, variant in sorted(first.items()):
        rng = random.Random(model_type)
        with tempfile.TemporaryDirectory() as place:
            place = Path(place)
            torch.manual_seed(1)
            model = generate.model_class(variant)(generate.config_of(generate.config_dict({"base": variant["base"]}))).eval()
            model.save_pretrained(place)
            tensors, names = load_file(place / "model.safetensors"), tied(model)
            state = model.state_dict()
            records = compare.inputs_of(model, rng, 12, [5])[:1]
            for subset in subsets(names):
                stored = {name: tensor for name, tensor in tensors.items() if name not in names}
                for name in subset:
                    stored[name] = torch.randn(state[name].shape, generator=torch.Generator().manual_seed(names.index(name))) * 0.5
                result, detail = case(variant, model, stored, options.sli, place, records)
                totals[result] = totals.get(result, 0) + 1
                if result not in ("passed", "skipped"):
                    print(f"{result:8} {model_type} {list(subset)} {detail}", flush=True)
    print(totals)
    return 1 if set(totals) - {"passed", "skipped"} else 0


if __name__ == "__main__":
    sys.exit(main())
