"""Tokenizers in GGUF files against those that they were made of, on odd texts.

    LLAMA_CPP=... python tools/formats/gguf_tokenizers.py SLI OUT [--pieces tokenizer.model] [--tekken tekken.json] [--words vocab.txt]

Each file is a tiny Llama with the tokenizer stored by the rules of llama.cpp's converter; the token ids are those of the
program's scores. `--pieces` is a SentencePiece model that merges, `--tekken` a file of mistral-common, `--words` a vocabulary
of BERT's. A unigram model and merges of pieces are trained here.
"""

import argparse
import base64
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import sentencepiece
import tiktoken
import tokenizers
import transformers

sys.path.insert(0, os.environ["LLAMA_CPP"] + "/gguf-py")
import gguf  # noqa: E402
from sentencepiece import sentencepiece_model_pb2 as protobuf  # noqa: E402

PARTS = ["Hello", "world", "'s", "'S", "'re", "DON'T", "don\u2019t", "123", "1234567", "12,345.67", "  ", "   ", "\n", "\r\n",
         "\n\n", "\t", "\u00e9", "\u00c9", "na\u00efve", "\u041f\u0420\u0418\u0412\u0415\u0422", "\u043f\u0440\u0438\u0432\u0435\u0442",
         "\u4f60\u597d\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f", "\u30ab\u30bf\u30ab\u30ca", "\ud55c\uad6d\uc5b4",
         "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\U0001f44d\U0001f3fd",
         "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\u0301", "\u00a0", "\u3000", "!?", "...", "//", "x_y", "CamelCaseWord", "_",
         "$", "\u20ac", "\u00b2", "\u2167", "\u0663\u0664", "\u2026", "\u201cq\u201d", "a/b\n", "#!", "\x07", "\u200d", "\ufb01", "\u00df",
         "\u0130", " the", " The", " 12", "\u2581", "<s>", "</s>", "[SEP]", "\ufffd", "\U00012345"]
HIDDEN = 8


def texts(count=int(os.environ.get("COUNT", 2000))):
    random_of = random.Random(5)
    return ["".join(random_of.choice(PARTS) for _ in range(random_of.randint(1, 12))) for _ in range(count)] + ["a", " ", "  a  "]


def write(path, model, tokens, kinds, scores=None, merges=None, **more):
    """A model of no layers' worth of numbers with this tokenizer."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for key, value in more.items():
        getattr(writer, f"add_{key}")(value)
    noise = np.random.default_rng(0).normal(size=(len(tokens), HIDDEN)).astype(np.float16)
    writer.add_tensor("token_embd.weight", noise)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]:
        writer.add_tensor(f"blk.0.{name}.weight", np.eye(HIDDEN, dtype=np.float16))
    for name in ["attn_norm", "ffn_norm"]:
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def of_model(proto):
    kinds = [piece.type for piece in proto.pieces]
    return [piece.piece for piece in proto.pieces], kinds, [piece.score for piece in proto.pieces]


def pieces(path, file):
    proto = protobuf.ModelProto()
    proto.ParseFromString(Path(file).read_bytes())
    tokens, kinds, scores = of_model(proto)
    write(path, "llama", tokens, kinds, scores, bos_token_id=1, eos_token_id=2, unk_token_id=0, add_bos_token=True,
          add_eos_token=False)
    return published(path.with_suffix(""), file, "LlamaTokenizer", dict(add_bos_token=True, bos_token="<s>", eos_token="</s>",
                                                                        unk_token="<unk>"))


def published(folder, file, kind, settings):
    """What the reference makes of a SentencePiece model."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, folder / "tokenizer.model")
    shutil.copyfile(file, folder / "spiece.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind} | settings))
    tokenizer = getattr(transformers, kind).from_pretrained(folder)
    return lambda text: tokenizer(text)["input_ids"]


def unigram(path, out):
    corpus = out / "corpus.txt"
    corpus.write_text("\n".join(texts(4000)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(out / "unigram"), vocab_size=500,
                                             model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    proto = protobuf.ModelProto()
    proto.ParseFromString((out / "unigram.model").read_bytes())
    tokens, kinds, scores = of_model(proto)
    write(path, "t5", tokens, kinds, scores, eos_token_id=1, unk_token_id=2, pad_token_id=0, add_bos_token=False, add_eos_token=True,
          precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap, add_space_prefix=True, remove_extra_whitespaces=True)
    return published(path.with_suffix(""), out / "unigram.model", "T5Tokenizer", dict(extra_ids=0))


def tekken(path, file):
    stored = json.loads(Path(file).read_text())
    settings = stored["config"]
    special = settings["default_num_special_tokens"]
    count = settings["default_vocab_size"] - special
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in stored["vocab"][:count]}
    spelled = bytes_spelled()
    names = ["".join(spelled[byte] for byte in token) for token in ranks]
    merges = []
    for token, rank in ranks.items():
        halves = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [(ranks[a], ranks[b], a, b) for a, b in halves if a in ranks and b in ranks]
        for _, _, a, b in sorted(known):
            merges.append((rank, *("".join(spelled[byte] for byte in part) for part in (a, b))))
    merges = [f"{a} {b}" for _, a, b in sorted(merges, key=lambda merge: merge[0])]
    controls = [f"<SPECIAL_{at}>" for at in range(special)]
    controls[:3] = ["<unk>", "<s>", "</s>"]
    write(path, "gpt2", controls + names, [3] * special + [1] * count, merges=merges, tokenizer_pre="tekken", bos_token_id=1,
          eos_token_id=2, add_bos_token=True)
    encoding = tiktoken.Encoding("tekken", pat_str=settings["pattern"], mergeable_ranks=ranks, special_tokens={})

    def encode(text):
        ids, rest = [1], text
        while rest:
            found = [(rest.find(name), at) for at, name in enumerate(controls[:3]) if name in rest]
            place, at = min(found) if found else (len(rest), None)
            ids += [special + id_ for id_ in encoding.encode(rest[:place])]
            if at is None:
                break
            ids.append(at)
            rest = rest[place + len(controls[at]):]
        return ids

    return encode


def bytes_spelled():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def words(path, file):
    vocabulary = Path(file).read_text(encoding="utf-8").split("\n")
    vocabulary = vocabulary[:-1] if vocabulary[-1] == "" else vocabulary

    def stored(token):
        if token.startswith("[") and token.endswith("]"):
            return token
        return token[2:] if token.startswith("##") else "\u2581" + token

    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    kinds = [3 if token in special else 1 for token in vocabulary]
    at = vocabulary.index
    write(path, "bert", [stored(token) for token in vocabulary], kinds, sep_token_id=at("[SEP]"),
          unk_token_id=at("[UNK]"), pad_token_id=at("[PAD]"), mask_token_id=at("[MASK]"), bos_token_id=at("[CLS]"))
    tokenizer = transformers.BertTokenizer(vocab={token: id_ for id_, token in enumerate(vocabulary)}, do_lower_case=True)
    return lambda text: tokenizer(text)["input_ids"]


def merged_pieces(path):
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=900, special_tokens=special + bytes_, show_progress=False)
    trained.train_from_iterator(texts(4000)[::3], trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    kinds = [3, 3, 3, 2, 4] + [6] * 256 + [1] * (len(tokens) - 261)
    # A space within a merge would be two.
    merges = [merge for merge in merges if not any(" " in part or "\n" in part for part in merge)]
    write(path, "gemma4", tokens, kinds, [0.0] * len(tokens), [" ".join(merge) for merge in merges], bos_token_id=2, eos_token_id=1,
          unk_token_id=3, pad_token_id=0, mask_token_id=4, add_bos_token=True, add_space_prefix=False)
    tokenizer = transformers.GemmaTokenizer(vocab=model["vocab"], merges=merges)
    # The class made of a vocabulary alone does not add it.
    return lambda text: [2] + tokenizer(text)["input_ids"]


def compare(sli, out, name, encode):
    lines = out / "in.jsonl"
    all_texts = texts()
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in all_texts))
    folder = out / f"{name}-scores"
    run = [sli, "run", out / f"{name}.gguf", "--input", lines, "--out", folder, "--take", "scores", "--fresh"]
    done = subprocess.run(run, capture_output=True, text=True)
    if done.returncode:
        print(name, "FAILED", done.stderr[-600:])
        return
    table = parquet.read_table(folder / "scores.parquet").to_pylist()
    found = {row["row"]: row["token_ids"] for row in table}
    wrong = [(text, found.get(at), encode(text)) for at, text in enumerate(all_texts) if found.get(at) != encode(text)]
    print(f"{name}: {len(all_texts)} texts, {len(wrong)} differ")
    for text, ours, theirs in sorted(wrong, key=lambda one: len(one[0]))[:4]:
        print("  ", repr(text), ours, theirs)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("sli")
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--pieces")
    arguments.add_argument("--tekken")
    arguments.add_argument("--words")
    options = arguments.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    files = {"unigram": lambda path: unigram(path, out), "gemma4": merged_pieces}
    for name, make, file in [("pieces", pieces, options.pieces), ("tekken", tekken, options.tekken),
                             ("words", words, options.words)]:
        if file:
            files[name] = lambda path, make=make, file=file: make(path, file)
    only = os.environ.get("ONLY", "")
    for name, make in files.items():
        if only not in name:
            continue
        compare(options.sli, out, name, make(out / f"{name}.gguf"))


if __name__ == "__main__":
    main()
