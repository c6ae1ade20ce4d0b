"""Writes golden folders: tiny models whose weights follow from a formula, with the outputs transformers computes for them.

    python generate.py                      every golden of variants/*.json
    python generate.py llama gpt2-flags     these goldens
    python generate.py --family gemma       the goldens of variants/gemma.json
    python generate.py --check NAME...      compute again and compare with the files that are there

See README.md for the files.
"""

import argparse
import copy
import inspect
import json
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from safetensors.torch import load_file, save, save_file

from transformers import modeling_outputs

import coded
import formula
import weights

HERE = Path(__file__).resolve().parent
# Types that see a mask where there is nothing to hide.
MASKED = ("moonshine_streaming",)
GOLDENS = HERE.parent.parent / "goldens"
RESERVED = {0, 1, 2, 3}
# Inputs that have no axis of records.
PICTURES = {"pixel_values", "pixel_values_images", "image_grid_thw", "image_sizes", "spatial_shapes", "pixel_attention_mask", "image_merge_sizes", "image_position_ids", "pixel_mask", "aspect_ratio_ids", "aspect_ratio_mask", "qformer_input_ids"}
LAYER_LISTS = {"layers", "h", "layer", "blocks", "block", "decoder_layers", "encoder_layers", "layer_module", "albert_layers"}

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.cuda.is_current_stream_capturing = lambda: False  # a build with CUDA may crash in it where there is no driver


def variants():
    """Every golden that variants/*.json describes, by name."""
    found = {}
    for path in sorted((HERE / "variants").glob("*.json")):
        for variant in json.loads(path.read_text()):
            if variant["name"] in found:
                raise ValueError(f"{path.name}: two goldens are called {variant['name']}")
            found[variant["name"]] = {**variant, "family": path.stem}
    return found


def merged(base, overrides):
    """`base` with `overrides` on top; a dict merges key by key unless it says {"=": {...}} (replace); "-" removes a key."""
    result = copy.deepcopy(base)
    for key, value in overrides.items():
        if value == "-":
            result.pop(key, None)
        elif isinstance(value, dict) and set(value) == {"="}:
            result[key] = copy.deepcopy(value["="])
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def float_of(value):
    """transformers writes an infinity as {"__float__": "Infinity"}."""
    return float(value["__float__"]) if set(value) == {"__float__"} else value


def base_of(variant):
    return json.loads((HERE / "bases" / f"{variant['base']}.json").read_text(), object_hook=float_of)


def model_class(variant):
    return getattr(transformers, variant.get("class") or base_of(variant)["class"])


def config_dict(variant):
    config = merged(base_of(variant)["config"], variant.get("config", {}))
    config["architectures"] = [model_class(variant).__name__]
    return config


def config_of(config):
    config = copy.deepcopy(config)
    return transformers.CONFIG_MAPPING[config["model_type"]].from_dict(config)


def renamed(variant, name):
    """The name under which published files of the type have tensor `name`."""
    for pattern, replacement in variant.get("rename", []):
        name = re.sub(pattern, replacement, name)
    return name


def write_checkpoint(variant, folder):
    """save_pretrained of the variant with every tensor rewritten by its formula. Returns the entries of tensors.json."""
    given = config_dict(variant)
    torch.manual_seed(0)
    model = model_class(variant)(config_of(given)).eval()
    for name in variant.get("untie", []):  # a weight of its own, as published files have it
        module = model.get_submodule(name)
        module.weight = torch.nn.Parameter(module.weight.detach().clone())
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    initial = {renamed(variant, name): (name, tensor) for name, tensor in load_file(path).items()}
    entries, tensors = [], {}
    for name in sorted(initial):
        saved_as, tensor = initial[name]
        dtype = next(code for code, kind in formula.DTYPES.items() if kind == tensor.dtype)
        entry = {"name": name, "shape": list(tensor.shape), "dtype": dtype}
        rule = weights.scale_and_offset(model, saved_as, tensor, [tuple(rule) for rule in variant.get("weights", [])])
        given_values = [values for pattern, values in variant.get("values", {}).items() if re.search(pattern, name)]
        if given_values:
            entry["values"] = given_values[0]
        elif rule is None and re.search(variant.get("rounded", "^$"), name):
            entry["values"] = tensor.bfloat16().float().flatten().tolist()
        elif rule is None:
            entry["values"] = tensor.flatten().tolist()
            if re.search(variant.get("kept", "^$"), name):
                entry["kept"] = True
        else:
            entry["scale"], entry["offset"] = rule
        codes = variant.get("coded", {})
        if codes and re.search(codes["tensors"], name):
            more, tensors[name] = coded.coded(codes, name, list(tensor.shape))
            entries += more
            continue
        fp8 = variant.get("fp8", {})
        if fp8 and re.search(fp8["tensors"], name):
            entry.update(dtype="F8_E4M3", block=fp8["config"]["weight_block_size"], scales=fp8["scales"])
        entries.append(entry)
        tensors[name] = formula.tensor_of(entry, "bf16")
    entries.sort(key=lambda entry: entry["name"])
    coded.share(entries)
    save_file(tensors, path, metadata={"format": "pt"})
    if variant.get("config_as_given"):
        given.pop("dtype", None)
        (folder / "config.json").write_text(json.dumps(given, indent=2, sort_keys=True) + "\n")
    return entries


def coded_config(variant, text):
    """The configuration with what it says of the coded tensors."""
    if "coded" in variant:
        config = {**json.loads(text), **variant["coded"]["config"]}
        return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    if "fp8" not in variant:
        return text
    config = {**json.loads(text), "quantization_config": {"quant_method": "fp8", **variant["fp8"]["config"]}}
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def check_decoding(variant, folder, entries):
    """Where the reference itself can decode the files (its blocks must divide the shapes) it has the same numbers."""
    fp8 = [entry for entry in entries if entry["dtype"] == "F8_E4M3" and "block" in entry]
    blocks = [(entry["shape"], entry["block"] or entry["shape"]) for entry in fp8]
    if not fp8 or any(size % side for shape, block in blocks for size, side in zip(shape, block)):
        return
    plain = load_file(folder / "model.safetensors")
    with tempfile.TemporaryDirectory() as coded:
        tensors = dict(plain)
        for entry in fp8:
            tensors[entry["name"]], tensors[entry["name"] + "_scale_inv"] = formula.fp8_parts(entry, "bf16")
        save_file(tensors, Path(coded) / "model.safetensors", metadata={"format": "pt"})
        (Path(coded) / "config.json").write_bytes(coded_config(variant, (folder / "config.json").read_bytes()))
        model = model_class(variant).from_pretrained(coded, dtype=torch.float32)
    known = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for entry in fp8:
        if not torch.equal(known[entry["name"]].data, plain[entry["name"]]):
            raise ValueError(f"{entry['name']}: the reference decodes other numbers")


def load(variant, folder, config=None):
    config = config or transformers.AutoConfig.from_pretrained(folder)  # the class's own config class may be another one
    model, report = model_class(variant).from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation=variant.get("attention", "eager"), output_loading_info=True
    )
    problems = {key: value for key, value in report.items() if value}
    if problems:
        raise ValueError(f"{variant['name']}: from_pretrained reports {problems}")
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    if "coded" in variant:
        coded.prepare(variant["coded"], model)
    return model.eval()


def check_round_trip(variant, model, folder):
    """Every tensor of the checkpoint reached the model: saving it again gives the same tensors."""
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        written, kept = load_file(folder / "model.safetensors"), load_file(Path(again) / "model.safetensors")
    kept = {renamed(variant, name): tensor for name, tensor in kept.items()}
    if written.keys() != kept.keys():
        raise ValueError(f"names change in a round trip: {sorted(written.keys() ^ kept.keys())}")
    for name, tensor in written.items():
        if not torch.equal(tensor, kept[name]):
            raise ValueError(f"{name} changes in a round trip")


def first_tensor(output):
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, (tuple, list)):
        return first_tensor(output[0])
    return first_tensor(next(iter(output.values())))


def layer_lists(model):
    """(path, list of layers) of every outermost list of layers of the model."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and name.rpartition(".")[2] in LAYER_LISTS and len(module):
            if not any(name.startswith(outer + ".") for outer, _ in found):
                found.append((name, module))
    return found


def other_stacks(model):
    """Name -> (paths of the layers, no final norm) of the types whose stacks are no encoder and decoder."""
    config = model.config
    base = model.base_model_prefix + "." if hasattr(model, model.base_model_prefix) else ""
    if config.model_type == "canine":
        paths = {"characters": "initial_char_encoder.layer", "encoder": "encoder.layer", "last_characters": "final_char_encoder.layer"}
    elif config.model_type == "funnel":
        paths = {f"block{block}": f"encoder.blocks.{block}" for block in range(config.num_blocks)}
        inner = getattr(model, model.base_model_prefix, model)
        paths |= {"decoder": "decoder.layers"} if hasattr(inner, "decoder") else {}
    elif config.model_type == "perceiver":
        decoder = "decoder.decoder" if type(model).__name__.endswith("Classification") else "decoder"
        paths = {"latents": ["encoder.cross_attention", "encoder.self_attends"], "decoder": [f"{decoder}.decoding_cross_attention"]}
    else:
        return {}
    return {name: ([base + one for one in path] if isinstance(path, list) else base + path, "none") for name, path in paths.items()}


def stacks_of(model, variant):
    """Name -> (path of the layers, of the final norm) where the model has an encoder and a decoder, else nothing."""
    if "stacks" in variant:
        return variant["stacks"]
    if others := other_stacks(model):
        return others
    paths = [path for path, _ in layer_lists(model)]
    side = {path: next((part for part in path.split(".") if part in ("encoder", "decoder")), None) for path in paths}
    named = {stack: [path for path in paths if side[path] == stack] for stack in ("encoder", "decoder")}
    return {stack: (found[0], None) for stack, found in named.items()} if all(len(found) == 1 for found in named.values()) else {}


def layer_stack(model, path=None):
    """(path, list of layers): the outermost list of layers of the model, or several one after the other."""
    if isinstance(path, list):
        modules = [model.get_submodule(one) for one in path]
        return ", ".join(path), [layer for one in modules for layer in (one if isinstance(one, torch.nn.ModuleList) else [one])]
    if path:
        return path, model.get_submodule(path)
    found = layer_lists(model)
    if len(found) != 1:
        raise ValueError(f"stacks of layers: {[name for name, _ in found]}; say which in the variant (layers)")
    return found[0]


def flat(tensor):
    """[1, tokens, width] -> [tokens, width]; [streams, 1, tokens, width] -> [streams * tokens, width]."""
    return tensor.reshape(-1, tensor.shape[-1]).clone()


class Capture:
    """What enters the first layer and what leaves every layer, by forward hooks."""

    def __init__(self, model, path=None, norm_path=None, streams=1, owner=None, boundary_of=(), rows=None, of_pictures=False):
        """`owner`: the module whose end is meant, where the outermost one has another stack's; `rows`: without padding behind them;
        `of_pictures`: rows may be lines of patches, `[1, lines, patches, width]`."""
        self.of_pictures = of_pictures
        self.owner, self.rows, self.shown = owner, rows, None
        self.model, self.boundaries, self.handles = model, {}, []
        self.norm_path, self.norm_output, self.streams = norm_path, None, streams
        # Rows that the model puts in front of the tokens.
        self.prompt = model.config.prompt_length if hasattr(model.config, "prompt_types") else 0
        self.path, layers = layer_stack(model, path)
        self.count = 0  # of layers run so far: a layer that several positions share runs several times
        self.handles.append(layers[0].register_forward_pre_hook(self.enter, with_kwargs=True))
        for layer in layers:
            self.handles.append(layer.register_forward_hook(self.leave))
            if type(layer).__name__ == "SqueezeBertModule":
                layer.forward = self.past_hooks(layer.forward)
        self.last_hidden, self.producers = None, []
        for name, module in model.named_modules():
            self.handles.append(module.register_forward_hook(self.produced(name, owner, dict(boundary_of))))

    def enter(self, module, arguments, named):
        if 0 not in self.boundaries:
            hidden = arguments[0] if arguments else next(named[name] for name in ("hidden_states", "hidden_state") if name in named)
            self.boundaries[0] = self.boundary(hidden)

    def past_hooks(self, forward):
        """A layer whose encoder calls it past all hooks, with features in front of tokens."""

        def watched(hidden, *arguments):
            self.enter(None, (hidden.transpose(1, 2),), {})
            output = forward(hidden, *arguments)
            self.leave(None, (), output["feature_map"].transpose(1, 2))
            return output

        return watched

    def boundary(self, hidden):
        """[tokens, hidden]; streams side by side, in a dimension of their own or in the last one, become [streams * tokens, hidden], stream-major."""
        if hidden.ndim == 4 and hidden.shape[0] == 1 and not self.of_pictures:  # [1, tokens, streams, width]
            return hidden[0].transpose(0, 1).flatten(0, 1).contiguous()
        hidden = flat(hidden)[self.prompt :][: self.rows]
        if self.shown is not None:  # without padding between pictures
            hidden = hidden[self.shown]
        if self.streams == 1:
            return hidden
        return hidden.unflatten(-1, (self.streams, -1)).transpose(0, 1).flatten(0, 1).contiguous()

    def leave(self, module, arguments, output):
        self.count += 1
        self.boundaries[self.count] = self.boundary(first_tensor(output))

    def produced(self, name, owner, boundary_of):
        def hook(module, arguments, output):
            if owner in (None, name) and getattr(output, "last_hidden_state", None) is not None:  # the outermost module comes last
                self.last_hidden = output.last_hidden_state
            if isinstance(output, torch.Tensor):
                self.producers.append((name, output))
            if name == self.norm_path and self.norm_output is None:  # a pooled row may be normed once more
                self.norm_output = flat(output)[self.prompt :]
                if self.shown is not None:
                    self.norm_output = self.norm_output[self.shown]
                if self.last_hidden is None:  # a class that gives nothing but logits
                    self.last_hidden = output
            if name in boundary_of:
                self.boundaries[boundary_of[name]] = self.boundary(first_tensor(output))

        return hook

    def norm(self):
        """(module name, tensor) of the final norm, or (None, None) when the stack ends without one."""
        if self.norm_path == "none":
            return None, None
        if self.norm_path:
            return self.norm_path, self.norm_output
        end = flat(self.last_hidden)
        last = self.boundaries[self.count]
        if end.shape == last.shape and torch.equal(end, last):
            return None, None
        if self.owner and end.shape[-1] != last.shape[-1]:  # the logits
            return None, None
        place = (self.last_hidden.data_ptr(), self.last_hidden.numel())
        names = [name for name, tensor in self.producers if (tensor.data_ptr(), tensor.numel()) == place]
        return (names[-1] if names else "?"), end


class Captures:
    """The captures of several stacks, by stack; the end of all is that of the last."""

    def __init__(self, model, stacks, rows, streams=1):
        """`streams`: of the decoder."""
        self.stacks = {name: Capture(model, layers, norm, streams if name == "decoder" else 1, owner="" if isinstance(layers, list) else layers.rpartition(".")[0], rows=rows.get(name), of_pictures=name == "vision") for name, (layers, norm, *_) in stacks.items()}
        self.handles = [handle for capture in self.stacks.values() for handle in capture.handles]
        self.path = {name: capture.path for name, capture in self.stacks.items()}
        self.norm_path = None

    @property
    def last_hidden(self):
        last = [stack for stack in self.stacks.values() if stack.boundaries][-1]
        return last.boundaries[last.count] if last.last_hidden is None else last.last_hidden


def run(model, inputs, variant):
    """One forward pass. Returns (outputs by their name in expected.safetensors without the record, capture)."""
    accepted = inspect.signature(model.forward).parameters
    if stacks := stacks_of(model, variant):
        length = len(inputs["input_ids"]) if "input_ids" in inputs else None
        # Perceiver reads out all positions that it has.
        capture = Captures(model, stacks, {"encoder": length, "decoder": length if model.config.model_type == "perceiver" else None}, variant.get("streams", 1))
    else:
        capture = Capture(model, variant.get("layers"), variant.get("norm"), variant.get("streams", 1), boundary_of=variant.get("boundary_of", ()))
    if "spatial_shapes" in inputs:
        for name, part in getattr(capture, "stacks", {"": capture}).items():
            if name == "decoder":
                continue
            part.shown = inputs["pixel_attention_mask"].flatten().bool()
    if "image_position_ids" in inputs:
        if "vision" in capture.stacks:
            capture.stacks["vision"].shown = (inputs["image_position_ids"] != -1).all(-1).flatten()
    if "aspect_ratio_mask" in inputs:
        capture.stacks["vision"].shown = tile_rows(model.config.vision_config, inputs["aspect_ratio_mask"])
    extra = {key: value for key, value in {"use_cache": False, "return_dict": True}.items() if key in accepted or ("kwargs" in accepted and not type(model).__name__.endswith("Classification"))}
    given = {name: tensor if name in PICTURES else tensor[None] for name, tensor in inputs.items()}
    ends = {}
    for name, path in variant.get("ends", {}).items():  # modules whose output is the end of a stack without layers
        capture.handles.append(model.get_submodule(path).register_forward_hook(lambda module, given, output, name=name: ends.update({name: flat(output)})))
    if "encoder_hidden_states" in given:  # the end of an encoder that is not run
        end = given.pop("encoder_hidden_states")
        given["encoder_outputs"] = modeling_outputs.BaseModelOutputWithPooling(last_hidden_state=end, pooler_output=end)
    if model.config.model_type in MASKED:  # a processor's mask of all ones, without which the class has no windows
        given["attention_mask"] = torch.ones(given["input_values"].shape, dtype=torch.int64)
    if "mm_token_type_ids" in accepted and "input_ids" in given and ("image_grid_thw" in given or "image_position_ids" in given):  # as the processor makes them
        given["mm_token_type_ids"] = (given["input_ids"] == model.config.image_token_id).int()
    if model.config.model_type in ("gemma3", "shieldgemma2") and "pixel_values" in given:
        given["token_type_ids"] = (given["input_ids"] == model.config.image_token_id).int()
    if model.config.model_type == "granite_docling" and "pixel_attention_mask" in given:  # of tiles
        given["pixel_attention_mask"] = given["pixel_attention_mask"].bool()
    if model.config.model_type == "paligemma":
        given.setdefault("token_type_ids", torch.zeros_like(given["input_ids"]))
    with torch.no_grad():
        if variant.get("pair"):  # a text or a picture
            output = model.get_image_features(**given) if "pixel_values" in given else model.get_text_features(**given)
        else:
            output = model(**given, **extra)
    for handle in capture.handles:
        handle.remove()
    crossing = getattr(texts_of(model)[0], "cross_attention_layers", None) or []
    if crossing and "pixel_values" not in inputs:  # layers that attend to pictures are left out where there are none
        skip(getattr(capture, "stacks", {"decoder": capture})["decoder"], set(crossing))
    if variant.get("padded"):  # rows that the model itself puts behind the tokens
        length = len(inputs["input_ids"])
        capture.boundaries = {boundary: tensor[:length] for boundary, tensor in capture.boundaries.items()}
    for name, (_, _, *most) in (stacks or {}).items():  # the layers behind are not a part of what is computed
        if most and capture.stacks[name].boundaries:
            part = capture.stacks[name]
            part.boundaries = {boundary: tensor for boundary, tensor in part.boundaries.items() if boundary <= most[0]}
    results = {"logits" if name == "logits" else f"hidden.{name}.000": tensor for name, tensor in ends.items()}
    if "pooled" in variant:  # what the model itself makes of a record: a row for its text, or for each of its pictures
        embeddings = next((getattr(output, name) for name in ("image_embeds", "text_embeds", "pooler_output") if getattr(output, name, None) is not None))
        results[f"hidden.{variant['pooled']}"] = flat(embeddings)
    if getattr(output, "logits", None) is not None and output.logits.ndim == 3:
        results["logits"] = flat(output.logits)
        if model.config.model_type == "perceiver" and type(model).__name__.endswith("LM"):
            results["logits"] = results["logits"][: len(inputs["input_ids"])]
    elif getattr(output, "prediction_logits", None) is not None:
        results["logits"] = flat(output.prediction_logits)
    if getattr(output, "pooler_output", None) is not None:
        results["pooler_output"] = output.pooler_output[0].clone()
    if "logits" not in results and capture.norm_path:
        results["last_hidden_state"] = flat(capture.last_hidden)
    return results, capture


def skip(capture, crossing):
    """Boundaries of all layers, of those that were left out too."""
    found, run = dict(capture.boundaries), 0
    for layer in range(len(layer_stack(capture.model, capture.path)[1])):
        run += layer not in crossing
        capture.boundaries[layer + 1] = found[run].clone()
    capture.count = layer + 1


def tile_rows(config, mask):
    """The order of the rows of tiles that are one view: those of what is shown, of tiles that are not, and of zeros behind each."""
    made = (config.image_size // config.patch_size) ** 2 + 1
    rows, order = -(-made // 8) * 8, []
    pictures, tiles = mask.flatten(0, -2).shape
    for picture, shown in enumerate(mask.flatten(0, -2).tolist()):
        first = picture * tiles * rows
        for kind in (1, 0):
            order += [first + tile * rows + row for tile in range(tiles) if shown[tile] == kind for row in range(made)]
        order += [first + tile * rows + row for tile in range(tiles) for row in range(made, rows)]
    return torch.tensor(order)


def texts_of(model):
    """(configuration of the stack that reads `input_ids`, size of the vocabulary of the one that reads `decoder_input_ids`)."""
    config = model.config
    if getattr(config, "encoder", None) is not None and hasattr(config.encoder, "vocab_size"):
        return config.encoder, getattr(config.decoder, "vocab_size", None)
    text = config.get_text_config()
    if config.model_type == "canine":  # characters, which have no vocabulary
        text.vocab_size = 60000
    return text, next((size for size in (getattr(text, key, None) for key in ("decoder_vocab_size", "tgt_vocab_size", "vocab_size")) if size), None)


def features_of(model, frames):
    """(name, shape) of the features that the encoder reads of so many frames, nothing where it reads tokens."""
    config, accepted = model.config, inspect.signature(model.forward).parameters
    shapes = {
        "whisper": lambda: ("input_features", [config.num_mel_bins, 2 * config.max_source_positions]),
        "speech_to_text": lambda: ("input_features", [frames, config.input_feat_per_channel * config.input_channels]),
        "moonshine": lambda: ("input_values", [frames]),
        "moonshine_streaming": lambda: ("input_values", [frames * round(config.encoder_config.sample_rate * config.encoder_config.frame_ms / 1000)]),
        "pop2piano": lambda: ("input_features", [frames, config.d_model]),
        "pix2struct": lambda: ("flattened_patches", [frames, config.vision_config.patch_embed_hidden_size + 2]),
        "canary": lambda: ("input_features", [frames, config.encoder_config.num_mel_bins]),
        "cohere_asr": lambda: ("input_features", [frames, config.encoder_config.num_mel_bins]),
        "speecht5": lambda: ("input_values", [frames]),
        "pp_formulanet": lambda: ("encoder_hidden_states", [frames, config.text_config.d_model]),
        "speech-encoder-decoder": lambda: ("encoder_hidden_states", [frames, config.encoder.hidden_size]),
        "vision-encoder-decoder": lambda: ("encoder_hidden_states", [frames, config.encoder.hidden_size]),
    }
    name, shape = shapes.get(config.model_type, lambda: (None, None))()
    return (name, shape) if name in accepted or name == "encoder_hidden_states" else None


def pictures_of(index, record):
    """What a record has of pictures: numbers by the formula for a shape, whole numbers as they are."""
    return {
        name: torch.tensor(given["values"], dtype=torch.int64) if isinstance(given, dict) else formula.values(f"{name}.{index}", given, 1.0, 0.0)
        for name, given in record.get("pictures", {}).items()
    }


def placed(model, name, values):
    """Features of which some numbers are places: the row and the column of a patch."""
    if name == "flattened_patches":
        rows = min(model.config.vision_config.seq_len, 7)
        values[:, 0] = torch.arange(len(values)) // rows % model.config.vision_config.seq_len
        values[:, 1] = torch.arange(len(values)) % rows
    return values


def beside_of(model, tokens, draw):
    """What a record has beside its tokens, by name; `draw(name, count, below)`: so many whole numbers."""
    config = model.config

    def table(name, columns, below):
        numbers = draw(name, tokens * columns, below)
        return [numbers[start : start + columns] for start in range(0, tokens * columns, columns)]

    if config.model_type in ("layoutlm", "lilt"):  # boxes that end where they begin or behind
        boxes = table("bbox", 4, config.max_2d_position_embeddings)
        return {"bbox": [[min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)] for x0, y0, x1, y1 in boxes]}
    if config.model_type == "layoutlmv3":
        return {"bbox": table("bbox", 4, config.max_2d_position_embeddings)}
    if config.model_type == "bros":
        return {"bbox": [[number / 1024 for number in box] for box in table("bbox", 8 if tokens % 2 else 4, 1025)]}
    if config.model_type == "udop":  # parts of the page, some beyond it
        return {"bbox": [[number / 1000 - 0.05 for number in box] for box in table("bbox", 4, 1101)]}
    if config.model_type == "roc_bert":
        return {
            "input_shape_ids": draw("input_shape_ids", tokens, config.shape_vocab_size),
            "input_pronunciation_ids": draw("input_pronunciation_ids", tokens, config.pronunciation_vocab_size),
        }
    if config.model_type == "markuplm":
        return {
            "xpath_tags_seq": table("xpath_tags_seq", config.max_depth, config.max_xpath_tag_unit_embeddings),
            "xpath_subs_seq": table("xpath_subs_seq", config.max_depth, config.max_xpath_subs_unit_embeddings),
        }
    return {}


def records_of(variant, model):
    """The inputs of every record."""
    config, own = texts_of(model)
    accepted = inspect.signature(model.forward).parameters
    for index, record in enumerate(variant.get("records", [7, 19])):
        record = record if isinstance(record, dict) else {"tokens": record}
        if features := features_of(model, record.get("frames")):
            name, shape = features
            inputs = {name: placed(model, name, formula.values(f"{name}.{index}", shape, 1.0, 0.0))}
        elif "tokens" in record:
            ids = formula.input_ids(index, record["tokens"], config.vocab_size, RESERVED)
            for position, token in record.get("set", {}).items():
                ids[int(position)] = token
            for first, count, token in record.get("fill", []):
                ids[first : first + count] = [token] * count
            inputs = {"input_ids": torch.tensor(ids, dtype=torch.int64)}
        else:
            inputs = {}
        inputs |= pictures_of(index, record)
        if "global" in record:
            inputs["global_attention_mask"] = torch.tensor([int(place in record["global"]) for place in range(record["tokens"])], dtype=torch.int64)
        kinds = record.get("token_types_of", getattr(config, "type_vocab_size", 0) or 0)
        if index > 0 and kinds > 1 and "token_type_ids" in accepted and record.get("token_types", True):
            drawn = formula.stream(f"token_type_ids.{index}", record["tokens"]).tolist()
            inputs["token_type_ids"] = torch.tensor([(x >> 33) % kinds for x in drawn], dtype=torch.int64)
        beside = beside_of(model, record.get("tokens", 0), lambda name, count, below: [(x >> 33) % below for x in formula.stream(f"{name}.{index}", count).tolist()])
        for name, numbers in beside.items():
            if variant.get("beside") and (index > 0 or config.model_type in ("bros", "udop")):
                inputs[name] = torch.tensor(numbers)
        if "context" in record:
            inputs["token_type_ids"] = torch.tensor([int(place < record["context"]) for place in range(record["tokens"])])
        if "suffix" in record:
            inputs["token_type_ids"] = torch.tensor([int(place >= record["tokens"] - record["suffix"]) for place in range(record["tokens"])])
        if "decoder" in record:
            ids = formula.input_ids(f"decoder.{index}", record["decoder"], own, RESERVED)
            start = getattr(model.config, "decoder_start_token_id", 0)
            for position, token in record.get("set_decoder", {} if start is None else {"0": start}).items():
                ids[int(position)] = token
            inputs["decoder_input_ids"] = torch.tensor(ids, dtype=torch.int64)
        yield index, inputs


def is_causal(variant, folder):
    """Whether the first layer's outputs stay the same when the last token changes."""
    outputs = []
    model = load(variant, folder)
    _, inputs = next(records_of(variant, model))
    for shift in (0, 1):
        ids = inputs["input_ids"].clone()
        ids[-1] = ids[-1] - shift if ids[-1] > 4 else ids[-1] + shift
        _, capture = run(load(variant, folder), {**inputs, "input_ids": ids}, variant)
        outputs.append(flat(capture.last_hidden)[: len(ids) - 1])
    return torch.allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)


def effect_of(variant, folder, reference):
    """How much every overridden config value changes the end result (in its std), against the base's value: 0 proves nothing."""
    base, given, effects = base_of(variant)["config"], config_dict(variant), {}
    keys = []
    for key, value in variant.get("config", {}).items():
        if isinstance(given.get(key), dict) and isinstance(base.get(key), dict):
            keys += [(key, inner) for inner in {**base[key], **given[key]} if base[key].get(inner) != given[key].get(inner)]
        else:
            keys.append((key,))
    for key in keys:
        config, source = copy.deepcopy(given), base
        target = config
        for part in key[:-1]:
            target, source = target[part], source[part]
        if key[-1] in source:
            target[key[-1]] = copy.deepcopy(source[key[-1]])
        else:
            target.pop(key[-1], None)
        try:
            largest = 0.0
            for index, inputs in records_of(variant, load(variant, folder, config_of(config))):
                results, capture = run(load(variant, folder, config_of(config)), inputs, variant)
                for name, found in {"end": flat(capture.last_hidden), **results}.items():
                    expected = reference[index][name]
                    largest = max(largest, ((found - expected).abs().max() / expected.std()).item())
            effects[".".join(key)] = float(f"{largest:.2g}")
        except Exception as error:  # other shapes, other tensors, or a value that something else requires
            effects[".".join(key)] = "shapes" if "report" in str(error) or "size" in str(error) else "required"
    return effects


def noise_of(variant, folder, reference):
    """How far the end result moves, in its std, when every weight gets 1e-6 relative noise: what rounding alone may do."""
    model = load(variant, folder)
    *_, (index, inputs) = records_of(variant, model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-6 * torch.randn(parameter.shape, generator=generator))
    results, capture = run(model, inputs, variant)
    found = {"end": flat(capture.last_hidden), **results}
    return max(((found[name] - tensor).abs().max() / tensor.std()).item() for name, tensor in reference[index].items())


def golden(variant):
    """The files of the golden, as bytes by file name, and a line of facts for the log."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        entries = write_checkpoint(variant, folder)
        model = load(variant, folder)
        check_round_trip(variant, model, folder)
        check_decoding(variant, folder, entries)
        several = stacks_of(model, variant)
        stack = list(several) if several else variant.get("stack") or ("decoder" if is_causal(variant, folder) else "encoder")
        expected, reference, norm_name = {}, {}, None
        for index, inputs in records_of(variant, model):
            results, capture = run(load(variant, folder), inputs, variant)
            for name, tensor in inputs.items():
                expected[f"{index}.{name}"] = tensor
            norm_name = {}
            for own, part in (capture.stacks if several else {stack: capture}).items():
                if not part.boundaries:  # a tower of what the record does not have
                    continue
                norm_name[own], end = part.norm()
                for boundary, tensor in sorted(part.boundaries.items()):
                    expected[f"{index}.hidden.{own}.{boundary:03}"] = tensor
                if end is not None:
                    expected[f"{index}.hidden.{own}.norm"] = end
            norm_name = norm_name if several else norm_name[stack]
            for name, tensor in results.items():
                expected[f"{index}.{name}"] = tensor
            reference[index] = {"end": flat(capture.last_hidden), **results}
        for name, tensor in expected.items():
            if not torch.isfinite(tensor.double()).all():
                raise ValueError(f"{variant['name']}: {name} is not finite")
        effects = effect_of(variant, folder, reference)
        noise = float(f"{noise_of(variant, folder, reference):.1g}")
        facts = {
            "class": model_class(variant).__name__,
            "why": variant["why"],
            "base": variant["base"],
            "stack": stack,
            "layers": capture.path,
            "final_norm": norm_name,
            "reference": f"transformers 5.23.0, torch 2.15, float32, {variant.get('attention', 'eager')} attention",
            "noise": noise,
            "effect": effects,
        }
        listed = {"format_version": 1, "round_to": "bf16", "tensors": entries}
        lines = ",\n".join(json.dumps(entry) for entry in entries)
        files = {
            "config.json": coded_config(variant, (folder / "config.json").read_bytes()),
            "tensors.json": f'{{"format_version": 1, "round_to": "bf16", "tensors": [\n{lines}\n]}}\n'.encode(),
            "expected.safetensors": save({name: tensor.contiguous() for name, tensor in expected.items()}),
            "golden.json": (json.dumps(facts, indent=1) + "\n").encode(),
        }
        assert json.loads(files["tensors.json"]) == listed
    spread = {name: round(tensor.std().item(), 2) for name, tensor in reference[max(reference)].items()}
    size = sum(map(len, files.values())) // 1000
    kept = [entry["name"] for entry in entries if "values" in entry]
    line = f"{variant['name']}: {facts['class']} {stack} {capture.path} norm={norm_name} {size} KB std={spread} noise={noise} effect={effects}"
    return files, line + (f" VALUES={kept}" if kept else "") + (" LARGE" if size > 250 else "") + (" SENSITIVE" if noise > 2e-4 else "")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--family", action="append", default=[])
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--missing", action="store_true", help="only goldens that have no folder yet")
    options = arguments.parse_args()
    found = variants()
    names = options.names + [name for name, variant in found.items() if variant["family"] in options.family]
    failed = 0
    for name in names or found:
        if options.missing and (GOLDENS / name / "expected.safetensors").exists():
            continue
        try:
            files, line = golden(found[name])
        except Exception as error:
            failed += 1
            print(f"{name}: FAILED {type(error).__name__}: {error}", flush=True)
            if len(names) == 1:
                raise
            continue
        if options.check:
            different = [file for file, data in files.items() if (GOLDENS / name / file).read_bytes() != data]
            failed += bool(different)
            print(f"{name}: {'DIFFERENT ' + str(different) if different else 'same'}", flush=True)
            continue
        (GOLDENS / name).mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (GOLDENS / name / file).write_bytes(data)
        print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
