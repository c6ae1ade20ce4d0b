"""Writes cases.json: every conversation through every template here, by transformers itself; and nonfinite.jsonl, records
with numbers that JSON has not, with what templates print of them in nonfinite.json.

Run with transformers 5.23.0: python crates/sli/tests/chat/generate.py
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

FOLDER = Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CONVERSATIONS = {
    "one turn": [{"role": "user", "content": "Hi there"}],
    "system": [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "  What is 2+2? "},
        {"role": "assistant", "content": "4\n"},
        {"role": "user", "content": "Thanks, größer: 日本 😀 <|im_end|>"},
    ],
    "no end": [
        {"role": "user", "content": "a b c"},
        {"role": "assistant", "content": "<think>\nfirst\n</think>\n\nthen"},
    ],
    "reasoning": [
        {"role": "user", "content": "Why?", "name": None},
        {"role": "assistant", "reasoning": "because", "content": "So."},
    ],
    "tools": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "abcdefghi",
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "arguments": {"city": "Zürich \"x\"", "days": 2, "scale": 1.0, "flags": [True, None], "o": {}},
                    },
                }
            ],
        },
        {"role": "tool", "content": "22", "tool_call_id": "abcdefghi"},
        {"role": "assistant", "content": "22 degrees."},
    ],
    "parts": [
        {"role": "system", "content": [{"type": "text", "text": "Look."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " what? "}]},
    ],
    "wrong order": [
        {"role": "assistant", "content": "first"},
        {"role": "assistant", "content": "second z"},
    ],
    "odd role": [{"role": "critic", "content": "no"}],
    "no content": [{"role": "user"}],
}


NAN, INFINITY = float("nan"), float("inf")
NONFINITE = [
    {"messages": [{"role": "user", "content": "NaN", "score": NAN, "w": [INFINITY, -INFINITY, 1.5, {"x": [NAN]}]}]},
    {"messages": [{"role": "user", "content": NAN}], "tools": [{"a": -INFINITY, "b": [2]}], "z": NAN, "documents": [{"d": NAN}]},
    {"messages": [{"role": "user", "content": "]},"}, {"role": "assistant", "content": 0, "score": INFINITY}], "text": None,
     "chat_template_kwargs": {"limit": INFINITY, "least": [NAN]}, "labels": NAN},
    {"prompt": [{"role": "user", "content": "a", "p": NAN}], "completion": [{"role": "assistant", "content": "b", "p": 1e300}]},
    {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b", "p": -INFINITY}]},
]
PRINTING = [
    "{{ messages }} {{ tools }} {{ documents }} {{ limit }} {{ least }}",
    "{{ messages | tojson }} {{ tools | tojson(indent=2) }} {{ documents | tojson }}",
    "{% for m in messages %}{{ m.role }} {{ m.content }} {{ m.score }} {{ m.w | join('/') }} {{ m.p }}\n{% endfor %}",
    "{% for m in messages %}{{ m.score == m.score }} {{ m.score is number }} {{ m.score is float }} {{ '%.2f' % (m.p or 1) }}{% endfor %}",
    "{{ (limit or 1) * 2 }} {{ (limit or 1) > 5 }} {{ [limit or 1, 3] | max }} {{ messages[0].score | string | length }}",
]


def nonfinite():
    texts = []
    for record in NONFINITE:
        chat = record.get("messages") or record["prompt"] + record["completion"]
        given = {"tools": record.get("tools"), "documents": record.get("documents"), **record.get("chat_template_kwargs", {})}
        texts.append([render_jinja_template([chat], chat_template=text, **given, **TOKENS)[0][0] for text in PRINTING])
    (FOLDER / "nonfinite.jsonl").write_text("".join(json.dumps(record) + "\n" for record in NONFINITE))
    (FOLDER / "nonfinite.json").write_text(json.dumps({"templates": PRINTING, "texts": texts}, indent=1) + "\n")


def main():
    nonfinite()
    cases = []
    for path in sorted(FOLDER.glob("*.jinja")):
        for name, messages in CONVERSATIONS.items():
            case = {"template": path.name, "conversation": name}
            chat = [{key: value for key, value in message.items() if value is not None} for message in messages]
            try:
                rendered, _ = render_jinja_template([chat], chat_template=path.read_text(), **TOKENS)
                case["text"] = rendered[0]
            except Exception as error:
                case["error"] = f"{type(error).__name__}: {error}"
            cases.append(case)
    data = {"tokens": TOKENS, "conversations": CONVERSATIONS, "cases": cases}
    (FOLDER / "cases.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


main()
