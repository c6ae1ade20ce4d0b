"""Writes crates/sli/tests/tokenizers/numbered/: small SentencePiece models with their vocab.json, and what the reference makes of texts.

Run with transformers 5.23.0 and sentencepiece: python tools/tokenizers/numbered.py [FOLDER] [NORMALISATION]

The models are trained on the embedded model's passages with the normalisation `identity`, which is small; with `nmt_nfkc` and another
folder the same cases are those of published models (SLI_NUMBERED=FOLDER for the test).
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import sentencepiece

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "hello world", "", "   ", " The memory  budget decides,   how fast it runs! ", "naïve CAFÉ 日本語 😀 e\u0301 \ufb01 ы äß", "ыы щ",
    "a</s> b<pad> c <unk>d", "</s>", ">>fr<< What is read", ">>de<<weights", "<s>x", "tab\tand\nline", "__de__ weights __fr__", "1,234.5 ½ ①",
    "\u00a0nbsp\u3000wide", "x" * 60, "the record " * 40,
]
LANGUAGES = [">>fr<<", ">>de<<"]
CASES = [
    *(("MarianTokenizer", settings) for settings in ({}, {"source_lang": "en", "add_eos_token": False}, {"eos_token": "</s>", "pad_token": "<pad>"},
        {"additional_special_tokens": ["<s>", ">>fr<<", "weights"]})),
    *(("M2M100Tokenizer", settings) for settings in ({"tgt_lang": "de"}, {"src_lang": "fr", "tgt_lang": "en"}, {"language_codes": "wmt21", "tgt_lang": "de"},
        {"tgt_lang": "de", "additional_special_tokens": ["__fr__", "__de__"]}, {"tgt_lang": "de", "add_bos_token": True})),
]


def train(folder, name, texts, kind, normalisation):
    prefix = folder / name
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(prefix), vocab_size=240, model_type=kind, character_coverage=0.99,
        normalization_rule_name=normalisation, minloglevel=2,
    )
    Path(f"{prefix}.vocab").unlink()
    return Path(f"{prefix}.model")


def pieces_of(model):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "crates/sli/tests/tokenizers/numbered"
    normalisation = sys.argv[2] if len(sys.argv) > 2 else "identity"
    folder.mkdir(parents=True, exist_ok=True)
    lines = (ROOT / "models/embedded/sample.jsonl").read_text().splitlines()
    texts = [sentence for line in lines for sentence in json.loads(line)["text"].split(". ") if sentence.strip()]
    said = [text.replace("th", "ß").replace("e", "ä").replace("a", "ы") for text in texts]
    source = train(folder, "source", texts, "unigram", normalisation).rename(folder / "source.spm")
    target = train(folder, "target", said, "unigram", normalisation).rename(folder / "target.spm")
    merged = train(folder, "merged", texts, "bpe", normalisation).rename(folder / "sentencepiece.bpe.model")
    # A vocabulary in another order, which lacks some pieces and has those of both sides.
    both = [piece for piece in dict.fromkeys([*pieces_of(target), *pieces_of(source)]) if piece not in ("<s>", "</s>", "<unk>")]
    both = [piece for index, piece in enumerate(both) if index % 17]
    vocabulary = ["</s>", "<unk>", *sorted(both), *LANGUAGES, "<pad>"]
    (folder / "marian.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}) + "\n")
    own = [piece for piece in pieces_of(merged) if piece not in ("<s>", "</s>", "<unk>")]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *own[::-1][5:]]
    (folder / "m2m.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}) + "\n")

    from transformers import AutoTokenizer

    cases = []
    for name, settings in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            for file in folder.iterdir():
                shutil.copy(file, temporary)
            vocabulary = "marian.json" if name == "MarianTokenizer" else "m2m.json"
            shutil.copy(folder / vocabulary, Path(temporary) / "vocab.json")
            (Path(temporary) / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **settings}))
            tokenizer = AutoTokenizer.from_pretrained(temporary)
            assert type(tokenizer).__name__ == name
            read = [tokenizer(text).input_ids for text in TEXTS]
            labels = [tokenizer(text_target=text).input_ids for text in TEXTS]
        cases.append({"class": name, "vocabulary": vocabulary, "settings": settings, "read": read, "said": labels})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (folder / "cases.json").write_text(f'{{"texts": {json.dumps(TEXTS)}, "cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases")


main()
