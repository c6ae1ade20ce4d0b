"""Writes cases.jsonl: completions as TRL finds them, and the loss of transformers on them.

    python crates/sli/tests/completions/generate.py

A line is a record as a user has it, and in `expected` its tokens, which of them count, and what the loss on them
(`model(input_ids, labels=labels).loss`) is in all. The masks of prompt and completion follow
`SFTTrainer` of TRL 1.16 without the end-of-text token that it adds for training; those of conversations
follow `apply_chat_template(return_assistant_tokens_mask=True)` with a template that marks what the assistant says.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
MODEL = HERE.parents[3] / "models" / "embedded"
HIDDEN = -100

PAIRS = [
    ("The capital of France is", " Paris."),
    ("The capital of France is ", "Paris."),
    ("The capital of Fr", "ance is Paris."),
    ("", "Only a completion."),
    ("Only a prompt", ""),
    ("A function in Rust\n", "\nfn main() {}"),
    ("spaces   ", "   spaces"),
    ("caf", "\u00e9 na\u00efve"),
    ("emoji \U0001f468", "\u200d\U0001f469 and more"),
    ("<|user|>Hi<|end_of_text|>", "<|assistant|>Hello<|end_of_text|>"),
    ("don", "'t you'll"),
    ("1234", "5678"),
    ("line one\n", "\n\n\nline two"),
    ("\u4f60", "\u597d\u4e16\u754c"),
]
USER, ASSISTANT = "user", "assistant"
CHATS = [
    [(USER, "What is ownership?"), (ASSISTANT, "A set of rules.")],
    [(USER, "a"), (ASSISTANT, "b"), (USER, "c"), (ASSISTANT, "d \u00e9\U0001f600")],
    [(ASSISTANT, "I begin."), (USER, "Then I.")],
    [(USER, "nobody answers")],
    [(USER, "x"), (ASSISTANT, ""), (USER, " y "), (ASSISTANT, "  trimmed  ")],
]
MARKED = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] | trim + eos_token }}{% endgeneration %}{% else %}"
    "{{ message['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)


# Lines end behind what counts, and one kind of message counts in part.
LINES = (
    "{{ bos_token }}{% for message in messages %}\n<|{{ message.role }}|>\n{%- if message.role == 'assistant' %}\n"
    "{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}\nend\n{% else %}{{ message.content }}\n"
    "{% endif %}\n{% endfor %}"
)


def messages(chat):
    return [{"role": role, "content": content} for role, content in chat]


def common(first, second):
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count


def main():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    lines = []

    def add(record, ids, mask):
        nonlocal lines
        labels = [token if counts else HIDDEN for token, counts in zip(ids, mask)]
        count = sum(mask[1:])
        total = None
        if count:
            with torch.no_grad():
                loss = model(torch.tensor([ids]), labels=torch.tensor([labels])).loss
            total = float(loss) * count
        expected = {"ids": ids, "mask": [int(counts) for counts in mask], "count": count, "loss": total}
        lines.append(json.dumps({"record": record, "expected": expected}))

    def chat_ids(chat, **more):
        return tokenizer.apply_chat_template(messages(chat), return_dict=True, **more)["input_ids"]

    for prompt, completion in PAIRS:
        first = tokenizer(prompt)["input_ids"]
        ids = tokenizer(prompt + completion)["input_ids"]
        start = common(first, ids)
        add({"prompt": prompt, "completion": completion}, ids, [at >= start for at in range(len(ids))])
    for chat in CHATS:
        if chat[-1][0] == ASSISTANT and len(chat) > 1:
            first = chat_ids(chat[:-1], add_generation_prompt=True)
            ids = chat_ids(chat)
            start = common(first, ids)
            record = {"prompt": messages(chat[:-1]), "completion": messages(chat[-1:])}
            add(record, ids, [at >= start for at in range(len(ids))])
        marked = tokenizer.apply_chat_template(
            messages(chat), chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
        )
        ids = chat_ids(chat)
        assert ids == marked["input_ids"]
        add({"messages": messages(chat)}, ids, [mark == 1 for mark in marked["assistant_masks"]])
    ids = tokenizer("Some tokens of a text, of which a few count.")["input_ids"]
    for mask in ([at % 3 == 1 for at in range(len(ids))], [True] * len(ids), [False] * len(ids)):
        labels = [token if counts else HIDDEN for token, counts in zip(ids, mask)]
        add({"input_ids": ids, "labels": labels}, ids, mask)
        add({"input_ids": ids, "completion_mask": [int(counts) for counts in mask]}, ids, mask)
    written, lines = lines, []
    for chat in CHATS:
        marked = tokenizer.apply_chat_template(
            messages(chat), chat_template=LINES, return_dict=True, return_assistant_tokens_mask=True
        )
        add({"messages": messages(chat)}, marked["input_ids"], [mark == 1 for mark in marked["assistant_masks"]])
    (HERE / "marked.jsonl").write_text("\n".join([json.dumps(LINES), *lines]) + "\n")
    lines = written
    (HERE / "cases.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
