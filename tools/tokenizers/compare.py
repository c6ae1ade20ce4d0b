"""Compares the tokens of SLI with those of AutoTokenizer, over toy tokenizers of every class of the reference.

Run with transformers 5.23.0, sentencepiece and tiktoken, from the root of the repository:

    cargo build -p sli --example tokens
    python tools/tokenizers/compare.py                 # all, 12 draws each
    python tools/tokenizers/compare.py --draws 50 --seed 7 Llama GPT2

A toy tokenizer is a small trained vocabulary in one of the layouts that published folders have: a
`tokenizer.json` (own, or of another class), `vocab.txt`, `vocab.json` with `merges.txt`, a SentencePiece
model, ranks of bytes. Each draw adds a `tokenizer_config.json` whose settings contradict the file, older files
beside it, and a `config.json`. What the reference refuses must be refused, the rest must have equal ids.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

warnings.filterwarnings("ignore")
# Else tiktoken remembers files by their paths.
os.environ["TIKTOKEN_CACHE_DIR"] = ""
ROOT = Path(__file__).parents[2]
CLASSES = json.loads((ROOT / "crates/sli/src/tokenizer/classes.json").read_text())
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and 12 other animals watch it happen.",
    "Sequential layer ingestion reads every weight once; the memory budget decides how fast it runs.",
    "naïve café größer straße 日本語 2024 100,000.5 it's they're I'll HELLO World",
    "hello world hello there, don't stop. Ünïcode ﬁne ½ cups",
] * 6
TEXTS = [
    "",
    " ",
    "the dog",
    "The  QUICK   brown\tfox\n\njumps. ",
    "  naïve CAFÉ größer 日本語 😀 \u200b",
    "It's 12,345.678 o'clock isn't it",
    "hello</s>world <s> the </s> [CLS] dog [SEP] <|im_start|>x<|im_end|> <extra> <tool> <mask> [MASK]x",
    "e\u0301 \ufb01 \u00bd a\u00a0b\u3000c Ａ\u0000z",
    "👩\u200d👩\u200d👧 ok ``quoted'' text",
    " hello world",
    "line one\nline two\r\n\r\n  three",
    "▁the ▁ dog",
    "supercalifragilisticexpialidocious " * 2,
    "<|endoftext|>the<pad> <unk> [UNK] </s> tail<eop>",
]
SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "gpt2": ["<|endoftext|>"],
    "llama": ["<unk>", "<s>", "</s>"],
    "gemma": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
    "t5": ["<pad>", "</s>", "<unk>"],
    "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
    "big": ["<unk>", "<s>", "</s>", "<pad>", "[SEP]", "[MASK]", "[CLS]", "<mask_1>", "<mask_2>", "<sep>", "<cls>", "<mask>"],
}


def wordpiece(special):
    tokenizer = Tokenizer(models.WordPiece(unk_token=special[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=190, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS + [line.lower() for line in CORPUS], trainer)
    ids = [(t, tokenizer.token_to_id(t)) for t in special]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[2]} $A {special[3]}",
        pair=f"{special[2]} $A {special[3]} $B:1 {special[3]}:1",
        special_tokens=[ids[2], ids[3]],
    )
    return tokenizer


def byte_level(special, post=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if post:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{post} $A {post}", special_tokens=[(post, tokenizer.token_to_id(post))]
        )
    return tokenizer


def words_bpe(special):
    tokenizer = Tokenizer(models.BPE(unk_token=special[-1], end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def pieces_bpe(special, bytes_=True):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=bytes_, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)] if bytes_ else []
    trainer = trainers.BpeTrainer(vocab_size=430, special_tokens=[*special, *fallback], show_progress=False)
    tokenizer.train_from_iterator([word for line in CORPUS for word in line.split()], trainer)
    kept = json.loads(tokenizer.to_str())
    kept["added_tokens"] = kept["added_tokens"][: len(special)]
    tokenizer = Tokenizer.from_str(json.dumps(kept))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram(special, charsmap=None):
    unk = "<unk>" if "<unk>" in special else "[UNK]"
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.Precompiled(charsmap)] if charsmap else [normalizers.NFKC()]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=230, special_tokens=special, unk_token=unk, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_model(folder, kind, special, **options):
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(CORPUS))
    if "normalization_rule_name" not in options:
        # A small map of characters in place of the usual one of 240 kB.
        rules = folder / "rules.tsv"
        rules.write_text("FF21\t41\nFB01\t66 69\nA0\t20\n3000\t20\nE9\t65 301\n2C7\t\n")
        options["normalization_rule_tsv"] = str(rules)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / kind), model_type=kind, vocab_size=options.pop("vocab_size", 150),
        user_defined_symbols=[s for s in special if s not in ("<unk>", "<s>", "</s>", "<pad>")], hard_vocab_limit=False,
        minloglevel=2, **options,
    )
    return (folder / f"{kind}.model").read_bytes()


def ranks():
    """Bytes and pairs of bytes, as tiktoken writes them."""
    import base64

    entries = [bytes([byte]) for byte in range(256)]
    for line in CORPUS[:4]:
        raw = line.encode()
        for size in (2, 3, 4):
            entries += [raw[at : at + size] for at in range(len(raw) - size)]
    entries = list(dict.fromkeys(entries))[:900]
    return b"".join(base64.b64encode(entry) + b" %d\n" % rank for rank, entry in enumerate(entries))


class Toys:
    """Vocabularies, made once."""

    def __init__(self, folder):
        self.made = {}
        spm = sentencepiece_model(folder, "unigram", ["<special>"])
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(spm)
        self.charsmap = proto.normalizer_spec.precompiled_charsmap
        big = SPECIAL["big"]
        self.files = {
            "spm-unigram": spm,
            "spm-bpe": sentencepiece_model(folder, "bpe", ["<special>"], byte_fallback=True, vocab_size=420),
            "spm-plain": sentencepiece_model(
                folder, "bpe", [], normalization_rule_name="identity", control_symbols=["<ctl>"], vocab_size=160
            ),
            "spm-special": sentencepiece_model(
                folder, "unigram", big, pad_id=3, unk_id=2, bos_id=0, eos_id=1, vocab_size=170
            ),
            "ranks": ranks(),
        }
        self.tokenizers = {
            "wordpiece": wordpiece(SPECIAL["bert"]),
            "wordpiece-mpnet": wordpiece(["<pad>", "[UNK]", "<s>", "</s>", "<mask>"]),
            "wordpiece-funnel": wordpiece(["<pad>", "<unk>", "<cls>", "<sep>", "<mask>"]),
            "bytes": byte_level(SPECIAL["gpt2"]),
            "bytes-post": byte_level(["<s>", "</s>", "<|endoftext|>"], post="<|endoftext|>"),
            "bytes-roberta": byte_level(SPECIAL["roberta"], post="</s>"),
            "bytes-bert": byte_level(SPECIAL["bert"]),
            "words": words_bpe(["<s>", "<pad>", "</s>", "<|startoftext|>", "<|endoftext|>", "<mask>", "<unk>"]),
            "pieces": pieces_bpe(SPECIAL["llama"]),
            "pieces-gemma": pieces_bpe([*SPECIAL["gemma"], "<s>"]),
            "pieces-nobytes": pieces_bpe([*SPECIAL["llama"], "<pad>", "<mask>"], False),
            "unigram": unigram(SPECIAL["t5"]),
            "unigram-map": unigram([*SPECIAL["roberta"], "[CLS]", "[SEP]"], self.charsmap),
            "unigram-albert": unigram(SPECIAL["albert"]),
            "unigram-big": unigram(SPECIAL["big"]),
            "unigram-bert": unigram(SPECIAL["bert"]),
        }


BYTES = ["bytes", "bytes-post", "bytes-roberta", "bytes-bert"]
PIECES = ["pieces", "pieces-gemma", "pieces-nobytes"]
UNIGRAM = ["unigram", "unigram-map", "unigram-albert", "unigram-big", "unigram-bert"]
WORDPIECE = ["wordpiece", "wordpiece-mpnet", "wordpiece-funnel"]


def layouts(name, found):
    """The vocabularies that suit a class: names of toys, and files without a tokenizer.json."""
    kind = getattr(found.model, "__name__", None)
    files = found.vocab_files_names
    vocab = files.get("vocab_file")
    toys = {"BPE": BYTES + PIECES + ["words"], "Unigram": UNIGRAM, "WordPiece": WORDPIECE}.get(kind, UNIGRAM)
    if CLASSES["kinds"].get(found.__name__) == "file":
        toys = BYTES + PIECES + UNIGRAM + WORDPIECE + ["words"]
    elif kind == "BPE":
        toys = toys + ["unigram"]
    elif kind == "Unigram":
        toys = toys + ["pieces"]
    alone = []
    if vocab == "vocab.txt":
        alone = [("txt", toy) for toy in WORDPIECE]
    elif vocab == "vocab.json":
        alone = [("json", toy) for toy in BYTES + PIECES + ["words"]]
    models_ = ["spm-unigram", "spm-bpe", "spm-plain", "spm-special", "ranks"]
    if vocab and vocab.endswith(".model"):
        alone += [(vocab, file) for file in models_]
    alone += [("tokenizer.model", random.choice(models_)), ("tiktoken.model", "ranks")]
    return [("file", toy) for toy in toys] * 2 + alone


FLAGS = {
    "do_lower_case": [True, False],
    "strip_accents": [True, False, None],
    "tokenize_chinese_chars": [True, False],
    "add_prefix_space": [True, False, None],
    "trim_offsets": [True, False],
    "legacy": [True, False, None],
    "keep_accents": [True, False],
    "split_by_punct": [True, False],
    "clean_text": [True, False],
    "unk_id": [0, 1, 2],
    "extra_ids": [0, 3, 100],
    "offset": [5, 103],
    "add_bos_token": [True, False, None],
    "add_eos_token": [True, False],
    "split_special_tokens": [True, False],
    "src_lang": ["en_XX", "de_DE", "eng_Latn", None],
    "tgt_lang": ["eng", "fra", "__deu__"],
    "legacy_behaviour": [True, False],
    "use_default_system_prompt": [True, False],
    "clean_up_tokenization_spaces": [True, False],
    "mask_token_sent": ["<mask_1>", None],
    "model_max_length": [float("inf"), float("nan"), 1000000000000000019884624838656, 512],
    "padding_side": ["left", "right"],
}
TOKENS = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<|endoftext|>", "<|im_end|>", "<tool>"]
NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]


def fields(rng, content, special=None):
    token = {"content": content, "lstrip": rng.random() < 0.2, "rstrip": rng.random() < 0.2,
             "single_word": rng.random() < 0.1, "normalized": rng.random() < 0.4}
    if special is not None:
        token["special"] = special
    return token


def draw(rng, found, plain):
    """A tokenizer_config.json, and what is beside it."""
    config, beside = {}, {}
    for key, values in FLAGS.items():
        if rng.random() < 0.25:
            config[key] = rng.choice(values)
    if plain:
        config = {key: value for key, value in config.items() if rng.random() < 0.4}
    for name in NAMES:
        if rng.random() < (0.05 if plain else 0.2):
            content = rng.choice(TOKENS)
            config[name] = rng.choice([content, content, {"__type": "AddedToken", **fields(rng, content)}, None])
    if rng.random() < 0.2:
        config["image_token"] = rng.choice(["<image>", "<tool>"])
    extra = rng.random()
    if extra < 0.15:
        config["additional_special_tokens"] = ["<|im_start|>", "<|im_end|>"]
    elif extra < 0.3:
        config["extra_special_tokens"] = rng.choice([["<extra>", "<tool>"], {"tool_token": "<tool>"}, [], {}])
    elif extra < 0.35:
        config["extra_special_tokens"] = ["<extra>"]
        config["additional_special_tokens"] = ["<|im_start|>"]
    if rng.random() < 0.3:
        ids = rng.sample(range(0, 600), 3)
        config["added_tokens_decoder"] = {
            str(id_): fields(rng, content, rng.random() < 0.5)
            for id_, content in zip(ids, rng.sample(["<extra>", "<tool>", "dog", "<s>", "[CLS]", "</s>", "over the"], 3))
        }
    if rng.random() < 0.2:
        beside["special_tokens_map.json"] = {
            name: rng.choice([content := rng.choice(TOKENS), fields(rng, content)]) for name in rng.sample(NAMES, 2)
        }
        if rng.random() < 0.4:
            key = rng.choice(["additional_special_tokens", "extra_special_tokens"])
            beside["special_tokens_map.json"][key] = ["<tool>", "<|im_start|>"]
    if rng.random() < 0.2:
        beside["added_tokens.json"] = {"<tool>": 500, "<extra>": 501, rng.choice(TOKENS): 502}
    return config, beside


def write(folder, toys, layout, toy, name, config, beside, model_config):
    folder.mkdir(parents=True)
    if layout == "file":
        toys.tokenizers[toy].save(str(folder / "tokenizer.json"))
    elif layout == "txt":
        vocab = toys.tokenizers[toy].get_vocab()
        (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)) + "\n")
    elif layout == "json":
        model = json.loads(toys.tokenizers[toy].to_str())["model"]
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        lines = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    else:
        (folder / layout).write_bytes(toys.files[toy])
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for file, content in beside.items():
        (folder / file).write_text(json.dumps(content))
    if model_config is not None:
        (folder / "config.json").write_text(json.dumps(model_config))


def reference(folder):
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return {"class": type(tokenizer).__name__, "ids": [tokenizer(text)["input_ids"] for text in TEXTS]}
    except BaseException as error:  # a panic of the library is none of Python's exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"error": f"{type(error).__name__}: {error}"[:200].replace("\n", " ")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="parts of class names")
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where folders that differ are kept")
    arguments = parser.parse_args()
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
    from transformers.utils import logging

    logging.set_verbosity_error()
    program = subprocess.Popen(
        [ROOT / "target/debug/examples/tokens"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    names = [name for name, kind in CLASSES["kinds"].items() if kind != "python" and not name.endswith("Fast")]
    names = [name for name in names if not arguments.names or any(part in name for part in arguments.names)]
    types = [None, "llama", "gpt2", "bert", "qwen2", "qwen3", "mistral", "phi3", "gemma", "roberta", "t5", "gpt_neox"]
    equal = refused = strict = wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        toys = Toys(temporary)
        for name in names:
            found = tokenizer_class_from_name(name)
            for draw_ in range(arguments.draws):
                rng = random.Random(f"{arguments.seed} {name} {draw_}")
                random.seed(draw_)
                options = layouts(name, found)
                layout, toy = options[draw_ % len(options)] if draw_ < len(options) else rng.choice(options)
                config, beside = draw(rng, found, plain=draw_ % 2 == 0)
                model_type = rng.choice(types) if rng.random() < 0.4 else None
                model_config = {"model_type": model_type} if model_type else None
                if rng.random() < 0.9:
                    config["tokenizer_class"] = name + rng.choice(["", "", "Fast"])
                folder = temporary / f"{name}-{draw_}"
                write(folder, toys, layout, toy, name, config, beside, model_config)
                expected = reference(folder)
                program.stdin.write(json.dumps({"folder": str(folder), "texts": TEXTS}) + "\n")
                program.stdin.flush()
                given = json.loads(program.stdout.readline())
                if "error" in expected and "error" in given:
                    refused += 1
                elif "ids" in expected and "ids" in given and expected["ids"] == given["ids"]:
                    equal += 1
                elif "ids" in expected and any(
                    # Without a vocabulary the reference makes one of the special tokens alone.
                    words in given.get("error", "") for words in ("not supported", "no tokenizer.json")
                ):
                    strict += 1
                else:
                    wrong += 1
                    print(f"{name} {draw_} {layout} {toy} {model_config} {json.dumps(config)} {json.dumps(beside)}")
                    if "ids" in expected and "ids" in given:
                        for text, want, have in zip(TEXTS, expected["ids"], given["ids"]):
                            if want != have:
                                print(f"   {text!r}: {expected['class']} {want}, SLI {have}")
                                break
                    else:
                        print(f"   reference {str(expected)[:300]}, SLI {str(given)[:300]}")
                    if arguments.keep:
                        shutil.copytree(folder, arguments.keep / folder.name, dirs_exist_ok=True)
                shutil.rmtree(folder)
    program.stdin.close()
    print(f"equal {equal}, refused by both {refused}, not supported {strict}, wrong {wrong}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
