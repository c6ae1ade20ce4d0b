"""How far tiny models drift whose weights keep three bits of their mantissa, by transformers in f64: for `sli diff`.

    python diff.py ../../crates/sli/tests/diff llama mixtral t5 ...      the committed expectations, NAME.json

The reference is the golden NAME as its formula says, the other the same with fewer bits. For every stack: `own` and `accumulated`, the relative error (length of
the difference by the length of the reference, over the tokens of all records) and the mean cosine of each layer's output; `kl`, the divergence of the
distributions at every token of each record, and `top1`, how many of them hold the same token for the most probable one.

The own error of a layer is seen in one run of the other model, in front of whose layers the reference's states are put.
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "goldens"))
from save_checkpoint import save_checkpoint  # noqa: E402

#: Where the layers of a class are, by the name of the stack, where its golden does not say it.
LAYERS = [
    {"encoder": "encoder.block", "decoder": "decoder.block"},
    {"encoder": "model.encoder.layers", "decoder": "model.decoder.layers"},
    {"encoder": "bert.encoder.layer"},
    {"decoder": "model.layers"},
    {"decoder": "transformer.h"},
    {"decoder": "backbone.layers"},
]


#: Grouped products know no f64.
EAGER = {"experts_implementation": "eager"}


#: What a record may have beside its tokens.
BESIDE = ["decoder_input_ids", "token_type_ids", "pixel_values", "image_grid_thw"]


def layers_of(model, facts, counts):
    """The layers of each stack, those that are run for what comes out."""
    known = facts.get("layers")
    for places in [known] if isinstance(known, dict) else LAYERS:
        try:
            return {stack: list(model.get_submodule(path))[: counts.get(stack)] for stack, path in places.items()}
        except AttributeError:
            continue
    raise SystemExit(f"no layers are known of {type(model).__name__}")


class Watched:
    """A model whose layers are watched, and led where `lead` has states."""

    def __init__(self, folder, facts, counts):
        model = getattr(transformers, facts["class"]).from_pretrained(folder, dtype=torch.float32, **EAGER)
        self.model = model.double().eval()
        self.layers = layers_of(model, facts, counts)
        self.lead = self.seen = None
        for stack, layers in self.layers.items():
            for index, layer in enumerate(layers):
                layer.register_forward_pre_hook(self.before(stack, index, inspect.signature(layer.forward)), with_kwargs=True)
                layer.register_forward_hook(self.behind(stack, index))

    def before(self, stack, index, signature):
        def hook(_, args, kwargs):
            # What a decoder reads of its encoder comes by position or by name.
            given = signature.bind(*args, **kwargs)
            state = next(iter(given.arguments))
            self.seen["in"][stack, index] = given.arguments[state]
            other = given.arguments.get("encoder_hidden_states")
            if other is not None:
                self.seen["end"] = other
            if self.lead is None:
                return None
            given.arguments[state] = self.lead["in"][stack, index]
            if other is not None:
                given.arguments["encoder_hidden_states"] = self.lead["end"]
            return given.args, given.kwargs

        return hook

    def behind(self, stack, index):
        def hook(_, args, output):
            self.seen["out"][stack, index] = output[0] if isinstance(output, tuple) else output

        return hook

    def run(self, inputs, lead=None):
        self.lead, self.seen = lead, {"in": {}, "out": {}}
        output = self.model(**inputs, use_cache=False) if "decoder" in self.layers else self.model(**inputs)
        return self.seen, getattr(output, "logits", None)


def keep_few_bits(path):
    """Clears all but three bits of the mantissa of every number in a file of f32."""
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    for entry in json.loads(data[8 : 8 + length]).values():
        if entry.get("dtype") == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            words = np.frombuffer(data, "<u4", (end - begin) // 4, begin)
            words &= 0xFFF0_0000
    path.write_bytes(data)


def error(pairs):
    difference = sum(((b - a) ** 2).sum() for a, b in pairs)
    reference = sum((a**2).sum() for a, _ in pairs)
    cosines = torch.cat([torch.nn.functional.cosine_similarity(a, b, dim=-1).flatten() for a, b in pairs])
    return [float((difference / reference).sqrt()), float(cosines.mean())]


def expectations(name):
    golden = ROOT / "goldens" / name
    facts = json.loads((golden / "golden.json").read_text())
    counts = {}
    with safe_open(golden / "expected.safetensors", "pt") as file:
        for key in sorted(file.keys()):
            _, *kind, last = key.split(".")
            if kind[:1] == ["hidden"] and len(kind) == 2 and last.isdigit():
                counts[kind[1]] = max(counts.get(kind[1], 0), int(last))
    models = []
    for rounded in [False, True]:
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(golden, Path(folder), "f32", "5GB")
            if rounded:
                keep_few_bits(Path(folder) / "model.safetensors")
            models.append(Watched(folder, facts, counts))
    reference, model = models
    found = {}
    result = {"kl": {}, "top1": 0}
    with safe_open(golden / "expected.safetensors", "pt") as file, torch.no_grad():
        for key in sorted(file.keys()):
            if not key.endswith(".input_ids") or key.endswith(".decoder_input_ids"):
                continue
            record = key.split(".")[0]
            inputs = {"input_ids": file.get_tensor(key)[None]}
            for more in BESIDE:
                if f"{record}.{more}" in file.keys():
                    given = file.get_tensor(f"{record}.{more}")
                    inputs[more] = given if more in ["pixel_values", "image_grid_thw"] else given[None]
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"].double()
            if "image_grid_thw" in inputs:
                # As its processor says it, so that the positions are those of pictures.
                inputs["mm_token_type_ids"] = (inputs["input_ids"] == reference.model.config.image_token_id).int()
            theirs, p = reference.run(inputs)
            own, q = model.run(inputs)
            led, _ = model.run(inputs, theirs)
            for place, state in theirs["out"].items():
                found.setdefault(("accumulated", *place), []).append((state, own["out"][place]))
                found.setdefault(("own", *place), []).append((state, led["out"][place]))
            if p is not None:
                p, q = (torch.log_softmax(logits[0], -1) for logits in (p, q))
                result["kl"][record] = (p.exp() * (p - q)).sum(-1).tolist()
                result["top1"] += int((p.argmax(-1) == q.argmax(-1)).sum())
    for (kind, stack, _), pairs in sorted(found.items()):
        result.setdefault(kind, {}).setdefault(stack, []).append(error(pairs))
    return result


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    for name in sys.argv[2:]:
        text = json.dumps(expectations(name), indent=1)
        (out / f"{name}.json").write_text(text + "\n")
        print(name)


if __name__ == "__main__":
    main()
