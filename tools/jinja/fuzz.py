"""Random templates through the reference and through SLI's own interpreter.

Run with transformers 5.23.0: python tools/jinja/fuzz.py EXAMPLE_BINARY SEED COUNT
"""

import json
import random
import re
import sys

from compare import differences
from constructs import CONTEXT, FILTERS, METHODS, TESTS

# What prints a place in memory, or what SLI refuses.
ODD = re.compile(r"0x[0-9a-f]{6}|0X[0-9A-F]{6}|object at|OBJECT AT", re.IGNORECASE)
REFUSED = ("not supported", "place in memory", "each time", "urlize")

NAMES = ["none_", "yes", "no", "i", "neg", "big", "f", "tiny", "huge", "s", "e", "u", "l", "el", "words", "d", "ed", "users", "nested",
         "html", "nl", "ws", "joiner_", "missing", "messages", "x", "y", "ns.a", "loop.index"]
FILTER_NAMES = [name for name in FILTERS if not name.startswith(("random", "urlize", "nosuch", "pprint"))]
METHOD_NAMES = [name for name in METHODS if "encode" not in name]
STRINGS = ["'a'", "'Hello'", "' x '", "'l'", "''", "'1'", "'1.5'", "'%s'", "'{}'", "'é😀'", "\"it's\"", "'a,b'", "'\\n'", "'name'", "'-'"]


ROUNDING = ["", ", 'ceil'", ", 'floor'"]
REPLACE = "replace('a', 'b')"


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, items):
        return self.random.choice(items)

    def literal(self):
        return self.pick([
            lambda: str(self.random.randint(-5, 300)), lambda: self.pick(["0.5", "1.0", "2.75", "1e3", "1e-3", "100.0", "1e22", "0.1"]),
            lambda: self.pick(STRINGS), lambda: self.pick(["true", "false", "none"]), lambda: self.pick(NAMES), lambda: self.pick(NAMES),
            lambda: self.pick(NAMES),
        ])()

    def expression(self, depth):
        if depth <= 0:
            return self.literal()
        sub = lambda: self.expression(depth - self.random.randint(1, 2))
        return self.pick([
            self.literal,
            lambda: f"({sub()} {self.pick(['+', '-', '*', '/', '//', '%', '~', '~', '+', '*'])} {sub()})",
            lambda: f"({sub()} {self.pick(['==', '!=', '<', '>', '<=', '>=', 'in', 'not in', 'and', 'or'])} {sub()})",
            lambda: f"({sub()} < {sub()} <= {sub()})",
            lambda: f"(not {sub()})", lambda: f"(-{sub()})",
            lambda: f"({sub()} if {sub()} else {sub()})", lambda: f"({sub()} if {sub()})",
            lambda: f"{sub()}|{self.pick(FILTER_NAMES)}", lambda: f"{sub()}|{self.pick(FILTER_NAMES)}",
            lambda: f"({sub()}|{self.pick(FILTER_NAMES)})|{self.pick(FILTER_NAMES)}",
            lambda: f"({sub()}).{self.pick(METHOD_NAMES)}", lambda: f"({sub()}).{self.pick(METHOD_NAMES)}",
            lambda: f"({sub()} is {self.pick(['', 'not '])}{self.pick(TESTS)})",
            lambda: f"({sub()})[{sub()}]", lambda: f"({sub()})[{self.bound()}:{self.bound()}]", lambda: f"({sub()})[{self.bound()}:{self.bound()}:{self.bound()}]",
            lambda: f"({sub()}).{self.pick(['a', 'b', 'items', 'name', 'content', 'role', 'real', 'x'])}",
            lambda: f"[{sub()}, {sub()}]", lambda: f"({sub()}, {sub()})", lambda: f"{{{self.pick(STRINGS)}: {sub()}, {self.pick(STRINGS)}: {sub()}}}",
            lambda: f"'{self.percent()}' % ({sub()}, {sub()})", lambda: f"'{self.percent()}'|format({sub()}, {sub()})",
            lambda: f"'{{{self.spec()}}} {{{self.spec()}}}'.format({sub()}, {sub()})",
            lambda: f"range({self.random.randint(-3, 6)}, {self.random.randint(-3, 9)}, {self.pick(['1', '2', '-1', '3'])})|list",
            lambda: f"({sub()})|{self.pick(['default', 'd'])}({sub()}, {self.pick(['true', 'false'])})",
            lambda: f"({sub()})|join({sub()})", lambda: f"({sub()})|replace({sub()}, {sub()})", lambda: f"({sub()})|map('{self.pick(['upper', 'string', 'length', 'first', 'tojson', 'int', 'trim'])}')|list",
            lambda: f"({sub()})|select('{self.pick(['string', 'odd', 'defined', 'none', 'mapping', 'iterable'])}')|list", lambda: f"({sub()}).split({sub()})", lambda: f"({sub()}).startswith({sub()})",
            lambda: f"({sub()})|tojson(indent={self.pick(['none', '0', '2', '4'])}, ensure_ascii={self.pick(['true', 'false'])})", lambda: f"({sub()})|round({self.random.randint(-3, 4)}{self.pick(ROUNDING)})",
            lambda: f"m({sub()}, {self.pick(['', 'b='])}{sub()})", lambda: f"dict(a={sub()}, b={sub()})",
        ])()

    def bound(self):
        return self.pick(["", "", "0", "1", "2", "-1", "-2", "5", "-9"])

    def percent(self):
        one = lambda: "%" + self.pick(["", "-", "+", " ", "0", "#"]) + self.pick(["", "5", "12"]) + self.pick(["", ".0", ".2", ".9"]) + self.pick("sdifgGeExXor")
        return one() + " " + one()

    def spec(self):
        kind = self.pick(["", "", "!r", "!s"])
        spec = self.pick(["", "", "<", ">", "^", "*^", "="]) + self.pick(["", "", "+", " "]) + self.pick(["", "", "#"]) + self.pick(["", "", "0"])
        spec += self.pick(["", "8", "12"]) + self.pick(["", "", ",", "_"]) + self.pick(["", "", ".2", ".0", ".6"]) + self.pick(["", "", "d", "s", "f", "e", "g", "x", "b", "%", "n", "X", "G"])
        return kind + (":" + spec if spec else "")

    def gap(self):
        return self.pick(["", " ", "\n", "  ", "\n  ", "t", "\n\n", " \n"])

    def tag(self, inner):
        return "{%" + self.pick(["", "", "-", "+"]) + " " + inner + " " + self.pick(["", "", "-", "+"]) + "%}"

    def output(self):
        return "{{" + self.pick(["", "", "-"]) + " " + self.expression(2) + " " + self.pick(["", "", "-"]) + "}}"

    def body(self, depth, loop):
        return "".join(self.gap() + self.statement(depth, loop) for _ in range(self.random.randint(1, 3))) + self.gap()

    def simple(self):
        return self.pick(NAMES[:26])

    def statement(self, depth, loop):
        if depth <= 0:
            return self.pick([self.output, self.output, lambda: "t{{ x }}", lambda: "{{ loop.index }}" if loop else "{{ y }}"])()
        inner = lambda loop=loop: self.body(depth - 1, loop)
        target = lambda: self.pick(["x", "y", "s", "z", "a, b", "l"])
        choices = [
            self.output,
            lambda: self.tag(f"if {self.expression(1)}") + inner() + self.tag("endif"),
            lambda: self.tag(f"if {self.expression(1)}") + inner() + self.tag(f"elif {self.expression(1)}") + inner() + self.tag("else") + inner() + self.tag("endif"),
            lambda: self.tag(f"for x in {self.pick(['l', 'words', 'messages', 'd', 'range(3)', 's[:3]', 'nested'])}{self.pick(['', '', ' if x'])}") + inner(True) + self.tag("endfor"),
            lambda: self.tag(f"for x in {self.pick(['l', 'el', 'missing', 'users'])}") + inner(True) + self.tag("else") + inner() + self.tag("endfor"),
            lambda: self.tag("for a, y in d.items()") + inner(True) + self.tag("endfor"),
            lambda: self.tag(f"set {target()} = {self.expression(2)}"), lambda: self.tag(f"set {self.pick(['x', 'y', 's'])} = {self.expression(1)}"),
            lambda: self.tag(f"set ns.a = {self.expression(1)}"), lambda: self.tag("set y") + inner() + self.tag("endset"), lambda: self.tag("set y | upper | trim") + inner() + self.tag("endset"),
            lambda: self.tag(f"with x = {self.expression(1)}, y = x") + inner() + self.tag("endwith"), lambda: self.tag(f"filter {self.pick(['upper', 'trim', 'indent(2)', REPLACE])}") + inner() + self.tag("endfilter"),
            lambda: self.tag("macro m2(a, b=x)") + inner(False).replace("break", "set q = 1").replace("continue", "set q = 1") + self.tag("endmacro") + "{{ m2(" + self.simple() + ") }}",
            lambda: self.tag(f"call(a) m3({self.simple()})") + inner(False).replace("break", "set q = 1").replace("continue", "set q = 1") + self.tag("endcall"),
            lambda: self.tag("generation") + inner(False).replace("break", "set q = 1").replace("continue", "set q = 1") + self.tag("endgeneration"),
            lambda: "{#" + self.pick(["", "-"]) + " c " + self.pick(["", "-", "+"]) + "#}", lambda: "{%" + self.pick(["", "-"]) + " raw " + self.pick(["", "-"]) + "%}" + self.gap() + "{{ x }}" + self.gap() + "{%" + self.pick(["", "-", "+"]) + " endraw " + self.pick(["", "-", "+"]) + "%}",
            lambda: self.tag("block b" + str(self.random.randint(0, 10**9))) + self.gap() + "{{ x }}" + self.tag("endblock"),
        ]
        if loop:
            choices += [lambda: self.tag(f"if {self.expression(1)}") + self.tag(self.pick(["break", "continue"])) + self.tag("endif"),
                        lambda: "{{ loop." + self.pick(["index", "index0", "first", "last", "length", "revindex", "previtem", "nextitem", "depth", "cycle(1, 2)", "changed(x)"]) + " }}"]
        return self.pick(choices)()

    def template(self):
        if self.random.random() < 0.5:
            head = "{% macro m(a, b=2) %}{{ a }}/{{ b }}{% endmacro %}{% set ns = namespace(a=1) %}"
            return head + "{{ " + self.expression(3) + " }}"
        head = "{% macro m(a, b=2) %}{{ a }}/{{ b }}{{ varargs }}{% endmacro %}{% macro m3(a) %}<{{ caller(a) }}>{% endmacro %}{% set ns = namespace(a=1) %}"
        text = head + "".join(self.gap() + self.statement(2, False) for _ in range(self.random.randint(1, 4))) + self.gap()
        return text.replace("\n", self.pick(["\n", "\n", "\r\n"]))


def main():
    binary, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    cases = [(Maker(f"{seed}-{index}").template(), CONTEXT) for index in range(count)]
    shown = 0
    for (template, _), expected, answer in differences(binary, cases):
        if expected[0] is not None and ODD.search(expected[0]):
            continue
        if answer[0] is None and any(word in answer[1] for word in REFUSED):
            continue
        shown += 1
        print(f"{template!r}\n  reference {json.dumps(expected)[:400]}\n  ours      {json.dumps(answer)[:400]}")
    print(f"seed {seed}: {count} templates, {shown} differ")


main()
