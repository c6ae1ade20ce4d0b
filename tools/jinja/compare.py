"""Runs templates through the reference and through SLI's own interpreter, and says where they differ.

Run with transformers 5.23.0: python tools/jinja/compare.py EXAMPLE_BINARY < cases.jsonl
A case is a JSON list [template, {variables}].
"""

import copy
import datetime
import json
import subprocess
import sys

from transformers.utils import chat_template_utils

NOW = datetime.datetime(2024, 7, 6, 9, 5, 3, 1234)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock


def reference(template, variables):
    """[text, spans], or [None, error]."""
    try:
        compiled = chat_template_utils._cached_compile_jinja_template(template)
        blocks, spans = [], []
        with compiled.environment.activate_tracker(blocks, spans):
            # `indent` of a list changes the list.
            for block in compiled.generate(**copy.deepcopy(variables)):
                blocks.append(block)
        text = "".join(blocks)
        text.encode()
        return [text, [list(span) for span in spans]]
    except RecursionError:
        return [None, "RecursionError"]
    except Exception as error:
        return [None, f"{type(error).__name__}: {error}"]


def ours(binary, cases):
    lines = [json.dumps([template, variables, str(NOW)]) for template, variables in cases]
    done = subprocess.run([binary], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    if len(answers) != len(cases):
        raise SystemExit(f"{len(answers)} answers for {len(cases)} cases; at {lines[len(answers)]}\n{done.stderr[-2000:]}")
    return answers


def differences(binary, cases):
    """Cases with both answers, where they differ."""
    wrong = []
    for case, answer in zip(cases, ours(binary, cases)):
        expected = reference(*case)
        if expected[0] is None and answer[0] is None:
            continue
        if expected != answer:
            wrong.append((case, expected, answer))
    return wrong


if __name__ == "__main__":
    given = [json.loads(line) for line in sys.stdin]
    found = differences(sys.argv[1], given)
    for (template, variables), expected, answer in found:
        print(f"{template!r} {json.dumps(variables)[:300]}\n  reference {expected}\n  ours      {answer}")
    print(f"{len(given)} cases, {len(found)} differ")
