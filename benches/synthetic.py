"""Writes a checkpoint of random bf16 weights for a configuration, and datasets of random token ids, as the reference names and shapes them.

    python benches/synthetic.py CONFIG.json FOLDER [RECORDSxTOKENS]...

What `examples/synthetic-checkpoint` does for types whose tensors are stored as they are used, this does for all that transformers has: a
class is made without memory for its weights, and its tensors are filled one by one: norms' weights with 1, others from a normal
distribution of the width 0.02. The same arguments give the same bytes.
"""

import json
import sys
from pathlib import Path

import torch
import transformers


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    source, folder = map(Path, sys.argv[1:3])
    settings = json.loads(source.read_text())
    config = transformers.AutoConfig.for_model(**settings)
    with torch.device("meta"):
        model = getattr(transformers, settings["architectures"][0])(config)
    tied = set(model.all_tied_weights_keys)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(source.read_text())
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = torch.empty(shape, dtype=torch.bfloat16)
            values.fill_(1.0) if "norm" in name else values.normal_(0.0, 0.02, generator=generator)
            file.write(values.view(torch.uint8).numpy().tobytes())
    for dataset in sys.argv[3:]:
        records, tokens = map(int, dataset.split("x"))
        ids = torch.randint(0, config.vocab_size, (records, tokens), generator=generator)
        lines = (json.dumps({"input_ids": row.tolist()}) for row in ids)
        (folder / f"{dataset}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
