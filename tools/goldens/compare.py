"""Runs `sli` on checkpoints that `save_pretrained` writes and compares every hidden state and logit with transformers.

    python compare.py --sli ../../target/release/sli                      every supported type, as its base configuration is
    python compare.py --sli SLI --goldens                                 every golden's configuration instead
    python compare.py --sli SLI --variants 8 --seed 1 llama gemma2        8 random other configurations of each of these types

A random configuration changes a few values of the base (mutations.py): sizes, heads, biases, ties, activations, epsilons,
factors, rope scalings, windows, patterns of layers, experts, the class (with or without a head); how it is spelled (older keys,
keys left to the class, keys of other programs); and how the weights are stored (bf16, shards, names without the base prefix). What
transformers itself cannot build or run is drawn again. What differs is "unstable" where `sli` is as near to float64 as the reference, or
where noise as small as rounding changes what the reference chooses. Prints a line a model and the totals; exit 1 when a number differs or
`sli` refuses what the reference runs.
"""

import argparse
import inspect
import json
import random
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pyarrow.parquet
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import generate
import mutations
import weights

# Types of the reference's that share a class with another: the same files under another `model_type`.
ALIASES = {"gpt-sw3": "gpt2", "kimi_k2": "deepseek_v3"}

# Classes whose logits are those of classes.
CLASSIFIER = re.compile("For(Sequence|Token)Classification$")

# Frames of the records of types that read as many as there are.
FRAMES = {
    "speech_to_text": [1, 30, 77],
    "moonshine": [895, 4000, 9001],
    "moonshine_streaming": [1, 30, 201],
    **dict.fromkeys(("pop2piano", "pix2struct", "pp_formulanet", "speech-encoder-decoder", "vision-encoder-decoder"), [1, 30, 77]),
    **dict.fromkeys(("canary", "cohere_asr"), [1, 57, 300]),
    "speecht5": [400, 4000, 20001],
}
# Types whose records may mark global tokens.
GLOBAL = ("led", "longformer")
# Where a difference is up to this many times what rounding does to the reference, it is rounding's.
AS_FAR = 4.0
# How weights are stored, as often as they stand here.
DTYPES = [torch.float32, torch.float32, torch.bfloat16, torch.float16]


def build(variant, config, folder, rng, respell, dtypes=DTYPES):
    """A model of this configuration with random weights, saved; its outputs come from what was saved. Returns how its file is spelled."""
    torch.manual_seed(rng.randrange(1 << 30))
    cls = generate.model_class(variant)
    model = cls(generate.config_of(config)).eval()
    with tempfile.TemporaryDirectory() as first:
        first = Path(first)
        model.save_pretrained(first)
        tensors = load_file(first / "model.safetensors")
        rules = [tuple(rule) for rule in variant.get("weights", [])]
        for name, tensor in tensors.items():
            rule = weights.scale_and_offset(model, name, tensor, rules)
            if name.endswith(".tid2eid"):  # experts of token ids, which no initialisation gives
                tensors[name] = torch.randint(0, model.config.n_routed_experts, tensor.shape)
            elif rule is not None:
                scale, offset = rule
                tensors[name] = (offset + scale * (2 * torch.rand(tensor.shape, dtype=torch.float64) - 1)).bfloat16().to(tensor.dtype)
        save_file(tensors, first / "model.safetensors", metadata={"format": "pt"})
        dtype = rng.choice(dtypes)
        model, report = cls.from_pretrained(first, config=transformers.AutoConfig.from_pretrained(first), dtype=dtype, output_loading_info=True)
        problems = {key: value for key, value in report.items() if value}
        if problems:
            raise ValueError(f"from_pretrained reports {problems}")
        model.save_pretrained(folder, max_shard_size=rng.choice(["5GB", "60KB"]))
    tied = retied(rng, model, folder) if respell else []
    if variant.get("config_as_given"):
        given = {key: value for key, value in config.items() if key != "dtype"}
        (folder / "config.json").write_text(json.dumps(given, indent=2) + "\n")
    if not respell:
        return tied
    written, said = mutations.respelled(rng, json.loads((folder / "config.json").read_text(), object_hook=generate.float_of))
    (folder / "config.json").write_text(json.dumps(written, indent=2) + "\n")
    return said + tied


def retied(rng, model, folder):
    """Now and then stores a tied head all the same: as it is, with other numbers, or in place of the token table."""
    path = folder / "model.safetensors"
    if not path.exists() or rng.random() < 0.6:
        return []
    tensors = load_file(path)
    said = []
    for head, table in model.all_tied_weights_keys.items():
        if not head.endswith("weight") or head in tensors or table not in tensors:
            continue
        way = rng.choice(["equal", "different", "alone"])
        tensors[head] = tensors[table].flip(0).contiguous() if way == "different" else tensors[table].clone()
        if way == "alone":
            del tensors[table]
        said.append(f"tied {head} is stored: {way}")
    save_file(tensors, path, metadata={"format": "pt"})
    return said


def inputs_of(model, rng, longest, lengths=None):
    """The inputs of every record; a decoder behind an encoder gets tokens of its own, as many or fewer or more."""
    config, own = generate.texts_of(model)
    if generate.features_of(model, 1):
        drawn = torch.Generator().manual_seed(rng.randrange(1 << 30))
        features = [generate.features_of(model, frames) for frames in FRAMES.get(model.config.model_type, [None] * 3)]
        records = [{name: generate.placed(model, name, torch.rand(shape, generator=drawn) * 2 - 1)} for name, shape in features]
    else:
        records = [{"input_ids": ids} for ids in tokens_of(config, rng, longest, lengths)]
    for number, record in enumerate(records):
        # One without, where the class runs without.
        if number != 1 or config.model_type in ("bros", "udop"):
            drawn = generate.beside_of(model, len(record.get("input_ids", ())), lambda name, count, below: [rng.randrange(below) for _ in range(count)])
            record.update(drawn)
    if model.config.model_type in GLOBAL and rng.random() < 0.8:
        for record in records:
            share = rng.choice([0.0, 0.1, 0.5, 1.0])
            record["global_attention_mask"] = [int(rng.random() < share) for _ in record["input_ids"]]
    if getattr(config, "prefix_lm", False):  # some records begin with tokens that see all of each other
        for record in records[1:]:
            context = rng.choice([0, 1, 7, len(record["input_ids"])])
            record["token_type_ids"] = [int(place < context) for place in range(len(record["input_ids"]))]
    if CLASSIFIER.search(type(model).__name__):
        # What is classified is where the decoder ends the record's own tokens; what it reads follows from them.
        if config.is_encoder_decoder and isinstance(config.eos_token_id, int):
            for record in records:
                record["input_ids"][-1] = config.eos_token_id
    elif "decoder_input_ids" in inspect.signature(model.forward).parameters:
        decoder = getattr(model.config, "decoder", None)
        others = tokens_of(decoder if hasattr(decoder, "vocab_size") else config, rng, longest, lengths, own)
        rng.shuffle(others)
        for record, ids in zip(records, others):
            record["decoder_input_ids"] = ids
    return records


def least(config, length):
    """The next length that the type computes."""
    if config.model_type == "canine":
        return max(length, config.downsampling_rate)
    if config.model_type == "funnel" and config.attention_type == "relative_shift":  # whose distances fail on fewer
        return max(length, 2 ** len(config.block_sizes) + 2)
    return length


def tokens_of(config, rng, longest, lengths=None, vocabulary=None):
    if vocabulary is None:
        vocabulary = min(config.vocab_size, getattr(config, "vocab_size_per_layer_input", None) or config.vocab_size)
    table = mutations.TABLES.match(config.model_type)
    if table:
        longest = min(longest, *(getattr(config, key) - 2 for key in mutations.LENGTHS if isinstance(getattr(config, key, None), int)))
    if config.model_type == "cpmant" and config.position_bias_max_distance <= config.position_bias_num_buckets // 4:
        longest = min(config.position_bias_num_buckets // 4 - config.prompt_length, longest)  # farther off is no bucket's
    lowest = rng.choice([5, 5, 0]) if config.model_type not in mutations.HIDING else 5  # special tokens too, now and then
    ids = [[rng.randrange(lowest, vocabulary) for _ in range(length)] for length in lengths or [least(config, length) for length in (1, 9, 41, longest)]]
    # One that begins like another, which `sli` computes once.
    shared = least(config, 7 + rng.choice([1, 8, 30])) - 7
    return [*ids, ids[-1][:shared] + [rng.randrange(lowest, vocabulary) for _ in range(7)]]


def tensors_of(folder):
    """Every tensor of the output folder: (file, record) -> tensor."""
    found = {}
    for path in [*sorted((folder / "hidden").glob("*.safetensors")), folder / "logits.safetensors"]:
        if path.exists():
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    found[path.name.removesuffix(".safetensors"), name] = file.get_tensor(name)
    if (folder / "classes.parquet").exists():
        for row in pyarrow.parquet.read_table(folder / "classes.parquet").to_pylist():
            found["logits", row["id"]] = torch.tensor(row["logits"]).reshape(-1, len(row["labels"]))
    return found


def worst(found, expected):
    """Largest difference in units of what is tolerated."""
    expected = expected.float()
    rms = expected.pow(2).mean().sqrt()
    error = (found.float() - expected).abs()
    units = torch.where(error == 0, 0.0, error / (1e-4 * (expected.abs() + rms)))
    return units.nan_to_num(nan=float("inf")).max().item()  # a NaN is as wrong as can be


def tensors_in(inputs):
    return {name: torch.as_tensor(values) for name, values in inputs.items()}


def line_of(index, inputs, folder):
    """A record as `sli` reads it; features are in a file beside."""
    line = {"id": str(index), **{name: values for name, values in inputs.items() if not isinstance(values, torch.Tensor)}}
    features = {f"{index}.{name}": values for name, values in inputs.items() if isinstance(values, torch.Tensor)}
    if features:
        save_file(features, folder / f"{index}.safetensors")
        line |= {"tensors": f"{index}.safetensors", "tensor_prefix": f"{index}."}
    return json.dumps(line) + "\n"


def ends_of(capture, stack):
    """What the stacks of a run hold, by the names of the files that `sli` writes; `stack`: the name of one that is alone."""
    captures = capture.stacks if isinstance(capture, generate.Captures) else {stack: capture}
    return {f"{name}.{boundary:03}": tensor for name, part in captures.items() for boundary, tensor in part.boundaries.items()}


def norms_of(capture, stack, variant):
    """The normed ends, likewise."""
    captures = capture.stacks if isinstance(capture, generate.Captures) else {stack: capture}
    for name, part in captures.items():
        module, end = part.norm()
        if end is not None and variant.get("norm") != "none" and not module.endswith("project_out"):
            yield f"{name}.norm", end


def shaken(variant, folder, records, wanted, stack):
    """How far the reference moves, in units of what is tolerated, when its weights get noise as small as rounding: a choice (of
    experts, of keys) that hangs on the last bit shows here."""
    largest = 0.0
    for seed in range(4):
        model = generate.load({**variant, "name": "compare"}, folder)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 2e-7 * torch.randn(parameter.shape, generator=generator))
        for index, record in enumerate(records):
            results, capture = generate.run(model, tensors_in(record), variant)
            for name, tensor in ends_of(capture, stack).items():
                largest = max(largest, worst(tensor, wanted[name, str(index)]))
            if "logits" in results:
                largest = max(largest, worst(results["logits"], wanted["logits", str(index)]))
    return largest


def exact(variant, folder, record, stack):
    """(ends, logits or None) of a record in float64, or None where the class does not compute in it."""
    try:
        model = generate.load({**variant, "name": "compare"}, folder).double()
        results, capture = generate.run(model, tensors_in(record), variant)
    except Exception:
        return None
    return ends_of(capture, stack), results.get("logits")


def against_exact(variant, folder, records, found, wanted, stack):
    """How far `sli` and the reference are from float64, in units of what is tolerated: (`sli`, the reference), or None."""
    ours, theirs = 0.0, 0.0
    for index, record in enumerate(records):
        results = exact(variant, folder, record, stack)
        if results is None:
            return None
        ends, logits = results
        keys = {(name, str(index)): tensor for name, tensor in ends.items()}
        if logits is not None:
            keys["logits", str(index)] = logits
        for key, tensor in keys.items():
            ours, theirs = max(ours, worst(found[key], tensor)), max(theirs, worst(wanted[key], tensor))
    return ours, theirs


def check(variant, config, sli, rng, longest, alias=None, respell=False, dtypes=DTYPES, lengths=None):
    """(result, detail) of one model with records of up to `longest` tokens, or of these `lengths`; `alias`: another name of its type; `dtypes`: of its weights."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        try:
            said = build(variant, config, place / "model", rng, respell, dtypes)
            model = generate.load({**variant, "name": "compare"}, place / "model")
            records = inputs_of(model, rng, longest, lengths)
            reference = []
            for record in records:
                reference.append(generate.run(generate.load({**variant, "name": "compare"}, place / "model"), tensors_in(record), variant))
        except Exception as error:
            return "skipped", str(error).split("\n")[0][:120]
        ends = [*(tensor for _, capture in reference for tensor in ends_of(capture, "").values()), *(results["logits"] for results, _ in reference if "logits" in results)]
        if not all(torch.isfinite(tensor).all() for tensor in ends):
            return "skipped", "the reference is not finite"
        if alias:
            path = place / "model" / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": alias}))
        (place / "in.jsonl").write_text("".join(line_of(index, record, place) for index, record in enumerate(records)))
        logits = "classes" if CLASSIFIER.search(type(model).__name__) else "logits"
        takes = ["--take", "hidden"] + (["--take", logits] if "logits" in reference[0][0] else [])
        command = [sli, "run", place / "model", "--input", place / "in.jsonl", "--out", place / "out", "--compute", "f32", "--allow-long", *takes]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return ("CRASHED" if done.returncode not in (2, 3, 4) else "REFUSED"), f"{done.stderr.strip()[-300:]} {said}".replace("\n", " ")
        found = tensors_of(place / "out")
        stack = "decoder" if any(name.startswith("decoder.") for name, _ in found) else "encoder"
        wanted = {}
        for index, (results, capture) in enumerate(reference):
            for name, tensor in [*ends_of(capture, stack).items(), *norms_of(capture, stack, variant)]:
                wanted[name, str(index)] = tensor
            if "logits" in results:
                wanted["logits", str(index)] = results["logits"]
        missing = sorted(set(wanted) - set(found))
        if missing:
            return "MISSING", str(missing[:4])
        shapes = [key for key, tensor in wanted.items() if tensor.shape != found[key].shape]
        if shapes:
            return "SHAPES", str(shapes[:4])
        units, key = max((worst(found[key], tensor), key) for key, tensor in wanted.items())
        if units <= 1.0:
            return "passed", f"{units:.3f}"
        exactly = against_exact(variant, place / "model", records, found, wanted, stack)
        if exactly and exactly[0] <= max(1.0, 2 * exactly[1]):
            return "unstable", f"{units:.3g} x the tolerance, but as near to float64 ({exactly[0]:.3g} x) as the reference ({exactly[1]:.3g} x)"
        moved = shaken(variant, place / "model", records, wanted, stack)
        if units <= AS_FAR * moved:
            return "unstable", f"{units:.3g} x the tolerance, but rounding alone moves the reference {moved:.3g} x"
        first = next((name for name in wanted if worst(found[name], wanted[name]) > 1.0), None)
        return "WRONG", f"{units:.3g} x the tolerance at {key}, first at {first}, rounding moves the reference {moved:.3g} x {said}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("types", nargs="*")
    arguments.add_argument("--sli", required=True)
    arguments.add_argument("--variants", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--goldens", action="store_true")
    arguments.add_argument("--longest", type=int, default=90, help="tokens of the longest record, where positions allow")
    arguments.add_argument("--lengths", type=lambda text: [int(length) for length in text.split(",")], help="tokens of the records instead, like 1,2,700")
    arguments.add_argument("--class", dest="named", help="of the variants: those whose name has this in it")
    arguments.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="of all stored weights; otherwise drawn")
    arguments.add_argument("--verbose", action="store_true")
    options = arguments.parse_args()
    listed = json.loads(subprocess.run([options.sli, "architectures", "--json"], capture_output=True, text=True, check=True).stdout)
    supported = {entry["model_type"]: entry["classes"] for entry in listed if entry["supported"]}
    variants = generate.variants()
    first = {}
    for name, variant in variants.items():
        model_type = generate.base_of(variant)["config"]["model_type"]
        if model_type in supported and (not options.types or model_type in options.types):
            key = name if options.goldens else variant["base"]
            first.setdefault(key, (model_type, variant))
    totals, bad = {}, 0
    dtypes = [getattr(torch, options.dtype)] if options.dtype else DTYPES
    for alias, model_type in ALIASES.items():
        if alias in supported and (not options.types or alias in options.types) and not options.goldens:
            variant = next(variant for variant in variants.values() if generate.base_of(variant)["config"]["model_type"] == model_type)
            first[alias] = (model_type, variant)
    for key, (model_type, variant) in sorted(first.items()):
        # GLM's queries may see no key, which gives zeros here and in `sdpa`.
        if variant.get("attention") is None and model_type in ("falcon", "glm5_next_text"):
            variant = {**variant, "attention": "sdpa"}
        base = generate.config_dict(variant if options.goldens else {"base": variant["base"], "class": variant.get("class")})
        for number in range(max(1, options.variants)):
            rng = random.Random(f"{options.seed}.{key}.{number}")
            config, changes, tried, result, detail = base, {}, variant, "skipped", ""
            for _ in range(12):
                if options.variants:
                    config, changes = mutations.mutated(rng, base)
                    named = [name for name in supported[model_type] if options.named and options.named in name]
                    cls = rng.choice(named or [variant.get("class"), variant.get("class"), *supported[model_type]])
                    if options.named and not named:
                        break
                    cls = cls if hasattr(transformers, cls or "") else None
                    tried = {**variant, "class": cls or generate.model_class(variant).__name__}
                    config["architectures"] = changes["architectures"] = [tried["class"]]
                    if CLASSIFIER.search(tried["class"]):
                        tried.pop("stacks", None)  # those of another class
                        config["id2label"] = changes["id2label"] = {number: f"class {number}" for number in range(rng.choice([1, 2, 3, 70]))}
                try:
                    result, detail = check(tried, config, options.sli, rng, options.longest, key if key in ALIASES else None, options.variants > 0, dtypes, options.lengths)
                except Exception:
                    result, detail = "ERROR", traceback.format_exc().strip().replace("\n", " ")[-300:]
                if result != "skipped" or not options.variants:
                    break
            totals[result] = totals.get(result, 0) + 1
            bad += result not in ("passed", "skipped", "unstable")
            if result != "passed" or options.verbose:
                print(f"{result:8} {key} #{number} {detail} {json.dumps(changes) if changes else ''}", flush=True)
    print(totals)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
