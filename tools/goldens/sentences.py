"""Writes the reference's embeddings of a few sentences: crates/sli/tests/sentences/embeddings.jsonl.

    python sentences.py MODEL           the folder of all-MiniLM-L6-v2

Mean of the last hidden state over all tokens, then L2-normalised, as the model's own modules.json says. Each sentence runs alone, without padding.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

FOLDER = Path(__file__).resolve().parent.parent.parent / "crates/sli/tests/sentences"

torch.set_num_threads(1)
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
model = transformers.AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager").eval()
with open(FOLDER / "embeddings.jsonl", "w") as out:
    for line in (FOLDER / "sentences.jsonl").read_text().splitlines():
        record = json.loads(line)
        inputs = tokenizer(record["text"], return_tensors="pt")
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(0)
        values = [round(value, 7) for value in torch.nn.functional.normalize(mean, dim=0).tolist()]
        out.write(json.dumps({"id": record["id"], "tokens": inputs["input_ids"].shape[1], "embedding": values}) + "\n")
