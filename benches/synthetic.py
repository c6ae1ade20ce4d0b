"""Writes a checkpoint of random bf16 weights for a configuration, and datasets of random token ids.

    python benches/synthetic.py CONFIG.json FOLDER [RECORDSxTOKENS]...

The reference's class of the configuration saves it: norms' weights are 1, others are from a normal distribution of the width 0.02. The
same arguments give the same bytes.
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
        model = getattr(transformers, settings["architectures"][0])(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    torch.manual_seed(0)
    for name, values in model.state_dict().items():
        values.fill_(1.0) if "norm" in name else values.normal_(0.0, 0.02)
    model.save_pretrained(folder, max_shard_size="1TB")
    (folder / "config.json").write_text(source.read_text())
    for dataset in sys.argv[3:]:
        records, tokens = map(int, dataset.split("x"))
        lines = (json.dumps({"input_ids": row.tolist()}) for row in torch.randint(0, config.vocab_size, (records, tokens)))
        (folder / f"{dataset}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
