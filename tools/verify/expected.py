#!/usr/bin/env python3
"""What transformers computes of a checkpoint, for `sli verify`. Needs transformers, torch and numpy, and nothing of SLI.

    python expected.py MODEL --out expected.safetensors            the sentences below
    python expected.py MODEL --out expected.json --text 'A text.' --ids 1,15043,3186 --layers 0,8,end --rows 4 --dtype bfloat16
    python expected.py MODEL --out expected.safetensors --text '<image> What is this?' --image cat.png     (each --image belongs to the --text before it)

Of every record (a text, or token ids) it writes the tokens, the hidden states of chosen layers (0 is what enters the first one, N the output of layer N,
`end` what is behind the final norm) and the logits, at the first, the last and evenly chosen tokens between (`--rows`, 0: all). With them: `model_type`, class,
type of the numbers, versions, and length and sha256 of every weight file. MODEL is a folder, or an id of the hub.

The file's end decides the form: `.json` holds everything as text; `.safetensors` the tensors, and the rest as JSON under `sli.verify` in its metadata.
A tensor is called RECORD.logits or RECORD.hidden.LAYER, where there are an encoder and a decoder RECORD.hidden.encoder.LAYER. Of a model that sees these are the
states of its decoder (RECORD.hidden.decoder.LAYER; 0 has the pictures in it), and RECORD.tensors.NAME are what its processor made of the pictures.
"""

import argparse
import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import torch
import transformers

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "In 1969, 3 astronauts flew 384,400 km to the Moon; two of them walked on it.",
    "Water boils at 100 degrees",
]
ENDS = ("safetensors", "bin", "gguf", "pt", "pth")


def weights(folder):
    """Length and hash of the weight files that transformers reads."""
    found = sorted(path for path in folder.iterdir() if path.suffix[1:] in ENDS and path.is_file())
    stored = [path for path in found if path.suffix == ".safetensors" and path.name.startswith("model")]
    facts = {}
    for path in stored or found:
        sum = hashlib.sha256()
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                sum.update(piece)
        facts[path.name] = {"bytes": path.stat().st_size, "sha256": sum.hexdigest()}
    return facts


def opened(folder, dtype):
    """The model as the class that its configuration names, else as one that gives logits, else as its base."""
    config = transformers.AutoConfig.from_pretrained(folder)
    named = next((getattr(transformers, name) for name in config.architectures or [] if hasattr(transformers, name)), None)
    model = (named or transformers.AutoModel).from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.eval()


def chosen(count, most):
    """The first, the last and evenly chosen rows between."""
    if not most or count <= most:
        return None
    return sorted({round(row) for row in np.linspace(0, count - 1, most)})


class Boundaries:
    """The states between the layers of a stack. Some classes give other ones as `hidden_states` (Mamba: none of what enters the
    first layer), so the layers themselves are watched, where they are a list of modules that each run once."""

    def __init__(self, stack):
        self.seen, self.count = [], None
        lists = [module for module in stack.modules() if isinstance(module, torch.nn.ModuleList) and len(module)]
        kinds = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")
        counts = {getattr(getattr(stack, "config", None), kind, None) for kind in kinds}
        layers = next((each for each in lists if len(each) in counts and len(set(map(type, each))) == 1), None)
        if layers is not None:
            self.count = len(layers)
            layers[0].register_forward_pre_hook(self.enter, with_kwargs=True)
            for layer in layers:
                layer.register_forward_hook(lambda module, given, output: self.seen.append(output[0] if isinstance(output, tuple) else output))

    def enter(self, module, given, named):
        self.seen.append(given[0] if given else named["hidden_states"])

    def take(self, states, asked):
        """Of one run, whose output has these `hidden_states`: what is asked for, by name."""
        seen, self.seen = self.seen, []
        if len(seen) != (self.count or 0) + 1 or not all(isinstance(state, torch.Tensor) for state in seen):
            seen = states[:-1]  # the last one is behind the norm
        last = len(seen) - 1
        found = {}
        for name in asked or ["0", str(min(1, last)), str(last // 2), str(last), "end"]:
            if name == "end":
                found[name] = states[-1][0]
            elif 0 <= int(name) <= last:
                found[f"{int(name):03}"] = seen[int(name)][0]
            else:
                raise SystemExit(f"there are layers 0 to {last} and `end`, no {name}")
        return found


class Texts(argparse.Action):
    """Texts, each with the pictures that follow it."""

    def __call__(self, parser, arguments, value, option=None):
        texts = arguments.text or []
        if option == "--text":
            texts = [*texts, (value, [])]
        elif not texts:
            parser.error("--image comes behind the --text that it belongs to")
        else:
            texts[-1][1].append(value)
        arguments.text = texts


#: What is made of a text that has no part in a record of its own: the program knows them from the tokens.
KNOWN = ("attention_mask", "mm_token_type_ids")


def records(arguments, folder):
    """The inputs: their facts, and what else the model gets of each."""
    texts = arguments.text or ([] if arguments.ids else [(text, []) for text in TEXTS])
    tokenizer = processor = None
    if any(pictures for _, pictures in texts):
        processor = transformers.AutoProcessor.from_pretrained(folder)
    if any(not pictures for _, pictures in texts):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for number, (text, pictures) in enumerate(texts):
        facts, seen = {"id": str(number), "text": text}, {}
        if pictures:
            from PIL import Image

            encoded = processor(text=text, images=[Image.open(path) for path in pictures], return_tensors="pt")
            encoded = dict(encoded)
            facts["input_ids"] = encoded.pop("input_ids")[0].tolist()
            types = encoded.pop("token_type_ids", None)
            types = None if types is None else types[0].tolist()
            seen = encoded
        else:
            encoded = tokenizer(text)
            facts["input_ids"] = list(encoded["input_ids"])
            types = encoded.get("token_type_ids")
        if any(types or []):
            facts["token_type_ids"] = list(types)
        yield facts, seen
    for number, ids in enumerate(arguments.ids or [], len(texts)):
        yield {"id": str(number), "input_ids": [int(part) for part in ids.split(",")]}, {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder, or id of the hub")
    parser.add_argument("--out", required=True, type=Path, help="file to write: .safetensors or .json")
    parser.add_argument("--text", action=Texts, help="a text; repeatable")
    parser.add_argument("--image", action=Texts, metavar="FILE", help="a picture of the text before it, which has the placeholder; repeatable")
    parser.add_argument("--ids", action="append", help="token ids with commas between; repeatable")
    parser.add_argument("--layers", type=lambda text: text.split(","), help="hidden states [default: 0, 1, the middle, the last, end]")
    parser.add_argument("--rows", type=int, default=8, help="rows of each tensor, 0: all [default: 8]")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    arguments = parser.parse_args()
    if arguments.out.suffix not in (".json", ".safetensors"):
        parser.error("--out ends in .json or .safetensors")
    if arguments.out.suffix == ".json" and any(pictures for _, pictures in arguments.text or []):
        parser.error("pictures want an --out that ends in .safetensors")
    transformers.logging.set_verbosity_error()
    folder = Path(arguments.model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(arguments.model))
    model = opened(folder, arguments.dtype)
    config = model.config
    given = list(records(arguments, folder))
    facts = {
        "format": 1,
        "model_type": config.model_type,
        "class": type(model).__name__,
        "dtype": arguments.dtype,
        "versions": {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "files": weights(folder),
        "records": [record for record, _ in given],
        "rows": {},
    }
    stacks = {"": Boundaries(model)}
    if config.is_encoder_decoder:
        stacks = {"encoder.": Boundaries(model.get_encoder()), "decoder.": Boundaries(model.get_decoder())}
    elif hasattr(config, "vision_config"):
        stacks = {"decoder.": Boundaries(model.get_decoder())}
    tensors = {}
    for record, seen in given:
        inputs = {"input_ids": torch.tensor([record["input_ids"]])}
        for name, values in seen.items():
            floats = values.is_floating_point()
            inputs[name] = values.to(model.dtype) if floats else values
            if name not in KNOWN:
                tensors[f"{record['id']}.tensors.{name}"] = (values.float() if floats else values).contiguous().numpy()
        if "token_type_ids" in record:
            inputs["token_type_ids"] = torch.tensor([record["token_type_ids"]])
        if config.is_encoder_decoder:
            start = config.decoder_start_token_id
            record["decoder_input_ids"] = [start, *record["input_ids"][: len(record["input_ids"]) // 2]]
            inputs["decoder_input_ids"] = torch.tensor([record["decoder_input_ids"]])
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
        states = dict.fromkeys(stacks, getattr(output, "hidden_states", None))
        if config.is_encoder_decoder:
            states = {"encoder.": output.encoder_hidden_states, "decoder.": output.decoder_hidden_states}
        found = {}
        for stack, boundaries in stacks.items():
            for name, values in boundaries.take(states[stack], arguments.layers).items():
                found[f"hidden.{stack}{name}"] = values
        if getattr(output, "logits", None) is not None and output.logits.dim() == 3:
            found["logits"] = output.logits[0]
        for name, values in found.items():
            name = f"{record['id']}.{name}"
            rows = chosen(len(values), arguments.rows)
            if rows is not None:
                facts["rows"][name] = rows
                values = values[rows]
            tensors[name] = values.float().contiguous().numpy()
    if arguments.out.suffix == ".json":
        plain = {name: {"shape": list(values.shape), "values": values.flatten().tolist()} for name, values in tensors.items()}
        arguments.out.write_text(json.dumps({"facts": facts, "tensors": plain}) + "\n")
    else:
        from safetensors.numpy import save_file

        save_file(tensors, arguments.out, {"sli.verify": json.dumps(facts)})
        arguments.out.chmod(0o644)
    print(f"{arguments.out}: {len(tensors)} tensors of {len(facts['records'])} records")


if __name__ == "__main__":
    main()
