"""Writes a Whisper model that CTranslate2 stored as a folder of transformers' form, which SLI reads.

    python tools/whisper/convert.py CTRANSLATE2_FOLDER OUT

Nothing but Python's own library is needed. The weights keep their precision (f16 or f32; int8 is refused), fused projections are
cut apart, and what the file does not say is that of Whisper's published sizes, found by the width.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

# The stored types by their numbers: safetensors' name, bytes of a value.
TYPES = {0: ("F32", 4), 4: ("F16", 2), 5: ("BF16", 2)}
# Names of a layer: CTranslate2's, transformers'.
FEED_FORWARD = {"ffn/layer_norm": "final_layer_norm", "ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}
ATTENTIONS = {"self_attention": "self_attn", "attention": "encoder_attn"}
ENDS = {
    "encoder/conv1": "encoder.conv1",
    "encoder/conv2": "encoder.conv2",
    "encoder/layer_norm": "encoder.layer_norm",
    "decoder/layer_norm": "decoder.layer_norm",
    "decoder/embeddings": "decoder.embed_tokens",
    "encoder/position_encodings/encodings": "encoder.embed_positions.weight",
    "decoder/position_encodings/encodings": "decoder.embed_positions.weight",
}
PARAMETERS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


class Reader:
    """The variables of a `model.bin`."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            sys.exit(f"model.bin ends at {len(self.data)} bytes, in the middle of a value")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form):
        return struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]

    def text(self):
        return self.take(self.number("H")).rstrip(b"\0").decode()

    def variables(self):
        version, name = self.number("I"), self.text()
        if version < 6 or name != "WhisperSpec":
            sys.exit(f"model.bin is {name} of version {version}; WhisperSpec of version 6 is read")
        self.number("I")  # the revision
        found = {}
        for _ in range(self.number("I")):
            name = self.text()
            shape = [self.number("I") for _ in range(self.number("B"))]
            kind = self.number("B")
            found[name] = (kind, shape, self.take(self.number("I")))
        return found


class Tensors:
    """Named tensors on their way into a safetensors file."""

    def __init__(self):
        self.header, self.parts, self.at = {}, [], 0

    def add(self, name, kind, shape, data):
        if kind not in TYPES:
            sys.exit(f"{name} is stored in type {kind}: f32, f16 and bf16 are read")
        dtype, width = TYPES[kind]
        count = width
        for size in shape:
            count *= size
        if count != len(data):
            sys.exit(f"{name}: {len(data)} bytes for shape {shape}")
        self.header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [self.at, self.at + len(data)]}
        self.parts.append(data)
        self.at += len(data)

    def write(self, path):
        header = json.dumps({"__metadata__": {"format": "pt"}, **self.header}).encode()
        header += b" " * (-len(header) % 8)
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(self.parts))


def add_fused(tensors, prefix, names, parameter, variable):
    """Projections that lie above each other; the keys' have no bias, so theirs must be zero."""
    kind, shape, data = variable
    rows, part = shape[0] // len(names), len(data) // len(names)
    for index, name in enumerate(names):
        own = data[index * part : (index + 1) * part]
        if name == "k_proj" and parameter == "bias":
            if any(own):
                sys.exit(f"{prefix}: the keys' projection has a bias, which Whisper's has not")
            continue
        tensors.add(f"{prefix}.{name}.{parameter}", kind, [rows, *shape[1:]], own)


def add_layer(tensors, stack, number, rest, variable):
    place, parameter = rest.rsplit("/", 1)
    prefix, parameter = f"model.{stack}.layers.{number}", PARAMETERS[parameter]
    if place in FEED_FORWARD:
        return tensors.add(f"{prefix}.{FEED_FORWARD[place]}.{parameter}", *variable)
    attention, place = place.split("/")
    own = ATTENTIONS[attention]
    if place == "layer_norm":
        return tensors.add(f"{prefix}.{own}_layer_norm.{parameter}", *variable)
    fused = [["q_proj", "k_proj", "v_proj"], ["out_proj"]]
    if own == "encoder_attn":
        fused = [["q_proj"], ["k_proj", "v_proj"], ["out_proj"]]
    add_fused(tensors, f"{prefix}.{own}", fused[int(place.removeprefix("linear_"))], parameter, variable)


def convert(variables):
    """The tensors, and the layers and heads of each stack."""
    tensors, sizes = Tensors(), {}
    for name, variable in variables.items():
        parts = name.split("/")
        if not variable[1]:  # settings
            if parts[1] == "num_heads":
                sizes[f"{parts[0]}_attention_heads"] = int.from_bytes(variable[2], "little")
        elif name in ENDS:
            tensors.add(f"model.{ENDS[name]}", *variable)
        elif "/".join(parts[:-1]) in ENDS:
            tensors.add(f"model.{ENDS['/'.join(parts[:-1])]}.{PARAMETERS[parts[-1]]}", *variable)
        else:
            number = int(parts[1].removeprefix("layer_"))
            key = f"{parts[0]}_layers"
            sizes[key] = max(sizes.get(key, 0), number + 1)
            add_layer(tensors, parts[0], number, "/".join(parts[2:]), variable)
    return tensors, sizes


def configuration(tensors, sizes):
    def shape(name):
        return tensors.header[name]["shape"]

    vocabulary, width = shape("model.decoder.embed_tokens.weight")
    english = vocabulary == 51864
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": shape("model.encoder.conv1.weight")[1],
        "encoder_ffn_dim": shape("model.encoder.layers.0.fc1.weight")[0],
        "decoder_ffn_dim": shape("model.decoder.layers.0.fc1.weight")[0],
        "max_source_positions": shape("model.encoder.embed_positions.weight")[0],
        "max_target_positions": shape("model.decoder.embed_positions.weight")[0],
        **sizes,
        "activation_function": "gelu",
        "scale_embedding": False,
        "pad_token_id": 50256 if english else 50257,
        "bos_token_id": 50256 if english else 50257,
        "eos_token_id": 50256 if english else 50257,
        "decoder_start_token_id": 50257 if english else 50258,
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[tensors.header["model.decoder.embed_tokens.weight"]["dtype"]],
    }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = map(Path, sys.argv[1:])
    tensors, sizes = convert(Reader((source / "model.bin").read_bytes()).variables())
    target.mkdir(parents=True, exist_ok=True)
    tensors.write(target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(configuration(tensors, sizes), indent=1) + "\n")
    shutil.copy(source / "tokenizer.json", target / "tokenizer.json")
    (target / "tokenizer_config.json").write_text('{"tokenizer_class": "WhisperTokenizer"}\n')


if __name__ == "__main__":
    main()
