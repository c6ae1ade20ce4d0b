"""Writes the held-out sample of the embedded model and the reference scores of its saved checkpoint.

    python evaluate.py --work WORK --model ../../models/embedded

`sample.jsonl`: passages of 60 to 300 tokens from the chapters that training never saw. `sample-shuffled.jsonl`: the same words, shuffled.
`expected-scores.json`: transformers on the CPU, float32 arithmetic on the bf16 weights as stored, one passage at a time. A passage is BOS and its
tokens; its score is the sum of log p(token | tokens before) over all tokens but BOS, its perplexity exp(-score / number of those).
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SHORTEST, LONGEST, PASSAGES, SEED = 60, 300, 50, 7


def passages(tokenizer, pages):
    """Runs of whole paragraphs with SHORTEST to LONGEST tokens, PASSAGES of them spread evenly over the pages."""
    found, target = [], random.Random(SEED)
    for page, paragraphs in pages:
        run, wanted = [], target.randint(SHORTEST + 20, LONGEST - 60)
        for paragraph in paragraphs:
            text = "\n\n".join([*run, paragraph])
            if len(tokenizer.encode(text)) > LONGEST:
                run = []
                continue
            run.append(paragraph)
            if len(tokenizer.encode(text)) >= wanted:
                found.append((page, text))
                run, wanted = [], target.randint(SHORTEST + 20, LONGEST - 60)
    step = max(1.0, len(found) / PASSAGES)
    chosen = [found[int(index * step)] for index in range(min(PASSAGES, len(found)))]
    return [{"id": f"{Path(page).stem}-{number:02}", "text": text} for number, (page, text) in enumerate(chosen)]


def shuffled(records):
    order, result = random.Random(SEED), []
    for record in records:
        words = record["text"].split()
        order.shuffle(words)
        result.append({"id": record["id"], "text": " ".join(words)})
    return result


def score(model, tokenizer, text):
    ids = tokenizer.encode(text)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    logprobs = torch.log_softmax(logits[:-1], dim=-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    return ids, logprobs


def scores(model, tokenizer, records, details):
    entries, total, count = [], 0.0, 0
    for number, record in enumerate(records):
        ids, logprobs = score(model, tokenizer, record["text"])
        summed = logprobs.double().sum().item()
        entry = {"id": record["id"], "tokens": len(ids), "sum_logprob": round(summed, 6),
                 "perplexity": round(math.exp(-summed / (len(ids) - 1)), 6)}
        if number < details:
            entry["token_ids"] = ids
            entry["logprobs"] = [None, *(round(value, 6) for value in logprobs.tolist())]
        entries.append(entry)
        total, count = total + summed, count + len(ids) - 1
    return {"perplexity": round(math.exp(-total / count), 4), "tokens_scored": count, "records": entries}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", type=Path, required=True, help="the folder corpus.py wrote")
    arguments.add_argument("--model", type=Path, required=True)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager").eval()

    with open(options.work / "held-out.jsonl") as lines:
        pages = [(page["page"], page["paragraphs"]) for page in map(json.loads, lines)]
    sample = passages(tokenizer, pages)
    mixed = shuffled(sample)
    for name, records in (("sample.jsonl", sample), ("sample-shuffled.jsonl", mixed)):
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (options.model / name).write_text(text, encoding="utf-8")

    first = scores(model, tokenizer, sample, details=3)
    second = scores(model, tokenizer, mixed, details=1)
    expected = {
        "definition": "BOS + tokens; sum of ln p(token | tokens before) over all but BOS; perplexity = exp(-sum / (tokens - 1)); tokens counts BOS",
        "reference": "transformers 5.23.0, torch 2.15, CPU, float32 arithmetic on the stored bf16 weights, eager attention",
        "sample.jsonl": first,
        "sample-shuffled.jsonl": second,
    }
    (options.model / "expected-scores.json").write_text(json.dumps(expected, indent=1) + "\n")
    lengths = [entry["tokens"] for entry in first["records"]]
    print(json.dumps({"passages": len(sample), "shortest": min(lengths), "longest": max(lengths),
                      "perplexity": first["perplexity"], "perplexity_shuffled": second["perplexity"]}))


if __name__ == "__main__":
    main()
