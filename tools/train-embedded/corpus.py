"""The training text of the embedded model: the prose of the Rust toolchain's own documentation.

Reads the HTML that `rustup component add rust-docs` installs (MIT OR Apache-2.0), takes the text of each page's `<main>`
(of the standard library: the doc comments only), drops repeated paragraphs and writes

    train.jsonl      {"page", "paragraphs": [...]}  one line a page
    held-out.jsonl   the same for HELD_OUT, a chapter of the book that training never sees

The embedded-book is left out: its prose is under CC-BY-SA.
"""

import argparse
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

BOOKS = ["book", "reference", "rustc", "cargo", "rust-by-example", "nomicon", "edition-guide", "rustdoc", "clippy",
         "error_codes", "style-guide", "unstable-book"]
LIBRARIES = ["std", "alloc", "proc_macro", "test"]
HELD_OUT = re.compile(r"^book/ch(13|16)-")
SKIP_PAGES = {"print.html", "toc.html", "404.html", "SUMMARY.html"}
SKIP_PATHS = re.compile(r"^(book/(first|second|2018)-edition/|rust-by-example/[a-z]{2}/|std/(arch|simd)/|std/intrinsics/)")
BLOCKS = {"p", "li", "pre", "h1", "h2", "h3", "h4", "h5", "tr", "dt", "dd", "blockquote", "section", "div"}
SKIPPED_ELEMENTS = {"script", "style", "button", "nav", "svg", "textarea"}
VOID = {"br", "img", "hr", "input", "meta", "link", "wbr", "col"}


class Prose(HTMLParser):
    """Collects the paragraphs inside the element that `opens` accepts."""

    def __init__(self, opens):
        super().__init__(convert_charrefs=True)
        self.opens, self.paragraphs, self.text = opens, [], []
        self.stack, self.inside, self.skipping, self.pre = [], 0, 0, 0

    def flush(self):
        text = "".join(self.text)
        self.text = []
        if self.pre:
            text = "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
            text = re.sub(r"\n{3,}", "\n\n", text)
        else:
            text = re.sub(r"\s+", " ", text).strip()
        if text.strip():
            self.paragraphs.append(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        css = (attrs.get("class") or "").split()
        if tag in VOID:
            if self.inside and tag == "br":
                self.text.append("\n" if self.pre else " ")
            return
        if self.inside and tag in ("td", "th"):
            self.text.append(" ")
        opened = self.opens(tag, css)
        skipped = tag in SKIPPED_ELEMENTS or "boring" in css or "doc-anchor" in css or "rule" in css or "tooltip" in css
        if self.inside and tag in BLOCKS and not self.pre:
            self.flush()
        self.stack.append((tag, opened, skipped))
        self.inside += opened
        self.skipping += skipped
        self.pre += tag == "pre"

    def handle_endtag(self, tag):
        if not any(entry[0] == tag for entry in self.stack):
            return
        while self.stack:
            name, opened, skipped = self.stack.pop()
            if self.inside and name in BLOCKS and (name == "pre" or not self.pre):
                self.flush()
            self.inside -= opened
            self.skipping -= skipped
            self.pre -= name == "pre"
            if name == tag:
                return

    def handle_data(self, data):
        if self.inside and not self.skipping:
            self.text.append(data)


def paragraphs(path, opens):
    parser = Prose(opens)
    parser.feed(path.read_text(encoding="utf-8", errors="replace"))
    return parser.paragraphs


def pages(docs):
    for folder, opens in [(b, lambda tag, css: tag == "main") for b in BOOKS] + [
        (b, lambda tag, css: tag == "div" and "docblock" in css) for b in LIBRARIES
    ]:
        for path in sorted((docs / folder).rglob("*.html")):
            name = path.relative_to(docs).as_posix()
            if path.name not in SKIP_PAGES and not SKIP_PATHS.match(name):
                yield name, paragraphs(path, opens)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--docs", type=Path, help="share/doc/rust/html of a toolchain (default: that of `rustc`)")
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    docs = options.docs
    if docs is None:
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
        docs = Path(sysroot) / "share/doc/rust/html"
    options.out.mkdir(parents=True, exist_ok=True)

    found = list(pages(docs))
    found.sort(key=lambda page: not HELD_OUT.match(page[0]))  # held-out paragraphs first: a copy elsewhere is then dropped
    seen, counts = set(), {"train": 0, "held-out": 0}
    with open(options.out / "train.jsonl", "w") as train, open(options.out / "held-out.jsonl", "w") as held_out:
        for name, texts in found:
            kept = []
            for text in texts:
                key = re.sub(r"\W+", " ", text).strip().lower()
                if key and (key not in seen):
                    seen.add(key)
                    kept.append(text)
            if sum(map(len, kept)) < 40:
                continue
            held = bool(HELD_OUT.match(name))
            (held_out if held else train).write(json.dumps({"page": name, "paragraphs": kept}) + "\n")
            counts["held-out" if held else "train"] += sum(map(len, kept))
    print(json.dumps({"characters": counts}))


if __name__ == "__main__":
    main()
