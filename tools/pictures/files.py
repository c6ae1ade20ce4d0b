"""Writes crates/sli-pictures/tests/files: pictures as JPEG, and beside each what Pillow decodes of it, as PNG.

    python tools/pictures/files.py
"""

from pathlib import Path

from PIL import Image, ImageOps

from goldens import drawn

OUT = Path(__file__).parents[2] / "crates/sli-pictures/tests/files"
# Name, height and width, mode, what the encoder is told.
FILES = [
    ("halved", (37, 50), "RGB", {"quality": 75, "subsampling": "4:2:0"}),
    ("halved_columns", (33, 41), "RGB", {"quality": 90, "subsampling": "4:2:2"}),
    ("full", (16, 24), "RGB", {"quality": 95, "subsampling": "4:4:4"}),
    ("progressive", (45, 31), "RGB", {"quality": 70, "progressive": True}),
    ("restarts", (40, 40), "RGB", {"quality": 80, "restart_marker_blocks": 2}),
    ("grey", (19, 23), "L", {"quality": 85}),
    ("inks", (21, 18), "CMYK", {"quality": 85}),
    ("one", (1, 1), "RGB", {}),
    ("turned", (14, 30), "RGB", {"orientation": 6}),
    ("mirrored", (14, 30), "RGB", {"orientation": 5}),
]


def main():
    OUT.mkdir(exist_ok=True)
    for name, size, mode, told in FILES:
        picture = Image.fromarray(drawn(*size).astype("uint8")).convert(mode)
        told = dict(told)
        exif = Image.Exif()
        if orientation := told.pop("orientation", None):
            exif[0x0112] = orientation
        picture.save(OUT / f"{name}.jpg", exif=exif, **told)
        ImageOps.exif_transpose(Image.open(OUT / f"{name}.jpg")).convert("RGB").save(OUT / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
