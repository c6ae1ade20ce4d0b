"""Writes a checkpoint of random bf16 weights for a configuration, and datasets of random token ids.

    python benches/synthetic.py CONFIG.json FOLDER [RECORDSxTOKENS]...

Each record of a model that sees has a picture besides, in front of its tokens: pixels as a processor makes them, in a file of tensors.

The reference's class of the configuration saves it: norms' weights are 1, others are from a normal distribution of the width 0.02. The
same arguments give the same bytes.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    source, folder = map(Path, sys.argv[1:3])
    settings = json.loads(source.read_text())
    config = transformers.AutoConfig.for_model(**settings)
    with torch.device("meta"):
        model = getattr(transformers, settings["architectures"][0])(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    torch.manual_seed(0)
    for name, values in model.state_dict().items():
        values.fill_(1.0) if "norm" in name else values.normal_(0.0, 0.02)
    model.save_pretrained(folder, max_shard_size="1TB")
    (folder / "config.json").write_text(source.read_text())
    words = config.get_text_config().vocab_size
    seen = getattr(config, "vision_config", None)
    for dataset in sys.argv[3:]:
        records, tokens = map(int, dataset.split("x"))
        rows = torch.randint(0, words if seen is None else config.image_token_id, (records, tokens)).tolist()
        lines = [{"input_ids": row} for row in rows]
        if seen is not None:
            shape = (1, seen.num_channels, seen.image_size, seen.image_size)
            save_file({f"{record}.pixel_values": torch.randn(shape) for record in range(records)}, folder / f"{dataset}.safetensors")
            pictures = [config.image_token_id] * config.image_seq_length
            lines = [
                {"input_ids": pictures + row, "tensors": f"{dataset}.safetensors", "tensor_prefix": f"{record}."}
                for record, row in enumerate(rows)
            ]
        (folder / f"{dataset}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
