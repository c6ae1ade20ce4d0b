"""Writes crates/sli-jinja/src/unicode/table.rs from the tables of this Python."""
import sys, unicodedata
OUT = sys.argv[1]
assert unicodedata.unidata_version.startswith("14.")
def flags(c):
    ch = chr(c)
    return (ch.isalpha() | ch.isdecimal() << 1 | ch.isdigit() << 2 | ch.isnumeric() << 3 | ch.islower() << 4
            | ch.isupper() << 5 | (unicodedata.category(ch) == 'Lt') << 6 | ch.isspace() << 7 | ch.isprintable() << 8)
ranges, last = [], None
for c in range(0x110000):
    f = flags(c)
    if f != last:
        ranges.append((c, f)); last = f
folds = [(c, chr(c).casefold()) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c).casefold() != chr(c).lower()]
titles = [(c, chr(c).title()) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and chr(c).title() != chr(c).upper()]
def esc(s): return "".join("\\u{%x}" % ord(x) for x in s)
with open(OUT, "w") as f:
    f.write("//! Written by `tools/jinja/unicode.py` from Python's tables (Unicode 14).\n\n")
    f.write("/// First code point of a range and the flags of all in it.\n#[rustfmt::skip]\npub(super) static RANGES: [(u32, u16); %d] = [\n" % len(ranges))
    for i in range(0, len(ranges), 8):
        f.write("    " + " ".join("(0x%x, 0x%x)," % r for r in ranges[i:i+8]) + "\n")
    f.write("];\n\n/// What `str.casefold` makes of a character, where it is not its small letter.\n#[rustfmt::skip]\npub(super) static FOLDS: [(char, &str); %d] = [\n" % len(folds))
    for i in range(0, len(folds), 4):
        f.write("    " + " ".join("('\\u{%x}', \"%s\")," % (c, esc(s)) for c, s in folds[i:i+4]) + "\n")
    f.write("];\n\n/// What begins a title, where it is not the capital letter.\n#[rustfmt::skip]\npub(super) static TITLES: [(char, &str); %d] = [\n" % len(titles))
    for i in range(0, len(titles), 4):
        f.write("    " + " ".join("('\\u{%x}', \"%s\")," % (c, esc(s)) for c, s in titles[i:i+4]) + "\n")
    f.write("];\n")
print(len(ranges), len(folds), len(titles))
