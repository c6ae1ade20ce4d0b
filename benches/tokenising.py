#!/usr/bin/env python3
"""Tokens a second of processor time, one thread: `sli plan`, which reads and tokenises its input, and `tokenizers` of Python.

    python benches/tokenising.py SLI WORK TEXT...

trains two byte-level vocabularies of 16,000 tokens on the texts, with the patterns of GPT-2 and of Llama 3, in WORK. Needs `tokenizers`
and `numpy`. Time of the processor, not of the clock: other programs disturb it little.
"""

import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
import numpy as np
from tokenizers import Regex, Tokenizer, __version__, models, pre_tokenizers, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY = 16_000
PIECE, MOST, TRAINED = 4000, 12_000_000, 1500
ROUNDS = 3
SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
TENSORS = {
    "model.embed_tokens.weight": (VOCABULARY, 64), "lm_head.weight": (VOCABULARY, 64), "model.norm.weight": (64,),
    **{f"model.layers.0.self_attn.{name}_proj.weight": (64, 64) for name in "qkvo"},
    **{f"model.layers.0.mlp.{name}_proj.weight": (64, 64) for name in ("gate", "up", "down")},
    **{f"model.layers.0.{name}_layernorm.weight": (64,) for name in ("input", "post_attention")},
}


def model(folder, texts, pattern):
    tokenizer = Tokenizer(models.BPE())
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts[:TRAINED], trainer)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    config = {"model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": 8192, **SIZES}
    (folder / "config.json").write_text(json.dumps(config))
    header, data = {}, b""
    for name, shape in TENSORS.items():
        own = np.ones(shape, np.float16).tobytes()
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(own)]}
        data += own
    header = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)


def of_sli(sli, folder, take, input):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sli, "plan", folder, "--input", input, "--threads", "1", "--take", take, "--json"]
    plan = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return plan["tokens"], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def of_python(tokenizer, how, texts):
    begun, tokens = time.process_time(), 0
    for start in range(0, len(texts), 256):
        tokens += sum(len(encoding.ids) for encoding in getattr(tokenizer, how)(texts[start : start + 256]))
    return tokens, time.process_time() - begun


def main():
    sli, work, *files = sys.argv[1:]
    work = Path(work)
    texts = []
    for file in files:
        text = Path(file).read_text(errors="ignore")
        texts += [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        if sum(map(len, texts)) > MOST:
            break
    random.Random(0).shuffle(texts)
    for name, some in (("all", texts), ("one", texts[:1])):
        (work / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    print(f"{len(texts)} texts of {sum(len(text.encode()) for text in texts)} bytes; tokenizers {__version__}; best of {ROUNDS}")
    for name, pattern in (("gpt2", None), ("llama3", LLAMA3)):
        model(work / name, texts, pattern)
        tokenizer = Tokenizer.from_file(str(work / name / "tokenizer.json"))
        for take, how in (("profile", "encode_batch_fast"), ("scores", "encode_batch")):
            ours = min(of_sli(sli, work / name, take, work / "all.jsonl")[::-1] for _ in range(ROUNDS))
            own = min(of_sli(sli, work / name, take, work / "one.jsonl")[1] for _ in range(ROUNDS))
            theirs = min(of_python(tokenizer, how, texts)[::-1] for _ in range(ROUNDS))
            for what, (seconds, tokens) in ((f"sli plan --take {take}", (ours[0] - own, ours[1])), (how, theirs)):
                print(f"{name:7} {what:24} {tokens} tokens {seconds:.2f} s {tokens / seconds / 1e6:.3f} M tokens/s", flush=True)


main()
