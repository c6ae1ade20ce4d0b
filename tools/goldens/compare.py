"""Runs `sli` on checkpoints that `save_pretrained` writes and compares every hidden state and logit with transformers.

    python compare.py --sli ../../target/release/sli                      every supported type, as its base configuration is
    python compare.py --sli SLI --goldens                                 every golden's configuration instead
    python compare.py --sli SLI --variants 8 --seed 1 llama gemma2        8 random other configurations of each of these types

A random configuration changes a few values of the base: sizes, heads, biases, ties, activations, epsilons, factors, rope
scalings, windows, experts, the class (with or without a head), and how the file is stored (bf16, shards, names without the base
prefix). What transformers itself cannot build or run is drawn again. Prints a line a model and the totals; exit 1 when a
number differs or `sli` refuses what the reference runs.
"""

import argparse
import copy
import json
import random
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import generate
import weights

ACTIVATIONS = ["silu", "gelu", "gelu_new", "relu", "gelu_pytorch_tanh", "relu2", "gelu_fast", "quick_gelu"]
# Read by nothing in the forward pass, or only by training, generation and other tasks.
INERT = re.compile(
    r"dropout|pdrop|initializer|init_|_init|token_id|use_cache|output_|return_|dtype|architectures|problem_type|is_encoder|chunk_size_feed|"
    r"aux_loss|jitter|z_loss|layerdrop|classifier|summary|mtp|nextn|_name_or_path|model_type|is_decoder|add_cross|mode$|kernel|"
    r"pooling|gradient|tpu|scan|use_mem|truncat|label|loss|finetuning|problem|prune|transformers_version|use_bidirectional|pretraining_tp"
)
SIZES = re.compile(r"(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|moe_intermediate_size|shared_expert_intermediate_size|expert_ffn_hidden_size)$")
WINDOWS = re.compile(r"(sliding_window|sliding_window_size|attention_window_size|window_size|attention_chunk_size|index_topk|keep_window_size)$")


def rope_variants(rng, value):
    """Other rope parameters of the same form."""
    theta = rng.choice([300.0, 10000.0, 500000.0])
    plain = {key: rest for key, rest in value.items() if key in ("partial_rotary_factor",)}
    kinds = [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": rng.choice([2.0, 3.5])},
        {"rope_type": "dynamic", "factor": rng.choice([2.0, 4.0])},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": rng.choice([16, 64])},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": rng.choice([16, 32]), **rng.choice([{}, {"mscale": 0.8, "mscale_all_dim": 0.6}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"truncate": False}])},
    ]
    return {**plain, "rope_theta": theta, **rng.choice(kinds)}


def other(rng, key, value, config):
    """Another value of a key, or None: leave it."""
    if INERT.search(key):
        return None
    if isinstance(value, bool):
        return not value
    if key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
        return rng.choice([1, 2, 3, 5, 6])
    if key in ("num_attention_heads", "n_head", "n_heads"):
        return rng.choice([1, 2, 4, 8])
    if key in ("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"):
        return rng.choice([1, 2, 4])
    if key in ("hidden_size", "n_embd", "d_model", "dim"):
        return rng.choice([48, 64, 96, 128])
    if key in ("head_dim", "v_head_dim", "qk_nope_head_dim", "kv_lora_rank", "q_lora_rank", "kv_channels"):
        return rng.choice([8, 16, 24, 32])
    if key == "qk_rope_head_dim":
        return rng.choice([4, 8, 16])
    if SIZES.search(key) and isinstance(value, int):
        return rng.choice([40, 72, 100, 130])
    if key in ("vocab_size",):
        return rng.choice([131, 160, 257])
    if WINDOWS.search(key) and isinstance(value, int):
        return rng.choice([1, 3, 5, 16, 64])
    if key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"):
        return rng.choice([4, 8, 12])
    if key in ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"):
        return rng.choice([1, 2, 3, 4])
    if key in ("n_group", "topk_group"):
        return rng.choice([1, 2, 4])
    if key in ("n_shared_experts", "num_shared_experts", "first_k_dense_replace", "decoder_sparse_step"):
        return rng.choice([1, 2])
    if key in ("hidden_act", "hidden_activation", "activation_function", "activation", "afn"):
        return rng.choice(ACTIVATIONS)
    if key == "rope_parameters" and isinstance(value, dict):
        if all(isinstance(rest, dict) for rest in value.values()):
            return {kind: rope_variants(rng, rest) for kind, rest in value.items()}
        return rope_variants(rng, value)
    if key == "scoring_func":
        return rng.choice(["sigmoid", "softmax"])
    if key in ("eps", "rms_norm_eps", "layer_norm_eps", "norm_eps", "layer_norm_epsilon", "norm_epsilon") and value:
        return rng.choice([1e-6, 1e-3, 0.02])
    if key in ("partial_rotary_factor", "rotary_pct"):
        return rng.choice([0.25, 0.5, 0.75, 1.0])
    if isinstance(value, float) and value:
        return round(value * rng.choice([0.6, 0.8, 1.3, 1.7]), 4)
    if isinstance(value, list) and value and all(isinstance(rest, str) for rest in value):
        return rng.sample(value, len(value))
    return None


def mutated(rng, base):
    config = copy.deepcopy(base)
    keys = [key for key, value in config.items() if other(random.Random(0), key, value, config) is not None]
    changes = {}
    for key in rng.sample(keys, min(len(keys), rng.choice([1, 2, 3, 5, 8]))):
        value = other(rng, key, config[key], config)
        if value is not None and value != config[key]:
            if key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
                for name, rest in config.items():
                    if isinstance(rest, list) and len(rest) == config[key]:
                        config[name] = [rest[layer % len(rest)] for layer in range(value)]
            config[key] = changes[key] = value
    return config, changes


def build(variant, config, folder, rng):
    """A model of this configuration with random weights, saved; its outputs come from what was saved."""
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
            if rule is not None:
                scale, offset = rule
                tensors[name] = (offset + scale * (2 * torch.rand(tensor.shape, dtype=torch.float64) - 1)).bfloat16().to(tensor.dtype)
        save_file(tensors, first / "model.safetensors", metadata={"format": "pt"})
        dtype = rng.choice([torch.float32, torch.float32, torch.bfloat16])
        model, report = cls.from_pretrained(first, config=transformers.AutoConfig.from_pretrained(first), dtype=dtype, output_loading_info=True)
        problems = {key: value for key, value in report.items() if value}
        if problems:
            raise ValueError(f"from_pretrained reports {problems}")
        model.save_pretrained(folder, max_shard_size=rng.choice(["5GB", "60KB"]))
    if variant.get("config_as_given"):
        given = {key: value for key, value in config.items() if key != "dtype"}
        (folder / "config.json").write_text(json.dumps(given, indent=2) + "\n")


def inputs_of(config, rng):
    vocabulary = min(config.vocab_size, getattr(config, "vocab_size_per_layer_input", None) or config.vocab_size)
    return [[rng.randrange(5, vocabulary) for _ in range(length)] for length in (1, 9, 41)]


def tensors_of(folder):
    """Every tensor of the output folder: (file, record) -> tensor."""
    found = {}
    for path in [*sorted((folder / "hidden").glob("*.safetensors")), folder / "logits.safetensors"]:
        if path.exists():
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    found[path.name.removesuffix(".safetensors"), name] = file.get_tensor(name)
    return found


def worst(found, expected):
    """Largest difference in units of what is tolerated."""
    expected = expected.float()
    rms = expected.pow(2).mean().sqrt()
    return ((found.float() - expected).abs() / (1e-4 * (expected.abs() + rms))).max().item()


def shaken(variant, folder, ids, wanted, stack):
    """How far the reference moves, in units of what is tolerated, when its weights get noise as small as rounding: a choice (of
    experts, of keys) that hangs on the last bit shows here."""
    largest = 0.0
    for seed in range(4):
        model = generate.load({**variant, "name": "compare"}, folder)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 2e-7 * torch.randn(parameter.shape, generator=generator))
        for index, record in enumerate(ids):
            results, capture = generate.run(model, {"input_ids": torch.tensor(record)}, variant)
            for boundary, tensor in capture.boundaries.items():
                largest = max(largest, worst(tensor, wanted[f"{stack}.{boundary:03}", str(index)]))
            if "logits" in results:
                largest = max(largest, worst(results["logits"], wanted["logits", str(index)]))
    return largest


def check(variant, config, sli, rng):
    """(result, detail) of one model."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        try:
            build(variant, config, place / "model", rng)
            model = generate.load({**variant, "name": "compare"}, place / "model")
            ids = inputs_of(model.config.get_text_config(), rng)
            reference = []
            for record in ids:
                reference.append(generate.run(generate.load({**variant, "name": "compare"}, place / "model"), {"input_ids": torch.tensor(record)}, variant))
        except Exception as error:
            return "skipped", str(error).split("\n")[0][:120]
        (place / "in.jsonl").write_text("".join(json.dumps({"id": str(index), "input_ids": record}) + "\n" for index, record in enumerate(ids)))
        takes = ["--take", "hidden"] + (["--take", "logits"] if "logits" in reference[0][0] else [])
        command = [sli, "run", place / "model", "--input", place / "in.jsonl", "--out", place / "out", "--compute", "f32", "--allow-long", *takes]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return ("CRASHED" if done.returncode not in (2, 3, 4) else "REFUSED"), done.stderr.strip().replace("\n", " ")[-300:]
        found = tensors_of(place / "out")
        stack = "decoder" if any(name.startswith("decoder.") for name, _ in found) else "encoder"
        wanted = {}
        for index, (results, capture) in enumerate(reference):
            for boundary, tensor in capture.boundaries.items():
                wanted[f"{stack}.{boundary:03}", str(index)] = tensor
            _, end = capture.norm()
            if end is not None and not variant.get("norm") == "none":
                wanted[f"{stack}.norm", str(index)] = end
            if "logits" in results:
                wanted["logits", str(index)] = results["logits"]
        if any(not torch.isfinite(tensor).all() for tensor in wanted.values()):
            return "skipped", "the reference is not finite"
        missing = sorted(set(wanted) - set(found))
        if missing:
            return "MISSING", str(missing[:4])
        shapes = [key for key, tensor in wanted.items() if tensor.shape != found[key].shape]
        if shapes:
            return "SHAPES", str(shapes[:4])
        units, key = max((worst(found[key], tensor), key) for key, tensor in wanted.items())
        if units <= 1.0:
            return "passed", f"{units:.3f}"
        if shaken(variant, place / "model", ids, wanted, stack) > 1.0:
            return "unstable", f"{units:.3g} x the tolerance, but rounding alone moves the reference as far"
        first = next((name for name in wanted if worst(found[name], wanted[name]) > 1.0), None)
        return "WRONG", f"{units:.3g} x the tolerance at {key}, first at {first}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("types", nargs="*")
    arguments.add_argument("--sli", required=True)
    arguments.add_argument("--variants", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--goldens", action="store_true")
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
    for key, (model_type, variant) in sorted(first.items()):
        if variant.get("attention") is None and model_type == "falcon":
            variant = {**variant, "attention": "sdpa"}
        base = generate.config_dict(variant if options.goldens else {"base": variant["base"], "class": variant.get("class")})
        for number in range(max(1, options.variants)):
            rng = random.Random(f"{options.seed}.{key}.{number}")
            config, changes, tried, result, detail = base, {}, variant, "skipped", ""
            for _ in range(12):
                if options.variants:
                    config, changes = mutated(rng, base)
                    cls = rng.choice([variant.get("class"), variant.get("class"), *supported[model_type]])
                    cls = cls if hasattr(transformers, cls or "") else None
                    tried = {**variant, "class": cls or generate.model_class(variant).__name__}
                    config["architectures"] = changes["architectures"] = [tried["class"]]
                try:
                    result, detail = check(tried, config, options.sli, rng)
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
