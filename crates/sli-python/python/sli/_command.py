"""The ``sli`` command of the wheel."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the program."""
    from . import _sli

    sys.exit(_sli.main(sys.argv))
