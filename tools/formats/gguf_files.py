"""Writes tiny GGUF files by llama.cpp's own converter, and what the reference computes for the models in them.

    LLAMA_CPP=/path/to/llama.cpp python tools/formats/gguf_files.py OUT [NAME]...

Each is a model of the reference with all parameters drawn, saved as the reference saves it and converted without a
tokenizer. `OUT/NAME.gguf` is the file, `OUT/NAME.json` has token ids and the logits of the last of them.
"""

import importlib
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.environ["LLAMA_CPP"])
sys.path.insert(0, os.environ["LLAMA_CPP"] + "/gguf-py")
sys.path.insert(0, str(Path(__file__).parent))
GOLDENS = Path(__file__).parents[2] / "goldens"
sys.path.insert(0, str(GOLDENS.parent / "tools/goldens"))
sys.argv[0] = "convert_hf_to_gguf.py"
import conversion  # noqa: E402
import formula  # noqa: E402
import gguf  # noqa: E402
from conversion.base import ModelBase, ModelType, TextModel, get_model_architecture  # noqa: E402
from gguf_models import ABSENT, BLOCKS, DRAFTING, FUSED, HEADLESS, MODELS, OLDER, PUBLISHED, RENAMED, REPLACED, RESHAPED, SHORT, SWAPPED  # noqa: E402

DECODER_IDS = [0, 9, 4, 15, 2]
IDS = [3, 17, 5, 21, 8, 8, 19, 1, 13, 12, 7]


def draw(model):
    """All parameters, those of norms around one, as numbers that 16 bits hold."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
        if not tensor.dtype.is_floating_point or name.endswith(("slope_rate", "key_decay", "query_decay", "diagonal_decay")) \
                or "inv_freq" in name or "alpha" in name:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        is_norm = "norm" in name.lower() or "ln_" in name or "layernorm" in name
        if name.endswith("A_log"):
            tensor.data = noise.abs().add(0.5).log()
        elif is_norm and name.endswith("weight"):
            tensor.data = 1 + 0.2 * noise
        else:
            tensor.data = noise * (0.15 if tensor.ndim > 1 else 0.3)
        tensor.data = tensor.data.bfloat16().float()


def in_blocks(model):
    """The numbers of a model's matrices as blocks of eight bits hold them."""
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, module in model.named_modules():
        if not isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            continue
        weight = module.weight.detach()
        order = torch.arange(weight.shape[1])
        if name.endswith("linear_attn.out_proj"):
            # Blocks are of heads in the file's order.
            config = model.config
            heads = (config.linear_num_key_heads, -1, config.linear_value_head_dim)
            order = order.reshape(heads).swapaxes(0, 1).flatten()
        blocks = gguf.quants.quantize(weight[:, order].contiguous().numpy(), kind)
        module.weight.data[:, order] = torch.from_numpy(gguf.quants.dequantize(blocks, kind))


def complete(folder, name):
    """Keys of older files, and a tokenizer for the converter to count."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= OLDER.get(name, {})
    path.write_text(json.dumps({key: value for key, value in config.items() if value != ABSENT}))
    kind = "WordPiece" if name.startswith("nomic-bert") else "BPE"
    text = config.get("text_config", config)
    vocabulary = {str(at): at for at in range(text.get("vocab_size", config.get("padded_vocab_size")))}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": kind, "vocab": vocabulary, "merges": []},
                                                        "added_tokens": []}))
    if name in DRAFTING:
        tensors = load_file(folder / "model.safetensors")
        last = config["num_hidden_layers"]
        own = [key for key in tensors if f"layers.{last - 1}." in key]
        tensors |= {key.replace(f"layers.{last - 1}.", f"layers.{last}."): tensors[key].clone() for key in own}
        width = config["hidden_size"]
        further = {"eh_proj": (width, 2 * width), "enorm": (width,), "hnorm": (width,), "shared_head.norm": (width,)}
        tensors |= {f"model.layers.{last}.{key}.weight": torch.ones(shape) for key, shape in further.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if name in SWAPPED:
        tensors = load_file(folder / "model.safetensors")
        for key in [key for key in tensors if SWAPPED[name] in key]:
            tensors[key] = tensors[key].transpose(-1, -2).contiguous()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if name in RESHAPED:
        tensors = RESHAPED[name](load_file(folder / "model.safetensors"))
        tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if name in RENAMED:
        tensors = load_file(folder / "model.safetensors")
        whole, parts = FUSED.get(name, ("", []))
        for key in [key for key in tensors if parts and parts[0] in key]:
            own = [tensors.pop(key.replace(parts[0], part)) for part in parts]
            tensors[key.replace(parts[0], whole)] = torch.cat(own)
        for old, new in RENAMED[name]:
            tensors = {key.replace(old, new): tensor for key, tensor in tensors.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def convert(folder, path, kind):
    if path.stem == "nomic-bert-moe":
        # The reference's class does not know the keys of this one.
        raw = json.loads((folder / "config.json").read_text())
        ModelBase.load_hparams = staticmethod(lambda *_: dict(raw))
    hparams = ModelBase.load_hparams(folder, False)
    architecture = get_model_architecture(hparams, ModelType.TEXT)
    cls = conversion.get_model_class(architecture) if hasattr(conversion, "get_model_class") else \
        ModelBase.from_model_architecture(architecture)
    cls.set_vocab = lambda self: self.gguf_writer.add_tokenizer_model("none")
    TextModel.get_vocab_base_pre = lambda self, tokenizer: "default"
    TextModel.set_vocab = cls.set_vocab
    if path.stem == "baichuan":
        # The published one calls itself for what it has renamed.
        own = cls.modify_tensors
        cls.modify_tensors = lambda self, tensor, name, bid: (
            own if "W_pack" in name else TextModel.modify_tensors)(self, tensor, name, bid)
    # It looks for tokens that were never trained.
    cls._get_suppress_tokens = lambda self: None
    if path.stem == "plamo":
        # It knows one size.
        heads, width = hparams["num_attention_heads"], hparams["hidden_size"]
        shape = (hparams["n_shared_head"], heads // hparams["n_shared_head"], width // heads)
        cls.shuffle_attn_q_weight = lambda self, rows: rows.reshape(*shape, width).permute(1, 0, 2, 3).reshape(width, width)
        cls.shuffle_attn_output_weight = lambda self, rows: rows.reshape(width, *shape).permute(0, 2, 1, 3).reshape(width, width)
    # Heads that draft tokens are left out.
    cls.no_mtp = path.stem not in DRAFTING
    model = cls(folder, gguf.LlamaFileType[kind], path)
    older = OLDER.get(path.stem, {})
    model.hparams.update({key: value for key, value in older.items() if value != ABSENT})
    model.write()


def published(name, out):
    """The file of a golden of a type whose code is published beside its weights, and the golden's numbers."""
    golden = GOLDENS / PUBLISHED[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copyfile(golden / "config.json", folder / "config.json")
        tensors = {key: tensor.contiguous() for key, tensor in formula.tensors_of(golden).items()}
        config = json.loads((folder / "config.json").read_text())
        layers, norm = SHORT.get(name, (None, None))
        if layers:
            config["num_hidden_layers"] = layers
            if "value_dim" in config:
                config["value_dim"] = config["value_dim"][:layers]
            (folder / "config.json").write_text(json.dumps(config))
            number = {key: re.search(r"\.(\d+)\.", key) for key in tensors}
            tensors = {key: tensor for key, tensor in tensors.items() if not number[key] or int(number[key][1]) < layers}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        complete(folder, name)
        convert(folder, out / f"{name}.gguf", "ALL_F32")
    stored = load_file(golden / "expected.safetensors")
    states = sorted(key for key in stored if key.startswith("0.hidden."))
    kind = {}
    if layers:
        kind = dict(hidden=True)
        rows = normed(stored[states[layers]], tensors, norm, config)
    elif name in HEADLESS:
        kind = dict(hidden=True)
        rows = stored[states[-1]]
    else:
        rows = stored.get("0.logits", stored[states[-1]])
    expected = {"ids": stored["0.input_ids"].tolist()} | kind | {"rows": [[float(f"{v:.6g}") for v in row] for row in rows.tolist()]}
    (out / f"{name}.json").write_text(json.dumps(expected) + "\n")


def normed(states, tensors, norm, config):
    """The last norm, of either kind."""
    if norm in tensors:
        squares = states.square().mean(-1, keepdim=True)
        return states * torch.rsqrt(squares + config["rms_norm_eps"]) * tensors[norm]
    epsilon = config.get("norm_eps", config.get("layer_norm_epsilon"))
    weights = tensors[f"{norm}.weight"], tensors[f"{norm}.bias"]
    return torch.nn.functional.layer_norm(states, states.shape[-1:], *weights, epsilon)


def replace(name):
    """Has the reference's class use another one's functions."""
    own, other, names = REPLACED[name]
    own, other = (importlib.import_module(f"transformers.models.{module}.modeling_{module}") for module in (own, other))
    for old, new in names.items():
        setattr(own, old, getattr(other, new))


def more(config):
    """What a decoder behind an encoder is given."""
    return dict(decoder_input_ids=torch.tensor([DECODER_IDS])) if config.is_encoder_decoder else {}


def main(out, names):
    out.mkdir(parents=True, exist_ok=True)
    for name in names or list(MODELS) + list(PUBLISHED):
        if name in PUBLISHED:
            published(name, out)
            print("wrote", name)
            continue
        if name in REPLACED:
            replace(name)
        cls, settings = MODELS[name]
        cls = getattr(transformers, cls)
        torch.manual_seed(0)
        try:
            config = cls.config_class(**settings)
            model = cls(config).eval()
            draw(model)
            model.tie_weights()
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                model = cls.from_pretrained(folder, dtype=torch.float32).eval()
                complete(Path(folder), name)
                convert(Path(folder), out / f"{name}.gguf", "MOSTLY_Q8_0" if name in BLOCKS else "MOSTLY_BF16")
            if name in BLOCKS:
                in_blocks(model)
            with torch.no_grad():
                output = model(torch.tensor([IDS]), **more(config))
            logits = getattr(output, "logits", None)
            values = output.last_hidden_state if logits is None else logits
            decoder = dict(decoder_ids=DECODER_IDS) if more(config) else {}
            kind = dict(hidden=True) if logits is None else {}
            expected = {"ids": IDS} | decoder | kind | {"rows": [[float(f"{v:.6g}") for v in row] for row in values[0].tolist()]}
            (out / f"{name}.json").write_text(json.dumps(expected) + "\n")
            print("wrote", name)
        except Exception as error:  # noqa: BLE001
            print("FAILED", name, type(error).__name__, str(error)[:300])
            traceback.print_exc()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
