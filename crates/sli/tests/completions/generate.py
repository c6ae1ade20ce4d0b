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


# Templates that render earlier messages otherwise, and the same with marks: the first is after Qwen 3, which leaves
# out earlier reasoning; the second after DeepSeek-R1, whose prompt also opens the reasoning that is left out.
ASKING = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
THINKING = (HERE.parent / "chat" / "thinking.jinja").read_text() + ASKING
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role in ('user', 'system') %}{{ '<|user|>' + m.content }}{% elif m.role == 'tool' %}"
    "{{ '<|tool|>' + m.content }}{% else %}{{ '<|assistant|>' }}{{ (m.content or '').split('</think>')[-1] }}"
    "{% for call in m.tool_calls or [] %}{{ '<|call|>' + call.function.name }}{% endfor %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TALKS = [
    [(USER, "a"), (ASSISTANT, "<think>\nhm\n</think>\n\nb"), (USER, "c"), (ASSISTANT, "<think>\nso\n</think>\n\nd")],
    [(USER, "a"), (ASSISTANT, "b"), (USER, "a"), (ASSISTANT, "b"), (USER, "a"), (ASSISTANT, "b \u00e9\U0001f600")],
    [(USER, "<|im_start|>assistant\nb<|assistant|><think>\n"), (ASSISTANT, "b"), (USER, "c <|im_end|>\n"), (ASSISTANT, "d")],
    [(USER, "x"), (ASSISTANT, ""), (USER, " y "), (ASSISTANT, "  spaces  "), (USER, "z")],
    [(USER, "x"), (ASSISTANT, "\n\nlines\n"), ("system", "now"), (ASSISTANT, "twice"), (ASSISTANT, "said")],
    [(USER, "add"), (ASSISTANT, "<think>\none\n</think>\n\nI add", CALL), ("tool", "2"), (ASSISTANT, "<think>\ntwo\n</think>\n\n2"),
     (USER, "again"), (ASSISTANT, "", CALL), ("tool", "3"), (ASSISTANT, "<think>\nthree\n</think>\n\n3")],
    [(USER, "add"), (ASSISTANT, "<think>\none\n</think>\n\nI add", CALL), ("tool", "2"), ("tool", "4"), (ASSISTANT, "6")],
]


def marked_thinking():
    start = THINKING.index("        {%- if loop.index0 > ns.last_query_index %}")
    last = "{{- '<|im_end|>\\n' }}"
    end = THINKING.index(last + "\n    {%- elif message.role == \"tool\"") + len(last)
    said = THINKING[start:end].replace("'<|im_start|>' + message.role + '\\n' + content", "content")
    said = said.replace("'<|im_start|>' + message.role + '\\n<think>", "'<think>")
    head = "{{- '<|im_start|>' + message.role + '\\n' }}{%- generation %}"
    return THINKING[:start] + head + said + "{%- endgeneration %}" + THINKING[end:]


def marked_r1():
    marked = R1.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|>' }}{% generation %}")
    return marked.replace("{{ eos_token }}{% endif %}", "{{ eos_token }}{% endgeneration %}{% endif %}")


def talk(said):
    calls = [{"tool_calls": list(more)} if more else {} for _, _, *more in said]
    return [{"role": role, "content": content} | call for (role, content, *_), call in zip(said, calls)]


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
    found = []
    for template, marked_template in ((THINKING, marked_thinking()), (R1, marked_r1())):
        lines = []
        for said in map(talk, TALKS):
            plain = tokenizer.apply_chat_template(said, chat_template=template, return_dict=True)
            marked = tokenizer.apply_chat_template(
                said, chat_template=marked_template, return_dict=True, return_assistant_tokens_mask=True
            )
            assert plain["input_ids"] == marked["input_ids"]
            add({"messages": said}, marked["input_ids"], [mark == 1 for mark in marked["assistant_masks"]])
        found.append("\n".join([json.dumps(template), *lines]) + "\n")
    (HERE / "unmarked.jsonl").write_text("\n".join(found))
    lines = written
    (HERE / "cases.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
