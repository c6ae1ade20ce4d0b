"""Embeds the texts of a file as users of other programs do, writes the embeddings, and prints one JSON line.

    python sentences.py torch MODEL DATA.jsonl OUT.npy        sentence-transformers, batches of 32 (which it sorts by length)
    python sentences.py onnx MODEL DATA.jsonl OUT.npy         onnxruntime, the graph that `export` wrote, sorted batches of 32
    python sentences.py export MODEL GRAPH.onnx               writes the f32 graph: the encoder, its mean and the norm

Two threads each. MODEL is a sentence-transformers folder with a mean; the graph is looked for in its folder as model.onnx unless
`--graph` says otherwise.
"""

import argparse
import json
import os
import resource
import time

BEGAN = time.perf_counter()
BATCH = 32


def texts_of(path):
    with open(path) as file:
        return [json.loads(line)["text"] for line in file]


def with_torch(arguments, texts):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(arguments.threads)
    model = SentenceTransformer(arguments.model, device="cpu")
    loaded = time.perf_counter()
    return loaded, model.encode(texts, batch_size=BATCH, show_progress_bar=False)


def with_onnx(arguments, texts):
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(arguments.graph, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json"))
    tokenizer.enable_truncation(arguments.length)
    tokenizer.enable_padding()
    loaded = time.perf_counter()
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    rows = [None] * len(texts)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        encoded = tokenizer.encode_batch([texts[index] for index in chosen])
        feeds = {
            "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
        }
        for index, row in zip(chosen, session.run(None, feeds)[0]):
            rows[index] = row
    return loaded, np.stack(rows)


def export(arguments):
    import torch
    import transformers

    class Embedder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = transformers.AutoModel.from_pretrained(arguments.model, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask):
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask[..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean)

    example = (torch.ones(3, 17, dtype=torch.int64), torch.ones(3, 17, dtype=torch.int64))
    names = ["input_ids", "attention_mask"]
    axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("length", min=2, max=arguments.length)}
    torch.onnx.export(
        Embedder().eval(), example, arguments.data, input_names=names, output_names=["sentence"],
        dynamic_shapes={name: axes for name in names}, dynamo=True, external_data=False,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["torch", "onnx", "export"])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--graph")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=256)
    arguments = parser.parse_args()
    arguments.graph = arguments.graph or os.path.join(arguments.model, "model.onnx")
    if arguments.how == "export":
        return export(arguments)
    import numpy as np

    texts = texts_of(arguments.data)
    loaded, rows = (with_torch if arguments.how == "torch" else with_onnx)(arguments, texts)
    np.save(arguments.out, rows)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "system": arguments.how, "texts": len(texts), "load_seconds": round(loaded - BEGAN, 3),
        "seconds": round(time.perf_counter() - BEGAN, 3), "processor_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_mib": usage.ru_maxrss >> 10,
    }))


if __name__ == "__main__":
    main()
