"""Checks with the reference that the keys which `sli` sets aside change nothing.

    python tools/defaults/idle_keys.py --sli target/debug/sli                     every type, every known key
    python tools/defaults/idle_keys.py --sli SLI --rounds 8 --seed 2 llama bert   more random values, two types

For each type with a class in transformers, in each round, every key that any configuration class declares and that `sli inspect`
sets aside is written into the config.json of a tiny checkpoint, with a random value (numbers, switches, words, lists, objects, the value
it has in a class that declares it). The reference loads the folder before and after, with its two attentions, with and without a
cache, from one set of weights. Three things are looked for:

- logits and hidden states that are not the same bits,
- a configuration or model that no longer loads,
- a key that is asked for while the model is built or run (from where is printed), whatever came of it.

What fails is narrowed down to single keys. Prints a line a finding and the totals; exit 1 if there is any.
"""

import argparse
import copy
import dataclasses
import json
import random
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import torch
import transformers
from transformers.models.auto import configuration_auto

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/goldens"))
import generate as goldens  # tools/goldens

SOURCES = ROOT / "crates/sli-spec/src"
KNOWN = json.loads((SOURCES / "known_keys.json").read_text())
READS = {path.stem: row["reads"] for path in sorted((SOURCES / "types").glob("*.json")) if "reads" in (row := json.loads(path.read_text()))}
SPEC = ROOT / "crates/sli-spec/src/known_keys.rs"
# Modes of the reference: attention, cache.
MODES = [("eager", False), ("sdpa", False), ("sdpa", True)]
# Types that the reference reads as another one.
ALIASES = {"kimi_k2": "deepseek_v3", "gpt-sw3": "gpt2"}


def defaults_elsewhere():
    """Key -> values that it has in classes that declare it."""
    values = {}
    for model_type in configuration_auto.CONFIG_MAPPING_NAMES:
        for field in dataclasses.fields(configuration_auto.CONFIG_MAPPING[model_type]):
            if field.default is dataclasses.MISSING:
                continue
            try:
                json.dumps(field.default)
            except TypeError:
                continue
            if field.default is not None and field.default not in values.setdefault(field.name, []):
                values[field.name].append(field.default)
    return values


def drawn(rng, key, elsewhere):
    kind = rng.randrange(9)
    usual = elsewhere.get(key)
    if usual and kind < 4:
        return rng.choice(usual)
    return [
        rng.randrange(1, 9), rng.random() * 3, True, False, rng.choice(["relu", "full_attention", "silu", "rms", "alibi"]),
        [rng.randrange(4) for _ in range(4)], {"factor": 2.0, "type": "linear"}, -1, rng.randrange(100, 5000),
    ][kind]


def published():
    """Keys that no class declares and that are accepted all the same: (key, types)."""
    found = re.findall(r'published\(\s*"([^"]+)",\s*&\[([^\]]*)\]', SPEC.read_text())
    return [(key, re.findall(r'"([^"]+)"', types)) for key, types in found]


def written(folder, keys, config):
    """The config.json with these keys beside its own; `rope_parameters.KEY` goes into that object."""
    config = copy.deepcopy({**{key: value for key, value in keys.items() if "." not in key}, **config})
    for key, value in keys.items():
        if "." in key:
            parent, inner = key.split(".")
            config[parent].setdefault(inner, value)
    (folder / "config.json").write_text(json.dumps(config))


def set_aside(sli, folder, config, keys):
    """Those of the keys that `sli` sets aside."""
    keys = dict(keys)
    while True:
        written(folder, keys, config)
        done = subprocess.run([sli, "inspect", folder, "--json"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            idle = json.loads(done.stdout)["idle"]
            return {key: keys[key] for key in idle if key in keys}
        refused = re.search(r"nothing reads (.*)", done.stderr)
        named = re.findall(r"`([^`]+)`", refused.group(1) if refused else done.stderr)
        named = [key for key in named if key in keys]
        if not named:
            raise ValueError(done.stderr)
        for key in set(named):
            del keys[key]


class Asked:
    """Notes which of these keys a configuration is asked for, and from where."""

    def __init__(self, keys):
        self.keys, self.found = set(keys), {}

    def __enter__(self):
        self.plain = transformers.PreTrainedConfig.__getattribute__
        plain, keys, found = self.plain, self.keys, self.found

        def asking(config, name):
            frame = sys._getframe(1)
            # Which warns of odd token ids, whatever a key is called.
            # (Those of inner objects are dictionaries' and not seen here.)
            if name in keys and frame.f_code.co_name != "validate_token_ids":
                found.setdefault(name, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            return plain(config, name)

        transformers.PreTrainedConfig.__getattribute__ = asking
        return self

    def __exit__(self, *_):
        transformers.PreTrainedConfig.__getattribute__ = self.plain


def outputs(variant, folder, ids):
    """Everything that the model gives for the ids, in each mode."""
    found = []
    for attention, cache in MODES:
        config = transformers.AutoConfig.from_pretrained(folder)
        torch.manual_seed(0)
        try:
            model = goldens.model_class(variant).from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation=attention).eval()
        except ValueError as error:
            if "does not support an attention implementation" in str(error):
                continue
            raise
        with torch.no_grad():
            output = model(ids, output_hidden_states=True, use_cache=cache)
        found += [tensor for tensor in (getattr(output, "logits", None), getattr(output, "last_hidden_state", None)) if tensor is not None]
        found += list(output.hidden_states or ())
    return found


def differs(variant, folder, config, keys, ids, reference):
    """What the keys do: None, or a description."""
    written(folder, keys, config)
    try:
        found = outputs(variant, folder, ids)
    except Exception as error:
        return f"fails: {type(error).__name__} {str(error).strip().splitlines()[0][:160] if str(error) else ''}"
    same = len(found) == len(reference) and all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(found, reference))
    return None if same else "other numbers"


def narrowed(check, keys):
    """The single keys (or a smallest set) that fail."""
    if check(keys) is None:
        return []
    if len(keys) == 1:
        return [(next(iter(keys)), next(iter(keys.values())), check(keys))]
    items = list(keys.items())
    halves = [dict(items[: len(items) // 2]), dict(items[len(items) // 2 :])]
    found = [finding for half in halves for finding in narrowed(check, half)]
    return found or [(sorted(keys), None, check(keys))]


def examine(model_type, variant, sli, rounds, seed, elsewhere):
    base = goldens.config_dict(variant)
    config_class = configuration_auto.CONFIG_MAPPING[base["model_type"]]
    own = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
    findings, tried = [], set()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        folder, bare = place / "model", place / "bare"
        bare.mkdir()
        torch.manual_seed(3)
        goldens.model_class(variant)(goldens.config_of(base)).eval().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        ids = torch.randint(5, min(config.get("vocab_size", 100), 90), (1, 24), generator=torch.Generator().manual_seed(1))
        reference = outputs(variant, folder, ids)
        flat = "rope_type" in (config.get("rope_parameters") or {})
        for number in range(rounds):
            rng = random.Random(f"{seed}.{model_type}.{number}")
            foreign = set(KNOWN["known"]) - set(KNOWN["shared"]) - set(READS[model_type]) - own - set(config)
            keys = {key: drawn(rng, key, elsewhere) for key in sorted(foreign) if "." not in key or flat}
            keys |= {key: drawn(rng, key, elsewhere) for key, types in published() if not types or model_type in types}
            keys = set_aside(sli, bare, {**config, "model_type": model_type}, keys)
            tried |= set(keys)
            written(folder, keys, config)
            with Asked(keys) as asked:
                try:
                    outputs(variant, folder, ids)
                except Exception:
                    pass  # narrowed down below
            findings += [(model_type, key, f"asked for at {where}") for key, where in asked.found.items()]
            check = lambda some: differs(variant, folder, config, some, ids, reference)
            findings += [(model_type, key, f"= {json.dumps(value)}: {what}") for key, value, what in narrowed(check, keys)]
    return findings, len(tried)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--sli", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    elsewhere = defaults_elsewhere()
    variants = {}
    for variant in goldens.variants().values():
        variants.setdefault(goldens.base_of(variant)["config"]["model_type"], {"base": variant["base"], "class": variant.get("class"), "name": "idle"})
    pairs, types, findings = 0, 0, []
    for model_type in arguments.types or READS:
        variant = variants.get(ALIASES.get(model_type, model_type))
        try:
            found, tried = examine(model_type, variant, arguments.sli, arguments.rounds, arguments.seed, elsewhere)
        except Exception:
            found, tried = [(model_type, "", traceback.format_exc().strip().replace("\n", " ")[-300:])], 0
        for finding in sorted(set(found)):
            print(*finding, flush=True)
        findings, pairs, types = findings + found, pairs + tried, types + (tried > 0)
        print(f"{model_type}: {tried} keys", file=sys.stderr, flush=True)
    print(f"{pairs} pairs of a type and a key, of {types} types; {len(set(findings))} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
