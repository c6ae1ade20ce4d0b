"""Writes crates/sli-jinja/tests/reference.json: templates, variables and what the reference makes of them.

Run with transformers 5.23.0: python tools/jinja/goldens.py
A case is [template, number of its variables, [text, spans] or null where the reference fails].
"""

import json
import random
import re
from pathlib import Path

import constructs
import idioms
from compare import reference

FILE = Path(__file__).parents[2] / "crates/sli-jinja/tests/reference.json"
PLACE = re.compile("0x[0-9a-f]{6}", re.IGNORECASE)
# Refused by SLI: other results each time, places in memory, complex numbers, and methods of bytes that no template calls.
REFUSED = ("random", "lipsum", "urlize", "(-8) **", "('ab'.encode())", "'ab'.encode()", "(d.items)|", "d.items is", "(dict)|", "dict is",
           "l|map('string'))|", "l|map('string') is", "(html|e).join([1])", "users)|pprint")
DRAWN = 900


def main():
    every = list(constructs.cases())
    own = len(constructs.EXPRESSIONS) + len(constructs.STATEMENTS)
    chosen = random.Random(1).sample(every[:-own], DRAWN) + every[-own:] + list(idioms.cases())
    contexts, cases = [], []
    for template, variables in chosen:
        if any(part in template for part in REFUSED):
            continue
        answer = reference(template, variables)
        if answer[0] is not None and PLACE.search(answer[0]):
            continue
        if variables not in contexts:
            contexts.append(variables)
        cases.append([template, contexts.index(variables), None if answer[0] is None else answer])
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    head = ",\n".join(json.dumps(context) for context in contexts)
    FILE.write_text(f'{{"contexts": [\n{head}\n], "cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases,", sum(case[2] is None for case in cases), "fail")


main()
